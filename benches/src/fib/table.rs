//! The figures of all contestants, as tables for people.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::contestant::Facts;
use super::speed::{Column, Mode};
use super::updates::Changes;

/// What is known of one contestant besides its lookups.
#[derive(Clone, Debug)]
pub struct Known {
    /// The contestant.
    pub name: String,
    /// Its build and memory.
    pub facts: Facts,
    /// Its changes, if it can.
    pub changes: Option<Changes>,
}

/// Millions of lookups in a second: contestants by workload and size of batch.
pub fn lookups(columns: &[Column]) -> String {
    let batches = |column: &&Column| matches!(column.mode, Mode::Batch(_));
    let columns: Vec<&Column> = columns.iter().filter(batches).collect();
    let Some(first) = columns.first() else { return String::new() };
    let rounds = first.cells.first().map_or(0, |cell| cell.samples.len());
    let title = format!(
        "{}: M lookups/s by workload and batch, median (best) of {rounds} rounds",
        first.family
    );
    render(&title, &columns, |summary| format!("{:.0} ({:.0})", summary.p50, summary.max))
}

/// Nanoseconds of a lookup that waits for the one before it.
pub fn latencies(columns: &[Column]) -> String {
    let dependent = |column: &&Column| column.mode == Mode::Dependent;
    let columns: Vec<&Column> = columns.iter().filter(dependent).collect();
    let Some(first) = columns.first() else { return String::new() };
    let title = format!(
        "{}: nanoseconds of a lookup whose key waits for the answer before it, median (best)",
        first.family
    );
    render(&title, &columns, |summary| format!("{:.1} ({:.1})", summary.p50, summary.min))
}

/// By which code those looked up that choose among several, at the end of each column.
pub fn codes(columns: &[Column]) -> String {
    let mut text = String::new();
    for column in columns {
        let Mode::Batch(batch) = column.mode else { continue };
        for cell in &column.cells {
            if let Some(code) = cell.code {
                let (name, workload) = (&cell.name, column.workload);
                let _ = writeln!(text, "{name}, {workload}/{batch}: by {code} code");
            }
        }
    }
    text
}

fn render(
    title: &str,
    columns: &[&Column],
    cell: impl Fn(crate::stats::Summary) -> String,
) -> String {
    let mut text = format!("{title}\n\n{:NAME$}", "");
    for column in columns {
        let head = match column.mode {
            Mode::Batch(batch) => format!("{}/{batch}", column.workload),
            Mode::Dependent => column.workload.to_string(),
        };
        let _ = write!(text, " {head:>CELL$}");
    }
    text.push('\n');
    for (index, contestant) in
        columns.first().map_or(&[][..], |first| &first.cells).iter().enumerate()
    {
        let _ = write!(text, "{:NAME$}", contestant.name);
        for column in columns {
            let _ = write!(text, " {:>CELL$}", cell(column.cells[index].summary()));
        }
        text.push('\n');
    }
    text
}

/// Build, memory, and changes with nobody reading.
pub fn known(family: &str, all: &[Known]) -> String {
    let mut text = format!(
        "{family}: build, memory, changes with nobody reading\n\n{:NAME$} {:>CELL$} {:>CELL$} \
         {:>CELL$} {:>CELL$} {:>CELL$}\n",
        "", "build s", "MB", "M pairs/s", "worst µs", "interrupted"
    );
    for Known { name, facts, changes } in all {
        let dash = || "-".to_owned();
        if facts.shared {
            let _ = writeln!(text, "{name:NAME$} {:>CELL$}", "as above");
            continue;
        }
        let megabytes = facts.bytes.map_or_else(dash, |bytes| format!("{:.1}", bytes as f64 / 1e6));
        let changes = changes.as_ref();
        let pairs = changes.map_or_else(dash, |of| format!("{:.4}", of.pairs_m.p50));
        let own = changes.map_or_else(dash, |of| format!("{:.1}", of.worst.own_us));
        let any = changes.map_or_else(dash, |of| format!("{:.1}", of.worst.any_us));
        let _ = writeln!(
            text,
            "{name:NAME$} {:>CELL$.3} {megabytes:>CELL$} {pairs:>CELL$} {own:>CELL$} {any:>CELL$}",
            facts.build_s
        );
    }
    text
}

const NAME: usize = 17;
const CELL: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::contestant::Maker;
    use crate::fib::keys::Workload;
    use crate::fib::speed::Cell;

    #[test]
    fn median_and_best_stand_under_their_column() {
        let cell = |name: &str, samples: &[f64]| Cell {
            name: name.to_owned(),
            maker: Maker::Nearhop,
            samples: samples.to_vec(),
            code: None,
        };
        let column = |workload, mode| Column {
            family: "IPv4",
            workload,
            mode,
            cells: vec![cell("a", &[10.0, 30.0, 20.0]), cell("b", &[1.0])],
        };
        let columns = [
            column(Workload::Uniform, Mode::Batch(32)),
            column(Workload::Zipf, Mode::Batch(256)),
            column(Workload::Zipf, Mode::Dependent),
        ];
        let text = lookups(&columns);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("median (best) of 3 rounds"));
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["uniform/32", "zipf/256"]);
        assert_eq!(lines[3], "a                       20 (30)       20 (30)");
        assert_eq!(lines.len(), 5);
        assert!(latencies(&columns).contains("20.0 (10.0)"));
    }
}
