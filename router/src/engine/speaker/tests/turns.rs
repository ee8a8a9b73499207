//! Several neighbours of one speaker, of which some have very much to say.

use super::*;

/// A speaker, and one that has a session with it from each of several addresses.
struct Many {
    hosts: Vec<Host>,
    speakers: Vec<Speaker>,
    /// By neighbour, from the first speaker.
    lanes: Vec<(Receiver<BgpNews>, Arc<AtomicUsize>)>,
    now: Nanos,
    air: VecDeque<(Nanos, usize, Vec<u8>)>,
}

fn address(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, 2 + index as u8).into()
}

impl Many {
    fn established(count: usize) -> Self {
        let host = |addresses| Host::new(Nanos::ZERO, HostConfig { addresses, mtu: 1500, seed: 5 });
        let local = IpAddr::from(ADDRESSES[0]);
        let hosts = vec![host(vec![local]), host((0..count).map(address).collect())];
        let speakers = vec![Speaker::new(1), Speaker::new(2)];
        let mut many =
            Self { hosts, speakers, lanes: Vec::new(), now: Nanos::ZERO, air: VecDeque::new() };
        for index in 0..count {
            let IpAddr::V4(remote_id) = address(index) else { unreachable!("they are IPv4") };
            let waits = |side: usize| {
                let (own, other) = [(65_001, 65_002), (65_002, 65_001)][side];
                let id = [ADDRESSES[0], remote_id][side];
                let session = SessionConfig::new(own, id, RemoteAs::Exactly(other));
                SessionConfig { passive: side == 0, ..session }
            };
            for side in [0, 1] {
                let ends = [(local, address(index)), (address(index), local)][side];
                let peering = Peering {
                    address: Some(ends.1),
                    link: None,
                    local: ends.0,
                    ttl: u8::MAX,
                    session: waits(side),
                };
                let (lane, news) = bounded(256);
                let (lost, waiting) = (Arc::default(), Arc::<AtomicUsize>::default());
                if side == 0 {
                    many.lanes.push((news, Arc::clone(&waiting)));
                }
                let id = NeighborId(index as u32);
                let spec = NeighborSpec { id, peering, lane, transcript: 0, lost, waiting };
                let order = BgpOrder::Begin(Box::new(spec));
                many.speakers[side].handle_order(many.now, &mut many.hosts[side], order);
            }
        }
        let mut up = vec![false; count];
        while up.contains(&false) {
            many.step();
            for (index, up) in up.iter_mut().enumerate() {
                *up |= many.take(index).iter().any(|one| matches!(one, BgpNews::Established(..)));
            }
            assert!(many.now < Nanos(60_000_000_000), "established: {up:?}");
        }
        many
    }

    /// A tenth of a millisecond passes, in which each speaker is polled.
    fn step(&mut self) {
        self.now += Duration::from_micros(100);
        while let Some((_, to, packet)) = self.air.pop_front_if(|(at, ..)| *at <= self.now) {
            self.hosts[to].handle_packet(self.now, PortId(1), &packet);
        }
        for side in [0, 1] {
            let host = &mut self.hosts[side];
            host.poll(self.now);
            self.speakers[side].poll(self.now, host);
            host.poll(self.now);
            while let Some(out) = host.poll_transmit() {
                self.air.push_back((self.now + Duration::from_micros(100), 1 - side, out.packet));
            }
        }
    }

    /// All that a neighbour said.
    fn take(&mut self, index: usize) -> Vec<BgpNews> {
        let (lane, waiting) = &self.lanes[index];
        let said: Vec<BgpNews> = lane.try_iter().collect();
        let prefixes = said.iter().map(BgpNews::prefixes).sum();
        waiting.fetch_sub(prefixes, Ordering::Relaxed);
        said
    }

    /// A neighbour announces prefixes from `first` on, each in an UPDATE of its own.
    fn announce(&mut self, index: usize, first: u32, count: u32) {
        let base = Attributes {
            as_path: AsPath::sequence(&[65_002]),
            ..Attributes::originated(NextHop::new(address(index)))
        };
        let changes = (first..first + count).map(|n| {
            let prefix = IpPrefix::around(Ipv4Addr::from_bits(n << 8).into(), 24).unwrap();
            (Nlri::new(prefix), Some(Arc::new(Attributes { med: Some(n), ..base.clone() })))
        });
        let order = BgpOrder::Announce(NeighborId(index as u32), changes.collect(), false);
        self.speakers[1].handle_order(self.now, &mut self.hosts[1], order);
    }

    /// A neighbour announces a prefix; polls until its UPDATE is in its lane, while the lanes are emptied all the
    /// time; and how many UPDATEs of the others came meanwhile.
    fn polls_to_hear(&mut self, asked: usize, prefix: u32) -> (usize, usize) {
        self.announce(asked, prefix, 1);
        let mut others = 0;
        for polls in 1..1000 {
            self.step();
            let mut is_heard = false;
            for index in 0..self.lanes.len() {
                let came: usize = self.take(index).iter().map(announced).sum();
                if index == asked {
                    is_heard = came > 0;
                } else {
                    others += came;
                }
            }
            if is_heard {
                return (polls, others);
            }
        }
        panic!("it is not heard");
    }

    /// Milliseconds pass, in which all that is said is acknowledged.
    fn pass(&mut self, ms: usize) {
        for _ in 0..10 * ms {
            self.step();
            (0..self.lanes.len()).for_each(|index| drop(self.take(index)));
        }
    }
}

#[test]
fn an_update_does_not_wait_until_the_one_before_is_acknowledged() {
    let mut many = Many::established(1);
    many.pass(50);
    let (first, _) = many.polls_to_hear(0, 0);
    let (second, _) = many.polls_to_hear(0, 1);
    assert!(second <= first + 1, "{second} polls after {first}");
}

/// Whoever says a little is heard in the next poll, however much others have to say.
#[test]
fn neighbors_with_very_much_to_say_keep_no_other_waiting() {
    let mut many = Many::established(7);
    many.pass(50);
    let (alone, _) = many.polls_to_hear(6, 0);
    for index in 0..4 {
        many.announce(index, 1000, 4_000);
    }
    while !many.speakers[0].was_short {
        many.step();
    }
    // One after the other, so that none waits for an acknowledgement of what it said before.
    for asked in 4..6 {
        let (polls, others) = many.polls_to_hear(asked, 1);
        assert!(others > WORK_PER_POLL, "{others} in {polls} polls are no load");
        assert!(polls <= alone + 1, "{polls} polls, and {alone} without the others");
    }
}
