//! Real-time scheduling for the liveness thread, where the machine permits it.
#![allow(unsafe_code)] // one system call that rustix does not have

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
}
