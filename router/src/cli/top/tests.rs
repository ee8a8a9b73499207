//! Computing rates from counters.

use serde_json::Value;

use super::*;

fn look(at_ms: u64) -> CounterSample {
    CounterSample { at: Nanos(at_ms * 1_000_000), counters: BTreeMap::new() }
}

/// The output of `top --json` for these rows, one second after all counters were 0.
pub(crate) fn document(
    ports: &[PortRow],
    verdicts: &[VerdictRow],
    services: &[ServiceRow],
) -> Value {
    let mut now = look(1_000);
    now.add_ports(ports);
    now.add_verdicts(verdicts);
    now.add_services(services);
    serde_json::from_str(&super::document(now.rates_since(&look(0))).unwrap()).unwrap()
}

fn port(name: &'static str, rx_packets: u64, rx_bytes: u64, tx_packets: u64) -> PortRow {
    PortRow { port: name.into(), rx_packets, rx_bytes, tx_packets, ..PortRow::default() }
}

#[test]
fn rates_are_differences_over_the_time_between_two_samples() {
    let sample = |at_ms, rx, tx| {
        let mut look = look(at_ms);
        look.add_ports(&[port("fra", rx, 0, tx)]);
        look
    };
    let after = sample(500, 600, 7);
    let rates = after.rates_since(&sample(0, 100, 7));
    assert_eq!(rates.len(), 1);
    assert_eq!(rates[0].rx_packets_per_s, Some(1000));
    assert_eq!(rates[0].tx_packets_per_s, Some(0));
    assert_eq!(rates[0].packets_per_s, None);
    let restarted = sample(1000, 5, 5).rates_since(&after);
    assert_eq!(restarted[0].rx_packets_per_s, Some(0), "never below 0");
}

#[test]
fn legs_are_added_up_by_service_and_by_site_each_family_apart_and_the_busiest_comes_first() {
    let legs = |at_ms, ams: u64, fra: u64| {
        let leg = |service: &'static str, site: &'static str, family: &'static str, packets| {
            let (service, site, family) = (service.into(), site.into(), family.into());
            ServiceRow { service, family, site, packets, ..ServiceRow::default() }
        };
        let mut look = look(at_ms);
        look.add_services(&[
            leg("dns", "ams", "ipv4", ams),
            leg("dns", "fra", "ipv4", fra),
            leg("dns", "fra", "ipv4", fra),
            leg("dns", "fra", "ipv6", 7 * fra),
            leg("web", "ams", "ipv4", 0),
        ]);
        look
    };
    let rates = legs(1000, 10, 20).rates_since(&legs(0, 0, 0));
    let rates: Vec<_> = rates
        .iter()
        .map(|row| {
            let of = row.of_service.as_ref().unwrap();
            (&*row.name, &*of.family, of.site.as_deref(), row.packets_per_s.unwrap())
        })
        .collect();
    let want = [
        ("dns", "ipv6", None, 140),
        ("dns", "ipv4", None, 50),
        ("fra of dns", "ipv6", Some("fra"), 140),
        ("fra of dns", "ipv4", Some("fra"), 40),
        ("ams of dns", "ipv4", Some("ams"), 10),
    ];
    assert_eq!(rates, want);
}

/// A packet of 9000 bytes is one packet: bytes do not make a port busier.
#[test]
fn the_busiest_is_the_one_with_most_packets() {
    let ports = |at_ms, small: u64, large: u64| {
        let mut look = look(at_ms);
        look.add_ports(&[
            port("small", small, small * 64, 0),
            port("large", large, large * 9_000, 0),
        ]);
        look
    };
    let rates = ports(1000, 20, 10).rates_since(&ports(0, 0, 0));
    assert_eq!(rates.iter().map(|row| &*row.name).collect::<Vec<_>>(), ["small", "large"]);
}
