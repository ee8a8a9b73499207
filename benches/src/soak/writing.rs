//! The writer: real churn and storms, each change announced to the places it moves.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

use nearhop::time::Nanos;
use nearhop_fib::{Group, GroupId, IpPrefix, WriteError, Writer};

use super::churn::{Sessions, Update};
use super::model::Model;
use super::places::{Both, Places};
use super::readers::Watch;
use crate::fib::random::Random;

/// The table, what it has to say, and who has to know.
pub struct Writing<'a> {
    /// Changes the table.
    pub writer: &'a mut Writer,
    /// As the table.
    pub model: Model,
    /// By IPv4 and IPv6 place, 1 + the length of the prefix that decides it.
    pub longest: [Vec<u8>; 2],
    /// What routes may lead to; of these, the first so many for now.
    pub groups: &'a [GroupId],
    /// See [`Self::groups`].
    pub in_use: usize,
    /// The readers, who end it all when they find something.
    pub watch: &'a Watch<'a>,
    /// When to stop.
    pub until: Nanos,
    /// Where storms come from.
    pub random: Random,
    /// Changes by kind: of the churn, of storms, and of groups.
    pub changes: [u64; 3],
}

/// What ends the writer.
#[derive(Debug)]
pub enum End {
    /// It is time, or a reader found something.
    Stopped,
    /// The table is not what it should be.
    Broken(String),
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        Self::Broken(format!("the writer was refused: {error}"))
    }
}

impl Writing<'_> {
    /// Makes the table whole; the churn counts from there on.
    pub fn load(&mut self, prefixes: &[IpPrefix]) -> Result<(), End> {
        for &prefix in prefixes {
            let group = self.group();
            self.set(prefix, Some(group), STORMS)?;
        }
        self.changes = [0; 3];
        Ok(())
    }

    /// Goes on until it is time.
    pub fn go_on(&mut self, updates: &[Update]) -> End {
        loop {
            let ended = self
                .replay(updates)
                .and_then(|()| self.storm())
                .and_then(|()| self.flap())
                .and_then(|()| self.shift());
            if let Err(end) = ended {
                return end;
            }
            // From the second time on there are numbers that 16 bits do not hold.
            self.in_use = self.groups.len();
        }
    }

    /// What routers heard.
    fn replay(&mut self, updates: &[Update]) -> Result<(), End> {
        let mut sessions = Sessions::default();
        for &update in updates {
            let best = sessions.hear(update).map(|hop| self.groups[usize::from(hop)]);
            self.set(update.prefix, best, CHURN)?;
        }
        Ok(())
    }

    /// Thousands of random prefixes around places come, and go in another order.
    fn storm(&mut self) -> Result<(), End> {
        let mut before = HashMap::with_capacity(STORM);
        for _ in 0..STORM {
            // Short ones move many places, which takes the model its time.
            let least = if self.random.below(64) == 0 { 8 } else { 17 };
            let (prefix, group) = (self.around(least), self.group());
            let old = self.set(prefix, Some(group), STORMS)?;
            before.entry(prefix).or_insert(old);
            self.replace_one()?;
        }
        // The order of a hash map is as random as any.
        for (prefix, old) in before {
            self.set(prefix, old, STORMS)?;
        }
        Ok(())
    }

    /// A few prefixes come and go all the time.
    fn flap(&mut self) -> Result<(), End> {
        for _ in 0..FLAPPING {
            let prefix = self.around(17);
            let group = self.group();
            let old = self.set(prefix, Some(group), STORMS)?;
            for _ in 0..FLAPS {
                self.set(prefix, None, STORMS)?;
                let group = self.group();
                self.set(prefix, Some(group), STORMS)?;
            }
            self.set(prefix, old, STORMS)?;
        }
        Ok(())
    }

    /// A longer route takes over from one of the shortest, and hands back.
    fn shift(&mut self) -> Result<(), End> {
        for _ in 0..SHIFTS {
            let longer = self.around(18);
            let len = self.random.below(17) as u8;
            let Some(shorter) = IpPrefix::around(longer.addr(), len) else { continue };
            let [first, second] = [self.group(), self.group()];
            let old = self.set(shorter, Some(first), STORMS)?;
            let old_longer = self.set(longer, Some(second), STORMS)?;
            self.set(shorter, None, STORMS)?;
            self.set(shorter, Some(first), STORMS)?;
            self.set(longer, old_longer, STORMS)?;
            self.set(shorter, old, STORMS)?;
        }
        Ok(())
    }

    /// One change: of the model, then announced, then of the table, then settled.
    fn set(
        &mut self,
        prefix: IpPrefix,
        group: Option<GroupId>,
        kind: usize,
    ) -> Result<Option<GroupId>, End> {
        if self.watch.stop.load(Ordering::Relaxed) || Nanos::now() >= self.until {
            return Err(End::Stopped);
        }
        let want = self.model.set(prefix, group);
        let Both { v4, v6 } = self.watch.places;
        let is_v6 = prefix.addr().is_ipv6();
        let [longest_v4, longest_v6] = &mut self.longest;
        let moved = if is_v6 {
            announce(v6, longest_v6, &self.model, prefix, group)
        } else {
            announce(v4, longest_v4, &self.model, prefix, group)
        };
        let old = match group {
            Some(group) => self.writer.insert(prefix, group)?,
            None => self.writer.remove(prefix)?,
        };
        for place in moved {
            if is_v6 { v6.settle(place) } else { v4.settle(place) }
        }
        self.changes[kind] += 1;
        if old == want {
            Ok(old)
        } else {
            Err(End::Broken(format!("{prefix} had {old:?}, and {want:?} was to be expected")))
        }
    }

    /// Replaces a group now and then: readers find what was and what is, never nothing.
    fn replace_one(&mut self) -> Result<(), End> {
        let group = self.group();
        let new = if self.random.below(2) == 0 { Group::Local } else { Group::Blackhole };
        self.writer.replace_group(group, &new)?;
        self.changes[GROUPS] += 1;
        Ok(())
    }

    fn group(&mut self) -> GroupId {
        self.groups[self.random.below(self.in_use as u64) as usize]
    }

    /// A prefix of at least so many bits that covers a place, or one of its neighbours.
    fn around(&mut self, least: u8) -> IpPrefix {
        let Both { v4, v6 } = self.watch.places;
        let random = &mut self.random;
        if random.below(2) == 0 {
            let near = pick(v4, random).to_bits();
            let bits = near ^ 1_u32.checked_shl(random.below(34) as u32).unwrap_or(0);
            around(Ipv4Addr::from_bits(bits).into(), least, 32, random)
        } else {
            let near = pick(v6, random).to_bits();
            let bits = near ^ 1_u128.checked_shl(random.below(130) as u32).unwrap_or(0);
            around(Ipv6Addr::from_bits(bits).into(), least, 128, random)
        }
    }
}

/// Says what will be of each place that a change moves; gives those back. `longest` is, for each
/// place, 1 + the length of the prefix that decides it.
fn announce<A: Copy + Ord + Into<IpAddr>>(
    places: &Places<A>,
    longest: &mut [u8],
    model: &Model,
    prefix: IpPrefix,
    group: Option<GroupId>,
) -> Vec<usize> {
    let own = prefix.len() + 1;
    let moved = places.within(prefix).filter(|&place| {
        let decided_by = longest[place];
        let (decides, will_be) = match group {
            Some(group) if decided_by <= own => (own, group),
            None if decided_by == own => {
                let next = model.find(places.addr(place).into());
                next.map_or((0, GroupId::NONE), |(len, group)| (len + 1, group))
            }
            _ => return false,
        };
        longest[place] = decides;
        places.announce(place, will_be)
    });
    moved.collect()
}

fn pick<A: Copy + Ord + Into<IpAddr>>(places: &Places<A>, random: &mut Random) -> A {
    places.addr(random.below(places.len() as u64) as usize)
}

/// The prefix of a random length around an address.
fn around(addr: IpAddr, least: u8, most: u8, random: &mut Random) -> IpPrefix {
    let len = least + random.below(u64::from(most - least) + 1) as u8;
    IpPrefix::around(addr, len).unwrap_or(IpPrefix::host(addr))
}

/// Places in [`Writing::changes`].
const CHURN: usize = 0;
const STORMS: usize = 1;
const GROUPS: usize = 2;

/// Prefixes of one storm.
const STORM: usize = 20_000;

/// Prefixes that flap, one after the other, and how often each does.
const FLAPPING: usize = 300;
const FLAPS: usize = 100;

/// How often a longer route takes over from a short one, and back, in one go.
const SHIFTS: usize = 100;
