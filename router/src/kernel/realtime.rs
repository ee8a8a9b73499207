//! Real-time scheduling for the liveness thread, where the machine permits it, and short turns for those who
//! forward.
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

/// Has the calling thread take short turns on a core: its share is the same, but when it wakes it does not wait
/// for the end of another's turn of milliseconds (EEVDF goes by deadlines, and a short turn's is near). Needs no
/// permission.
///
/// # Errors
/// The kernel does not know the call. One older than 6.12 takes it and changes nothing.
pub fn take_short_turns() -> io::Result<()> {
    let mut attributes = SchedAttributes::default();
    let size = u32::try_from(size_of::<SchedAttributes>()).unwrap_or_default();
    // SAFETY: the kernel writes at most `size` bytes to `attributes`, which is so large and consists of integers; 0
    // is the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.runtime_ns = SHORT_TURN_NS;
    // SAFETY: `attributes` is a valid sched_attr whose first field is its size, and outlives the call.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As `struct sched_attr` of sched_setattr(2).
#[derive(Default)]
#[repr(C)]
struct SchedAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Of an ordinary thread, the length of its turns.
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
    util_min: u32,
    util_max: u32,
}

/// The shortest that there is.
const SHORT_TURN_NS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_are_taken_and_change_nothing_else() {
        let said = std::thread::spawn(|| {
            let stat = |field: usize| {
                let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
                let fields = stat.rsplit(')').next().unwrap().split_whitespace();
                fields.map(str::to_owned).nth(field).unwrap()
            };
            // Nice value and policy (proc_pid_stat(5)), counted from the state on.
            let before = (stat(16), stat(38));
            take_short_turns().unwrap();
            (before, (stat(16), stat(38)))
        });
        let (before, after) = said.join().unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn it_is_permitted_or_says_that_it_is_not() {
        // On a thread of its own, which ends with the test.
        let entered = std::thread::spawn(enter).join().unwrap();
        if let Err(error) = entered {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
