//! What was measured, by failure and router.
#![forbid(unsafe_code)]

use super::figure::Trial;
use super::router::Kind;
use crate::report::Row;
use crate::stats::Summary;

/// All figures of a run.
#[derive(Default)]
pub struct Table {
    /// In the order in which they were first seen.
    lines: Vec<(String, Vec<(Kind, Cell)>)>,
    notes: Vec<(String, Kind, String)>,
}

/// One router's figures of one failure.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    summary: Summary,
    /// Trials, or false downs, that count; and those that do not.
    count: (usize, usize),
    unit: &'static str,
}

impl Cell {
    /// Of trials of which some do not count.
    pub fn of(trials: &[Option<Trial>], figure: impl Fn(&Trial) -> f64) -> Self {
        let counted = trials.iter().flatten().count();
        let summary = Summary::of(trials.iter().flatten().map(figure));
        Self { summary, count: (counted, trials.len() - counted), unit: "ms" }
    }

    /// A number that was counted.
    pub fn count(counted: usize, excused: usize) -> Self {
        let summary = Summary::of([counted as f64]);
        Self { summary, count: (1, excused), unit: "downs" }
    }

    /// The same, for figures that are packets.
    pub fn packets(self) -> Self {
        Self { unit: "pkts", ..self }
    }

    /// Most of what is to be known beside the median.
    fn words(&self) -> String {
        let (counted, left_out) = self.count;
        match self.unit {
            "downs" => format!("{left_out} after a stall not counted"),
            _ if counted == 0 => format!("no trial that counts, of {left_out}"),
            _ => format!("max {:.3}, {counted} trials, {left_out} left out", self.summary.max),
        }
    }

    fn p50(&self) -> Option<f64> {
        (self.count.0 > 0).then_some(self.summary.p50)
    }
}

impl Table {
    /// Enters one router's figures.
    pub fn add(&mut self, name: &str, kind: Kind, cell: Cell) {
        eprintln!("{name}, {}: p50 {:.3}, {}", kind.name(), cell.summary.p50, cell.words());
        match self.lines.iter_mut().find(|(known, _)| known == name) {
            Some((_, cells)) => cells.push((kind, cell)),
            None => self.lines.push((name.to_owned(), vec![(kind, cell)])),
        }
    }

    /// Says why a router has no figures of something.
    pub fn note(&mut self, what: &str, kind: Kind, why: String) {
        eprintln!("{what}, {}: {why}", kind.name());
        self.notes.push((what.to_owned(), kind, why));
    }

    /// A row of nearhop's own for each failure, judged by its target, and one beside each peer.
    pub fn rows(self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (name, cells) in &self.lines {
            let ours = cells.iter().find(|(kind, _)| *kind == Kind::Nearhop).map(|(_, cell)| cell);
            let ours = ours.filter(|cell| cell.p50().is_some());
            rows.extend(ours.map(|cell| own(name, cell)));
            for (kind, cell) in cells.iter().filter(|(kind, _)| *kind != Kind::Nearhop) {
                rows.push(beside(name, ours, kind.name(), cell));
            }
        }
        for (what, kind, why) in &self.notes {
            let why = why.lines().next().unwrap_or_default();
            let row = Row::missing(what.clone(), kind.name(), why);
            let failed = why.starts_with(NOT_MEASURED) && *kind == Kind::Nearhop;
            rows.push(if failed { row.judged("measured", false) } else { row });
        }
        rows
    }
}

fn own(name: &str, cell: &Cell) -> Row {
    let row = Row::figure(name, cell.unit, &cell.summary).against(&cell.words(), None);
    match TARGETS.iter().find(|(known, ..)| name.contains(known)) {
        // Each limit is one of a kind of figure; what is lost or said besides has another name.
        Some((known, p50, max)) if name.len() == known.len() || !name.contains(": ") => {
            let met = cell.summary.p50 <= *p50 && cell.summary.max <= *max;
            row.judged(format!("p50 at most {p50}, max {max}"), met)
        }
        _ if name.ends_with(": lost") => row.judged("none", cell.summary.max == 0.0),
        _ => row,
    }
}

fn beside(name: &str, ours: Option<&Cell>, peer: &str, cell: &Cell) -> Row {
    let row = ours.map_or_else(
        || Row { name: name.to_owned(), unit: cell.unit.to_owned(), ..Row::default() },
        |ours| Row::figure(name, ours.unit, &ours.summary),
    );
    row.against(&format!("{peer} ({})", cell.words()), cell.p50())
}

/// How the reason begins why nearhop has no figures although it was tried.
pub const NOT_MEASURED: &str = "cannot be measured: ";

/// By a part of a name: the most that the median and the maximum may be.
const TARGETS: [(&str, f64, f64); 6] = [
    ("silent drop, BFD 10 ms x 3", 26.0, 31.0),
    ("silent drop, BFD 1 ms x 3", 3.0, 4.0),
    ("site withdraws", 1.0, 3.0),
    ("site's daemon killed", 1.0, 1.0),
    ("false BFD downs", 0.0, 0.0),
    ("prefixes moved, until the last", 1.0, 1.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(values: &[f64]) -> Cell {
        Cell { summary: Summary::of(values.iter().copied()), count: (values.len(), 0), unit: "ms" }
    }

    #[test]
    fn a_maximum_above_its_limit_misses_the_target() {
        for (max, met) in [(30.9, true), (31.1, false)] {
            let mut table = Table::default();
            table.add("silent drop, BFD 10 ms x 3", Kind::Nearhop, cell(&[20.0, 25.0, max]));
            table.add("silent drop, BFD 10 ms x 3", Kind::Bird, cell(&[50.0]));
            let rows = table.rows();
            assert_eq!((rows.len(), rows[0].met), (2, Some(met)));
            assert_eq!(
                (rows[1].nearhop, rows[1].peer, rows[1].met),
                (Some(25.0), Some(50.0), None)
            );
        }
    }

    #[test]
    fn lost_packets_are_judged_by_none() {
        for (lost, met) in [(0.0, true), (1.0, false)] {
            let mut table = Table::default();
            table.add("site withdraws: lost", Kind::Nearhop, cell(&[0.0, lost]).packets());
            assert_eq!(table.rows()[0].met, Some(met));
        }
    }

    #[test]
    fn without_a_trial_that_counts_there_is_no_figure() {
        let mut table = Table::default();
        table.add(
            "site withdraws",
            Kind::Nearhop,
            Cell::of(&[None, None], |trial| trial.lost as f64),
        );
        assert!(table.rows().is_empty());
    }
}
