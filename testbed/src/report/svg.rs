//! Common parts of the drawings: escaping, scales, ticks, numbers.
#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::measure::Trace;

/// Escapes text for use between tags and in quoted attributes.
pub fn esc(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML 1.0 allows no other control characters.
            letter if letter.is_control() && !matches!(letter, '\n' | '\t') => {
                safe.push('\u{fffd}');
            }
            letter => safe.push(letter),
        }
    }
    safe
}

/// Formats milliseconds with about three digits.
pub fn fmt_ms(value: f64) -> String {
    match value.abs() {
        size if size < 0.0995 => format!("{value:.3}"),
        size if size < 9.95 => format!("{value:.2}"),
        size if size < 99.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A linear mapping from times to horizontal positions.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    from_ns: u64,
    to_ns: u64,
    left: f64,
    right: f64,
}

impl Scale {
    /// Maps `from_ns` to `left` and `to_ns` to `right`; an empty range counts as one nanosecond.
    pub fn new(from_ns: u64, to_ns: u64, left: f64, right: f64) -> Self {
        Self { from_ns, to_ns: to_ns.max(from_ns + 1), left, right }
    }

    /// Position of a time; times outside the range are drawn at its edge.
    pub fn x(&self, t_ns: u64) -> f64 {
        let inside = t_ns.clamp(self.from_ns, self.to_ns) - self.from_ns;
        let share = inside as f64 / (self.to_ns - self.from_ns) as f64;
        self.left + share * (self.right - self.left)
    }

    /// The first time in the range.
    pub fn start(&self) -> u64 {
        self.from_ns
    }

    /// The last time in the range.
    pub fn end(&self) -> u64 {
        self.to_ns
    }

    /// Whether a time is in the range.
    pub fn contains(&self, t_ns: u64) -> bool {
        (self.from_ns..=self.to_ns).contains(&t_ns)
    }

    /// Draws the axis at `bottom`, with ticks that count from `zero_ns` in a unit: its nanoseconds and its name.
    pub fn draw_axis(
        &self,
        svg: &mut String,
        bottom: f64,
        zero_ns: u64,
        (unit_ns, unit): (f64, &str),
    ) {
        for (at, text) in self.ticks(zero_ns, unit_ns, TICKS_MAX) {
            let x = self.x(at);
            let _ = writeln!(
                svg,
                "<path class=\"tick\" d=\"M{x:.1} {bottom}v4\"/>\
                 <text class=\"axis\" x=\"{x:.1}\" y=\"{:.1}\">{text} {unit}</text>",
                bottom + 17.0
            );
        }
    }

    /// Ticks at round distances from `zero_ns`, at most `most`: each as (time, text in `unit_ns`).
    fn ticks(&self, zero_ns: u64, unit_ns: f64, most: f64) -> Vec<(u64, String)> {
        let span = (self.to_ns - self.from_ns) as f64 / unit_ns;
        let step = nice_step(span / most);
        let begin = (self.from_ns as f64 - zero_ns as f64) / unit_ns;
        // The tolerance includes ticks on the edge despite rounding.
        let first = (begin / step - EDGE).ceil() as i64;
        let last = ((begin + span) / step + EDGE).floor() as i64;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        (first..=last)
            .map(|number| {
                let value = number as f64 * step;
                let at = zero_ns as f64 + value * unit_ns;
                (at.round() as u64, format!("{:.decimals$}", value + 0.0))
            })
            .collect()
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power)
}

/// Number of a site's colour, 0 to 7; with more than eight sites, some share a colour.
pub fn colour(sites: &[String], name: &str) -> usize {
    sites.iter().position(|site| site == name).map_or(COLOURS - 1, |at| at % COLOURS)
}

/// Label of a flow's row.
pub fn row_label(trace: &Trace) -> String {
    let family = if trace.flow.destination.is_ipv4() { "v4" } else { "v6" };
    esc(&format!("{} {family} :{}", trace.flow.client, trace.flow.source_port))
}

const COLOURS: usize = 8;
const EDGE: f64 = 1e-6;

/// Ticks of an axis that stand apart.
const TICKS_MAX: f64 = 12.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_as_markup() {
        assert_eq!(esc("<a b='c'>&\"\u{7}"), "&lt;a b=&#39;c&#39;&gt;&amp;&quot;\u{fffd}");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let labels = |from, to, zero| {
            let ticks = Scale::new(from, to, 0.0, 1.0).ticks(zero, 1e6, 6.0);
            ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(labels(0, 10_000_000, 0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(95_000_000, 120_000_000, 100_000_000),
            ["-5", "0", "5", "10", "15", "20"]
        );
        assert_eq!(labels(900_000, 1_300_000, 1_000_000), ["-0.1", "0.0", "0.1", "0.2", "0.3"]);
    }

    #[test]
    fn milliseconds_keep_three_digits() {
        let cases =
            [(0.0, "0.000"), (0.0123, "0.012"), (0.1, "0.10"), (31.44, "31.4"), (123.4, "123")];
        for (value, text) in cases {
            assert_eq!(fmt_ms(value), text);
        }
    }
}
