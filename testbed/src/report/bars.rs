//! Where the time of a blackout went, against its budget.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::Run;
use super::svg::{esc, fmt_ms};
use crate::measure::KillSummary;

/// One bar for each kind and family, all scaled so that their budgets stand in one line.
pub fn draw(run: &Run) -> String {
    let mut html = String::from("<div class=\"bars\">\n");
    for kill in &run.summary.kills {
        let budget = run.budgets.get(&kill.kind).map(|budget| budget.p50_ms);
        html.push_str(&bar(kill, budget));
    }
    html + "</div>\n"
}

fn bar(kill: &KillSummary, budget: Option<f64>) -> String {
    let parts =
        [("detect", kill.detect_ms), ("publish", kill.publish_ms), ("repair", kill.repair_ms)];
    let total: f64 = parts.iter().map(|(_, value)| value.max(0.0)).sum();
    let full = budget.unwrap_or(total).max(f64::MIN_POSITIVE);
    let scale = BUDGET_AT / full;
    let mut svg = String::from(
        "<svg class=\"bar\" viewBox=\"0 0 1000 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let mut x = 0.0;
    for (name, value) in parts {
        let width = (value.max(0.0) * scale).min(1_000.0 - x);
        let _ = write!(
            svg,
            "<rect class=\"{name}\" x=\"{x:.2}\" y=\"3\" width=\"{width:.2}\" height=\"14\"/>"
        );
        x += width;
    }
    if budget.is_some() {
        let _ = write!(svg, "<path class=\"budget\" d=\"M{BUDGET_AT} 0V20\"/>");
    }
    svg.push_str("</svg>");
    let budget = budget.map(|ms| format!(", budget {}", fmt_ms(ms))).unwrap_or_default();
    let split: Vec<String> =
        parts.iter().map(|(name, value)| format!("{name} {}", fmt_ms(*value))).collect();
    format!(
        "<div class=\"what\">{} <span class=\"quiet\">{}</span></div><div>{svg}</div>\
         <div class=\"quiet split\">{} ms{}</div>\n",
        esc(kill.kind.label()),
        kill.family.label(),
        split.join(" · "),
        esc(&budget)
    )
}

/// Where the budget stands, of 1000.
const BUDGET_AT: f64 = 800.0;
