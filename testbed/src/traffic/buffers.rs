//! Receive buffers that outlast a busy scheduler.
//!
//! The default buffer of 208 KiB holds some 270 small datagrams: a site that is asked 20,000 times a
//! second and does not run for 14 ms drops probes, which would be counted as the network's loss.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use log::debug;
use rustix::net::sockopt;

/// Makes room for what comes while nobody reads: [`WANTED`] bytes where the kernel allows it
/// (CAP_NET_ADMIN of the machine, or `net.core.rmem_max`), else as much as it does. Returns what it
/// has become, as the kernel counts it: overhead included, twice what was asked for.
pub fn deepen(socket: &impl AsFd) -> usize {
    if sockopt::set_socket_recv_buffer_size_force(socket, WANTED).is_err()
        && let Err(error) = sockopt::set_socket_recv_buffer_size(socket, WANTED)
    {
        debug!("the receive buffer keeps its size: {error}");
    }
    sockopt::socket_recv_buffer_size(socket).unwrap_or(0)
}

/// Half a second of 20,000 probes a second.
pub const WANTED: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_buffer_gets_as_deep_as_the_kernel_allows() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max");
        let limit: usize = limit.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        assert!(deepen(&socket) >= 2 * WANTED.min(limit));
    }
}
