//! Mistakes about BGP neighbours, and about BFD with them, with sites and with next hops.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use nearhop::config::{Style, parse};

/// A router with these keys and one service, and this behind it.
fn with_a_service(router: &str, rest: &str) -> String {
    format!(
        "[router]\nname = \"r1\"\n{router}\
         [[port]]\nname = \"up\"\ntun = \"up\"\naddresses = [\"10.9.0.1/24\", \"fd00:9::1/64\"]\n\
         [[service]]\nname = \"dns\"\nprefixes = [\"198.51.100.53/32\"]\n\
         [[service.site]]\nname = \"a\"\nvia = \"up\"\n{rest}"
    )
}

const ID: &str = "id = \"10.9.0.1\"\nhash-seed = 7\n";
const NEIGHBOR: &str = "[bgp]\nas = 65001\n[[bgp.neighbor]]\naddress = \"10.9.0.2\"\nas = 65002\n\
                        import = \"all\"\nexport = [\"dns\"]\n";

/// What is found wrong once `from` in the neighbour is `to`.
fn found_wrong(router: &str, from: &str, to: &str) -> String {
    let text = with_a_service(router, &NEIGHBOR.replace(from, to));
    parse("r1.toml", &text).unwrap_err().render(Style::PLAIN)
}

#[test]
fn mistakes_about_neighbors_are_found_and_silence_is_a_warning() {
    let (id, neighbor, file) = (ID, NEIGHBOR, with_a_service);
    let (config, _) = parse("r1.toml", &file(id, neighbor)).unwrap();
    let bgp = config.bgp.unwrap();
    assert_eq!(
        (bgp.asn, &*bgp.neighbors[0].name, bgp.neighbors[0].asn),
        (65001, "10.9.0.2", 65002)
    );
    for (router, from, to, wanted) in [
        ("", "", "", "BGP needs a router id"),
        (id, "as = 65002", "as = 23456", "no router can have AS 23456"),
        (id, "as = 65002", "as = 0", "no router can have AS 0"),
        (id, "\"10.9.0.2\"", "\"10.9.0.1\"", "10.9.0.1 is this router"),
        (id, "\"10.9.0.2\"", "\"10.8.0.2\"", "10.8.0.2 is in no port's network"),
        (id, "\"10.9.0.2\"", "\"fe80::2\"", "fe80::2 is on some link"),
        (id, "\"dns\"", "\"dsn\"", "\"dsn\" is not a service"),
        (id, "import", "hold-time = \"2s\"\nimport", "expected 0s (never)"),
        (id, "import", "role = \"boss\"\nimport", "\"boss\" is not known"),
        (id, "as = 65002", "as = 65001\nrole = \"peer\"", "a neighbor in the same AS has no role"),
        (
            id,
            "import",
            "local-address = \"10.9.0.7\"\nimport",
            "10.9.0.7 is not an address of this router",
        ),
        (
            id,
            "import",
            "local-address = \"fd00:9::1\"\nimport",
            "local-address is of the other family",
        ),
        (
            id,
            "import",
            "multihop = 3\nttl-security = true\nimport",
            "ttl-security is for neighbors on a link",
        ),
    ] {
        let shown = found_wrong(router, from, to);
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let silent = file(id, &neighbor.replace("import = \"all\"\n", ""));
    let (_, warnings) = parse("r1.toml", &silent).unwrap();
    let warned = |text: &str| warnings.iter().any(|one| one.to_string().contains(text));
    assert!(warned("the neighbor says nothing about import"), "{warnings:?}");
}

#[test]
fn mistakes_about_the_bfd_of_neighbors_are_found() {
    for (from, to, wanted) in [
        ("import", "bfd = 3\nimport", "expected true or a table, found an integer"),
        ("import", "bfd = { interval = \"200us\" }\nimport", "expected 300us to 1min"),
        ("import", "bfd = { multiplier = 0 }\nimport", "a whole number from 1 to 255"),
        (
            "import",
            "bfd = { auth = { type = \"md5\", key-id = 1, key = \"secret\" } }\nimport",
            "\"md5\" is not known",
        ),
        (
            "import",
            "bfd = { auth = { type = \"keyed-sha1\", key-id = 1, key = \"twenty-one octets long\" } }\nimport",
            "a key of 22 octets",
        ),
        (
            "address = \"10.9.0.2\"",
            "address = \"10.8.0.2\"\nlocal-address = \"10.9.0.1\"\nmultihop = 2\nbfd = { multihop = false }",
            "BFD over one hop is for neighbors on a link",
        ),
    ] {
        let shown = found_wrong(ID, from, to);
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
}

/// The same link-local address on two links is two neighbours.
#[test]
fn bfd_of_link_local_neighbors_is_by_their_ports() {
    let port = |name: &str| {
        format!("[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\naddresses = [\"fe80::1/64\"]\n")
    };
    let neighbor = |port: &str, ms: u32| {
        format!(
            "[[bgp.neighbor]]\naddress = \"fe80::2\"\nport = \"{port}\"\nas = 65002\nimport = \"all\"\n\
             export = \"none\"\nbfd = {{ interval = \"{ms}ms\" }}\n"
        )
    };
    let head = "[router]\nname = \"r1\"\nid = \"10.0.0.1\"\n";
    let text = |second: &str| {
        let neighbors = neighbor("up1", 50) + &neighbor(second, 10);
        format!("{head}{}{}[bgp]\nas = 65001\n{neighbors}", port("up1"), port("up2"))
    };
    let (config, _) = parse("r1.toml", &text("up2")).unwrap();
    let intervals = config.bgp.unwrap().neighbors.into_iter().map(|one| one.bfd.unwrap().interval);
    let ms = std::time::Duration::from_millis;
    assert_eq!(intervals.collect::<Vec<_>>(), [ms(50), ms(10)]);
}

/// Who is watched has to be on a link, and whoever names the same host wants the same.
#[test]
fn bfd_of_sites_and_next_hops_is_with_hosts_on_their_links() {
    let base = r#"
[router]
name = "r1"
[[port]]
name = "fra"
tun = "nh-fra"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]
[[port]]
name = "ams"
tun = "nh-ams"
addresses = ["10.2.0.1/24"]
[[route]]
prefix = "203.0.113.0/24"
via = ["10.1.0.2", "10.2.0.2"]
bfd = true
[[service]]
name = "dns"
prefixes = ["198.51.100.53/32", "2001:db8:53::53/128"]
[[service.site]]
name = "fra"
via = "fra"
bfd = { target = ["10.1.0.2", "fd00:1::2"] }
"#;
    let (config, _) = parse("r1.toml", base).unwrap();
    assert_eq!(config.services[0].sites[0].bfd.as_ref().unwrap().targets.len(), 2);
    assert!(config.routes[0].bfd.is_some());
    let site = "{ target = [\"10.1.0.2\", \"fd00:1::2\"] }";
    for (from, to, wanted) in [
        (site, "true", "BFD of a site needs a target"),
        (site, "{ target = \"10.2.0.2\" }", "10.2.0.2 is on no link of this site"),
        (
            site,
            "{ target = \"10.1.0.2\", interval = \"10ms\" }",
            "two BFD sessions with 10.1.0.2 are one",
        ),
        (site, "{ target = \"10.1.0.2\", multihop = true }", "bfd has no key \"multihop\""),
        ("\"10.2.0.2\"]", "\"10.3.0.2\"]", "no port's link has 10.3.0.2"),
        ("[\"10.1.0.2\", \"10.2.0.2\"]", "\"fra\"", "BFD is for next hops that are addresses"),
        ("bfd = true", "bfd = { multihop = true }", "BFD of a next hop is over one hop"),
    ] {
        let errors = parse("r1.toml", &base.replace(from, to)).unwrap_err();
        let shown = errors.render(Style::PLAIN);
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
}
