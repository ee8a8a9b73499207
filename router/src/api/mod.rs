//! The control socket: JSON over HTTP for the client command and scripts.
//!
//! Requests become [`Command`]s for the control thread, which owns all state and answers them.
//! [`views`] builds the answers.
#![forbid(unsafe_code)]

mod claim;
pub mod column;
mod command;
pub mod document;
mod error;
pub mod metrics;
pub mod nouns;
pub mod pages;
mod params;
pub mod row;
pub mod rows;
mod server;
pub mod socket;
pub mod views;

pub use self::claim::{Claim, ClaimError, OwnFile, claim, is_listening};
pub use self::command::{
    AnnounceRequest, Command, ExplainQuery, OverrideKind, OverrideRequest, Reply, Who,
};
pub use self::error::ApiError;
pub use self::server::CONNECTIONS_MAX;

use std::io;
use std::thread;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use self::document::{Cleared, Effected, Explanation, Overridden, Reloaded, Undamped};
use self::nouns::{SHOWN, Show};
use self::pages::ShowQuery;
use self::params::{Described, Kind, Param, Params, optional, required};
use crate::config::reader::did_you_mean;

impl Described for ExplainQuery {
    const ALL: &'static [Param] = &[
        required("address", Kind::Address),
        optional("from", Kind::Address),
        optional("proto", Kind::Number(u8::MAX as u64)),
        optional("sport", Kind::Number(u16::MAX as u64)),
        optional("dport", Kind::Number(u16::MAX as u64)),
    ];
}

impl Described for ShowQuery {
    const ALL: &'static [Param] = &[
        optional("after", Kind::Text),
        optional("limit", Kind::Number(usize::MAX as u64)),
        optional("only", Kind::Text),
        optional("of", Kind::Text),
        optional("neighbor", Kind::Text),
    ];
}

impl Described for BlockQuery {
    const ALL: &'static [Param] = &[required("prefix", Kind::Text), optional("force", Kind::Flag)];
}

impl Described for Force {
    const ALL: &'static [Param] = &[optional("force", Kind::Flag)];
}

impl Described for Soft {
    const ALL: &'static [Param] = &[optional("soft", Kind::Flag)];
}

impl Described for WatchQuery {
    const ALL: &'static [Param] = &[optional("since", Kind::Number(u64::MAX))];
}

/// Starts the API's thread: the control socket, and the read-only requests over TCP. It ends with the
/// process.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    socket: std::os::unix::net::UnixListener,
    http: Option<std::net::TcpListener>,
    commands: mpsc::Sender<Command>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (socket, http) = {
        let _inside = runtime.enter();
        (UnixListener::from_std(socket)?, http.map(TcpListener::from_std).transpose()?)
    };
    let (all, reads) = (all().with_state(commands.clone()), reads().with_state(commands));
    let reads = reads.layer(axum::middleware::from_fn(named_by_address));
    thread::Builder::new().name("nh-api".into()).spawn(move || {
        let tasks = tokio::task::LocalSet::new();
        tasks.spawn_local(server::serve(socket, all));
        if let Some(http) = http {
            tasks.spawn_local(server::serve(http, reads));
        }
        runtime.block_on(tasks);
    })?;
    Ok(())
}

/// A browser that was led here by a name of somebody else's (DNS rebinding) is refused.
async fn named_by_address(request: Request, next: Next) -> Result<Response, ApiError> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let is_address = |host: &str| {
        let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let name = name.map_or(host, |(name, _)| name);
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
    };
    if host.is_some_and(is_address) {
        return Ok(next.run(request).await);
    }
    let error = format!("expected an address in the Host header, found {:?}", host.unwrap_or(""));
    Err(ApiError::of(StatusCode::FORBIDDEN, error).with_help("ask by address"))
}

type Commands = State<mpsc::Sender<Command>>;

/// All requests, for clients that may make changes.
fn all() -> Router<mpsc::Sender<Command>> {
    let overrides = OverrideKind::ALL.into_iter().fold(reads(), |router, what| {
        let handler = move |commands: Commands, who, site, query| {
            put_override(commands, (who, what), site, query)
        };
        router.route(&format!("/v1/{}/{{site}}", what.verb()), post(handler))
    });
    overrides
        .route("/v1/clear/bgp/{neighbor}", post(clear))
        .route("/v1/undamp", post(undamp))
        .route("/v1/drain-router", post(|commands, who| drain_router(commands, who, true)))
        .route(
            "/v1/playbook/apply/{name}",
            post(|commands, who, name, query| play(commands, who, (name, true), query)),
        )
        .route(
            "/v1/playbook/undo/{name}",
            post(|commands, who, name, query| play(commands, who, (name, false), query)),
        )
        .route("/v1/block", post(|commands, who, query| block(commands, who, query, true)))
        .route("/v1/unblock", post(|commands, who, query| block(commands, who, query, false)))
        .route("/v1/undrain-router", post(|commands, who| drain_router(commands, who, false)))
        .route("/v1/reload", post(reload))
        .method_not_allowed_fallback(wrong_method)
}

fn reads() -> Router<mpsc::Sender<Command>> {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(scrape))
        .route("/v1/show/{noun}", get(show))
        .route("/v1/explain", get(explain))
        .route("/v1/watch", get(watch))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
}

/// A segment of the path, or why it cannot be decoded.
type UrlSegment = Result<UrlPath<String>, PathRejection>;

async fn show(
    State(commands): Commands,
    noun: UrlSegment,
    query: Result<Params<ShowQuery>, ApiError>,
) -> Result<Response, ApiError> {
    let (UrlPath(noun), Params(query)) = (noun?, query?);
    let show = Show::find(&noun).ok_or_else(|| {
        let names: Vec<_> = SHOWN.iter().map(|noun| noun.name).collect();
        let help = known("nouns", &noun, &names);
        ApiError::not_found(format!("no such noun: {noun:?}")).with_help(help)
    })?;
    pages::stream(commands, show, &query).await
}

/// Help for one who named something that is not among these: the name that was probably meant, and all.
pub fn known(what: &str, word: &str, names: &[&str]) -> String {
    let all = format!("known {what}: {}", names.join(", "));
    match did_you_mean(word, names) {
        Some(best) => format!("did you mean {best:?}? {all}"),
        None => all,
    }
}

/// 200 and `ready`, or 503 and why not.
async fn health(State(commands): Commands) -> Result<&'static str, ApiError> {
    ask(&commands, Command::Health).await.map(|()| "ready\n")
}

/// Every document that has metrics, as OpenMetrics.
async fn scrape(State(commands): Commands) -> Result<Response, ApiError> {
    // One at a time: a scrape holds all rows until it is written.
    let _one = SCRAPE.lock().await;
    let mut documents = Vec::new();
    for &show in Show::ALL.iter().filter(|show| show.noun().metrics.is_some()) {
        documents.push((show, pages::collect(commands.clone(), show).await?));
    }
    let text = metrics::text(metrics::Scrape(documents))
        .map_err(|error| ApiError::environment(format!("cannot write the metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn explain(
    State(commands): Commands,
    query: Result<Params<ExplainQuery>, ApiError>,
) -> Result<Json<Explanation>, ApiError> {
    let Params(query) = query?;
    ask(&commands, |reply| Command::Explain(query, reply)).await.map(Json)
}

/// Whether a command is carried out although it leaves a service without a site.
#[derive(Deserialize)]
struct Force {
    #[serde(default)]
    force: bool,
}

async fn put_override(
    State(commands): Commands,
    (Extension(who), what): (Extension<Who>, OverrideKind),
    site: UrlSegment,
    query: Result<Params<Force>, ApiError>,
) -> Result<Json<Overridden>, ApiError> {
    let (UrlPath(site), Params(Force { force })) = (site?, query?);
    let request = OverrideRequest { site, what, force };
    change(&commands, |reply| Command::Override(request, who, reply)).await.map(Json)
}

async fn drain_router(
    State(commands): Commands,
    Extension(who): Extension<Who>,
    drained: bool,
) -> Result<Json<Effected>, ApiError> {
    let request = AnnounceRequest::DrainRouter(drained);
    change(&commands, |reply| Command::Announce(request, who, reply)).await.map(Json)
}

async fn play(
    State(commands): Commands,
    Extension(who): Extension<Who>,
    (name, applied): (UrlSegment, bool),
    query: Result<Params<Force>, ApiError>,
) -> Result<Json<Effected>, ApiError> {
    let (UrlPath(playbook), Params(Force { force })) = (name?, query?);
    let request = AnnounceRequest::Play { playbook, applied, force };
    change(&commands, |reply| Command::Announce(request, who, reply)).await.map(Json)
}

/// Which prefix is blocked or unblocked.
#[derive(Deserialize)]
struct BlockQuery {
    prefix: String,
    #[serde(default)]
    force: bool,
}

async fn block(
    State(commands): Commands,
    Extension(who): Extension<Who>,
    query: Result<Params<BlockQuery>, ApiError>,
    blocked: bool,
) -> Result<Json<Effected>, ApiError> {
    let Params(BlockQuery { prefix, force }) = query?;
    let request = AnnounceRequest::Block { prefix, blocked, force };
    change(&commands, |reply| Command::Announce(request, who, reply)).await.map(Json)
}

/// Whether a session goes on while all is announced once more.
#[derive(Deserialize)]
struct Soft {
    #[serde(default)]
    soft: bool,
}

async fn clear(
    State(commands): Commands,
    Extension(who): Extension<Who>,
    neighbor: UrlSegment,
    query: Result<Params<Soft>, ApiError>,
) -> Result<Json<Cleared>, ApiError> {
    let (UrlPath(neighbor), Params(Soft { soft })) = (neighbor?, query?);
    change(&commands, |reply| Command::Clear(neighbor, soft, who, reply)).await.map(Json)
}

async fn undamp(State(commands): Commands) -> Result<Json<Undamped>, ApiError> {
    change(&commands, Command::Undamp).await.map(Json)
}

async fn reload(
    State(commands): Commands,
    Extension(who): Extension<Who>,
    query: Result<Params<Force>, ApiError>,
) -> Result<Json<Reloaded>, ApiError> {
    let Params(Force { force }) = query?;
    change(&commands, |reply| Command::Reload(who, force, reply)).await.map(Json)
}

#[derive(Deserialize)]
struct WatchQuery {
    since: Option<u64>,
}

/// Streams JSON lines. A client that reads too slowly loses lines, which a gap in `seq` shows. A
/// watcher costs nothing but its connection, and ends with it.
async fn watch(
    State(commands): Commands,
    query: Result<Params<WatchQuery>, ApiError>,
) -> Result<Response, ApiError> {
    let Params(query) = query?;
    let (past, lines) = ask(&commands, |reply| Command::Watch(query.since, reply)).await?;
    let past = past.into_iter();
    let stream = futures_util::stream::unfold((past, lines), |(mut past, mut lines)| async move {
        if let Some(line) = past.next() {
            return Some((Ok::<_, io::Error>(line), (past, lines)));
        }
        loop {
            match lines.recv().await {
                Ok(line) => return Some((Ok(line), (past, lines))),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("no such path: {}", uri.path()))
        .with_help("/v1/show/NOUN, /v1/explain?address=ADDRESS, /v1/watch, /healthz")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let error = format!("{} does not support {method}", uri.path());
    ApiError::of(StatusCode::METHOD_NOT_ALLOWED, error)
        .with_help("use GET to read and POST to change; changes need the control socket")
}

/// Asks the control thread, which is to answer within [`ANSWER_WITHIN`].
async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, ApiError> {
    timeout(ANSWER_WITHIN, change(commands, command)).await.map_err(|_| ApiError::busy())?
}

/// Asks the control thread for what may take it long.
async fn change<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).await.map_err(|_| ApiError::ending())?;
    answer.await.map_err(|_| ApiError::ending())?
}

/// Held by the scrape that is being made.
static SCRAPE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long the control thread may take for what changes nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Sends a request to a server without a control thread, so only what the server refuses itself
    /// is answered.
    fn refused(request_line: &str) -> (String, Value) {
        use std::io::{Read as _, Write as _};
        use std::os::unix::net::UnixStream;
        let path = std::env::temp_dir().join(format!(
            "nearhop-api-{}-{}.sock",
            std::process::id(),
            request_line.len()
        ));
        let (listener, _claim) = claim(&path).unwrap();
        let (commands, _asked) = mpsc::channel(1);
        start(listener, None, commands).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();
        write!(stream, "{request_line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split_whitespace().nth(1).unwrap().to_owned();
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {text}")))
    }

    #[test]
    fn every_refusal_is_json_and_says_what_is_wrong() {
        for (request, status, says) in [
            (
                "GET /v1/explain?address=nonsense",
                "400",
                "address: \"nonsense\" is not an address: expected an address such as 192.0.2.1",
            ),
            ("GET /v1/explain?address=10.0.0.256", "400", "\"256\", is above 255"),
            ("GET /v1/explain", "400", "address is missing: add address=192.0.2.1"),
            ("GET /v1/explain?address=::&address=::", "400", "address is given 2 times"),
            (
                "GET /v1/explain?address=::&proto=tcp",
                "400",
                "proto: expected a whole number from 0 to 255, found \"tcp\"",
            ),
            ("GET /v1/watch?since=yesterday", "400", "since: expected a whole number from 0"),
            ("GET /v1/show/fib?limit=-1", "400", "limit: expected a whole number from 0"),
            ("POST /v1/drain/ams?force=yes", "400", "force: expected true or false, found \"yes\""),
            ("GET /v1/show/%ff", "400", "the path is not UTF-8"),
            ("GET /v1/nonsense", "404", "/v1/nonsense"),
            (
                "GET /v1/show/servces",
                "404",
                "did you mean \"services\"? known nouns: services, fib",
            ),
            ("POST /v1/show/drops", "405", "POST"),
            ("GET /v1/drain/ams", "405", "GET"),
        ] {
            let (got, body) = refused(request);
            assert_eq!(got, status, "{request}");
            let said = format!(
                "{}; {}",
                body["error"].as_str().unwrap(),
                body["help"].as_str().unwrap_or("")
            );
            assert!(said.contains(says), "{request}: {body}");
            // Words of libraries.
            assert!(!said.contains("deserialize") && !said.contains("invalid"), "{said}");
        }
    }
}
