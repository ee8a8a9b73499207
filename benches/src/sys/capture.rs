//! A ring of captured packets that is shared with the kernel.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use nearhop::time::Nanos;

/// Packets of one device, captured by the kernel into memory that it shares with us (packet(7),
/// `TPACKET_V2`): nobody is woken and nothing is called while it goes on. Each has the time at
/// which the kernel received or sent it.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    ring: NonNull<u8>,
    frames: usize,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone; it may be read and unmapped by any thread.
unsafe impl Send for Capture {}

/// One captured packet, headers first.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// CLOCK_MONOTONIC, from the kernel's CLOCK_REALTIME stamp.
    pub at: Nanos,
    /// It left by the device, as opposed to: it came in.
    pub outgoing: bool,
    /// The IP packet, cut to what a frame has room for.
    pub bytes: &'a [u8],
}

impl Capture {
    /// Captures on one device of the calling thread's network namespace, at most `frames` packets
    /// between two calls of [`Self::drain`].
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn open(ifindex: u32, frames: usize) -> io::Result<Self> {
        // SAFETY: socket(2) takes three numbers. Protocol 0 receives nothing until it is bound.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: socket has just returned this descriptor; nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&socket, libc::PACKET_VERSION, &TPACKET_V2)?;
        let blocks = frames.div_ceil(BLOCK / FRAME).max(1);
        let frames = blocks * (BLOCK / FRAME);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: FRAME as u32,
            tp_frame_nr: frames as u32,
        };
        set_option(&socket, libc::PACKET_RX_RING, &request)?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: the kernel chooses the place; the length is the ring's, as just asked for.
        let ring = unsafe { libc::mmap(ptr::null_mut(), blocks * BLOCK, prot, flags, fd, 0) };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = NonNull::new(ring.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let capture = Self { socket, ring, frames, next: 0 };
        capture.bind(ifindex)?;
        Ok(capture)
    }

    /// Gives every packet captured since the last call, in order, and empties the ring.
    pub fn drain(&mut self, mut each: impl FnMut(Captured<'_>)) {
        let offset = realtime_offset();
        for _ in 0..self.frames {
            // SAFETY: `next` is below the number of frames, so the frame lies in the mapping.
            let frame = unsafe { self.ring.add(self.next * FRAME) };
            // SAFETY: a frame begins with tp_status, 4 bytes aligned to 16, which the kernel and
            // this thread hand to and fro: an atomic for both.
            let status = unsafe { frame.cast::<AtomicU32>().as_ref() };
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return;
            }
            // SAFETY: status says that the frame is ours until it is given back below; the header
            // is at its beginning, and the kernel has filled it.
            let header = unsafe { frame.cast::<libc::tpacket2_hdr>().read() };
            let link = usize::from(LINK_ADDRESS);
            // SAFETY: a sockaddr_ll follows the header, aligned to 16 (packet_mmap: TPACKET_ALIGN).
            let address = unsafe { frame.add(link).cast::<libc::sockaddr_ll>().read() };
            let start = usize::from(header.tp_net);
            let len = (header.tp_snaplen as usize).min(FRAME.saturating_sub(start));
            // SAFETY: start + len is at most FRAME, so these bytes lie in the frame, which is ours.
            let bytes = unsafe { std::slice::from_raw_parts(frame.add(start).as_ptr(), len) };
            let real = u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec);
            let outgoing = address.sll_pkttype == libc::PACKET_OUTGOING;
            each(Captured { at: Nanos(real.wrapping_sub(offset)), outgoing, bytes });
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.frames;
        }
    }

    /// How many packets found the ring full since this was last asked.
    pub fn dropped(&self) -> io::Result<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: `stats` is a whole tpacket_stats and `length` its size; both outlive the call.
        let outcome = unsafe {
            let (fd, value) = (self.socket.as_raw_fd(), (&raw mut stats).cast());
            libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut length)
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(stats.tp_drops) }
    }

    fn bind(&self, ifindex: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of_val(&address) as libc::socklen_t;
        let fd = self.socket.as_raw_fd();
        // SAFETY: `address` is a whole sockaddr_ll and `length` its size; it outlives the call.
        let outcome = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `open` with this length, and nothing borrows from it.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), self.frames * FRAME) };
    }
}

/// Sets an option of a packet socket.
fn set_option<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let value = ptr::from_ref(value).cast();
    // SAFETY: `value` points to `length` bytes that outlive the call; callers pass the plain C
    // type that the option takes.
    let outcome =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, value, length) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// CLOCK_REALTIME less CLOCK_MONOTONIC, nanoseconds: the tightest of some readings.
fn realtime_offset() -> u64 {
    let real = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
    };
    let reading = |_| {
        let (before, real, after) = (Nanos::now(), real(), Nanos::now());
        (after.0 - before.0, real.wrapping_sub(u64::midpoint(before.0, after.0)))
    };
    (0..16).map(reading).min().map_or(0, |(_, offset)| offset)
}

/// `enum tpacket_versions`.
const TPACKET_V2: libc::c_int = 1;

/// Where the `sockaddr_ll` of a frame is: `TPACKET_ALIGN(sizeof(struct tpacket2_hdr))`.
const LINK_ADDRESS: u16 = (size_of::<libc::tpacket2_hdr>() as u16).next_multiple_of(16);

/// Bytes of a frame: headers of the ring, and 176 bytes of packet.
const FRAME: usize = 256;

/// Bytes the kernel allocates at a time.
const BLOCK: usize = 1 << 20;
