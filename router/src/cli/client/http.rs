//! One request over one connection to a Unix socket.
#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Sender;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::cli::output::Failure;

/// A router's control socket.
pub(super) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Failure::environment(format!("cannot wait for the router's answer: {error}"))
        })?;
        Ok(Self { socket, runtime })
    }

    /// The body of the answer, which must come within [`ANSWER_WITHIN`].
    pub(super) fn get(&self, path: &str) -> Result<Bytes, Failure> {
        self.ask(Method::GET, path)
    }

    /// As [`Self::get`].
    pub(super) fn post(&self, path: &str) -> Result<Bytes, Failure> {
        self.ask(Method::POST, path)
    }

    /// Gives `take` every piece of a body that goes on until the router ends it, or until nobody
    /// reads standard output.
    pub(super) fn follow(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let answer = timeout(ANSWER_WITHIN, self.send(Method::GET, path));
            let mut body = answer.await.map_err(|_| self.silent())??.into_body();
            loop {
                let frame = tokio::select! {
                    () = closed_stdout() => return Err(Failure::Closed),
                    frame = body.frame() => frame,
                };
                match frame {
                    None => return Ok(()),
                    Some(Err(error)) => return Err(self.broken(&error)),
                    Some(Ok(frame)) => take(frame.data_ref().map_or(&[][..], |data| data))?,
                }
            }
        })
    }

    fn ask(&self, method: Method, path: &str) -> Result<Bytes, Failure> {
        let answer = async {
            let body = self.send(method, path).await?.into_body().collect().await;
            Ok(body.map_err(|error| self.broken(&error))?.to_bytes())
        };
        let within = self.runtime.block_on(async { timeout(ANSWER_WITHIN, answer).await });
        within.map_err(|_| self.silent())?
    }

    /// The response, if it is a success; what the router says otherwise is the failure.
    async fn send(&self, method: Method, path: &str) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.refused(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the connection; what it has to say, the sender and the body say too.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::usage(format!("{path:?} cannot be asked for: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?;
        Err(said(status, &body.to_bytes()))
    }

    fn refused(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        let failure =
            |text: String| Failure::environment(format!("no router answers at {socket}: {text}"));
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                failure("it was left behind by one that ended".into())
                    .with_help("start it with `nearhop run FILE`")
            }
            io::ErrorKind::NotFound => failure("there is no such socket".into()).with_help(
                "start it with `nearhop run FILE`, or name its socket with --socket PATH",
            ),
            io::ErrorKind::PermissionDenied => failure("permission denied".into())
                .with_help("only the router's own user may speak to it"),
            _ => failure(error.to_string()),
        }
    }

    fn silent(&self) -> Failure {
        let (socket, seconds) = (self.socket.display(), ANSWER_WITHIN.as_secs());
        Failure::environment(format!("the router at {socket} did not answer in {seconds} seconds"))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        let socket = self.socket.display();
        Failure::environment(format!("the router at {socket} broke off: {error}"))
    }
}

/// The router's own words, if it used its own form.
fn said(status: StatusCode, body: &[u8]) -> Failure {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
    let message = text("error").unwrap_or_else(|| format!("the router answered {status}"));
    let help = text("help");
    if status.is_client_error() {
        Failure::Usage { message, help }
    } else {
        Failure::Environment { message, help }
    }
}

/// Waits until the reader of standard output is gone; for ever where that cannot be told, as for
/// a file.
async fn closed_stdout() {
    let stdout = rustix::io::dup(std::io::stdout()).ok();
    // Unchecked, for it is only watched: the mode that other holders of it rely on stays.
    let watched = stdout.and_then(|fd| Sender::from_owned_fd_unchecked(fd).ok());
    match watched {
        Some(pipe) => drop(pipe.ready(Interest::ERROR).await),
        None => std::future::pending().await,
    }
}

/// A router's control thread answers at once, or is in trouble.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
