//! Sessions by what goes over the wire: two ends on a fake clock, and single packets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::Intervals;
use super::auth::Authentication;
use super::machine::{Dropped, Ends, Machine, SessionId};
use super::packet::{Control, Diagnostic, Malformed, Received, State};
use super::session::{Discarded, Event, Session, SessionConfig, Why};
use crate::ids::PortId;
use crate::time::Nanos;

const START: Nanos = Nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);

fn config(ms: u32) -> SessionConfig {
    let intervals = Intervals { desired_min_tx_us: ms * 1000, required_min_rx_us: ms * 1000 };
    SessionConfig { intervals, multiplier: 3, passive: false, auth: None }
}

fn said(state: State, your: u32) -> Control {
    Control {
        state,
        multiplier: 3,
        my_discriminator: 9,
        your_discriminator: your,
        desired_min_tx_us: 10_000,
        required_min_rx_us: 10_000,
        ..Control::default()
    }
}

/// A session to which packets are handed as its neighbour would say them.
struct One {
    session: Session,
    now: Nanos,
}

impl One {
    fn new(config: SessionConfig) -> Self {
        Self { session: Session::new(START, config, 7, 1), now: START }
    }

    fn hear(&mut self, control: Control) -> Result<(), Discarded> {
        let mut bytes = Vec::new();
        control.write(0, &mut bytes);
        self.session.handle_packet(self.now, &Received::parse(&bytes).unwrap())
    }

    fn state(&mut self, state: State) -> State {
        self.hear(said(state, 7)).unwrap();
        self.session.state()
    }

    fn up(config: SessionConfig) -> Self {
        let mut one = Self::new(config);
        assert_eq!(one.state(State::Down), State::Init);
        assert_eq!(one.state(State::Init), State::Up);
        one.hear(Control { is_final: true, ..said(State::Up, 7) }).unwrap();
        one
    }

    fn sent(&mut self) -> Option<Control> {
        let mut out = Vec::new();
        let is_sent = self.session.poll_transmit(self.now, &mut out);
        is_sent.then(|| Received::parse(&out).unwrap().control)
    }

    /// Moves to the next time at which something is due, and returns how long that took.
    fn next(&mut self) -> Duration {
        let before = self.now;
        self.now = self.session.poll_timeout().unwrap().max(self.now);
        self.session.handle_timeout(self.now);
        self.now.since(before)
    }

    fn why(&mut self) -> Why {
        let events: Vec<Event> = std::iter::from_fn(|| self.session.poll_event()).collect();
        match events.last() {
            Some(Event::State { why, .. }) => *why,
            other => panic!("{other:?}"),
        }
    }
}

/// RFC 5880, section 6.8.6: each state with each state of the neighbour.
#[test]
fn each_state_follows_from_what_the_neighbor_says() {
    use State::{AdminDown, Down, Init, Up};
    for (own, heard, expected) in [
        (Down, AdminDown, Down),
        (Down, Down, Init),
        (Down, Init, Up),
        (Down, Up, Down),
        (Init, AdminDown, Down),
        (Init, Down, Init),
        (Init, Init, Up),
        (Init, Up, Up),
        (Up, AdminDown, Down),
        (Up, Down, Down),
        (Up, Init, Up),
        (Up, Up, Up),
    ] {
        let mut one = match own {
            Down | AdminDown => One::new(config(10)),
            Init => {
                let mut one = One::new(config(10));
                one.state(Down);
                one
            }
            Up => One::up(config(10)),
        };
        assert_eq!(one.session.state(), own);
        assert_eq!(one.state(heard), expected, "{own:?} hears {heard:?}");
    }
}

#[test]
fn a_silent_neighbor_is_down_after_its_multiplier_of_the_slower_interval() {
    let mut one = One::up(config(50));
    one.hear(Control { multiplier: 4, desired_min_tx_us: 20_000, ..said(State::Up, 7) }).unwrap();
    assert_eq!(one.session.detection_time(), 200 * MS, "ours is slower");
    one.hear(Control { multiplier: 4, desired_min_tx_us: 70_000, ..said(State::Up, 7) }).unwrap();
    assert_eq!(one.session.detection_time(), 280 * MS, "theirs is");
    let heard = one.now;
    while one.session.state() == State::Up {
        one.sent();
        one.next();
    }
    assert_eq!(one.now.since(heard), 280 * MS);
    assert_eq!((one.why(), one.session.diagnostic()), (Why::Expired, Diagnostic::Expired));
    let says = one.sent().expect("at once");
    assert_eq!((says.state, says.diagnostic), (State::Down, Diagnostic::Expired));
    assert_eq!(says.your_discriminator, 0, "nobody is known");
    assert!(says.desired_min_tx_us >= 1_000_000);
    // It is told why until the session is up again.
    assert_eq!(one.state(State::Down), State::Init);
    assert_eq!(one.sent().unwrap().diagnostic, Diagnostic::Expired);
    assert_eq!(one.state(State::Up), State::Up);
    assert_eq!(one.sent().unwrap().diagnostic, Diagnostic::None);
}

#[test]
fn why_a_session_is_down_is_told_apart() {
    let mut one = One::up(config(10));
    one.hear(Control { diagnostic: Diagnostic::PathDown, ..said(State::Down, 7) }).unwrap();
    assert_eq!(one.why(), Why::NeighborDown(Diagnostic::PathDown));
    assert_eq!(one.session.diagnostic(), Diagnostic::NeighborDown);

    let mut one = One::up(config(10));
    one.state(State::AdminDown);
    assert_eq!(one.why(), Why::NeighborAdminDown);

    let mut one = One::up(config(10));
    one.session.handle_path_down(one.now);
    assert_eq!((one.why(), one.session.diagnostic()), (Why::PathDown, Diagnostic::PathDown));

    let mut one = One::up(config(10));
    one.session.set_admin_down(one.now, true);
    assert_eq!((one.why(), one.session.diagnostic()), (Why::AdminDown, Diagnostic::AdminDown));
    assert_eq!(one.sent().unwrap().state, State::AdminDown);
    for state in [State::Down, State::Init, State::Up] {
        assert_eq!(one.hear(said(state, 7)), Err(Discarded::AdminDown));
        assert_eq!(one.session.state(), State::AdminDown);
    }
    one.session.set_admin_down(one.now, false);
    assert_eq!(one.session.state(), State::Down);
    assert_eq!(one.state(State::Down), State::Init);
}

/// RFC 5880, section 6.8.7.
#[test]
fn packets_go_out_in_the_slower_interval_less_a_quarter_at_most() {
    for (multiplier, least, most) in [(3, 750, 1000), (1, 750, 900)] {
        let mut one = One::up(SessionConfig { multiplier, ..config(10) });
        one.hear(Control { required_min_rx_us: 40_000, multiplier: 20, ..said(State::Up, 7) })
            .unwrap();
        one.sent();
        let mut seen = (Duration::MAX, Duration::ZERO);
        for _ in 0..500 {
            one.hear(Control { required_min_rx_us: 40_000, multiplier: 20, ..said(State::Up, 7) })
                .unwrap();
            let gap = one.next();
            assert!(one.sent().is_some());
            assert!(one.sent().is_none(), "once");
            seen = (seen.0.min(gap), seen.1.max(gap));
        }
        assert!(seen.0 >= 40 * MS * least / 1000 && seen.1 <= 40 * MS * most / 1000, "{seen:?}");
        assert!(seen.1 > seen.0 + 4 * MS, "drawn each time: {seen:?}");
    }
}

/// So that a router with many sessions wakes up for some of them at once: here each of 32 ms has 32 such times.
#[test]
fn sessions_share_the_times_at_which_they_send() {
    let mut one = One::up(config(32));
    one.sent();
    let mut gaps = BTreeSet::new();
    for _ in 0..300 {
        one.hear(said(State::Up, 7)).unwrap();
        gaps.insert(one.next());
        assert!(one.sent().is_some());
        assert_eq!(one.now.0 % 1_000_000, 0, "{:?}", one.now);
    }
    assert!(gaps.len() >= 6, "drawn each time: {gaps:?}");
}

#[test]
fn a_poll_is_answered_at_once_and_own_ones_end() {
    let mut one = One::up(config(10));
    while one.sent().is_some() {}
    one.hear(Control { poll: true, ..said(State::Up, 7) }).unwrap();
    assert_eq!(one.session.poll_timeout(), Some(Nanos::ZERO));
    let answer = one.sent().unwrap();
    assert!(answer.is_final && !answer.poll);
    assert!(one.sent().is_none());
    one.session.set_config(one.now, config(30));
    one.next();
    let poll = one.sent().unwrap();
    assert_eq!((poll.poll, poll.desired_min_tx_us), (true, 30_000));
    assert_eq!(one.session.interval(), Some(10 * MS), "until it is confirmed");
    one.hear(Control { is_final: true, ..said(State::Up, 7) }).unwrap();
    assert_eq!(one.session.interval(), Some(30 * MS));
    one.next();
    assert!(!one.sent().unwrap().poll);
}

#[test]
fn nothing_is_sent_to_who_wants_nothing() {
    let mut passive = One::new(SessionConfig { passive: true, ..config(10) });
    assert_eq!((passive.session.poll_timeout(), passive.sent()), (None, None));
    passive.state(State::Down);
    assert_eq!(passive.sent().unwrap().state, State::Init);

    let mut one = One::up(config(10));
    one.sent();
    one.hear(Control { required_min_rx_us: 0, ..said(State::Up, 7) }).unwrap();
    one.now += 5 * MS;
    assert_eq!(one.sent(), None);
    assert_eq!(one.session.poll_timeout(), one.session.detection_due());
    one.hear(Control { required_min_rx_us: 10_000, poll: true, ..said(State::Up, 7) }).unwrap();
    assert!(one.sent().unwrap().is_final);
    one.now += 10 * MS;
    assert!(one.sent().is_some());

    let mut demand = One::up(config(10));
    demand.sent();
    demand.hear(Control { demand: true, ..said(State::Up, 7) }).unwrap();
    demand.now += 15 * MS;
    assert_eq!(demand.sent(), None, "it knows that the session is up");
    demand.session.set_config(demand.now, config(20));
    assert!(demand.sent().unwrap().poll, "but a poll");
}

#[test]
fn a_session_that_sends_late_asks_for_slower_intervals() {
    let mut one = One::up(config(10));
    while one.sent().is_some() {}
    one.now += 25 * MS;
    let poll = loop {
        let sent = one.sent().unwrap();
        if sent.poll {
            break sent;
        }
        one.now += 25 * MS;
    };
    assert_eq!((poll.desired_min_tx_us, poll.required_min_rx_us), (20_000, 20_000));
    let paces = std::iter::from_fn(|| one.session.poll_event());
    assert_eq!(paces.filter(|event| matches!(event, Event::Pace { factor: 2, .. })).count(), 1);
}

/// Two ends, and what is on its way between them.
struct Pair {
    ends: [Machine; 2],
    ids: [SessionId; 2],
    now: Nanos,
    /// When it arrives, where, and what.
    flying: Vec<(Nanos, usize, Vec<u8>)>,
    events: [Vec<Event>; 2],
}

fn ends(of: usize) -> Ends {
    let address = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
    let (local, remote) = if of == 0 { (1, 2) } else { (2, 1) };
    Ends { local: address(local), remote: address(remote), link: Some(PortId(3)) }
}

impl Pair {
    fn new(configs: [SessionConfig; 2]) -> Self {
        let mut machines = [Machine::new(1), Machine::new(2)];
        let mut at = 0;
        let ids = configs.map(|config| {
            let id = machines[at].add(START, ends(at), config).unwrap();
            at += 1;
            id
        });
        Self { ends: machines, ids, now: START, flying: Vec::new(), events: Default::default() }
    }

    fn state(&self, end: usize) -> State {
        self.ends[end].get(self.ids[end]).unwrap().1.state()
    }

    /// Lets time pass; `fate` says how long each packet takes, or that it is lost.
    fn run(&mut self, until: Nanos, mut fate: impl FnMut(usize, Nanos) -> Option<Duration>) {
        let mut out = Vec::new();
        loop {
            for end in 0..2 {
                self.ends[end].handle_timeout(self.now, |_, _| false);
                while self.ends[end].poll_transmit(self.now, &mut out).is_some() {
                    if let Some(delay) = fate(end, self.now) {
                        self.flying.push((self.now + delay, 1 - end, out.clone()));
                    }
                }
                let events = std::iter::from_fn(|| self.ends[end].poll_event());
                self.events[end].extend(events.map(|(_, event)| event));
            }
            let arrival = self.flying.iter().map(|(at, ..)| *at).min();
            let timers = self.ends.iter().filter_map(Machine::poll_timeout);
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let arrived: Vec<_> = self.flying.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, end, bytes) in arrived {
                let _ = self.ends[end].handle_packet(self.now, ends(end), &bytes);
            }
        }
    }
}

#[test]
fn two_ends_come_up_agree_on_intervals_and_notice_a_cut() {
    let mut pair = Pair::new([config(10), config(40)]);
    pair.run(START + 3000 * MS, |_, _| Some(MS));
    for end in 0..2 {
        let session = pair.ends[end].get(pair.ids[end]).unwrap().1;
        assert_eq!(session.state(), State::Up);
        assert_eq!(session.interval(), Some(40 * MS), "the slower of both");
        assert_eq!(session.detection_time(), 120 * MS);
    }
    let cut = pair.now;
    // One direction is enough: the deaf end says that it is, the other one hears it.
    pair.run(cut + 400 * MS, |end, _| (end == 1).then_some(MS));
    let down = |end: usize| {
        pair.events[end].iter().find_map(|event| match event {
            Event::State { at, from: State::Up, why, .. } => Some((at.since(cut), *why)),
            _ => None,
        })
    };
    let (heard_by_1, why_1) = down(1).unwrap();
    assert!((80 * MS..=121 * MS).contains(&heard_by_1), "{heard_by_1:?}");
    assert_eq!(why_1, Why::Expired);
    let (heard_by_0, why_0) = down(0).unwrap();
    assert_eq!(why_0, Why::NeighborDown(Diagnostic::Expired));
    assert!(heard_by_0 <= heard_by_1 + 2 * MS, "at once: {heard_by_0:?}");
}

#[test]
fn a_neighbor_that_starts_again_is_taken_up_again() {
    let mut pair = Pair::new([config(10), config(10)]);
    pair.run(START + 3000 * MS, |_, _| Some(MS));
    pair.ends[1] = Machine::new(77);
    pair.ids[1] = pair.ends[1].add(pair.now, ends(1), config(10)).unwrap();
    let again = pair.now;
    pair.run(again + 4000 * MS, |_, _| Some(MS));
    assert_eq!((pair.state(0), pair.state(1)), (State::Up, State::Up));
    let noticed = pair.events[0]
        .iter()
        .any(|event| matches!(event, Event::State { at, from: State::Up, .. } if *at >= again));
    assert!(noticed, "it was down in between");
}

#[test]
fn a_replayed_or_forged_packet_changes_nothing() {
    let auth = || Authentication::new(true, 1, b"key");
    let secret = || SessionConfig { auth: auth(), ..config(10) };
    let mut pair = Pair::new([secret(), secret()]);
    pair.run(START + 3000 * MS, |_, _| Some(MS));
    assert_eq!((pair.state(0), pair.state(1)), (State::Up, State::Up));
    let mut recorded = Vec::new();
    let mut out = Vec::new();
    while recorded.len() < 3 {
        pair.now = pair.ends[0].poll_timeout().unwrap();
        pair.ends[0].handle_timeout(pair.now, |_, _| true);
        while pair.ends[0].poll_transmit(pair.now, &mut out).is_some() {
            recorded.push(out.clone());
        }
    }
    recorded.truncate(3);
    let now = pair.now;
    for bytes in &recorded {
        assert!(pair.ends[1].handle_packet(now, ends(1), bytes).is_ok());
    }
    let replay = pair.ends[1].handle_packet(now, ends(1), &recorded[0]).unwrap_err();
    assert_eq!(replay.label(), "auth-sequence");
    let mut forged = recorded[2].clone();
    forged[1] = State::Down as u8;
    assert!(pair.ends[1].handle_packet(now, ends(1), &forged).is_err());
    assert_eq!(pair.state(1), State::Up);
    let strict = Pair::new([secret(), config(10)]);
    let mut strict = Pair { now: START, ..strict };
    strict.run(START + 3000 * MS, |_, _| Some(MS));
    assert_eq!((strict.state(0), strict.state(1)), (State::Down, State::Down));
}

#[test]
fn a_packet_goes_to_the_session_between_its_ends() {
    let mut machine = Machine::new(5);
    let id = machine.add(START, ends(0), config(10)).unwrap();
    let own = machine.get(id).unwrap().1.discriminator();
    let bytes = |control: Control| {
        let mut out = Vec::new();
        control.write(0, &mut out);
        out
    };
    let strangers = Ends { remote: IpAddr::from([10, 0, 0, 3]), ..ends(0) };
    let elsewhere = Ends { link: Some(PortId(4)), ..ends(0) };
    for (ends, your, expected) in [
        (strangers, 0, Dropped::NoSession),
        (elsewhere, 0, Dropped::NoSession),
        (strangers, own, Dropped::OtherEnds),
        (elsewhere, own, Dropped::OtherEnds),
        (ends(0), own ^ 1, Dropped::NoSession),
    ] {
        let packet = bytes(said(State::Down, your));
        assert_eq!(machine.handle_packet(START, ends, &packet), Err(expected), "{ends:?} {your}");
    }
    let short = machine.handle_packet(START, ends(0), &[0x20; 10]);
    assert_eq!(short, Err(Dropped::Malformed(Malformed::Short)));
    assert_eq!(machine.handle_packet(START, ends(0), &bytes(said(State::Down, 0))), Ok(id));
    assert_eq!(machine.get(id).unwrap().1.state(), State::Init);
    assert_eq!(machine.dropped()["other-ends"], 2);

    machine.remove(id);
    let gone = machine.handle_packet(START, ends(0), &bytes(said(State::Down, 0)));
    assert_eq!(gone, Err(Dropped::NoSession));
    machine.handle_timeout(START + 10_000 * MS, |_, _| false);
    assert_eq!(machine.poll_transmit(START + 10_000 * MS, &mut Vec::new()), None);
}

#[test]
fn a_neighbor_whose_packets_may_lie_unread_is_not_called_silent() {
    let mut pair = Pair::new([config(10), config(10)]);
    pair.run(START + 3000 * MS, |_, _| Some(MS));
    let late = pair.now + 500 * MS;
    pair.ends[0].handle_timeout(late, |ends, due| ends.link == Some(PortId(3)) && due < late);
    assert_eq!(pair.state(0), State::Up);
    while pair.ends[0].poll_transmit(late, &mut Vec::new()).is_some() {}
    assert!(pair.ends[0].poll_timeout().unwrap() > late, "it is asked again later");
    pair.ends[0].handle_timeout(late + 2 * MS, |_, _| false);
    assert_eq!(pair.state(0), State::Down);
}

#[test]
fn the_carrier_of_a_port_takes_down_the_sessions_over_it() {
    let mut pair = Pair::new([config(10), config(10)]);
    pair.run(START + 3000 * MS, |_, _| Some(MS));
    let now = pair.now;
    pair.ends[0].handle_carrier_lost(now, PortId(9));
    assert_eq!(pair.state(0), State::Up);
    pair.ends[0].handle_carrier_lost(now, PortId(3));
    assert_eq!(pair.state(0), State::Down);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Over a link that loses and delays, two ends are never up for long without being heard, and come up once
    /// it is well.
    #[test]
    fn two_ends_agree_after_any_faults(
        seed: u64, (tx0, tx1) in (5u32..60, 5u32..60), (m0, m1) in (1u8..5, 1u8..5),
        loss in 0u64..90, wide in 1u64..30,
    ) {
        let mut rng = crate::random::Rng::new(seed);
        let with = |ms, multiplier| SessionConfig { multiplier, ..config(ms) };
        let mut pair = Pair::new([with(tx0, m0), with(tx1, m1)]);
        let troubled = START + 5000 * MS;
        pair.run(troubled, |_, _| {
            (rng.below(100) >= loss).then(|| Duration::from_micros(rng.below(wide * 1000)))
        });
        pair.run(troubled + 6000 * MS, |_, _| Some(Duration::from_micros(200)));
        prop_assert_eq!((pair.state(0), pair.state(1)), (State::Up, State::Up));
        let settled = pair.now;
        pair.events.iter_mut().for_each(Vec::clear);
        pair.run(settled + 2000 * MS, |_, _| Some(Duration::from_micros(200)));
        prop_assert!(pair.events.iter().all(Vec::is_empty), "{:?}", pair.events);
        // Cut: both are down within the longer detection time.
        let longest = (0..2).map(|end| pair.ends[end].get(pair.ids[end]).unwrap().1.detection_time());
        let longest = longest.max().unwrap();
        let cut = pair.now;
        pair.run(cut + longest + MS, |_, _| None);
        prop_assert_eq!((pair.state(0), pair.state(1)), (State::Down, State::Down));
    }
}
