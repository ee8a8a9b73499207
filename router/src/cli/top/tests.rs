//! Computing rates from counters.

use super::*;

fn look(at_ms: u64, noun: &str, items: &Value) -> CounterSample {
    let mut look = CounterSample { at: Nanos(at_ms * 1_000_000), counters: BTreeMap::new() };
    look.add(noun, &json!({ "items": items }));
    look
}

/// The output of `top --json` for these documents of `show`, one second after all counters were 0.
pub(crate) fn document(shown: &[(&str, Value)]) -> Value {
    let mut now = CounterSample { at: Nanos(1_000_000_000), counters: BTreeMap::new() };
    for noun in NOUNS {
        let (_, document) = shown.iter().find(|(name, _)| *name == noun).unwrap();
        now.add(noun, document);
    }
    let before = CounterSample { at: Nanos(0), counters: BTreeMap::new() };
    super::document(&now.rates_since(&before))
}

#[test]
fn rates_are_differences_over_the_time_between_two_samples() {
    let port = |rx: u64, tx: u64| json!([{ "port": "fra", "rx_packets": rx, "tx_packets": tx }]);
    let (before, after) = (look(0, "ports", &port(100, 7)), look(500, "ports", &port(600, 7)));
    let rates = after.rates_since(&before);
    assert_eq!(rates.len(), 1);
    assert_eq!(rates[0]["rx_packets_per_s"], 1000);
    assert_eq!(rates[0]["tx_packets_per_s"], 0);
    let restarted = look(1000, "ports", &port(5, 5)).rates_since(&after);
    assert_eq!(restarted[0]["rx_packets_per_s"], 0, "never below 0");
}

#[test]
fn legs_are_added_up_by_service_and_by_site_each_family_apart_and_the_busiest_comes_first() {
    let legs = |ams: u64, fra: u64| {
        json!([
            { "service": "dns", "site": "ams", "family": "ipv4", "port": "a", "packets": ams },
            { "service": "dns", "site": "fra", "family": "ipv4", "port": "b", "packets": fra },
            { "service": "dns", "site": "fra", "family": "ipv4", "port": "c", "packets": fra },
            { "service": "dns", "site": "fra", "family": "ipv6", "port": "b", "packets": 7 * fra },
            { "service": "web", "site": "ams", "family": "ipv4", "port": "a", "packets": 0 },
        ])
    };
    let (before, after) = (look(0, "services", &legs(0, 0)), look(1000, "services", &legs(10, 20)));
    let rates: Vec<_> = after
        .rates_since(&before)
        .iter()
        .map(|item| {
            [&item["name"], &item["family"], &item["site"], &item["packets_per_s"]]
                .map(Clone::clone)
        })
        .collect();
    let want = [
        json!(["dns", "ipv6", null, 140]),
        json!(["dns", "ipv4", null, 50]),
        json!(["fra of dns", "ipv6", "fra", 140]),
        json!(["fra of dns", "ipv4", "fra", 40]),
        json!(["ams of dns", "ipv4", "ams", 10]),
    ];
    assert_eq!(json!(rates), json!(want));
}

/// A packet of 9000 bytes is one packet: bytes do not make a port busier.
#[test]
fn the_busiest_is_the_one_with_most_packets() {
    let ports = |small: u64, large: u64| {
        json!([
            { "port": "small", "rx_packets": small, "rx_bytes": small * 64 },
            { "port": "large", "rx_packets": large, "rx_bytes": large * 9_000 },
        ])
    };
    let rates = look(1000, "ports", &ports(20, 10)).rates_since(&look(0, "ports", &ports(0, 0)));
    assert_eq!(rates.iter().map(|item| &item["port"]).collect::<Vec<_>>(), ["small", "large"]);
}
