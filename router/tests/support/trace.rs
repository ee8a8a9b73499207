//! Stops one thread of another process, by ptrace(2).
#![allow(dead_code)] // each test binary uses its own part
#![allow(unsafe_code)]

use std::ptr;

/// Stops the thread `tid`, and only it; returns when it is stopped. Must be called, like
/// [`detach`], from one thread.
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

/// Continues the thread.
pub fn detach(tid: i32) {
    // SAFETY: PTRACE_DETACH takes no pointers: no signal is given along.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, no_pointer(), no_pointer()) };
}

/// Makes the stopped thread duplicate its standard input onto one of its descriptors. Returns
/// `None`, and does nothing, if it was not stopped in a system call.
#[cfg(target_arch = "x86_64")]
pub fn replace_by_stdin(tid: i32, fd: i32) -> Option<()> {
    // SAFETY: all zeros are a user_regs_struct: numbers.
    let mut before: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: PTRACE_GETREGS writes one user_regs_struct, which outlives the call.
    let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, no_pointer(), &raw mut before) };
    assert_eq!(read, 0, "read registers");
    let call = before.rip - SYSCALL_LEN;
    // SAFETY: PTRACE_PEEKTEXT reads the other thread's memory at an address of that, or fails.
    let code = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, tid, call, no_pointer()) };
    if code & 0xffff != SYSCALL {
        return None;
    }
    let dup = libc::user_regs_struct {
        rip: call,
        rax: libc::SYS_dup3 as u64,
        rdi: 0,
        rsi: fd as u64,
        rdx: libc::O_CLOEXEC as u64,
        orig_rax: u64::MAX,
        ..before
    };
    let mut after = before;
    // SAFETY: PTRACE_SETREGS and PTRACE_GETREGS read and write one user_regs_struct each, which outlive
    // the calls; PTRACE_SINGLESTEP takes no pointers. The thread's memory is not touched.
    unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_SETREGS, tid, no_pointer(), &raw const dup), 0, "set");
        let step = libc::ptrace(libc::PTRACE_SINGLESTEP, tid, no_pointer(), no_pointer());
        assert_eq!(step, 0, "step");
        assert_eq!(libc::waitpid(tid, ptr::null_mut(), libc::__WALL), tid, "wait for the step");
        assert_eq!(libc::ptrace(libc::PTRACE_GETREGS, tid, no_pointer(), &raw mut after), 0, "get");
        let back = libc::ptrace(libc::PTRACE_SETREGS, tid, no_pointer(), &raw const before);
        assert_eq!(back, 0, "set back");
    }
    assert_eq!(after.rax, fd as u64, "dup3");
    Some(())
}

/// The instruction `syscall`.
const SYSCALL: libc::c_long = 0x050f;
const SYSCALL_LEN: u64 = 2;

fn no_pointer() -> *mut libc::c_void {
    ptr::null_mut()
}
