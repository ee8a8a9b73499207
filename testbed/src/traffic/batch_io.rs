//! Receives datagrams in batches, with the kernel's receive timestamps.
//!
//! The only file of the testbed's traffic with `unsafe`: `recvmmsg` with SO_TIMESTAMPNS has no safe
//! wrapper.
//!
//! SO_TIMESTAMPNS uses CLOCK_REALTIME, everything else CLOCK_MONOTONIC. The difference of the
//! clocks is read for every batch, so a step of the wall clock affects only the datagrams that were
//! queued when it happened.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use nearhop::time::Nanos;
use rustix::time::{ClockId, clock_gettime};

use super::wire::PROBE_LEN;

/// Buffers for a batch of datagrams, reused for every receive.
pub struct RxBatch {
    slots: Box<[Slot]>,
    headers: Box<[libc::mmsghdr]>,
    filled: usize,
}

/// One datagram of a batch.
pub struct Received<'a> {
    /// The payload, cut to [`DATAGRAM_MAX`] bytes.
    pub bytes: &'a mut [u8],
    /// The sender.
    pub from: SocketAddr,
    /// When it arrived, CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
    /// Whether `at_ns` is the kernel's timestamp, or else the time at which the batch was read.
    pub kernel_stamp: bool,
}

/// Enables receive timestamps on `socket`. If this fails, the socket can still be used; its
/// datagrams then have the time of reading.
pub fn enable_timestamps(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed from a live socket; the option's value is a c_int that
    // outlives the call, and its true size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes timers of the calling thread precise: the default slack of 50 µs is a quarter of the
/// smallest probe spacing. Errors are ignored, because lateness is measured and reported.
pub fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one unsigned long and touches no memory of ours.
    let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

impl RxBatch {
    /// Buffers for `capacity` datagrams per call, at least one.
    pub fn new(capacity: usize) -> Self {
        let slots: Box<[Slot]> = (0..capacity.max(1)).map(|_| Slot::new()).collect();
        // SAFETY: mmsghdr is plain C data for which all-zero bytes are a valid value.
        let headers = (0..slots.len()).map(|_| unsafe { mem::zeroed() }).collect();
        Self { slots, headers, filled: 0 }
    }

    /// Receives pending datagrams, at most the batch's capacity, and replaces those of the last
    /// receive. With `wait` it blocks until the first datagram (or the socket's read timeout);
    /// without it an empty socket returns 0. Errors about one lost datagram (ECONNREFUSED after an
    /// ICMP error) count as an empty read.
    pub fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        self.filled = 0;
        for (slot, header) in self.slots.iter_mut().zip(&mut self.headers) {
            slot.point(header);
        }
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: `headers` holds as many mmsghdr as its length says; `point` has just set each of
        // them to buffers inside `slots`, which `self` owns and which neither move nor end before
        // the call returns. A null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if passing(&error) { Ok(0) } else { Err(error) };
        }
        self.filled = usize::try_from(count).unwrap_or(0).min(self.slots.len());
        Ok(self.filled)
    }

    /// The datagrams of the last receive, in order of arrival.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Received<'_>> {
        let read_at = Nanos::now().0;
        let offset = wall_minus_monotonic();
        let filled = self.filled;
        self.slots[..filled].iter_mut().zip(&self.headers).filter_map(move |(slot, header)| {
            let stamp = slot
                .kernel_stamp(&header.msg_hdr)
                .and_then(|wall| u64::try_from(wall - offset).ok())
                // A timestamp in the future means that the wall clock was stepped.
                .filter(|at| *at <= read_at + FUTURE_NS);
            let from = slot.from()?;
            let length = (header.msg_len as usize).min(DATAGRAM_MAX);
            Some(Received {
                bytes: &mut slot.bytes[..length],
                from,
                at_ns: stamp.unwrap_or(read_at),
                kernel_stamp: stamp.is_some(),
            })
        })
    }
}

/// Buffers of one datagram.
struct Slot {
    bytes: [u8; DATAGRAM_MAX],
    name: libc::sockaddr_storage,
    control: Control,
    iov: libc::iovec,
}

/// Control messages, aligned as the kernel's macros need them.
#[repr(C, align(8))]
struct Control([u8; CONTROL_MAX]);

impl Slot {
    fn new() -> Self {
        Self {
            bytes: [0; DATAGRAM_MAX],
            // SAFETY: sockaddr_storage is plain C data for which all-zero bytes are valid.
            name: unsafe { mem::zeroed() },
            control: Control([0; CONTROL_MAX]),
            iov: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
        }
    }

    /// Sets `header` to receive into this slot.
    fn point(&mut self, header: &mut libc::mmsghdr) {
        self.iov = libc::iovec { iov_base: self.bytes.as_mut_ptr().cast(), iov_len: DATAGRAM_MAX };
        let message = &mut header.msg_hdr;
        message.msg_name = ptr::from_mut(&mut self.name).cast();
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_iov = &raw mut self.iov;
        message.msg_iovlen = 1;
        message.msg_control = self.control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_MAX as _;
        message.msg_flags = 0;
        header.msg_len = 0;
    }

    fn from(&self) -> Option<SocketAddr> {
        match libc::c_int::from(self.name.ss_family) {
            libc::AF_INET => {
                // SAFETY: the kernel wrote a sockaddr_in (the family says so); sockaddr_storage is
                // at least as large and as strictly aligned.
                let name = unsafe { &*ptr::from_ref(&self.name).cast::<libc::sockaddr_in>() };
                let address = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
                Some(SocketAddr::new(IpAddr::V4(address), u16::from_be(name.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above, for sockaddr_in6.
                let name = unsafe { &*ptr::from_ref(&self.name).cast::<libc::sockaddr_in6>() };
                let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
                let scope = name.sin6_scope_id;
                let port = u16::from_be(name.sin6_port);
                Some(std::net::SocketAddrV6::new(address, port, 0, scope).into())
            }
            _ => None,
        }
    }

    /// The timestamp of the SCM_TIMESTAMPNS control message, CLOCK_REALTIME nanoseconds. `header`
    /// must be the one with which this slot was received.
    fn kernel_stamp(&mut self, header: &libc::msghdr) -> Option<i128> {
        let mut header = *header;
        header.msg_control = self.control.0.as_mut_ptr().cast();
        debug_assert!(header.msg_controllen <= CONTROL_MAX as _);
        // SAFETY: recvmmsg set msg_controllen to what it wrote, at most CONTROL_MAX; the pointer is
        // a fresh one to this slot's aligned buffer of that size. CMSG_FIRSTHDR and CMSG_NXTHDR
        // stay inside that length, and the payload is read without asking for alignment.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(&raw const header);
            while !message.is_null() {
                if (*message).cmsg_level == libc::SOL_SOCKET
                    && (*message).cmsg_type == libc::SCM_TIMESTAMPNS
                {
                    let stamp: libc::timespec =
                        ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    return Some(i128::from(stamp.tv_sec) * SECOND_NS + i128::from(stamp.tv_nsec));
                }
                message = libc::CMSG_NXTHDR(&raw const header, message);
            }
        }
        None
    }
}

/// CLOCK_REALTIME minus CLOCK_MONOTONIC, in nanoseconds. The closest of several pairs of readings
/// counts, so that a preemption between two readings does not matter.
fn wall_minus_monotonic() -> i128 {
    let sample = || {
        let before = Nanos::now().0;
        let wall = clock_gettime(ClockId::Realtime);
        let after = Nanos::now().0;
        let wall = i128::from(wall.tv_sec) * SECOND_NS + i128::from(wall.tv_nsec);
        (after - before, wall - i128::from(before + (after - before) / 2))
    };
    let mut best = sample();
    for _ in 0..2 {
        let next = sample();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

/// Errors after which the socket still works.
fn passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::EINTR
                | libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::EMSGSIZE
        )
    )
}

/// The longest datagram that is read whole, in bytes: fits a DNS answer without IP fragments.
pub const DATAGRAM_MAX: usize = 1472;

const _: () = assert!(DATAGRAM_MAX >= PROBE_LEN);
const CONTROL_MAX: usize = 128;
const SECOND_NS: i128 = 1_000_000_000;
const FUTURE_NS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair(address: &str) -> Option<(UdpSocket, UdpSocket)> {
        let receiver = UdpSocket::bind(address).ok()?;
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let sender = UdpSocket::bind(address).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        Some((receiver, sender))
    }

    #[test]
    fn datagrams_come_in_order_with_their_sender_and_a_stamp_of_the_kernel() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Some((receiver, sender)) = pair(address) else { continue };
            enable_timestamps(&receiver).unwrap();
            let before = Nanos::now().0;
            for byte in 0..5 {
                sender.send(&[byte]).unwrap();
            }
            let after = Nanos::now().0;
            let mut batch = RxBatch::new(3);
            let mut seen = Vec::new();
            while seen.len() < 5 {
                assert!(batch.receive(&receiver, true).unwrap() > 0, "five were sent");
                for got in batch.datagrams() {
                    assert_eq!(got.from, sender.local_addr().unwrap());
                    assert!(got.kernel_stamp);
                    // Both clocks count nanoseconds; half a millisecond allows for a slow read.
                    assert!(got.at_ns + 500_000 >= before && got.at_ns <= after + 500_000);
                    seen.push(got.bytes[0]);
                }
            }
            assert_eq!(seen, [0, 1, 2, 3, 4]);
            assert_eq!(batch.receive(&receiver, false).unwrap(), 0);
            assert_eq!(batch.datagrams().count(), 0);
        }
    }

    #[test]
    fn without_the_option_the_time_of_reading_is_given_and_named_so() {
        let (receiver, sender) = pair("127.0.0.1:0").unwrap();
        sender.send(&[7]).unwrap();
        let mut batch = RxBatch::new(1);
        assert_eq!(batch.receive(&receiver, true).unwrap(), 1);
        assert!(!batch.datagrams().next().unwrap().kernel_stamp);
    }

    #[test]
    fn a_refused_port_is_an_empty_read_and_not_the_end() {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        sender.connect(gone).unwrap();
        sender.send(b"x").unwrap();
        let mut batch = RxBatch::new(1);
        assert_eq!(batch.receive(&sender, true).unwrap(), 0);
    }
}
