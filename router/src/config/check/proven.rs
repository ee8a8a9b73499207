//! Checks of by what services are announced: what is to be proven has to be provable.
#![forbid(unsafe_code)]

use ipnetwork::IpNetwork;
use toml::Spanned;

use super::{bfd, family, is_link_local, is_v6};
use crate::config::finding::Finding;
use crate::config::model::AnnounceWhen;
use crate::config::raw::{RawBgp, RawConfig, RawNeighbor, RawPort, RawService};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    for service in &raw.services {
        let when = service.announce.when.as_ref();
        let word = when.map_or(AnnounceWhen::default(), |when| *when.get_ref());
        waits_for_something(service, word, report);
        if let Some(when) = when.filter(|_| word == AnnounceWhen::Proven) {
            somebody_answers(service, when, report);
            if let Some(bgp) = &raw.bgp {
                packets_can_be_sent(raw, bgp, (service, when), report);
            }
        }
        if let (AnnounceWhen::Always, Some(needed)) = (word, &service.announce.min_sites) {
            let finding = Finding::warning("min-sites has no effect")
                .at(needed.span(), "announce = \"always\" asks for no site");
            report.add(finding);
        }
    }
}

fn waits_for_something(service: &RawService, word: AnnounceWhen, report: &Report) {
    if let Some(wait) = &service.announce.prove_timeout
        && word != AnnounceWhen::Proven
    {
        let finding = Finding::mistake("prove-timeout is of services that are to be proven")
            .at(wait.span(), "this one is not")
            .help("write announce = \"proven\"");
        report.add(finding);
    }
}

fn somebody_answers(service: &RawService, when: &Spanned<AnnounceWhen>, report: &Report) {
    if service.sites.is_empty() {
        let finding = Finding::mistake("a service without sites is never proven")
            .at(when.span(), "nobody answers")
            .help("add a [[service.site]]");
        report.add(finding);
    }
}

/// Each neighbor that hears of it is on a port, and the router has an address for answers.
fn packets_can_be_sent(
    raw: &RawConfig,
    bgp: &RawBgp,
    (service, when): (&RawService, &Spanned<AnnounceWhen>),
    report: &Report,
) {
    let Some(name) = &service.name else { return };
    for neighbor in bgp.neighbors.iter().filter(|one| one.hears_of(name.get_ref())) {
        if let Some(hops) = &neighbor.multihop {
            let text = format!("{:?} cannot be proven", name.get_ref());
            let finding = Finding::mistake(text)
                .at(when.span(), "by packets from the port of each neighbor that hears of it")
                .at(hops.span(), "those from this one come in by no port of its own")
                .help("announce it to this neighbor as another service, or write \"healthy\"");
            report.add(finding);
            continue;
        }
        let Some(port) = port_of(raw, neighbor) else { continue };
        for v6 in [false, true] {
            let has = service.prefixes.iter().any(|prefix| is_v6(*prefix.get_ref()) == v6);
            if has && !has_address(raw, port, v6) {
                let (name, family) = (name.get_ref(), family(v6));
                let finding = Finding::mistake(format!("{name:?} cannot be proven for {family}"))
                    .at(when.span(), "requests come from an address of the router")
                    .at(
                        port.span.clone(),
                        format!("neither this port nor [router] has an {family} one"),
                    )
                    .help("give one of them an address");
                report.add(finding);
            }
        }
    }
}

/// The port of a neighbor's link, if that can be told.
fn port_of<'a>(raw: &'a RawConfig, neighbor: &RawNeighbor) -> Option<&'a RawPort> {
    let addresses = [&neighbor.local_address, &neighbor.address];
    let of_range = neighbor.range.as_ref().map(|range| range.get_ref().addr());
    let address = addresses.into_iter().flatten().map(|one| *one.get_ref()).next().or(of_range);
    if let Some(name) = &neighbor.port {
        let is_it = |port: &&RawPort| port.known_as.as_deref() == Some(name.get_ref().as_str());
        return raw.ports.iter().find(is_it);
    }
    bfd::port_of(raw, address?)
}

fn has_address(raw: &RawConfig, port: &RawPort, v6: bool) -> bool {
    let mut own = port.addresses.iter().chain(&raw.router.addresses).map(Spanned::get_ref);
    own.any(|net: &IpNetwork| net.is_ipv6() == v6 && !is_link_local(net.ip()))
}

#[cfg(test)]
mod tests {
    use crate::config::check::announce::tests::{file, said};

    #[test]
    fn what_is_to_be_proven_has_to_be_provable() {
        let external = "as = 65002";
        for (service, neighbor, says) in [
            ("announce = \"proven\"\nprove-timeout = \"1s\"", external, ""),
            ("announce = \"always\"", external, ""),
            ("announce = \"often\"", external, "expected one of: always, healthy, proven"),
            ("announce = \"proven\"\nprove-timeout = \"900ms\"", external, "expected 1s to 10min"),
            ("prove-timeout = \"2s\"", external, "prove-timeout is of services that are to be"),
            ("announce = \"always\"\nmin-sites = 1", external, "min-sites has no effect"),
            ("announce = \"proven\"", "as = 65002\nmultihop = 2", "\"dns\" cannot be proven"),
        ] {
            let drawn = said(&file(service, neighbor));
            let is_said = if says.is_empty() { drawn.is_empty() } else { drawn.contains(says) };
            assert!(is_said, "{service} {neighbor}: {drawn}");
        }
        let text = file("announce = \"proven\"", external);
        let v6 = text.replace("\"198.51.100.53/32\"", "\"2001:db8::53/128\"");
        assert!(
            said(&v6).contains("neither this port nor [router] has an IPv6 one"),
            "{}",
            said(&v6)
        );
        let with_one = v6.replace("id = ", "addresses = [\"2001:db8:9::1/128\"]\nid = ");
        assert_eq!(said(&with_one), "");
        let site = text.find("[[service.site]]").unwrap();
        let bgp = text.find("[bgp]").unwrap();
        let without = format!("{}{}", &text[..site], &text[bgp..]);
        assert!(said(&without).contains("a service without sites is never proven"));
    }
}
