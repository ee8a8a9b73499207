//! What findings say: which part of a value is wrong, where a key stands first, which networks are probably not
//! meant; and how they are shown if they are many, or repeat what a terminal acts on.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use nearhop::config::{Finding, Style, parse};

/// A file with this in place of the value of `key`.
fn with(key: &str, value: &str) -> String {
    let port = "[[port]]\nname = \"a\"\ntun = \"t1\"";
    let rest = match key {
        "own" => format!("addresses = [\"{value}\"]"),
        "id" => format!("id = \"{value}\""),
        "http" => format!("[api]\nhttp = \"{value}\""),
        "port" => format!("{port}\naddresses = [\"{value}\"]"),
        "peer" => format!("{port}\npeer-addresses = [\"{value}\"]"),
        "route" => format!("[[route]]\nprefix = \"{value}\"\nvia = \"blackhole\""),
        "via" => format!("[[route]]\nprefix = \"10.0.0.0/8\"\nvia = \"{value}\""),
        "target" => format!(
            "{port}\n[[service]]\nname = \"s\"\nprefixes = [\"198.51.100.1/32\"]\n\
             [[service.site]]\nname = \"x\"\nvia = \"a\"\n\
             health = {{ icmp = {{}}, target = \"{value}\" }}"
        ),
        _ => unreachable!("{key}"),
    };
    format!("[router]\nname = \"r1\"\n{rest}\n")
}

#[test]
fn an_address_that_is_wrong_says_which_part_of_it() {
    let above = "the fourth number, \"256\", is above 255";
    for (key, value, says) in [
        ("own", "10.0.0.256", above),
        ("own", "10.0.0.256/32", above),
        ("id", "10.0.0.256", above),
        ("http", "10.0.0.256:80", above),
        ("port", "10.0.0.256/24", above),
        ("peer", "10.0.0.256/24", above),
        ("route", "10.0.0.256/24", above),
        ("via", "10.0.0.256", above),
        ("target", "10.0.0.256", above),
        ("port", "10.0.0/24", "4 numbers with dots between them, found 3"),
        ("port", "10.0.0.1/33", "must be 0 to 32, found \"33\""),
        ("route", "10.0.0.0/33", "must be 0 to 32, found \"33\""),
        ("port", "fd00::g/64", "\"g\" is not a group of hexadecimal digits"),
        ("target", "10.0.0.1/24", "an address without length (write \"10.0.0.1\")"),
    ] {
        let errors = parse("r1.toml", &with(key, value)).unwrap_err();
        let said = errors.to_string();
        assert!(said.contains(says), "{key} = {value}: {said}");
        let drawn = errors.render(Style::PLAIN);
        assert!(drawn.contains(says.split(" (").next().unwrap()), "{drawn}");
    }
}

#[test]
fn a_key_that_stands_twice_shows_both_places() {
    let text = "[router]\nname = \"r1\"\nworkers = 2\nname = \"r2\"\n";
    let drawn = parse("r1.toml", text).unwrap_err().render(Style::PLAIN);
    assert!(drawn.starts_with("error: duplicate key name\n --> r1.toml:4:1"), "{drawn}");
    let (first, again) = (drawn.find("first here").unwrap(), drawn.find("here again").unwrap());
    assert!(first < again, "{drawn}");
    // Of a section, too.
    let text = "[router]\nname = \"r1\"\n[api]\n[router]\nworkers = 2\n";
    let drawn = parse("r1.toml", text).unwrap_err().render(Style::PLAIN);
    assert!(drawn.contains("1 | [router]\n  |  ------ first here"), "{drawn}");
}

fn warnings(ports: &str) -> Vec<String> {
    let text = format!("[router]\nname = \"r1\"\n{ports}");
    let checked = parse("r1.toml", &text);
    let (_, warnings) = checked.unwrap_or_else(|e| panic!("{}", e.render(Style::PLAIN)));
    warnings.iter().map(Finding::message).map(str::to_owned).collect()
}

#[test]
fn a_peer_outside_its_ports_network_is_warned_of() {
    let port = |own: &str, peer: &str| {
        format!(
            "[[port]]\nname = \"a\"\ntun = \"t1\"\naddresses = [{own}]\npeer-addresses = [{peer}]\n"
        )
    };
    let outside = |ip: &str| vec![format!("{ip} is outside the networks of its port")];
    for (own, peer, wanted) in [
        ("\"10.0.0.1/24\"", "\"10.0.0.2/24\"", vec![]),
        ("\"10.0.0.1/24\"", "\"10.0.1.2/24\"", outside("10.0.1.2")),
        ("\"10.0.0.1/24\", \"10.0.1.1/24\"", "\"10.0.1.2/24\"", vec![]),
        ("\"fd00::1/64\"", "\"fd01::2/64\"", outside("fd01::2")),
        ("\"fd00::1/64\"", "\"fe80::2/64\"", vec![]),
        // Of a family that the port has no address of, nothing can be said.
        ("\"fd00::1/64\"", "\"10.0.1.2/24\"", vec![]),
        ("\"10.0.0.1/32\"", "\"10.0.0.2/32\"", outside("10.0.0.2")),
    ] {
        assert_eq!(warnings(&port(own, peer)), wanted, "{own} {peer}");
    }
    // Without a network between the two ends, a route leads to the other.
    let route = "[[route]]\nprefix = \"10.0.0.2/32\"\nvia = \"a\"\n";
    let both = port("\"10.0.0.1/32\"", "\"10.0.0.2/32\"") + route;
    assert_eq!(warnings(&both), [""; 0]);
}

#[test]
fn a_network_inside_another_ports_is_warned_of() {
    let ports = |networks: &[&str]| {
        let port = |(n, address): (usize, &&str)| {
            format!("[[port]]\nname = \"p{n}\"\ntun = \"t{n}\"\naddresses = [{address}]\n")
        };
        networks.iter().enumerate().map(port).collect::<String>()
    };
    let inside = |inner: &str, outer: &str| {
        vec![format!("{inner} is inside {outer}, the network of another port")]
    };
    for (networks, wanted) in [
        (&["\"10.0.0.1/16\"", "\"10.1.0.1/16\""][..], vec![]),
        (&["\"10.0.0.1/16\"", "\"10.0.7.1/24\""], inside("10.0.7.0/24", "10.0.0.0/16")),
        (&["\"10.0.7.1/24\"", "\"10.0.0.1/16\""], inside("10.0.7.0/24", "10.0.0.0/16")),
        (&["\"10.0.0.1/16\", \"10.0.7.1/24\""], vec![]),
        // The nearest that is another port's.
        (
            &["\"10.0.0.1/8\"", "\"10.1.0.1/16\", \"10.1.1.1/24\""],
            [inside("10.1.0.0/16", "10.0.0.0/8"), inside("10.1.1.0/24", "10.0.0.0/8")].concat(),
        ),
        (&["\"10.0.0.1/16\"", "\"10.0.7.1/32\""], vec![]),
        (&["\"fd00::1/48\"", "\"fd00:0:0:1::1/64\""], inside("fd00:0:0:1::/64", "fd00::/48")),
        (&["\"fe80::1/10\"", "\"fe80::2/64\""], vec![]),
    ] {
        assert_eq!(warnings(&ports(networks)), wanted, "{networks:?}");
    }
}

fn drawn_of(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config").join(name);
    let errors = parse(name, &std::fs::read_to_string(path).unwrap()).unwrap_err();
    let all = errors.mistakes.iter().chain(&errors.warnings);
    all.map(|finding| finding.render(Style::PLAIN)).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_mistake_of_a_policy_is_shown_where_it_stands() {
    insta::assert_snapshot!(drawn_of("policies.toml"));
}

#[test]
fn every_mistake_of_a_neighbor_on_a_link_is_shown_where_it_stands() {
    insta::assert_snapshot!(drawn_of("links.toml"));
}

/// The address of the router on a port with such a neighbor, and what they are called.
#[test]
fn a_port_has_the_same_link_local_address_as_long_as_its_names_stay() {
    let of = |router: &str, addresses: &str| {
        let text = format!(
            "[router]\nname = \"{router}\"\nid = \"10.9.0.1\"\n\
             [[port]]\nname = \"up\"\ntun = \"up\"\n{addresses}\
             [[port]]\nname = \"down\"\ntun = \"down\"\n\
             [[port]]\nname = \"other\"\ntun = \"other\"\n[bgp]\nas = 65001\n\
             [[bgp.neighbor]]\nport = \"up\"\nas = 65002\n\
             [[bgp.neighbor]]\naddress = \"fe80::9\"\nport = \"down\"\nas = 65002\n"
        );
        parse("r1.toml", &text).unwrap_or_else(|e| panic!("{}", e.render(Style::PLAIN))).0
    };
    let config = of("r1", "");
    let [up, down, other] = &config.ports[..] else { panic!("{:?}", config.ports) };
    let [own, other_end] = [up, down].map(|port| port.link_local().unwrap());
    assert_eq!(own.to_string(), "fe80::355f:a94a:72f4:445c", "an address is not to change");
    assert_ne!(own, other_end);
    assert_eq!((other.link_local(), up.addresses.len()), (None, 1));
    assert_ne!(of("r2", "").ports[0].link_local(), Some(own));
    let given = of("r1", "addresses = [\"10.9.0.1/24\", \"fe80::7/64\"]\n");
    assert_eq!(given.ports[0].link_local(), "fe80::7".parse().ok());
    let names: Vec<_> = config.bgp.unwrap().neighbors.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["up", "fe80::9%down"]);
}

/// Where a neighbour's AS is a public one and another's, what is not exchanged between ASes is refused.
#[test]
fn bogons_are_refused_of_whom_should_not_send_them() {
    for (asn, keys, refused) in [
        (3356, "", true),
        (3356, "bogons = \"accept\"", false),
        (65_002, "", false),
        (65_002, "bogons = \"refuse\"", true),
        (64_496, "", false),
        (4_200_000_000_u32, "", false),
        (174, "", false),
    ] {
        let text = format!(
            "[router]\nname = \"r1\"\nid = \"10.9.0.1\"\n\
             [[port]]\nname = \"up\"\ntun = \"up\"\naddresses = [\"10.9.0.1/24\"]\n\
             [bgp]\nas = 174\n[[bgp.neighbor]]\naddress = \"10.9.0.2\"\nas = {asn}\n{keys}\n"
        );
        let (config, _) = parse("r1.toml", &text).unwrap();
        assert_eq!(config.bgp.unwrap().neighbors[0].refuses_bogons, refused, "{asn} {keys}");
    }
}

/// Ranges may overlap; of two that are the same nobody knows which counts.
#[test]
fn mistakes_about_ranges_of_neighbors_are_shown_where_they_stand() {
    let file = |neighbors: &[&str]| {
        let neighbor = |keys: &&str| {
            format!("[[bgp.neighbor]]\nas = 65002\nimport = \"all\"\nexport = \"none\"\n{keys}\n")
        };
        format!(
            "[router]\nname = \"r1\"\nid = \"10.9.0.1\"\n\
             [[port]]\nname = \"up\"\ntun = \"up\"\naddresses = [\"10.9.0.1/24\"]\n\
             [bgp]\nas = 65001\n{}",
            neighbors.iter().map(neighbor).collect::<String>()
        )
    };
    let rack = "range = \"10.9.0.0/24\"";
    let (config, _) =
        parse("r1.toml", &file(&[rack, "range = \"10.9.0.64/26\"\nlimit = 7"])).unwrap();
    let bgp = config.bgp.unwrap();
    assert!(bgp.neighbors.is_empty());
    let all: Vec<_> = bgp.ranges.iter().map(|one| (&*one.template.name, one.limit)).collect();
    assert_eq!(all, [("10.9.0.0/24", 100), ("10.9.0.64/26", 7)]);
    assert!(bgp.ranges[0].template.passive);
    for (neighbors, wanted, at) in [
        (
            &[rack, "name = \"other\"\nrange = \"10.9.0.0/24\""][..],
            "two neighbors have the range 10.9.0.0/24",
            "r1.toml:20:9",
        ),
        (
            &["range = \"10.9.0.0/24\"\naddress = \"10.9.0.2\""],
            "a neighbor has an address or a range",
            "r1.toml:14:9",
        ),
        (&["address = \"10.9.0.2\"\nlimit = 3"], "limit is of ranges", "r1.toml:15:9"),
        (&["range = \"10.9.0.1/24\""], "10.9.0.1/24 is not a canonical prefix", "r1.toml:14:"),
        (&["range = \"10.8.0.0/16\""], "10.8.0.0/16 is in no port's network", "r1.toml:14:9"),
        (&["range = \"10.0.0.0/8\""], "10.0.0.0/8 is in no port's network", "r1.toml:14:9"),
        (&["range = \"fe80::/64\""], "fe80::/64 has no address of a neighbor", "r1.toml:14:9"),
        (
            &["range = \"10.0.0.0/8\"\nmultihop = 2\nlocal-address = \"10.9.0.7\""],
            "10.9.0.7 is not an address of this router",
            "r1.toml:16:17",
        ),
        (&["range = \"10.9.0.0/24\"\nlimit = 0"], "limit", "r1.toml:15:"),
    ] {
        let found = parse("r1.toml", &file(neighbors)).unwrap_err().to_string();
        assert!(found.contains(wanted) && found.contains(at), "{wanted}, {at}: {found}");
    }
    let far = "range = \"10.0.0.0/8\"\nmultihop = 2\nlocal-address = \"10.9.0.1\"";
    assert!(parse("r1.toml", &file(&[far])).is_ok());
}

#[test]
fn of_very_many_mistakes_the_first_are_shown_and_the_others_counted() {
    let text = format!("[router]\nname = \"r1\"\n{}", "[[port]]\nname = \"P\"\n".repeat(20_000));
    let errors = parse("r1.toml", &text).unwrap_err();
    let more = errors.mistakes.len() - 50;
    assert!(more > 30_000);
    for said in [errors.render(Style::PLAIN), errors.to_string()] {
        assert!(said.trim_end().ends_with(&format!("... and {more} more errors")), "{said}");
        assert_eq!(said.matches("r1.toml:").count(), 50);
    }
}

/// Terminals act on ESC, DEL and C1; text of the other direction hides what a line says.
#[test]
fn what_is_said_of_a_file_has_nothing_that_a_terminal_acts_on() {
    let bad = "\u{9b}2J\u{202e}x\u{85}\u{2028}";
    let escaped = "\\u001b[2J\\u007f";
    for text in [
        format!("[router]\nname = \"{bad}\"\n"),
        format!("[router]\nname = \"{escaped}\"\n"),
        format!("[router]\nname = \"r\" # {bad}\n[[port]]\nname = \"p\"\ntun = \"{bad}\"\n"),
        format!("[router]\nname = \"r\"\n\"{escaped}{bad}\" = 5\n"),
        format!("[router]\nname = \"r\"\nid = \"{escaped}{bad}\"\n"),
        format!("[router]\nname = \"r\"\n[[service]]\nname = \"s\"\naffinity = \"{bad}\"\n"),
        format!(
            "[router]\nname = \"r\"\n[[route]]\nprefix = \"10.0.0.0/8\"\nvia = \"{escaped}\"\n"
        ),
        "[router]\nname = \"r\" \u{1b}[2J\n".to_owned(),
    ] {
        let errors = parse(&format!("{bad}\u{1b}.toml"), &text).unwrap_err();
        for said in [errors.render(Style::PLAIN), errors.to_string()] {
            let acts = said.chars().find(|&c| c != '\n' && nearhop::printable::is_unprintable(c));
            assert_eq!(acts, None, "{said:?}");
        }
    }
}
