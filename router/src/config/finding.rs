//! What is wrong with a file, where, and what to write instead.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::printable;

/// One mistake or warning, with its place in the file.
///
/// `Display` is one line, `FILE:LINE:COLUMN: MESSAGE: EXPECTED (HELP)`; [`Self::render`] draws the source.
#[derive(Clone, Debug)]
pub struct Finding {
    message: String,
    labels: Vec<(Range<usize>, String)>,
    help: Option<String>,
    warning: bool,
    consequence: bool,
    source: Option<Arc<Source>>,
}

/// How findings are drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
    /// Columns of the terminal.
    pub width: usize,
}

/// Every mistake of a configuration, and what its warnings would have been. Never without a
/// mistake.
///
/// `Display` is a line for each of the first [`FINDINGS_SHOWN`], and a count of the others.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigErrors {
    /// In the order of the file.
    pub mistakes: Vec<Finding>,
    /// In the order of the file.
    pub warnings: Vec<Finding>,
}

/// A text and where its lines begin.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    text: String,
    /// As it is drawn, where that is different: of the same length.
    drawn: Option<String>,
    line_starts: Vec<usize>,
    /// Lines of the file before the text.
    first_line: usize,
}

impl Finding {
    /// Something that refuses the file.
    pub fn mistake(message: impl Into<String>) -> Self {
        Self {
            message: printable::lines(&message.into()).into_owned(),
            labels: Vec::new(),
            help: None,
            warning: false,
            consequence: false,
            source: None,
        }
    }

    /// Something that is probably not meant, but refuses nothing.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { warning: true, ..Self::mistake(message) }
    }

    /// Points at `span` (byte offsets), saying `label` there. The first place is the main one.
    #[must_use]
    pub fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.labels.push((span, printable::lines(&label.into()).into_owned()));
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable::lines(&help.into()).into_owned());
        self
    }

    /// May be nothing but the consequence of another mistake in the text, and is left out when
    /// the text is not even TOML.
    #[must_use]
    pub fn consequence(mut self) -> Self {
        self.consequence = true;
        self
    }

    pub(super) fn is_consequence(&self) -> bool {
        self.consequence
    }

    pub(super) fn in_source(mut self, source: &Arc<Source>) -> Self {
        for (span, _) in &mut self.labels {
            *span = source.clip(span);
        }
        self.source = Some(Arc::clone(source));
        self
    }

    /// It is about a line of another file, counted from 1.
    pub(super) fn in_line(mut self, name: &str, number: u64, line: &str) -> Self {
        let mut source = Source::new(name, line);
        source.first_line = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        self.labels.insert(0, (0..line.len(), String::new()));
        self.source = Some(Arc::new(source));
        self
    }

    pub(super) fn offset(&self) -> usize {
        self.labels.first().map_or(0, |(span, _)| span.start)
    }

    /// What is wrong, without place and help.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Whether this is a warning only.
    pub fn is_warning(&self) -> bool {
        self.warning
    }

    /// The file's name as it was given.
    pub fn file(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.name.as_str())
    }

    /// Line and column of the first character meant, both counted from 1; `None` when the file
    /// could not even be read.
    pub fn position(&self) -> Option<(usize, usize)> {
        let source = self.source.as_ref()?;
        let (span, _) = self.labels.first()?;
        Some(source.position(span.start))
    }

    /// The finding with the source line, for a terminal. Ends with a newline.
    pub fn render(&self, style: Style) -> String {
        let level = if self.warning { Level::WARNING } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(&self.message));
        if let Some(source) = &self.source {
            group = group.element(self.snippet(source));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        format!("{}\n", style.renderer().render(&[group]))
    }

    fn snippet<'a>(&'a self, source: &'a Source) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let annotations = self.labels.iter().enumerate().map(|(index, (span, label))| {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(span.clone());
            if label.is_empty() { annotation } else { annotation.label(label) }
        });
        let text = source.drawn.as_ref().unwrap_or(&source.text);
        let snippet = Snippet::source(text).line_start(source.first_line + 1);
        snippet.path(&source.name).annotations(annotations)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(file), Some((line, column))) = (self.file(), self.position()) {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some((_, label)) = self.labels.first().filter(|(_, label)| !label.is_empty()) {
            write!(f, ": {label}")?;
        }
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl ConfigErrors {
    /// A file that could not be read at all.
    pub fn unreadable(name: &str, error: &std::io::Error) -> Self {
        let mistake = Finding::mistake(format!("cannot read {name}: {error}"));
        Self::alone(match error.kind() {
            io::ErrorKind::InvalidInput => {
                mistake.help("name a regular file; `nearhop check -` reads standard input")
            }
            _ => mistake,
        })
    }

    pub(super) fn alone(mistake: Finding) -> Self {
        Self { mistakes: vec![mistake], warnings: Vec::new() }
    }

    /// The mistakes, then the warnings, drawn with their source lines; of many, the first.
    pub fn render(&self, style: Style) -> String {
        let mut drawn = Vec::new();
        for (findings, kind) in [(&self.mistakes, "errors"), (&self.warnings, "warnings")] {
            let shown = findings.iter().take(FINDINGS_SHOWN);
            drawn.extend(shown.map(|finding| finding.render(style)));
            drawn.extend(more_than_shown(findings, kind));
        }
        drawn.join("\n")
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().take(FINDINGS_SHOWN).enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{mistake}")?;
        }
        match more_than_shown(&self.mistakes, "errors") {
            Some(more) => write!(f, "\n{}", more.trim_end()),
            None => Ok(()),
        }
    }
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        let name = printable::line(name).into_owned();
        Self { name, text: text.to_owned(), drawn: drawn(text), line_starts, first_line: 0 }
    }

    /// Line of a byte offset, counted from 0.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset) - 1
    }

    /// The part of `span` that lies in its first line, on character boundaries.
    fn clip(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        let line = &self.text[start..end];
        let len = line.find(['\r', '\n']).unwrap_or(line.len());
        start..start + len
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        (self.first_line + line + 1, self.column(line, offset) + 1)
    }

    fn column(&self, line: usize, offset: usize) -> usize {
        self.text[self.line_starts[line]..offset].chars().count()
    }
}

impl Style {
    /// For text that is stored or compared: no colour, `PLAIN_WIDTH` columns.
    pub const PLAIN: Self = Self { color: false, width: PLAIN_WIDTH };

    /// As standard error is: its width, and colour if it is a terminal that `NO_COLOR` does not
    /// speak for.
    pub fn of_stderr() -> Self {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            return Self::PLAIN;
        }
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let columns = rustix::termios::tcgetwinsize(&stderr).map_or(0, |size| size.ws_col);
        let width = if columns == 0 { PLAIN_WIDTH } else { usize::from(columns) };
        Self { color: !set("NO_COLOR") && !dumb, width }
    }

    fn renderer(self) -> Renderer {
        let renderer = if self.color { Renderer::styled() } else { Renderer::plain() };
        renderer.term_width(self.width)
    }
}

/// A text without what a terminal would act on, each byte where it was; `None` if there is no such thing.
/// Whoever draws it has signs for the ASCII ones.
fn drawn(text: &str) -> Option<String> {
    let sign = |c: char| match c.len_utf8() {
        _ if !printable::is_unprintable(c) => c,
        2 => '\u{b7}',
        3 => '\u{2426}',
        _ => c,
    };
    text.contains(|c| sign(c) != c).then(|| text.chars().map(sign).collect())
}

/// How many more there are than are drawn, if any.
pub fn more_than_shown(findings: &[Finding], kind: &str) -> Option<String> {
    let more = findings.len().saturating_sub(FINDINGS_SHOWN);
    (more > 0).then(|| format!("... and {more} more {kind}\n"))
}

/// Findings of a kind that are drawn: each is drawn with its lines, which takes its time.
pub const FINDINGS_SHOWN: usize = 50;

const PLAIN_WIDTH: usize = 100;
