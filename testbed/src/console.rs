//! Lines for people. With `--json` they go to standard error, so that standard output has the one
//! line for scripts only.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use crate::doctor::Report;

/// Where lines go.
pub(crate) struct Console {
    json: bool,
    colour: bool,
}

impl Console {
    pub(crate) fn new(json: bool) -> Self {
        let terminal =
            if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        Self { json, colour: terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    /// A closed pipe is no reason to stop: the run folder has everything.
    pub(crate) fn line(&self, line: impl Display) {
        let _ = if self.json {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
    }

    pub(crate) fn paint(&self, colour: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub(crate) fn doctor(&self, report: &Report) {
        let told: Vec<String> = report
            .items
            .iter()
            .filter(|item| item.ok || item.required)
            .map(|item| format!("{} {}", item.name, if item.ok { "ok" } else { "missing" }))
            .collect();
        self.line(format_args!("doctor   {}", told.join(" · ")));
        for item in report.items.iter().filter(|item| item.required && !item.ok) {
            self.line(format_args!(
                "         {}: {}; type: {}",
                item.name, item.follows, item.mend
            ));
        }
    }
}
