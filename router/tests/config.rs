//! The output of `nearhop check`: every mistake at once, each with its position.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::{Path, PathBuf};

use nearhop::batch::Exit;
use nearhop::config::model::Via;
use nearhop::config::{Config, ConfigErrors, Finding, Style, diff, load, parse, parse_bytes};
use nearhop::policy::CheckKind;
use nearhop::probe::{CheckSpec, Prober};
use nearhop::time::Nanos;
use proptest::prelude::*;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config").join(name)
}

fn read(name: &str) -> Result<(Config, Vec<Finding>), ConfigErrors> {
    parse(name, &std::fs::read_to_string(testdata(name)).unwrap())
}

#[test]
fn every_mistake_of_a_broken_file_is_shown_at_once() {
    let errors = read("broken.toml").unwrap_err();
    assert!(errors.mistakes.len() >= 15);
    let all = errors.mistakes.iter().chain(&errors.warnings);
    let drawn: Vec<_> = all.map(|finding| finding.render(Style::PLAIN)).collect();
    insta::assert_snapshot!(drawn.join("\n"));
}

#[test]
fn what_is_not_available_yet_is_refused_by_name() {
    let errors = read("later.toml").unwrap_err();
    assert!(errors.mistakes.iter().all(|m| m.message().ends_with("is not available yet")));
    insta::assert_snapshot!(errors.to_string());
}

/// The example of the design: its only mistakes are features that this release lacks.
#[test]
fn the_contract_is_known_to_its_last_key() {
    let errors = read("contract.toml").unwrap_err();
    let available = |m: &&Finding| !m.message().ends_with("is not available yet");
    assert_eq!(errors.mistakes.iter().find(available).map(ToString::to_string), None);
}

#[test]
fn text_that_is_not_toml_hides_no_other_mistake_and_invents_none() {
    insta::assert_snapshot!(read("syntax.toml").unwrap_err().to_string());
}

#[test]
fn warnings_are_shown_but_refuse_nothing() {
    let (_, warnings) = read("warnings.toml").unwrap();
    let drawn: Vec<_> = warnings.iter().map(|w| w.render(Style::PLAIN)).collect();
    insta::assert_snapshot!(drawn.join("\n"));
}

#[test]
fn every_documented_key_is_accepted() {
    let (config, warnings) = read("full.toml").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    insta::assert_debug_snapshot!(config);
}

#[test]
fn defaults_are_those_documented() {
    let text = r#"
        [router]
        name = "r1"
        [[port]]
        name = "fra"
        tun = "nh-fra"
        addresses = ["10.1.0.1/24"]
        [[service]]
        name = "dns"
        prefixes = ["198.51.100.53/32"]
        [[service.site]]
        name = "fra"
        via = "fra"
        health = [{ icmp = {} }, { udp = { port = 7 } }, { tcp = { port = 7 } }, { dns = { name = "." } }]
    "#;
    let (config, _) = parse("r1.toml", text).unwrap();
    let service = &config.services[0];
    let site = &service.sites[0];
    assert_eq!(config.ports[0].mtu, 1500);
    assert_eq!(service.latency_unit.unwrap().as_millis(), 1);
    assert_eq!((site.cost, site.weight, site.preference), (10, 1, 100));
    assert_eq!(site.via, [Via::Port("fra".into())]);
    let intervals: Vec<_> = site.health.iter().map(|c| c.interval.as_millis()).collect();
    assert_eq!(intervals, [10, 10, 100, 100]);
    assert!(site.health.iter().all(|c| (c.fall, c.rise, c.initial_up) == (3, 5, false)));
    let dns = CheckKind::Dns { port: 53, name: ".".into() };
    assert_eq!(site.health[3].kind, dns);
}

/// One site with `checks` by 32 links in two families: 64 checks each.
fn many_checks(checks: &str) -> String {
    let router = "[router]\nname = \"r1\"\naddresses = [\"fd00::1/128\"]\n";
    let names: Vec<String> = (0..32).map(|index| format!("p{index}")).collect();
    let ports = names.iter().enumerate().map(|(index, name)| {
        let address = format!("addresses = [\"10.0.{index}.1/24\"]");
        format!("[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\n{address}\n")
    });
    let text = router.to_owned() + &ports.collect::<String>();
    text + &format!(
        "[[service]]\nname = \"dns\"\nprefixes = [\"198.51.100.53/32\", \"2001:db8:53::53/128\"]\n\
         [[service.site]]\nname = \"fra\"\nvia = {names:?}\nhealth = [\n{checks}]\n"
    )
}

#[test]
fn more_checks_than_can_be_done_are_refused_where_they_begin() {
    let echo = "{ icmp = {} },\n";
    let fits = many_checks(&echo.repeat(256));
    assert!(parse("r1.toml", &fits).is_ok(), "16,384 are the most");
    let tcp = many_checks(&(echo.repeat(256) + "{ tcp = { port = 80 } },\n"));
    assert!(parse("r1.toml", &tcp).is_ok(), "the host stack does those");
    let errors = parse("r1.toml", &many_checks(&echo.repeat(258))).unwrap_err();
    let [error] = &errors.mistakes[..] else { panic!("{errors}") };
    let line = fits.lines().position(|line| line == "health = [").unwrap() + 1;
    assert_eq!(error.position(), Some((line + 257, 1)));
    assert!(error.message().starts_with("16512 checks"), "{error}");
    // In one family: half as many.
    let one = "{ icmp = {}, target = \"10.9.9.9\" },\n";
    assert!(parse("r1.toml", &many_checks(&one.repeat(512))).is_ok());
    assert!(parse("r1.toml", &many_checks(&one.repeat(513))).is_err());
}

/// The prober accepts every check that the reader accepts: a check that cannot be added would leave
/// its site without an outcome.
#[test]
fn the_largest_of_every_check_can_be_done() {
    let name = [&*"a".repeat(63), &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
    let payload = "x".repeat(1_200);
    let checks = format!(
        "{{ dns = {{ name = \"{name}\" }} }},\n{{ dns = {{ name = \".\" }} }},\n\
         {{ udp = {{ port = 7, payload = \"{payload}\" }} }},\n"
    );
    let (config, _) = parse("r1.toml", &many_checks(&checks)).unwrap();
    let mut prober = Prober::new(1);
    for check in &config.services[0].sites[0].health {
        for address in ["198.51.100.53", "2001:db8:53::53"] {
            let target = address.parse().unwrap();
            let spec = CheckSpec {
                kind: check.kind.clone(),
                exit: Exit::default(),
                source: target,
                target,
                interval: check.interval,
                fall: check.fall,
                rise: check.rise,
                initial_up: check.initial_up,
            };
            assert!(prober.add(Nanos(1), spec).is_ok(), "{check:?}");
        }
    }
    for too_much in [
        format!("{{ dns = {{ name = \"{name}d\" }} }}"),
        "{ dns = { name = \"a..b\" } }".to_owned(),
        format!("{{ udp = {{ port = 7, payload = \"{payload}x\" }} }}"),
    ] {
        assert!(parse("r1.toml", &many_checks(&too_much)).is_err(), "{too_much}");
    }
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let missing = load(Path::new("/nonexistent/r1.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read /nonexistent/r1.toml: No such file"), "{missing}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r1.toml");
    std::fs::write(&path, b"[router]\nname = \"\xff\"\n").unwrap();
    let errors = load(&path).unwrap_err();
    assert_eq!(errors.mistakes[0].position(), Some((2, 9)));
    assert!(errors.render(Style::PLAIN).contains("\\xff is not a character"), "{errors}");
    std::fs::write(&path, [0; 1000]).unwrap();
    let errors = load(&path).unwrap_err();
    assert_eq!(errors.mistakes[0].message(), "the file is not text");
    // Whatever stands there, reading it ends.
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let large = dir.path().join("large.toml");
    std::fs::File::create(&large).unwrap().set_len(200 << 20).unwrap();
    for (path, says) in [
        (&*fifo, "found a pipe"),
        (Path::new("/dev/zero"), "found a device"),
        (dir.path(), "found a directory"),
        (&*large, "expected at most 67108864 bytes, found 209715200 bytes"),
    ] {
        let error = load(path).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        let routes = format!("[[routes]]\nfile = {path:?}\n");
        let of_routes = load_with_routes(&routes, b"").err().map(|errors| errors.to_string());
        if path != large {
            assert!(of_routes.as_ref().is_some_and(|error| error.contains(says)), "{of_routes:?}");
        }
    }
    let file = std::fs::File::options().write(true).open(&large).unwrap();
    file.set_len(nearhop::route_file::TEXT_MAX + 1).unwrap();
    let errors = load_with_routes(&format!("[[routes]]\nfile = {large:?}\n"), b"").unwrap_err();
    assert!(errors.to_string().contains("expected at most 536870912 bytes"), "{errors}");
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

/// A configuration with a port `fra`, and this behind it, in a folder with a file of routes.
fn load_with_routes(more: &str, routes: &[u8]) -> Result<(Config, Vec<Finding>), ConfigErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r1.toml");
    let head = "[router]\nname = \"r1\"\naddresses = [\"192.0.2.1\"]\n[[port]]\nname = \"fra\"\n\
                tun = \"nh-fra\"\naddresses = [\"10.1.0.1/24\"]\n";
    std::fs::write(&path, format!("{head}{more}")).unwrap();
    std::fs::write(dir.path().join("table.txt"), routes).unwrap();
    load(&path)
}

const TABLE: &str = "[[routes]]\nfile = \"table.txt\"\n";

#[test]
fn a_file_of_routes_is_read_beside_the_configuration() {
    let text = "# comment\n10.9.0.0/16 fra\n2001:db8::/32\tblackhole\n\n10.8.0.0/16 fra\n\
                10.8.0.0/16 10.1.0.2 # the last counts\n";
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    for bytes in [text.as_bytes(), &packed] {
        let (config, warnings) = load_with_routes(TABLE, bytes).unwrap();
        let told: Vec<_> = warnings.iter().map(Finding::message).collect();
        assert_eq!(told, [""; 0]);
        let [file] = &config.route_files[..] else { panic!("{:?}", config.route_files) };
        assert_eq!(file.name, "table.txt");
        let routes: Vec<String> = file.routes.iter().map(|(p, to)| format!("{p} {to:?}")).collect();
        assert_eq!(
            routes,
            [
                "10.8.0.0/16 Via([Address(10.1.0.2)])",
                "10.9.0.0/16 Via([Port(\"fra\")])",
                "2001:db8::/32 Blackhole",
            ]
        );
    }
    // A reload says what differs in it, route by route.
    let (old, _) = load_with_routes(TABLE, text.as_bytes()).unwrap();
    let (new, _) = load_with_routes(TABLE, b"10.9.0.0/16 prohibit\n10.7.0.0/16 fra\n").unwrap();
    assert_eq!(
        diff(&old, &new),
        [
            "+ routes table.txt route 10.7.0.0/16: fra",
            "- routes table.txt route 10.8.0.0/16: 10.1.0.2",
            "~ routes table.txt route 10.9.0.0/16: via fra -> prohibit",
            "- routes table.txt route 2001:db8::/32: blackhole",
        ]
    );
}

#[test]
fn one_wrong_line_of_many_refuses_a_file_of_routes_and_is_named() {
    let mut text = String::new();
    for n in 0..100_000_u32 {
        let prefix = std::net::Ipv4Addr::from_bits(0x6440_0000 + n);
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{prefix}/32 fra\n"));
    }
    for (wrong, says, help) in [
        ("100.64.0.1/24 fra", "host bits are set", None),
        ("10.9.0.0/16 frs", "\"frs\" is not a port", Some("did you mean \"fra\"?")),
        (
            "10.9.0.0/16 10.1.0.256",
            "is not a port",
            Some("the fourth number, \"256\", is above 255"),
        ),
        ("10.9.0.0/16", "found one word", None),
        ("224.0.0.0/4 fra", "cannot be forwarded", Some("multicast addresses are never forwarded")),
    ] {
        let text = text.replacen("100.65.0.7/32 fra", wrong, 1);
        let errors = load_with_routes(TABLE, text.as_bytes()).unwrap_err();
        let [mistake] = &errors.mistakes[..] else { panic!("{errors}") };
        assert!(mistake.file().unwrap().ends_with("table.txt"), "{errors}");
        assert_eq!(mistake.position(), Some((65_536 + 8, 1)), "{errors}");
        assert!(mistake.message().contains(says), "{errors}");
        assert_eq!(mistake.help_text(), help, "{errors}");
        let drawn = errors.render(Style::PLAIN);
        assert!(drawn.contains("65544 |") && drawn.contains(wrong), "{drawn}");
    }
    // Of very many, the first ones.
    let errors = load_with_routes(TABLE, "nonsense\n".repeat(1000).as_bytes()).unwrap_err();
    assert_eq!(errors.mistakes.len(), 10);
    let errors = load_with_routes("[[routes]]\nfile = \"gone.txt\"\n", b"").unwrap_err();
    assert!(errors.to_string().contains("gone.txt: No such file"), "{errors}");
    let twice = format!("{TABLE}{TABLE}");
    let errors = load_with_routes(&twice, b"").unwrap_err();
    assert!(errors.to_string().contains("two route files are named"), "{errors}");
}

#[test]
fn next_hops_that_lead_back_to_themselves_are_refused_and_others_to_nowhere_told() {
    let route =
        |prefix: &str, via: &str| format!("[[route]]\nprefix = \"{prefix}\"\nvia = \"{via}\"\n");
    let good = route("10.9.0.0/16", "10.1.0.2") + &route("10.8.0.0/16", "10.9.0.1");
    let (_, warnings) = load_with_routes(&good, b"").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let looped = route("10.9.0.0/16", "10.8.0.1") + &route("10.8.0.0/16", "10.9.0.1");
    let errors = load_with_routes(&looped, b"").unwrap_err();
    let told: Vec<_> = errors.mistakes.iter().map(Finding::message).collect();
    let each = ["next hop 10.8.0.1 leads back to itself", "next hop 10.9.0.1 leads back to itself"];
    assert_eq!(told, each);
    let of_file =
        load_with_routes(&(route("10.9.0.0/16", "10.8.0.1") + TABLE), b"10.8.0.0/16 10.9.0.1");
    assert!(of_file.is_err(), "also by way of a file");
    for (via, why) in [
        ("10.77.0.1", "no route but a default route leads to it"),
        ("192.0.2.1", "it is the router's own address"),
    ] {
        let text = route("0.0.0.0/0", "fra") + &route("10.9.0.0/16", via);
        let (_, warnings) = load_with_routes(&text, b"").unwrap();
        let drawn: String = warnings.iter().map(|warning| warning.render(Style::PLAIN)).collect();
        assert!(drawn.contains(&format!("next hop {via} leads nowhere")), "{drawn}");
        assert!(drawn.contains(why), "{drawn}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        exercise(&text);
    }

    #[test]
    fn no_soup_of_toml_makes_the_reader_panic(words in prop::collection::vec(word(), 0..60)) {
        exercise(&words.concat());
    }

    #[test]
    fn no_edit_of_a_good_file_makes_the_reader_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, word()), 1..6),
        file in prop::sample::select(vec!["full.toml", "broken.toml", "later.toml"]),
    ) {
        let mut text = std::fs::read_to_string(testdata(file)).unwrap();
        for (at, len, word) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary(start + len).max(start);
            text.replace_range(start..end, &word);
        }
        exercise(&text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>()) {
        if let Err(errors) = parse_bytes("fuzz.toml", &bytes) {
            errors.render(Style::PLAIN);
        }
    }
}

/// Reads a file, and renders all findings, also for a narrow terminal.
fn exercise(text: &str) {
    let findings = match parse("fuzz.toml", text) {
        Ok((config, warnings)) => {
            assert_eq!(diff(&config, &config), Vec::<String>::new());
            warnings
        }
        Err(errors) => {
            assert!(!errors.mistakes.is_empty());
            errors.mistakes.into_iter().chain(errors.warnings).collect()
        }
    };
    for finding in findings {
        let (line, _) = finding.position().unwrap();
        assert!(line <= text.split('\n').count());
        assert!(finding.render(Style { color: true, width: 0 }).contains("fuzz.toml"));
    }
}

fn word() -> impl Strategy<Value = String> {
    let words: Vec<String> = WORDS.iter().map(ToString::to_string).collect();
    prop_oneof![
        prop::sample::select(words),
        "[a-z\"=\\[\\]{}., \n0-9é]{0,6}",
        any::<i64>().prop_map(|n| n.to_string())
    ]
}

const WORDS: [&str; 40] = [
    "[router]\n",
    "[[port]]\n",
    "[[route]]\n",
    "[[service]]\n",
    "[[service.site]]\n",
    "[api]\n",
    "[bgp]\n",
    "name = ",
    "tun = ",
    "netns = ",
    "addresses = ",
    "prefixes = ",
    "prefix = ",
    "via = ",
    "health = ",
    "icmp = ",
    "udp = ",
    "tcp = ",
    "dns = ",
    "port = ",
    "interval = ",
    "mtu = ",
    "latency-unit = ",
    "capacity = ",
    "target = ",
    "workers = ",
    "\"fra\"",
    "\"10.0.0.1/24\"",
    "\"::/0\"",
    "\"50ms\"",
    "\"off\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\n",
    "{}",
    "\"\"",
    "\r\n",
];

#[test]
fn peer_routes_are_of_families_that_the_port_has_and_of_one_port_in_a_namespace() {
    let port = |name: &str, rest: &str| {
        format!("[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\n{rest}\n")
    };
    let mistakes = |text: &str| match parse("r.toml", &format!("[router]\nname = \"r\"\n{text}")) {
        Ok((config, _)) => {
            let routes = config.ports.iter().flat_map(|port| &port.peer_routes);
            routes.map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        Err(errors) => errors.mistakes.iter().map(|one| one.message().to_owned()).collect(),
    };
    let v4 = "addresses = [\"10.0.0.1/24\"]\n";
    let both = "addresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n";
    let default = "peer-routes = \"default\"";
    let peer = "peer-addresses = [\"fd00::2/64\"]\n";
    for (text, wanted) in [
        (port("a", &format!("{v4}{default}")), "0.0.0.0/0"),
        (port("a", &format!("{both}{default}")), "0.0.0.0/0 ::/0"),
        (port("a", &format!("{both}{peer}{default}")), "::/0"),
        (port("a", "peer-routes = [\"default\"]"), "peer-routes: \"default\" of no family"),
        (
            port("a", "peer-routes = [\"10.0.0.1/8\"]"),
            "peer-routes: 10.0.0.1/8 is not a canonical prefix",
        ),
        (port("a", "peer-routes = 5"), "peer-routes must be a list"),
        (
            port("a", "mtu = 1000\npeer-routes = [\"2001:db8::/32\"]"),
            "an MTU of 1000 is too small for IPv6",
        ),
        (
            [port("a", &format!("{v4}{default}")), port("b", "peer-routes = [\"0.0.0.0/0\"]")]
                .concat(),
            "0.0.0.0/0 is in peer-routes twice in one network namespace",
        ),
        (
            [
                port("a", &format!("{v4}{default}")),
                port("b", "netns = \"b\"\npeer-routes = [\"0.0.0.0/0\"]"),
            ]
            .concat(),
            "0.0.0.0/0 0.0.0.0/0",
        ),
    ] {
        assert_eq!(mistakes(&text), wanted, "{text}");
    }
}

/// What `ip link` would be refused with a bare "Invalid argument".
#[test]
fn names_that_the_kernel_cannot_take_are_mistakes() {
    let long = "n".repeat(256);
    for (keys, wanted) in [
        ("tun = \"all\"", "tun: no interface can be called \"all\""),
        ("tun = \"default\"", "tun: no interface can be called \"default\""),
        ("tun = \"lo\"", "tun: the device \"lo\" can be no port"),
        ("tun = \"voil\u{e0}\"", "tun: \"voil\u{e0}\" is not an interface name"),
        ("tun = \"a b\"", "tun: \"a b\" is not an interface name"),
        ("tun = \"t%d\"", "tun: \"t%d\" is not an interface name"),
        ("tun = \"sixteen-bytes-xx\"", "tun: an interface name cannot have 16 bytes"),
        (&format!("tun = \"t\"\nnetns = \"{long}\""), "netns: no file can have so long a name"),
        (
            &format!("tun = \"t\"\nnetns = \"/run/{long}\""),
            "netns: no file can have so long a name",
        ),
    ] {
        let text = format!(
            "[router]\nname = \"r\"\n[[port]]\nname = \"p\"\naddresses = [\"10.0.0.1/24\"]\n{keys}\n"
        );
        let errors = parse("r.toml", &text).unwrap_err();
        let messages: Vec<_> = errors.mistakes.iter().map(Finding::message).collect();
        assert_eq!(messages, [wanted], "{keys}");
    }
    let fine = "[router]\nname = \"r\"\n[[port]]\nname = \"p\"\ntun = \"z\u{fc}rich\"\n";
    assert!(parse("r.toml", fine).is_ok());
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
