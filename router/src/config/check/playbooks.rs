//! Checks of `[[bgp.playbook]]`.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use nearhop_fib::IpPrefix;
use toml::Spanned;

use super::{no_twins, service_names, unknown};
use crate::config::finding::Finding;
use crate::config::raw::{RawBgp, RawConfig, RawNeighbor, RawPlaybookStep};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    let Some(bgp) = &raw.bgp else { return };
    let names = bgp.playbooks.iter().filter_map(|one| one.name.as_ref());
    let names = names.map(|name| (name.get_ref(), name.span()));
    no_twins(names, report, |name| format!("two playbooks are named {name:?}"));
    for playbook in &bgp.playbooks {
        if playbook.steps.is_empty() {
            let finding = Finding::mistake("the playbook has no step")
                .at(playbook.span.clone(), "it would do nothing")
                .help("add a [[bgp.playbook.step]] below it")
                .consequence();
            report.add(finding);
        }
        for step in &playbook.steps {
            does_one_thing(step, report);
            names_what_there_is(raw, bgp, step, report);
        }
    }
}

fn does_one_thing(step: &RawPlaybookStep, report: &Report) {
    let finding = if step.contradicts_itself() {
        Finding::mistake("a step that withdraws says nothing of what it withdraws")
            .at(step.span.clone(), "expected withdraw alone, or no withdraw")
            .help("use a step for what is withdrawn, and another for the rest")
    } else if step.is_idle() {
        Finding::mistake("the step changes nothing")
            .at(
                step.span.clone(),
                "expected withdraw, communities, large-communities, prepend or med",
            )
            .consequence()
    } else {
        return;
    };
    report.add(finding);
}

fn names_what_there_is(raw: &RawConfig, bgp: &RawBgp, step: &RawPlaybookStep, report: &Report) {
    let neighbors: Vec<String> = bgp.neighbors.iter().filter_map(RawNeighbor::called).collect();
    let neighbors: Vec<&str> = neighbors.iter().map(String::as_str).collect();
    for (names, kind, known) in
        [(&step.neighbors, "neighbor", neighbors), (&step.services, "service", service_names(raw))]
    {
        for name in names.iter().filter(|name| !known.contains(&name.get_ref().as_str())) {
            report.add(unknown(name, kind, &format!("known {kind}s"), &known));
        }
    }
    let of_services = raw.services.iter().flat_map(|one| &one.prefixes).map(Spanned::get_ref);
    let of_aggregates = bgp.aggregates.iter().filter_map(|one| one.prefix.as_ref());
    let known: BTreeSet<IpPrefix> =
        of_services.chain(of_aggregates.map(Spanned::get_ref)).copied().collect();
    for prefix in step.prefixes.iter().filter(|prefix| !known.contains(prefix.get_ref())) {
        let text = format!("{} is announced by nothing", prefix.get_ref());
        let finding = Finding::mistake(text)
            .at(prefix.span(), "expected a prefix of a service or an aggregate")
            .consequence();
        report.add(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::super::announce::tests::{file, said};

    #[test]
    fn a_playbook_does_something_to_what_there_is() {
        let step = "[[bgp.playbook.step]]\n";
        for (keys, says) in [
            ("name = \"a\"\n[[bgp.playbook.step]]\nneighbors = [\"10.9.0.2\"]\nprepend = 2", ""),
            (
                "name = \"a\"\n[[bgp.playbook.step]]\nprefixes = [\"198.51.100.53/32\"]\nwithdraw = true",
                "",
            ),
            ("name = \"a\"", "the playbook has no step"),
            (
                "name = \"a\"\n[[bgp.playbook.step]]\nservices = [\"dns\"]",
                "the step changes nothing",
            ),
            (
                "name = \"a\"\n[[bgp.playbook.step]]\nwithdraw = true\nmed = 1",
                "expected withdraw alone",
            ),
            (
                "name = \"a\"\n[[bgp.playbook.step]]\nneighbors = [\"up\"]\nmed = 1",
                "\"up\" is not a neighbor",
            ),
            (
                "name = \"a\"\n[[bgp.playbook.step]]\nservices = [\"dsn\"]\nmed = 1",
                "did you mean \"dns\"?",
            ),
            (
                "name = \"a\"\n[[bgp.playbook.step]]\nprefixes = [\"10.0.0.0/8\"]\nmed = 1",
                "is announced by nothing",
            ),
        ] {
            let drawn = said(&(file("", "as = 65002") + "[[bgp.playbook]]\n" + keys + "\n"));
            let is_said = if says.is_empty() { drawn.is_empty() } else { drawn.contains(says) };
            assert!(is_said, "{keys}: {drawn}");
        }
        let twice = format!("[[bgp.playbook]]\nname = \"a\"\n{step}med = 1\n").repeat(2);
        let drawn = said(&(file("", "as = 65002") + &twice));
        assert!(drawn.contains("two playbooks are named"), "{drawn}");
    }
}
