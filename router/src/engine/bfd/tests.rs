//! What the sessions make of packets that workers let in: those that somebody recorded and sends again change
//! nothing.

use std::net::{IpAddr, SocketAddr};

use arc_swap::ArcSwap;
use nearhop_fib::{ACCEPT_ALL, Reason, Writer, fib, name_key};

use super::*;
use crate::batch::Batch;
use crate::bfd::Intervals;
use crate::bfd::auth::{Authentication, SECTION_LEN};
use crate::bfd::machine::PORT;
use crate::bfd::packet::{Control as BfdControl, State};
use crate::bfd::session::SessionConfig;
use crate::control::Control;
use crate::forward::{Scratch, Snapshots, SyscallOutlets};
use crate::packet::build::Datagram;

const LINK: PortId = PortId(3);
const START: Nanos = Nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);

/// An engine with one session, which is authenticated, and a path that it watches.
struct One {
    engine: BfdEngine,
    writer: Writer,
    path: PathId,
    snapshots: Snapshots,
    batch: Batch,
    scratch: Scratch,
    auth: Authentication,
    now: Nanos,
}

impl One {
    fn new(meticulous: bool) -> Self {
        let (mut writer, handle) = fib(1);
        let path = writer.add_path(name_key("neighbor"), ACCEPT_ALL).unwrap();
        let reader = handle.reader().unwrap();
        let mut engine = BfdEngine::new(handle, reader, Arc::default(), 1);
        let auth = Authentication::new(meticulous, 7, b"a secret").unwrap();
        let intervals = Intervals { desired_min_tx_us: 10_000, required_min_rx_us: 10_000 };
        let config =
            SessionConfig { intervals, multiplier: 3, passive: false, auth: Some(auth.clone()) };
        let spec = BfdSpec { ends: ends(), exit: None, config };
        engine.handle_order(START, BfdOrder::Set(Box::new(spec)));
        engine.handle_order(START, BfdOrder::Watch { ends: ends(), path, heeds_past: false });
        let snapshot = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
        let snapshots = Snapshots::new(snapshot);
        let (batch, scratch) = (Batch::new(), Scratch::default());
        Self { engine, writer, path, snapshots, batch, scratch, auth, now: START }
    }

    /// A packet of the neighbour's, with this sequence number.
    fn said(&self, sequence: u32, state: State) -> Vec<u8> {
        let control = BfdControl {
            state,
            is_final: state == State::Up,
            multiplier: 3,
            my_discriminator: 9,
            your_discriminator: self.report().discriminators[0],
            desired_min_tx_us: 10_000,
            required_min_rx_us: 10_000,
            ..BfdControl::default()
        };
        let mut payload = Vec::new();
        control.write(SECTION_LEN, &mut payload);
        self.auth.sign(sequence, &mut payload);
        let Ends { local, remote, .. } = ends();
        let (src, dst) = (SocketAddr::new(remote, 49_152), SocketAddr::new(local, PORT));
        let mut packet = vec![0; 200];
        let datagram = Datagram { src, dst, ttl: u8::MAX, payload: &payload };
        let len = datagram.write(&mut packet).unwrap();
        packet.truncate(len);
        packet
    }

    fn hear(&mut self, packet: &[u8]) {
        self.engine.handle_packet(self.now, LINK, packet);
        self.serve();
    }

    fn hear_all(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            self.hear(packet);
        }
    }

    fn serve(&mut self) {
        let Self { engine, snapshots, batch, scratch, now, .. } = self;
        engine.handle_timeout(*now, snapshots.load(), |_, _| false);
        engine.transmit(*now, snapshots, (batch, scratch), &mut SyscallOutlets::default());
    }

    /// Lets time pass in which nothing is heard.
    fn wait_until(&mut self, until: Nanos) {
        while self.now < until {
            self.now = (self.now + MS).min(until);
            self.serve();
        }
    }

    fn report(&self) -> BfdReport {
        self.engine.reports().remove(0)
    }

    fn is_path_down(&self) -> bool {
        self.writer.path_reasons(self.path).has(Reason::Bfd)
    }
}

fn ends() -> Ends {
    let address = |last| IpAddr::from([10, 0, 0, last]);
    Ends { local: address(1), remote: address(2), link: Some(LINK) }
}

/// Down, Init and Up were recorded. Sent again they neither take the session down, nor keep a neighbour that is
/// silent from being called so.
#[test]
fn packets_that_come_again_are_counted_and_change_nothing() {
    for meticulous in [true, false] {
        let mut one = One::new(meticulous);
        let recorded = [(1, State::Down), (2, State::Init), (3, State::Up)]
            .map(|(sequence, state)| one.said(sequence, state));
        one.hear_all(&recorded);
        let (before, heard) = (one.report(), one.now);
        assert_eq!((before.state, before.view), (State::Up, BfdView::Up));
        assert_eq!((before.detection_time, before.stats.received), (30 * MS, 3));
        while one.engine.poll_news().is_some() {}

        one.wait_until(heard + 20 * MS);
        // Without `meticulous` the newest number may come more than once (RFC 5880, section 6.7.4).
        let again = if meticulous { &recorded[..] } else { &recorded[..2] };
        one.hear_all(again);
        let (after, count) = (one.report(), again.len() as u64);
        assert_eq!(after.stats.discarded, count);
        assert_eq!(one.engine.dropped()["auth-sequence"], count);
        assert_eq!((after.stats.received, one.engine.received()), (3, 3 + count));
        assert_eq!((after.state, after.view, after.since), (State::Up, BfdView::Up, before.since));
        assert_eq!((after.remote_state, after.detection_time), (State::Up, 30 * MS));
        assert_eq!(one.engine.poll_news(), None);
        assert!(!one.is_path_down());

        one.wait_until(heard + 30 * MS - Duration::from_nanos(1));
        assert_eq!(one.report().view, BfdView::Up);
        one.wait_until(heard + 30 * MS);
        assert_eq!(one.report().view, BfdView::Failed, "what came again is nothing heard");
        assert!(one.is_path_down());
    }
}

/// The numbers go on: what is new counts, also after what is not.
#[test]
fn what_comes_again_moves_no_window() {
    let mut one = One::new(true);
    let recorded = [(1, State::Down), (2, State::Init), (3, State::Up)]
        .map(|(sequence, state)| one.said(sequence, state));
    one.hear_all(&recorded);
    let heard = one.now;
    one.wait_until(heard + 10 * MS);
    one.hear_all(&recorded);
    let next = one.said(4, State::Up);
    one.hear(&next);
    one.wait_until(heard + 35 * MS);
    let report = one.report();
    assert_eq!((report.view, report.stats.received, report.stats.discarded), (BfdView::Up, 4, 3));
}
