//! Many reads or writes in one system call, by io_uring.
//!
//! Every request is made with `RWF_NOWAIT`: the kernel does or refuses it while it takes it, one
//! after the other; none waits, and none overtakes another. So packets keep their order, and every
//! request is finished before the call that makes it returns. That is also what makes this sound:
//! the kernel has no buffer of ours between two calls. `O_NONBLOCK` would not do: io_uring waits
//! for such files all the same.
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
    /// Of the port, which keeps it open.
    fd: Fd,
    /// Reads made in one call: follows what came last.
    reads: usize,
    /// Set once the ring has failed; it is not used any more.
    broken: Option<io::Error>,
    results: [i32; BURST],
}

impl UringQueue {
    /// Opens a ring for `queue` of `port`; or says why that cannot be done here.
    pub fn open(port: Arc<dyn Port>, queue: usize) -> Result<Self, String> {
        let Some(fd) = port.frames_fd(queue) else {
            return Err("io_uring is for devices with a vnet_hdr and without packet info".into());
        };
        let ring = ring().map_err(|error| explain(&error))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(|error| explain(&error))?;
        if !probe.is_supported(opcode::Read::CODE) || !probe.is_supported(opcode::Write::CODE) {
            return Err("io_uring of this kernel has no read and write (Linux 5.6 has)".into());
        }
        // Not registered with the ring: the kernel lets go of that, and so of the device, only some
        // time after the process has ended.
        let fd = Fd(fd.as_raw_fd());
        let results = [0; BURST];
        let mut opened = Self { ring, port, queue, fd, reads: READS_MIN, broken: None, results };
        opened.probe_nowait()?;
        Ok(opened)
    }

    /// A file that does not know `RWF_NOWAIT` refuses it before it looks at what is written: this
    /// byte, which is no packet to any device.
    fn probe_nowait(&mut self) -> Result<(), String> {
        let byte = [0];
        // SAFETY: the byte is there until the call returns, and is only read.
        unsafe { self.carry_out(std::iter::once(write(self.fd, &byte))) };
        match (&self.broken, self.results[0]) {
            (None, errno) if errno != -libc::EOPNOTSUPP && errno != UNFINISHED => Ok(()),
            (Some(error), _) => Err(explain(error)),
            _ => Err("io_uring would wait on TUN devices: this kernel's have no RWF_NOWAIT".into()),
        }
    }

    /// Makes requests, [`BURST`] at most, and returns when they are finished. [`Self::results`] has
    /// what became of each; should the ring fail, [`UNFINISHED`] for those that were never begun.
    /// Returns how many were made.
    ///
    /// # Safety
    /// The buffers that `entries` name have to be there, and for reads be nobody else's, until this
    /// returns.
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
                    // What the kernel has not taken stays in the submission queue. All others have
                    // to be finished, for their buffers are about to be used again.
                    let not_taken = self.ring.submission().len();
                    if finished + not_taken < count {
                        log::error!("io_uring keeps buffers and cannot be waited for: {error}");
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

    /// One round of reads: how many were made, and how many brought a packet.
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
        // SAFETY: each buffer is a part of its own of the batch, which is borrowed for as long.
        let made = unsafe { self.carry_out(entries) };
        let results = &self.results[..made];
        let before = batch.len();
        batch.commit_frames(results.iter().map(|&result| usize::try_from(result).ok()));
        let came = batch.len() - before;
        // What fails says so again next time: first hand over what came.
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
        // Where one packet is expected, usual calls are as few, and what waits for it wakes sooner.
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
            // A read in vain is cheap, a second call is not: expect one more than came.
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
        // For one the usual call is as good, and what waits for it wakes sooner.
        if self.broken.is_none() && frames.len() > 1 {
            let fd = self.fd;
            let entries = frames.iter().flatten().map(|frame| write(fd, frame.bytes()));
            // SAFETY: the frames are borrowed for as long; writes only read them.
            made = unsafe { self.carry_out(entries) };
        }
        for (index, frame) in frames.iter().flatten().enumerate() {
            done(match self.results[index] {
                // Without a ring that works, one after the other; the next `rx` says why.
                UNFINISHED => self.port.send(self.queue, *frame),
                _ if index >= made => self.port.send(self.queue, *frame),
                errno if errno < 0 => Err(tun::port_error_of(-errno)),
                _ => Ok(()),
            });
        }
    }
}

/// A write that is done at once or not at all.
fn write(fd: Fd, bytes: &[u8]) -> squeue::Entry {
    let (start, len) = (bytes.as_ptr(), bytes.len() as u32);
    opcode::Write::new(fd, start, len).rw_flags(libc::RWF_NOWAIT).build()
}

/// A ring for one thread, where the kernel has such (Linux 6.1), else as it is.
fn ring() -> io::Result<IoUring> {
    let entries = BURST as u32;
    let mut best = IoUring::builder();
    best.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    match best.build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(entries),
        result => result,
    }
}

/// Errors after which the same call works.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::ENOSYS) => "; this kernel has none",
        Some(libc::EPERM) => "; `sysctl kernel.io_uring_disabled=0` as root allows it",
        Some(libc::ENOMEM) => "; raise the limit of locked memory (`ulimit -l`)",
        _ => "",
    };
    format!("io_uring cannot be set up: {error}{hint}")
}

fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The result of a request that was not finished: no errno.
const UNFINISHED: i32 = i32::MIN;

/// Reads that brought nothing, as is usual.
const IN_VAIN: [i32; 3] = [-libc::EAGAIN, -libc::EINTR, UNFINISHED];

/// Reads made at least: two, so that a single packet shows in one call that it was alone. Where no more
/// are expected, the usual calls are made instead.
const READS_MIN: usize = 2;

#[cfg(test)]
mod tests;
