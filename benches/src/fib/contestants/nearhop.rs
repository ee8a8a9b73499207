//! Our own table, by its public interface.
#![forbid(unsafe_code)]

use nearhop::time::Nanos;
use nearhop_fib::{Group, GroupId, Memory, Reader, Writer, fib};

use crate::fib::contestant::{Contestant, Facts, Maker, NONE, batches, chained, touch};
use crate::fib::keys::{HOPS, Keys, Route, Routes};
use crate::fib::lookup::{Lookup, prefix};
use crate::report::BenchError;

/// A FIB with the routes of one family, and a reader of it.
pub struct Nearhop {
    /// Who changes it.
    pub writer: Writer,
    /// Who looks up.
    pub reader: Reader,
    hops: Hops,
    build_s: f64,
    bytes: fn(Memory) -> usize,
}

/// Which group stands for which next hop.
#[derive(Clone, Debug)]
pub struct Hops {
    groups: Vec<GroupId>,
    /// By number of the group.
    numbers: Vec<u32>,
}

impl Nearhop {
    /// Builds the table; the groups are there before the clock starts.
    pub fn new<W: Lookup>(routes: &Routes<W>) -> Result<Self, BenchError> {
        let (mut writer, handle) = fib(1);
        let groups = (0..HOPS).map(|_| writer.add_group(&Group::Blackhole));
        let groups: Vec<GroupId> =
            groups.collect::<Result<_, _>>().map_err(BenchError::environment)?;
        let hops = Hops::new(groups);
        let start = Nanos::now();
        for route in &routes.0 {
            writer.insert(prefix(route), hops.group(route.hop)).map_err(BenchError::environment)?;
        }
        let build_s = Nanos::now().since(start).as_secs_f64();
        let reader = handle.reader();
        let reader = reader.ok_or_else(|| BenchError::environment("no reader's place is free"))?;
        Ok(Self { writer, reader, hops, build_s, bytes: W::bytes })
    }

    /// Which group stands for which next hop.
    pub fn hops(&self) -> &Hops {
        &self.hops
    }
}

impl Hops {
    fn new(groups: Vec<GroupId>) -> Self {
        let largest = groups.iter().map(|group| group.0).max().unwrap_or_default();
        let mut numbers = vec![NONE; largest as usize + 1];
        for (number, group) in groups.iter().enumerate() {
            numbers[group.0 as usize] = number as u32;
        }
        Self { groups, numbers }
    }

    /// The group of next hop `number`.
    pub fn group(&self, number: u32) -> GroupId {
        self.groups[number as usize]
    }

    fn number(&self, stored: u64) -> u32 {
        let number = usize::try_from(stored).ok().and_then(|id| self.numbers.get(id));
        number.copied().unwrap_or(NONE)
    }
}

impl<W: Lookup> Contestant<W> for Nearhop {
    fn name(&self) -> &'static str {
        "nearhop"
    }

    fn maker(&self) -> Maker {
        Maker::Nearhop
    }

    fn pass(&mut self, keys: &Keys<W>, batch: usize, out: &mut [u64]) {
        let mut online = self.reader.online();
        batches(&keys.addrs, batch, out, |addrs, out| {
            W::stored(&online, addrs, out);
            online.quiescent();
        });
    }

    fn chain(&mut self, keys: &Keys<W>, out: &mut [u64]) {
        let online = self.reader.online();
        chained(&keys.bits, out, |key| u64::from(W::one(&online, key).0));
    }

    fn number(&self, stored: u64) -> u32 {
        self.hops.number(stored)
    }

    fn insert(&mut self, route: &Route<W>) -> Result<(), BenchError> {
        let group = self.hops.group(route.hop);
        self.writer.insert(prefix(route), group).map_err(BenchError::environment)?;
        Ok(())
    }

    fn touch(&self, keys: &Keys<W>) {
        touch(&keys.addrs);
    }

    fn code(&self) -> Option<&'static str> {
        let [v4, v6] = self.reader.batch_codes();
        Some(if W::WIDTH == 32 { v4 } else { v6 })
    }

    fn remove(&mut self, route: &Route<W>) -> Result<(), BenchError> {
        self.writer.remove(prefix(route)).map_err(BenchError::environment)?;
        Ok(())
    }

    fn facts(&self) -> Facts {
        let bytes = Some((self.bytes)(self.writer.memory()));
        Facts { build_s: self.build_s, bytes, pairs_max: usize::MAX, shared: false }
    }
}
