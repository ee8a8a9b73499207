//! The signals' thread: a router ends on SIGTERM whatever its other threads do.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::logging;

/// The signals of the process are caught: none ends it any more, and they wait for [`Self::watch`].
pub struct Caught {
    runtime: Runtime,
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    summarize: Stream,
    /// Caught, and nothing else.
    ignored: Stream,
}

/// The signals of the process: none ends it but as SIGTERM does.
pub struct Signals {
    asked: mpsc::Receiver<Signal>,
    forced: Arc<Mutex<Option<Forced>>>,
    patience: Patience,
}

/// How long the router may take to end beyond [`END_WITHIN`].
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicU64>);

impl Patience {
    /// It takes so much longer.
    pub(super) fn extend(&self, by: Duration) {
        self.0.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Acquire))
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// To end (SIGTERM, SIGINT); the second time, at once.
    End,
    /// To read the configuration again (SIGHUP).
    Reload,
    /// To log a summary of the state (SIGUSR1).
    Summarize,
}

/// Takes back what would stay behind a router that is forced to end.
type Forced = Box<dyn Fn() + Send>;

impl Caught {
    /// Catches them; to be called before anything that takes time.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let [hangup, summarize] = [SignalKind::hangup(), SignalKind::user_defined1()].map(signal);
        let ignored = signal(SignalKind::user_defined2());
        drop(inside);
        Ok(Self {
            runtime,
            terminate: terminate?,
            interrupt: interrupt?,
            hangup: hangup?,
            summarize: summarize?,
            ignored: ignored?,
        })
    }

    /// Starts the thread that handles them; the log has been started. Until `Signals::begin` there is
    /// nothing to end in order: SIGTERM and SIGINT exit with status 0, and what else was asked for
    /// waits.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn watch(self) -> io::Result<Signals> {
        let (sender, asked) = mpsc::channel(ASKED_MAX);
        let forced = Arc::new(Mutex::new(None));
        let patience = Patience::default();
        let signals = Signals { asked, forced: Arc::clone(&forced), patience: patience.clone() };
        let Self { runtime, mut terminate, mut interrupt, mut hangup, mut summarize, ignored } =
            self;
        thread::Builder::new().name("nh-signals".into()).spawn(move || {
            let _ignored = ignored;
            runtime.block_on(async move {
                let name = loop {
                    tokio::select! {
                        _ = terminate.recv() => break "SIGTERM",
                        _ = interrupt.recv() => break "SIGINT",
                        // One that waits already stands for this one.
                        _ = hangup.recv() => drop(sender.try_send(Signal::Reload)),
                        _ = summarize.recv() => drop(sender.try_send(Signal::Summarize)),
                    }
                };
                log::info!("{name}: the router ends");
                exit_unless_begun(&forced);
                // Whoever does not read has as long as whoever does not end.
                let _ = timeout(END_WITHIN, sender.send(Signal::End)).await;
                let waited = tokio::select! {
                    waited = wait(&patience) => waited,
                    _ = terminate.recv() => Duration::ZERO,
                    _ = interrupt.recv() => Duration::ZERO,
                };
                if waited.is_zero() {
                    log::info!("another signal: the router ends at once");
                    // Ends the reader's wait even if there is no room.
                    let _ = sender.try_send(Signal::End);
                    drop(sender);
                    sleep(END_WITHIN).await;
                }
                let waited = waited.max(END_WITHIN).as_secs();
                log::error!("the router has not ended within {waited} s: forced");
                if let Some(forced) = &*forced.lock().unwrap_or_else(PoisonError::into_inner) {
                    forced();
                }
                logging::flush();
                std::process::exit(1);
            });
        })?;
        Ok(signals)
    }
}

/// Waits for as long as the router may take, which it may learn meanwhile.
async fn wait(patience: &Patience) -> Duration {
    sleep(END_WITHIN).await;
    let more = patience.get();
    sleep(more).await;
    END_WITHIN + more
}

impl Signals {
    /// The router begins to make what it has to take back: from here on it is asked to end. Where it has
    /// not [`END_WITHIN`] later, and what [`Patience`] adds, `forced` is called and the process exits with status 1.
    pub(super) fn begin(
        self,
        forced: impl Fn() + Send + 'static,
    ) -> (mpsc::Receiver<Signal>, Patience) {
        *self.forced.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(forced));
        (self.asked, self.patience)
    }
}

/// Exits if there is nothing to take back. Until it has, nothing begins.
fn exit_unless_begun(forced: &Mutex<Option<Forced>>) {
    let begun = forced.lock().unwrap_or_else(PoisonError::into_inner);
    if begun.is_none() {
        logging::flush();
        std::process::exit(0);
    }
}

/// How long the router may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What may wait: more ask for nothing else.
const ASKED_MAX: usize = 4;
