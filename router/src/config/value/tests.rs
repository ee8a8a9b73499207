use proptest::prelude::*;

use super::*;

fn said<T: std::fmt::Debug>(result: Result<T, ValueError>) -> String {
    result.unwrap_err().into_finding("key", 0..0).to_string()
}

#[test]
fn durations_have_a_unit_and_lose_nothing() {
    for (text, nanos) in [
        ("250us", 250_000),
        ("50ms", 50_000_000),
        ("50 ms", 50_000_000),
        ("1s", 1_000_000_000),
        ("1.5s", 1_500_000_000),
        ("0.000000001s", 1),
        ("2min", 120_000_000_000),
        ("0ms", 0),
    ] {
        assert_eq!(duration(text).unwrap(), Duration::from_nanos(nanos), "{text}");
    }
    for bad in
        ["", "50", "ms", "-1s", "1e3s", "1.2.3s", "1m", "50 m s", "99999999999h", "1.s", ".5s"]
    {
        assert!(duration(bad).is_err(), "{bad}");
    }
    assert!(said(duration("50")).contains("did you mean \"50ms\"?"));
}

#[test]
fn rates_are_packets_a_second() {
    assert_eq!(capacity("5000 packets/s").unwrap().packets_per_second, 5_000);
    for bad in ["5000", "0 packets/s", "-1 packets/s", "5 mbit/s", "packets/s", "1e3 packets/s"] {
        assert!(capacity(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_are_fit_for_files_labels_and_urls() {
    for good in ["r1", "a", "fra.de_1-x", "9lives"] {
        assert_eq!(name(good).unwrap(), good);
    }
    for (bad, help) in [("FRA", "\"fra\""), ("a b", "\"a-b\""), ("-x", "\"x\""), ("é1", "\"1\"")] {
        let said = said(name(bad));
        assert!(said.contains(help), "{said}");
    }
    assert!(name("").is_err() && name(&"x".repeat(64)).is_err());
}

#[test]
fn prefixes_are_canonical_and_say_their_length() {
    assert!(prefix("10.0.0.0/8").is_ok() && prefix("::/0").is_ok());
    for (bad, says) in [
        ("10.0.0.1/8", "the prefix is \"10.0.0.0/8\""),
        ("2001:db8::1/32", "the prefix is \"2001:db8::/32\""),
        ("198.51.100.53", "write \"198.51.100.53/32\""),
        ("10.0.0.0/33", "\"10.0.0.0/33\" is not a prefix"),
        ("dns", "\"dns\" is not a prefix: expected ADDRESS/LENGTH"),
    ] {
        let said = said(prefix(bad));
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn interface_addresses_are_those_a_host_can_bear() {
    for good in ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.1/32", "fd00:1::1/64", "fe80::1/64"] {
        assert_eq!(interface_address(good).unwrap().to_string(), good);
    }
    for (bad, says) in [
        ("10.0.0.1", "\"10.0.0.1/24\""),
        ("fd00::1", "\"fd00::1/64\""),
        ("10.0.0.0/24", "network address of 10.0.0.0/24"),
        ("10.0.0.255/24", "broadcast address of 10.0.0.0/24"),
        ("127.0.0.1/8", "loopback"),
        ("224.0.0.1/24", "multicast"),
        ("240.0.0.1/24", "reserved"),
        ("::/64", "unspecified"),
        ("::ffff:10.0.0.1/120", "IPv4-mapped"),
        ("10.0.0.1/33", "must be 0 to 32, found \"33\""),
        ("fra", "\"fra\" is not an address"),
    ] {
        let said = said(interface_address(bad));
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn the_routers_own_addresses_stand_alone() {
    assert_eq!(own_address("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
    assert_eq!(own_address("2001:db8::1/128").unwrap().to_string(), "2001:db8::1/128");
    assert!(said(own_address("192.0.2.1/24")).contains("write \"192.0.2.1/32\""));
    assert!(said(own_address("::")).contains("unspecified"));
}

proptest! {
    #[test]
    fn a_shown_duration_reads_back(nanos in 0..100_000_000_000_000_u64) {
        let span = Duration::from_nanos(nanos);
        prop_assert_eq!(duration(&show_duration(span)).unwrap(), span);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in any::<String>()) {
        let _ = (duration(&text), capacity(&text), name(&text), prefix(&text));
        let _ = (interface_address(&text), own_address(&text));
    }
}
