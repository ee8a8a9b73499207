//! Documents that grow with the configuration: asked of the control thread a page at a time, and made as
//! their client reads them.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use nearhop_fib::IpPrefix;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{ApiError, Command, ask};

/// The nouns that are answered by pages: of prefixes, of groups, or of services.
pub const PAGED: [&str; 5] = ["fib", "routes", "groups", "services", "checks"];

/// Prefixes or groups of one page; as many rows of services are about one.
pub const PER_PAGE: usize = 256;

/// Parameters of `GET /v1/show/NOUN`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ShowQuery {
    /// Of a paged noun: only what comes after this prefix, group or service.
    pub after: Option<String>,
    /// Of a paged noun: at most so many of them; the document says by `next` where to go on.
    pub limit: Option<usize>,
    /// Of `fib` and `routes`: only prefixes in this one, or the one that an address is forwarded by. Of
    /// any other: only rows that contain this word.
    pub only: Option<String>,
}

/// What the control thread is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The noun.
    pub noun: &'static str,
    /// What comes after this.
    pub after: Option<String>,
    /// Only these prefixes.
    pub only: Option<Only>,
    /// At most so many prefixes, groups or services.
    pub count: usize,
}

/// Which prefixes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Only {
    /// The one by which packets to this address are forwarded.
    Covering(IpAddr),
    /// This one and those in it.
    In(IpPrefix),
}

/// Some rows.
#[derive(Debug, Default)]
pub struct Page {
    /// Those of whole prefixes, groups or services, in the order of these.
    pub rows: Vec<Value>,
    /// How many of them they are of.
    pub count: usize,
    /// The last of them, if there may be more.
    pub next: Option<String>,
}

/// A document that is still to be read.
struct Rest {
    commands: mpsc::Sender<Command>,
    request: PageRequest,
    /// Prefixes, groups or services that the client wants yet.
    wanted: usize,
    /// Only rows that contain this.
    word: Option<String>,
    page: Option<Page>,
    /// Whether the head of the document was made.
    begun: bool,
    /// Whether no row was made yet.
    first: bool,
}

/// The answer to a paged noun.
pub(super) async fn stream(
    commands: mpsc::Sender<Command>,
    noun: &'static str,
    query: &ShowQuery,
) -> Result<Response, ApiError> {
    let wanted = query.limit.unwrap_or(usize::MAX);
    if wanted == 0 {
        return Err(ApiError::bad_request("limit: expected a number from 1 on, found 0"));
    }
    let mut rest = Rest::new(commands, noun, wanted);
    rest.request.after.clone_from(&query.after);
    match &query.only {
        Some(only) if OF_PREFIXES.contains(&noun) => {
            rest.request.only = Some(match only.parse() {
                Ok(address) => Only::Covering(address),
                Err(_) => Only::In(prefix_of("only", only)?),
            });
        }
        only => rest.word.clone_from(only),
    }
    // What cannot be answered at all is an error; later it only ends the document too early.
    rest.fetch().await?;
    let chunks = futures_util::stream::unfold(Some(rest), |rest| async {
        let mut rest = rest?;
        Some(match rest.chunk().await {
            Ok((chunk, true)) => (Ok(chunk), Some(rest)),
            Ok((chunk, false)) => (Ok(chunk), None),
            Err(error) => (Err(io::Error::other(error.error)), None),
        })
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, Body::from_stream(chunks)).into_response())
}

/// All rows of a paged noun.
pub(super) async fn collect(
    commands: mpsc::Sender<Command>,
    noun: &'static str,
) -> Result<Vec<Value>, ApiError> {
    let mut rest = Rest::new(commands, noun, usize::MAX);
    let mut rows = Vec::new();
    loop {
        rest.fetch().await?;
        let page = rest.page.take().unwrap_or_default();
        rows.extend(page.rows);
        if page.next.is_none() {
            return Ok(rows);
        }
    }
}

impl Rest {
    fn new(commands: mpsc::Sender<Command>, noun: &'static str, wanted: usize) -> Self {
        let request = PageRequest { noun, after: None, only: None, count: 0 };
        Self { commands, request, wanted, word: None, page: None, begun: false, first: true }
    }

    async fn fetch(&mut self) -> Result<(), ApiError> {
        self.request.count = self.wanted.min(PER_PAGE);
        let request = self.request.clone();
        let mut page = ask(&self.commands, |reply| Command::Page(request, reply)).await?;
        if let Some(word) = &self.word {
            page.rows.retain(|row| has_word(row, word));
        }
        self.wanted -= page.count.min(self.wanted);
        self.request.after.clone_from(&page.next);
        self.page = Some(page);
        Ok(())
    }

    /// The next part of the document, and whether there is another.
    async fn chunk(&mut self) -> Result<(Bytes, bool), ApiError> {
        if self.page.is_none() {
            self.fetch().await?;
        }
        let page = self.page.take().unwrap_or_default();
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            text = format!(r#"{{"schema":"nearhop.{}.v1","items":["#, self.request.noun);
        }
        for row in &page.rows {
            if !std::mem::take(&mut self.first) {
                text.push(',');
            }
            text.push_str(&row.to_string());
        }
        let Some(next) = page.next else {
            text.push_str("]}");
            return Ok((text.into(), false));
        };
        if self.wanted == 0 {
            let _ = write!(text, r#"],"next":{}}}"#, Value::from(next));
            return Ok((text.into(), false));
        }
        Ok((text.into(), true))
    }
}

/// The nouns that are answered by pages of prefixes.
const OF_PREFIXES: [&str; 2] = ["fib", "routes"];

/// Reads a prefix that a client gave as `what`.
pub fn prefix_of(what: &str, text: &str) -> Result<IpPrefix, ApiError> {
    text.parse().map_err(|error| {
        ApiError::bad_request(format!("{what}: expected a prefix, found {text:?}: {error}"))
    })
}

/// Answered, or not, by the control thread.
pub type PageReply = oneshot::Sender<Result<Page, ApiError>>;

/// Only the rows of a document that contain this word.
pub(super) fn matching(mut document: Value, word: &str) -> Value {
    if let Some(rows) = document["items"].as_array_mut() {
        rows.retain(|row| has_word(row, word));
    }
    document
}

fn has_word(row: &Value, word: &str) -> bool {
    let is_it = |value: &Value| match value {
        Value::String(text) => text == word,
        Value::Array(texts) => texts.iter().any(|text| text == word),
        _ => false,
    };
    row.as_object().is_some_and(|row| row.values().any(is_it))
}
