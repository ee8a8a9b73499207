//! Log lines on standard error: `[2026-11-23T18:53:20Z INFO  nearhop::run] MESSAGE`.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use env_logger::Env;
use env_logger::fmt::style::Style;
use log::Record;

use crate::utc::Utc;

/// Starts logging with the filter in the environment's `variable`, else `default`. Does nothing if
/// this process logs already: the lab runs routers in its own processes.
pub fn start(variable: &str, default: &str) {
    let filter = Env::default().filter_or(variable, default);
    let mut builder = env_logger::Builder::from_env(filter);
    builder.format(|out, record| {
        let style = out.default_level_style(record.level());
        write_line(out, style, Utc::now(), record)
    });
    let _ = builder.try_init();
}

fn write_line(out: &mut impl Write, style: Style, now: Utc, record: &Record) -> io::Result<()> {
    let (time, level, target) = (now.rfc3339(), record.level(), record.target());
    writeln!(out, "[{time} {style}{level:<5}{style:#} {target}] {}", record.args())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_how_bad_and_where_from() {
        let mut line = Vec::new();
        let record = |args, out: &mut Vec<u8>| {
            let record =
                Record::builder().args(args).level(log::Level::Info).target("nearhop::run").build();
            write_line(out, Style::new(), Utc::from_unix(1_795_460_000), &record).unwrap();
        };
        record(format_args!("port {} is up", "fra"), &mut line);
        let want = "[2026-11-23T18:53:20Z INFO  nearhop::run] port fra is up\n";
        assert_eq!(String::from_utf8(line).unwrap(), want);
    }
}
