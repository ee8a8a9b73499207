//! The commands that query a running router: HTTP/1 with JSON over its control socket.
//!
//! `GET /v1/show/NOUN`, `GET /v1/explain?address=&from=&proto=&sport=&dport=` (`proto` a number),
//! `GET /v1/watch` (JSON lines without end), `POST /v1/drain/SITE`, `POST /v1/undrain/SITE`, `POST
//! /v1/clear/bgp/NEIGHBOR`, `POST /v1/undamp`, `POST /v1/reload`. Documents are `{"schema": ...,
//! "items": [...]}`; an item of a reload has one key, `change`. Errors are `{"error": ..., "help": ...}` with status 4xx if the
//! request is invalid, 5xx if the router cannot fulfil it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use super::args::{
    ClearArgs, ClearNoun, ClientArgs, ExplainArgs, ForceArgs, ShowArgs, ShowNoun, SocketArgs,
    UndampArgs,
};
use super::complete::Names;
use super::output::{Failure, answer, complain};
use super::screen;
use super::show::Shown;
use super::socket;
use crate::api::rows::ReloadRow;
use crate::api::socket::directories;
use crate::client::{Client, ClientError};
use crate::config::reader::did_you_mean;
use crate::printable;

pub(super) fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let ShowNoun { noun, only, of, neighbor } = &args.noun;
    let noun = noun.name;
    let query = [("only", only.as_deref()), ("of", *of), ("neighbor", neighbor.as_deref())];
    let mut path = format!("/v1/show/{noun}");
    for (name, value) in query.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let sign = if path.contains('?') { '&' } else { '?' };
        let _ = write!(path, "{sign}{name}={}", percent_encoded(value));
    }
    let client = connect(&args.client.socket)?;
    let mut body = client.read(&path)?;
    let printed = if args.client.json {
        print_json(&mut body)
    } else {
        let mut json =
            serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, &mut body));
        let shown = Shown::read(noun, &mut json).and_then(|shown| json.end().map(|()| shown));
        shown.map_err(|error| not_json(&error)).and_then(|shown| print_shown(&args.client, shown))
    };
    if let Some(error) = body.take_error() {
        return Err(error.into());
    }
    match (printed?, only) {
        (true, _) => {}
        (false, Some(only)) => {
            complain(&format!("nothing to show: {}\n", no_row(&client, noun, only)));
            return Ok(ExitCode::from(EXPECTATION_FAILED));
        }
        (false, None) if args.client.json => {}
        (false, None) => complain("nothing to show\n"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Why there is no row of this noun, and what may have been meant.
fn no_row(client: &Client, noun: &str, only: &str) -> String {
    let word = printable::line(only);
    let Some(names) = Names::of_noun(noun) else { return format!("no row has {word:?}") };
    let known = names.read(client).unwrap_or_default();
    if known.iter().any(|(name, _)| name == only) {
        // One that is there and has none, such as a service without checks.
        return format!("no row has {word:?}");
    }
    let (last, before) = names.kinds().split_last().unwrap_or((&"row", &[]));
    let kinds = if before.is_empty() {
        (*last).to_owned()
    } else {
        format!("{} or {last}", before.join(", "))
    };
    let why = format!("no {kinds} is named {word:?}");
    let words: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let best = did_you_mean(only, &words);
    let found = best.and_then(|best| known.iter().find(|(name, _)| name == best));
    match found {
        Some((name, kind)) => {
            format!("{why}; did you mean the {kind} {:?}?", printable::line(name))
        }
        None => why,
    }
}

pub(super) fn explain(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let mut path = format!("/v1/explain?address={}", args.address);
    let fields = [
        ("from", args.from.map(|from| from.to_string())),
        ("proto", args.proto.map(|proto| proto.to_string())),
        ("sport", args.sport.map(|port| port.to_string())),
        ("dport", args.dport.map(|port| port.to_string())),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={value}");
        }
    }
    print(&args.client, "explain", &connect(&args.client.socket)?.get(&path)?)
}

/// A failed request fails the command.
impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let ClientError { message, help, asked_wrongly } = error;
        if asked_wrongly {
            Self::Usage { message, help }
        } else {
            Self::Environment { message, help }
        }
    }
}

/// `verb` is `drain`, `undrain`, `disable` or `enable`.
pub(super) fn put_override(
    args: &ClientArgs,
    site: &str,
    verb: &str,
    force: bool,
) -> Result<ExitCode, Failure> {
    let path = format!("/v1/{verb}/{}{}", percent_encoded(site), forced(force));
    print(args, "override", &connect(&args.socket)?.post(&path)?)
}

/// A command about announcements.
pub(super) fn affect(args: &ClientArgs, path: &str) -> Result<ExitCode, Failure> {
    print(args, "effect", &connect(&args.socket)?.post(path)?)
}

/// `verb` is `apply` or `undo`.
pub(super) fn play(
    args: &ClientArgs,
    verb: &str,
    playbook: &str,
    force: bool,
) -> Result<ExitCode, Failure> {
    affect(args, &format!("/v1/playbook/{verb}/{}{}", percent_encoded(playbook), forced(force)))
}

/// `verb` is `block` or `unblock`.
pub(super) fn block(
    args: &ClientArgs,
    verb: &str,
    prefix: &str,
    force: bool,
) -> Result<ExitCode, Failure> {
    let force = if force { "&force=true" } else { "" };
    affect(args, &format!("/v1/{verb}?prefix={}{force}", percent_encoded(prefix)))
}

pub(super) fn reload(args: &ForceArgs) -> Result<ExitCode, Failure> {
    let path = format!("/v1/reload{}", forced(args.force));
    let body = connect(&args.client.socket)?.post(&path)?;
    if args.client.json {
        return print(&args.client, "reload", &body);
    }
    let changes = items::<ReloadRow>(&body)?;
    let lines: Vec<_> = changes.into_iter().map(|row| row.change).collect();
    if lines.is_empty() {
        complain("nothing changed\n");
    } else {
        answer(lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

const fn forced(force: bool) -> &'static str {
    if force { "?force=true" } else { "" }
}

pub(super) fn clear(args: &ClearArgs) -> Result<ExitCode, Failure> {
    let soft = if args.soft { "?soft=true" } else { "" };
    // There is nothing else yet.
    let ClearNoun::Bgp = args.what;
    let path = format!("/v1/clear/bgp/{}{soft}", percent_encoded(&args.neighbor));
    let body = connect(&args.client.socket)?.post(&path)?;
    if args.client.json { print(&args.client, "clear", &body) } else { Ok(ExitCode::SUCCESS) }
}

pub(super) fn undamp(args: &UndampArgs) -> Result<ExitCode, Failure> {
    let body = connect(&args.client.socket)?.post("/v1/undamp")?;
    if args.client.json { print(&args.client, "undamp", &body) } else { Ok(ExitCode::SUCCESS) }
}

pub(super) fn connect(args: &SocketArgs) -> Result<Client, Failure> {
    let dirs = directories(|name| std::env::var_os(name));
    Ok(Client::new(socket::find(args.socket.as_deref(), &dirs)?)?)
}

fn print(args: &ClientArgs, noun: &str, body: &[u8]) -> Result<ExitCode, Failure> {
    if args.json {
        return print_json(&mut &*body).map(|_| ExitCode::SUCCESS);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    if !print_shown(args, Shown::read(noun, &mut json).map_err(|error| not_json(&error))?)? {
        complain("nothing to show\n");
    }
    Ok(ExitCode::SUCCESS)
}

/// Passes a document on as it comes. Returns whether it has rows, or anything else besides.
fn print_json(body: &mut impl BufRead) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    let mut pending = Vec::new();
    let mut head = Vec::new();
    loop {
        // Why it cannot be read is known to the caller.
        let part = body.fill_buf().map_err(|error| Failure::environment(error.to_string()))?;
        if part.is_empty() {
            break;
        }
        out.write_all(printable::json_part(&mut pending, part).as_bytes())?;
        let count = part.len();
        head.extend_from_slice(&part[..count.min(HEAD.saturating_sub(head.len()))]);
        body.consume(count);
    }
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(!head.windows(NO_ITEMS.len()).any(|part| part == NO_ITEMS))
}

/// Whether there was something to print.
fn print_shown(args: &ClientArgs, shown: Shown) -> Result<bool, Failure> {
    if shown.is_empty() {
        return Ok(false);
    }
    let mut out = BufWriter::with_capacity(BUFFER, std::io::stdout().lock());
    shown.write(&mut out, screen::width(args.wide))?;
    out.flush()?;
    Ok(true)
}

/// The rows of a document.
pub(super) fn items<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, Failure> {
    #[derive(serde::Deserialize)]
    #[serde(bound = "T: DeserializeOwned")]
    struct Items<T> {
        #[serde(default = "Vec::new")]
        items: Vec<T>,
    }
    let document = serde_json::from_slice::<Items<T>>(body);
    Ok(document.map_err(|error| not_json(&error))?.items)
}

fn not_json(error: &serde_json::Error) -> Failure {
    let what = if error.is_data() { "no document of nearhop's" } else { "not JSON" };
    Failure::environment(format!("the router's answer is {what}: {error}"))
}

/// Escapes text for a path segment (RFC 3986 2.3): all but unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The rows of a document without any, and how far at its beginning they stand.
const NO_ITEMS: &[u8] = br#""items":[]"#;
const HEAD: usize = 256;

/// Exit status where no row is what was asked for.
const EXPECTATION_FAILED: u8 = 1;

/// Bytes of a document that are read, or of a table that are written, at once.
const BUFFER: usize = 64 << 10;
