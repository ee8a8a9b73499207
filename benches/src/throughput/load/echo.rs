//! Datagrams to an echo and back.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;

use super::super::subject::{SITE, Subject};
use super::{Figures, LOAD, bound, connected};
use crate::report::BenchError;
use crate::stats::Summary;

/// Datagrams to an echo and back, one at a time.
pub(super) fn round_trip(subject: &mut Subject) -> Result<Figures, BenchError> {
    let echo = Echo::start(&subject.site)?;
    let socket = connected(&subject.client, SocketAddr::new(SITE.into(), echo.port))?;
    let mut times = Vec::new();
    let until = Nanos::now() + LOAD;
    while Nanos::now() < until {
        let sent = Nanos::now();
        socket.send(&[0; 36]).map_err(BenchError::environment)?;
        if socket.recv(&mut [0; 64]).is_ok() {
            times.push(Nanos::now().since(sent).as_nanos() as f64 / 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied();
    let figure = Summary::of(times).p50;
    Ok(Figures { figure, unit: "us", p99, ..Figures::default() })
}

/// A thread at the site that sends back what it is sent.
pub(super) struct Echo {
    pub(super) port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Echo {
    pub(super) fn start(site: &NetNs) -> Result<Self, BenchError> {
        let socket = bound(site, SITE)?;
        let port = socket.local_addr().map_err(BenchError::environment)?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Acquire) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..len], from);
                }
            }
        };
        let thread = thread::Builder::new().name("echo".into()).spawn(run);
        Ok(Self { port, stop, thread: Some(thread.map_err(BenchError::environment)?) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
