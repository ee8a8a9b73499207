//! Readers that look up in a loop while the writer changes what they look for, and everything
//! around it: each answer is one that its address may have.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Numbers, bits_of, prefix_of, with_groups};
use nearhop_fib::{FlowHash, Group, GroupId, Handle, IpPrefix, Online, Selected, Writer};

#[test]
fn every_answer_is_one_of_those_its_address_may_have() {
    let (mut writer, handle, mut groups) = with_groups(READERS, 2 * PLACES + 2);
    let covering = [groups.pop().unwrap(), groups.pop().unwrap()];
    for v6 in [false, true] {
        writer.insert(prefix_of(v6, 0, 0), covering[0]).unwrap();
    }
    let places = places(&groups);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> =
            (0..READERS).map(|_| scope.spawn(|| read(&handle, &places, covering, &done))).collect();
        Writing::new(&mut writer, &places, covering).go_through(STEPS);
        done.store(true, Ordering::Release);
        for reader in readers {
            let seen = reader.join().unwrap();
            assert!(seen.iter().all(|&count| count > 0), "{seen:?} of each kind");
        }
    });
    assert_eq!(writer.reclaim(), 0);
}

/// A prefix, and the only groups that a route to it has.
struct Place {
    prefix: IpPrefix,
    own: [GroupId; 2],
}

/// None is in another. Half of them are crowded in one node each: /24s and longer, /48s and longer.
fn places(groups: &[GroupId]) -> Vec<Place> {
    let own = groups.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    own.enumerate()
        .map(|(nth, own)| {
            let (v6, n) = (nth % 2 == 1, (nth / 4) as u128);
            let prefix = match (v6, nth / 2 % 2 == 0) {
                (false, true) => prefix_of(false, (20 + n) << 24 | n << 9, 9 + (n % 24) as u8),
                (false, false) => prefix_of(false, 0x0a00_0000 | n << 8, 24 + (n % 9) as u8),
                (true, true) => prefix_of(true, (0x2001_0000 + n) << 96 | n << 7, 32 + 3 * n as u8),
                (true, false) => prefix_of(true, 0x2001_0db8 << 96 | n << 80, 48 + n as u8),
            };
            Place { prefix, own }
        })
        .collect()
}

/// How often each kind of answer was found: one's own groups, and the covering ones.
fn read(handle: &Handle, places: &[Place], covering: [GroupId; 2], done: &AtomicBool) -> [u64; 4] {
    let mut reader = handle.reader().unwrap();
    let mut online = reader.online();
    let addrs: Vec<IpAddr> = places.iter().map(|place| place.prefix.addr()).collect();
    let (mut v4, mut v6): (Vec<Ipv4Addr>, Vec<Ipv6Addr>) = (Vec::new(), Vec::new());
    for addr in &addrs {
        match addr {
            IpAddr::V4(addr) => v4.push(*addr),
            IpAddr::V6(addr) => v6.push(*addr),
        }
    }
    let mut seen = [0; 4];
    let mut found = vec![GroupId::NONE; places.len()];
    let mut of_family = vec![GroupId::NONE; places.len()];
    let mut is_last = false;
    while !is_last {
        is_last = done.load(Ordering::Acquire);
        online.lookup_batch(&addrs, &mut found);
        check(&online, places, &found, covering, &mut seen);
        online.quiescent();
        online.lookup_batch_v4(&v4, &mut of_family);
        found.iter_mut().step_by(2).zip(&of_family).for_each(|(found, &group)| *found = group);
        online.lookup_batch_v6(&v6, &mut of_family);
        let odd = found.iter_mut().skip(1).step_by(2);
        odd.zip(&of_family).for_each(|(found, &group)| *found = group);
        check(&online, places, &found, covering, &mut seen);
        online.quiescent();
    }
    seen
}

fn check(
    online: &Online<'_>,
    places: &[Place],
    found: &[GroupId],
    covering: [GroupId; 2],
    seen: &mut [u64; 4],
) {
    for (place, &found) in places.iter().zip(found) {
        let allowed = [place.own[0], place.own[1], covering[0], covering[1]];
        let kind = allowed.iter().position(|&group| group == found);
        let kind = kind.unwrap_or_else(|| panic!("{found:?} for {}: {allowed:?}", place.prefix));
        seen[kind] += 1;
        let selected = online.select(found, FlowHash { site: 1, label: 2 });
        assert!(matches!(selected, Selected::Local | Selected::Blackhole), "{selected:?}");
    }
}

struct Writing<'a> {
    writer: &'a mut Writer,
    places: &'a [Place],
    covering: [GroupId; 2],
    /// What no reader may find: it is said of other addresses alone.
    strange: GroupId,
    strangers: Vec<IpPrefix>,
    numbers: Numbers,
}

impl<'a> Writing<'a> {
    fn new(writer: &'a mut Writer, places: &'a [Place], covering: [GroupId; 2]) -> Self {
        let strange = writer.add_group(&Group::Prohibit).unwrap();
        Self { writer, places, covering, strange, strangers: Vec::new(), numbers: Numbers(3) }
    }

    fn go_through(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.numbers.below(16) {
                0..6 => {
                    let place = &self.places[self.numbers.below(self.places.len())];
                    let group = self.numbers.pick(&place.own);
                    self.writer.insert(place.prefix, group).unwrap();
                }
                6..9 => {
                    let place = &self.places[self.numbers.below(self.places.len())];
                    self.writer.remove(place.prefix).unwrap();
                }
                9 => {
                    let all = prefix_of(self.numbers.below(2) == 0, 0, 0);
                    self.writer.insert(all, self.numbers.pick(&self.covering)).unwrap();
                }
                10 => self.replace(),
                11..14 => self.add_stranger(),
                _ => self.remove_stranger(),
            }
        }
    }

    /// The lines of groups are as busy as those of the tables.
    fn replace(&mut self) {
        let place = &self.places[self.numbers.below(self.places.len())];
        let new = self.numbers.pick(&[Group::Local, Group::Blackhole].each_ref()).clone();
        self.writer.replace_group(place.own[0], &new).unwrap();
        // Another group in between, so that lines change hands.
        let other = self.writer.add_group(&Group::Unreachable).unwrap();
        self.writer.remove_group(other).unwrap();
    }

    /// Beside a place, or within its prefix without its first address.
    fn add_stranger(&mut self) {
        let place = self.places[self.numbers.below(self.places.len())].prefix;
        let v6 = place.addr().is_ipv6();
        let width = if v6 { 128 } else { 32 };
        let (len, flipped) = (1 + self.numbers.below(width), self.numbers.below(width));
        let bits = bits_of(place.addr()) ^ 1 << (width - 1 - flipped);
        let stranger = prefix_of(v6, bits, len as u8);
        let covers = |place: &Place| stranger.contains(place.prefix.addr());
        if stranger.len() > 8 && !self.places.iter().any(covers) && self.strangers.len() < 500 {
            self.writer.insert(stranger, self.strange).unwrap();
            self.strangers.push(stranger);
        }
    }

    fn remove_stranger(&mut self) {
        if !self.strangers.is_empty() {
            let nth = self.numbers.below(self.strangers.len());
            let stranger = self.strangers.swap_remove(nth);
            self.writer.remove(stranger).unwrap();
        }
    }
}

const READERS: usize = 2;
const PLACES: usize = 128;
const STEPS: usize = 400_000;
