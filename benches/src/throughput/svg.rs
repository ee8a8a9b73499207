//! The medians as a bar chart: a group for each measure.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

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
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, (MARGIN, 26), "start", "font-size=\"16\" font-weight=\"bold\"", HEADING);
    let mut y = TOP;
    for group in groups {
        text(&mut svg, (MARGIN, y + 14), "start", "font-weight=\"bold\"", &group.name);
        y += GROUP;
        let full = group.bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value) in &group.bars {
            let length = value / full * BARS as f64;
            let (left, base) = (MARGIN + NAMES, y + BAR - 4);
            text(&mut svg, (left - 6, base), "end", "fill=\"#333\"", name);
            let colour = if name.starts_with("nearhop") { "#b2182b" } else { "#92a5b8" };
            let _ = writeln!(
                svg,
                "<rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                BAR - 2
            );
            let after = left + length as usize + 5;
            text(&mut svg, (after, base), "start", "fill=\"#333\"", &format!("{value:.2}"));
            y += BAR;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, (x, y): (usize, usize), anchor: &str, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ =
        writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" {style}>{words}</text>");
}

const HEADING: &str = "Throughput and round trips: medians of all rounds";
const MARGIN: usize = 24;
const TOP: usize = 44;
const NAMES: usize = 190;
const BARS: usize = 420;
const GROUP: usize = 24;
const BAR: usize = 16;

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
