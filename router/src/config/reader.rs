//! The configuration's reader, for other TOML files of the project: every file reports all of its
//! mistakes, each with its position.
//!
//! ```
//! use nearhop::config::reader::{self, Style, integer};
//!
//! let read = |name, text| {
//!     reader::read(name, text, |root| root.get("seed", integer(0..=u64::MAX)).map(|s| *s.get_ref()))
//! };
//! assert_eq!(read("a.toml", "seed = 7").unwrap(), Some(7));
//! let errors = read("a.toml", "sede = 7").unwrap_err();
//! assert!(errors.render(Style::PLAIN).contains("did you mean seed?"));
//! ```
#![forbid(unsafe_code)]

use toml::de::DeTable;

pub use super::finding::{ConfigErrors, Finding, Style};
pub use super::report::{Report, list_of};
pub use super::suggest::did_you_mean;
pub use super::value::{ValueError, boolean, duration, duration_in, integer, one_of, parsed, text};
pub use super::walk::{Node, Table, article};

/// Reads `text` with `root`, which takes the keys of the outermost table; keys it does not take are
/// mistakes. Findings refer to the file as `name`. Warnings are dropped.
pub fn read<T>(
    name: &str,
    text: &str,
    root: impl for<'t> FnOnce(&mut Table<'t>) -> T,
) -> Result<T, ConfigErrors> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let report = Report::new(name, text, document.get_ref(), &errors);
    let mut table = Table::new(document.get_ref(), 0..0, "the file", &report);
    let made = root(&mut table);
    table.finish();
    report.finish()?;
    Ok(made)
}
