//! An XDP program that sends whatever a device receives out of another, and what devices have to have on
//! or off for it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, socket};

/// From now on, everything that device `from` of the calling thread's network namespace receives leaves
/// by device `to`, as it is, until what is returned is dropped.
///
/// # Errors
/// What the kernel refuses: without CAP_BPF outside of user namespaces, everything.
pub fn redirect(from: u32, to: u32) -> io::Result<OwnedFd> {
    let instructions = [
        instruction(MOVE, 1, to),
        instruction(MOVE, 2, 0),
        instruction(CALL, 0, REDIRECT),
        instruction(EXIT, 0, 0),
    ];
    let mut load = Attributes([0; 16]);
    load.0[0] = XDP | (instructions.len() as u64) << 32;
    load.0[1] = instructions.as_ptr() as u64;
    load.0[2] = LICENCE.as_ptr() as u64;
    // SAFETY: `instructions` and the licence, which ends in a zero byte, outlive the call.
    let program = unsafe { bpf(PROGRAM_LOAD, &load) }?;
    let mut link = Attributes([0; 16]);
    link.0[0] = program.as_raw_fd() as u64 | u64::from(from) << 32;
    link.0[1] = ATTACH_XDP;
    // SAFETY: these attributes have no pointers.
    unsafe { bpf(LINK_CREATE, &link) }
}

/// What a device may do for packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Feature {
    /// It completes checksums of packets that are sent. `ETHTOOL_STXCSUM`.
    SendChecksums = 0x17,
    /// It joins packets that come in, which for a veth device means that it receives in batches.
    /// `ETHTOOL_SGRO`.
    JoinReceived = 0x2c,
}

/// Turns a feature of a device of the calling thread's network namespace on or off (netdevice(7),
/// `SIOCETHTOOL`).
///
/// # Errors
/// What the kernel refuses; a name that is too long for a device.
pub fn set_feature(device: &str, feature: Feature, on: bool) -> io::Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut value = [feature as u32, u32::from(on)];
    // SAFETY: all zeros are an ifreq: numbers and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the descriptor is open; `request` is a whole ifreq whose name ends in a zero byte and
    // whose data is an ethtool_value, two numbers of 32 bits; both outlive the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `union bpf_attr` as far as it is used, and zeros after that, which the kernel asks for.
#[repr(C, align(8))]
struct Attributes([u64; 16]);

/// bpf(2), for commands that return a descriptor.
///
/// # Safety
/// What the attributes point to is as long as they say, and there until the call is over.
unsafe fn bpf(command: libc::c_long, attributes: &Attributes) -> io::Result<OwnedFd> {
    let size = size_of::<Attributes>();
    // SAFETY: `attributes` is as long as `size` says; what it points to is the caller's promise.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just returned this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One `struct bpf_insn`: code, destination register, and a number.
const fn instruction(code: u64, register: u64, number: u32) -> u64 {
    code | register << 8 | (number as u64) << 32
}

/// `BPF_ALU64 | BPF_MOV | BPF_K`.
const MOVE: u64 = 0xb7;
/// `BPF_JMP | BPF_CALL`.
const CALL: u64 = 0x85;
/// `BPF_JMP | BPF_EXIT`.
const EXIT: u64 = 0x95;
/// `BPF_FUNC_redirect`.
const REDIRECT: u32 = 23;
/// `BPF_PROG_TYPE_XDP`.
const XDP: u64 = 6;
/// `BPF_XDP`, a way to attach.
const ATTACH_XDP: u64 = 37;
/// `BPF_PROG_LOAD`.
const PROGRAM_LOAD: libc::c_long = 5;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: libc::c_long = 28;
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const LICENCE: &[u8] = b"Dual MIT/GPL\0";
