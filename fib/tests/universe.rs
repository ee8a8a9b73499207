//! Small universes from end to end: every table of two routes (and some of three) among all the
//! prefixes of eight bits, at every edge of the tables, and every address of those bits.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{address_of, prefix_of, with_groups};
use nearhop_fib::{GroupId, IpPrefix, Reader, Writer};

#[test]
fn v4_short_prefixes_and_long_ones() {
    exhaust(false, &[4, 24]);
}

#[test]
fn v4_both_halves_of_the_root_and_chunks() {
    exhaust(false, &[12, 20]);
}

#[test]
fn v6_the_root_and_the_first_nodes() {
    exhaust(true, &[4, 12, 28]);
}

#[test]
fn v6_nodes_further_down() {
    exhaust(true, &[44, 60]);
}

#[test]
fn v6_the_last_node() {
    exhaust(true, &[120]);
}

fn exhaust(v6: bool, places: &[u8]) {
    let (mut writer, handle, groups) = with_groups(1, 3);
    let mut reader = handle.reader().unwrap();
    for &at in places {
        let universe = Universe::new(v6, at);
        universe.every_pair(&mut writer, &mut reader, &groups);
        universe.some_triples(&mut writer, &mut reader, &groups);
        assert!(writer.is_empty());
    }
}

/// The eight bits after the first `at`.
struct Universe {
    prefixes: Vec<Toy>,
    /// The lowest address of each value; then the neighbours of all of them.
    lowest: Vec<IpAddr>,
    lowest_v4: Vec<Ipv4Addr>,
    lowest_v6: Vec<Ipv6Addr>,
    /// The highest of each value; then as above.
    highest: Vec<IpAddr>,
    checks: Cell<u32>,
}

/// A prefix of the universe: which values it covers.
struct Toy {
    prefix: IpPrefix,
    first: usize,
    end: usize,
}

/// What is to be found: for each value of the universe, then for its neighbours.
type Answers = [GroupId; VALUES + 2];

const VALUES: usize = 256;

impl Universe {
    fn new(v6: bool, at: u8) -> Self {
        let width = if v6 { 128 } else { 32 };
        let below = width - at - 8;
        // Any bits before will do, as long as there are neighbours on both sides.
        let base = 0x2a5a_a5a5_5a5a_c3c3_3c3c_9696_6969_f00f_u128 >> (128 - u32::from(at));
        let host = (1_u128 << below) - 1;
        let of = |value: u128| ((base << 8) + value) << below;
        let prefixes = (0..=8_u8).flat_map(|len| (0..1_usize << len).map(move |n| (len, n)));
        let toys = prefixes.map(|(len, n)| {
            let (first, end) = (n << (8 - len), (n + 1) << (8 - len));
            Toy { prefix: prefix_of(v6, of(first as u128), at + len), first, end }
        });
        let addrs = |more: u128| -> Vec<IpAddr> {
            let inside = (0..VALUES as u128).map(move |value| of(value) | more);
            let outside = [of(0) - 1, of(VALUES as u128)];
            inside.chain(outside).map(|bits| address_of(v6, bits)).collect()
        };
        let lowest = addrs(0);
        let of_v4 = |&addr: &IpAddr| if let IpAddr::V4(addr) = addr { Some(addr) } else { None };
        let of_v6 = |&addr: &IpAddr| if let IpAddr::V6(addr) = addr { Some(addr) } else { None };
        Self {
            prefixes: toys.collect(),
            lowest_v4: lowest.iter().filter_map(of_v4).collect(),
            lowest_v6: lowest.iter().filter_map(of_v6).collect(),
            lowest,
            highest: addrs(host),
            checks: Cell::new(0),
        }
    }

    /// Each way to have two routes, and each way back to one of them.
    fn every_pair(&self, writer: &mut Writer, reader: &mut Reader, groups: &[GroupId]) {
        for (nth, a) in self.prefixes.iter().enumerate() {
            let (first, second) = (groups[0], groups[1]);
            writer.insert(a.prefix, first).unwrap();
            self.check(reader, &[(a, first)]);
            for b in &self.prefixes[nth + 1..] {
                writer.insert(b.prefix, second).unwrap();
                self.check(reader, &[(a, first), (b, second)]);
                writer.remove(a.prefix).unwrap();
                self.check(reader, &[(b, second)]);
                writer.insert(a.prefix, first).unwrap();
                self.check(reader, &[(a, first), (b, second)]);
                writer.remove(b.prefix).unwrap();
                self.check(reader, &[(a, first)]);
            }
            writer.remove(a.prefix).unwrap();
            self.check(reader, &[]);
        }
    }

    /// Three routes at a time, each of which goes first once, or is replaced.
    fn some_triples(&self, writer: &mut Writer, reader: &mut Reader, groups: &[GroupId]) {
        let every = |step: usize, from: usize| self.prefixes.iter().skip(from).step_by(step);
        for a in every(19, 0) {
            for b in every(17, 1) {
                for c in every(23, 2) {
                    let mut routes: Vec<(&Toy, GroupId)> = Vec::new();
                    for (toy, &group) in [a, b, c].into_iter().zip(groups) {
                        writer.insert(toy.prefix, group).unwrap();
                        routes.retain(|(other, _)| other.prefix != toy.prefix);
                        routes.push((toy, group));
                    }
                    self.check(reader, &routes);
                    let gone = (a.first + b.first + c.first) % routes.len();
                    writer.remove(routes.remove(gone).0.prefix).unwrap();
                    self.check(reader, &routes);
                    for (toy, _) in routes {
                        writer.remove(toy.prefix).unwrap();
                    }
                    self.check(reader, &[]);
                }
            }
        }
    }

    fn check(&self, reader: &mut Reader, routes: &[(&Toy, GroupId)]) {
        let online = reader.online();
        let want = answers(routes);
        let mut found = [GroupId(7); VALUES + 2];
        online.lookup_batch_v4(&self.lowest_v4, &mut found);
        online.lookup_batch_v6(&self.lowest_v6, &mut found);
        assert!(found == want, "{}", explain(&self.lowest, &found, &want, routes));
        // One by one takes longer, and is the same code but for what it is called by.
        self.checks.set(self.checks.get() + 1);
        if self.checks.get().is_multiple_of(9) {
            let found = core::array::from_fn(|nth| online.lookup(self.highest[nth]));
            assert!(found == want, "{}", explain(&self.highest, &found, &want, routes));
        }
    }
}

fn explain(
    addrs: &[IpAddr],
    found: &Answers,
    want: &Answers,
    routes: &[(&Toy, GroupId)],
) -> String {
    let at = (0..addrs.len()).find(|&n| found[n] != want[n]).unwrap();
    let routes: Vec<_> = routes.iter().map(|(toy, group)| (toy.prefix, group.0)).collect();
    format!("{}: {:?} instead of {:?}, of {routes:?}", addrs[at], found[at], want[at])
}

/// Painted from the shortest prefix on.
fn answers(routes: &[(&Toy, GroupId)]) -> Answers {
    let mut answers = [GroupId::NONE; VALUES + 2];
    let mut routes = routes.to_vec();
    routes.sort_by_key(|(toy, _)| toy.prefix.len());
    for (toy, group) in routes {
        answers[toy.first..toy.end].fill(group);
    }
    answers
}
