//! Output for people. With `--json` it goes to standard error, so that standard output has only the
//! one line of JSON.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use crate::doctor::Report;

/// The stream that receives lines for people.
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

    /// Ignores a closed pipe: everything is also in the run folder.
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
        let reported: Vec<String> = report
            .items
            .iter()
            .filter(|item| item.ok || item.required)
            .map(|item| format!("{} {}", item.name, if item.ok { "ok" } else { "missing" }))
            .collect();
        let mut line = "doctor  ".to_owned();
        for (place, item) in reported.iter().enumerate() {
            if line.chars().count() + item.chars().count() + 3 > COLUMNS {
                self.line(std::mem::replace(&mut line, "        ".to_owned()));
            } else if place > 0 {
                line.push_str(" ·");
            }
            line.push(' ');
            line.push_str(item);
        }
        self.line(line);
        for item in report.items.iter().filter(|item| item.required && !item.ok) {
            self.line(format_args!(
                "         {}: {}; type: {}",
                item.name, item.follows, item.mend
            ));
        }
    }
}

/// Of the narrowest terminal that lines are made for.
const COLUMNS: usize = 80;
