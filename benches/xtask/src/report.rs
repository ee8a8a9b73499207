//! What ran, what failed, what could not run and why.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// How a step ended.
#[derive(Debug)]
pub enum Outcome {
    /// All of it ran and held.
    Passed,
    /// It ran and held, but for these parts, which could not run here; each says why.
    PassedBut(Vec<String>),
    /// Something did not hold.
    Failed(String),
    /// It could not run for want of something that this project asks of a test machine.
    Lacking(String),
    /// There is nothing to run, or the tool is one that only some machines have.
    Skipped(String),
}

/// The outcomes of a task's steps.
pub struct Report {
    require_all: bool,
    rows: Vec<(&'static str, Outcome, Duration)>,
}

impl Report {
    /// With `require_all`, what could not run for want of something counts as failed.
    pub fn new(require_all: bool) -> Self {
        Self { require_all, rows: Vec::new() }
    }

    /// Appends one step.
    pub fn add(&mut self, name: &'static str, outcome: Outcome, took: Duration) {
        self.rows.push((name, outcome, took));
    }

    /// Whether the task as a whole failed.
    pub fn failed(&self) -> bool {
        self.rows.iter().any(|(_, outcome, _)| self.verdict(outcome) == FAILED)
    }

    fn verdict(&self, outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Failed(_) => FAILED,
            Outcome::PassedBut(_) | Outcome::Lacking(_) if self.require_all => FAILED,
            Outcome::Passed | Outcome::PassedBut(_) => PASSED,
            Outcome::Lacking(_) | Outcome::Skipped(_) => SKIPPED,
        }
    }

    fn count(&self, verdict: &str) -> usize {
        self.rows.iter().filter(|(_, outcome, _)| self.verdict(outcome) == verdict).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:<8} {:>7}  NOTE", "STEP", "RESULT", "TIME")?;
        for (name, outcome, took) in &self.rows {
            let verdict = self.verdict(outcome);
            let notes = outcome.notes();
            let first = notes.first().map_or("", String::as_str);
            let line = format!("{name:<10} {verdict:<8} {:>6.1}s  {first}", took.as_secs_f64());
            writeln!(f, "{}", line.trim_end())?;
            for note in notes.iter().skip(1) {
                writeln!(f, "{:<28} {note}", "")?;
            }
        }
        let [passed, failed, skipped] = [PASSED, FAILED, SKIPPED].map(|v| self.count(v));
        write!(f, "\nsteps: {passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Outcome {
    fn notes(&self) -> Vec<String> {
        match self {
            Self::Passed => Vec::new(),
            Self::PassedBut(parts) => parts.iter().map(|p| format!("not run: {p}")).collect(),
            Self::Failed(note) | Self::Lacking(note) | Self::Skipped(note) => {
                note.lines().map(ToOwned::to_owned).collect()
            }
        }
    }
}

const PASSED: &str = "passed";
const FAILED: &str = "FAILED";
const SKIPPED: &str = "skipped";

#[cfg(test)]
mod tests {
    use super::*;

    fn report(require_all: bool, outcome: Outcome) -> Report {
        let mut report = Report::new(require_all);
        report.add("one", outcome, Duration::from_millis(1500));
        report
    }

    #[test]
    fn want_of_something_fails_only_where_all_is_required() {
        type Make = fn() -> Outcome;
        let cases: [(Make, bool, bool); 5] = [
            (|| Outcome::Passed, false, false),
            (|| Outcome::PassedBut(vec!["x".into()]), false, true),
            (|| Outcome::Failed("x".into()), true, true),
            (|| Outcome::Lacking("x".into()), false, true),
            (|| Outcome::Skipped("x".into()), false, false),
        ];
        for (make, usually, all) in cases {
            assert_eq!(report(false, make()).failed(), usually, "{:?}", make());
            assert_eq!(report(true, make()).failed(), all, "{:?}", make());
        }
    }

    #[test]
    fn every_part_that_did_not_run_is_listed() {
        let parts = vec!["a: no dig".into(), "b: no nft".into()];
        let text = report(false, Outcome::PassedBut(parts)).to_string();
        assert_eq!(
            text,
            "STEP       RESULT      TIME  NOTE\n\
             one        passed      1.5s  not run: a: no dig\n\
             \x20                            not run: b: no nft\n\
             \nsteps: 1 passed, 0 failed, 0 skipped"
        );
    }
}
