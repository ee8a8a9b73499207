//! Kernel features, tested in other ways than nearhop does. A test that needs a missing one is
//! skipped.
#![allow(dead_code)] // each test program uses its part
#![allow(unsafe_code)] // io_uring_setup(2)

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A feature that older kernels lack, or that a policy may forbid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// Superframes of UDP to and from TUN devices.
    UdpSuperframes,
    /// io_uring.
    Uring,
}

impl Need {
    /// Why it is missing; `None` if it is available.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::UdpSuperframes => {
                let release = rustix::system::uname();
                let release = release.release().to_string_lossy();
                let mut numbers = release.split(|c: char| !c.is_ascii_digit());
                let mut number = || numbers.next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
                let version = (number(), number());
                (version < (6, 2))
                    .then(|| format!("Linux {release} has no UDP superframes on TUN (6.2 has)"))
            }
            Self::Uring => {
                // `struct io_uring_params`: all zeros are the usual ring.
                let mut parameters = [0_u64; 15];
                // SAFETY: the kernel reads and writes 120 bytes, which outlive the call.
                let fd =
                    unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
                match i32::try_from(fd) {
                    // SAFETY: the kernel has just returned this descriptor; nobody else knows it.
                    Ok(fd @ 0..) => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
                    _ => return Some(format!("no io_uring: {}", io::Error::last_os_error())),
                }
                has_nowait().err().map(|error| format!("TUN devices without RWF_NOWAIT: {error}"))
            }
        }
    }
}

/// Whether TUN devices accept RWF_NOWAIT. A descriptor without a device refuses the write, but
/// checks the flags first.
fn has_nowait() -> io::Result<()> {
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
    let byte = libc::iovec { iov_base: (&raw const BYTE).cast_mut().cast(), iov_len: 1 };
    // SAFETY: the descriptor is open; one iovec is given, of one byte that lives for ever and is only read.
    unsafe { libc::pwritev2(tun.as_raw_fd(), &raw const byte, 1, -1, libc::RWF_NOWAIT) };
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) { Err(error) } else { Ok(()) }
}

static BYTE: u8 = 0;

/// Why any of these is missing; `None` if all are available.
pub fn missing(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| need.missing())
}
