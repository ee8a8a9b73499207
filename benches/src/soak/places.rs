//! Addresses that readers look up, and what they may find there at any moment.
//!
//! The writer says of a place what it will be before it changes the table, and that it is so
//! afterwards. A reader takes down what is said before and after a lookup: the answer must have been
//! right at some moment in between.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use nearhop_fib::{GroupId, IpPrefix};

use super::model::bits_of;

/// Places of one family, in the order of their addresses.
#[derive(Debug)]
pub struct Places<A> {
    addrs: Vec<A>,
    said: Vec<AtomicU64>,
}

/// What is said of a place: it was `old`, and is `new` or will be at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Said {
    old: u32,
    new: u32,
    /// Even: it is so. Odd: the change is under way.
    version: u16,
}

/// What became of one lookup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It was right at some moment.
    Right,
    /// It was never right.
    Wrong,
    /// So much changed meanwhile that it cannot be known.
    Overtaken,
}

impl<A: Copy + Ord + Into<IpAddr>> Places<A> {
    /// All of nothing found there.
    pub fn new(mut addrs: Vec<A>) -> Self {
        addrs.sort_unstable();
        addrs.dedup();
        let nothing = Said { old: NONE, new: NONE, version: 0 }.pack();
        let said = addrs.iter().map(|_| AtomicU64::new(nothing)).collect();
        Self { addrs, said }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.addrs.len()
    }

    /// The address of one.
    pub fn addr(&self, place: usize) -> A {
        self.addrs[place]
    }

    /// Those inside a prefix of the same family.
    pub fn within(&self, prefix: IpPrefix) -> std::ops::Range<usize> {
        let first = bits_of(prefix.addr());
        let before = |addr: &A| bits_of((*addr).into()) < first;
        let inside = |addr: &A| prefix.contains((*addr).into());
        let start = self.addrs.partition_point(before);
        start..start + self.addrs[start..].partition_point(inside)
    }

    /// What is said of one now.
    #[inline]
    pub fn said(&self, place: usize) -> Said {
        // Acquire: it is read before and after a lookup, of which all loads are acquire as well.
        Said::unpack(self.said[place].load(Ordering::Acquire))
    }

    /// The writer is about to make it so. Returns whether that is news.
    pub fn announce(&self, place: usize, group: GroupId) -> bool {
        let said = self.said(place);
        let new = group.0 & NONE;
        let is_news = said.new != new;
        if is_news {
            let version = said.version.wrapping_add(1);
            self.say(place, Said { old: said.new, new, version });
        }
        is_news
    }

    /// It is so.
    pub fn settle(&self, place: usize) {
        let said = self.said(place);
        let version = said.version.wrapping_add(1);
        self.say(place, Said { old: said.new, version, ..said });
    }

    /// Release: whoever sees what is found in the table sees that it was announced.
    fn say(&self, place: usize, said: Said) {
        self.said[place].store(said.pack(), Ordering::Release);
    }
}

impl Said {
    /// Judges what was found between two moments.
    pub fn judge(self, after: Self, found: GroupId) -> Verdict {
        let found = found.0 & NONE;
        if [self.old, self.new, after.old, after.new].contains(&found) {
            return Verdict::Right;
        }
        // Up to here the four are all that it was: one change under way, one whole one, and the
        // beginning of the next.
        match after.version.wrapping_sub(self.version) {
            0..=3 => Verdict::Wrong,
            _ => Verdict::Overtaken,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.old) | u64::from(self.new) << 24 | u64::from(self.version) << 48
    }

    fn unpack(word: u64) -> Self {
        Self {
            old: word as u32 & NONE,
            new: (word >> 24) as u32 & NONE,
            version: (word >> 48) as u16,
        }
    }
}

/// The places of both families.
#[derive(Debug)]
pub struct Both {
    /// IPv4.
    pub v4: Places<Ipv4Addr>,
    /// IPv6.
    pub v6: Places<Ipv6Addr>,
}

/// The highest number of 24 bits: nothing found.
const NONE: u32 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_right_from_its_announcement_until_the_next_one_is_settled() {
        let places = Places::new(vec![Ipv4Addr::LOCALHOST]);
        let moments = |steps: &[u32]| {
            let mut all = vec![places.said(0)];
            for &group in steps {
                assert!(places.announce(0, GroupId(group)));
                all.push(places.said(0));
                places.settle(0);
                all.push(places.said(0));
            }
            all
        };
        let all = moments(&[1, 2, 3]);
        for (from, to, found, want) in [
            (0, 0, u32::MAX, Verdict::Right),
            (0, 0, 1, Verdict::Wrong),
            (0, 1, 1, Verdict::Right),
            (1, 1, u32::MAX, Verdict::Right),
            (1, 2, u32::MAX, Verdict::Right),
            (2, 2, u32::MAX, Verdict::Wrong),
            (2, 3, 2, Verdict::Right),
            (0, 3, 3, Verdict::Wrong),
            (0, 3, 1, Verdict::Right),
            (1, 4, 3, Verdict::Wrong),
            (0, 6, 1, Verdict::Overtaken),
            (0, 6, 3, Verdict::Right),
        ] {
            let verdict = all[from as usize].judge(all[to as usize], GroupId(found));
            assert_eq!(verdict, want, "{found} between {from} and {to}");
        }
        assert!(!places.announce(0, GroupId(3)), "no news");
    }

    #[test]
    fn the_places_in_a_prefix_are_neighbours() {
        let addrs = ["9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"];
        let places = Places::new(addrs.map(|a| a.parse::<Ipv4Addr>().unwrap()).to_vec());
        assert_eq!(places.within("10.0.0.0/8".parse().unwrap()), 1..3);
        assert_eq!(places.within("0.0.0.0/0".parse().unwrap()), 0..4);
        assert_eq!(places.within("12.0.0.0/8".parse().unwrap()), 4..4);
    }
}
