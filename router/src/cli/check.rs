//! `nearhop check FILE…`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::CheckArgs;
use super::output::{self, Failure, USAGE, answer};
use crate::config::{self, Config, ConfigErrors, Finding};
use crate::regular_file;

/// A configuration and its warnings, or what is wrong with it.
type Checked = Result<(Config, Vec<Finding>), ConfigErrors>;

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    if args.files.iter().filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(Failure::usage("standard input can be read once, found - twice"));
    }
    if args.json {
        return answer_json(&args.files);
    }
    let mut status = ExitCode::SUCCESS;
    for file in &args.files {
        match read(file) {
            Ok((config, warnings)) => {
                output::warn(&warnings);
                answer(summary(file, &config, warnings.len()))?;
            }
            Err(errors) => status = Failure::Config(errors).report(),
        }
    }
    Ok(status)
}

fn read(path: &Path) -> Checked {
    if path != Path::new("-") {
        return config::load(path);
    }
    match regular_file::read_at_most(std::io::stdin().lock(), config::BYTES_MAX) {
        Ok(bytes) => config::parse_bytes("<stdin>", &bytes),
        Err(error) => Err(ConfigErrors::unreadable("<stdin>", &error)),
    }
}

fn answer_json(paths: &[PathBuf]) -> Result<ExitCode, Failure> {
    let (mut files, mut items, mut status) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        let checked = read(path);
        files.push(json!({ "file": path.display().to_string(), "ok": checked.is_ok() }));
        let findings = match checked {
            Ok((_, warnings)) => warnings,
            Err(errors) => {
                status = USAGE;
                [errors.mistakes, errors.warnings].concat()
            }
        };
        items.extend(findings.iter().map(item));
    }
    let document = json!({ "schema": "nearhop.check.v1", "files": files, "items": items });
    output::answer_json(document)?;
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
