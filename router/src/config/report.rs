//! Collects findings while a text is read, so that one mistake does not hide another.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use toml::de::DeTable;

use super::finding::{ConfigErrors, Finding, Source};
use super::twins;

/// Collects the findings of readers and checks.
pub struct Report {
    source: Arc<Source>,
    found: RefCell<Vec<Finding>>,
    /// In other files.
    elsewhere: RefCell<Vec<Finding>>,
    /// Lines, counted from 0, that are not valid TOML: values read from them are meaningless.
    broken_lines: HashSet<usize>,
}

impl Report {
    /// Starts with the errors of the TOML parser.
    pub fn new(name: &str, text: &str, document: &DeTable<'_>, errors: &[toml::de::Error]) -> Self {
        let source = Arc::new(Source::new(name, text));
        let spans = errors.iter().map(|error| error.span().unwrap_or_default());
        let broken_lines = spans.map(|span| source.line_of(span.start)).collect();
        let mistakes = errors.iter().map(|error| syntax_mistake(error, text, document));
        let found = mistakes.map(|f| f.in_source(&source)).collect();
        Self { source, found: RefCell::new(found), elsewhere: RefCell::default(), broken_lines }
    }

    /// Adds a finding, unless it only results from text that is not valid TOML.
    pub fn add(&self, finding: Finding) {
        let line = self.source.line_of(finding.offset());
        let broken = self.broken_lines.contains(&line);
        if broken || (finding.is_consequence() && !self.broken_lines.is_empty()) {
            return;
        }
        self.found.borrow_mut().push(finding.in_source(&self.source));
    }

    /// Adds a finding about another file, which has its place already.
    pub fn add_elsewhere(&self, finding: Finding) {
        self.elsewhere.borrow_mut().push(finding);
    }

    /// Returns all findings in the order of the file: `Ok` if they are only warnings.
    pub fn finish(self) -> Result<Vec<Finding>, ConfigErrors> {
        let mut found = self.found.into_inner();
        found.sort_by_key(Finding::offset);
        found.extend(self.elsewhere.into_inner());
        let (warnings, mistakes): (Vec<_>, Vec<_>) =
            found.into_iter().partition(Finding::is_warning);
        if mistakes.is_empty() { Ok(warnings) } else { Err(ConfigErrors { mistakes, warnings }) }
    }
}

/// Formats `title: a, b, c`, shortened if the list is long.
pub fn list_of(title: &str, items: &[&str]) -> String {
    if items.is_empty() {
        return format!("{title}: none");
    }
    let shown = items.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(LISTED) {
        0 => format!("{title}: {shown}"),
        more => format!("{title}: {shown} and {more} more"),
    }
}

fn syntax_mistake(error: &toml::de::Error, text: &str, document: &DeTable<'_>) -> Finding {
    if error.message() == DUPLICATE {
        let again = error.span().unwrap_or_default();
        let key = text.get(again.clone()).unwrap_or_default();
        let finding = Finding::mistake(format!("duplicate key {key}"));
        let finding = finding.at(again.clone(), "here again");
        return match twins::first_of(document, text, &again) {
            Some(first) => finding.at(first, "first here"),
            None => finding,
        };
    }
    let (what, expected) =
        error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let label = if expected.is_empty() { String::new() } else { format!("expected {expected}") };
    let finding = Finding::mistake(what).at(error.span().unwrap_or_default(), label);
    if what.contains("must be quoted") {
        return finding.help("put text in double quotes");
    }
    finding
}

/// The parser's words for a key that a table has already.
const DUPLICATE: &str = "duplicate key";

const LISTED: usize = 16;
