//! Orders to a thread: very many may wait, of which hardly any do. Memory is taken for those that wait.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "waits on behalf of a thread's shell")]

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendError, Sender, TrySendError, unbounded};

/// The sending end. Cheap to clone.
#[derive(Debug)]
pub struct Orders<T> {
    sender: Sender<T>,
    capacity: usize,
}

impl<T> Clone for Orders<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), capacity: self.capacity }
    }
}

impl<T> Orders<T> {
    /// A queue for `capacity` orders, and its receiving end. Of several threads that send at once each may exceed
    /// it by one order.
    pub fn new(capacity: usize) -> (Self, Receiver<T>) {
        let (sender, receiver) = unbounded();
        (Self { sender, capacity }, receiver)
    }

    /// Sends an order if there is room for it.
    ///
    /// # Errors
    /// There is none, or the thread has ended.
    pub fn try_send(&self, order: T) -> Result<(), TrySendError<T>> {
        if self.is_full() {
            return Err(TrySendError::Full(order));
        }
        self.sender.try_send(order)
    }

    /// Sends an order once there is room for it.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn send(&self, order: T) -> Result<(), SendError<T>> {
        // What waits goes with a thread that ends.
        while self.is_full() {
            thread::sleep(LOOK_AGAIN_AFTER);
        }
        self.sender.send(order)
    }

    fn is_full(&self) -> bool {
        self.sender.len() >= self.capacity
    }
}

/// How long a full queue is left alone.
const LOOK_AGAIN_AFTER: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_or_waits_and_one_that_nobody_reads_does_neither() {
        let (orders, queue) = Orders::new(2);
        assert!(orders.try_send(1).is_ok() && orders.clone().try_send(2).is_ok());
        assert_eq!(orders.try_send(3), Err(TrySendError::Full(3)));
        let other = orders.clone();
        let waiting = thread::spawn(move || other.send(4));
        assert_eq!(queue.recv(), Ok(1));
        assert_eq!(waiting.join().unwrap(), Ok(()));
        assert_eq!(queue.try_iter().collect::<Vec<_>>(), [2, 4]);
        assert!(orders.try_send(5).is_ok() && orders.try_send(6).is_ok());
        let waiting = thread::spawn({
            let orders = orders.clone();
            move || orders.send(7)
        });
        drop(queue);
        // Whether it began to wait before that or not.
        assert_eq!(waiting.join().unwrap(), Err(SendError(7)));
        assert_eq!(orders.try_send(8), Err(TrySendError::Disconnected(8)));
    }
}
