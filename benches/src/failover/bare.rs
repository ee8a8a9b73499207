//! When a program that does nothing else hears that a port was set down: what of nearhop's time is the kernel's.
#![forbid(unsafe_code)]

use std::thread;
use std::time::Duration;

use nearhop::kernel::carrier::CarrierMonitor;
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::kernel::realtime;
use nearhop::time::Nanos;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::report::BenchError;

/// Sets a device down while a thread of its own waits for the kernel to say so; milliseconds from the beginning of
/// the call until that thread knows. The thread runs in real time where it may, as nearhop's does.
pub fn hear(netns: &NetNs, links: &mut LinkSetup, device: &str) -> Result<f64, BenchError> {
    let mut monitor = CarrierMonitor::open(netns).map_err(BenchError::environment)?;
    let is_up = wait(&mut monitor, device, true);
    is_up.ok_or_else(|| BenchError::environment(format!("{device} is not up")))?;
    let (before, heard) = thread::scope(|scope| {
        let listening = scope.spawn(|| {
            // As good as any other without.
            let _ = realtime::enter();
            wait(&mut monitor, device, false)
        });
        super::pass(LISTENS_AFTER);
        let before = Nanos::now();
        let set = links.set_up(device, false).map_err(BenchError::environment);
        set.map(|()| (before, listening.join().ok().flatten()))
    })?;
    let heard = heard.ok_or_else(|| BenchError::environment("nobody heard of a port set down"))?;
    Ok(heard.since(before).as_secs_f64() * 1e3)
}

/// When the device was heard to be up, or down.
fn wait(monitor: &mut CarrierMonitor, device: &str, up: bool) -> Option<Nanos> {
    loop {
        while let Some(event) = monitor.poll_event() {
            if event.name == device && event.up == up {
                return Some(Nanos::now());
            }
        }
        let fd = monitor.fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        if poll(&mut fds, Some(&HEARD_WITHIN)).ok()? == 0 {
            return None;
        }
    }
}

/// Until the thread has begun to wait.
const LISTENS_AFTER: Duration = Duration::from_millis(20);

const HEARD_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
