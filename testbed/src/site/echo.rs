//! Echoes numbered probes: one thread per address that reads, stamps and sends.
#![forbid(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::thread;

use log::{debug, warn};

use crate::traffic::batch_io::{RxBatch, enable_timestamps};
use crate::traffic::buffers::deepen;
use crate::traffic::wire;

/// Echoes what `socket` receives as `site`, on a new thread, until the process ends.
pub fn spawn(socket: UdpSocket, site: String) -> io::Result<()> {
    deepen(&socket);
    if let Err(error) = enable_timestamps(&socket) {
        warn!("no kernel timestamps ({error}): arrivals carry the time at which they were read");
    }
    thread::Builder::new().name("echo".into()).spawn(move || answer(&socket, &site)).map(drop)
}

fn answer(socket: &UdpSocket, site: &str) {
    let mut batch = RxBatch::new(BATCH);
    loop {
        if let Err(error) = batch.receive(socket, true) {
            warn!("echo of {site} ends: {error}");
            return;
        }
        for datagram in batch.datagrams() {
            if !wire::answer_in_place(datagram.bytes, datagram.at_ns, site) {
                continue;
            }
            // No route now (a link is down, a queue is full): the probe counts as lost.
            if let Err(error) = socket.send_to(datagram.bytes, datagram.from) {
                debug!("echo of {site} to {}: {error}", datagram.from);
            }
        }
    }
}

const BATCH: usize = 64;
