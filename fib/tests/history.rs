//! One writer, and readers whose every answer is compared with what was true between the beginning
//! and the end of their lookup: nested and neighbouring prefixes, both families, alone and in a
//! batch, while tables widen.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{Golden, Numbers, bits_of, boundaries, prefix_of};
use nearhop_fib::{Group, GroupId, Handle, IpPrefix, Writer, fib};

#[test]
fn every_answer_was_true_at_some_moment_of_its_lookup() {
    let mut answers = 0;
    for seed in 0..WORLDS {
        let mut world = World::new(seed);
        let (clock, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
        let places = world.places.clone();
        let (changes, readings) = thread::scope(|scope| {
            let readers = [read_alone, read_batches].map(|read| {
                let (handle, places, clock, is_done) =
                    (world.handle.clone(), &places, &clock, &is_done);
                scope.spawn(move || read(&handle, places, clock, is_done))
            });
            let changes = world.change(&clock);
            is_done.store(true, Ordering::Release);
            (changes, readers.map(|reader| reader.join().unwrap()))
        });
        let histories = histories(&places, &changes);
        for reading in readings.iter().flatten() {
            let history = &histories[reading.place];
            assert!(
                history.iter().any(|state| state.allows(reading)),
                "seed {seed}: {reading:?} at {}, of {:?}",
                places[reading.place],
                history.iter().filter(|state| state.overlaps(reading)).collect::<Vec<_>>(),
            );
        }
        answers += readings.iter().map(Vec::len).sum::<usize>();
        assert_eq!(world.writer.v4_slot_bits(), 32, "it became wider meanwhile");
    }
    assert!(answers > 100_000, "{answers} answers say little");
}

/// A change of a route, and the clock right before and right after.
struct Change {
    from: u64,
    to: u64,
    prefix: IpPrefix,
    group: Option<GroupId>,
}

/// An answer, and the clock right before and right after its lookup.
#[derive(Debug)]
struct Reading {
    from: u64,
    to: u64,
    place: usize,
    group: GroupId,
}

/// The answer of a place, from somewhen in the change that made it to somewhen in the next.
#[derive(Debug)]
struct State {
    /// No lookup that ended by then has it.
    after: Option<u64>,
    /// No lookup that began after this has it.
    until: u64,
    group: GroupId,
}

impl State {
    fn overlaps(&self, reading: &Reading) -> bool {
        self.after.is_none_or(|after| after < reading.to) && reading.from <= self.until
    }

    fn allows(&self, reading: &Reading) -> bool {
        self.group == reading.group && self.overlaps(reading)
    }
}

/// The states of each place, by the slow model.
fn histories(places: &[IpAddr], changes: &[Change]) -> Vec<Vec<State>> {
    let first = || vec![State { after: None, until: u64::MAX, group: GroupId::NONE }];
    let mut histories: Vec<Vec<State>> = places.iter().map(|_| first()).collect();
    let mut golden = Golden::default();
    for change in changes {
        match change.group {
            Some(group) => golden.insert(change.prefix, group),
            None => golden.remove(change.prefix),
        };
        for (history, &place) in histories.iter_mut().zip(places) {
            let (group, last) = (golden.lookup(place), history.last_mut().unwrap());
            if group != last.group {
                last.until = change.to;
                history.push(State { after: Some(change.from), until: u64::MAX, group });
            }
        }
    }
    histories
}

struct World {
    writer: Writer,
    handle: Handle,
    /// The last ones have numbers that make IPv4 slots, and words of IPv6, wider.
    groups: Vec<GroupId>,
    prefixes: Vec<IpPrefix>,
    places: Vec<IpAddr>,
    numbers: Numbers,
}

impl World {
    fn new(seed: u64) -> Self {
        let (mut writer, handle) = fib(2);
        let groups = (0..66_000).map(|_| writer.add_group(&Group::Local).unwrap()).collect();
        // Nested at one address of each family, a neighbour of each, and some beside one another.
        let mut prefixes = Vec::new();
        for (v6, bits) in [false, true].into_iter().zip(NESTED) {
            let width: u8 = if v6 { 128 } else { 32 };
            for len in [0, 3, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 36, 40, 47, 48, 64, 127] {
                if len <= width {
                    prefixes.push(prefix_of(v6, bits, len));
                    let beside = 1 << (width - len.max(1));
                    prefixes.push(prefix_of(v6, bits ^ beside, len));
                }
            }
            let step = if v6 { 80 } else { 4 };
            prefixes.extend((0..20).map(|n| {
                prefix_of(v6, bits >> step << step ^ n << step, if v6 { 48 } else { 28 })
            }));
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        let mut numbers = Numbers(seed);
        let mut places: Vec<IpAddr> = Vec::new();
        while places.len() < PLACES {
            let prefix = numbers.pick(&prefixes);
            places.push(numbers.pick(&boundaries(prefix)));
        }
        // The relays go on here, at both ends of a batch.
        for nth in [0, 1, 2, 3, PLACES - 4, PLACES - 3, PLACES - 2, PLACES - 1] {
            places[nth] = common::address_of(nth % 2 == 1, NESTED[nth % 2]);
        }
        Self { writer, handle, groups, prefixes, places, numbers }
    }

    fn change(&mut self, clock: &AtomicU64) -> Vec<Change> {
        let plan: Vec<_> = (0..CHANGES).map(|nth| self.any_change(nth)).collect();
        let nothing = self.prefixes.iter().map(|&prefix| (prefix, None));
        let plan: Vec<_> = plan.into_iter().chain(nothing).collect();
        let plan: Vec<_> =
            plan.into_iter().chain((0..CHANGES / 4).flat_map(|_| self.relay())).collect();
        let mut changes = Vec::with_capacity(plan.len());
        for (prefix, group) in plan {
            let from = clock.fetch_add(1, Ordering::SeqCst);
            match group {
                Some(group) => self.writer.insert(prefix, group).unwrap(),
                None => self.writer.remove(prefix).unwrap(),
            };
            let to = clock.fetch_add(1, Ordering::SeqCst);
            changes.push(Change { from, to, prefix, group });
        }
        changes
    }

    fn any_change(&mut self, nth: usize) -> (IpPrefix, Option<GroupId>) {
        let prefix = self.numbers.pick(&self.prefixes);
        let is_wide = nth > CHANGES / 2 && self.numbers.below(20) == 0;
        let group = if is_wide { self.groups.len() - 1 } else { self.numbers.below(30_000) };
        (prefix, (self.numbers.below(5) > 1).then(|| self.groups[group]))
    }

    /// A long prefix takes over from a short one and back: one of them is there at every moment.
    fn relay(&mut self) -> [(IpPrefix, Option<GroupId>); 4] {
        let v6 = self.numbers.below(2) == 0;
        let bits = NESTED[usize::from(v6)];
        let short = self.numbers.pick(if v6 { &[0, 3, 8, 16, 17, 24][..] } else { &[0, 3, 7] });
        let long = self.numbers.pick(if v6 { &[32, 47, 64, 127][..] } else { &[9, 16, 24, 31] });
        let [short, long] = [short, long].map(|len| prefix_of(v6, bits, len));
        let group = Some(self.groups[7]);
        [(short, group), (long, None), (long, group), (short, None)]
    }
}

fn read_alone(
    handle: &Handle,
    places: &[IpAddr],
    clock: &AtomicU64,
    is_done: &AtomicBool,
) -> Vec<Reading> {
    let mut reader = handle.reader().unwrap();
    let mut online = reader.online();
    let mut readings = Vec::new();
    while !is_done.load(Ordering::Acquire) && readings.len() < READINGS {
        for (place, &addr) in places.iter().enumerate() {
            let from = clock.load(Ordering::SeqCst);
            let group = online.lookup(addr);
            let to = clock.load(Ordering::SeqCst);
            readings.push(Reading { from, to, place, group });
        }
        online.quiescent();
    }
    readings
}

fn read_batches(
    handle: &Handle,
    places: &[IpAddr],
    clock: &AtomicU64,
    is_done: &AtomicBool,
) -> Vec<Reading> {
    let mut reader = handle.reader().unwrap();
    let mut online = reader.online();
    let of_family = |v6: bool| {
        (0..places.len()).filter(move |&place| places[place].is_ipv6() == v6).collect::<Vec<_>>()
    };
    let (nth_v4, nth_v6) = (of_family(false), of_family(true));
    let v4: Vec<Ipv4Addr> =
        nth_v4.iter().map(|&nth| Ipv4Addr::from_bits(bits_of(places[nth]) as u32)).collect();
    let v6: Vec<Ipv6Addr> =
        nth_v6.iter().map(|&nth| Ipv6Addr::from_bits(bits_of(places[nth]))).collect();
    let mut found = vec![GroupId::NONE; places.len()];
    let mut readings = Vec::new();
    while !is_done.load(Ordering::Acquire) && readings.len() < READINGS {
        for (is_v6, nth) in [(false, &nth_v4), (true, &nth_v6)] {
            let from = clock.load(Ordering::SeqCst);
            if is_v6 {
                online.lookup_batch_v6(&v6, &mut found);
            } else {
                online.lookup_batch_v4(&v4, &mut found);
            }
            let to = clock.load(Ordering::SeqCst);
            let reading = |(&place, &group)| Reading { from, to, place, group };
            readings.extend(nth.iter().zip(&found).map(reading));
            online.quiescent();
        }
    }
    readings
}

/// An address of each family that many of the prefixes cover.
const NESTED: [u128; 2] = [0x0a01_0203, 0x2001_0db8_0007 << 80 | 1];

const WORLDS: u64 = 4;
const CHANGES: usize = 10_000;
/// Those of each family are more than one batch of the router.
const PLACES: usize = 160;
/// Of one reader at most.
const READINGS: usize = 1_000_000;
