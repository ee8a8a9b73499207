//! `docs/documents.md`, from the table of nouns.

use std::fmt::Write as _;

use nearhop::api::column::Column;
use nearhop::api::metrics::exposed_name;
use nearhop::api::nouns::{Noun, OTHERS, Pages, SHOWN};

/// The page.
pub fn documents() -> String {
    let mut page = String::from(HEAD);
    for noun in SHOWN.iter().chain(OTHERS) {
        document(&mut page, noun);
    }
    page
}

fn document(page: &mut String, noun: &'static Noun) {
    let Noun { name, about, .. } = *noun;
    let schema = noun.schema();
    write!(page, "\n## {name}\n\n{about}\n\n").unwrap();
    match noun.request {
        Some(request) => writeln!(page, "* `{request}`: `{schema}`").unwrap(),
        None => writeln!(page, "* `{schema}`").unwrap(),
    }
    if SHOWN.iter().any(|shown| shown.name == name) {
        writeln!(page, "* `only`: {}", only(noun.pages)).unwrap();
    }
    if let Some((of, after)) = pages(noun.pages) {
        writeln!(page, "* pages: `limit` counts {of}, `after` is {after}").unwrap();
    }
    if let Some(metrics) = noun.metrics {
        writeln!(page, "* labels of its metrics: `{}`", metrics.labels.join("`, `")).unwrap();
    }
    if !noun.head.is_empty() {
        page.push_str("\nIts own fields:\n");
        fields(page, noun, noun.head);
        page.push_str("\nThose of its items:\n");
    }
    if !noun.columns.is_empty() {
        fields(page, noun, noun.columns);
    }
}

fn fields(page: &mut String, noun: &'static Noun, columns: &[Column]) {
    page.push_str("\n| field | type | what it is | metric |\n|---|---|---|---|\n");
    for Column { key, unit, about, .. } in columns {
        let metric = exposed_name(noun, key).map_or(String::new(), |name| format!("`{name}`"));
        writeln!(page, "| `{key}` | {} | {about} | {metric} |", unit.name()).unwrap();
    }
}

fn only(pages: Pages) -> &'static str {
    match pages {
        Pages::Prefixes => {
            "a prefix, which stands for itself and what it covers, or an address, which stands for the \
             prefix it is forwarded by"
        }
        _ => "a word that one of a row's texts has to be",
    }
}

/// What a page's `limit` counts, and what goes on after.
fn pages(pages: Pages) -> Option<(&'static str, &'static str)> {
    match pages {
        Pages::Groups => Some(("groups", "the `next` of the page before")),
        Pages::Announcements | Pages::Prefixes => {
            Some(("prefixes", "a prefix, also one that is gone"))
        }
        Pages::Services => Some(("services", "the name of a service")),
        Pages::Whole => None,
    }
}

const HEAD: &str = "# Documents

What the [control socket](control-socket.md) answers, field by field. This page is made from the table in
`router/src/api/nouns.rs` and the rows in `router/src/api/rows/`; a test fails when they differ.

An item's fields are in the order of the columns of `nearhop show`. Any value may be `null`: not known. A metric has
the name that Prometheus stores; times are in seconds there, and a `state` is 1 for `up`, else 0. What is not known has
no sample.
";
