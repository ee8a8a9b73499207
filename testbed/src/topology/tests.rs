use nearhop::config::Style;

use super::*;

#[test]
fn the_built_in_lab_is_the_demo() {
    let lab = Topology::three_sites();
    assert_eq!(lab.nodes_of(NodeKind::Site).count(), 3);
    assert_eq!(lab.nodes_of(NodeKind::Client).count(), 1);
    let service = &lab.services[0];
    let costs: Vec<_> =
        service.sites.iter().map(|site| (site.name.as_str(), site.rank().0)).collect();
    assert_eq!(costs, [("ams", 10), ("fra", 20), ("par", 30)]);
    let addresses: Vec<_> = lab.service_addresses("fra").map(|one| one.to_string()).collect();
    assert_eq!(addresses, ["198.51.100.53", "2001:db8:53::53"]);
    assert_eq!(lab.service_addresses("client").count(), 0);
}

#[test]
fn the_configuration_of_the_built_in_router() {
    insta::assert_snapshot!(Topology::three_sites().router_config("r1"));
}

/// The router's own parser reports no mistake and no warning.
#[test]
fn the_router_accepts_its_configuration() {
    let delayed =
        THREE_SITES.replacen("[\"fra\", \"r1\"]", "[\"fra\", \"r1\"]\ndelay = \"20ms\"", 1);
    for text in [THREE_SITES, &delayed] {
        let lab = Topology::parse("t", text).unwrap();
        let (config, warnings) = nearhop::config::parse("r1", &lab.router_config("r1")).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((config.ports.len(), config.services[0].sites.len()), (4, 3));
        assert_eq!(config.services[0].sites[0].health.len(), 2);
        assert_eq!(config.services[0].latency_unit, None, "a busy machine moves no flow");
    }
}

#[test]
fn a_port_behind_a_wire_leaves_the_addresses_to_the_lab() {
    let text = THREE_SITES.replacen("[\"fra\", \"r1\"]", "[\"fra\", \"r1\"]\ndelay = \"20ms\"", 1);
    let lab = Topology::parse("t", &text).unwrap();
    let plan = lab.plan_of("fra").unwrap();
    assert_eq!((plan.device.as_str(), plan.router_device_netns.as_str()), ("nh-fra", "wire-fra"));
    let config = lab.router_config("r1");
    assert!(config.contains("netns = \"wire-fra\""));
    assert_eq!(config.matches("peer-addresses").count(), 3);
}

#[test]
fn reordering_hands_the_same_costs_to_other_sites() {
    let lab = Topology::three_sites();
    let costs = |lab: &Topology| -> Vec<u32> {
        lab.services[0].sites.iter().filter_map(ServiceSite::cost).collect()
    };
    assert_eq!(costs(&lab.reordered(&["par", "ams"])), [20, 30, 10]);
    assert_eq!(costs(&lab.reordered(&["fra"])), [20, 10, 30]);
    assert_eq!(lab.reordered(&[]), lab);
}

/// One mistake in the built-in lab, and the expected message.
#[test]
fn each_mistake_is_reported_with_what_was_found() {
    let table = [
        ("kind = \"client\"", "kind = \"clown\"", "clown"),
        ("[\"client\", \"r1\"]", "[\"klient\", \"r1\"]", "no node is named \"klient\""),
        ("[\"client\", \"r1\"]", "[\"client\", \"ams\"]", "one end of a link must be a router"),
        (
            "[\"client\", \"r1\"]",
            "[\"client\", \"r1\"]\ndelay = \"20\"",
            "delay: \"20\" is not a span of time",
        ),
        ("[\"client\", \"r1\"]", "[\"client\", \"r1\"]\njitter = \"2ms\"", "at most the delay"),
        ("[\"client\", \"r1\"]", "[\"client\", \"r1\"]\nlos = \"1%\"", "did you mean loss?"),
        ("[\"client\", \"r1\"]", "[\"ams\", \"r1\"]", "\"client\" has 0 links"),
        ("name = \"fra\", cost", "name = \"fro\", cost", "no site is named \"fro\""),
        ("name = \"fra\", cost", "name = \"ams\", cost", "two of kind site are named \"ams\""),
        ("router = \"r1\"", "router = \"r2\"", "no router is named \"r2\""),
        ("198.51.100.53", "198.51.100.530", "expected an address"),
        ("name = \"client\"", "name = \"a-client-too-long\"", "1 to 12 letters"),
        ("name = \"client\"", "name = \"../etc\"", "1 to 12 letters"),
    ];
    for (from, to, expected) in table {
        let text = THREE_SITES.replacen(from, to, 1);
        assert_ne!(text, THREE_SITES, "{from} is not in the file");
        let error = Topology::parse("t", &text).unwrap_err();
        let reported = error.render(Style::PLAIN);
        assert!(reported.contains(expected), "{to}: {reported}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = THREE_SITES
        .replace("[\"client\", \"r1\"]", "[\"klient\", \"r1\"]\nloss = \"much\"")
        .replace("router = \"r1\"", "router = \"r2\"");
    let error = Topology::parse("t", &text).unwrap_err();
    assert!(error.mistakes.len() >= 3, "{:?}", error.mistakes);
}

#[test]
fn the_configuration_of_a_router_with_bgp() {
    let lab = Topology::parse("t", BGP_SITES).unwrap();
    let config = lab.router_config("r1");
    insta::assert_snapshot!(config);
    let (config, warnings) = nearhop::config::parse("r1", &config).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.bgp.unwrap().neighbors.len(), 3);
    assert_eq!(config.services.len(), 0, "BGP is believed, not checked");
    let mut prefixes = lab.announcing().map(|(_, announce)| announce.prefixes.len());
    assert!(prefixes.all(|count| count == 2), "by default the addresses");
    let addresses: Vec<_> = lab.service_addresses("par").map(|one| one.to_string()).collect();
    assert_eq!(addresses, ["198.51.100.53", "2001:db8:53::53"]);
}

#[test]
fn each_mistake_about_bgp_is_reported_with_what_was_found() {
    let bird = "announce = { by = \"bird\", as = 65001, med = 10 }";
    let with = |prefixes: &str| bird.replace("med = 10", &format!("prefixes = {prefixes}"));
    for (to, expected) in [
        (bird.replace("bird", "brid"), "did you mean \"bird\"?"),
        (bird.replace("65001", "65000"), "AS 65000 is the router's"),
        (bird.replace("med", "mde"), "did you mean med?"),
        (bird.replace("as = 65001, ", ""), "as = 65001"),
        (format!("cost = 10\n{bird}"), "has a cost or announces, not both"),
        ("cost = 10".to_owned(), "some sites of the service announce it"),
        (with("[\"198.51.100.53/24\"]"), "the prefix is \"198.51.100.0/24\""),
        (with("[\"198.51.100.53\"]"), "expected ADDRESS/LENGTH"),
        (with("[\"198.51.100.0/24\"]"), "no prefix of the site covers 2001:db8:53::53"),
    ] {
        let text = BGP_SITES.replacen(bird, &to, 1);
        assert_ne!(text, BGP_SITES);
        let reported = Topology::parse("t", &text).unwrap_err().render(Style::PLAIN);
        assert!(reported.contains(expected), "{to}: {reported}");
    }
    let text = BGP_SITES.replacen("router = \"r1\"\n", "router = \"r1\"\nhealth = {}\n", 1);
    let reported = Topology::parse("t", &text).unwrap_err().render(Style::PLAIN);
    assert!(reported.contains("sites that announce a service are not checked"), "{reported}");
    let second = "[[service]]\nname = \"b\"\nrouter = \"r1\"\naddresses = [\"192.0.2.1\"]\n\
                  sites = [{ name = \"ams\", announce = { by = \"frr\", as = 65001 } }]\n";
    let reported = Topology::parse("t", &format!("{BGP_SITES}{second}")).unwrap_err();
    assert!(reported.render(Style::PLAIN).contains("\"ams\" announces two services"));
}

const BGP_SITES: &str = include_str!("../../labs/bgp-sites.toml");
