//! Files that a configuration is read from: what cannot be read, files of routes beside it, and next hops that
//! routes of both lead to.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;

use nearhop::config::{Config, ConfigErrors, Finding, Style, diff, load};

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
