//! A client of a running router's control socket, for programs: one connection per request.
#![forbid(unsafe_code)]

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Buf as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Why a request failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// What failed.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Whether the request was invalid, as opposed to one that cannot be answered here and now.
    pub asked_wrongly: bool,
}

impl ClientError {
    fn environment(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, asked_wrongly: false }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self { asked_wrongly: true, ..Self::environment(message) }
    }

    fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Why a stream of events came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Followed {
    /// The router ended.
    Ended,
    /// Whoever followed has enough.
    Stopped,
}

/// A client of one router's control socket.
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// A client of the router that listens on `socket`; does not connect yet.
    pub fn new(socket: PathBuf) -> Result<Self, ClientError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            ClientError::environment(format!("cannot wait for the router's answer: {error}"))
        })?;
        Ok(Self { socket, runtime })
    }

    /// Sends a GET request and returns the body of the response. Each part of it must arrive within
    /// ten seconds.
    pub fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        self.ask(Method::GET, path)
    }

    /// Sends a GET request and returns the body of the response as it arrives; each part of it must do so
    /// within ten seconds.
    pub fn read(&self, path: &str) -> Result<Answer<'_>, ClientError> {
        let body = self.runtime.block_on(async {
            let response = timeout(ANSWER_WITHIN, self.send(Method::GET, path)).await;
            Ok(response.map_err(|_| self.silent(ANSWER_WITHIN))??.into_body())
        })?;
        Ok(Answer { client: self, body, part: Bytes::new(), failed: None })
    }

    /// Sends a POST request and returns the body of the response, which must begin to arrive within
    /// two minutes: a reload is answered when its last step is done.
    pub fn post(&self, path: &str) -> Result<Bytes, ClientError> {
        self.ask(Method::POST, path)
    }

    /// Sends a GET request and passes each piece of the response's body to `take` until the router
    /// ends, `take` breaks, or `until` completes.
    ///
    /// # Errors
    /// The request failed, or a router that still runs closed the connection.
    pub fn follow(
        &self,
        path: &str,
        until: impl Future<Output = ()>,
        mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Followed, ClientError> {
        self.runtime.block_on(async {
            let answer = timeout(ANSWER_WITHIN, async {
                let stream = self.connect().await?;
                let router = process_of(&stream);
                Ok((router, self.send_by(stream, Method::GET, path).await?))
            });
            let (router, response) = answer.await.map_err(|_| self.silent(ANSWER_WITHIN))??;
            let mut body = response.into_body();
            tokio::pin!(until);
            loop {
                let frame = tokio::select! {
                    () = &mut until => return Ok(Followed::Stopped),
                    frame = body.frame() => frame,
                };
                match frame {
                    None => return Ok(Followed::Ended),
                    Some(Err(_)) if self.has_ended(router).await => return Ok(Followed::Ended),
                    Some(Err(error)) => return Err(self.broken(&error)),
                    Some(Ok(frame)) => {
                        if take(frame.data_ref().map_or(&[][..], |data| data)).is_break() {
                            return Ok(Followed::Stopped);
                        }
                    }
                }
            }
        })
    }

    /// Whether the router that was this process has ended: nobody listens, or another process; or what
    /// still listens is closed at once, as by a process that is about to end.
    async fn has_ended(&self, router: Option<i32>) -> bool {
        match timeout(ANSWER_WITHIN, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) if process_of(&stream) == router => {
                // A router that lives says nothing before it is asked.
                timeout(ENDS_WITHIN, stream.readable()).await.is_ok()
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn ask(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let within = if method == Method::POST { CHANGE_WITHIN } else { ANSWER_WITHIN };
        self.runtime.block_on(async {
            let answer = timeout(within, self.send(method, path)).await;
            let mut body = answer.map_err(|_| self.silent(within))??.into_body();
            let mut bytes = Vec::new();
            loop {
                let frame = timeout(ANSWER_WITHIN, body.frame()).await;
                match frame.map_err(|_| self.silent(ANSWER_WITHIN))? {
                    None => return Ok(bytes.into()),
                    Some(Err(error)) => return Err(self.broken(&error)),
                    Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |d| d)),
                }
            }
        })
    }

    /// Sends a request and returns the response if its status is a success; otherwise its body
    /// becomes the error.
    async fn send(&self, method: Method, path: &str) -> Result<Response<Incoming>, ClientError> {
        self.send_by(self.connect().await?, method, path).await
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket).await.map_err(|error| self.refused(&error))
    }

    async fn send_by(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
    ) -> Result<Response<Incoming>, ClientError> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // The task ends with the connection; its errors reach the sender and the body too.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|error| ClientError::usage(format!("cannot request {path:?}: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?;
        Err(reported_error(status, &body.to_bytes()))
    }

    fn refused(&self, error: &io::Error) -> ClientError {
        let socket = self.socket.display();
        let failure = |text: String| {
            ClientError::environment(format!("no router answers at {socket}: {text}"))
        };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                failure("stale socket: no router is listening".into())
                    .with_help("start it with `nearhop run FILE`")
            }
            io::ErrorKind::NotFound => failure("no such socket".into()).with_help(
                "start it with `nearhop run FILE`, or name its socket with --socket PATH",
            ),
            io::ErrorKind::PermissionDenied => failure("permission denied".into())
                .with_help("only the user that runs the router may connect to it"),
            _ => failure(error.to_string()),
        }
    }

    fn silent(&self, within: Duration) -> ClientError {
        let (socket, seconds) = (self.socket.display(), within.as_secs());
        ClientError::environment(format!(
            "the router at {socket} did not answer in {seconds} seconds"
        ))
    }

    fn broken(&self, error: &hyper::Error) -> ClientError {
        let socket = self.socket.display();
        ClientError::environment(format!("the router at {socket} closed the connection: {error}"))
    }
}

/// The body of a response, which waits for its next part where it is read.
pub struct Answer<'c> {
    client: &'c Client,
    body: Incoming,
    /// What arrived and was not read yet.
    part: Bytes,
    failed: Option<ClientError>,
}

impl Answer<'_> {
    /// Why a read failed; its own error has only the text.
    pub fn take_error(&mut self) -> Option<ClientError> {
        self.failed.take()
    }

    fn next_part(&mut self) -> Result<Option<Bytes>, ClientError> {
        let client = self.client;
        client.runtime.block_on(async {
            loop {
                let frame = timeout(ANSWER_WITHIN, self.body.frame()).await;
                match frame.map_err(|_| client.silent(ANSWER_WITHIN))? {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(client.broken(&error)),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data()
                            && !data.is_empty()
                        {
                            return Ok(Some(data));
                        }
                    }
                }
            }
        })
    }
}

impl io::BufRead for Answer<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.part.is_empty() {
            match self.next_part() {
                Ok(part) => self.part = part.unwrap_or_default(),
                Err(error) => {
                    let text = error.message.clone();
                    self.failed = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        Ok(&self.part)
    }

    fn consume(&mut self, count: usize) {
        self.part.advance(count);
    }
}

impl io::Read for Answer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let part = io::BufRead::fill_buf(self)?;
        let count = part.len().min(into.len());
        into[..count].copy_from_slice(&part[..count]);
        io::BufRead::consume(self, count);
        Ok(count)
    }
}

/// The process that listens at the other end (`SO_PEERCRED`, unix(7)).
fn process_of(stream: &UnixStream) -> Option<i32> {
    stream.peer_cred().ok().and_then(|peer| peer.pid())
}

/// The error that the router reported, if the body has the form of its errors.
fn reported_error(status: StatusCode, body: &[u8]) -> ClientError {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
    let message = text("error").unwrap_or_else(|| format!("the router answered {status}"));
    let help = text("help");
    ClientError { message, help, asked_wrongly: status.is_client_error() }
}

/// How long to wait for a response, or the next part of it. A healthy control thread answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a process that ends may take to close what it has open.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// How long to wait for a change.
const CHANGE_WITHIN: Duration = Duration::from_mins(2);
