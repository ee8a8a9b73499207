//! A router whose own site is dead sends packets on to the router that announces the same prefix: BIRD.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use bgp_support::bird::Bird;
use bgp_support::missing;
use daemon_support::{Costs, Probes, Rig, SERVICE_V4, SERVICE_V6, config, connect};
use nearhop::kernel::link::LinkSetup;
use serde_json::Value;
use support::skip::skip;
use support::{in_namespaces, wait_for};

/// The second is where BIRD is, behind which another site serves.
const SITES: Costs<'_> = &[("ams", 10), ("peer", 20)];

fn speaking() -> String {
    let text = config(SITES).replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n");
    let (kept, _) = text.split_once("[[service.site]]\nname = \"peer\"").unwrap();
    let service = "latency-unit = \"off\"\nannounce-delay = \"0s\"\n";
    kept.replace("latency-unit = \"off\"\n", service)
        + "[bgp]\nas = 65001\n[[bgp.neighbor]]\nname = \"bird\"\naddress = \"10.2.0.2\"\n\
           as = 65002\nimport = \"all\"\nexport = [\"echo\"]\n"
}

/// It announces the service's prefixes, or others.
fn bird(announces: bool) -> String {
    let (v4, v6) = if announces {
        (format!("{SERVICE_V4}/32"), format!("{SERVICE_V6}/128"))
    } else {
        ("203.0.113.0/24".to_owned(), "2001:db8:113::/48".to_owned())
    };
    format!(
        "router id 10.2.0.2;\nprotocol device {{}}\n\
         protocol static s4 {{ ipv4; route {v4} unreachable; }}\n\
         protocol static s6 {{ ipv6; route {v6} unreachable; }}\n\
         protocol bgp r1 {{ local 10.2.0.2 as 65002; neighbor 10.2.0.1 as 65001;\n\
         ipv4 {{ import all; export where proto = \"s4\"; next hop self; }};\n\
         ipv6 {{ import all; export where proto = \"s6\"; next hop address fd00:2::2; }}; }}\n"
    )
}

/// The services' prefixes that BIRD has from the router.
fn heard(bird: &Bird) -> usize {
    let all = bird.ask("show route all protocol r1");
    [SERVICE_V4, SERVICE_V6].iter().filter(|address| all.contains(*address)).count()
}

/// The routes to the service's IPv4 prefix: source, state and reason of each.
fn routes(rig: &Rig) -> Vec<[String; 3]> {
    let prefix = format!("{SERVICE_V4}/32");
    let rows = rig.show("routes");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let of = rows.iter().filter(|row| row["prefix"] == *prefix);
    of.map(|row| ["source", "state", "why"].map(|key| text(row, key))).collect()
}

fn explained(rig: &Rig) -> Value {
    let out = rig.nearhop(&["explain", SERVICE_V4, "--json"]);
    serde_json::from_slice(&out.stdout).unwrap()
}

fn kill(rig: &Rig) {
    let mut links = LinkSetup::open(rig.site_netns("ams")).unwrap();
    links.set_up("nh-ams", false).unwrap();
}

fn revive(rig: &Rig) {
    let mut links = LinkSetup::open(rig.site_netns("ams")).unwrap();
    links.set_up("nh-ams", true).unwrap();
    connect(rig.site_netns("ams"), "nh-ams", &[]);
}

#[test]
fn a_dead_sites_packets_flow_by_bird_until_it_is_back_or_bird_withdraws() {
    let test = "a_dead_sites_packets_flow_by_bird_until_it_is_back_or_bird_withdraws";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let rig = Rig::begin_with(SITES, &speaking());
        wait_for("both legs up", || {
            let legs = rig.show("services");
            (legs.len() == 2 && legs.iter().all(|leg| leg["state"] == "up")).then_some(())
        });
        let peer = Bird::start(rig.site_netns("peer"), "peer", &bird(true));
        wait_for("both routes", || (routes(&rig).len() == 2).then_some(()));
        wait_for("both services at BIRD", || (heard(&peer) == 2).then_some(()));
        let behind = "leads once no site of the service is left";
        wait_for("what is behind", || (routes(&rig)[1] == ["bgp", "unused", behind]).then_some(()));
        let probes = [SERVICE_V4, SERVICE_V6].map(|to| Probes::start(&rig.client, to, 4));
        let all_at = |site: &str| probes.iter().for_each(|all| all.wait_for_site(site));
        all_at("ams");

        kill(&rig);
        all_at("peer");
        // It is not the router's own any more.
        wait_for("nothing of the service at BIRD", || (heard(&peer) == 0).then_some(()));
        let leads = "leads, as no site of the service is left";
        let left = "no site is left: the next best route leads";
        wait_for("what leads", || {
            let [own, next] = &routes(&rig)[..] else { return None };
            (*own == ["service", "down", left] && *next == ["bgp", "up", leads]).then_some(())
        });
        let shown = explained(&rig);
        assert_eq!(shown["led_on_to"], serde_json::json!(["via 10.2.0.2"]), "{shown}");
        assert_eq!(shown["verdict"], "forwarded");
        let groups = rig.show("groups");
        let name = "echo/ipv4, else via 10.2.0.2";
        let group = groups.iter().find(|row| row["group"] == name);
        assert_eq!(group.unwrap()["when_all_dead"], "next route: via 10.2.0.2", "{groups:?}");
        let events = rig.events_until(|event| event["resort"] == "next_route");
        assert_eq!(events.last().unwrap()["from"][0], "ams");

        revive(&rig);
        all_at("ams");
        wait_for("both services at BIRD again", || (heard(&peer) == 2).then_some(()));

        // BIRD withdraws while the site is dead; then it announces again.
        kill(&rig);
        all_at("peer");
        peer.configure(&bird(false));
        wait_for("one route", || (routes(&rig).len() == 1).then_some(()));
        wait_for("what is answered", || (explained(&rig)["verdict"] == "all-dead").then_some(()));
        let before = rig.dropped("all-dead");
        wait_for("packets to nobody", || (rig.dropped("all-dead") > before).then_some(()));
        assert_eq!(heard(&peer), 0);
        peer.configure(&bird(true));
        all_at("peer");
        revive(&rig);
        all_at("ams");
    });
}
