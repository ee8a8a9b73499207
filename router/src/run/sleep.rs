//! How a thread waits: for descriptors, and until a time.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::time::Nanos;

/// An epoll over an eventfd that others write to, a timer, and what is added.
pub(super) struct Sleeper {
    epoll: OwnedFd,
    timer: OwnedFd,
    wake: OwnedFd,
}

impl Sleeper {
    /// `wake` is the reading end of a [`Wake`](crate::worker::Wake).
    pub(super) fn new(wake: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let sleeper = Self { epoll, timer, wake };
        sleeper.add(sleeper.wake.as_fd())?;
        sleeper.add(sleeper.timer.as_fd())?;
        Ok(sleeper)
    }

    /// Wakes for this descriptor, too, until it is closed.
    pub(super) fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let data = epoll::EventData::new_u64(0);
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    /// Returns once a descriptor has something, it is `due`, or a signal came.
    pub(super) fn sleep(&self, due: Option<Nanos>) -> io::Result<()> {
        // All zeros would disarm the timer: what is due at 0 is due at 1 ns.
        let at = due.map_or(0, |due| due.0.max(1));
        let value = Timespec {
            tv_sec: i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (at % 1_000_000_000).cast_signed(),
        };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Reading resets them; that they were reset already is no harm.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        Ok(())
    }
}
