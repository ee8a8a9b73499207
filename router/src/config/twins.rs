//! Where a key stands first that a text has twice. The parser says where it stands again, and no more.
#![forbid(unsafe_code)]

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The first place of the key at `again`; `None` if it cannot be told.
pub(super) fn first_of(
    document: &DeTable<'_>,
    text: &str,
    again: &Range<usize>,
) -> Option<Range<usize>> {
    let line_start = text.get(..again.start)?.rfind('\n').map_or(0, |at| at + 1);
    let header = text.get(line_start..again.end)?.trim_start();
    if header.starts_with('[') {
        return first_header(text, line_start).or_else(|| first_in(document, text, again));
    }
    first_in(innermost(document, text, again.start), text, again)
}

/// The key of a table's own, or of a table that its dotted keys made.
fn first_in(table: &DeTable<'_>, text: &str, again: &Range<usize>) -> Option<Range<usize>> {
    let name = text.get(again.clone())?;
    let is_first = |span: &Range<usize>| {
        span.start < again.start && text.get(span.clone()).is_some_and(|key| same(key, name))
    };
    let own = table.iter().map(|(key, _)| key.span()).find(is_first);
    own.or_else(|| {
        let mut dotted = table.iter().filter_map(|(_, value)| match value.get_ref() {
            DeValue::Table(inner) if begins(text, value.span().start).is_none() => Some(inner),
            _ => None,
        });
        dotted.find_map(|inner| first_in(inner, text, again))
    })
}

/// The last line before `line_start` with the same header.
fn first_header(text: &str, line_start: usize) -> Option<Range<usize>> {
    let key = |line: &str| {
        let path = line.trim_start().strip_prefix('[')?.trim_start_matches('[');
        Some(path.split(']').next()?.split('.').map(|part| bare(part).to_owned()).collect())
    };
    let wanted: Vec<String> = key(text.get(line_start..)?.lines().next()?)?;
    let mut at = 0;
    for line in text.get(..line_start)?.split_inclusive('\n') {
        if key(line).is_some_and(|found: Vec<String>| found == wanted) {
            let start = at + line.find(|c: char| c != '[' && !c.is_whitespace())?;
            let len = text[start..].find(']')?;
            return Some(start..start + text[start..start + len].trim_end().len());
        }
        at += line.len();
    }
    None
}

/// The table whose keys stand at `offset`: the braces around it, else the section.
fn innermost<'t>(document: &'t DeTable<'t>, text: &str, offset: usize) -> &'t DeTable<'t> {
    let mut best: (usize, &DeTable<'_>) = (0, document);
    let mut braces = false;
    let mut waiting = vec![document];
    while let Some(table) = waiting.pop() {
        let nodes = table.iter().flat_map(|(_, value)| match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        });
        for node in nodes {
            let DeValue::Table(inner) = node.get_ref() else { continue };
            waiting.push(inner);
            let span = node.span();
            let is_closer = match begins(text, span.start) {
                Some('{') => span.contains(&offset) && (!braces || span.start >= best.0),
                Some(_) => !braces && span.start <= offset && span.start >= best.0,
                None => false,
            };
            if is_closer {
                braces |= begins(text, span.start) == Some('{');
                best = (span.start, inner);
            }
        }
    }
    best.1
}

/// Whether a table is written in braces or below a header; `None` if dotted keys made it.
fn begins(text: &str, start: usize) -> Option<char> {
    text.get(start..)?.chars().next().filter(|c| matches!(c, '{' | '['))
}

fn same(one: &str, other: &str) -> bool {
    bare(one) == bare(other)
}

fn bare(key: &str) -> &str {
    key.trim().trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_found_in_the_same_table() {
        for text in [
            "<a> = 1\na = 2\n",
            "[router]\n<name> = 'a'\nid = 'x'\nname = 'b'\n",
            "name = 0\n[router]\n<name> = 'a'\nname = 'b'\n",
            "[[p]]\nname = 'a'\n[[p]]\n<name> = 'b'\nx = { name = 'c' }\nname = 'd'\n",
            "[[p]]\nname = 'a'\nx = { y = 1, <z> = { z = 1 }, z = 2 }\n",
            "[[p]]\nx = [{ name = 1 }, { <name> = 2, name = 3 }]\n",
            "[<router>]\nname = 'a'\n[api]\n[router]\nid = 'x'\n",
            "[[s]]\n[[s.site]]\n<name> = 1\n\"name\" = 2\n",
            "a.<b> = 1\na.b = 2\n",
            "<port> = 1\n[[port]]\n",
        ] {
            let plain = text.replace(['<', '>'], "");
            let wanted = text.find('<').unwrap()..text.find('>').unwrap() - 1;
            let (document, errors) = DeTable::parse_recoverable(&plain);
            let error = errors.iter().find(|error| error.message() == "duplicate key");
            let span = error.unwrap_or_else(|| panic!("{text}: {errors:?}")).span().unwrap();
            assert_eq!(first_of(document.get_ref(), &plain, &span), Some(wanted), "{text}");
        }
    }
}
