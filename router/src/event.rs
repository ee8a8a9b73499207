//! The router's events as one typed stream: logs, `watch`, reports and tests read the same.
#![forbid(unsafe_code)]

use std::time::Duration;

use std::fmt;

use crate::ids::Family;
use serde::{Deserialize, Serialize};

/// How long a step of a thread took at worst since the thread started, and how often 10 ms or longer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StepTimes {
    /// The thread.
    pub thread: &'static str,
    /// What it did.
    pub step: &'static str,
    /// How often it took 10 ms or longer.
    pub slow: u64,
    /// The longest time that it took.
    pub longest: Duration,
}

/// The schema name every event line carries.
pub const SCHEMA: &str = "nearhop.event.v1";

/// One line of `nearhop watch`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// When it happened, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
    /// Counts up by one for each event of a router since it started; a gap means lines were lost.
    pub seq: u64,
    /// The router's name.
    pub node: String,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A BFD session changed its state.
    Bfd {
        /// The neighbour's address.
        neighbor: String,
        /// The port of its link; `null` over several hops.
        #[serde(default)]
        port: Option<String>,
        /// Whether both ends hear each other now.
        up: bool,
        /// The session's state now: `up`, `down` or `admin-down`.
        state: String,
        /// Why.
        reason: String,
        /// When the bytes that workers read were stored.
        stored_ns: u64,
    },
    /// Packets of a BFD session went out late, so that it asks for longer intervals; or no more.
    BfdPace {
        /// The neighbour's address.
        neighbor: String,
        /// The port of its link; `null` over several hops.
        #[serde(default)]
        port: Option<String>,
        /// So many times longer than configured; 1 is as configured.
        factor: u32,
        /// How late the packet was, microseconds; 0 if none was for a minute.
        late_us: u64,
    },
    /// A BGP session began or ended.
    Bgp {
        /// The neighbour's name.
        neighbor: String,
        /// Whether routes are exchanged now.
        up: bool,
        /// Why.
        reason: String,
    },
    /// An operator blocked a prefix, or unblocked it.
    Block {
        /// Who gave the command.
        by: String,
        /// The prefix.
        prefix: String,
        /// Whether its packets are discarded now.
        blocked: bool,
    },
    /// A port's carrier came up or went down.
    Carrier {
        /// Port name.
        port: String,
        /// Whether there is carrier now.
        up: bool,
    },
    /// A flapping leg is held down although its checks pass.
    Damped {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// How long its checks have to pass without a failure before it is used again.
        hold_ms: u64,
    },
    /// An operator disabled a site, or enabled it.
    Disable {
        /// Who gave the command.
        by: String,
        /// Site name.
        site: String,
        /// Whether it never serves now.
        disabled: bool,
    },
    /// A port lost its device, cannot open it, or has it again; or something outside changed it.
    Device {
        /// Port name.
        port: String,
        /// Whether the port has its device now.
        ok: bool,
        /// What is wrong with it, or what happened to it.
        reason: String,
    },
    /// A leg is used although its checks fail, as they call many sites dead at once; or no longer so, as they
    /// pass or its port lost carrier.
    Doubted {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// Name of the port it leaves by.
        port: String,
        /// Whether its checks are not believed now.
        doubted: bool,
        /// For how long they have to fail on until they are.
        hold_ms: u64,
    },
    /// An operator drained a site, or undrained it.
    Drain {
        /// Who gave the command.
        by: String,
        /// Site name.
        site: String,
        /// Whether it serves only where nobody else is left.
        drained: bool,
    },
    /// A worker's I/O engine on a port failed; the worker falls back to another.
    Engine {
        /// Port name.
        port: String,
        /// Which worker.
        worker: u16,
        /// The engine it uses now.
        engine: String,
        /// What was wrong with the engine before.
        reason: String,
    },
    /// The first packet that left by this leg after something changed.
    FirstPacket {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// Which worker sent it.
        worker: u16,
    },
    /// What is announced to a BGP neighbour is taken back or deprioritised as a part of the router stood still,
    /// or is announced as before.
    Lease {
        /// The neighbour's name.
        neighbor: String,
        /// Whether all is announced as it is to be.
        held: bool,
        /// What became of announcements, and who stood still.
        reason: String,
    },
    /// An operator applied a playbook, or undid it.
    Playbook {
        /// Who gave the command.
        by: String,
        /// The playbook's name.
        playbook: String,
        /// Whether it is applied now.
        applied: bool,
    },
    /// A group or route became visible to the workers.
    Publish {
        /// Groups made or replaced.
        groups: u64,
        /// Prefixes added, changed or removed.
        prefixes: u64,
        /// Prefixes that the FIB had no room for.
        refused: u64,
        /// From the start of the publication to its last store, microseconds.
        took_us: u64,
    },
    /// A worker delays structural updates.
    ReaderStalled {
        /// Which worker.
        worker: u16,
        /// How long it has not finished a batch, milliseconds.
        stalled_ms: u64,
    },
    /// Ports are open, routes are installed, the first outcome of every site's checks is known.
    Ready,
    /// What was to be proven before a prefix is announced is proven, or waited for no more.
    Proof {
        /// The prefix.
        prefix: String,
        /// The port of the neighbours that it is announced to.
        port: String,
        /// Whether a site answered a packet from there, by way of every worker; else it is announced all the same.
        proven: bool,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// A new configuration is in force.
    Reload {
        /// Who asked for it; several, if several did while the file was read.
        by: String,
        /// What changed, one line each.
        changes: Vec<String>,
    },
    /// An operator drained the router, or undrained it.
    RouterDrain {
        /// Who gave the command.
        by: String,
        /// Whether it takes back all that it announces.
        drained: bool,
    },
    /// The sites of a service's cheapest living tier changed.
    Select {
        /// Service name.
        service: String,
        /// Address family.
        family: Family,
        /// That tier's sites before.
        from: Vec<String>,
        /// That tier's sites now.
        to: Vec<String>,
        /// Why these serve although none of them is up and undrained, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resort: Option<Resort>,
        /// Why flows may have moved.
        cause: MoveCause,
        /// The member that caused it: the one that died, or the one that is better now, or as good.
        member: String,
    },
    /// One leg (a service, a site, a family, a link) went up or down.
    Site {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// The port that leads to it.
        port: String,
        /// Whether packets are sent there now.
        up: bool,
        /// What decided it, such as `carrier`, `probe silent`.
        reason: String,
        /// When the byte that workers read was stored; `t_ns` is when the router learned of the
        /// change.
        stored_ns: u64,
    },
}

impl EventKind {
    /// All kinds, as lines name them, in alphabetical order.
    pub const NAMES: [&str; 22] = [
        "bfd",
        "bfd_pace",
        "bgp",
        "block",
        "carrier",
        "damped",
        "device",
        "disable",
        "doubted",
        "drain",
        "engine",
        "first_packet",
        "lease",
        "playbook",
        "proof",
        "publish",
        "reader_stalled",
        "ready",
        "reload",
        "router_drain",
        "select",
        "site",
    ];
}

/// What a service's packets are left to when none of its sites is up and not drained.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resort {
    /// Sites whose checks pass, and that wait only because they flapped.
    Damped,
    /// The next best routes to the service's prefixes, or what covers them.
    Covering,
    /// Drained sites.
    Drained,
    /// The next best routes to the service's prefixes.
    NextRoute,
}

impl Resort {
    /// For people: what is left.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Damped => "only damped sites are left",
            Self::Covering => "no site is left: what covers the prefix is used",
            Self::Drained => "only drained sites are left",
            Self::NextRoute => "no site is left: the next best route to the prefix is used",
        }
    }
}

/// Why a flow may move to another site.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveCause {
    /// Another member is better now, or as good: it came up, or latencies changed.
    CheaperUp,
    /// The configuration changed.
    Configuration,
    /// The flow's own member died.
    MemberDied,
    /// An operator drained or undrained a site.
    Operator,
}

/// One line for an operator: the subject first, then what happened.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bfd { .. }
            | Self::BfdPace { .. }
            | Self::Bgp { .. }
            | Self::Lease { .. }
            | Self::Proof { .. } => self.of_neighbor(f),
            Self::Carrier { port, up } => {
                write!(f, "port {port}: carrier {}", if *up { "up" } else { "down" })
            }
            Self::Damped { .. }
            | Self::Doubted { .. }
            | Self::FirstPacket { .. }
            | Self::Site { .. } => self.of_leg(f),
            Self::Device { port, reason, .. } => write!(f, "port {port}: {reason}"),
            Self::Block { .. }
            | Self::Disable { .. }
            | Self::Drain { .. }
            | Self::Playbook { .. }
            | Self::RouterDrain { .. } => self.command(f),
            Self::Engine { port, worker, engine, reason } => {
                write!(f, "port {port}: worker {worker} falls back to {engine} ({reason})")
            }
            Self::Publish { groups, prefixes, refused, took_us } => {
                write!(f, "published: {groups} groups, {prefixes} prefixes ({took_us} us)")?;
                match refused {
                    0 => Ok(()),
                    _ => write!(f, "; {refused} prefixes are not installed: no room"),
                }
            }
            Self::ReaderStalled { worker, stalled_ms } => {
                write!(f, "worker {worker}: stalled for {stalled_ms} ms, updates are held back")
            }
            Self::Ready => f.write_str("ready"),
            Self::Reload { by, changes } if changes.is_empty() => {
                write!(f, "reloaded by {by}: no change")
            }
            Self::Reload { by, changes } => write!(f, "reloaded by {by}: {}", changes.join("; ")),
            Self::Select { service, family, from, to, resort, cause, member } => {
                write!(f, "{service}/{}: {} (", family.label(), moved(from, to))?;
                let joined = from.iter().all(|site| to.contains(site));
                match (cause, resort) {
                    // Nobody is better: they are left.
                    (MoveCause::CheaperUp, Some(resort)) => f.write_str(resort.text()),
                    (MoveCause::CheaperUp, _) if from.is_empty() => write!(f, "{member} is up"),
                    (MoveCause::CheaperUp, _) if joined => write!(f, "{member} is as good"),
                    (MoveCause::CheaperUp, _) => write!(f, "{member} is better"),
                    (MoveCause::Configuration, _) => write!(f, "configuration: {member}"),
                    // It has other links, or was passed by because the lost one was its nearest.
                    (MoveCause::MemberDied, _) if to.contains(member) => {
                        write!(f, "{member} lost a link")
                    }
                    (MoveCause::MemberDied, _) => write!(f, "{member} went down"),
                    (MoveCause::Operator, _) => write!(f, "operator: {member}"),
                }?;
                match resort.filter(|_| *cause != MoveCause::CheaperUp) {
                    Some(resort) => write!(f, "; {})", resort.text()),
                    None => f.write_str(")"),
                }
            }
        }
    }
}

impl EventKind {
    /// What became of a leg; nothing for what is of none.
    fn of_leg(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damped { service, site, family, hold_ms } => {
                let family = family.label();
                write!(f, "{service}/{family}: {site} is held down (flapped, hold {hold_ms} ms)")
            }
            Self::Doubted { service, site, family, port, doubted, hold_ms } => {
                write!(f, "{service}/{}: {site} by {port} ", family.label())?;
                match doubted {
                    true => write!(
                        f,
                        "is used on for {hold_ms} ms (checks fail at too many sites at once)"
                    ),
                    false => f.write_str("is not doubted any more"),
                }
            }
            Self::FirstPacket { service, site, family, worker } => {
                let family = family.label();
                write!(f, "{service}/{family}: first packet to {site} (worker {worker})")
            }
            Self::Site { service, site, family, port, up, reason, .. } => {
                let (family, state) = (family.label(), if *up { "up" } else { "down" });
                write!(f, "{service}/{family}: {site} ")?;
                // Most sites have one link, by a port of the same name.
                if port != site {
                    write!(f, "by {port} ")?;
                }
                write!(f, "is {state} ({reason})")
            }
            _ => Ok(()),
        }
    }

    /// What became of sessions and announcements; nothing for anything else.
    fn of_neighbor(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bfd { neighbor, state, reason, .. } => {
                write!(f, "bfd {neighbor}: {state} ({reason})")
            }
            Self::BfdPace { neighbor, factor: 1, .. } => {
                write!(f, "bfd {neighbor}: intervals are as configured again")
            }
            Self::BfdPace { neighbor, factor, late_us, .. } => {
                write!(f, "bfd {neighbor}: a packet was {late_us} us late, intervals are ")?;
                write!(f, "{factor} times longer")
            }
            Self::Bgp { neighbor, up: true, .. } => write!(f, "bgp {neighbor}: established"),
            Self::Bgp { neighbor, reason, .. } => write!(f, "bgp {neighbor}: down ({reason})"),
            Self::Lease { neighbor, reason, .. } => write!(f, "bgp {neighbor}: {reason}"),
            Self::Proof { prefix, port, proven: true, waited_ms } => {
                write!(f, "{prefix}: proven by port {port} (after {waited_ms} ms)")
            }
            Self::Proof { prefix, port, waited_ms, .. } => write!(
                f,
                "{prefix}: announced by port {port} although no site answered from there (waited \
                 {waited_ms} ms)"
            ),
            _ => Ok(()),
        }
    }

    /// What an operator did; nothing for what is no command.
    fn command(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { by, prefix, blocked } => {
                let done = if *blocked { "blocked" } else { "unblocked" };
                write!(f, "{prefix}: {done} by {by}")
            }
            Self::Drain { by, site, drained: true } => write!(f, "site {site}: drained by {by}"),
            Self::Drain { by, site, .. } => write!(f, "site {site}: undrained by {by}"),
            Self::Disable { by, site, disabled } => {
                let done = if *disabled { "disabled" } else { "enabled" };
                write!(f, "site {site}: {done} by {by}")
            }
            Self::Playbook { by, playbook, applied } => {
                let done = if *applied { "applied" } else { "undone" };
                write!(f, "playbook {playbook}: {done} by {by}")
            }
            Self::RouterDrain { by, drained: true } => {
                write!(f, "router: drained by {by}, announcements are taken back")
            }
            Self::RouterDrain { by, .. } => write!(f, "router: undrained by {by}"),
            _ => Ok(()),
        }
    }
}

/// What became of the sites that serve: each of them is named once.
fn moved(from: &[String], to: &[String]) -> String {
    let only = |these: &[String], others: &[String]| {
        let these = these.iter().filter(|site| !others.contains(site));
        these.cloned().collect::<Vec<_>>().join(", ")
    };
    let (gone, come) = (only(from, to), only(to, from));
    let stay: Vec<String> = to.iter().filter(|site| from.contains(site)).cloned().collect();
    let stay = stay.join(", ");
    match (gone.is_empty(), come.is_empty(), stay.is_empty()) {
        (true, true, true) => "still no site serves".to_owned(),
        (true, true, false) => format!("{stay} serves on"),
        (true, false, true) => format!("served by {come}"),
        (false, true, true) => format!("no site serves, {gone} did"),
        (false, false, true) => format!("moved {gone} -> {come}"),
        (true, false, false) => format!("{come} serves beside {stay}"),
        (false, true, false) => format!("{gone} serves no longer, {stay} does"),
        (false, false, false) => format!("moved {gone} -> {come}, beside {stay}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_flat_and_reads_back() {
        let event = Event {
            schema: SCHEMA.into(),
            t_ns: 5,
            seq: 1,
            node: "r1".into(),
            kind: EventKind::Carrier { port: "fra".into(), up: false },
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"schema":"nearhop.event.v1","t_ns":5,"seq":1,"node":"r1","kind":"carrier","port":"fra","up":false}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
    #[test]
    fn a_message_names_its_subject_first() {
        let (service, site) = ("dns".to_owned(), "fra".to_owned());
        let family = Family::Ipv4;
        let leg = |port: &str, up, reason: &str| EventKind::Site {
            service: "dns".into(),
            site: "fra".into(),
            family,
            port: port.into(),
            up,
            reason: reason.into(),
            stored_ns: 0,
        };
        for (kind, want) in [
            (EventKind::Carrier { port: "fra".into(), up: false }, "port fra: carrier down"),
            (
                EventKind::Damped {
                    service: service.clone(),
                    site: site.clone(),
                    family,
                    hold_ms: 9,
                },
                "dns/ipv4: fra is held down (flapped, hold 9 ms)",
            ),
            (
                EventKind::Drain { by: "uid 0".into(), site: site.clone(), drained: false },
                "site fra: undrained by uid 0",
            ),
            (
                EventKind::Block { by: "uid 0".into(), prefix: "::/0".into(), blocked: true },
                "::/0: blocked by uid 0",
            ),
            (
                EventKind::Playbook { by: "uid 0".into(), playbook: "away".into(), applied: false },
                "playbook away: undone by uid 0",
            ),
            (
                EventKind::Proof {
                    prefix: "::/0".into(),
                    port: "up".into(),
                    proven: false,
                    waited_ms: 9,
                },
                "::/0: announced by port up although no site answered from there (waited 9 ms)",
            ),
            (
                EventKind::RouterDrain { by: "uid 0".into(), drained: false },
                "router: undrained by uid 0",
            ),
            (
                EventKind::Engine {
                    port: "fra".into(),
                    worker: 1,
                    engine: "epoll".into(),
                    reason: "io_uring failed".into(),
                },
                "port fra: worker 1 falls back to epoll (io_uring failed)",
            ),
            (
                EventKind::FirstPacket { service, site, family, worker: 1 },
                "dns/ipv4: first packet to fra (worker 1)",
            ),
            (leg("fra", false, "probe silent"), "dns/ipv4: fra is down (probe silent)"),
            (leg("uplink", true, "ready"), "dns/ipv4: fra by uplink is up (ready)"),
        ] {
            assert_eq!(kind.to_string(), want);
        }
    }

    /// Each site is named once, and what is said of the member is so.
    #[test]
    fn a_move_says_who_serves_and_the_reason_that_holds() {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let (cheaper, died, damped) =
            (MoveCause::CheaperUp, MoveCause::MemberDied, Some(Resort::Damped));
        for (from, to, cause, member, resort, want) in [
            ("ams", "fra", cheaper, "fra", None, "moved ams -> fra (fra is better)"),
            ("", "ams fra", cheaper, "fra", None, "served by ams, fra (fra is up)"),
            ("fra", "", died, "fra", None, "no site serves, fra did (fra went down)"),
            ("ams", "ams fra", cheaper, "fra", None, "fra serves beside ams (fra is as good)"),
            (
                "ams fra",
                "fra",
                cheaper,
                "fra",
                None,
                "ams serves no longer, fra does (fra is better)",
            ),
            (
                "ams fra",
                "fra par",
                died,
                "ams",
                None,
                "moved ams -> par, beside fra (ams went down)",
            ),
            ("ams", "ams fra", died, "ams", None, "fra serves beside ams (ams lost a link)"),
            ("", "fra", cheaper, "fra", damped, "served by fra (only damped sites are left)"),
            (
                "ams",
                "fra",
                died,
                "ams",
                damped,
                "moved ams -> fra (ams went down; only damped sites are left)",
            ),
            ("fra", "fra", cheaper, "fra", damped, "fra serves on (only damped sites are left)"),
        ] {
            let kind = EventKind::Select {
                service: "dns".into(),
                family: Family::Ipv4,
                from: names(from),
                to: names(to),
                resort,
                cause,
                member: member.into(),
            };
            assert_eq!(kind.to_string(), format!("dns/ipv4: {want}"));
        }
    }
}
