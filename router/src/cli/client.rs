//! Speaking to a running router: HTTP/1 with JSON over its control socket.
//!
//! `GET /v1/show/NOUN`, `GET /v1/explain?address=&from=&proto=&sport=&dport=` (`proto` a number),
//! `GET /v1/watch` (JSON lines without end), `POST /v1/drain/SITE`, `POST /v1/undrain/SITE`,
//! `POST /v1/reload`. Documents are `{"schema": ..., "items": [...]}`; an item of a reload has one
//! key, `change`. Errors are `{"error": ..., "help": ...}` with status 4xx when the client asked
//! wrongly, 5xx when the router cannot do it.
#![forbid(unsafe_code)]

mod http;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::args::{
    ClientArgs, DrainArgs, ExplainArgs, ReloadArgs, ShowArgs, SocketArgs, WatchArgs,
};
use super::output::{Failure, answer, complain};
use super::{show, socket};
use http::Client;

pub(super) fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let noun = args.noun.name();
    let body = connect(&args.client.socket)?.get(&format!("/v1/show/{noun}"))?;
    print(&args.client, noun, &body)
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

pub(super) fn watch(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    connect(&args.socket)?.follow("/v1/watch", |chunk| {
        out.write_all(chunk)?;
        Ok(out.flush()?)
    })?;
    complain("the router has ended\n");
    Ok(ExitCode::SUCCESS)
}

/// `verb` is `drain` or `undrain`.
pub(super) fn drain(args: &DrainArgs, verb: &str) -> Result<ExitCode, Failure> {
    let path = format!("/v1/{verb}/{}", percent_encoded(&args.site));
    print(&args.client, "drain", &connect(&args.client.socket)?.post(&path)?)
}

pub(super) fn reload(args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let body = connect(&args.client.socket)?.post("/v1/reload")?;
    if args.client.json {
        return print(&args.client, "reload", &body);
    }
    let document = parsed(&body)?;
    let items = document.get("items").and_then(Value::as_array);
    let changes = items.into_iter().flatten().filter_map(|item| item.get("change")?.as_str());
    let lines: Vec<_> = changes.collect();
    if lines.is_empty() {
        complain("nothing changed\n");
    } else {
        answer(lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn connect(args: &SocketArgs) -> Result<Client, Failure> {
    let dirs = socket::directories(|name| std::env::var_os(name));
    Client::new(socket::find(args.socket.as_deref(), &dirs)?)
}

fn print(args: &ClientArgs, noun: &str, body: &[u8]) -> Result<ExitCode, Failure> {
    if args.json {
        answer(String::from_utf8_lossy(body).trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = show::document(noun, &parsed(body)?);
    if text.is_empty() {
        complain("nothing to show\n");
    } else {
        answer(text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parsed(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::environment(format!("the router's answer is not JSON: {error}")))
}

/// As a segment of a path (RFC 3986 2.3): everything but unreserved characters escaped.
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
