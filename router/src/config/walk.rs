//! Reads TOML tables key by key, and reports every mistake at its position.
//!
//! serde stops at the first mistake, so readers walk the tree themselves: they take keys from a
//! [`Table`], and [`Table::finish`] reports the keys that were not taken.
#![forbid(unsafe_code)]

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::Finding;
use super::report::{Report, list_of};
use super::suggest::did_you_mean;
use super::value::ValueError;

/// A TOML value with its position.
pub type Node<'t> = Spanned<DeValue<'t>>;

/// A table being read.
pub struct Table<'t> {
    entries: &'t DeTable<'t>,
    span: Range<usize>,
    what: &'t str,
    known: Vec<&'static str>,
    hidden: Vec<&'static str>,
    report: &'t Report,
}

impl<'t> Table<'t> {
    /// A table; messages refer to it as `what`.
    pub fn new(
        entries: &'t DeTable<'t>,
        span: Range<usize>,
        what: &'t str,
        report: &'t Report,
    ) -> Self {
        Self { entries, span, what, known: Vec::new(), hidden: Vec::new(), report }
    }

    /// Takes the value of `key` if it is present and `read` accepts it; reports what `read`
    /// refuses.
    pub fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, ValueError>,
    ) -> Option<Spanned<T>> {
        self.know(key);
        let node = self.entries.get(key)?;
        self.read(key, node, read)
    }

    /// Like [`Self::get`], but reports a missing key, with `example` as what to write.
    pub fn need<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, ValueError>,
    ) -> Option<Spanned<T>> {
        if !self.has(key) {
            self.missing(key, example);
        }
        self.get(key, read)
    }

    /// Takes the items of the list `key`, each read separately; empty if the key is missing.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'t>) -> Result<T, ValueError>,
    ) -> Vec<Spanned<T>> {
        self.know(key);
        let Some(node) = self.entries.get(key) else { return Vec::new() };
        let DeValue::Array(items) = node.get_ref() else {
            let found = node.get_ref().type_str();
            let mut finding = Finding::mistake(format!("{key} must be a list"))
                .at(node.span(), format!("expected a list, found {}", article(found)));
            if let Some(text) = node.get_ref().as_str() {
                finding = finding.help(format!("write {key} = [{text:?}]"));
            }
            self.report.add(finding);
            return Vec::new();
        };
        items.iter().filter_map(|item| self.read(key, item, &read)).collect()
    }

    /// Takes the table `key`, from `[key]` or an inline table.
    pub fn table(&mut self, key: &'static str, what: &'t str) -> Option<Table<'t>> {
        self.know(key);
        let node = self.entries.get(key)?;
        match node.get_ref() {
            DeValue::Table(entries) => Some(Table::new(entries, node.span(), what, self.report)),
            other => {
                let found = article(other.type_str());
                let finding = Finding::mistake(format!("{key} must be a table"))
                    .at(node.span(), format!("expected a table, found {found}"))
                    .help(format!("write {what}"));
                self.report.add(finding);
                None
            }
        }
    }

    /// Takes every table of the list `key`, from `[[key]]` sections.
    pub fn tables(&mut self, key: &'static str, what: &'t str) -> Vec<Table<'t>> {
        self.know(key);
        let Some(node) = self.entries.get(key) else { return Vec::new() };
        let nodes = match node.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![node],
        };
        let alone = !node.get_ref().is_array();
        let mut tables = Vec::new();
        for node in nodes {
            match node.get_ref() {
                DeValue::Table(entries) => {
                    tables.push(Table::new(entries, node.span(), what, self.report));
                }
                other => self.not_a_table(key, node, other),
            }
            if alone && node.get_ref().is_table() {
                let finding = Finding::mistake(format!("{key} must be a list of tables"))
                    .at(node.span(), "this is one table")
                    .help(format!("write {what}"));
                self.report.add(finding);
            }
        }
        tables
    }

    /// Takes the value of `key` unread, for readers that accept several types.
    pub fn node(&mut self, key: &'static str) -> Option<&'t Node<'t>> {
        self.know(key);
        self.entries.get(key)
    }

    /// Reports `key`, if present, as not available yet; returns whether it was present.
    pub fn later(&mut self, key: &'static str, what: &str) -> bool {
        self.hidden.push(key);
        let Some((name, _)) = self.entries.get_key_value(key) else { return false };
        self.report.add(not_available(what).at(name.span(), "not implemented in this release"));
        true
    }

    /// Takes `key` without reading it: it belongs to one that [`Self::later`] has reported.
    pub fn ignore(&mut self, key: &'static str) {
        self.hidden.push(key);
    }

    /// Whether `key` is present.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Position of `key`, or of the table if the key is missing.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.entries.get_key_value(key).map_or(self.span.clone(), |(name, _)| name.span())
    }

    /// Position of the table's header, or of its braces.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The string of `key`, valid or not.
    pub fn as_written(&self, key: &str) -> Option<String> {
        self.entries.get(key)?.get_ref().as_str().map(str::to_owned)
    }

    /// Where findings are collected.
    pub fn report(&self) -> &'t Report {
        self.report
    }

    /// Reports that `key` is missing.
    pub fn missing(&self, key: &str, example: &str) {
        let finding = Finding::mistake(format!("{} has no {key}", self.what))
            .at(self.span.clone(), format!("{key} is missing"))
            .help(format!("add {example}"))
            .consequence();
        self.report.add(finding);
    }

    /// Reports the keys that no reader took.
    pub fn finish(self) {
        let known_to_parser = |key: &str| self.known.contains(&key) || self.hidden.contains(&key);
        for (key, _) in self.entries {
            let name = key.get_ref().as_ref();
            if known_to_parser(name) {
                continue;
            }
            let mut finding = Finding::mistake(format!("{} has no key {name:?}", self.what))
                .at(key.span(), list_of("known keys", &self.known));
            if let Some(best) = did_you_mean(name, &self.known) {
                finding = finding.help(format!("did you mean {best}?"));
            }
            self.report.add(finding);
        }
    }

    fn know(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    fn read<T>(
        &self,
        key: &str,
        node: &Node<'t>,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, ValueError>,
    ) -> Option<Spanned<T>> {
        match read(node.get_ref()) {
            Ok(value) => Some(Spanned::new(node.span(), value)),
            Err(fault) => {
                self.report.add(fault.into_finding(key, node.span()));
                None
            }
        }
    }

    fn not_a_table(&self, key: &str, node: &Node<'t>, value: &DeValue<'t>) {
        let found = article(value.type_str());
        let finding = Finding::mistake(format!("{key} must be a list of tables"))
            .at(node.span(), format!("expected a table from [[{key}]], found {found}"));
        self.report.add(finding);
    }
}

/// The mistake of using something that is not implemented yet.
pub fn not_available(what: &str) -> Finding {
    Finding::mistake(format!("{what} is not available yet"))
        .help("this release does not ignore what it cannot do; remove it")
}

/// The type name with its article.
pub fn article(type_name: &str) -> String {
    match type_name.chars().next() {
        Some('a' | 'e' | 'i' | 'o' | 'u') => format!("an {type_name}"),
        _ => format!("a {type_name}"),
    }
}
