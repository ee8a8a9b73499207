//! Connections of the control socket and of `[api] http`, and what bounds them.
//!
//! A listener has at most [`CONNECTIONS_MAX`] connections; more wait in the kernel. A client has
//! [`HEADER_WITHIN`] for the head of each request, and is cut off once it has not read for
//! [`READ_WITHIN`] although an answer waits. Answers that grow with the number of routes are made as
//! they are read, so a connection holds one page of them.
#![forbid(unsafe_code)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};

use super::Who;

/// Connections of one listener at a time.
pub const CONNECTIONS_MAX: usize = 128;

/// How long a client may take to send the head of a request, from the end of the one before.
pub const HEADER_WITHIN: Duration = Duration::from_secs(5);

/// How long a client may leave an answer unread.
pub const READ_WITHIN: Duration = Duration::from_secs(5);

/// Something that accepts connections.
pub(super) trait Listen {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The next connection, and who is at its other end.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Who)>>;
}

impl Listen for UnixListener {
    type Stream = tokio::net::UnixStream;

    /// By SO_PEERCRED (unix(7)): who had connected.
    async fn accept(&self) -> io::Result<(Self::Stream, Who)> {
        let (stream, _) = Self::accept(self).await?;
        let who = match stream.peer_cred() {
            Ok(peer) => {
                let pid = peer.pid().map_or(String::new(), |pid| format!(" pid {pid}"));
                format!("uid {}{pid}", peer.uid())
            }
            Err(error) => format!("nobody knows whom: {error}"),
        };
        Ok((stream, Who(who)))
    }
}

impl Listen for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Who)> {
        let (stream, from) = Self::accept(self).await?;
        Ok((stream, Who(from.to_string())))
    }
}

/// Serves connections until the runtime ends. Runs in a [`tokio::task::LocalSet`].
pub(super) async fn serve(listener: impl Listen, app: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, who) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: those that are open go on.
                log::error!("the API cannot accept a connection: {error}");
                sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(app.clone().layer(Extension(who)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WITHIN)
            .max_buf_size(BUFFER_MAX)
            .serve_connection(TokioIo::new(Impatient::new(stream)), service);
        tokio::task::spawn_local(async move {
            // A client that goes away or is cut off is no fault of the router.
            if let Err(error) = connection.await {
                log::debug!("a connection of the API ended: {error}");
            }
            drop(place);
        });
    }
}

/// A stream that fails once a write has waited for [`READ_WITHIN`].
struct Impatient<S> {
    stream: S,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    const fn new(stream: S) -> Self {
        Self { stream, waiting: None }
    }

    fn patience<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(READ_WITHIN)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patience(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.patience(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.patience(context, outcome)
    }
}

/// Bytes of a connection's buffers, and so of the longest head of a request.
const BUFFER_MAX: usize = 64 * 1024;

/// How long to wait after a connection could not be accepted.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
