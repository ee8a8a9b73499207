//! Readers that look places up in a loop, and judge every answer.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nearhop_fib::{GroupId, Online, Reader};

use super::places::{Both, Places, Said, Verdict};
use crate::fib::random::Random;

/// What all readers share.
#[derive(Debug)]
pub struct Watch<'a> {
    /// Where they look.
    pub places: &'a Both,
    /// Set when they are to stop, by whoever sees a reason.
    pub stop: AtomicBool,
    /// The first answer that was never right.
    pub wrong: Mutex<Option<String>>,
}

/// How many answers one reader judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Right ones.
    pub right: u64,
    /// Of them, those that found no route.
    pub nothing: u64,
    /// Of them, those of a place that was changed meanwhile.
    pub amid: u64,
    /// Those that cannot be known.
    pub overtaken: u64,
}

impl Watch<'_> {
    /// Reads until it is time to stop.
    pub fn read(&self, mut reader: Reader, seed: u64) -> Count {
        let (mut count, mut random) = (Count::default(), Random(seed));
        let mut online = reader.online();
        while !self.stop.load(Ordering::Relaxed) {
            let is_single = random.below(8) == 0;
            self.look(&self.places.v4, &online, &mut random, &mut count, |table, addrs, found| {
                if is_single {
                    one_by_one(table, addrs, found);
                } else {
                    table.lookup_batch_v4(addrs, found);
                }
            });
            self.look(&self.places.v6, &online, &mut random, &mut count, |table, addrs, found| {
                if is_single {
                    one_by_one(table, addrs, found);
                } else {
                    table.lookup_batch_v6(addrs, found);
                }
            });
            online.quiescent();
        }
        count
    }

    fn look<A: Copy + Ord + Into<IpAddr>>(
        &self,
        places: &Places<A>,
        table: &Online<'_>,
        random: &mut Random,
        count: &mut Count,
        look_up: impl Fn(&Online<'_>, &[A; BATCH], &mut [GroupId; BATCH]),
    ) {
        let chosen: [usize; BATCH] =
            std::array::from_fn(|_| random.below(places.len() as u64) as usize);
        let addrs = chosen.map(|place| places.addr(place));
        let mut found = [GroupId::NONE; BATCH];
        let before = chosen.map(|place| places.said(place));
        look_up(table, &addrs, &mut found);
        let after = chosen.map(|place| places.said(place));
        for nth in 0..BATCH {
            let (before, after, found) = (before[nth], after[nth], found[nth]);
            match before.judge(after, found) {
                Verdict::Right if found != GroupId::NONE && table.group(found).is_none() => {
                    self.report(addrs[nth].into(), found, before, after);
                }
                Verdict::Right => {
                    count.right += 1;
                    count.nothing += u64::from(found == GroupId::NONE);
                    count.amid += u64::from(before != after);
                }
                Verdict::Overtaken => count.overtaken += 1,
                Verdict::Wrong => self.report(addrs[nth].into(), found, before, after),
            }
        }
    }

    fn report(&self, addr: IpAddr, found: GroupId, before: Said, after: Said) {
        self.stop.store(true, Ordering::Relaxed);
        if let Ok(mut wrong) = self.wrong.lock() {
            wrong.get_or_insert_with(|| {
                format!("{found:?} found for {addr}, which was {before:?} and then {after:?}")
            });
        }
    }
}

fn one_by_one<A: Copy + Into<IpAddr>>(
    table: &Online<'_>,
    addrs: &[A; BATCH],
    found: &mut [GroupId; BATCH],
) {
    for (addr, found) in addrs.iter().zip(found) {
        *found = table.lookup((*addr).into());
    }
}

/// Addresses in one batch: a few groups of either table, and a rest.
const BATCH: usize = 70;
