//! One kill in detail: every probe as a dot, the gap, and the events.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::svg::{Scale, colour, esc, fmt_ms, row_label};
use super::{ReportedKill, Run};
use crate::measure::{Kill, MeasuredKill, Outage, Trace, ms_between};

/// Draws a kill as SVG.
pub fn draw(run: &Run, reported: &ReportedKill, measured: &MeasuredKill) -> String {
    let kill = &reported.kill;
    let (from, to) = range(kill, measured);
    let scale = Scale::new(from, to, LEFT, RIGHT);
    let worst = measured.flows[measured.worst].flow;
    let mut rows = Vec::new();
    for flow in &measured.flows {
        let Some(trace) = run.traces.get(flow.flow) else { continue };
        rows.push(Row { trace, at_client: false, outage: None });
        if flow.flow == worst {
            rows.last_mut().into_iter().for_each(|row| row.outage = Some(flow.to_site.outage));
            rows.push(Row { trace, at_client: true, outage: Some(flow.to_client.outage) });
        }
    }
    let moments = moments(kill, measured);
    let top = 10.0 + moments.len() as f64 * LABEL;
    let bottom = top + rows.len() as f64 * ROW;
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\">\n",
        bottom + AXIS,
        esc(&format!("Probes round the {} kill of {}", kill.kind, kill.site))
    );
    for (moment, level) in moments.iter().zip(0u32..) {
        moment.draw(&mut svg, scale, 14.0 + f64::from(level) * LABEL, bottom);
    }
    for (row, y) in rows.iter().zip(0u32..) {
        row.draw(&mut svg, &run.sites, scale, top + f64::from(y) * ROW + ROW / 2.0);
    }
    scale.draw_axis(&mut svg, bottom, kill.window.fault_ns, (1e6, "ms"));
    svg + "</svg>\n"
}

/// The time shown: from shortly before the fault until shortly after the last flow is served again.
fn range(kill: &Kill, measured: &MeasuredKill) -> (u64, u64) {
    let worst = measured.flows[measured.worst].outage().to_ns;
    let repairs = measured.flows.iter().filter_map(|flow| flow.first_on_new_ns);
    let end = repairs.chain([worst, measured.first_on_new_ns]).max().unwrap_or(worst);
    let fault = kill.window.fault_ns;
    let margin = (end.saturating_sub(fault) / 4).max(MARGIN_NS);
    let from = fault.saturating_sub(margin).max(kill.window.start_ns);
    (from, (end + margin).min(kill.window.end_ns).max(from + 1))
}

/// A marked time.
struct Moment {
    t_ns: u64,
    class: &'static str,
    text: String,
}

fn moments(kill: &Kill, measured: &MeasuredKill) -> [Moment; 4] {
    let (event_ns, stored_ns) = measured.event_ns;
    let result = &measured.result;
    let fault = kill.window.fault_ns;
    let after = |t_ns| fmt_ms(ms_between(fault, t_ns));
    [
        (fault, "fault", format!("{} kill of {}", kill.kind, kill.site)),
        (
            event_ns,
            "moment",
            format!("event +{} ms: detect {}", after(event_ns), fmt_ms(result.detect_ms)),
        ),
        (
            stored_ns,
            "moment",
            format!("stored +{} ms: publish {}", after(stored_ns), fmt_ms(result.publish_ms)),
        ),
        (
            measured.first_on_new_ns,
            "heal",
            format!(
                "first packet on the new path +{} ms: repair {}",
                after(measured.first_on_new_ns),
                fmt_ms(result.repair_ms)
            ),
        ),
    ]
    .map(|(t_ns, class, text)| Moment { t_ns, class, text })
}

impl Moment {
    fn draw(&self, svg: &mut String, scale: Scale, y: f64, bottom: f64) {
        let x = scale.x(self.t_ns);
        // The label is right of its line, or left of it where it would leave the drawing.
        let width = self.text.chars().count() as f64 * LETTER;
        let (anchor, dx) = if x + width > RIGHT { ("end", -6.0) } else { ("start", 6.0) };
        let _ = writeln!(
            svg,
            "<g class=\"{}\"><path class=\"line\" d=\"M{x:.1} {:.1}V{bottom}\"/>\
             <text class=\"note\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text></g>",
            self.class,
            y - 10.0,
            x + dx,
            esc(&self.text)
        );
    }
}

/// Arrivals of a flow's probes at the sites, or of their echoes at the client.
struct Row<'a> {
    trace: &'a Trace,
    at_client: bool,
    outage: Option<Outage>,
}

impl Row<'_> {
    fn draw(&self, svg: &mut String, sites: &[String], scale: Scale, y: f64) {
        let label =
            if self.at_client { "back at client".to_owned() } else { row_label(self.trace) };
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
        if let Some(outage) = &self.outage {
            draw_gap(svg, outage, scale, y);
        }
        // One path per site with a point per probe: a tenth of the size of circles.
        let mut dots: Vec<String> = vec![String::new(); self.trace.sites.len()];
        let mut lost = String::new();
        for probe in self.trace.between(scale.start().saturating_sub(LATE_NS), scale.end()) {
            match &probe.arrival {
                Some(arrival) => {
                    let t_ns = if self.at_client { arrival.client_ns } else { arrival.server_ns };
                    let path = dots.get_mut(usize::from(arrival.site));
                    if let Some(path) = path.filter(|_| scale.contains(t_ns)) {
                        let _ = write!(path, "M{:.1} {y}h0", scale.x(t_ns));
                    }
                }
                None if scale.contains(probe.sent_ns) && !self.at_client => {
                    let _ = write!(lost, "M{:.1} {}v6", scale.x(probe.sent_ns), y - 3.0);
                }
                None => {}
            }
        }
        for (path, site) in dots.iter().zip(&self.trace.sites).filter(|(path, _)| !path.is_empty())
        {
            let class = colour(sites, site);
            let _ = writeln!(svg, "<path class=\"dots d{class}\" d=\"{path}\"/>");
        }
        if !lost.is_empty() {
            let _ = writeln!(svg, "<path class=\"missed\" d=\"{lost}\"/>");
        }
    }
}

/// Draws the longest gap as a band, with its length where there is room.
fn draw_gap(svg: &mut String, outage: &Outage, scale: Scale, y: f64) {
    if outage.length_ns == 0 {
        return;
    }
    let (x, end) = (scale.x(outage.from_ns), scale.x(outage.to_ns));
    let text = format!("{} ms", fmt_ms(outage.length_ns as f64 / 1e6));
    let (anchor, at) =
        if end - x > 90.0 { ("middle", f64::midpoint(x, end)) } else { ("start", end + 8.0) };
    let _ = writeln!(
        svg,
        "<rect class=\"gap\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\"/>\
         <text class=\"gaptext\" text-anchor=\"{anchor}\" x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
        y - ROW / 2.0 + 1.0,
        (end - x).max(1.0),
        ROW - 2.0,
        y - 5.0
    );
}

const WIDTH: f64 = 1_100.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 1_075.0;
const ROW: f64 = 30.0;
const LABEL: f64 = 16.0;
/// Approximate width of a letter in a label.
const LETTER: f64 = 6.6;
const AXIS: f64 = 24.0;
const MARGIN_NS: u64 = 2_000_000;
/// The longest time between a probe and its echo.
const LATE_NS: u64 = 1_000_000_000;
