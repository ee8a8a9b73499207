//! Checks of what is announced by BGP, and what is said of it.
#![forbid(unsafe_code)]

use toml::Spanned;

use super::no_twins;
use crate::bgp::Community;
use crate::config::finding::Finding;
use crate::config::raw::{RawAdditions, RawBgp, RawConfig, RawNeighbor};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    for service in &raw.services {
        additions(&service.additions, report);
        discards(&service.additions, report);
    }
    let Some(bgp) = &raw.bgp else { return };
    for aggregate in &bgp.aggregates {
        additions(&aggregate.additions, report);
        discards(&aggregate.additions, report);
    }
    for step in bgp.playbooks.iter().flat_map(|playbook| &playbook.steps) {
        additions(&step.additions, report);
        discards(&step.additions, report);
    }
    for neighbor in &bgp.neighbors {
        additions(&neighbor.terms.additions, report);
        discards(&neighbor.terms.additions, report);
        inside_or_outside(bgp, neighbor, report);
    }
}

/// What is added to announcements has to fit into a message, and each community counts once.
fn additions(raw: &RawAdditions, report: &Report) {
    let plain = raw.communities.iter().map(|one| (*one.get_ref(), one.span()));
    no_twins(plain, report, |one| format!("communities has {one} twice"));
    let large = raw.large_communities.iter().map(|one| (*one.get_ref(), one.span()));
    no_twins(large, report, |one| format!("large-communities has {one} twice"));
    let plain = raw.communities.iter().map(Spanned::span);
    let large = raw.large_communities.iter().map(Spanned::span);
    for (key, mut beyond) in [
        ("communities", Box::new(plain.skip(COMMUNITIES_MAX)) as Box<dyn Iterator<Item = _>>),
        ("large-communities", Box::new(large.skip(COMMUNITIES_MAX))),
    ] {
        if let Some(span) = beyond.next() {
            let finding = Finding::mistake(format!("{key} has too many"))
                .at(span, format!("expected at most {COMMUNITIES_MAX}"));
            report.add(finding);
        }
    }
}

/// RFC 7999: routers that know BLACKHOLE throw the packets of its prefix away.
fn discards(raw: &RawAdditions, report: &Report) {
    let is_one = |one: &&Spanned<Community>| *one.get_ref() == Community::BLACKHOLE;
    if let Some(one) = raw.communities.iter().find(is_one) {
        let finding = Finding::warning("what is announced with blackhole gets no packets")
            .at(one.span(), "neighbors that know RFC 7999 discard them");
        report.add(finding);
    }
}

/// Some attributes are for neighbors in the same AS, others for those in other ASes.
fn inside_or_outside(bgp: &RawBgp, neighbor: &RawNeighbor, report: &Report) {
    let (Some(own), Some(asn)) = (&bgp.asn, &neighbor.asn) else { return };
    let is_internal = own.get_ref() == asn.get_ref();
    let terms = &neighbor.terms;
    if let Some(prepend) = terms.additions.prepend.as_ref().filter(|_| is_internal) {
        let finding = Finding::mistake("nothing is prepended for a neighbor in the same AS")
            .at(prepend.span(), "it would refuse a path with its own AS as a loop")
            .help("write local-pref, which compares before the path, or med");
        report.add(finding);
    }
    if let Some(local_pref) = terms.local_pref.as_ref().filter(|_| !is_internal) {
        let finding = Finding::mistake("local-pref is for neighbors in the same AS")
            .at(local_pref.span(), "no other AS takes it (RFC 4271 section 5.1.5)")
            .help("write prepend or med, or a community that the neighbor has for it");
        report.add(finding);
    }
}

/// Both kinds, of a service and of a neighbor together, take less than a third of a message.
const COMMUNITIES_MAX: usize = 32;

#[cfg(test)]
pub(super) mod tests {
    use crate::config::{Style, parse};

    /// A file with these keys in its service and its neighbor, an AS among them.
    pub(in crate::config::check) fn file(service: &str, neighbor: &str) -> String {
        format!(
            "[router]\nname = \"r1\"\nid = \"10.9.0.1\"\n\
             [[port]]\nname = \"up\"\ntun = \"t1\"\naddresses = [\"10.9.0.1/24\"]\n\
             [[service]]\nname = \"dns\"\nprefixes = [\"198.51.100.53/32\"]\n{service}\n\
             [[service.site]]\nname = \"ams\"\nvia = \"up\"\n\
             [bgp]\nas = 65001\n\
             [[bgp.neighbor]]\naddress = \"10.9.0.2\"\nimport = \"none\"\nexport = [\"dns\"]\n\
             {neighbor}\n"
        )
    }

    /// What is said of it, mistakes and warnings.
    pub(in crate::config::check) fn said(text: &str) -> String {
        match parse("r1.toml", text) {
            Ok((_, warnings)) => {
                warnings.iter().map(|w| w.render(Style::PLAIN)).collect::<Vec<_>>().join("\n")
            }
            Err(errors) => errors.render(Style::PLAIN),
        }
    }

    #[test]
    fn how_the_router_leaves_is_within_bounds() {
        for (keys, says) in [
            ("drain-wait = \"0s\"\non-exit = \"graceful-shutdown\"\nexit-wait = \"1min\"", ""),
            ("drain-wait = \"2h\"", "expected 0s to 1h"),
            ("exit-wait = \"61s\"", "expected 0s to 1min"),
            ("lease = \"0s\"\nlease-withdraw = \"never\"", ""),
            ("lease = \"10s\"\nlease-withdraw = \"1min\"", ""),
            ("lease = \"900ms\"", "expected 0s (never), or 1s to 10min"),
            ("lease-withdraw = \"25h\"", "expected 0s to 24h"),
            ("on-exit = \"withdrawn\"", "did you mean \"withdraw\""),
        ] {
            let text =
                file("", "as = 65002").replace("as = 65001\n", &format!("as = 65001\n{keys}\n"));
            let drawn = said(&text);
            let is_said = if says.is_empty() { drawn.is_empty() } else { drawn.contains(says) };
            assert!(is_said, "{keys}: {drawn}");
        }
    }

    #[test]
    fn what_cannot_be_announced_so_is_a_mistake() {
        let external = "as = 65002";
        for (service, neighbor, says) in [
            ("", external, ""),
            ("min-sites = 2", external, "the service needs 2 sites and has 1"),
            ("min-sites = 0", external, "expected a whole number from 1 to 64"),
            ("below-min = \"drop\"", external, "expected one of: withdraw, deprioritise"),
            ("announce-delay = \"11min\"", external, "expected 0s to 10min"),
            ("communities = [\"no-exprt\"]", external, "or a name: no-export, no-advertise"),
            ("communities = [\"1:2:3\"]", external, "it goes into the list of these"),
            ("communities = [\"70000:1\"]", external, "a larger AS has large communities"),
            ("large-communities = [\"1:2\"]", external, "expected three numbers"),
            ("communities = [\"1:2\", \"1:2\"]", external, "communities has 1:2 twice"),
            ("communities = [\"blackhole\"]", external, "neighbors that know RFC 7999 discard"),
            ("", "as = 65001\nprepend = 1", "it would refuse a path with its own AS as a loop"),
            ("prepend = 17", external, "expected a whole number from 0 to 16"),
            ("", "as = 65002\nlocal-pref = 1", "local-pref is for neighbors in the same AS"),
            ("", "as = 65001\nlocal-pref = 1", ""),
            ("", "as = 65002\nlink-bandwidth = \"on\"", "expected one of: off, auto"),
        ] {
            let drawn = said(&file(service, neighbor));
            let is_said = if says.is_empty() { drawn.is_empty() } else { drawn.contains(says) };
            assert!(is_said, "{service} {neighbor}: {drawn}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("\"65001:{n}\"")).collect();
        let drawn = said(&file(&format!("communities = [{}]", many.join(", ")), external));
        assert!(drawn.contains("expected at most 32"), "{drawn}");
    }
}
