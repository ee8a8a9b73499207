//! Bar charts as SVG, for the benches that draw their tables.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// The beginning of a file of that size.
pub fn begin(width: usize, height: usize) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    )
}

/// Words at a place, in a style.
pub fn text(svg: &mut String, (x, y): (usize, usize), anchor: &str, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ =
        writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" {style}>{words}</text>");
}

/// One line of a chart: a name that ends where the bar begins, and the figure after the bar.
pub struct Bar<'a> {
    /// Of whom.
    pub name: &'a str,
    /// How long it is.
    pub length: f64,
    /// In what colour.
    pub colour: &'a str,
    /// The figure in words.
    pub figure: String,
}

impl Bar<'_> {
    /// Draws it from there on; the next is [`BAR`] below.
    pub fn draw(&self, svg: &mut String, (left, y): (usize, usize)) {
        let base = y + BAR - 4;
        text(svg, (left - 6, base), "end", "fill=\"#333\"", self.name);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>",
            self.length,
            BAR - 2,
            self.colour
        );
        let end = left + self.length as usize + 5;
        text(svg, (end, base), "start", "fill=\"#333\"", &self.figure);
    }
}

/// The height of a bar with the space after it.
pub const BAR: usize = 16;
