//! The medians as a bar chart: a group for each measure.
#![forbid(unsafe_code)]

use crate::svg::{BAR, Bar, begin, text};

/// One measure.
pub struct Group {
    /// With its unit.
    pub name: String,
    /// Contestants and their medians.
    pub bars: Vec<(String, f64)>,
}

/// A whole SVG file.
pub fn chart(groups: &[Group]) -> String {
    let lines: usize = groups.iter().map(|group| group.bars.len() * BAR + GROUP).sum();
    let (width, height) = (NAMES + BARS + 3 * MARGIN, TOP + lines + MARGIN);
    let mut svg = begin(width, height);
    text(&mut svg, (MARGIN, 26), "start", "font-size=\"16\" font-weight=\"bold\"", HEADING);
    let mut y = TOP;
    for group in groups {
        text(&mut svg, (MARGIN, y + 14), "start", "font-weight=\"bold\"", &group.name);
        y += GROUP;
        let full = group.bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value) in &group.bars {
            let colour = if name.starts_with("nearhop") { "#b2182b" } else { "#92a5b8" };
            let (length, figure) = (value / full * BARS as f64, format!("{value:.2}"));
            Bar { name, length, colour, figure }.draw(&mut svg, (MARGIN + NAMES, y));
            y += BAR;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

const HEADING: &str = "Throughput and round trips: medians of all rounds";
const MARGIN: usize = 24;
const TOP: usize = 44;
const NAMES: usize = 190;
const BARS: usize = 420;
const GROUP: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures_say() {
        let bars = vec![("a<b".to_owned(), 1.0), ("nearhop".to_owned(), 4.0)];
        let svg = chart(&[Group { name: "x & y".into(), bars }]);
        assert!(svg.contains(&format!("width=\"{:.1}\"", BARS as f64 / 4.0)));
        assert!(svg.contains(&format!("width=\"{:.1}\"", BARS as f64)));
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y"));
    }
}
