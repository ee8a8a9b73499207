//! PlanB (NSDI 2026): IPv6 prefixes of up to 64 bits, built once. Its code is public, but not part
//! of this project: a library that `NEARHOP_PLANB_LIB` names is opened.
#![forbid(unsafe_code)]

use std::path::Path;

use nearhop::time::Nanos;

use crate::fib::contestant::{Contestant, Facts, Maker, NONE, batches, chained, touch};
use crate::fib::ffi::planb::{Library, Prefix, Table};
use crate::fib::keys::{Keys, Route, Routes, Word};
use crate::report::BenchError;

/// Names the library.
pub const LIBRARY: &str = "NEARHOP_PLANB_LIB";

/// The longest prefix it takes.
pub const LEN_MAX: u8 = 64;

/// What tables hold that are compared with it.
pub const PART: &str = "IPv6 up to /64";

/// A table of the library.
pub struct PlanB {
    table: Table,
    build_s: f64,
}

impl PlanB {
    /// Opens the library and builds the table.
    ///
    /// # Errors
    /// The library cannot be opened, or builds nothing.
    pub fn new(library: &Path, routes: &Routes<u128>) -> Result<Self, BenchError> {
        let failed =
            |why: &str| BenchError::environment(format!("{LIBRARY}={}: {why}", library.display()));
        let opened = Library::open(library).map_err(|error| failed(&error))?;
        let prefix = |route: &Route<u128>| Prefix {
            bits: route.bits.top(),
            len: u32::from(route.len),
            next_hop: route.hop,
        };
        let prefixes: Vec<Prefix> = routes.0.iter().map(prefix).collect();
        let start = Nanos::now();
        let table = opened.table(&prefixes).ok_or_else(|| failed("planb_create gave null"))?;
        Ok(Self { table, build_s: Nanos::now().since(start).as_secs_f64() })
    }
}

impl Contestant<u128> for PlanB {
    fn name(&self) -> &'static str {
        "PlanB"
    }

    fn maker(&self) -> Maker {
        Maker::PlanB
    }

    fn pass(&mut self, keys: &Keys<u128>, batch: usize, out: &mut [u64]) {
        batches(&keys.tops, batch, out, |keys, out| self.table.lookup(keys, out));
    }

    fn chain(&mut self, keys: &Keys<u128>, out: &mut [u64]) {
        chained(&keys.bits, out, |key| {
            let mut found = [0];
            self.table.lookup(&[key.top()], &mut found);
            found[0]
        });
    }

    fn number(&self, stored: u64) -> u32 {
        u32::try_from(stored).unwrap_or(NONE)
    }

    fn insert(&mut self, _: &Route<u128>) -> Result<(), BenchError> {
        Err(BenchError::environment("PlanB is rebuilt, never changed"))
    }

    fn touch(&self, keys: &Keys<u128>) {
        touch(&keys.tops);
    }

    fn remove(&mut self, _: &Route<u128>) -> Result<(), BenchError> {
        Err(BenchError::environment("PlanB is rebuilt, never changed"))
    }

    fn facts(&self) -> Facts {
        Facts { build_s: self.build_s, ..Facts::default() }
    }
}
