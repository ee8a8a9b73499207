//! Holding one thread of another process still, by ptrace(2).
#![allow(dead_code)] // each test binary uses its own part
#![allow(unsafe_code)]

use std::ptr;

/// Stops the thread `tid`, and only it; returns when it stands. To be called, as [`detach`], from
/// one thread.
pub fn seize_and_interrupt(tid: i32) {
    // SAFETY: PTRACE_SEIZE and PTRACE_INTERRUPT take no pointers; the addresses are ignored.
    unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, tid, no_pointer(), no_pointer()), 0, "seize");
        let stop = libc::ptrace(libc::PTRACE_INTERRUPT, tid, no_pointer(), no_pointer());
        assert_eq!(stop, 0, "interrupt");
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call, which writes one int there.
    let waited = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
    assert_eq!(waited, tid, "wait for the thread to stop");
    assert!(libc::WIFSTOPPED(status), "it stopped, and did not end");
}

/// Lets the thread go on.
pub fn detach(tid: i32) {
    // SAFETY: PTRACE_DETACH takes no pointers: no signal is given along.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, no_pointer(), no_pointer()) };
}

fn no_pointer() -> *mut libc::c_void {
    ptr::null_mut()
}
