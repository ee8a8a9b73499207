//! Two sessions with each other, through pipes whose bytes come in pieces.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::routes::{nlri, route};
use super::*;
use crate::bgp::{AddPath, AsPath};

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    closed: bool,
}

/// One of the two, and what it has of the other's routes.
struct Node {
    session: Session,
    store: AttributeStore,
    routes: BTreeMap<Nlri, Option<u32>>,
    ends: usize,
    established: usize,
    room: bool,
}

/// Two neighbours. The connection `side` of the first is the other side's of the second.
struct Pair {
    nodes: [Node; 2],
    /// From each node, by its side.
    pipes: [[Option<Pipe>; 2]; 2],
    now: Nanos,
}

const SIDES: [Side; 2] = [Side::Incoming, Side::Outgoing];

impl Pair {
    fn new(configs: [SessionConfig; 2], seed: u64) -> Self {
        let node = |(at, config): (u64, SessionConfig)| Node {
            session: Session::new(config, seed + at),
            store: AttributeStore::default(),
            routes: BTreeMap::new(),
            ends: 0,
            established: 0,
            room: true,
        };
        let [first, second] = configs;
        let mut pair = Self {
            nodes: [node((0, first)), node((1, second))],
            pipes: Default::default(),
            now: Nanos(1_000_000_000),
        };
        for at in 0..2 {
            pair.nodes[at].session.start(pair.now);
        }
        pair
    }

    /// One turn of a node: what it does and hears, at most `piece` octets of each connection.
    fn turn(&mut self, at: usize, piece: usize) {
        self.act(at);
        for side in SIDES {
            self.carry(at, side, piece);
            self.act(at);
        }
        let node = &mut self.nodes[at];
        loop {
            match node.session.receive(self.now, &mut node.store, node.room) {
                Progress::Idle | Progress::Full => break,
                Progress::Handled
                | Progress::Received(Received::RefreshBegin(_) | Received::RefreshEnd(_)) => {}
                Progress::Received(Received::Update(update)) => {
                    assert_eq!(update.faults, []);
                    for nlri in update.withdrawn {
                        node.routes.remove(&nlri);
                    }
                    for announced in update.announced {
                        let med = announced.attributes.med;
                        node.routes.extend(announced.nlri.into_iter().map(|nlri| (nlri, med)));
                    }
                    node.ends += usize::from(update.end_of_rib.is_some());
                }
            }
        }
        while let Some(event) = node.session.poll_event() {
            match event {
                Event::Established(_) => node.established += 1,
                Event::Down { was_established: true, .. } => {
                    (node.routes, node.ends) = (BTreeMap::new(), 0);
                }
                _ => {}
            }
        }
        self.act(at);
    }

    fn act(&mut self, at: usize) {
        while let Some(action) = self.nodes[at].session.poll_action() {
            let other = 1 - at;
            match action {
                Action::Connect { .. } => {
                    let accepted = self.nodes[other]
                        .session
                        .handle_connected(self.now, Side::Incoming)
                        .is_ok();
                    if !accepted {
                        self.nodes[at].session.handle_closed(self.now, Side::Outgoing);
                        continue;
                    }
                    self.pipes[at][1] = Some(Pipe::default());
                    self.pipes[other][0] = Some(Pipe::default());
                    let own = self.nodes[at].session.handle_connected(self.now, Side::Outgoing);
                    own.expect("a connection that was asked for");
                }
                Action::Close { side, last } => {
                    if let Some(pipe) = &mut self.pipes[at][side as usize] {
                        pipe.bytes.extend(last);
                        pipe.closed = true;
                    }
                }
            }
        }
    }

    /// Sends what there is, and hears a piece of what the other sent.
    fn carry(&mut self, at: usize, side: Side, piece: usize) {
        let node = &mut self.nodes[at];
        let bytes = node.session.transmit(self.now, side);
        let count = bytes.len().min(piece);
        if let Some(pipe) = &mut self.pipes[at][side as usize]
            && !pipe.closed
        {
            pipe.bytes.extend(&bytes[..count]);
            node.session.handle_sent(self.now, side, count);
        }
        let from = &mut self.pipes[1 - at][side.other() as usize];
        let Some(pipe) = from else { return };
        let (front, _) = pipe.bytes.as_slices();
        let heard: Vec<u8> = front[..front.len().min(piece)].to_vec();
        let taken = node.session.handle_bytes(side, &heard);
        pipe.bytes.drain(..taken);
        // Closed on our side, nobody reads it any more.
        let own_closed = self.pipes[at][side as usize].as_ref().is_none_or(|pipe| pipe.closed);
        let pipe = self.pipes[1 - at][side.other() as usize].as_ref();
        if pipe.is_some_and(|pipe| pipe.closed && (pipe.bytes.is_empty() || own_closed)) {
            self.pipes[1 - at][side.other() as usize] = None;
            if !own_closed {
                // What came before the end is read before the end.
                self.read_rest(at);
                self.nodes[at].session.handle_closed(self.now, side);
                if let Some(pipe) = &mut self.pipes[at][side as usize] {
                    pipe.closed = true;
                }
            }
        }
    }

    fn read_rest(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        while node.session.receive(self.now, &mut node.store, false) == Progress::Handled {}
        self.act(at);
    }

    fn time(&mut self) {
        let due = self.nodes.iter().filter_map(|node| node.session.poll_timeout()).min();
        self.now = self.now.max(due.expect("a timer"));
        for node in &mut self.nodes {
            node.session.handle_timeout(self.now);
        }
    }

    fn is_established(&self) -> bool {
        self.nodes.iter().all(|node| node.session.state() == State::Established)
    }

    /// Turns until both are established. Time passes when nothing is on its way.
    fn establish(&mut self, pieces: &mut impl Iterator<Item = usize>) {
        for turn in 0..100_000 {
            if self.is_established() {
                return;
            }
            self.turn(turn % 2, pieces.next().expect("pieces without end"));
            if turn % 2 == 1 && self.is_quiet() && !self.is_established() {
                self.time();
            }
        }
        let states = self.nodes.each_ref().map(|node| node.session.state());
        panic!("no session after 100,000 turns: {states:?}");
    }

    /// Whether no byte is on its way or waits to be.
    fn is_quiet(&mut self) -> bool {
        let now = self.now;
        let mut is_silent =
            |side| self.nodes.iter_mut().all(|node| node.session.transmit(now, side).is_empty());
        let empty = |pipe: &Option<Pipe>| {
            pipe.as_ref().is_none_or(|pipe| pipe.bytes.is_empty() && !pipe.closed)
        };
        SIDES.into_iter().all(&mut is_silent) && self.pipes.iter().flatten().all(empty)
    }

    /// Turns until nothing is on its way.
    fn settle(&mut self, pieces: &mut impl Iterator<Item = usize>) {
        for turn in 0..1_000_000 {
            self.turn(turn % 2, pieces.next().expect("pieces without end"));
            let is_sent = |node: &Node| node.session.unsent() == 0;
            if turn % 2 == 1 && self.is_quiet() && self.nodes.iter().all(is_sent) {
                return;
            }
        }
        panic!("not settled after a million turns");
    }
}

/// A route of one of the two.
fn route_of(at: usize, med: u32) -> Arc<Attributes> {
    let as_path = AsPath::sequence(&[[OWN_AS, REMOTE_AS][at]]);
    Arc::new(Attributes { as_path, ..Attributes::clone(&route(med)) })
}

/// What one says to the other.
#[derive(Clone, Copy, Debug)]
enum Change {
    Announce(u32, u32),
    Withdraw(u32),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (0..50u32, 0..5u32).prop_map(|(number, med)| Change::Announce(number, med)),
        1 => (0..50u32).prop_map(Change::Withdraw),
    ];
    vec(change, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_agree_however_their_bytes_are_cut(
        seed: u64,
        cuts in vec(1..60usize, 1..40),
        changes in vec(changes(), 2),
        with_paths: bool,
        flow in vec(any::<bool>(), 1..20),
    ) {
        let mut configs = [config(), remote_config()];
        if with_paths {
            for config in &mut configs {
                config.add_path.ipv4 = AddPath { send: true, receive: true };
            }
        }
        let mut pair = Pair::new(configs, seed);
        let mut pieces = cuts.into_iter().cycle();
        pair.establish(&mut pieces);
        let mut expected = [BTreeMap::new(), BTreeMap::new()];
        let mut flow = flow.into_iter().cycle();
        for (at, changes) in changes.iter().enumerate() {
            for change in changes {
                let session = &mut pair.nodes[at].session;
                match *change {
                    Change::Announce(number, med) => {
                        session.announce(nlri(number), &route_of(at, med)).unwrap();
                        expected[1 - at].insert(nlri(number), Some(med));
                    }
                    Change::Withdraw(number) => {
                        session.withdraw(nlri(number)).unwrap();
                        expected[1 - at].remove(&nlri(number));
                    }
                }
                // A full lane for a while.
                pair.nodes[1 - at].room = flow.next().unwrap();
                pair.turn(1 - at, pieces.next().unwrap());
                pair.turn(at, pieces.next().unwrap());
            }
            pair.nodes[at].session.end_of_rib(Family::Ipv4).unwrap();
        }
        for node in &mut pair.nodes {
            node.room = true;
        }
        pair.settle(&mut pieces);
        prop_assert!(pair.is_established());
        for (node, expected) in pair.nodes.iter().zip(&expected) {
            prop_assert_eq!(&node.routes, expected);
            prop_assert_eq!(node.ends, 1);
        }
    }
}

#[test]
fn both_that_connect_at_once_end_with_one_connection() {
    for seed in 0..200 {
        let mut pair = Pair::new([config(), remote_config()], seed);
        let sizes = [1 + seed as usize % 90, 7, 200];
        pair.establish(&mut sizes.into_iter().cycle());
        pair.settle(&mut sizes.into_iter().cycle());
        assert!(pair.is_established(), "seed {seed}");
        let open = pair.pipes.iter().flatten().flatten().filter(|pipe| !pipe.closed).count();
        assert_eq!(open, 2, "seed {seed}: both directions of one connection");
    }
}

#[test]
fn an_octet_at_a_time_is_enough() {
    let mut pair = Pair::new([config(), remote_config()], 7);
    pair.establish(&mut std::iter::repeat(1));
    for number in 0..300 {
        pair.nodes[0].session.announce(nlri(number), &route(number % 3)).unwrap();
    }
    pair.settle(&mut std::iter::repeat(1));
    assert_eq!(pair.nodes[1].routes.len(), 300);
}

#[test]
fn a_session_that_is_restarted_comes_back() {
    let mut pair = Pair::new([config(), remote_config()], 3);
    let mut pieces = std::iter::repeat(4096);
    pair.establish(&mut pieces);
    let reset = Notification::shutdown(codes::ADMIN_RESET, "new policy");
    pair.nodes[0].session.restart(pair.now, &reset);
    while pair.is_established() || pair.nodes[1].session.state() == State::Established {
        pair.turn(0, 4096);
        pair.turn(1, 4096);
    }
    pair.establish(&mut pieces);
    assert_eq!(pair.nodes.each_ref().map(|node| node.established), [2, 2]);
}
