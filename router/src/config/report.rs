//! Collects findings while a text is read, so that one mistake hides no other.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::finding::{ConfigErrors, Finding, Source};

/// Where the readers and checks put what they find.
pub struct Report {
    source: Arc<Source>,
    found: RefCell<Vec<Finding>>,
    /// Lines, counted from 0, that are not TOML: what was read from them means nothing.
    broken_lines: HashSet<usize>,
}

impl Report {
    /// Starts with what the TOML parser had to say.
    pub fn new(name: &str, text: &str, errors: &[toml::de::Error]) -> Self {
        let source = Arc::new(Source::new(name, text));
        let spans = errors.iter().map(|error| error.span().unwrap_or_default());
        let broken_lines = spans.map(|span| source.line_of(span.start)).collect();
        let found = errors.iter().map(syntax_mistake).map(|f| f.in_source(&source)).collect();
        Self { source, found: RefCell::new(found), broken_lines }
    }

    /// Takes a finding, unless it only follows from text that is not TOML.
    pub fn add(&self, finding: Finding) {
        let line = self.source.line_of(finding.offset());
        let broken = self.broken_lines.contains(&line);
        if broken || (finding.is_consequence() && !self.broken_lines.is_empty()) {
            return;
        }
        self.found.borrow_mut().push(finding.in_source(&self.source));
    }

    /// All findings in the order of the file: the warnings, or the errors with them.
    pub fn finish(self) -> Result<Vec<Finding>, ConfigErrors> {
        let mut found = self.found.into_inner();
        found.sort_by_key(Finding::offset);
        let (warnings, mistakes): (Vec<_>, Vec<_>) =
            found.into_iter().partition(Finding::is_warning);
        if mistakes.is_empty() { Ok(warnings) } else { Err(ConfigErrors { mistakes, warnings }) }
    }
}

/// `title: a, b, c`, cut where it would fill the screen.
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

fn syntax_mistake(error: &toml::de::Error) -> Finding {
    let (what, expected) =
        error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let label = if expected.is_empty() { String::new() } else { format!("expected {expected}") };
    let finding = Finding::mistake(what).at(error.span().unwrap_or_default(), label);
    if what.contains("must be quoted") {
        return finding.help("text goes in double quotes");
    }
    finding
}

const LISTED: usize = 12;
