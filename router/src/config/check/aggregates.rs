//! Checks of `[[bgp.aggregate]]`.
#![forbid(unsafe_code)]

use nearhop_fib::IpPrefix;
use toml::Spanned;

use super::{family, is_v6, no_twins, service_names, unknown};
use crate::config::finding::Finding;
use crate::config::raw::{RawAggregate, RawConfig, RawService};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    let Some(bgp) = &raw.bgp else { return };
    let prefixes = bgp.aggregates.iter().filter_map(|one| one.prefix.as_ref());
    let prefixes = prefixes.map(|prefix| (*prefix.get_ref(), prefix.span()));
    no_twins(prefixes, report, |prefix| format!("two aggregates have the prefix {prefix}"));
    for aggregate in &bgp.aggregates {
        not_a_services(raw, aggregate, report);
        let names = aggregate.services.iter().map(|name| (name.get_ref(), name.span()));
        no_twins(names, report, |name| format!("services names {name:?} twice"));
        for name in &aggregate.services {
            covers(raw, aggregate, name, report);
        }
    }
}

/// A prefix that a service has is announced by the service.
fn not_a_services(raw: &RawConfig, aggregate: &RawAggregate, report: &Report) {
    let Some(prefix) = &aggregate.prefix else { return };
    let mut taken = raw.services.iter().flat_map(|service| &service.prefixes);
    if let Some(other) = taken.find(|other| other.get_ref() == prefix.get_ref()) {
        let finding = Finding::mistake(format!("{} is a service's prefix", prefix.get_ref()))
            .at(prefix.span(), "expected a shorter one")
            .at(other.span(), "it is announced with the service");
        report.add(finding);
    }
}

fn covers(raw: &RawConfig, aggregate: &RawAggregate, name: &Spanned<String>, report: &Report) {
    let called =
        |one: &&RawService| one.name.as_ref().is_some_and(|own| own.get_ref() == name.get_ref());
    let Some(service) = raw.services.iter().find(called) else {
        report.add(unknown(name, "service", "known services", &service_names(raw)));
        return;
    };
    let Some(prefix) = &aggregate.prefix else { return };
    let outer = *prefix.get_ref();
    let of_family = |inner: &IpPrefix| is_v6(*inner) == is_v6(outer);
    let inner: Vec<IpPrefix> =
        service.prefixes.iter().map(|one| *one.get_ref()).filter(of_family).collect();
    if inner.is_empty() && !service.prefixes.is_empty() {
        let text = format!("{:?} has no {} prefix", name.get_ref(), family(is_v6(outer)));
        let label = "the aggregate would never be announced for it";
        report.add(Finding::mistake(text).at(name.span(), label).consequence());
    } else if !inner.is_empty() && !inner.iter().any(|one| outer.contains(one.addr())) {
        let finding = Finding::warning(format!("{outer} covers nothing of {:?}", name.get_ref()))
            .at(name.span(), "packets that the aggregate attracts are not the service's")
            .at(prefix.span(), "this prefix");
        report.add(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::super::announce::tests::{file, said};

    #[test]
    fn an_aggregate_covers_services_that_there_are() {
        for (keys, says) in [
            ("prefix = \"198.51.100.0/24\"\nservices = [\"dns\"]", ""),
            ("prefix = \"198.51.100.0/24\"", "services is missing"),
            ("prefix = \"198.51.100.0/24\"\nservices = []", "services is missing"),
            ("services = [\"dns\"]", "prefix is missing"),
            ("prefix = \"198.51.100.53/32\"\nservices = [\"dns\"]", "is a service's prefix"),
            ("prefix = \"198.51.100.0/24\"\nservices = [\"dsn\"]", "did you mean \"dns\"?"),
            ("prefix = \"2001:db8::/32\"\nservices = [\"dns\"]", "has no IPv6 prefix"),
            ("prefix = \"203.0.113.0/24\"\nservices = [\"dns\"]", "covers nothing of \"dns\""),
            (
                "prefix = \"198.51.100.0/24\"\nservices = [\"dns\"]\nwhile = \"most\"",
                "expected one of: any, all",
            ),
        ] {
            let text = file("", "as = 65002") + "[[bgp.aggregate]]\n" + keys + "\n";
            let drawn = said(&text);
            let is_said = if says.is_empty() { drawn.is_empty() } else { drawn.contains(says) };
            assert!(is_said, "{keys}: {drawn}");
        }
        let twice = "[[bgp.aggregate]]\nprefix = \"198.51.100.0/24\"\nservices = [\"dns\"]\n";
        let drawn = said(&(file("", "as = 65002") + twice + twice));
        assert!(drawn.contains("two aggregates have the prefix"), "{drawn}");
    }
}
