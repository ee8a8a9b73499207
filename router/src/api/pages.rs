//! The answers of `show`. Those that grow with the configuration are asked of the control thread a page at a
//! time, and made as their client reads them.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use nearhop_fib::IpPrefix;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::nouns::{Pages, Rows, Show};
use super::{ApiError, Command, ask};

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
    /// Of `routes`: `received`, `accepted`, `refused`, `best` or `advertised` ones.
    pub of: Option<String>,
    /// Of `routes`: those of this BGP neighbour.
    pub neighbor: Option<String>,
}

/// Which routes are shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RoutesOf {
    /// Those of every source, and what BGP neighbours announce, used or not.
    #[default]
    All,
    /// What BGP neighbours announce and is accepted, as it is used.
    Accepted,
    /// What is announced to BGP neighbours.
    Advertised,
    /// Those in use.
    Best,
    /// What BGP neighbours announce, as it came.
    Received,
    /// What BGP neighbours announce and is refused, as it came.
    Refused,
}

impl RoutesOf {
    /// Words for all but the first.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("received", Self::Received),
        ("accepted", Self::Accepted),
        ("refused", Self::Refused),
        ("best", Self::Best),
        ("advertised", Self::Advertised),
    ];

    fn named(word: &str) -> Result<Self, ApiError> {
        let found = Self::WORDS.into_iter().find(|(name, _)| *name == word);
        found.map(|(_, of)| of).ok_or_else(|| {
            let names = Self::WORDS.map(|(name, _)| name);
            let help = super::known("words", word, &names);
            ApiError::bad_request(format!("of: {word:?} is not known")).with_help(help)
        })
    }
}

/// What the control thread is asked for.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The noun.
    pub show: Show,
    /// What comes after this.
    pub after: Option<String>,
    /// Only these prefixes.
    pub only: Option<Only>,
    /// Which of the routes.
    pub of: RoutesOf,
    /// Only those of this BGP neighbour.
    pub neighbor: Option<String>,
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
#[derive(Debug)]
pub struct Page<R = Rows> {
    /// Those of whole prefixes, groups or services, in the order of these.
    pub rows: R,
    /// How many of them they are of.
    pub count: usize,
    /// The last of them, if there may be more.
    pub next: Option<String>,
}

/// Without rows yet.
impl<T> Default for Page<Vec<T>> {
    fn default() -> Self {
        Self { rows: Vec::new(), count: 0, next: None }
    }
}

/// A document that is sent whole.
impl<T> From<Vec<T>> for Page
where
    Rows: From<Vec<T>>,
{
    fn from(rows: Vec<T>) -> Self {
        Page { count: rows.len(), rows, next: None }.into()
    }
}

impl<T> From<Page<Vec<T>>> for Page
where
    Rows: From<Vec<T>>,
{
    fn from(Page { rows, count, next }: Page<Vec<T>>) -> Self {
        Self { rows: rows.into(), count, next }
    }
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

/// The answer to `show`.
pub(super) async fn stream(
    commands: mpsc::Sender<Command>,
    show: Show,
    query: &ShowQuery,
) -> Result<Response, ApiError> {
    let wanted = query.limit.unwrap_or(usize::MAX);
    if wanted == 0 {
        return Err(ApiError::bad_request("limit: expected a number from 1 on, found 0"));
    }
    let mut rest = Rest::new(commands, show, wanted);
    rest.request.after.clone_from(&query.after);
    if show == Show::Routes {
        rest.request.of = query.of.as_deref().map(RoutesOf::named).transpose()?.unwrap_or_default();
        rest.request.neighbor.clone_from(&query.neighbor);
    } else if matches!(show, Show::BgpNeighbor | Show::BgpTranscript) {
        rest.request.neighbor.clone_from(&query.only);
    } else if query.of.is_some() || query.neighbor.is_some() {
        return Err(ApiError::bad_request("of and neighbor are about routes alone"));
    }
    match &query.only {
        Some(only) if show.noun().pages == Pages::Prefixes => {
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
            Err(error) => (Err(io::Error::other(error.text().to_owned())), None),
        })
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, Body::from_stream(chunks)).into_response())
}

/// All rows of a noun, a page after the other.
pub(super) async fn collect(
    commands: mpsc::Sender<Command>,
    show: Show,
) -> Result<Vec<Rows>, ApiError> {
    let mut rest = Rest::new(commands, show, usize::MAX);
    let mut pages = Vec::new();
    loop {
        rest.fetch().await?;
        let Some(page) = rest.page.take() else { return Ok(pages) };
        pages.push(page.rows);
        if page.next.is_none() {
            return Ok(pages);
        }
    }
}

impl Rest {
    fn new(commands: mpsc::Sender<Command>, show: Show, wanted: usize) -> Self {
        let (of, neighbor) = (RoutesOf::All, None);
        let request = PageRequest { show, after: None, only: None, of, neighbor, count: 0 };
        Self { commands, request, wanted, word: None, page: None, begun: false, first: true }
    }

    async fn fetch(&mut self) -> Result<(), ApiError> {
        self.request.count = self.wanted.min(PER_PAGE);
        let request = self.request.clone();
        let mut page = ask(&self.commands, |reply| Command::Show(request, reply)).await?;
        if let Some(word) = &self.word {
            page.rows.retain_with(word);
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
        let failed = |error| ApiError::environment(format!("cannot write JSON: {error}"));
        let mut text = Vec::with_capacity(CHUNK);
        if !std::mem::replace(&mut self.begun, true) {
            let schema = self.request.show.noun().schema();
            text.extend_from_slice(format!(r#"{{"schema":"{schema}","items":["#).as_bytes());
        }
        let Some(page) = self.page.take() else { return Ok((text.into(), false)) };
        if !page.rows.is_empty() {
            if !std::mem::take(&mut self.first) {
                text.push(b',');
            }
            page.rows.write_json(&mut text).map_err(failed)?;
        }
        let Some(next) = page.next else {
            text.extend_from_slice(b"]}");
            return Ok((text.into(), false));
        };
        if self.wanted == 0 {
            text.extend_from_slice(br#"],"next":"#);
            serde_json::to_writer(&mut text, &next).map_err(failed)?;
            text.push(b'}');
            return Ok((text.into(), false));
        }
        Ok((text.into(), true))
    }
}

/// Reads a prefix that a client gave as `what`.
pub fn prefix_of(what: &str, text: &str) -> Result<IpPrefix, ApiError> {
    text.parse().map_err(|error| {
        ApiError::bad_request(format!("{what}: expected a prefix, found {text:?}: {error}"))
    })
}

/// Answered, or not, by the control thread.
pub type PageReply = oneshot::Sender<Result<Page, ApiError>>;

/// Bytes of a page of routes, about.
const CHUNK: usize = 48 << 10;
