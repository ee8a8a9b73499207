//! Rows of BGP neighbours.

use std::fmt::{Display, Write as _};

use super::{Facts, owned};
use crate::api::column::Text;
use crate::api::pages::PageRequest;
use crate::api::rows::{BgpMessageRow, BgpNeighborRow, BgpRefusalRow, BgpRow};
use crate::bgp::session::{Messages, Said, State};
use crate::bgp::{Negotiated, Role};
use crate::config::model::Neighbor;
use crate::control::NeighborState;
use crate::ids::{Family, NeighborId};

/// Every neighbour, by the order in which they were configured first.
pub(super) fn bgp(facts: &Facts<'_>) -> Vec<BgpRow> {
    let paths = facts.control.bgp_paths();
    let row = |(id, state): (NeighborId, &NeighborState)| {
        let counters = facts.sessions.get(&id).copied().unwrap_or_default();
        BgpRow {
            neighbor: owned(&state.config.name),
            address: address(state).into(),
            remote_as: state.config.asn.into(),
            local_address: state.local().to_string().into(),
            state: state.state.label().into(),
            age_ms: facts.age_ms(state.since),
            received_ipv4: paths.count(id, Family::Ipv4) as u64,
            received_ipv6: paths.count(id, Family::Ipv6) as u64,
            refused: paths.refused(id) as u64,
            announced: state.announced.own().map(|prefix| prefix.to_string().into()).collect(),
            advertised: state.announced.len() as u64,
            up: state.state == State::Established,
            sessions: counters.established,
            received_messages: counters.received.all(),
            sent_messages: counters.sent.all(),
            received_updates: counters.received.updates,
            sent_updates: counters.sent.updates,
            received_bytes: counters.received.bytes,
            sent_bytes: counters.sent.bytes,
            why: state.last_error.as_ref().map(|why| Text::Owned(why.clone())),
            range: state.config.template.as_deref().map(owned),
        }
    };
    facts.control.bgp_neighbors().map(row).collect()
}

/// All that is known of a neighbour, or of each.
pub(super) fn bgp_neighbor(facts: &Facts<'_>, request: &PageRequest) -> Vec<BgpNeighborRow> {
    let mut rows = Vec::new();
    for (id, state) in asked(facts, request) {
        let mut about = About { neighbor: &state.config.name, topic: "session", rows: &mut rows };
        session(facts, (id, state), &mut about);
        about.topic = "configured";
        configured(&state.config, &mut about);
        if let Some(negotiated) = &state.negotiated {
            about.topic = "agreed";
            agreed(negotiated, &mut about);
        }
        about.topic = "messages";
        let counters = facts.sessions.get(&id).copied().unwrap_or_default();
        messages("received", &counters.received, &mut about);
        messages("sent", &counters.sent, &mut about);
        about.topic = "prefixes";
        let paths = facts.control.bgp_paths();
        for family in [Family::Ipv4, Family::Ipv6] {
            about.add(format!("received {}", family.label()), paths.count(id, family));
            about.add_bool(end_of_rib(family), *state.ended.of(family));
        }
        let received = paths.count(id, Family::Ipv4) + paths.count(id, Family::Ipv6);
        about.add("accepted", received - paths.refused(id));
        about.add("refused", paths.refused(id));
        about.add("advertised", state.announced.len());
        about.topic = "refused";
        for (reason, count) in paths.refusals(id) {
            about.add(reason, count);
        }
    }
    rows
}

/// How many paths of each neighbour are refused why.
pub(super) fn bgp_refusals(facts: &Facts<'_>) -> Vec<BgpRefusalRow> {
    let of = |(id, state): (NeighborId, &NeighborState)| {
        let neighbor = owned(&state.config.name);
        let all = facts.control.bgp_paths().refusals(id);
        all.map(move |(reason, paths)| BgpRefusalRow {
            neighbor: neighbor.clone(),
            reason,
            paths: paths as u64,
        })
    };
    facts.control.bgp_neighbors().flat_map(of).collect()
}

/// The last messages of a neighbour, or of each.
pub(super) fn bgp_transcript(facts: &Facts<'_>, request: &PageRequest) -> Vec<BgpMessageRow> {
    let mut rows = Vec::new();
    for (id, state) in asked(facts, request) {
        // The next one would be waited for as long.
        let Some(said) = (facts.transcript)(id) else { break };
        rows.extend(said.iter().map(|said| message(facts, &state.config.name, said)));
    }
    rows
}

/// The neighbours that a request is about.
fn asked<'a>(
    facts: &Facts<'a>,
    request: &'a PageRequest,
) -> impl Iterator<Item = (NeighborId, &'a NeighborState)> {
    let name = request.neighbor.as_deref();
    let all = facts.control.bgp_neighbors();
    all.filter(move |(_, state)| name.is_none_or(|name| state.config.name == name))
}

/// A neighbour's address, or that it is still looked for.
fn address(state: &NeighborState) -> String {
    state.address.map_or("not found yet".into(), |address| address.to_string())
}

/// Rows of a topic.
struct About<'a> {
    neighbor: &'a str,
    topic: &'static str,
    rows: &'a mut Vec<BgpNeighborRow>,
}

impl About<'_> {
    fn add(&mut self, what: impl Into<Text>, value: impl Display) {
        self.rows.push(BgpNeighborRow {
            neighbor: owned(self.neighbor),
            topic: self.topic.into(),
            what: what.into(),
            value: value.to_string().into(),
        });
    }

    fn add_bool(&mut self, what: &'static str, value: bool) {
        self.add(what, if value { "yes" } else { "no" });
    }
}

const fn end_of_rib(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "end of RIB has come, ipv4",
        Family::Ipv6 => "end of RIB has come, ipv6",
    }
}

fn session(facts: &Facts<'_>, (id, state): (NeighborId, &NeighborState), about: &mut About<'_>) {
    let counters = facts.sessions.get(&id).copied().unwrap_or_default();
    about.add("state", state.state.label());
    about.add("since", format!("{} s ago", facts.age_ms(state.since) / 1_000));
    about.add("address", address(state));
    about.add("port", state.config.port.as_deref().unwrap_or("by its address"));
    about.add("local address", state.local());
    if let Some(range) = &state.config.template {
        about.add("range", range);
    }
    about.add("AS", state.config.asn);
    about.add("sessions so far", counters.established);
    about.add("connections refused", counters.refused);
    about.add("last error", state.last_error.as_deref().unwrap_or("none"));
}

fn configured(config: &Neighbor, about: &mut About<'_>) {
    about.add("import", &config.import);
    about.add("bogons", config.bogons());
    about.add("export", &config.export);
    about.add_bool("export-learned", config.terms.takes_learned);
    let policy = config.export_policy.as_ref();
    about.add("export-policy", policy.map_or("none", |policy| &policy.name));
    about.add("role", config.role.map_or("none", Role::label));
    about.add("hold-time", format!("{} s", config.hold_time.as_secs()));
    about.add_bool("passive", config.passive);
    about.add_bool("ttl-security", config.ttl_security);
    about.add("multihop", config.multihop.map_or("no".into(), |hops| hops.to_string()));
    about.add("max-prefixes", config.max_prefixes);
    about.add("allow-own-as", config.allow_own_as);
}

fn agreed(negotiated: &Negotiated, about: &mut About<'_>) {
    about.add("router id", negotiated.remote_id);
    let families = negotiated.families.set().map(Family::label);
    about.add("families", families.collect::<Vec<_>>().join(", "));
    let hold = negotiated.hold_time.as_secs();
    about.add("hold time", format!("{hold} s"));
    about.add("keepalive", format!("each {} s, or a quarter less", hold / 3));
    about.add_bool("four-octet AS numbers", negotiated.four_octet_as);
    for family in negotiated.families.set() {
        let ways = negotiated.add_path.of(family);
        let ways = match (ways.send, ways.receive) {
            (false, false) => "no",
            (true, false) => "sent",
            (false, true) => "received",
            (true, true) => "both ways",
        };
        about.add(format!("several paths, {}", family.label()), ways);
    }
    about.add_bool("route refresh", negotiated.route_refresh);
    about.add_bool("marks around refreshes", negotiated.enhanced_refresh);
    about.add_bool("end of RIB is announced", negotiated.sends_end_of_rib);
    about.add_bool("IPv6 next hops of IPv4", negotiated.extended_next_hop);
    about.add_bool("link-local next hops", negotiated.link_local_next_hop);
    about.add("longest message received", negotiated.receive_max);
    about.add("longest message sent", negotiated.send_max);
    about.add("role of the neighbour", negotiated.remote_role.map_or("none", Role::label));
}

fn messages(way: &'static str, messages: &Messages, about: &mut About<'_>) {
    for (kind, count) in [
        ("OPEN", messages.opens),
        ("UPDATE", messages.updates),
        ("KEEPALIVE", messages.keepalives),
        ("ROUTE-REFRESH", messages.refreshes),
        ("NOTIFICATION", messages.notifications),
        ("octets", messages.bytes),
    ] {
        about.add(format!("{kind} {way}"), count);
    }
}

fn message(facts: &Facts<'_>, neighbor: &str, said: &Said) -> BgpMessageRow {
    let kind = said.kind();
    BgpMessageRow {
        neighbor: owned(neighbor),
        t: said.at.0,
        age_ms: facts.age_ms(said.at),
        direction: if said.is_own { "sent" } else { "received" }.into(),
        message: kind.map_or("?", |kind| kind.label()).into(),
        length: said.len as u64,
        hex: hex(&said.bytes).into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
