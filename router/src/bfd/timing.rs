//! The intervals of a session: what is wanted, what the neighbour was told, and what counts until it has
//! heard it (RFC 5880, section 6.8.2, 6.8.3 and 6.5).
#![forbid(unsafe_code)]

use std::time::Duration;

use super::packet::State;
use crate::put_back::{self, PutBack};
use crate::time::Nanos;

/// How often a session sends and wants to receive, at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Intervals {
    /// The least interval in which it wants to send, in microseconds; at least 1.
    pub desired_min_tx_us: u32,
    /// The least interval in which it can receive, in microseconds; 0: it wants nothing sent.
    pub required_min_rx_us: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timing {
    configured: Intervals,
    /// As many times slower, because packets went out late.
    factor: u32,
    /// When one did last.
    late_at: Nanos,
    /// What the neighbour is told while the session is up.
    said: Intervals,
    /// What the neighbour has not confirmed yet is said with `poll`.
    is_polling: bool,
    /// What counts until the neighbour has confirmed a longer interval of sending.
    old_tx_us: Option<u32>,
    /// What counts until the neighbour has confirmed a shorter interval of receiving.
    old_rx_us: Option<u32>,
}

impl Timing {
    pub(super) const fn new(configured: Intervals) -> Self {
        Self {
            configured,
            factor: 1,
            late_at: Nanos::ZERO,
            said: configured,
            is_polling: false,
            old_tx_us: None,
            old_rx_us: None,
        }
    }

    /// Other intervals are configured.
    pub(super) fn set_intervals(&mut self, state: State, configured: Intervals) {
        if configured != self.configured {
            self.configured = configured;
            self.factor = 1;
            self.say(state);
        }
    }

    /// The state changed. Intervals below a second are said once the session is up, and confirmed then.
    pub(super) fn handle_state(&mut self, to: State) {
        (self.old_tx_us, self.old_rx_us) = (None, None);
        self.factor = 1;
        self.said = self.wanted();
        self.is_polling = to == State::Up;
    }

    /// The neighbour has heard what was said.
    pub(super) fn handle_final(&mut self) {
        if !self.is_polling {
            return;
        }
        (self.old_tx_us, self.old_rx_us) = (None, None);
        self.is_polling = false;
        // What changed meanwhile is said by another poll, so that the two are not mixed up.
        self.say(State::Up);
    }

    /// Packets are sent in this interval at least, in microseconds.
    pub(super) fn desired_tx_us(&self, state: State) -> u32 {
        let said = self.advertised_us(state).0;
        if state == State::Up { self.old_tx_us.unwrap_or(said) } else { said }
    }

    /// The neighbour keeps to this interval at least, in microseconds.
    pub(super) fn required_rx_us(&self) -> u32 {
        self.old_rx_us.unwrap_or(self.said.required_min_rx_us)
    }

    /// What the neighbour is told: a second or more while the session is not up (section 6.8.3).
    pub(super) fn advertised_us(&self, state: State) -> (u32, u32) {
        let tx = self.said.desired_min_tx_us;
        let tx = if state == State::Up { tx } else { tx.max(SLOW_US) };
        (tx, self.said.required_min_rx_us)
    }

    pub(super) const fn is_polling(&self) -> bool {
        self.is_polling
    }

    /// A packet of a session that is up went out so late. Returns how many times slower than configured the
    /// session is from now on, if that changes: slower once a packet was later than three quarters of what the
    /// neighbour bears, faster again after a while without. Not half: a thread in real time on a virtual machine
    /// was seen to be 1.0 to 1.4 ms late once a second, and no later for it.
    pub(super) fn note_sent(
        &mut self,
        now: Nanos,
        late: Duration,
        interval: Option<Duration>,
        multiplier: u8,
    ) -> Option<u32> {
        let interval = interval?;
        let spare = interval * u32::from(multiplier.saturating_sub(1)) * 3 / 4;
        let before = self.factor;
        if late > spare.max(interval / 10) {
            let can_slow = u64::from(self.configured.desired_min_tx_us) * u64::from(self.factor);
            // A packet that was late twice before the neighbour heard of the first is one fault.
            if can_slow < u64::from(SLOW_US) && !self.is_polling {
                self.factor *= 2;
            }
            self.late_at = now;
        } else if self.factor > 1 && now.since(self.late_at) >= CALM {
            self.factor /= 2;
            self.late_at = now;
        }
        (self.factor != before).then(|| {
            self.say(State::Up);
            self.factor
        })
    }

    fn wanted(&self) -> Intervals {
        let slowed = |us: u32| us.saturating_mul(self.factor).min(us.max(SLOW_US));
        Intervals {
            desired_min_tx_us: slowed(self.configured.desired_min_tx_us),
            required_min_rx_us: slowed(self.configured.required_min_rx_us),
        }
    }

    /// Says what is wanted, if that is another than what was said; not while a poll is on its way.
    fn say(&mut self, state: State) {
        let (wanted, said) = (self.wanted(), self.said);
        if self.is_polling || wanted == said {
            return;
        }
        if state == State::Up {
            let waits = !put_back::is(PutBack::IntervalsUnconfirmed);
            let is_slower = wanted.desired_min_tx_us > said.desired_min_tx_us;
            self.old_tx_us = (is_slower && waits).then_some(said.desired_min_tx_us);
            let is_faster = wanted.required_min_rx_us < said.required_min_rx_us;
            self.old_rx_us = (is_faster && waits).then_some(said.required_min_rx_us);
            self.is_polling = true;
        }
        self.said = wanted;
    }
}

/// What a session sends in at least while it is not up (RFC 5880, section 6.8.3).
const SLOW_US: u32 = 1_000_000;

/// Without a late packet for so long, a session is faster again.
const CALM: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Intervals = Intervals { desired_min_tx_us: 10_000, required_min_rx_us: 20_000 };

    fn up(intervals: Intervals) -> Timing {
        let mut timing = Timing::new(intervals);
        timing.handle_state(State::Up);
        timing.handle_final();
        timing
    }

    #[test]
    fn intervals_below_a_second_are_said_once_the_session_is_up() {
        let mut timing = Timing::new(FAST);
        for state in [State::AdminDown, State::Down, State::Init] {
            assert_eq!(timing.advertised_us(state), (1_000_000, 20_000));
            assert_eq!(timing.desired_tx_us(state), 1_000_000);
        }
        assert!(!timing.is_polling());
        timing.handle_state(State::Up);
        assert!(timing.is_polling());
        assert_eq!(
            (timing.advertised_us(State::Up), timing.desired_tx_us(State::Up)),
            ((10_000, 20_000), 10_000)
        );
        timing.handle_final();
        assert!(!timing.is_polling());
        let slow = Intervals { desired_min_tx_us: 3_000_000, ..FAST };
        assert_eq!(Timing::new(slow).advertised_us(State::Down).0, 3_000_000);
    }

    #[test]
    fn what_loosens_counts_at_once_and_what_tightens_once_it_is_confirmed() {
        let mut timing = up(FAST);
        let slower = Intervals { desired_min_tx_us: 50_000, required_min_rx_us: 5_000 };
        timing.set_intervals(State::Up, slower);
        assert!(timing.is_polling());
        assert_eq!(timing.advertised_us(State::Up), (50_000, 5_000), "said at once");
        assert_eq!((timing.desired_tx_us(State::Up), timing.required_rx_us()), (10_000, 20_000));
        // Another change waits for the end of this poll.
        timing.set_intervals(State::Up, FAST);
        assert_eq!(timing.advertised_us(State::Up), (50_000, 5_000));
        timing.handle_final();
        assert!(timing.is_polling());
        assert_eq!(timing.advertised_us(State::Up), (10_000, 20_000));
        assert_eq!((timing.desired_tx_us(State::Up), timing.required_rx_us()), (10_000, 20_000));
        timing.handle_final();
        timing.handle_final();
        assert!(!timing.is_polling());
    }

    #[test]
    fn a_session_whose_packets_are_late_is_slower_until_they_are_not() {
        let mut timing = up(FAST);
        let interval = Some(Duration::from_millis(10));
        let mut now = Nanos(1_000_000_000_000);
        let ms = Duration::from_millis;
        assert_eq!(
            timing.note_sent(now, ms(15), interval, 3),
            None,
            "three quarters of the 20 ms that the neighbour bears, not more"
        );
        assert_eq!(timing.note_sent(now, ms(16), interval, 3), Some(2));
        assert_eq!(timing.advertised_us(State::Up), (20_000, 40_000));
        assert_eq!(timing.desired_tx_us(State::Up), 10_000, "until the neighbour knows");
        assert_eq!(timing.note_sent(now, ms(50), interval, 3), None, "one fault");
        timing.handle_final();
        assert_eq!(timing.desired_tx_us(State::Up), 20_000);
        for factor in [4, 8, 16, 32, 64, 128] {
            assert_eq!(timing.note_sent(now, ms(5_000), interval, 3), Some(factor));
            timing.handle_final();
        }
        assert_eq!(timing.advertised_us(State::Up), (1_000_000, 1_000_000));
        assert_eq!(timing.note_sent(now, ms(5_000), interval, 3), None, "a second is slow enough");
        for factor in [64, 32, 16, 8, 4, 2, 1] {
            assert_eq!(timing.note_sent(now, ms(0), interval, 3), None);
            now += CALM;
            assert_eq!(timing.note_sent(now, ms(0), interval, 3), Some(factor));
            timing.handle_final();
        }
        assert_eq!(timing.advertised_us(State::Up), (10_000, 20_000));
    }
}
