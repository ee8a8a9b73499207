//! The io_uring I/O engine: many reads or writes in one system call.
//!
//! Every request is made with `RWF_NOWAIT`: the kernel completes or refuses each one during
//! submission, in order, and none waits. Packets keep their order, and every request is complete
//! before the call that submitted it returns. Soundness rests on this: between two calls the kernel
//! holds none of our buffers. `O_NONBLOCK` is not enough, because io_uring waits for such files
//! nevertheless.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, opcode, squeue};

use super::queue::Queue;
use super::{Port, PortError, tun};
use crate::batch::{BURST, Batch, Frame};

/// A queue of a port and a ring of its own, used by one thread.
pub(super) struct UringQueue {
    ring: IoUring,
    port: Arc<dyn Port>,
    queue: usize,
    /// The queue's descriptor; `port` keeps it open.
    fd: Fd,
    /// Number of reads submitted in one call; adapts to the last result.
    reads: usize,
    /// The error of a failed ring, which is not used again.
    broken: Option<io::Error>,
    results: [i32; BURST],
}

impl UringQueue {
    /// Opens a ring for `queue` of `port`, or returns why that is impossible.
    pub fn open(port: Arc<dyn Port>, queue: usize) -> Result<Self, String> {
        let Some(fd) = port.frames_fd(queue) else {
            return Err("io_uring needs a device with vnet_hdr and without packet info".into());
        };
        let ring = ring().map_err(|error| explain(&error))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(|error| explain(&error))?;
        if !probe.is_supported(opcode::Read::CODE) || !probe.is_supported(opcode::Write::CODE) {
            return Err(
                "this kernel's io_uring lacks read and write; Linux 5.6 or later has them".into()
            );
        }
        // The descriptor is not registered with the ring: the kernel would release it, and with it
        // the device, only some time after the process has ended.
        let fd = Fd(fd.as_raw_fd());
        let results = [0; BURST];
        let mut opened = Self { ring, port, queue, fd, reads: READS_MIN, broken: None, results };
        opened.probe_nowait()?;
        Ok(opened)
    }

    /// Tests for `RWF_NOWAIT` by writing one byte, which no device takes as a packet. A file
    /// without support refuses the flag before it reads the data.
    fn probe_nowait(&mut self) -> Result<(), String> {
        let byte = [0];
        // SAFETY: the byte outlives the call, and a write only reads it.
        unsafe { self.carry_out(std::iter::once(write(self.fd, &byte))) };
        match (&self.broken, self.results[0]) {
            (None, errno) if errno != -libc::EOPNOTSUPP && errno != UNFINISHED => Ok(()),
            (Some(error), _) => Err(explain(error)),
            _ => Err("this kernel's TUN devices do not support RWF_NOWAIT, so io_uring would block on them".into()),
        }
    }

    /// Submits requests, at most [`BURST`], and returns when all are complete; returns how many
    /// were submitted. [`Self::results`] then holds the result of each. If the ring fails, it holds
    /// [`UNFINISHED`] for those that never began.
    ///
    /// # Safety
    /// The buffers that `entries` refer to must stay valid until this returns, and those of reads
    /// must not be accessed by anything else.
    unsafe fn carry_out(&mut self, entries: impl Iterator<Item = squeue::Entry>) -> usize {
        let mut count = 0;
        self.results.fill(UNFINISHED);
        {
            let mut queue = self.ring.submission();
            for entry in entries.take(BURST) {
                let entry = entry.user_data(count as u64);
                // SAFETY: the caller keeps the buffer until this function returns. It returns only
                // when every entry was finished, or when none is left in the kernel and the ring,
                // which still names them, is never entered again (`broken`).
                if unsafe { queue.push(&entry) }.is_err() {
                    break;
                }
                count += 1;
            }
        }
        let mut finished = 0;
        while finished < count {
            let result = self.ring.submit_and_wait(count - finished);
            for done in self.ring.completion() {
                if let Some(slot) = self.results.get_mut(done.user_data() as usize) {
                    *slot = done.result();
                }
                finished += 1;
            }
            match result {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    // Entries that the kernel has not taken stay in the submission queue. All
                    // others must complete, because their buffers are reused.
                    let not_taken = self.ring.submission().len();
                    if finished + not_taken < count {
                        log::error!(
                            "io_uring holds buffers and waiting for them failed, aborting: {error}"
                        );
                        std::process::abort();
                    }
                    self.broken = Some(error);
                    break;
                }
            }
        }
        count
    }

    fn broken(&self) -> Option<PortError> {
        self.broken.as_ref().map(|error| PortError::Engine(again(error)))
    }

    /// Submits one round of reads; returns how many were made, and how many returned a packet.
    fn read(&mut self, batch: &mut Batch) -> Result<(usize, usize), PortError> {
        if let Some(error) = self.broken() {
            return Err(error);
        }
        let wanted = self.reads.min(batch.room());
        let fd = self.fd;
        let entries = batch.next_frames().take(wanted).map(|buffer| {
            let (start, len) = (buffer.as_mut_ptr(), buffer.len() as u32);
            opcode::Read::new(fd, start, len).rw_flags(libc::RWF_NOWAIT).build()
        });
        // SAFETY: each buffer is a separate part of the batch, which stays borrowed during the
        // call.
        let made = unsafe { self.carry_out(entries) };
        let results = &self.results[..made];
        let before = batch.len();
        batch.commit_frames(results.iter().map(|&result| usize::try_from(result).ok()));
        let came = batch.len() - before;
        // An error recurs at the next call: return the packets first.
        if came > 0 {
            return Ok((made, came));
        }
        let refused = results.iter().find(|&&r| r < 0 && !IN_VAIN.contains(&r));
        match (self.broken(), refused) {
            (Some(error), _) => Err(error),
            (None, Some(&errno)) => Err(tun::port_error_of(-errno)),
            (None, None) => Ok((made, 0)),
        }
    }
}

impl Queue for UringQueue {
    fn engine(&self) -> &'static str {
        "io_uring"
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.fd(self.queue)
    }

    fn rx(&mut self, batch: &mut Batch) -> Result<usize, PortError> {
        // For one expected packet, plain system calls are as few, and they wake the waiting peer
        // sooner.
        if self.reads == READS_MIN && self.broken.is_none() {
            let received = self.port.rx(self.queue, batch)?;
            self.reads = (received + 1).clamp(READS_MIN, BURST);
            return Ok(received);
        }
        let mut received = 0;
        while batch.room() > 0 {
            let (made, came) = match self.read(batch) {
                Ok(read) => read,
                Err(_) if received > 0 => break,
                Err(error) => return Err(error),
            };
            received += came;
            // A read that finds nothing is cheaper than a second call: expect one more than came.
            self.reads = (received + 1).clamp(READS_MIN, BURST);
            if came < made {
                break;
            }
            self.reads = (made * 2).min(BURST);
        }
        Ok(received)
    }

    fn tx(
        &mut self,
        frames: &mut dyn Iterator<Item = Frame<'_>>,
        done: &mut dyn FnMut(Result<(), PortError>),
    ) {
        loop {
            let mut chunk = [const { None }; BURST];
            let mut len = 0;
            for (slot, frame) in chunk.iter_mut().zip(&mut *frames) {
                *slot = Some(frame);
                len += 1;
            }
            if len == 0 {
                return;
            }
            self.write(&chunk[..len], done);
            if len < BURST {
                return;
            }
        }
    }
}

impl UringQueue {
    fn write(&mut self, frames: &[Option<Frame<'_>>], done: &mut dyn FnMut(Result<(), PortError>)) {
        let mut made = 0;
        // For one frame a plain write needs as few system calls, and wakes the receiver sooner.
        if self.broken.is_none() && frames.len() > 1 {
            let fd = self.fd;
            let entries = frames.iter().flatten().map(|frame| write(fd, frame.bytes()));
            // SAFETY: the frames stay borrowed during the call, and writes only read them.
            made = unsafe { self.carry_out(entries) };
        }
        for (index, frame) in frames.iter().flatten().enumerate() {
            done(match self.results[index] {
                // The ring failed: send one by one. The next `rx` returns the error.
                UNFINISHED => self.port.send(self.queue, *frame),
                _ if index >= made => self.port.send(self.queue, *frame),
                errno if errno < 0 => Err(tun::port_error_of(-errno)),
                _ => Ok(()),
            });
        }
    }
}

/// A write that completes at once or fails.
fn write(fd: Fd, bytes: &[u8]) -> squeue::Entry {
    let (start, len) = (bytes.as_ptr(), bytes.len() as u32);
    opcode::Write::new(fd, start, len).rw_flags(libc::RWF_NOWAIT).build()
}

/// A ring for a single thread (Linux 6.1), or an ordinary one on older kernels.
fn ring() -> io::Result<IoUring> {
    let entries = BURST as u32;
    let mut best = IoUring::builder();
    best.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    match best.build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(entries),
        result => result,
    }
}

/// Whether an error is transient: the same call can be repeated.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSYS) => "; this kernel has no io_uring",
        Some(libc::EPERM) => "; enable it as root with `sysctl kernel.io_uring_disabled=0`",
        Some(libc::ENOMEM) => "; raise the limit of locked memory (`ulimit -l`)",
        _ => "",
    };
    format!("io_uring setup failed: {error}{hint}")
}

fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The result of a request that did not complete; not a valid errno.
const UNFINISHED: i32 = i32::MIN;

/// Results of reads that returned no packet for ordinary reasons.
const IN_VAIN: [i32; 3] = [-libc::EAGAIN, -libc::EINTR, UNFINISHED];

/// The fewest reads in one call: two, which show in one call that a packet came alone. If no more
/// are expected, plain system calls are used instead.
const READS_MIN: usize = 2;

#[cfg(test)]
mod tests;
