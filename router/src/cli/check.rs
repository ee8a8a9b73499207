//! `nearhop check FILE`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::CheckArgs;
use super::output::{self, Failure, USAGE, answer};
use crate::config::{self, Config, ConfigErrors, Finding};
use crate::regular_file;

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let checked = read(&args.file);
    if args.json {
        return answer_json(checked);
    }
    let (config, warnings) = checked.map_err(Failure::Config)?;
    output::warn(&warnings);
    answer(summary(&args.file, &config, warnings.len()))?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<(Config, Vec<Finding>), ConfigErrors> {
    if path != Path::new("-") {
        return config::load(path);
    }
    match regular_file::read_at_most(std::io::stdin().lock(), config::BYTES_MAX) {
        Ok(bytes) => config::parse_bytes("<stdin>", &bytes),
        Err(error) => Err(ConfigErrors::unreadable("<stdin>", &error)),
    }
}

fn answer_json(checked: Result<(Config, Vec<Finding>), ConfigErrors>) -> Result<ExitCode, Failure> {
    let (status, findings) = match checked {
        Ok((_, warnings)) => (0, warnings),
        Err(errors) => (USAGE, [errors.mistakes, errors.warnings].concat()),
    };
    let items: Vec<_> = findings.iter().map(item).collect();
    output::answer_json(json!({ "schema": "nearhop.check.v1", "items": items }))?;
    Ok(ExitCode::from(status))
}

fn item(finding: &Finding) -> Value {
    let (line, column) = finding.position().unzip();
    json!({
        "severity": if finding.is_warning() { "warning" } else { "error" },
        "file": finding.file(),
        "line": line,
        "column": column,
        "message": finding.message(),
        "help": finding.help_text(),
    })
}

fn summary(path: &Path, config: &Config, warnings: usize) -> String {
    let in_files: usize = config.route_files.iter().map(|file| file.routes.len()).sum();
    let sites: usize = config.services.iter().map(|service| service.sites.len()).sum();
    let counts = [
        count(config.ports.len(), "port"),
        count(config.routes.len() + in_files, "route"),
        count(config.services.len(), "service"),
        count(sites, "site"),
        count(warnings, "warning"),
    ];
    format!("{}: ok ({})", path.display(), counts.join(", "))
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
