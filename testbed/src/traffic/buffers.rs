//! Receive buffers large enough for a busy scheduler.
//!
//! The default of 208 KiB holds some 270 small datagrams. A site that gets 20,000 probes per second
//! and does not run for 14 ms would drop some, and they would count as lost in the network.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use log::debug;
use rustix::net::sockopt;

/// Enlarges a socket's receive buffer to [`WANTED`] bytes where the kernel allows it (CAP_NET_ADMIN
/// on the machine, or `net.core.rmem_max`), else as far as it allows. Returns the size as the
/// kernel counts it, with overhead: twice the requested one.
pub fn deepen(socket: &impl AsFd) -> usize {
    if sockopt::set_socket_recv_buffer_size_force(socket, WANTED).is_err()
        && let Err(error) = sockopt::set_socket_recv_buffer_size(socket, WANTED)
    {
        debug!("the receive buffer keeps its size: {error}");
    }
    sockopt::socket_recv_buffer_size(socket).unwrap_or(0)
}

/// Half a second of 20,000 probes per second.
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
