//! What the page of a scenario has beside the timeline: its steps and its expectations.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::svg::{esc, fmt_ms};

/// A scenario that was played.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Played {
    /// Its name.
    pub scenario: String,
    /// What was done, in the order of time.
    pub steps: Vec<PlayedStep>,
    /// What was expected.
    pub expectations: Vec<Expected>,
}

/// A step, and what came of it until the next.
#[derive(Clone, Debug, PartialEq)]
pub struct PlayedStep {
    /// When it was taken, in milliseconds since the beginning.
    pub at_ms: f64,
    /// What was done, in words.
    pub what: String,
    /// The longest outage, in milliseconds.
    pub outage_ms: f64,
    /// Probes that were never answered.
    pub lost: u64,
    /// Probes that were sent.
    pub sent: u64,
    /// Changes of site.
    pub moves: u64,
    /// Who answered the flows when the next step was taken.
    pub served_by: Vec<String>,
}

/// An expectation beside what was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    /// Its key in the file.
    pub key: String,
    /// What was expected.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether it held.
    pub held: bool,
}

/// Both sections.
pub(super) fn sections(played: &Played) -> String {
    expectations(played) + &steps(played)
}

fn expectations(played: &Played) -> String {
    let mut html = String::from(
        "<section><h2>Expectations</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>expectation\
         <th>expected<th>found<th></tr></thead>\n<tbody>\n",
    );
    for Expected { key, wanted, found, held } in &played.expectations {
        let (class, word) = if *held { ("good", "held") } else { ("bad", "failed") };
        let (key, wanted, found) = (esc(key), esc(wanted), esc(found));
        let _ = writeln!(
            html,
            "<tr><th>{key}<td>{wanted}<td class=\"why\">{found}<td class=\"strong {class}\">{word}</tr>"
        );
    }
    html + "</tbody></table></div></section>\n"
}

fn steps(played: &Played) -> String {
    let mut html = String::from(
        "<section><h2>Steps</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th class=\"n\">at s\
         <th>step<th class=\"n\">outage ms<th class=\"n\">lost<th class=\"n\">sent<th class=\"n\">moves\
         <th>served by</tr></thead>\n<tbody>\n",
    );
    for step in &played.steps {
        let _ = writeln!(
            html,
            "<tr><td class=\"n\">{:.3}<th>{}<td class=\"n strong\">{}<td class=\"n\">{}<td class=\"n\">{}\
             <td class=\"n\">{}<td>{}</tr>",
            step.at_ms / 1e3,
            esc(&step.what),
            fmt_ms(step.outage_ms),
            step.lost,
            step.sent,
            step.moves,
            esc(&step.served_by.join(", "))
        );
    }
    html + "</tbody></table></div>\n<p class=\"quiet\">Each row is of the time until the next step. An \
            outage is the longest time between two arrivals of any flow, in either direction, less the \
            sending interval. Served by: who answered the flows at its end.</p></section>\n"
}
