//! The signals' thread: a router ends on SIGTERM whatever its other threads do.
#![forbid(unsafe_code)]

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// To end (SIGTERM, SIGINT).
    End,
    /// To read the configuration again (SIGHUP).
    Reload,
}

/// Starts the thread. Where the router has not ended [`END_WITHIN`] after it was asked to, `forced` is
/// called and the process exits with status 1.
pub(super) fn start(forced: impl Fn() + Send + 'static) -> io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(ASKED_MAX);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        let of = |kind| signal(kind);
        (of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?)
    };
    thread::Builder::new().name("nh-signals".into()).spawn(move || {
        runtime.block_on(async move {
            let (mut terminate, mut interrupt, mut hangup) = signals;
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    // One that waits already stands for this one.
                    _ = hangup.recv() => drop(sender.try_send(Signal::Reload)),
                }
            }
            // Ends the reader's wait even if there is no room.
            let _ = sender.try_send(Signal::End);
            drop(sender);
            tokio::time::sleep(END_WITHIN).await;
            log::error!("the router has not ended within {} s: forced", END_WITHIN.as_secs());
            forced();
            std::process::exit(1);
        });
    })?;
    Ok(receiver)
}

/// How long the router may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Reloads that may wait: more ask for nothing else.
const ASKED_MAX: usize = 2;
