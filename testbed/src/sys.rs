//! This crate's system calls without a safe wrapper: unshare, signal mask, an inherited descriptor,
//! TUN devices, packet sockets.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::thread::UnshareFlags;

/// Moves the calling thread into new namespaces. The kernel accepts a new user namespace only from
/// a process with a single thread.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared between threads");
    // SAFETY: only UnshareFlags::FILES can make a descriptor of another thread unusable, and the
    // assertion above excludes it.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Takes ownership of a descriptor inherited across exec.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD touches no memory and is an error for a number that is not open.
    if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: it is open (just checked) and nobody else owns it: the outer process opened it for
    // this process alone, passed its number in the environment, and this is called once, in init.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Receives signals from a descriptor, without handlers.
#[derive(Debug)]
pub(crate) struct SignalWatch(OwnedFd);

/// A received signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Received {
    /// Its number.
    pub(crate) number: i32,
    /// Whether the terminal sent it, to the whole foreground process group including the program.
    pub(crate) from_terminal: bool,
}

impl SignalWatch {
    /// Blocks `signals` in this thread and creates the descriptor that reports them. The process
    /// must have a single thread.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let set = signal_set(signals);
        // SAFETY: `set` is a valid, initialised signal set; a null old set is allowed.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: `set` is a valid signal set, -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just returned this descriptor; nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for the next signal.
    pub(crate) fn next(&self) -> io::Result<Received> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.0, &mut info) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.map(drop)?,
            }
        }
        // signalfd_siginfo starts with ssi_signo (u32), ssi_errno (i32), ssi_code (i32).
        let word =
            |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        Ok(Received { number: word(0), from_terminal: word(8) == SI_KERNEL })
    }
}

impl AsFd for SignalWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets SIGINT and SIGQUIT end this process and its children again: a shell without job control starts
/// `command &` with both ignored.
pub(crate) fn heed_interrupts() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: SIG_DFL installs no handler, so nothing of this program runs in signal context.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Unblocks all signals in the child, although this process blocks some.
pub(crate) fn unblock_in_child(command: &mut Command) -> &mut Command {
    let none = signal_set(&[]);
    let unblock = move || {
        // SAFETY: async-signal-safe (signal-safety(7)); `none` is a valid set owned by the closure.
        let error = unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
        };
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    };
    // SAFETY: the closure runs between fork and exec; it makes one async-signal-safe call,
    // allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) }
}

/// How a TUN device is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TunKind {
    /// One queue, packets without a header.
    Plain,
    /// One queue, a `struct virtio_net_hdr` before each packet.
    VnetHdr,
    /// More than one queue.
    MultiQueue,
}

/// Opens a TUN device in the calling thread's network namespace, creating it if absent. The
/// descriptor does not block.
pub(crate) fn open_tun(name: &str, kind: TunKind) -> io::Result<OwnedFd> {
    let fd =
        rustix::fs::open(TUN, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mode = match kind {
        TunKind::Plain => 0,
        TunKind::VnetHdr => libc::IFF_VNET_HDR,
        TunKind::MultiQueue => libc::IFF_MULTI_QUEUE,
    };
    let mut request = [0; IFREQ_LEN];
    let room = &mut request[..libc::IFNAMSIZ - 1];
    let bytes = name.as_bytes();
    room.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | mode) as u16;
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `request` is as long as; it
    // outlives the call.
    let outcome =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, request.as_mut_ptr()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Sets or clears the carrier of a TUN device.
pub(crate) fn set_carrier(tun: &OwnedFd, carrier: bool) -> io::Result<()> {
    let value = libc::c_int::from(carrier);
    // SAFETY: TUNSETCARRIER reads one int, which outlives the call.
    let outcome = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETCARRIER as _, &raw const value) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A packet socket on one device of the calling thread's network namespace. It reads what the
/// device receives and sends through it: whole IP packets, each after a `struct virtio_net_hdr`.
pub(crate) fn packet_socket(ifindex: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0 receives nothing, so no packet of another device arrives before bind.
    // SAFETY: socket(2) takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket has just returned this descriptor; nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    for option in [libc::PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, libc::PACKET_QDISC_BYPASS] {
        set_packet_option(&socket, option)?;
    }
    // The default size is too small for a burst of small packets. If the kernel allows less, less
    // is used.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
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
    // SAFETY: `address` is a whole sockaddr_ll and `length` its size; it outlives the call.
    let outcome = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// Packets dropped for lack of room in the socket since the last call.
pub(crate) fn packet_drops(socket: &OwnedFd) -> io::Result<u32> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: `stats` is a whole tpacket_stats and `length` its size; both outlive the call.
    let outcome = unsafe {
        let value = (&raw mut stats).cast();
        let fd = socket.as_raw_fd();
        libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut length)
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(stats.tp_drops) }
}

/// Sets an option of a packet socket to 1.
fn set_packet_option(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let one: libc::c_int = 1;
    let length = size_of_val(&one) as libc::socklen_t;
    // SAFETY: the option's value is one int of the length given; it outlives the call.
    let outcome = unsafe {
        let value = (&raw const one).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, value, length)
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling thread the lowest real-time priority.
pub(crate) fn become_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; `parameters` is a whole sched_param that outlives the call.
    let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given; sigaddset then gets an
    // initialised one, and refuses numbers that are no signals without touching it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// `si_code` of a signal that the kernel itself sent, such as Ctrl-C (sigaction(2)).
const SI_KERNEL: i32 = 0x80;
const TUN: &str = "/dev/net/tun";
/// `sizeof(struct ifreq)`.
const IFREQ_LEN: usize = size_of::<libc::ifreq>();
/// `_IOW('T', 226, int)`.
const TUNSETCARRIER: u32 = 0x4004_54e2;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const RECEIVE_BUFFER: usize = 4 << 20;
