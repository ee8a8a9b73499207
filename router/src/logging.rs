//! Log lines on standard error: `2026-11-23T18:53:20.042Z INFO  MESSAGE`, or a JSON object each, of
//! [`FIELDS`].
//!
//! The daemon writes them by a thread of its own ([`start_beside`]): whoever logs never waits for
//! whoever reads.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{panic, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use env_logger::fmt::style::Style;
use env_logger::{Builder, Env, Target, WriteStyle};
use log::{Level, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::printable;
use crate::utc::Utc;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// Time, level and message.
    #[default]
    Text,
    /// A JSON object with [`FIELDS`].
    Json,
}

/// The fields of a line in JSON.
pub const FIELDS: [&str; 3] = ["ts", "level", "message"];

/// Starts logging, as text, with the filter in the environment's `variable`, else `default`. Does
/// nothing if this process logs already: the lab runs routers in its own processes.
pub fn start(variable: &str, default: &str) {
    let filter = Env::default().filter_or(variable, default);
    let _ = with_format(Builder::from_env(filter), LogFormat::Text).try_init();
}

/// Checks a filter: a level, or levels by module (`info,nearhop::run=debug`).
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    let parsed = env_filter::Builder::new().try_parse(filter).map(|_| ());
    parsed.map_err(|error| error.to_string())
}

/// Starts logging by a thread: lines that find no room, because nobody reads what it writes, are
/// counted, and the count is written when there is room again. Dropping the guard waits until all is
/// written, a second at most. `filter` is as in [`check_filter`].
///
/// # Errors
/// The thread cannot be started.
pub fn start_beside(filter: &str, format: LogFormat) -> io::Result<LogGuard> {
    let (lane, lines) = LogLane::new(format);
    // A second one would write what the logger does not know of.
    let lane = LANE.get_or_init(|| lane).clone();
    let guard = LogGuard { _private: () };
    thread::Builder::new()
        .name("nh-log".into())
        .spawn(move || lines.write_to(&mut io::stderr()))?;
    panic::set_hook(Box::new(move |info| {
        let said = info.to_string();
        let line = match format {
            LogFormat::Text => format!("{}\n", printable::lines(&said)),
            LogFormat::Json => plain_line(format, Level::Error, &said),
        };
        write_now(line.as_bytes());
    }));
    // To the library, a lane is no terminal.
    let in_colour = format == LogFormat::Text
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none();
    let style = if in_colour { WriteStyle::Always } else { WriteStyle::Never };
    let lane = Target::Pipe(Box::new(lane));
    let mut builder = Builder::new();
    builder.parse_filters(filter);
    let _ = with_format(builder, format).target(lane).write_style(style).try_init();
    Ok(guard)
}

fn with_format(mut builder: Builder, format: LogFormat) -> Builder {
    builder.format(move |out, record| {
        let style = out.default_level_style(record.level());
        write_line(out, style, format, Utc::now(), record)
    });
    builder
}

fn write_line(
    out: &mut impl Write,
    style: Style,
    format: LogFormat,
    now: Utc,
    record: &Record,
) -> io::Result<()> {
    // One line, whatever of it came from outside: nobody else is to write lines here.
    let (time, level, said) = (now.rfc3339_millis(), record.level(), record.args().to_string());
    match format {
        LogFormat::Text => {
            writeln!(out, "{time} {style}{level:<5}{style:#} {}", printable::line(&said))
        }
        LogFormat::Json => {
            let level = level.as_str().to_ascii_lowercase();
            let line = serde_json::to_string(&JsonLine { ts: time, level, message: said })?;
            writeln!(out, "{}", printable::json(&line))
        }
    }
}

/// A line that does not come by the logger.
fn plain_line(format: LogFormat, level: Level, said: &str) -> String {
    let mut line = Vec::new();
    let args = format_args!("{said}");
    let record = Record::builder().level(level).args(args).build();
    // Writing to memory does not fail.
    let _ = write_line(&mut line, Style::new(), format, Utc::now(), &record);
    String::from_utf8_lossy(&line).into_owned()
}

#[derive(Serialize)]
struct JsonLine {
    ts: String,
    level: String,
    message: String,
}

/// Writes to standard error if that takes it at once, and else nothing: a pipe that has room has room
/// for [`PIPE_BUF`] bytes.
fn write_now(bytes: &[u8]) {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(&stderr, &bytes[..bytes.len().min(PIPE_BUF)]);
    }
}

/// The end of a lane by which lines come in.
#[derive(Clone)]
struct LogLane {
    sender: Sender<Item>,
    counts: Arc<Counts>,
}

/// The end by which a thread writes them.
struct LogLines {
    format: LogFormat,
    receiver: Receiver<Item>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines for which there was no room since that was last written.
    dropped: AtomicU64,
}

enum Item {
    Line(Vec<u8>),
    /// Answered when all before it is written.
    Flush(Sender<()>),
}

/// Keeps a process from ending before its log is written.
pub struct LogGuard {
    _private: (),
}

/// Waits until all that was logged is written, a second at most.
pub fn flush() {
    let Some(lane) = LANE.get() else { return };
    let (done, wait) = bounded(1);
    if lane.sender.send_timeout(Item::Flush(done), LAST_WORDS / 2).is_ok() {
        let _ = wait.recv_timeout(LAST_WORDS / 2);
    }
}

impl LogLane {
    fn new(format: LogFormat) -> (Self, LogLines) {
        let (sender, receiver) = bounded(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let lines = LogLines { format, receiver, counts: Arc::clone(&counts) };
        (Self { sender, counts }, lines)
    }
}

impl Write for LogLane {
    /// Takes a whole line, or drops and counts it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let len = line.len();
        let fits = self.counts.waiting.fetch_add(len, Ordering::Relaxed) + len <= BYTES_MAX;
        if !fits || self.sender.try_send(Item::Line(line.to_vec())).is_err() {
            self.counts.waiting.fetch_sub(len, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogLines {
    /// Writes until all senders are gone. A line that cannot be written is lost: there is nobody to
    /// say it to.
    fn write_to(&self, out: &mut impl Write) {
        for item in &self.receiver {
            match item {
                Item::Line(line) => {
                    let dropped = self.counts.dropped.swap(0, Ordering::Relaxed);
                    if dropped > 0 {
                        let said = format!("{dropped} line(s) were not written: nobody read them");
                        let notice = plain_line(self.format, Level::Warn, &said);
                        let _ = out.write_all(notice.as_bytes());
                    }
                    let _ = out.write_all(&line);
                    self.counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                }
                Item::Flush(done) => {
                    let _ = out.flush();
                    let _ = done.try_send(());
                }
            }
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        flush();
    }
}

/// The lane of this process.
static LANE: OnceLock<LogLane> = OnceLock::new();

/// Lines that may wait.
const LINES_MAX: usize = 8192;

/// Bytes that may wait.
const BYTES_MAX: usize = 4 << 20;

/// Bytes that a pipe takes whole (Linux, pipe(7)).
const PIPE_BUF: usize = 4096;

/// How long the end of the process waits for the log.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    fn written(format: LogFormat, args: fmt::Arguments<'_>) -> String {
        let record = Record::builder().args(args).level(Level::Info).target("nearhop::run").build();
        let (mut line, now) = (Vec::new(), Utc::from_unix(1_795_460_000).with_millis(42));
        write_line(&mut line, Style::new(), format, now, &record).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_says_when_how_bad_and_what() {
        let line = written(LogFormat::Text, format_args!("port {} is up", "fra"));
        assert_eq!(line, "2026-11-23T18:53:20.042Z INFO  port fra is up\n");
        let line = written(LogFormat::Json, format_args!("port \"{}\" is up", "fra"));
        let wanted = "{\"ts\":\"2026-11-23T18:53:20.042Z\",\"level\":\"info\",\
                      \"message\":\"port \\\"fra\\\" is up\"}\n";
        assert_eq!(line, wanted);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fields = read.as_object().unwrap();
        assert!(fields.len() == FIELDS.len() && FIELDS.iter().all(|key| fields.contains_key(*key)));
    }

    #[test]
    fn what_came_from_outside_neither_ends_a_line_nor_reaches_the_terminal() {
        let name = "\u{1b}[2J\u{9b}m\n2026-11-23T18:53:20.042Z INFO  forged";
        let line = written(LogFormat::Text, format_args!("the device is called {name} now"));
        let wanted = "2026-11-23T18:53:20.042Z INFO  the device is called \\u{1b}[2J\\u{9b}m\\u{a}\
                      2026-11-23T18:53:20.042Z INFO  forged now\n";
        assert_eq!(line, wanted);
        let line = written(LogFormat::Json, format_args!("{name}"));
        assert!(!line.trim_end().contains(printable::is_unprintable), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], name);
    }

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for filter in ["info", "WARN", "info,nearhop::run=debug"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        assert!(check_filter("info,nearhop=loud").is_err());
    }

    #[test]
    fn lines_without_a_reader_are_dropped_and_counted_and_the_rest_is_written_in_order() {
        let (mut lane, lines) = LogLane::new(LogFormat::Text);
        for number in 0..LINES_MAX + 3 {
            lane.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        // Now there is room again; the next line says what is missing.
        let mut out = Vec::new();
        let (done, _wait) = bounded(1);
        drop(lines.receiver.recv());
        lane.sender.try_send(Item::Flush(done)).unwrap();
        drop(lane);
        lines.write_to(&mut out);
        let text = String::from_utf8(out).unwrap();
        let mut written = text.lines();
        assert!(written.next().unwrap().contains("3 line(s) were not written"), "{text}");
        let numbers: Vec<usize> = written.map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (1..LINES_MAX).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let (mut lane, lines) = LogLane::new(LogFormat::Text);
        let line = vec![b'x'; BYTES_MAX / 4];
        for _ in 0..10 {
            assert_eq!(lane.write(&line).unwrap(), line.len());
        }
        assert_eq!((lines.receiver.len(), lines.counts.dropped.load(Ordering::Relaxed)), (4, 6));
    }
}
