//! What is shown of BGP: every path and why it is used or not, a neighbour, its last messages.

use std::net::Ipv4Addr;

use crossbeam_channel::Sender;

use super::*;
use crate::bgp::lane::{BgpNews, BgpOrder};
use crate::bgp::session::{Messages, Received, State};
use crate::bgp::{Announced, AsPath, Attributes, Community, Negotiated, NextHop, Nlri, Update};

const BGP: &str = r#"
[bgp]
as = 65001
[[bgp.policy]]
name = "in"
[[bgp.policy.rule]]
name = "bad"
communities = ["65002:666"]
then = "refuse"
[[bgp.policy.rule]]
name = "good"
communities = ["65002:1"]
local-pref = 300
then = "accept"
[[bgp.policy.rule]]
name = "rest"
then = "accept"
[[bgp.neighbor]]
name = "one"
address = "10.1.0.2"
as = 65002
import = "in"
export = "services"
[[bgp.neighbor]]
name = "two"
address = "10.2.0.2"
as = 65003
import = "all"
export = "none"
[[bgp.playbook]]
name = "away"
[[bgp.playbook.step]]
neighbors = ["one"]
withdraw = true
"#;

/// A router with the sessions of both neighbours, and their lanes.
fn with_neighbors(text: &str) -> (Control, Vec<(NeighborId, Sender<BgpNews>)>) {
    with_sessions(&(text.to_owned() + BGP))
}

/// The same of a whole configuration.
fn with_sessions(text: &str) -> (Control, Vec<(NeighborId, Sender<BgpNews>)>) {
    let mut control = core_of(text);
    let up: Vec<_> = control.legs().map(|(_, leg)| leg.path).collect();
    for path in up {
        let kind = MonitorEventKind::Leg { path, up: true, reason: "initial".into(), rtt: None };
        control.handle_monitor(&MonitorEvent { t: Nanos::ZERO, stored: Nanos::ZERO, kind });
    }
    let mut lanes = Vec::new();
    for order in control.poll_bgp(Nanos::ZERO) {
        let BgpOrder::Begin(spec) = order else { continue };
        let remote = spec.peering.address.unwrap().to_string().parse().unwrap();
        let remote_as = if lanes.is_empty() { 65_002 } else { 65_003 };
        let hold_time = Duration::from_secs(9);
        let negotiated = Negotiated { hold_time, ..Negotiated::for_tests(remote_as, remote) };
        spec.lane.send(BgpNews::State(State::Established)).unwrap();
        spec.lane.send(BgpNews::Established(Nanos::ZERO, Box::new(negotiated))).unwrap();
        lanes.push((spec.id, spec.lane));
    }
    // By address, as they are configured.
    assert_eq!(lanes.len(), 2);
    (control, lanes)
}

fn update(prefix: &str, path: &[u32], next_hop: [u8; 4], mark: u16) -> BgpNews {
    let next_hop = NextHop::new(Ipv4Addr::from(next_hop).into());
    let attributes = Attributes {
        as_path: AsPath::sequence(path),
        communities: [Community::new(65_002, mark)].into(),
        ..Attributes::originated(next_hop)
    };
    let nlri = vec![Nlri::new(prefix.parse().unwrap())];
    let announced = vec![Announced { attributes: Arc::new(attributes), nlri }];
    BgpNews::Received(Received::Update(Update { announced, ..Update::default() }))
}

/// Both announce one prefix; the second's path is shorter, the first's policy prefers its own. Another is
/// refused, another is the second's alone.
pub(super) fn filled(text: &str) -> (Control, Vec<NeighborId>) {
    let (mut control, lanes) = with_neighbors(text);
    let (one, two) = (&lanes[0].1, &lanes[1].1);
    let (by_one, by_two) = ([10, 1, 0, 2], [10, 2, 0, 2]);
    one.send(update("203.0.113.0/24", &[65_002, 7, 8], by_one, 1)).unwrap();
    two.send(update("203.0.113.0/24", &[65_003, 8], by_two, 1)).unwrap();
    one.send(update("203.0.114.0/24", &[65_002], by_one, 666)).unwrap();
    one.send(update("203.0.115.0/24", &[65_002, 9], by_one, 2)).unwrap();
    two.send(update("203.0.115.0/24", &[65_003], by_two, 2)).unwrap();
    two.send(update("203.0.116.0/24", &[65_003, 65_001], by_two, 2)).unwrap();
    while control.has_bgp_news() || control.is_unpublished() {
        control.publish(Nanos::ZERO).unwrap();
    }
    control.poll_bgp(Nanos::ZERO);
    while control.is_announcing() {
        control.poll_bgp(Nanos::ZERO);
    }
    (control, lanes.into_iter().map(|(id, _)| id).collect())
}

/// A message of a transcript.
pub(super) fn said() -> Said {
    let mut bytes = Vec::new();
    crate::bgp::Message::put_keepalive(&mut bytes);
    Said { at: Nanos(7), is_own: true, len: bytes.len(), bytes }
}

/// The text of a router with an id.
fn plain() -> String {
    text("hash").replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.1.0.1\"\n")
}

/// Prefix, neighbour, whether it is in use, state, rule and reason of each row.
fn shown(
    control: &Control,
    of: RoutesOf,
    neighbor: Option<&str>,
    only: Option<Only>,
) -> Vec<String> {
    let neighbor = neighbor.map(str::to_owned);
    let request = PageRequest { only, of, neighbor, ..all_of(Show::Routes) };
    let page = super::super::show(&bare(control), &request).unwrap();
    let of_bgp = routes_of(page.rows)
        .into_iter()
        .filter_map(|row| Some((row.path?, row.prefix, row.best, row.state, row.via, row.why)));
    of_bgp
        .map(|(path, prefix, best, state, via, why)| {
            let mark = if best { ">" } else { "" };
            let pref = path.local_pref.map_or("-".into(), |pref| pref.to_string());
            let (rule, why) = (path.rule.unwrap_or_default(), why.unwrap_or_default());
            format!(
                "{mark}{prefix} {} {} {state} {pref} {rule}: {why}",
                path.neighbor,
                via.join(",")
            )
        })
        .collect()
}

#[test]
fn every_path_says_why_it_is_used_or_not() {
    let (control, _) = filled(&plain());
    let won = ">203.0.113.0/24 one 10.1.0.2 up 300 in/good: ";
    let lost =
        "203.0.113.0/24 two 10.2.0.2 unused - : loses to one: it has a lower local preference";
    let refused =
        "203.0.114.0/24 one 10.1.0.2 refused - in/bad: refused: policy in refuses it by rule bad";
    let own =
        "203.0.116.0/24 two 10.2.0.2 refused - own-as: refused: our own AS is 1 times in its path";
    let short = ">203.0.115.0/24 two 10.2.0.2 up - : ";
    let long =
        "203.0.115.0/24 one 10.1.0.2 unused - in/rest: loses to two: it has a longer AS path";
    assert_eq!(shown(&control, RoutesOf::All, None, None), [won, lost, refused, short, long, own]);
    assert_eq!(shown(&control, RoutesOf::Best, None, None), [won, short]);
    assert_eq!(shown(&control, RoutesOf::Accepted, None, None), [won, lost, short, long]);
    assert_eq!(shown(&control, RoutesOf::Refused, None, None), [refused, own]);
    assert_eq!(shown(&control, RoutesOf::Refused, Some("two"), None), [own]);
    assert_eq!(shown(&control, RoutesOf::All, Some("one"), None), [won, refused, long]);
    // As they came, without what the policy makes of them.
    let came = shown(&control, RoutesOf::Received, Some("one"), None);
    assert_eq!(came[0], won.replace("300", "-"));
    assert_eq!(came.len(), 3);
    let inside = Only::In("203.0.114.0/23".parse().unwrap());
    assert_eq!(shown(&control, RoutesOf::All, None, Some(inside)), [refused, short, long]);
    let at = Only::Covering("203.0.114.9".parse().unwrap());
    assert_eq!(shown(&control, RoutesOf::Refused, None, Some(at)), [refused]);
    let advertised = shown(&control, RoutesOf::Advertised, None, None);
    assert_eq!(advertised, ["198.51.100.53/32 one 10.1.0.1 advertised - : "]);
}

/// Packets go by both, so neither says that it loses.
#[test]
fn equal_paths_of_a_multipath_are_both_in_use() {
    let rows = |multipath: &str| {
        let bgp = BGP.replace("[bgp]\n", &format!("[bgp]\n{multipath}"));
        let (mut control, lanes) = with_sessions(&(plain() + &bgp));
        for (net, (_, lane)) in [1, 2].into_iter().zip(&lanes) {
            let path = [65_001 + u32::from(net)];
            lane.send(update("203.0.113.0/24", &path, [10, net, 0, 2], 2)).unwrap();
        }
        control.publish(Nanos::ZERO).unwrap();
        let rows = shown(&control, RoutesOf::All, None, None);
        rows.into_iter().filter(|row| row.contains("203.0.113.0/24")).collect::<Vec<_>>()
    };
    let [one, two] = rows("multipath = 2\n").try_into().unwrap();
    assert!(one.starts_with(">203.0.113.0/24 one 10.1.0.2 up"), "{one}");
    assert!(two.starts_with(">203.0.113.0/24 two 10.2.0.2 up") && two.ends_with(": "), "{two}");
    let [_, two] = rows("").try_into().unwrap();
    assert!(two.ends_with("loses to one: it has a higher router id"), "{two}");
}

#[test]
fn pages_of_few_among_many_end_and_have_all_of_them() {
    let (mut control, lanes) = with_neighbors(&plain());
    for n in 0..1_000u32 {
        let [.., high, low] = n.to_be_bytes();
        let mark = if n % 400 == 0 { 666 } else { 1 };
        let news = update(&format!("198.18.{high}.{low}/32"), &[65_002], [10, 1, 0, 2], mark);
        while lanes[0].1.try_send(news.clone()).is_err() {
            control.publish(Nanos::ZERO).unwrap();
        }
    }
    control.publish(Nanos::ZERO).unwrap();
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let of = RoutesOf::Refused;
        let request = PageRequest { after, of, ..all_of(Show::Routes) };
        let page = super::super::show(&bare(&control), &request).unwrap();
        found.extend(routes_of(page.rows).into_iter().map(|row| row.prefix.into_owned()));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["198.18.0.0/32", "198.18.1.144/32", "198.18.3.32/32"]);
    assert!(pages >= 4, "a page looks at so many only: {pages}");
}

#[test]
fn an_unknown_neighbour_is_answered_with_the_one_like_it() {
    let (control, _) = filled(&plain());
    let request = PageRequest { neighbor: Some("tow".into()), ..all_of(Show::Routes) };
    let error = super::super::show(&bare(&control), &request).unwrap_err();
    assert_eq!(error.text(), "no BGP neighbour is named \"tow\"");
}

#[test]
fn explain_has_the_rules_by_which_a_path_won() {
    let (control, _) = filled(&plain());
    let address = "203.0.113.9".parse().unwrap();
    let query = ExplainQuery { address, from: None, proto: None, sport: None, dport: None };
    let why = |query: &ExplainQuery| answer(&control, query).unwrap().items[0].member.why.clone();
    let wanted = "over neighbor one; BGP's best path: two has a lower local preference";
    assert_eq!(why(&query).as_deref(), Some(wanted));
    let query = ExplainQuery { address: "198.51.100.53".parse().unwrap(), ..query };
    assert!(!why(&query).unwrap().contains("BGP"));
}

#[test]
fn a_neighbour_is_shown_with_all_that_is_known_of_it() {
    let (control, ids) = filled(&plain());
    let mut facts = bare(&control);
    let received =
        Messages { opens: 1, updates: 3, keepalives: 2, bytes: 500, ..Messages::default() };
    let counters = Counters { established: 1, received, ..Counters::default() };
    facts.sessions.insert(ids[0], counters);
    let request = PageRequest { neighbor: Some("one".into()), ..all_of(Show::BgpNeighbor) };
    let Rows::BgpNeighbor(rows) = super::super::show(&facts, &request).unwrap().rows else {
        panic!("rows of a neighbour")
    };
    let value = |topic: &str, what: &str| {
        let row = rows.iter().find(|row| row.topic == topic && row.what == what);
        row.unwrap_or_else(|| panic!("{topic} {what}: {rows:?}")).value.clone().into_owned()
    };
    for (topic, what, wanted) in [
        ("session", "state", "Established"),
        ("session", "sessions so far", "1"),
        ("session", "last error", "none"),
        ("configured", "import", "in"),
        ("configured", "bogons", "accept"),
        ("agreed", "families", "ipv4, ipv6"),
        ("agreed", "hold time", "9 s"),
        ("agreed", "route refresh", "yes"),
        ("messages", "UPDATE received", "3"),
        ("messages", "octets received", "500"),
        ("prefixes", "received ipv4", "3"),
        ("prefixes", "accepted", "2"),
        ("prefixes", "advertised", "1"),
        ("refused", "in/bad", "1"),
    ] {
        assert_eq!(value(topic, what), wanted, "{topic} {what}");
    }
    assert!(rows.iter().all(|row| row.neighbor == "one"));
    let rows = super::super::show(&facts, &all_of(Show::BgpRefusals)).unwrap().rows;
    let scrape = crate::api::metrics::Scrape(vec![(Show::BgpRefusals, vec![rows])]);
    let text = crate::api::metrics::text(scrape).unwrap();
    for line in [
        "nearhop_bgp_refused_paths{neighbor=\"one\",reason=\"in/bad\"} 1",
        "nearhop_bgp_refused_paths{neighbor=\"two\",reason=\"own-as\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let Rows::Bgp(rows) = super::super::show(&facts, &all_of(Show::Bgp)).unwrap().rows else {
        panic!("rows of neighbours")
    };
    assert_eq!((rows[0].received_messages, rows[0].received_updates, rows[0].up), (6, 3, true));
}

#[test]
fn a_transcript_has_whole_messages_and_which_way_they_went() {
    let (control, _) = filled(&plain());
    let nonsense = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let nonsense = Said { at: Nanos(8), is_own: false, len: nonsense.len(), bytes: nonsense };
    let kept = vec![said(), nonsense];
    let transcript = move |_| Some(kept.clone());
    let facts = Facts { transcript: &transcript, ..bare(&control) };
    let request = PageRequest { neighbor: Some("one".into()), ..all_of(Show::BgpTranscript) };
    let Rows::BgpTranscript(rows) = super::super::show(&facts, &request).unwrap().rows else {
        panic!("rows of a transcript")
    };
    let rows: Vec<_> =
        rows.iter().map(|row| (&*row.direction, &*row.message, row.hex.len())).collect();
    assert_eq!(rows, [("sent", "KEEPALIVE", 38), ("received", "?", 36)]);
}
