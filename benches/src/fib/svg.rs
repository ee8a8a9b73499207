//! The table of lookups as a bar chart: one panel for each family, workloads from top to bottom.
#![forbid(unsafe_code)]

use super::contestant::Maker;
use super::speed::{Cell, Column, Mode};
use crate::svg::{BAR, Bar, begin, text};

/// A whole SVG file; its title says where the figures come from.
pub fn chart(title: &str, families: &[&[Column]]) -> String {
    let panels: Vec<Panel> = families.iter().map(|columns| Panel::of(columns)).collect();
    let height = TOP + panels.iter().map(Panel::height).max().unwrap_or_default() + MARGIN;
    let width = MARGIN + panels.len() * (PANEL + MARGIN);
    let mut svg = begin(width, height);
    text(&mut svg, (MARGIN, 26), "start", "font-size=\"16\" font-weight=\"bold\"", HEADING);
    text(&mut svg, (MARGIN, 46), "start", "fill=\"#555\"", title);
    for (index, panel) in panels.iter().enumerate() {
        panel.draw(&mut svg, MARGIN + index * (PANEL + MARGIN));
    }
    svg.push_str("</svg>\n");
    svg
}

/// One family's bars.
struct Panel<'a> {
    columns: Vec<&'a Column>,
    /// The value of a bar as long as there is room.
    full: f64,
}

impl<'a> Panel<'a> {
    fn of(columns: &'a [Column]) -> Self {
        let batch = |column: &&Column| matches!(column.mode, Mode::Batch(_));
        let columns: Vec<&Column> = columns.iter().filter(batch).collect();
        let values = columns.iter().flat_map(|column| &column.cells).map(|cell| cell.summary().p50);
        Self { full: values.fold(1.0, f64::max), columns }
    }

    fn height(&self) -> usize {
        self.columns.iter().map(|column| GROUP + column.cells.len() * BAR).sum::<usize>() + HEAD
    }

    fn draw(&self, svg: &mut String, left: usize) {
        let Some(first) = self.columns.first() else { return };
        let bold = "font-size=\"13\" font-weight=\"bold\"";
        text(svg, (left, TOP + 14), "start", bold, first.family);
        let mut y = TOP + HEAD;
        for column in &self.columns {
            let Mode::Batch(batch) = column.mode else { continue };
            let name = format!("{}, batch {batch}", column.workload);
            text(svg, (left, y + 19), "start", "font-weight=\"bold\"", &name);
            y += GROUP;
            for cell in &column.cells {
                self.bar(svg, left, y, cell);
                y += BAR;
            }
        }
    }

    fn bar(&self, svg: &mut String, left: usize, y: usize, cell: &Cell) {
        let value = cell.summary().p50;
        let (name, colour) = (&cell.name, colour(cell.maker));
        let (length, figure) = (value / self.full * BARS as f64, format!("{value:.0}"));
        Bar { name, length, colour, figure }.draw(svg, (left + NAMES, y));
    }
}

/// Told apart by lightness, too.
fn colour(maker: Maker) -> &'static str {
    match maker {
        Maker::Nearhop => "#b2182b",
        Maker::DpdkFib => "#2166ac",
        Maker::DpdkLpm => "#67a9cf",
        Maker::Crate => "#bdbdbd",
        Maker::PlanB => "#5aae61",
    }
}

const HEADING: &str =
    "Longest-prefix match on one core: million lookups per second (longer is better)";
const MARGIN: usize = 24;
const TOP: usize = 60;
const PANEL: usize = 560;
const NAMES: usize = 120;
const BARS: usize = PANEL - NAMES - 44;
const HEAD: usize = 22;
const GROUP: usize = 26;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::keys::Workload;

    #[test]
    fn bars_are_as_long_as_their_figures_say() {
        let cell = |name: &str, figure| Cell {
            code: None,
            name: name.to_owned(),
            maker: Maker::Crate,
            samples: vec![figure],
        };
        let cells = vec![cell("a<b", 50.0), cell("c", 200.0)];
        let column =
            Column { family: "IPv4", workload: Workload::Zipf, mode: Mode::Batch(32), cells };
        let svg = chart("a & b", &[&[column]]);
        assert!(svg.contains(&format!("width=\"{:.1}\"", BARS as f64 / 4.0)));
        assert!(svg.contains(&format!("width=\"{:.1}\"", BARS as f64)));
        assert!(svg.contains("a&lt;b") && svg.contains("a &amp; b"));
        assert_eq!(svg.matches("<text").count(), 8);
    }
}
