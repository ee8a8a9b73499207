//! Log lines on standard error: `[2026-11-23T18:53:20Z INFO  nearhop::run] MESSAGE`.
//!
//! The daemon writes them by a thread of its own ([`start_beside`]): whoever logs never waits for
//! whoever reads.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use std::{panic, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use env_logger::fmt::style::Style;
use env_logger::{Builder, Env, Target, WriteStyle};
use log::Record;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::printable;
use crate::utc::Utc;

/// Starts logging with the filter in the environment's `variable`, else `default`. Does nothing if
/// this process logs already: the lab runs routers in its own processes.
pub fn start(variable: &str, default: &str) {
    let _ = builder(variable, default).try_init();
}

/// As [`start`], by a thread: lines that find no room, because nobody reads what it writes, are
/// counted, and the count is written when there is room again. Dropping the guard waits until all is
/// written, a second at most.
///
/// # Errors
/// The thread cannot be started.
pub fn start_beside(variable: &str, default: &str) -> io::Result<LogGuard> {
    let (lane, lines) = LogLane::new();
    let guard = LogGuard { lane: lane.clone() };
    thread::Builder::new()
        .name("nh-log".into())
        .spawn(move || lines.write_to(&mut io::stderr()))?;
    panic::set_hook(Box::new(|info| {
        write_now(format!("{}\n", printable::lines(&info.to_string())).as_bytes());
    }));
    // To the library, a lane is no terminal.
    let in_colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let style = if in_colour { WriteStyle::Always } else { WriteStyle::Never };
    let lane = Target::Pipe(Box::new(lane));
    let _ = builder(variable, default).target(lane).write_style(style).try_init();
    Ok(guard)
}

fn builder(variable: &str, default: &str) -> Builder {
    let filter = Env::default().filter_or(variable, default);
    let mut builder = Builder::from_env(filter);
    builder.format(|out, record| {
        let style = out.default_level_style(record.level());
        write_line(out, style, Utc::now(), record)
    });
    builder
}

fn write_line(out: &mut impl Write, style: Style, now: Utc, record: &Record) -> io::Result<()> {
    let (time, level, target) = (now.rfc3339(), record.level(), record.target());
    // One line, whatever of it came from outside: nobody else is to write lines here.
    let said = record.args().to_string();
    writeln!(out, "[{time} {style}{level:<5}{style:#} {target}] {}", printable::line(&said))
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
    lane: LogLane,
}

impl LogLane {
    fn new() -> (Self, LogLines) {
        let (sender, receiver) = bounded(LINES_MAX);
        let counts = Arc::new(Counts::default());
        (Self { sender, counts: Arc::clone(&counts) }, LogLines { receiver, counts })
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
                        let notice = format!(
                            "[{} WARN  nearhop::logging] {dropped} line(s) were not written: \
                             nobody read them\n",
                            Utc::now().rfc3339()
                        );
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
        let (done, wait) = bounded(1);
        if self.lane.sender.send_timeout(Item::Flush(done), LAST_WORDS / 2).is_ok() {
            let _ = wait.recv_timeout(LAST_WORDS / 2);
        }
    }
}

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

    #[test]
    fn what_came_from_outside_neither_ends_a_line_nor_reaches_the_terminal() {
        let mut line = Vec::new();
        let name = "\u{1b}[2J\u{9b}m\n[2026-11-23T18:53:20Z INFO  x] forged";
        let args = format_args!("the device is called {name} now");
        let record = Record::builder().args(args).level(log::Level::Info).target("x").build();
        write_line(&mut line, Style::new(), Utc::from_unix(1_795_460_000), &record).unwrap();
        let want = "[2026-11-23T18:53:20Z INFO  x] the device is called \\u{1b}[2J\\u{9b}m\\u{a}\
                    [2026-11-23T18:53:20Z INFO  x] forged now\n";
        assert_eq!(String::from_utf8(line).unwrap(), want);
    }

    #[test]
    fn lines_without_a_reader_are_dropped_and_counted_and_the_rest_is_written_in_order() {
        let (mut lane, lines) = LogLane::new();
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
        let (mut lane, lines) = LogLane::new();
        let line = vec![b'x'; BYTES_MAX / 4];
        for _ in 0..10 {
            assert_eq!(lane.write(&line).unwrap(), line.len());
        }
        assert_eq!((lines.receiver.len(), lines.counts.dropped.load(Ordering::Relaxed)), (4, 6));
    }
}
