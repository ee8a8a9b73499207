//! Trials of a hundred seeds. `nearlab sim` runs any number of them, and replays one.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use nearhop::sim::trial::{Options, run};

#[test]
fn seeds_1_to_25() {
    hold(1..=25);
}

#[test]
fn seeds_26_to_50() {
    hold(26..=50);
}

#[test]
fn seeds_51_to_75() {
    hold(51..=75);
}

#[test]
fn seeds_76_to_100() {
    hold(76..=100);
}

fn hold(seeds: RangeInclusive<u64>) {
    let broken = seeds.filter_map(|seed| {
        let breaches = run(seed, Options::default()).breaches;
        let reported: Vec<String> = breaches.iter().map(ToString::to_string).collect();
        (!reported.is_empty())
            .then(|| format!("nearlab sim --seed {seed}: {}", reported.join("; ")))
    });
    let broken: Vec<String> = broken.collect();
    assert!(broken.is_empty(), "replay:\n{}", broken.join("\n"));
}
