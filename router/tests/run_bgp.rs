//! BGP between the running daemon and routers that nobody here wrote.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use bgp_support::bird::Bird;
use bgp_support::missing;
use daemon_support::{Costs, Rig, SERVICE_V4, SERVICE_V6, config};
use nearhop::bgp::{AttributeStore, Frame, MESSAGE_MAX, Message, PerFamily, UpdateContext};
use serde_json::Value;
use support::skip::skip;
use support::{in_namespaces, wait_for};

/// The second is the neighbour.
const SITES: Costs<'_> = &[("ams", 10), ("peer", 20)];

fn with_neighbor(keys: &str) -> String {
    config(SITES).replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n")
        + &format!(
            "[bgp]\nas = 65001\n\
             [[bgp.neighbor]]\nname = \"bird\"\naddress = \"10.2.0.2\"\nas = 65002\n\
             import = \"all\"\nexport = [\"echo\"]\n{keys}"
        )
}

fn bird(extra: &str) -> String {
    format!(
        "router id 10.2.0.2;\nprotocol device {{}}\n\
         protocol static s4 {{ ipv4; route 203.0.113.0/24 unreachable; route 203.0.114.0/24 unreachable; }}\n\
         protocol static s6 {{ ipv6; route 2001:db8:113::/48 unreachable; }}\n\
         protocol bgp r1 {{ local 10.2.0.2 as 65002; neighbor 10.2.0.1 as 65001; hold time 9;\n{extra}\
         ipv4 {{ import all; export where proto = \"s4\"; next hop self; }};\n\
         ipv6 {{ import all; export where proto = \"s6\"; next hop address fd00:2::2; }}; }}\n"
    )
}

/// The table that the router forwards by.
fn routes(rig: &Rig, source: &str) -> Vec<String> {
    let rows = rig.show("routes");
    let of = rows.iter().filter(|row| row["source"] == source && row["best"] == true);
    of.map(|row| row["prefix"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn routes_come_from_bird_and_services_go_there() {
    let test = "routes_come_from_bird_and_services_go_there";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let mut rig = Rig::start_with(SITES, &with_neighbor("hold-time = \"9s\"\n"));
        let mut peer = Bird::start(rig.site_netns("peer"), "peer", &bird(""));
        wait_for("both services at BIRD", || {
            let known = peer.ask("show route protocol r1");
            let both = known.contains(SERVICE_V4) && known.contains(SERVICE_V6);
            both.then_some(known)
        });
        let all = ["203.0.113.0/24", "203.0.114.0/24", "2001:db8:113::/48"];
        wait_for("BIRD's routes", || (routes(&rig, "bgp") == all).then_some(()));
        // The path of what is announced, as BIRD reads it.
        let detail = peer.ask(&format!("show route all {SERVICE_V4}/32"));
        assert!(detail.contains("BGP.as_path: 65001"), "{detail}");
        assert!(detail.contains("BGP.next_hop: 10.2.0.1"), "{detail}");

        // A withdrawal, a new route.
        let other = bird("").replace("203.0.113.0/24", "203.0.115.0/24");
        peer.configure(&other);
        let all = ["203.0.114.0/24", "203.0.115.0/24", "2001:db8:113::/48"];
        wait_for("BIRD's other routes", || (routes(&rig, "bgp") == all).then_some(()));

        // BIRD dies: its routes go, and come back with it.
        peer.kill();
        wait_for("no route of a dead neighbour", || routes(&rig, "bgp").is_empty().then_some(()));
        let peer = Bird::start(rig.site_netns("peer"), "again", &bird(""));
        wait_for("routes of a neighbour that is back", || {
            (routes(&rig, "bgp").len() == 3).then_some(())
        });

        // The router says that it ends.
        assert_eq!(rig.terminate(), Some(0));
        wait_for("no session at BIRD", || {
            let state = peer.ask("show protocols all r1");
            (!state.contains("Established")).then_some(())
        });
        let state = peer.ask("show protocols all r1");
        assert!(state.contains("the router ends"), "its last words (RFC 9003): {state}");
    });
}

/// The rows of a command.
fn rows_of(rig: &Rig, args: &[&str]) -> Vec<Value> {
    let out = rig.nearhop(&[args, &["--json"]].concat());
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    document["items"].as_array().unwrap().clone()
}

/// What an operator sees of one refused route, of the neighbour, and of what was said.
fn seen(rig: &Rig) {
    let refused = rows_of(rig, &["show", "routes", "--refused"]);
    let [row] = &refused[..] else { panic!("one refused route: {refused:?}") };
    assert_eq!((&row["prefix"], &row["rule"]), (&"203.0.114.0/24".into(), &"in/no-114".into()));
    assert_eq!((&row["neighbor"], &row["as_path"]), (&"bird".into(), &"65002".into()));
    assert_eq!(row["why"], "refused: policy in refuses it by rule no-114");
    let accepted = rows_of(rig, &["show", "routes", "--accepted", "--neighbor", "bird"]);
    assert!(
        accepted.len() == 2 && accepted.iter().all(|row| row["rule"] == "in/rest"),
        "{accepted:?}"
    );
    wait_for("both services announced", || {
        (rows_of(rig, &["show", "routes", "--advertised"]).len() == 2).then_some(())
    });
    let explained = rig.nearhop(&["explain", "203.0.113.9"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("over neighbor bird; BGP's only path"), "{explained}");

    let facts = rows_of(rig, &["show", "bgp", "neighbor", "bird"]);
    let value = |topic: &str, what: &str| {
        let row = facts.iter().find(|row| row["topic"] == topic && row["what"] == what);
        row.unwrap_or_else(|| panic!("{topic}, {what}: {facts:?}"))["value"].clone()
    };
    assert_eq!(value("refused", "in/no-114"), "1");
    assert_eq!(value("agreed", "router id"), "10.2.0.2");
    assert_eq!(value("agreed", "hold time"), "9 s");
    // BIRD says so by one connection or by both.
    assert_ne!(value("messages", "OPEN received"), "0");

    // What was said, read by the codec: BIRD's OPEN, and three prefixes.
    let said = rows_of(rig, &["show", "bgp", "transcript", "bird"]);
    let messages = said.iter().map(|row| {
        let hex = row["hex"].as_str().unwrap();
        let digits = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
        let bytes: Vec<u8> = digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect();
        assert_eq!(row["length"], bytes.len());
        let frame = Frame::first(&bytes, MESSAGE_MAX).unwrap().unwrap();
        let context = UpdateContext {
            four_octet_as: true,
            internal: false,
            first_as: None,
            families: PerFamily::BOTH,
            path_ids: PerFamily::NONE,
            extended_next_hop: false,
            link_local_next_hop: false,
        };
        let message = Message::decode(frame, &context, &mut AttributeStore::default()).unwrap();
        (row["direction"] == "received", message)
    });
    let heard: Vec<Message> = messages.filter_map(|(heard, one)| heard.then_some(one)).collect();
    let is_birds = |one: &Message| matches!(one, Message::Open(open) if open.router_id.to_string() == "10.2.0.2");
    assert!(heard.iter().any(is_birds), "{heard:?}");
    let prefixes = heard.iter().map(|message| match message {
        Message::Update(update) => update.announced.iter().map(|one| one.nlri.len()).sum(),
        _ => 0,
    });
    assert_eq!(prefixes.sum::<usize>(), 3, "{heard:?}");
    let unknown = rig.nearhop(&["show", "bgp", "neighbor", "brid"]);
    let error = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(1), "{error}");
    assert!(error.contains("did you mean the BGP neighbour \"bird\"?"), "{error}");
}

/// A policy refuses, changes and accepts; another one, and other bogons, act on what came already, within the
/// same session.
#[test]
fn a_policy_judges_birds_routes_and_a_reload_judges_them_again() {
    let test = "a_policy_judges_birds_routes_and_a_reload_judges_them_again";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let rule =
            |name: &str, keys: &str| format!("[[bgp.policy.rule]]\nname = \"{name}\"\n{keys}\n");
        let policy = |rules: &str| {
            with_neighbor("hold-time = \"9s\"\n").replace("import = \"all\"", "import = \"in\"")
                + "[[bgp.policy]]\nname = \"in\"\n"
                + rules
        };
        let rest = rule("rest", "then = \"accept\"");
        let no_114 = rule("no-114", "prefixes = [\"203.0.114.0/24\"]\nthen = \"refuse\"");
        let rig = Rig::start_with(SITES, &policy(&(no_114 + &rest)));
        let _peer = Bird::start(rig.site_netns("peer"), "peer", &bird(""));
        let of = |rig: &Rig| rig.show("bgp")[0].clone();
        wait_for("all routes but the refused one", || {
            (routes(&rig, "bgp") == ["203.0.113.0/24", "2001:db8:113::/48"]).then_some(())
        });
        assert_eq!((&of(&rig)["received_ipv4"], &of(&rig)["refused"]), (&2.into(), &1.into()));
        seen(&rig);

        // The other one is refused now, and the first comes back.
        let no_v6 = rule("no-v6", "prefixes = [\"::/0 ge 0\"]\nthen = \"refuse\"");
        rig.write_file(&policy(&(no_v6 + &rest)));
        assert!(rig.nearhop(&["reload"]).status.success());
        wait_for("the routes of another policy", || {
            (routes(&rig, "bgp") == ["203.0.113.0/24", "203.0.114.0/24"]).then_some(())
        });
        // Prefixes for documentation are bogons.
        let strict = policy(&rest).replace("hold-time", "bogons = \"refuse\"\nhold-time");
        rig.write_file(&strict);
        assert!(rig.nearhop(&["reload"]).status.success());
        wait_for("no bogon", || routes(&rig, "bgp").is_empty().then_some(()));
        assert_eq!((&of(&rig)["received_ipv4"], &of(&rig)["refused"]), (&2.into(), &3.into()));
        rig.write_file(&with_neighbor("hold-time = \"9s\"\n"));
        assert!(rig.nearhop(&["reload"]).status.success());
        wait_for("all routes", || (routes(&rig, "bgp").len() == 3).then_some(()));
        let sessions = rig.log().lines().filter(|line| line.contains("established")).count();
        assert_eq!(sessions, 1, "one session all the time");
    });
}
