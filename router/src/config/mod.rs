//! The configuration: parsed and checked as a whole before anything is changed.
//!
//! [`load`] and [`parse`] turn TOML into a [`Config`], or report every mistake at once, each with
//! its position and what to write instead. [`diff`] describes what a reload changes.
#![forbid(unsafe_code)]

mod check;
mod diff;
mod finding;
mod raw;
mod report;
mod route_files;
mod suggest;
mod twins;
mod value;
mod walk;

pub mod model;
pub mod reader;

use std::path::Path;

use toml::de::DeTable;

pub use diff::diff;
pub use finding::{ConfigErrors, FINDINGS_SHOWN, Finding, Style, more_than_shown};
pub use model::Config;

use raw::RawConfig;
use report::Report;

use crate::regular_file;

/// Reads and checks a file. On success the findings are warnings.
pub fn load(path: &Path) -> Result<(Config, Vec<Finding>), ConfigErrors> {
    let name = path.display().to_string();
    match regular_file::read(path, BYTES_MAX) {
        Ok(bytes) => parse_bytes(&name, &bytes),
        Err(error) => Err(ConfigErrors::unreadable(&name, &error)),
    }
}

/// Checks text that may not be UTF-8; otherwise like [`parse`].
pub fn parse_bytes(name: &str, bytes: &[u8]) -> Result<(Config, Vec<Finding>), ConfigErrors> {
    str::from_utf8(bytes)
        .map_err(|error| not_utf8(name, bytes, error.valid_up_to()))
        .and_then(|text| parse(name, text))
}

/// Checks a text, and the files that it names, which are looked for beside `name`. Findings refer to the
/// file as `name`. On success the findings are warnings.
pub fn parse(name: &str, text: &str) -> Result<(Config, Vec<Finding>), ConfigErrors> {
    if let Some(at) = text.find('\0') {
        return Err(not_text(name, text, at));
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    let report = Report::new(name, text, document.get_ref(), &errors);
    let mut raw = RawConfig::read(&document, &report);
    let dir = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
    route_files::read_all(&mut raw, dir, &report);
    check::all(&raw, &report);
    let warnings = report.finish()?;
    Ok((raw.into_model(), warnings))
}

/// A file of zeros would be a mistake at each of its bytes.
fn not_text(name: &str, text: &str, zero: usize) -> ConfigErrors {
    let source = std::sync::Arc::new(finding::Source::new(name, &text[..=zero]));
    let mistake = Finding::mistake("the file is not text")
        .at(zero..zero + 1, "a zero byte")
        .help("give a file of TOML");
    ConfigErrors::alone(mistake.in_source(&source))
}

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> ConfigErrors {
    let text = String::from_utf8_lossy(bytes);
    let invalid = bytes[valid..].utf8_chunks().next().map_or(&[][..], |chunk| chunk.invalid());
    let wrong = format!("{} is not a character", invalid.escape_ascii());
    let source = std::sync::Arc::new(finding::Source::new(name, &text));
    let mistake = Finding::mistake("the file is not UTF-8")
        .at(valid..valid + char::REPLACEMENT_CHARACTER.len_utf8(), wrong)
        .help("save it as UTF-8, as TOML requires");
    ConfigErrors::alone(mistake.in_source(&source))
}

/// Bytes of a configuration: many times what one needs that names as many ports, sites and routes as a
/// router takes.
pub const BYTES_MAX: u64 = 64 << 20;
