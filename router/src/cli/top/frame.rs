//! The frames of `nearhop top`: sections of a header and rows, cut to the terminal's size.
#![forbid(unsafe_code)]

use crate::api::column::Field;
use crate::api::row::{Row as _, keys};
use crate::api::rows::{TopOfService, TopRow};
use crate::cli::screen::Size;
use crate::cli::table::{LeftOut, TextTable, shortened};

/// Formats the items of a `nearhop.top.v1` document as lines that fit `size`, or all of them
/// without a size.
///
/// Each section shown begins with its header. Rows that do not fit are counted; below 4 lines there
/// is no room for every count. Columns that do not fit are named in the last line, if there are 10.
pub(super) fn frame(items: &[TopRow], size: Option<Size>) -> Vec<String> {
    let sections = SECTIONS.iter().map(|section| section.drawn(items, size));
    let sections: Vec<Drawn> = sections.filter(|drawn| drawn.lines.len() > 1).collect();
    let Some(Size { width, lines }) = size else { return joined(&sections, true) };
    let mut left_out = LeftOut::default();
    for drawn in &sections {
        left_out.extend(drawn.left_out.clone());
    }
    let note = left_out.line(width).filter(|_| lines >= NOTE_FROM);
    let room = lines - usize::from(note.is_some());
    let used: usize = sections.iter().map(|drawn| drawn.lines.len()).sum();
    let gaps = sections.len().saturating_sub(1);
    let lines =
        if used <= room { joined(&sections, used + gaps <= room) } else { cut(&sections, room) };
    let lines = lines.into_iter().map(|line| shortened(&line, width).into_owned());
    lines.chain(note).collect()
}

/// Rows of one kind, and their columns.
struct Section {
    /// The name of its rows when they are only counted.
    plural: &'static str,
    /// Keys of [`TopRow`], in the order of the columns.
    keys: &'static [&'static [&'static str]],
    rows: Rows,
}

/// The items of a section.
enum Rows {
    /// Items with this value of the key `of`.
    Of(&'static str),
    /// Services and families, each followed by its sites.
    Services,
}

/// A formatted section: header and rows.
struct Drawn {
    plural: &'static str,
    lines: Vec<String>,
    left_out: LeftOut,
}

impl Section {
    fn drawn(&self, items: &[TopRow], size: Option<Size>) -> Drawn {
        let rows: Vec<_> = match self.rows {
            Rows::Of(kind) => of(items, kind).collect(),
            Rows::Services => of(items, "service").flat_map(|one| with_sites(one, items)).collect(),
        };
        let places = self
            .keys
            .iter()
            .copied()
            .flatten()
            .filter_map(|key| TopRow::COLUMNS.iter().position(|column| column.key == *key));
        let places: Vec<usize> = places.collect();
        let mut table = TextTable::new(places.iter().map(|&place| &TopRow::COLUMNS[place]));
        for row in rows {
            let mut fields = Vec::new();
            row.fields(&mut |field| fields.push(field));
            let shown: Vec<Field<'_>> = places.iter().map(|&place| fields[place]).collect();
            table.push(&shown);
        }
        let left_out = size.map(|size| table.fit(size.width)).unwrap_or_default();
        Drawn { plural: self.plural, lines: table.lines(), left_out }
    }
}

fn of<'i>(items: &'i [TopRow], kind: &'static str) -> impl Iterator<Item = &'i TopRow> {
    items.iter().filter(move |item| item.of == kind)
}

fn with_sites<'i>(service: &'i TopRow, items: &'i [TopRow]) -> Vec<&'i TopRow> {
    let name = |row: &'i TopRow| row.of_service.as_ref().map(|of| (&of.service, &of.family));
    let sites = of(items, "site").filter(|site| name(site) == name(service));
    [service].into_iter().chain(sites).collect()
}

fn joined(sections: &[Drawn], gaps: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for drawn in sections {
        if gaps && !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(drawn.lines.iter().cloned());
    }
    lines
}

/// Divides `room` lines among the sections: first [`LEAST`] to each, then line by line to the
/// shortest. Trailing sections that get none are counted in one line.
fn cut(sections: &[Drawn], room: usize) -> Vec<String> {
    let least = |drawn: &Drawn| drawn.lines.len().min(LEAST);
    let mut kept = sections.len();
    let needs = |kept: usize| {
        let counted = usize::from(kept < sections.len());
        sections[..kept].iter().map(least).sum::<usize>() + counted
    };
    while kept > 1 && needs(kept) > room {
        kept -= 1;
    }
    let (shown, left_out) = sections.split_at(kept);
    let mut free = room.saturating_sub(needs(kept));
    let mut shares: Vec<usize> = shown.iter().map(least).collect();
    while free > 0 {
        let open =
            shares.iter_mut().zip(shown).filter(|(share, drawn)| **share < drawn.lines.len());
        let Some((share, _)) = open.min_by_key(|(share, _)| **share) else { break };
        *share += 1;
        free -= 1;
    }
    let mut lines: Vec<String> =
        shown.iter().zip(shares).flat_map(|(drawn, share)| first_lines(drawn, share)).collect();
    let counts = left_out.iter().map(|drawn| format!("{} {}", drawn.lines.len() - 1, drawn.plural));
    let counts: Vec<_> = counts.collect();
    if !counts.is_empty() {
        lines.push(format!("… {} more", counts.join(", ")));
    }
    lines.truncate(room);
    lines
}

/// The first lines of a section; the last of them counts the rows left out.
fn first_lines(drawn: &Drawn, share: usize) -> Vec<String> {
    if share >= drawn.lines.len() {
        return drawn.lines.clone();
    }
    let whole = share.saturating_sub(1);
    let more = format!("… {} more", drawn.lines.len() - whole);
    drawn.lines[..whole].iter().cloned().chain([more]).collect()
}

const SECTIONS: [Section; 3] = [
    Section {
        plural: "ports",
        keys: &[keys!(
            TopRow: port,
            rx_packets_per_s,
            rx_bytes_per_s,
            tx_packets_per_s,
            tx_bytes_per_s,
            dropped_per_s
        )],
        rows: Rows::Of("port"),
    },
    Section {
        plural: "services and sites",
        keys: &[
            keys!(TopOfService: service, family, site),
            keys!(TopRow: packets_per_s, bytes_per_s),
        ],
        rows: Rows::Services,
    },
    Section {
        plural: "verdicts",
        keys: &[keys!(TopRow: verdict, packets_per_s)],
        rows: Rows::Of("verdict"),
    },
];

/// In fewer lines than this, rows are worth more than the names of columns that are left out.
const NOTE_FROM: usize = 10;

/// A header, a row, and the count of the rest.
const LEAST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::column::Text;

    fn owned(text: &str) -> Text {
        Text::Owned(text.to_owned())
    }

    fn port(name: &str, packets: u64) -> TopRow {
        TopRow {
            of: "port".into(),
            name: owned(name),
            port: Some(owned(name)),
            rx_packets_per_s: Some(packets),
            rx_bytes_per_s: Some(packets * 66),
            tx_packets_per_s: Some(packets / 2),
            tx_bytes_per_s: Some(packets * 33),
            dropped_per_s: Some(0),
            ..TopRow::default()
        }
    }

    fn verdict(name: &str, packets: u64) -> TopRow {
        TopRow {
            of: "verdict".into(),
            name: owned(name),
            verdict: Some(owned(name)),
            packets_per_s: Some(packets),
            ..TopRow::default()
        }
    }

    fn leg(family: &str, site: Option<&str>, packets: u64) -> TopRow {
        let of = if site.is_some() { "site" } else { "service" };
        let (service, family, site) = ("www".into(), owned(family), site.map(owned));
        TopRow {
            of: of.into(),
            name: "www".into(),
            of_service: Some(TopOfService { service, family, site }),
            packets_per_s: Some(packets),
            bytes_per_s: Some(packets * 1_400),
            ..TopRow::default()
        }
    }

    /// Four ports, a service of two families, three verdicts: 19 lines with the gaps.
    fn busy() -> Vec<TopRow> {
        vec![
            port("client", 1_234_567),
            port("ams", 800_000),
            port("fra", 12_345),
            port("par", 7),
            verdict("forwarded", 1_300_000),
            verdict("no-route", 12),
            verdict("ttl-expired", 1),
            leg("ipv4", None, 812_345),
            leg("ipv6", None, 1_202),
            leg("ipv4", Some("ams"), 800_000),
            leg("ipv4", Some("fra"), 12_345),
            leg("ipv6", Some("ams"), 1_202),
        ]
    }

    fn drawn(items: &[TopRow], width: usize, lines: usize) -> String {
        frame(items, Some(Size { width, lines })).join("\n")
    }

    #[test]
    fn a_frame_that_fits_is_whole() {
        let whole = drawn(&busy(), 80, 24);
        insta::assert_snapshot!(whole);
        assert_eq!(whole, drawn(&busy(), 120, 40));
        assert_eq!(whole, frame(&busy(), None).join("\n"));
    }

    #[test]
    fn a_frame_of_few_lines_keeps_its_headers_and_counts_the_rest() {
        insta::assert_snapshot!(drawn(&busy(), 80, 9));
        insta::assert_snapshot!(drawn(&busy(), 80, 7));
    }

    #[test]
    fn a_narrow_frame_shortens_names() {
        let mut items = busy();
        let long = "a-site-whose-name-is-as-long-as-a-name-may-be-63-characters-all";
        items.push(leg("ipv4", Some(long), 3));
        insta::assert_snapshot!(drawn(&items, 40, 24));
    }

    /// Each size, from nothing to more than enough.
    #[test]
    fn no_frame_is_larger_than_the_terminal_and_each_begins_with_a_header() {
        let mut items = busy();
        items.extend((0..60).map(|number| port(&format!("port-{number}"), 1)));
        for (items, lines) in [(busy(), 0..22), (items, 0..90)] {
            for lines in lines {
                for width in [8, 20, 40, 80, 120] {
                    let frame = frame(&items, Some(Size { width, lines }));
                    assert!(frame.len() <= lines, "{lines}: {frame:?}");
                    let widest = frame.iter().map(|line| line.chars().count()).max();
                    assert!(widest <= Some(width), "{width}: {frame:?}");
                    if lines > 0 {
                        assert!(frame[0].starts_with("PORT"), "{frame:?}");
                    }
                }
            }
        }
    }

    /// Every row is on the screen or in a count.
    #[test]
    fn nothing_is_left_out_silently() {
        let items = busy();
        for lines in 4..22 {
            let frame = frame(&items, Some(Size { width: 80, lines }));
            let (mut seen, mut headers) = (0, 0);
            for line in frame.iter().filter(|line| !line.is_empty()) {
                match line.strip_prefix("… ") {
                    Some(more) => {
                        let numbers =
                            more.split_whitespace().filter_map(|word| word.parse::<usize>().ok());
                        seen += numbers.sum::<usize>();
                    }
                    None if line.contains("/S") => headers += 1,
                    None => seen += 1,
                }
            }
            assert_eq!(seen, items.len(), "{headers} sections in {lines} lines: {frame:?}");
        }
    }

    #[test]
    fn what_has_no_rows_has_no_header() {
        assert_eq!(
            frame(&[verdict("forwarded", 12)], None),
            ["VERDICT    PKT/S", "forwarded     12"]
        );
        assert!(frame(&[], None).is_empty());
        assert!(drawn(&[], 80, 24).is_empty());
    }
}
