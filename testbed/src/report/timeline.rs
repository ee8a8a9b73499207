//! The timeline of a run: which site answered each flow, and the faults.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::svg::{Scale, colour, esc, row_label};
use super::{Mark, MarkKind, Run};
use crate::measure::Trace;

/// Draws the timeline as SVG; empty if nothing was recorded.
pub fn draw(run: &Run) -> String {
    let times = |of: fn(&Trace) -> Option<u64>| run.traces.iter().filter_map(of);
    let from = times(|trace| trace.probes.first().map(|probe| probe.sent_ns)).min();
    let to = times(|trace| trace.probes.last().map(|probe| probe.sent_ns)).max();
    let (Some(from), Some(to)) = (from, to) else { return String::new() };
    let scale = Scale::new(from, to, LEFT, RIGHT);
    let bottom = TOP + run.traces.len() as f64 * ROW;
    let height = bottom + AXIS;
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Which site answered each flow over the run\">\n"
    );
    for (trace, row) in run.traces.iter().zip(0u32..) {
        draw_row(&mut svg, run, trace, scale, TOP + f64::from(row) * ROW);
    }
    for mark in run.marks.iter().filter(|mark| scale.contains(mark.t_ns)) {
        draw_mark(&mut svg, mark, scale.x(mark.t_ns), bottom);
    }
    scale.draw_axis(&mut svg, bottom, from, (1e9, "s"));
    svg + "</svg>\n"
}

/// A time in which one site answered, or none.
struct Stretch {
    from_ns: u64,
    to_ns: u64,
    site: Option<u16>,
}

fn draw_row(svg: &mut String, run: &Run, trace: &Trace, scale: Scale, y: f64) {
    let height = ROW - GAP;
    let _ = writeln!(
        svg,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LEFT - 8.0,
        y + height - 2.0,
        row_label(trace)
    );
    // Outages last, so that even the shortest is visible.
    let (lost, served): (Vec<_>, Vec<_>) =
        stretches(trace).into_iter().partition(|stretch| stretch.site.is_none());
    for stretch in served.iter().chain(&lost) {
        let x = scale.x(stretch.from_ns);
        let width = scale.x(stretch.to_ns) - x;
        let (class, title) = match stretch.site.and_then(|site| trace.sites.get(usize::from(site)))
        {
            Some(site) => (format!("s{}", colour(&run.sites, site)), esc(site)),
            None => ("lost".to_owned(), "no answer".to_owned()),
        };
        let width = if stretch.site.is_none() { width.max(OUTAGE_WIDTH) } else { width.max(0.3) };
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height}\"><title>{title}, {:.1} ms</title></rect>",
            (stretch.to_ns - stretch.from_ns) as f64 / 1e6
        );
    }
}

/// Splits a trace where the answering site changes, and where at least one probe was lost.
fn stretches(trace: &Trace) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for probe in &trace.probes {
        let site = probe.arrival.map(|arrival| arrival.site);
        match all.last_mut() {
            Some(last) if last.site == site => last.to_ns = probe.sent_ns,
            Some(last) => {
                last.to_ns = probe.sent_ns;
                all.push(Stretch { from_ns: probe.sent_ns, to_ns: probe.sent_ns, site });
            }
            None => all.push(Stretch { from_ns: probe.sent_ns, to_ns: probe.sent_ns, site }),
        }
    }
    all
}

fn draw_mark(svg: &mut String, mark: &Mark, x: f64, bottom: f64) {
    let (class, sign) = match mark.kind {
        MarkKind::Fault => ("fault", format!("M{:.1} 8h10l-5 10z", x - 5.0)),
        MarkKind::Heal => ("heal", format!("M{:.1} 18h10l-5 -10z", x - 5.0)),
        MarkKind::Change => ("change", format!("M{x:.1} 9l4 4l-4 4l-4 -4z")),
    };
    let _ = writeln!(
        svg,
        "<g class=\"{class}\"><title>{}</title><path class=\"line\" d=\"M{x:.1} {}V{bottom}\"/>\
         <path d=\"{sign}\"/></g>",
        esc(&mark.label),
        TOP - 4.0
    );
}

const WIDTH: f64 = 1_100.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 1_075.0;
const TOP: f64 = 24.0;
const ROW: f64 = 18.0;
const GAP: f64 = 4.0;
const AXIS: f64 = 24.0;
/// Minimum width of an outage: a millisecond in a minute would be invisible.
const OUTAGE_WIDTH: f64 = 1.6;
