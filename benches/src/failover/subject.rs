//! A router under test with its three namespaces, and one failover of it.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::{Namespace, wait_for};

use super::bare;
use super::measure::{Arrivals, Fault};
use super::traffic::{EVERY, FLOWS, Sender, arrivals, capture, pass};
use crate::report::BenchError;
use crate::sys::Capture;

/// A router under test. Dropping it ends the router.
pub struct Subject {
    /// As `nearhop, 10 routes`.
    pub name: String,
    router: Box<dyn Router>,
    sender: Sender,
    at_a: Capture,
    at_b: Capture,
    _namespaces: Vec<Namespace>,
}

/// What differs between routers.
pub trait Router {
    /// Lets it run; the others do not.
    fn resume(&mut self) -> Result<(), BenchError>;

    /// Stops it until [`Self::resume`].
    fn pause(&mut self) -> Result<(), BenchError>;

    /// Begins to listen for what it reports of a fault.
    fn listen(&mut self) {}

    /// The news of the fault and the store that followed it, if it reported them.
    fn reported(&mut self) -> Option<(Nanos, Nanos)> {
        None
    }

    /// The socket on which port `a` is set down, and its device's name.
    fn port_a(&mut self) -> (&mut LinkSetup, &str);

    /// Port `a` is up again: puts back what the kernel threw away.
    fn restore(&mut self) -> Result<(), BenchError>;
}

/// Where the ends are.
pub struct Ends {
    /// A site's namespace and device.
    pub a: (NetNs, String),
    /// The other's.
    pub b: (NetNs, String),
}

impl Subject {
    /// Takes a router that stands, and lets it pause.
    pub fn new(
        name: String,
        mut router: Box<dyn Router>,
        ends: &Ends,
        sender: Sender,
        namespaces: Vec<Namespace>,
    ) -> Result<Self, BenchError> {
        let at_a = capture(&ends.a.0, &ends.a.1)?;
        let at_b = capture(&ends.b.0, &ends.b.1)?;
        router.pause()?;
        Ok(Self { name, router, sender, at_a, at_b, _namespaces: namespaces })
    }

    /// Sets port `a` down under traffic, looks what that did, and heals it. `round` shifts the
    /// moment against the pace of the packets.
    pub fn fail_over(&mut self, round: u32) -> Result<Fault, BenchError> {
        self.router.resume()?;
        self.wait_until_a_has_all()?;
        self.router.listen();
        let lead = ROUND * 2 + Duration::from_micros(u64::from(round) * 1_618_033 % 25_000);
        let stop = AtomicBool::new(false);
        let Self { router, sender, at_b, .. } = self;
        let (sent, act) = thread::scope(|scope| {
            let sending = scope.spawn(|| sender.run(&stop));
            pass(lead);
            let act = set_down_and_wait(router.as_mut(), at_b);
            stop.store(true, Ordering::Release);
            (sending.join(), act)
        });
        let sent = sent.map_err(|_| BenchError::environment("the sender panicked"))?;
        let (before, after, mut at_b) = act?;
        pass(IN_FLIGHT);
        at_b.extend(arrivals(&mut self.at_b)?);
        let at_a = arrivals(&mut self.at_a)?;
        let reported = self.router.reported();
        let fault = Fault::measure(before, after, &sent, &Arrivals { at_a, at_b }, reported)?;
        self.heal()?;
        Ok(fault)
    }

    /// As [`Self::fail_over`], while the router is stopped: when a bare program hears of it, in milliseconds.
    pub fn hear_bare(&mut self, netns: &NetNs) -> Result<f64, BenchError> {
        self.router.resume()?;
        self.wait_until_a_has_all()?;
        self.router.pause()?;
        let (links, device) = self.router.port_a();
        let device = device.to_owned();
        let stop = AtomicBool::new(false);
        let sender = &self.sender;
        let heard = thread::scope(|scope| {
            scope.spawn(|| sender.run(&stop));
            let heard = bare::hear(netns, links, &device);
            stop.store(true, Ordering::Release);
            heard
        })?;
        self.router.resume()?;
        self.heal()?;
        Ok(heard)
    }

    fn heal(&mut self) -> Result<(), BenchError> {
        let (links, device) = self.router.port_a();
        links.set_up(device, true).map_err(BenchError::environment)?;
        self.router.restore()?;
        self.wait_until_a_has_all()?;
        self.router.pause()
    }

    /// Sends round after round until one arrives at `a` whole.
    fn wait_until_a_has_all(&mut self) -> Result<(), BenchError> {
        wait_for("every flow to arrive at a", HEALED_WITHIN, || {
            let stop = AtomicBool::new(false);
            let sender = &self.sender;
            let sent = thread::scope(|scope| {
                let sending = scope.spawn(|| sender.run(&stop));
                pass(ROUND + IN_FLIGHT);
                stop.store(true, Ordering::Release);
                sending.join().map_or(0, |sent| sent.len())
            });
            pass(IN_FLIGHT);
            let reported = |error: BenchError| error.to_string();
            let (a, b) = (arrivals(&mut self.at_a), arrivals(&mut self.at_b));
            let (a, b) = (a.map_err(reported)?.len(), b.map_err(reported)?.len());
            if a == sent { Ok(()) } else { Err(format!("{a} of {sent} at a, {b} at b")) }
        })
        .map_err(BenchError::environment)
    }
}

/// The times right before and after the call, and what came to `b`.
fn set_down_and_wait(
    router: &mut dyn Router,
    at_b: &mut Capture,
) -> Result<(Nanos, Nanos, Arrived), BenchError> {
    let (links, device) = router.port_a();
    let before = Nanos::now();
    links.set_up(device, false).map_err(BenchError::environment)?;
    let after = Nanos::now();
    pass(ROUND * 3);
    Ok((before, after, wait_until_all_moved(at_b, after)?))
}

/// Number and time of what arrived.
type Arrived = Vec<(usize, Nanos)>;

/// Collects arrivals until every flow has come to `b` after the fault.
fn wait_until_all_moved(at_b: &mut Capture, fault: Nanos) -> Result<Arrived, BenchError> {
    let mut all = Vec::new();
    wait_for("every flow to arrive at b", MOVED_WITHIN, || {
        all.extend(arrivals(at_b).map_err(|error| error.to_string())?);
        let mut moved = [false; FLOWS];
        for (number, _) in all.iter().filter(|(_, at)| *at >= fault) {
            moved[number % FLOWS] = true;
        }
        let missing = moved.iter().filter(|moved| !**moved).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} flows missing")) }
    })
    .map_err(BenchError::environment)?;
    Ok(all)
}

/// The time of one packet on each flow.
const ROUND: Duration = Duration::from_nanos(EVERY.as_nanos() as u64 * FLOWS as u64);

/// How long a packet may be under way.
const IN_FLIGHT: Duration = Duration::from_millis(5);

const MOVED_WITHIN: Duration = Duration::from_secs(50);
const HEALED_WITHIN: Duration = Duration::from_secs(50);
