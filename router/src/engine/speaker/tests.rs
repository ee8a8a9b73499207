//! Two speakers on two hosts that are connected directly, each polled as its thread would: after packets, and
//! when it says so.

mod turns;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crossbeam_channel::{Receiver, bounded};
use nearhop_fib::{AdjacencyId, IpPrefix};

use super::*;
use crate::bgp::lane::{BgpOrder, Link, NeighborSpec, Peering, RangeSpec};
use crate::bgp::lease::LeaseRules;
use crate::bgp::session::{Received, RemoteAs, SessionConfig, State};
use crate::bgp::{AsPath, Attributes, Community, NextHop, Nlri};
use crate::host::HostConfig;
use crate::ids::PortId;

const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
const ID: NeighborId = NeighborId(1);

/// Of a link that two speakers find each other on.
const ON_LINK: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)),
];
const LINK: Link = Link { port: PortId(1), adjacency: AdjacencyId(9) };

struct Node {
    host: Host,
    speaker: Speaker,
    news: Receiver<BgpNews>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicBool>,
    /// Until when its thread sleeps.
    sleeps_until: Option<Nanos>,
}

struct Pair {
    nodes: Vec<Node>,
    now: Nanos,
    /// When packets arrive, and where.
    air: VecDeque<(Nanos, usize, Vec<u8>)>,
}

impl Node {
    fn new(index: usize, lane: usize) -> Self {
        let mut node = Self::alone(index, ADDRESSES[index].into());
        node.begin(Nanos::ZERO, index, lane, false);
        node
    }

    /// One of two on a link, which does not know the other's address.
    fn on_link(index: usize) -> Self {
        let mut node = Self::alone(index, ON_LINK[index]);
        node.begin_between(Nanos::ZERO, (index, 64), (ON_LINK[index], None), (Some(LINK), false));
        node
    }

    /// One without a neighbour.
    fn alone(index: usize, local: IpAddr) -> Self {
        let config = HostConfig { addresses: vec![local], mtu: 1500, seed: 5 };
        Self {
            host: Host::new(Nanos::ZERO, config),
            speaker: Speaker::new(index as u64),
            news: bounded(0).1,
            waiting: Arc::default(),
            lost: Arc::default(),
            sleeps_until: Some(Nanos::ZERO),
        }
    }

    /// The neighbour is the other one.
    fn begin(&mut self, now: Nanos, index: usize, lane: usize, dynamic: bool) {
        let ends = (ADDRESSES[index].into(), Some(ADDRESSES[1 - index].into()));
        self.begin_between(now, (index, lane), ends, (None, dynamic));
    }

    fn begin_between(
        &mut self,
        now: Nanos,
        (index, lane): (usize, usize),
        (local, address): (IpAddr, Option<IpAddr>),
        (link, dynamic): (Option<Link>, bool),
    ) {
        let asn = |index: usize| 65_001 + index as u32;
        let session = SessionConfig {
            passive: index == 0,
            dynamic,
            link_scoped: link.is_some(),
            ..SessionConfig::new(asn(index), ADDRESSES[index], RemoteAs::Exactly(asn(1 - index)))
        };
        let peering = Peering { address, link, local, ttl: u8::MAX, session };
        let (lane, news) = bounded(lane);
        self.news = news;
        let (lost, waiting) = (Arc::clone(&self.lost), Arc::clone(&self.waiting));
        let spec = NeighborSpec { id: ID, peering, lane, transcript: 0, lost, waiting };
        self.order(now, BgpOrder::Begin(Box::new(spec)));
    }

    fn order(&mut self, now: Nanos, order: BgpOrder) {
        self.speaker.handle_order(now, &mut self.host, order);
        self.sleeps_until = Some(now);
    }

    /// Takes a message from the lane, as the control plane does.
    fn take(&mut self) -> Option<BgpNews> {
        let news = self.news.try_recv().ok()?;
        self.waiting.fetch_sub(news.prefixes(), Ordering::Relaxed);
        Some(news)
    }
}

impl Pair {
    fn new(lane: usize) -> Self {
        let nodes = vec![Node::new(0, lane), Node::new(1, 64)];
        Self { nodes, now: Nanos::ZERO, air: VecDeque::new() }
    }

    /// A tenth of a millisecond passes. Returns how many news the first speaker had meanwhile.
    fn step(&mut self) -> usize {
        self.now += Duration::from_micros(100);
        let mut is_due = [false; 2];
        while let Some((_, to, packet)) = self.air.pop_front_if(|(at, ..)| *at <= self.now) {
            self.nodes[to].host.handle_packet(self.now, PortId(1), &packet);
            is_due[to] = true;
        }
        let before = self.nodes[0].news.len();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if !(is_due[index] || node.sleeps_until.is_some_and(|at| at <= self.now)) {
                continue;
            }
            node.host.poll(self.now);
            node.speaker.poll(self.now, &mut node.host);
            node.host.poll(self.now);
            while let Some(out) = node.host.poll_transmit() {
                let at = self.now + Duration::from_micros(100);
                self.air.push_back((at, 1 - index, out.packet));
            }
            let timers = [node.host.poll_timeout(self.now), node.speaker.poll_timeout(self.now)];
            node.sleeps_until = timers.into_iter().flatten().min();
        }
        self.nodes[0].news.len() - before
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..300_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("{what}: not within 30 s of its clock");
    }

    /// Both have said that they are established.
    fn established(lane: usize) -> Self {
        let mut pair = Self::new(lane);
        let mut up = [false; 2];
        pair.until("established", |pair| {
            for (node, up) in pair.nodes.iter_mut().zip(&mut up) {
                while let Some(news) = node.take() {
                    *up |= matches!(news, BgpNews::Established(..));
                }
            }
            up == [true; 2]
        });
        pair
    }

    /// The second announces prefixes, each in an UPDATE of its own.
    fn announce(&mut self, count: u32) {
        let next_hop = NextHop::new(ADDRESSES[1].into());
        let as_path = AsPath::sequence(&[65_002]);
        let base = Attributes { as_path, ..Attributes::originated(next_hop) };
        let changes = (0..count).map(|n| {
            let prefix = IpPrefix::around(Ipv4Addr::from_bits(n << 8).into(), 24).unwrap();
            (Nlri::new(prefix), Some(Arc::new(Attributes { med: Some(n), ..base.clone() })))
        });
        let order = BgpOrder::Announce(ID, changes.collect(), true);
        let node = &mut self.nodes[1];
        node.speaker.handle_order(self.now, &mut node.host, order);
        node.sleeps_until = Some(self.now);
    }
}

/// A connection from a range waits for its neighbour, for a while; the neighbour is gone with its session.
#[test]
fn a_connection_from_a_range_becomes_a_neighbor_or_is_refused() {
    let mut pair = Pair::new(64);
    let (knocks, asked) = bounded(4);
    let range = |prefix: &str, limit| {
        vec![RangeSpec { prefix: prefix.parse().unwrap(), local: ADDRESSES[0].into(), limit }]
    };
    let now = pair.now;
    let node = &mut pair.nodes[0];
    node.order(now, BgpOrder::End(ID, "configured no more".into()));
    node.order(now, BgpOrder::Ranges(range("10.0.0.128/25", 1), knocks.clone()));
    let refused = |pair: &Pair| pair.nodes[0].speaker.refused();
    pair.until("a stranger", |pair| refused(pair).stranger == 1);
    assert!(asked.is_empty());

    let (now, node) = (pair.now, &mut pair.nodes[0]);
    node.order(now, BgpOrder::Ranges(range("10.0.0.0/24", 1), knocks));
    pair.until("a knock", |_| !asked.is_empty());
    assert_eq!(asked.recv().unwrap().address, IpAddr::from(ADDRESSES[1]));
    pair.until("nobody answers", |pair| refused(pair).over_limit == 1);
    pair.until("another knock", |_| !asked.is_empty());
    asked.recv().unwrap();
    let (now, node) = (pair.now, &mut pair.nodes[0]);
    node.begin(now, 0, 64, true);
    let is_news = |pair: &mut Pair, wanted: fn(&BgpNews) -> bool| {
        std::iter::from_fn(|| pair.nodes[0].take()).any(|news| wanted(&news))
    };
    pair.until("established", |pair| is_news(pair, |one| matches!(one, BgpNews::Established(..))));

    let (now, node) = (pair.now, &mut pair.nodes[1]);
    node.order(now, BgpOrder::End(ID, "it ends".into()));
    pair.until("its end", |pair| is_news(pair, |one| matches!(one, BgpNews::Ended)));
    let (now, node) = (pair.now, &mut pair.nodes[0]);
    node.order(now, BgpOrder::End(ID, "its session has ended".into()));
    assert!(node.speaker.has_neighbors() && node.speaker.counters().next().is_none());

    // A neighbour whose connection is gone by now has ended at once.
    node.begin(now, 0, 64, true);
    pair.until("its end", |pair| is_news(pair, |one| matches!(one, BgpNews::Ended)));
}

fn announced(news: &BgpNews) -> usize {
    match news {
        BgpNews::Received(Received::Update(update)) => update.announced.len(),
        _ => 0,
    }
}

/// The lane is emptied only while nothing else happens: what waits for room wakes nobody by itself.
#[test]
fn messages_that_waited_for_room_are_read_although_no_packet_comes() {
    let mut pair = Pair::established(4);
    pair.announce(3000);
    let mut count = 0;
    while count < 3000 {
        // Until the air is still: the neighbour has sent all that fits.
        let mut quiet = 0;
        while quiet < 50 {
            pair.step();
            quiet = if pair.air.is_empty() { quiet + 1 } else { 0 };
        }
        let before = count;
        while let Some(news) = pair.nodes[0].take() {
            count += announced(&news);
        }
        assert!(count > before, "{count} of 3000 came, and no more");
    }
}

/// Nothing but this wakes those who read the lane.
#[test]
fn an_update_is_news_in_the_poll_that_reads_it() {
    let mut pair = Pair::established(16);
    pair.announce(1);
    pair.until("the UPDATE", |pair| {
        let is_news = pair.nodes[0].speaker.take_news();
        let mut came = 0;
        while let Some(news) = pair.nodes[0].take() {
            came += announced(&news);
        }
        assert!(is_news || came == 0, "an UPDATE is in the lane, and nobody is woken");
        came == 1
    });
}

/// Checks have their turn between two polls, and each poll is a bounded piece of work.
#[test]
fn one_poll_reads_a_bounded_number_of_messages() {
    let mut pair = Pair::established(100_000);
    pair.announce(5000);
    let (mut count, mut most) = (0, 0);
    while count < 5000 {
        most = most.max(pair.step());
        while let Some(news) = pair.nodes[0].take() {
            count += announced(&news);
        }
    }
    assert!((2..=WORK_PER_POLL).contains(&most), "{most} messages in one poll");
}

#[test]
fn a_lost_session_is_known_although_the_lane_is_full() {
    let mut pair = Pair::established(4);
    pair.announce(500);
    pair.until("a full lane", |pair| pair.nodes[0].news.is_full());
    assert!(!pair.nodes[0].lost.load(Ordering::Acquire));
    let node = &mut pair.nodes[1];
    node.speaker.handle_order(pair.now, &mut node.host, BgpOrder::End(ID, "enough".into()));
    node.host.poll(pair.now);
    let ended = |pair: &mut Pair| pair.nodes[0].lost.load(Ordering::Acquire);
    // Its last message stands behind those that wait for room.
    pair.until("the end", |pair| {
        if ended(pair) {
            return true;
        }
        pair.nodes[0].take();
        false
    });
    assert!(pair.nodes[0].speaker.take_news());
}

/// What the first speaker knows of the second's prefixes: whether each is one that nobody prefers.
#[derive(Default)]
struct Known(BTreeMap<IpPrefix, bool>);

impl Known {
    fn hear(&mut self, pair: &mut Pair) {
        while let Some(news) = pair.nodes[0].take() {
            let BgpNews::Received(Received::Update(update)) = news else { continue };
            for nlri in update.withdrawn {
                self.0.remove(&nlri.prefix);
            }
            for announced in update.announced {
                let is_low = announced.attributes.is_deprioritised();
                self.0.extend(announced.nlri.iter().map(|nlri| (nlri.prefix, is_low)));
            }
        }
    }

    /// How many are announced, and how many of them are such.
    fn counts(&self) -> (usize, usize) {
        (self.0.len(), self.0.values().filter(|is_low| **is_low).count())
    }
}

/// Nobody orders anything: the one who would stands still.
#[test]
fn while_a_part_stands_still_all_is_deprioritised_and_then_withdrawn() {
    let mut pair = Pair::established(10_000);
    pair.announce(300);
    let rules = LeaseRules { withdraw: Some(Duration::from_secs(2)), ..LeaseRules::default() };
    let order = |pair: &mut Pair, order| {
        let node = &mut pair.nodes[1];
        node.speaker.handle_order(pair.now, &mut node.host, order);
        node.sleeps_until = Some(pair.now);
    };
    order(&mut pair, BgpOrder::Lease(rules));
    // Of a prefix whose packets are to be discarded, the announcement is no invitation.
    let blocked: IpPrefix = "192.0.2.1/32".parse().unwrap();
    let mut attributes = Attributes::originated(NextHop::new(ADDRESSES[1].into()));
    attributes.as_path = AsPath::sequence(&[65_002]);
    attributes.add_communities(&[Community::BLACKHOLE]);
    let route = |prefix: IpPrefix, attributes: &Attributes| {
        BgpOrder::Announce(ID, vec![(Nlri::new(prefix), Some(Arc::new(attributes.clone())))], false)
    };
    order(&mut pair, route(blocked, &attributes));
    let (mut known, mut turns, mut moves) = (Known::default(), 0, true);
    let mut run = |pair: &mut Pair, moves: bool, counts: (usize, usize)| {
        pair.until(&format!("{counts:?}"), |pair| {
            if pair.nodes[1].speaker.next_look().is_some_and(|at| at <= pair.now) {
                turns += u64::from(moves);
                let looked = [(Part::Control, turns), (Part::Liveness, pair.now.0)];
                pair.nodes[1].speaker.look(pair.now, looked);
                pair.nodes[1].sleeps_until = Some(pair.now);
            }
            known.hear(pair);
            known.counts() == counts
        });
    };
    run(&mut pair, moves, (301, 0));
    moves = false;
    run(&mut pair, moves, (301, 300));
    // What is ordered meanwhile is announced no better.
    attributes.communities = Box::default();
    order(&mut pair, route("192.0.2.2/32".parse().unwrap(), &attributes));
    run(&mut pair, moves, (302, 301));
    run(&mut pair, moves, (1, 0));
    moves = true;
    run(&mut pair, moves, (302, 0));
    assert_eq!(pair.nodes[1].speaker.lease.state(), LeaseState::Held);
    let said: Vec<_> = std::iter::from_fn(|| pair.nodes[1].take()).collect();
    let states = said.iter().filter_map(|news| match news {
        BgpNews::Lease(_, state) => Some(*state),
        _ => None,
    });
    let part = Part::Control;
    assert_eq!(
        states.collect::<Vec<_>>(),
        [LeaseState::Deprioritised(part), LeaseState::Withdrawn(part), LeaseState::Held]
    );
}

impl Pair {
    /// Two on a link, none of which has heard of the other.
    fn on_link() -> Self {
        let nodes = vec![Node::on_link(0), Node::on_link(1)];
        Self { nodes, now: Nanos::ZERO, air: VecDeque::new() }
    }

    fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn meet(&mut self, index: usize, port: PortId, address: IpAddr) {
        let node = &mut self.nodes[index];
        node.speaker.meet(self.now, &mut node.host, port, address);
        node.sleeps_until = Some(self.now);
    }

    fn is_established(&mut self) -> bool {
        let of = |node: &mut Node| {
            let neighbor = node.speaker.neighbors.get(&ID).unwrap();
            neighbor.session.state() == State::Established
        };
        self.nodes.iter_mut().all(of)
    }
}

#[test]
fn a_neighbor_that_is_looked_for_is_spoken_with_once_it_is_found() {
    let mut pair = Pair::on_link();
    pair.pass(50_000);
    assert!(pair.air.is_empty() && pair.nodes[0].news.is_empty(), "nobody is known");
    pair.meet(1, PortId(2), ON_LINK[0]);
    pair.pass(50_000);
    assert!(pair.nodes[1].news.is_empty(), "on another link");
    (0..2).for_each(|index| pair.meet(index, LINK.port, ON_LINK[1 - index]));
    pair.until("established", Pair::is_established);
    for (index, node) in pair.nodes.iter_mut().enumerate() {
        let first = node.take().unwrap();
        assert!(matches!(first, BgpNews::Found(at) if at == ON_LINK[1 - index]), "{first:?}");
    }

    // Somebody else does not end a session that is well.
    let stranger = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9));
    pair.meet(1, LINK.port, stranger);
    assert_eq!(pair.nodes[1].speaker.neighbors[&ID].address, Some(ON_LINK[0]));
    let node = &mut pair.nodes[0];
    node.speaker.handle_order(pair.now, &mut node.host, BgpOrder::End(ID, "enough".into()));
    node.sleeps_until = Some(pair.now);
    pair.until("the end", |pair| {
        pair.nodes[1].speaker.neighbors[&ID].session.state() != State::Established
    });
    pair.meet(1, LINK.port, stranger);
    assert_eq!(pair.nodes[1].speaker.neighbors[&ID].address, Some(stranger));
}

/// A connection from the neighbour's address by another port is somebody else's.
#[test]
fn a_neighbor_on_a_link_is_heard_by_its_port_alone() {
    let mut pair = Pair::on_link();
    // The first knows it on another port than packets come in by.
    let link = Link { port: PortId(2), ..LINK };
    let node = &mut pair.nodes[0];
    *node = Node::alone(0, ON_LINK[0]);
    node.begin_between(Nanos::ZERO, (0, 64), (ON_LINK[0], None), (Some(link), false));
    pair.meet(0, PortId(2), ON_LINK[1]);
    pair.meet(1, LINK.port, ON_LINK[0]);
    pair.pass(200_000);
    assert_eq!(pair.nodes[0].speaker.neighbors[&ID].session.counters().established, 0);
    let refused = pair.nodes[0].speaker.neighbors[&ID].session.state();
    assert_ne!(refused, State::Established);
}
