//! What the labs of several benches have in common: threads that end with the lab, and nodes whose every way
//! leads to the router.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nearhop::kernel::link::{KernelRoute, LinkSetup, LinkStatus};
use nearhop::kernel::netns::NetNs;
use nearlab::lab::wait_for;

use crate::report::BenchError;

/// Threads that are told to stop, and waited for, when this is dropped.
#[derive(Default)]
pub struct Threads {
    stop: Arc<AtomicBool>,
    all: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts one, which ends soon after the flag that it is given is set.
    pub fn start(&mut self, work: impl FnOnce(&AtomicBool) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.all.push(thread::spawn(move || work(&stop)));
    }

    /// Ends all of them.
    pub fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.all.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens a socket, or anything else, in a namespace.
///
/// # Errors
/// The namespace is not there, or it cannot be opened.
pub fn within<T: Send>(
    netns: &NetNs,
    make: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, BenchError> {
    netns.within(make).map_err(BenchError::environment)?.map_err(BenchError::environment)
}

/// Waits for the device that the router makes for a node, and sends everything by it. Returns its name, and what
/// sets up the node's devices.
///
/// # Errors
/// The device is not up in this time, or the kernel refuses the route.
pub fn route_everything(node: &str, wait: Duration) -> Result<(String, LinkSetup), BenchError> {
    let mut links = LinkSetup::open(&NetNs::named(node)).map_err(BenchError::environment)?;
    let device = format!("nh-{node}");
    wait_for("the router's devices", wait, || match links.find(&device) {
        Ok(Some(link)) if LinkStatus::up(&link) => Ok(()),
        _ => Err(String::new()),
    })
    .map_err(BenchError::environment)?;
    let to = "0.0.0.0/0".parse().map_err(BenchError::environment)?;
    let route = KernelRoute { to, gateway: None, interface: device.clone() };
    links.replace_route(&route).map_err(BenchError::environment)?;
    Ok((device, links))
}
