use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::packet::offload::{OFFLOAD_LEN, Offloads};

#[path = "../../../tests/support/kernel.rs"]
mod kernel;
#[path = "../../../tests/support/skip.rs"]
mod skip;

/// A port whose device is one end of a pair of sockets.
struct Socket(OwnedFd, Arc<AtomicUsize>);

impl Port for Socket {
    fn engine(&self) -> &'static str {
        "socket"
    }

    fn queues(&self) -> usize {
        1
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    fn rx(&self, _queue: usize, batch: &mut Batch) -> Result<usize, PortError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let mut received = 0;
        while let Ok(len) = rustix::io::read(&self.0, batch.next_frame()) {
            batch.commit_frames([Some(len)]);
            received += 1;
        }
        Ok(received)
    }

    fn tx(&self, _queue: usize, _packet: &[u8]) -> Result<(), PortError> {
        Err(PortError::Down)
    }

    fn send(&self, _queue: usize, frame: Frame<'_>) -> Result<(), PortError> {
        rustix::io::write(&self.0, frame.bytes()).map(|_| ()).map_err(|_| PortError::Full)
    }

    fn frames_fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// A queue, the far end of its device, and a counter of reads by plain system calls. `None` if
/// `test` is skipped.
fn queue(test: &str) -> Option<(UringQueue, OwnedFd, Arc<AtomicUsize>)> {
    if let Some(why) = kernel::Need::Uring.missing() {
        skip::skip(test, &why);
        return None;
    }
    let (near, far) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::NONBLOCK,
        None,
    )
    .unwrap();
    let usual = Arc::new(AtomicUsize::new(0));
    let queue = UringQueue::open(Arc::new(Socket(near, Arc::clone(&usual))), 0).unwrap();
    // The probe's byte, which a TUN device would have refused.
    assert_eq!(rustix::io::read(&far, &mut [0; 10]), Ok(1));
    Some((queue, far, usual))
}

fn frame(number: u8) -> [u8; OFFLOAD_LEN + 1] {
    let mut bytes = [0; OFFLOAD_LEN + 1];
    bytes[OFFLOAD_LEN] = number;
    bytes
}

fn arrived(far: &OwnedFd) -> Vec<u8> {
    let mut buffer = [0; 100];
    let next = std::iter::from_fn(|| rustix::io::read(far, &mut buffer).ok().map(|_| buffer[10]));
    next.collect()
}

fn send(queue: &mut UringQueue, numbers: std::ops::Range<u8>) -> Vec<Result<(), PortError>> {
    let frames: Vec<_> = numbers.map(frame).collect();
    let mut results = Vec::new();
    queue.tx(&mut frames.iter().map(|bytes| Frame::whole(bytes)), &mut |one| results.push(one));
    results
}

#[test]
fn reads_and_writes_are_in_order_and_never_wait() {
    let Some((mut queue, far, usual)) = queue("reads_and_writes_are_in_order_and_never_wait")
    else {
        return;
    };
    let mut batch = Batch::new();
    assert_eq!(queue.rx(&mut batch).unwrap(), 0);
    let mut seen = 0;
    // After several came at once, the ring reads the next; after one or none, plain calls do.
    for (came, usual_calls) in [(5, 2), (5, 2), (5, 2), (0, 2), (1, 3), (1, 4), (4, 5), (4, 5)] {
        for _ in 0..came {
            rustix::io::write(&far, &frame(seen)).unwrap();
            seen += 1;
        }
        assert_eq!(queue.rx(&mut batch).unwrap(), came, "{seen}");
        assert_eq!(usual.load(Ordering::Relaxed), usual_calls, "{seen}");
    }
    let numbers: Vec<u8> = (0..batch.len()).map(|index| batch.packet(index).1[0]).collect();
    assert_eq!(numbers, (0..seen).collect::<Vec<u8>>());
    assert!(send(&mut queue, 0..9).iter().all(Result::is_ok));
    assert_eq!(arrived(&far), (0..9).collect::<Vec<_>>());
}

#[test]
fn what_a_full_device_does_not_take_is_reported_for_each() {
    let Some((mut queue, far, _)) = queue("what_a_full_device_does_not_take_is_reported_for_each")
    else {
        return;
    };
    let mut taken = 0;
    let refused = loop {
        let results = send(&mut queue, 0..200);
        assert_eq!(results.len(), 200);
        taken += results.iter().filter(|one| one.is_ok()).count();
        if let Some(first) = results.iter().position(Result::is_err) {
            break results.into_iter().skip(first).collect::<Vec<_>>();
        }
    };
    assert!(refused.iter().all(|one| matches!(one, Err(PortError::Full))), "{refused:?}");
    assert_eq!(arrived(&far).len(), taken);
    assert!(send(&mut queue, 0..1)[0].is_ok(), "it works again");
}

#[test]
fn a_ring_that_fails_loses_nothing_doubles_nothing_and_reports_it() {
    let Some((mut queue, far, _)) =
        queue("a_ring_that_fails_loses_nothing_doubles_nothing_and_reports_it")
    else {
        return;
    };
    assert!(send(&mut queue, 0..3).iter().all(Result::is_ok));
    let other = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: both descriptors are open; that of the ring is another file from now on, which
    // the ring closes as it would its own.
    assert!(unsafe { libc::dup2(other.as_raw_fd(), queue.ring.as_raw_fd()) } >= 0);
    assert!(send(&mut queue, 3..6).iter().all(Result::is_ok));
    assert_eq!(arrived(&far), [0, 1, 2, 3, 4, 5]);
    let failed = queue.rx(&mut Batch::new());
    assert!(matches!(failed, Err(PortError::Engine(_))), "{failed:?}");
}
