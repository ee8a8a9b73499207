//! Bars that split each blackout into its phases, against its budget.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::Run;
use super::svg::{esc, fmt_ms};
use crate::measure::KillSummary;

/// Draws one bar per kind and family, scaled so that all budgets are at the same position.
pub fn draw(run: &Run) -> String {
    let mut html = String::from("<div class=\"bars\">\n");
    for kill in &run.summary.kills {
        html.push_str(&bar(kill));
    }
    html + "</div>\n"
}

fn bar(kill: &KillSummary) -> String {
    let parts = [
        ("detect", kill.detect_ms),
        ("publish", kill.publish_ms),
        ("repair", kill.repair_ms),
        ("rest", kill.rest_ms),
    ];
    let total: f64 = parts.iter().map(|(_, value)| value.max(0.0)).sum();
    // A blackout far over its budget is drawn whole; the budget mark then moves left.
    let scale = (BUDGET_AT / kill.budget_ms.max(f64::MIN_POSITIVE))
        .min(WIDTH / total.max(f64::MIN_POSITIVE));
    let mut svg = String::from(
        "<svg class=\"bar\" viewBox=\"0 0 1000 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let mut x = 0.0;
    for (name, value) in parts {
        let width = (value.max(0.0) * scale).min(WIDTH - x);
        let _ = write!(
            svg,
            "<rect class=\"{name}\" x=\"{x:.2}\" y=\"3\" width=\"{width:.2}\" height=\"14\"/>"
        );
        x += width;
    }
    let _ = write!(svg, "<path class=\"budget\" d=\"M{:.2} 0V20\"/></svg>", kill.budget_ms * scale);
    let split: Vec<String> =
        parts.iter().map(|(name, value)| format!("{name} {}", fmt_ms(*value))).collect();
    format!(
        "<div class=\"what\">{} <span class=\"quiet\">{}</span></div><div>{svg}</div>\
         <div class=\"quiet split\">{} = {}; budget {}</div>\n",
        esc(kill.kind.label()),
        kill.family.label(),
        fmt_ms(kill.blackout_ms.p50),
        split.join(" + "),
        fmt_ms(kill.budget_ms)
    )
}

const WIDTH: f64 = 1_000.0;

/// Position of the budget, of 1000.
const BUDGET_AT: f64 = 800.0;
