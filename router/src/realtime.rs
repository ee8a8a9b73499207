//! When a thread that has packets or a timer gets its core: real time where the machine permits it,
//! short turns elsewhere.
#![allow(unsafe_code)] // system calls that rustix does not have

use std::io;

/// Puts the calling thread in SCHED_FIFO at the lowest priority: it preempts every ordinary thread
/// when it wakes, and nothing of the kernel's.
///
/// # Errors
/// Not permitted (no CAP_SYS_NICE and no RLIMIT_RTPRIO): the thread is scheduled as before.
pub fn enter() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: `param` is a valid sched_param that outlives the call; 0 is the calling thread.
    let failed = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for turns of [`TURN_NS`] for the calling thread. Among ordinary threads the kernel lets one
/// that wakes wait until the running one's turn is over, 3 ms, unless its own turns are shorter
/// (Linux 6.12; an older kernel takes no notice). It gets no larger share of the processor by it,
/// so no privilege is needed.
///
/// # Errors
/// What the kernel says; the thread is scheduled as before.
pub fn take_short_turns() -> io::Result<()> {
    // SAFETY: sched_attr is plain C data for which all-zero bytes are a valid value.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attr) as libc::c_uint;
    // SAFETY: `attr` has room for the `size` bytes that the kernel writes at most; 0 is the calling
    // thread.
    let failed = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    attr.size = size;
    attr.sched_runtime = TURN_NS;
    // SAFETY: `attr` is a whole sched_attr of the size it names, and outlives the call.
    let failed = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The shortest turn that the kernel gives.
pub const TURN_NS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_permitted_or_says_that_it_is_not() {
        // On a thread of its own, which ends with the test.
        let entered = std::thread::spawn(enter).join().unwrap();
        if let Err(error) = entered {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn short_turns_need_no_privilege() {
        let taken = std::thread::spawn(take_short_turns).join().unwrap();
        assert!(taken.is_ok(), "{taken:?}");
    }
}
