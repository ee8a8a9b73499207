//! Checks of `[[bgp.policy]]`, and of what refers to them.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use toml::Spanned;

use super::{no_twins, unknown};
use crate::bgp::policy::Then;
use crate::config::finding::Finding;
use crate::config::raw::{RawBgp, RawConfig, RawPolicy, RawRule};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    let Some(bgp) = &raw.bgp else { return };
    let names = bgp.policies.iter().filter_map(|policy| policy.name.as_ref());
    let keyed = names.clone().map(|name| (name.get_ref(), name.span()));
    no_twins(keyed, report, |name| format!("two policies are named {name:?}"));
    for name in names.clone().filter(|name| RESERVED.contains(&name.get_ref().as_str())) {
        let finding = Finding::mistake(format!("a policy cannot be named {:?}", name.get_ref()))
            .at(name.span(), "import has this word already");
        report.add(finding);
    }
    for policy in &bgp.policies {
        rules(policy, report);
    }
    let is_spare = |name: &&Spanned<String>| {
        !RESERVED.contains(&name.get_ref().as_str()) && !is_used(bgp, name.get_ref())
    };
    for name in names.filter(is_spare) {
        let finding = Finding::warning(format!("no neighbor has the policy {:?}", name.get_ref()))
            .at(name.span(), "it judges nothing")
            .help(format!("write import = {0:?} or export-policy = {0:?}", name.get_ref()));
        report.add(finding);
    }
    for neighbor in &bgp.neighbors {
        let import = neighbor.import.iter().map(|name| (name, &RESERVED[..]));
        let export = neighbor.export_policy.iter().map(|name| (name, &[][..]));
        for (name, words) in import.chain(export) {
            is_known(bgp, name, words, report);
        }
    }
}

fn rules(policy: &RawPolicy, report: &Report) {
    let names = policy.rules.iter().filter_map(|rule| rule.name.as_ref());
    let names = names.map(|name| (name.get_ref(), name.span()));
    no_twins(names, report, |name| format!("the policy has two rules named {name:?}"));
    if policy.rules.is_empty() {
        let finding = Finding::mistake("the policy has no rule")
            .at(policy.span.clone(), "it would refuse every route")
            .help("add a [[bgp.policy.rule]] below it");
        report.add(finding.consequence());
    }
    if let Some(rule) = policy.rules.get(RULES_MAX) {
        let finding = Finding::mistake(format!("{} rules in a policy", policy.rules.len())).at(
            rule.span.clone(),
            format!("one too many from here on: expected at most {RULES_MAX}"),
        );
        report.add(finding);
    }
    let decides = |rule: &&RawRule| {
        let then = rule.then.as_ref().map(|then| *then.get_ref());
        rule.matches.is_empty() && then.is_some_and(|then| then != Then::Next)
    };
    let mut left = policy.rules.iter().skip_while(|rule| !decides(rule));
    if let (Some(last), Some(unasked)) = (left.next(), left.next()) {
        let finding = Finding::warning("no route comes to this rule")
            .at(unasked.span.clone(), "it is never asked")
            .at(last.span.clone(), "this one decides about every route")
            .help("write the rule that matches everything last");
        report.add(finding);
    }
    for rule in &policy.rules {
        contradictions(rule, report);
    }
}

/// What a rule says that has no effect.
fn contradictions(rule: &RawRule, report: &Report) {
    for list in &rule.prefixes {
        let Some(first) = list.first() else { continue };
        if list.iter().all(|entry| !entry.get_ref().permit) {
            let all = if first.get_ref().prefix.addr().is_ipv4() {
                "0.0.0.0/0 le 32"
            } else {
                "::/0 le 128"
            };
            let finding = Finding::mistake("no prefix is in this list")
                .at(first.span(), "each entry takes some out, and none puts any in")
                .help(format!("add {all:?} behind them for all others"));
            report.add(finding);
        }
    }
    let refuses = rule.then.as_ref().filter(|then| *then.get_ref() == Then::Refuse);
    if let Some(then) = refuses.filter(|_| rule.has_changes()) {
        let finding = Finding::warning("a rule that refuses changes nothing")
            .at(then.span(), "the route is not used, so its changes are not")
            .help("write then = \"accept\" or \"next\", or leave the changes out");
        report.add(finding);
    }
}

fn is_used(bgp: &RawBgp, name: &str) -> bool {
    bgp.neighbors.iter().any(|neighbor| {
        [&neighbor.import, &neighbor.export_policy]
            .into_iter()
            .flatten()
            .any(|used| used.get_ref() == name)
    })
}

/// `words` may stand in place of a policy's name.
fn is_known(bgp: &RawBgp, name: &Spanned<String>, words: &[&str], report: &Report) {
    let policies = bgp.policies.iter().filter_map(|policy| policy.name.as_ref());
    let known: Vec<&str> = policies.map(|name| name.get_ref().as_str()).collect();
    let mut known: Vec<&str> = words.iter().copied().chain(known).collect();
    let mut seen = BTreeSet::new();
    known.retain(|name| seen.insert(*name));
    if known.contains(&name.get_ref().as_str()) {
        return;
    }
    let finding = unknown(name, "policy", "expected one of", &known);
    report.add(match finding.help_text() {
        Some(_) => finding,
        None => finding.help("policies are made by [[bgp.policy]]"),
    });
}

/// Words of `import` that are no policies.
const RESERVED: [&str; 2] = ["all", "none"];

/// Rules of a policy: each route may be compared with all of them.
const RULES_MAX: usize = 1000;
