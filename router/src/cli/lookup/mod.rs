//! `nearhop lookup`: longest-prefix match over a file of routes, without a router.
#![forbid(unsafe_code)]

mod routes;

use std::borrow::Cow;
use std::io::{self, BufWriter, StderrLock, StdoutLock, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use nearhop_fib::IpPrefix;
use serde::Serialize;

use super::args::LookupArgs;
use super::output::{Failure, USAGE};
use crate::address_text::why_no_address;
use crate::printable;
use crate::route_file::Lines;
use routes::Routes;

pub(super) fn run(args: &LookupArgs) -> Result<ExitCode, Failure> {
    let from_stdin = args.addresses.is_empty();
    if from_stdin && args.routes == Path::new("-") {
        return Err(Failure::usage("standard input cannot hold both the routes and the addresses")
            .with_help("give the addresses as arguments, or the routes in a file"));
    }
    let routes = Routes::read(&args.routes)?;
    let mut answers = Answers::new(&routes, args.json);
    if from_stdin {
        answers.answer_lines(&mut Lines::new(Box::new(io::stdin().lock())))?;
    }
    for address in &args.addresses {
        answers.answer(address.as_bytes())?;
    }
    answers.finish()
}

/// Writes answers through buffers as large as a pipe's.
struct Answers<'r> {
    routes: &'r Routes,
    out: BufWriter<StdoutLock<'static>>,
    errors: BufWriter<StderrLock<'static>>,
    is_json: bool,
    bad: bool,
}

/// The line of an address.
#[derive(Serialize)]
struct Line<'l> {
    schema: &'static str,
    address: Cow<'l, str>,
    prefix: Option<String>,
    next_hop: Option<Cow<'l, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'l str>,
}

impl<'r> Answers<'r> {
    fn new(routes: &'r Routes, is_json: bool) -> Self {
        Self {
            routes,
            is_json,
            out: BufWriter::with_capacity(BUFFER, io::stdout().lock()),
            errors: BufWriter::with_capacity(BUFFER, io::stderr().lock()),
            bad: false,
        }
    }

    /// Answers each line that is not blank. Flushes before it waits for input, so no answer is held
    /// back.
    fn answer_lines(&mut self, lines: &mut Lines) -> Result<(), Failure> {
        loop {
            if lines.would_wait() {
                self.flush()?;
            }
            match lines.read() {
                Ok(None) => return Ok(()),
                Ok(Some([])) => {}
                Ok(Some(line)) => self.answer(line)?,
                Err(error) => {
                    self.flush()?;
                    let at = lines.number();
                    return Err(Failure::usage(format!("standard input, line {at}: {error}")));
                }
            }
        }
    }

    fn answer(&mut self, asked: &[u8]) -> Result<(), Failure> {
        let Some(addr) = str::from_utf8(asked).ok().and_then(|text| text.parse().ok()) else {
            self.bad = true;
            let why = str::from_utf8(asked).map_or("not UTF-8".into(), why_no_address);
            let why = format!("not an IP address: {}", printable::line(&why));
            if self.is_json {
                return self.write_json(asked, None, Some(&why));
            }
            let reported = self.errors.write_all(&printable::bytes(asked));
            // A closed standard error does not stop the answers.
            let _ = reported.and_then(|()| writeln!(self.errors, " ! {why}"));
            return Ok(());
        };
        if self.is_json {
            return self.write_json(asked, self.routes.find(addr), None);
        }
        Ok(self.write(asked, addr)?)
    }

    fn write_json(
        &mut self,
        asked: &[u8],
        found: Option<(IpPrefix, &[u8])>,
        error: Option<&str>,
    ) -> Result<(), Failure> {
        let line = Line {
            schema: "nearhop.lookup.v1",
            address: String::from_utf8_lossy(asked),
            prefix: found.map(|(prefix, _)| prefix.to_string()),
            next_hop: found.map(|(_, next_hop)| String::from_utf8_lossy(next_hop)),
            error,
        };
        let text = serde_json::to_string(&line).map_err(io::Error::from)?;
        Ok(writeln!(self.out, "{}", printable::json(&text))?)
    }

    fn write(&mut self, asked: &[u8], addr: IpAddr) -> io::Result<()> {
        self.out.write_all(asked)?;
        match self.routes.find(addr) {
            Some((prefix, next_hop)) => {
                write!(self.out, " {prefix} ")?;
                self.out.write_all(next_hop)?;
                self.out.write_all(b"\n")
            }
            None => self.out.write_all(b" - -\n"),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let _ = self.errors.flush();
        Ok(self.out.flush()?)
    }

    fn finish(mut self) -> Result<ExitCode, Failure> {
        self.flush()?;
        Ok(ExitCode::from(if self.bad { USAGE } else { 0 }))
    }
}

const BUFFER: usize = 64 * 1024;
