//! What a link does to packets in one direction. Sans-IO; the only file that uses str0m-netem.
#![forbid(unsafe_code)]

use std::rc::Rc;
use std::time::{Duration, Instant};

use nearhop::time::Nanos;
use str0m_netem::{
    Bitrate, DataSize, Input, Netem, NetemConfig, Output, Probability, RandomLoss, WithLen,
};

use crate::topology::Impairment;

/// One direction of an impaired link.
///
/// Pass packets to [`Model::handle_packet`], take those that are due with [`Model::poll_transmit`]
/// until it returns `None`, and call it again at [`Model::poll_timeout`].
pub struct Model {
    netem: Netem<Frame>,
    /// The time on netem's clock that is [`Nanos::ZERO`]. Only differences matter.
    epoch: Instant,
    limits: Limits,
    bytes: usize,
}

/// What the model did with a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// It will be delivered.
    Queued,
    /// Lost by the configured impairment.
    Lost,
    /// Dropped: the queue is full.
    Overflow,
}

/// A packet after `head` bytes that the model ignores.
#[derive(Clone, Debug)]
struct Frame {
    bytes: Rc<[u8]>,
    head: usize,
}

/// Limits of the packets on their way.
#[derive(Clone, Copy, Debug)]
struct Limits {
    packets: usize,
    bytes: usize,
}

impl Model {
    /// The same seed makes the same decisions for the same packets at the same times.
    pub fn new(impairment: &Impairment, seed: u64) -> Self {
        let limits = Limits::of(impairment);
        let mut config = NetemConfig::new()
            .latency(impairment.delay)
            .jitter(impairment.jitter)
            .loss(RandomLoss::new(Probability::new(impairment.loss as f32)))
            .seed(seed);
        if let Some(rate) = impairment.rate {
            // Twice the limit: this model counts overflows, so netem must never drop for lack of
            // room.
            config = config.link(Bitrate::bps(rate), DataSize::from(2 * limits.bytes));
        }
        Self { netem: Netem::new(config), epoch: any_instant(), limits, bytes: 0 }
    }

    /// Takes one packet; the `head` bytes before it are delivered with it but do not count.
    pub fn handle_packet(&mut self, now: Nanos, bytes: &[u8], head: usize) -> Admission {
        let frame = Frame { bytes: bytes.into(), head };
        let length = frame.len();
        let before = self.netem.queue_len();
        if before >= self.limits.packets || self.bytes + length > self.limits.bytes {
            return Admission::Overflow;
        }
        self.netem.handle_input(Input::Packet(self.instant(now), frame));
        if self.netem.queue_len() == before {
            return Admission::Lost;
        }
        self.bytes += length;
        Admission::Queued
    }

    /// Takes the next packet that is due at `now`, with its head.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Nanos) -> Option<Rc<[u8]>> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.netem.handle_input(Input::Timeout(self.instant(now)));
        loop {
            match self.netem.poll_output()? {
                Output::Packet(frame) => {
                    self.bytes -= frame.len();
                    return Some(frame.bytes);
                }
                Output::Timeout(_) => {}
            }
        }
    }

    /// When to call [`Self::poll_transmit`] next. The value may change after
    /// [`Self::handle_packet`] and [`Self::poll_transmit`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        if self.netem.is_empty() {
            return None;
        }
        let since = self.netem.poll_timeout().saturating_duration_since(self.epoch);
        Some(Nanos::ZERO + since)
    }

    /// Number of packets on their way.
    pub fn queued(&self) -> usize {
        self.netem.queue_len()
    }

    fn instant(&self, now: Nanos) -> Instant {
        self.epoch + now.since(Nanos::ZERO)
    }
}

impl WithLen for Frame {
    fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.head)
    }
}

impl Limits {
    /// A link with a rate has a buffer of 100 ms besides the packets on their way, like a router's
    /// port; a link without a rate is limited by memory only.
    fn of(impairment: &Impairment) -> Self {
        let Some(rate) = impairment.rate else {
            return Self { packets: PACKETS_MAX, bytes: BYTES_MAX };
        };
        let on_the_way = impairment.delay + impairment.jitter + BUFFER;
        let bytes = (rate as f64 / 8.0 * on_the_way.as_secs_f64()) as usize;
        Self { packets: PACKETS_MAX, bytes: bytes.clamp(BYTES_MIN, BYTES_MAX) }
    }
}

/// An arbitrary origin, because `Instant` has no zero.
#[allow(clippy::disallowed_methods, reason = "an origin to count from, not a reading of the time")]
fn any_instant() -> Instant {
    Instant::now()
}

const PACKETS_MAX: usize = 65_536;
const BYTES_MAX: usize = 32 << 20;
/// A few full-sized packets, or one superframe.
const BYTES_MIN: usize = 72 << 10;
const BUFFER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Nanos {
        Nanos(millis * 1_000_000)
    }

    /// Passes in `count` packets of `size` bytes, one every `gap`; returns number and time of each
    /// delivered packet.
    fn run(model: &mut Model, count: u32, size: usize, gap: Duration) -> Vec<(u32, Nanos)> {
        let mut out = Vec::new();
        let mut collect = |model: &mut Model, until: Nanos| {
            while let Some(due) = model.poll_timeout().filter(|due| *due <= until) {
                while let Some(packet) = model.poll_transmit(due) {
                    out.push((u32::from_be_bytes(*packet.first_chunk().unwrap()), due));
                }
            }
        };
        for number in 0..count {
            let now = Nanos::ZERO + gap * number;
            collect(model, now);
            let mut packet = vec![0; size];
            packet[..4].copy_from_slice(&number.to_be_bytes());
            model.handle_packet(now, &packet, 0);
        }
        collect(model, Nanos(u64::MAX / 4));
        out
    }

    #[test]
    fn delay_is_exact() {
        let impairment = Impairment { delay: Duration::from_millis(20), ..Impairment::default() };
        let mut model = Model::new(&impairment, 1);
        assert_eq!(model.poll_timeout(), None);
        assert_eq!(model.handle_packet(at(5), b"packet", 0), Admission::Queued);
        assert_eq!(model.poll_timeout(), Some(at(25)));
        assert_eq!(model.poll_transmit(at(24)), None);
        assert_eq!(&*model.poll_transmit(at(25)).unwrap(), b"packet");
        assert_eq!((model.poll_transmit(at(99)), model.bytes), (None, 0));
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(5));
        let mut model = Model::new(&Impairment { delay, jitter, ..Impairment::default() }, 2);
        let gap = Duration::from_millis(1);
        let delays = run(&mut model, 2000, 64, gap)
            .into_iter()
            .map(|(number, out)| out.since(Nanos::ZERO + gap * number));
        let (least, most) = delays.fold((Duration::MAX, Duration::ZERO), |(least, most), one| {
            (least.min(one), most.max(one))
        });
        assert!(least + jitter >= delay && most <= delay + jitter, "{least:?} to {most:?}");
        assert!(most > least + jitter, "{least:?} to {most:?}");
    }

    /// 5,000 packets at 10 %: 500 are expected to be lost, with a standard deviation of 21.2; five
    /// of them are allowed.
    #[test]
    fn loss_is_the_share_it_should_be() {
        let mut model = Model::new(&Impairment { loss: 0.1, ..Impairment::default() }, 3);
        let came = run(&mut model, 5000, 64, Duration::from_millis(1)).len();
        assert!((4394..=4606).contains(&came), "{came} of 5000");
    }

    /// 1 Mbit/s is 125 packets of 1,000 bytes per second, however fast they come.
    #[test]
    fn rate_is_kept_and_the_rest_overflows() {
        let impairment = Impairment { rate: Some(1_000_000), ..Impairment::default() };
        let mut model = Model::new(&impairment, 4);
        let out = run(&mut model, 1000, 1000, Duration::from_millis(1));
        let second = out.iter().filter(|(_, when)| *when < at(1000)).count();
        assert!((120..=130).contains(&second), "{second} in the first second");
        assert!(out.len() < 300, "{} of 1000 fitted into the buffer", out.len());
    }

    #[test]
    fn the_head_is_carried_but_not_counted() {
        let impairment = Impairment { rate: Some(1_000_000), ..Impairment::default() };
        let mut model = Model::new(&impairment, 5);
        for _ in 0..2 {
            model.handle_packet(at(0), &[7; 135], 10);
        }
        assert_eq!(model.poll_transmit(at(0)).unwrap().len(), 135);
        assert_eq!(model.poll_timeout(), Some(at(1)));
    }

    #[test]
    fn a_seed_decides_everything() {
        let impairment = Impairment {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            loss: 0.2,
            rate: Some(10_000_000),
        };
        let once =
            |seed| run(&mut Model::new(&impairment, seed), 500, 500, Duration::from_micros(700));
        assert_eq!(once(6), once(6));
        assert_ne!(once(6), once(7));
    }

    #[test]
    fn a_full_queue_refuses() {
        let impairment = Impairment { delay: Duration::from_secs(9), ..Impairment::default() };
        let mut model = Model::new(&impairment, 8);
        for _ in 0..PACKETS_MAX {
            assert_eq!(model.handle_packet(at(0), &[0; 40], 0), Admission::Queued);
        }
        assert_eq!(model.handle_packet(at(0), &[0; 40], 0), Admission::Overflow);
        assert_eq!(model.queued(), PACKETS_MAX);
    }
}
