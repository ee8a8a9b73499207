//! The output of `nearhop check`: every mistake at once, each with its position.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::{Path, PathBuf};

use nearhop::batch::Exit;
use nearhop::config::model::Via;
use nearhop::config::{Config, ConfigErrors, Finding, Style, diff, parse, parse_bytes};
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
