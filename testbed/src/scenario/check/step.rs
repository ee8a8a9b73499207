//! Reads what is done, and when.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nearhop::config::reader::{
    Finding, Report, Table, ValueError, boolean, duration_in, integer, list_of, one_of, text,
};
use toml::Spanned;
use toml::de::DeValue;

use super::super::{Deed, Step, StepExpect};
use super::{LONGEST, Names, value_or};
use crate::measure::KillKind;

/// `None` where that has been reported. The place is that of `[[step]]`.
pub(super) fn step(mut table: Table<'_>, names: &Names) -> Option<Spanned<Step>> {
    let span = table.span();
    let at = duration_in(Duration::ZERO..=LONGEST);
    let at = table.need("at", "at = \"2s\"", text("a span of time", at));
    let present: Vec<_> = DEEDS.iter().copied().filter(|deed| table.has(deed)).collect();
    if present.len() != 1 {
        let finding =
            Finding::mistake(format!("a step does one thing, this does {}", present.len()))
                .at(table.span(), list_of("expected one of", &DEEDS));
        table.report().add(finding.consequence());
    }
    let deed = deed(&mut table, names);
    let expect = table.table("expect", "expect = { served-by = [\"fra\"], lost-max = 0 }");
    let expect = expect.map(|table| step_expect(table, names)).unwrap_or_default();
    table.finish();
    if present.len() != 1 {
        return None;
    }
    Some(Spanned::new(span, Step { at: at?.into_inner(), deed: deed?, expect }))
}

fn deed(table: &mut Table<'_>, names: &Names) -> Option<Deed> {
    let kill = table.table("kill", "kill = { site = \"ams\", how = \"silent\" }");
    let kill = kill.and_then(|table| kill_deed(table, names));
    let heal = table.table("heal", "heal = { site = \"ams\" }");
    let heal = heal.and_then(|table| heal_deed(table, names));
    let flap = table.table("flap", "flap = { site = \"ams\", every = \"50ms\", lasts = \"2s\" }");
    let flap = flap.and_then(|table| flap_deed(table, names));
    let site = || text("a site's name", names.site());
    let drain = table.get("drain", site()).map(|site| Deed::Drain(site.into_inner()));
    let undrain = table.get("undrain", site()).map(|site| Deed::Undrain(site.into_inner()));
    let speaker = || text("a site's name", names.announcing_site());
    let withdraw = table.get("withdraw", speaker()).map(|site| Deed::Withdraw(site.into_inner()));
    let announce = table.get("announce", speaker()).map(|site| Deed::Announce(site.into_inner()));
    let reorder = reorder(table, names);
    let undamp = table.get("undamp", only_true).map(|_| Deed::Undamp);
    let bgp = withdraw.or(announce);
    kill.or(heal).or(flap).or(drain).or(undrain).or(bgp).or(reorder).or(undamp)
}

fn reorder(table: &mut Table<'_>, names: &Names) -> Option<Deed> {
    let order = table.list("reorder", text("a site's name", names.site()));
    let items = table.node("reorder").and_then(|node| node.get_ref().as_array());
    if items.is_some_and(|items| items.is_empty()) {
        let finding = Finding::mistake("reorder is empty")
            .at(table.span_of("reorder"), "expected a site at least, the cheapest first");
        table.report().add(finding);
    }
    for site in order.iter().filter(|site| names.announces(site.get_ref())) {
        let what = format!("\"{}\" has no cost to reorder", site.get_ref());
        table.report().add(Finding::mistake(what).at(site.span(), "it announces by BGP"));
    }
    let order: Vec<_> = order.into_iter().map(Spanned::into_inner).collect();
    (!order.is_empty()).then_some(Deed::Reorder(order))
}

fn step_expect(mut table: Table<'_>, names: &Names) -> StepExpect {
    let site = || text("a site's name", names.site());
    let count = || integer(0..=u64::MAX);
    let expect = StepExpect {
        served_by: table.list("served-by", site()).into_iter().map(Spanned::into_inner).collect(),
        lost_max: table.get("lost-max", count()).map(Spanned::into_inner),
        moves_max: table.get("moves-max", count()).map(Spanned::into_inner),
    };
    table.finish();
    expect
}

fn only_true(value: &DeValue<'_>) -> Result<(), ValueError> {
    let fault = || ValueError::new("expected true");
    if boolean(value)? { Ok(()) } else { Err(fault().help("leave the step out")) }
}

fn kill_deed(mut table: Table<'_>, names: &Names) -> Option<Deed> {
    let site = table.need("site", "site = \"ams\"", text("a site's name", names.site()));
    let how = table.need("how", "how = \"silent\"", text("a word", |word: &str| kind(word, &HOW)));
    if let (Some(site), Some(how)) = (&site, &how)
        && *how.get_ref() == KillKind::Daemon
        && !names.announces(site.get_ref())
    {
        let finding = Finding::mistake(format!("\"{}\" has no BGP daemon", site.get_ref()));
        table.report().add(finding.at(how.span(), "only a site that announces has one"));
    }
    table.finish();
    Some(Deed::Kill { site: site?.into_inner(), how: how?.into_inner() })
}

fn heal_deed(mut table: Table<'_>, names: &Names) -> Option<Deed> {
    let site = table.need("site", "site = \"ams\"", text("a site's name", names.site()));
    table.finish();
    Some(Deed::Heal { site: site?.into_inner() })
}

fn flap_deed(mut table: Table<'_>, names: &Names) -> Option<Deed> {
    let time = || text("a span of time", duration_in(Duration::from_millis(1)..=LONGEST));
    let site = table.need("site", "site = \"ams\"", text("a site's name", names.site()));
    let how = table.get("how", text("a word", |word: &str| kind(word, &HOW[..2])));
    let every = table.need("every", "every = \"50ms\"", time());
    let lasts = table.need("lasts", "lasts = \"2s\"", time());
    let down = table.get("down", time());
    if let (Some(every), Some(down)) = (&every, &down)
        && down.get_ref() >= every.get_ref()
    {
        let finding = Finding::mistake("down is shorter than every")
            .at(down.span(), "else it would never be up");
        table.report().add(finding);
    }
    table.finish();
    let every = every?.into_inner();
    Some(Deed::Flap {
        site: site?.into_inner(),
        how: value_or(how, KillKind::Announced),
        every,
        down: value_or(down, every / 2),
        lasts: lasts?.into_inner(),
    })
}

fn kind(word: &str, kinds: &[KillKind]) -> Result<KillKind, ValueError> {
    let words: Vec<_> = kinds.iter().map(|kind| (kind.label(), Some(*kind))).collect();
    one_of(word, &words)
}

/// Steps come by time, and only what is alive dies.
pub(super) fn check_order(report: &Report, steps: &[Spanned<Step>]) {
    let mut dead: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut withdrawn: BTreeSet<&str> = BTreeSet::new();
    let mut before = Duration::ZERO;
    for spanned in steps {
        let (span, step) = (spanned.span(), spanned.get_ref());
        let mistake = |message: String, label: &str| {
            report.add(Finding::mistake(message).at(span.clone(), label).consequence());
        };
        if step.at < before {
            mistake("steps come in the order of time".into(), "another step before it is later");
        }
        before = before.max(step.end());
        match &step.deed {
            Deed::Kill { site, .. } | Deed::Flap { site, .. }
                if dead.contains_key(site.as_str()) =>
            {
                mistake(format!("\"{site}\" is dead already"), "heal it first");
            }
            Deed::Kill { site, .. } => drop(dead.insert(site, step.at)),
            Deed::Heal { site } if dead.remove(site.as_str()).is_none() => {
                mistake(format!("\"{site}\" is not dead"), "nothing has killed it");
            }
            Deed::Withdraw(site) if !withdrawn.insert(site) => {
                mistake(format!("\"{site}\" is withdrawn already"), "announce it first");
            }
            Deed::Announce(site) if !withdrawn.remove(site.as_str()) => {
                mistake(format!("\"{site}\" is not withdrawn"), "it announces all the time");
            }
            Deed::Drain(site) | Deed::Undrain(site) if withdrawn.contains(site.as_str()) => {
                mistake(format!("\"{site}\" is withdrawn"), "announce it first");
            }
            _ => {}
        }
    }
}

impl Step {
    /// When all of it is done.
    pub(in crate::scenario) fn end(&self) -> Duration {
        match &self.deed {
            Deed::Flap { lasts, .. } => self.at + *lasts,
            _ => self.at,
        }
    }
}

const DEEDS: [&str; 9] =
    ["kill", "heal", "flap", "drain", "undrain", "withdraw", "announce", "reorder", "undamp"];
/// The first two are those that a link alone can do.
const HOW: [KillKind; 5] =
    [KillKind::Announced, KillKind::Silent, KillKind::Server, KillKind::Site, KillKind::Daemon];
