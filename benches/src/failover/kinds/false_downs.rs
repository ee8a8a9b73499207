//! BFD sessions that go down although nothing failed.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nearhop::time::Nanos;

use super::super::traffic::pass;
use super::stall::{Watch, touches};
use super::stand::{Fault, ROUTER, Stand};
use crate::report::BenchError;

/// What a stated time brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Downs {
    /// Sessions that went down, at either site, by what the sites' daemons log.
    pub counted: usize,
    /// Those that went down right after the whole machine had stood still, which do not count.
    pub excused: usize,
    /// How often it did.
    pub stalls: usize,
    /// Reloads meanwhile.
    pub reloads: usize,
}

/// Loads the machine for a time, and counts.
///
/// # Errors
/// The router does not reload, or was not well before.
pub fn count(stand: &mut Stand, time: Duration) -> Result<Downs, BenchError> {
    // What is counted has to be there when something does fail.
    let before = stand.bfd_downs();
    stand.trial(Fault::Silent, 0)?;
    if stand.bfd_downs() == before {
        let why = "BIRD logged no session that went down when the link was silent";
        return Err(BenchError::environment(why));
    }
    stand.wait_healed()?;
    let flood = stand.client_netns().within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));
    let flood = flood.map_err(BenchError::environment)?.map_err(BenchError::environment)?;
    let stop = AtomicBool::new(false);
    let watch = Watch::begin();
    let (times, reloads) = thread::scope(|scope| {
        for _ in 0..HOGS {
            scope.spawn(|| {
                let mut x = 1_u64;
                while !stop.load(Ordering::Relaxed) {
                    x = black_box(x.wrapping_mul(0x2545_f491_4f6c_dd1d));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // BFD's port, from one that BFD does not use (RFC 5881, 4), by another link.
                let _ = flood.send_to(&[0x20; 24], (ROUTER, BFD_PORT));
            }
        });
        let watched = watch_downs(stand, time);
        stop.store(true, Ordering::Relaxed);
        watched
    })?;
    let stalls = watch.end();
    let stalls: Vec<_> =
        stalls.into_iter().filter(|(from, to)| to.since(*from) >= TELLING).collect();
    let is_excused = |at: &Nanos| touches(&stalls, Nanos(at.0.saturating_sub(SOON)), *at);
    let excused = times.iter().filter(|at| is_excused(at)).count();
    Ok(Downs { counted: times.len() - excused, excused, stalls: stalls.len(), reloads })
}

/// When sessions went down, and how many reloads there were.
fn watch_downs(stand: &mut Stand, time: Duration) -> Result<(Vec<Nanos>, usize), BenchError> {
    let (mut times, mut reloads) = (Vec::new(), 0);
    let mut known = stand.bfd_downs();
    let until = Nanos::now() + time;
    while Nanos::now() < until {
        stand.router.reload()?;
        reloads += 1;
        pass(Duration::from_millis(10));
        let downs = stand.bfd_downs();
        let now = Nanos::now();
        times.extend((known..downs).map(|_| now));
        known = downs;
    }
    Ok((times, reloads))
}

const HOGS: usize = 16;
const BFD_PORT: u16 = 3784;
/// A stall that can have taken packets of a session at 10 ms, three times.
const TELLING: Duration = Duration::from_millis(10);
/// How long before it was noticed a session may have gone down, nanoseconds.
const SOON: u64 = 100_000_000;
