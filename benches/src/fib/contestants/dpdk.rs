//! DPDK, where the program was built with it (`--features dpdk`).
#![forbid(unsafe_code)]

#[cfg(feature = "dpdk")]
pub use with::{all, note, start};
#[cfg(not(feature = "dpdk"))]
pub use without::{all, note, start};

/// Why there is none, if so.
pub const MISSING: Option<&str> = if cfg!(feature = "dpdk") {
    None
} else {
    Some("not built with --features dpdk: cargo xtask bench-fib")
};

#[cfg(not(feature = "dpdk"))]
mod without {
    use crate::fib::contestant::Contestant;
    use crate::fib::keys::{Routes, Word};
    use crate::report::BenchError;

    /// Nothing to start.
    #[allow(clippy::unnecessary_wraps, reason = "the same call can fail with the feature")]
    pub fn start(_: usize) -> Result<(), BenchError> {
        Ok(())
    }

    /// None.
    #[allow(clippy::unnecessary_wraps, reason = "the same call can fail with the feature")]
    pub fn all<W: Word>(
        _: &Routes<W>,
        _: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Box<dyn Contestant<W>>>, BenchError> {
        Ok(Vec::new())
    }

    /// Nothing to say.
    pub fn note() -> String {
        String::new()
    }
}

#[cfg(feature = "dpdk")]
mod with {
    use std::rc::Rc;

    use nearhop::time::Nanos;

    use crate::fib::contestant::{Contestant, Facts, Maker, NONE, touch};
    use crate::fib::ffi::dpdk::{self, Key, Kind, Table};
    use crate::fib::keys::{HOPS, Keys, Route, Routes, Word};
    use crate::report::BenchError;

    /// Starts DPDK's environment, which binds this thread to `core`.
    pub fn start(core: usize) -> Result<(), BenchError> {
        dpdk::start(core, MEBIBYTES).map_err(BenchError::environment)
    }

    /// Every table of DPDK for this family, once for each way to look up that this processor has,
    /// but for those whose name is not `wanted`.
    pub fn all<W: Word<Wire: Key>>(
        routes: &Routes<W>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Box<dyn Contestant<W>>>, BenchError> {
        let mut all: Vec<Box<dyn Contestant<W>>> = Vec::new();
        for (kind, names) in KINDS {
            let names = names.iter().filter(|name| wanted(name));
            if W::Wire::IS_V4 != matches!(kind, Kind::Fib4 | Kind::Lpm4)
                || names.clone().count() == 0
            {
                continue;
            }
            let built = Rc::new(Built::new(*kind, routes)?);
            let first = all.len();
            for &name in names {
                let avx512 = name.ends_with(AVX512);
                if built.table.select(avx512) {
                    let (built, shared) = (Rc::clone(&built), all.len() > first);
                    all.push(Box::new(Dpdk { name, avx512, built, shared }));
                } else {
                    eprintln!("note: {name} cannot run on this processor");
                }
            }
        }
        Ok(all)
    }

    /// Which DPDK, and what its memory is made of.
    pub fn note() -> String {
        let [first, last] = dpdk::memory();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let pages = super::pages(&maps, first, last);
        format!(
            "{} (EAL: --no-huge --no-pci --no-shconf); tables in a heap of {MEBIBYTES} MiB of our own, {} \
             MiB of it touched, {} MiB in transparent huge pages (madvise)",
            dpdk::version(),
            pages.resident_kib >> 10,
            pages.huge_kib >> 10,
        )
    }

    /// A table with all routes in it.
    struct Built<W: Word> {
        table: Table<W::Wire>,
        kind: Kind,
        build_s: f64,
        bytes: usize,
    }

    impl<W: Word<Wire: Key>> Built<W> {
        fn new(kind: Kind, routes: &Routes<W>) -> Result<Self, BenchError> {
            let name = format!("{kind:?}");
            eprintln!("building {name}{}", if kind == Kind::Lpm4 { " (minutes)" } else { "" });
            let before = dpdk::allocated();
            let room = routes.0.len() as u32 + ROOM;
            let table = Table::new(kind, &name, room, tbl8s(kind), HOPS as u32);
            let table = table.map_err(BenchError::environment)?;
            let start = Nanos::now();
            for route in &routes.0 {
                table
                    .add(&route.bits.wire(), route.len, route.hop)
                    .map_err(|error| refused(&name, route, &error))?;
            }
            let build_s = Nanos::now().since(start).as_secs_f64();
            let bytes = (dpdk::allocated() - before) as usize;
            Ok(Self { table, kind, build_s, bytes })
        }
    }

    /// A way to look up in a table.
    struct Dpdk<W: Word> {
        name: &'static str,
        avx512: bool,
        built: Rc<Built<W>>,
        shared: bool,
    }

    impl<W: Word<Wire: Key>> Contestant<W> for Dpdk<W> {
        fn name(&self) -> &str {
            self.name
        }

        fn maker(&self) -> Maker {
            match self.built.kind {
                Kind::Fib4 | Kind::Fib6 => Maker::DpdkFib,
                Kind::Lpm4 | Kind::Lpm6 => Maker::DpdkLpm,
            }
        }

        fn pass(&mut self, keys: &Keys<W>, batch: usize, out: &mut [u64]) {
            self.built.table.select(self.avx512);
            self.built.table.pass(&keys.wire, batch, out);
        }

        fn chain(&mut self, keys: &Keys<W>, out: &mut [u64]) {
            self.built.table.select(self.avx512);
            self.built.table.chain(&keys.wire, out);
        }

        fn number(&self, stored: u64) -> u32 {
            if stored < HOPS { stored as u32 } else { NONE }
        }

        fn insert(&mut self, route: &Route<W>) -> Result<(), BenchError> {
            let outcome = self.built.table.add(&route.bits.wire(), route.len, route.hop);
            outcome.map_err(|error| refused(self.name, route, &error))
        }

        fn touch(&self, keys: &Keys<W>) {
            touch(&keys.wire);
        }

        fn remove(&mut self, route: &Route<W>) -> Result<(), BenchError> {
            let outcome = self.built.table.delete(&route.bits.wire(), route.len);
            outcome.map_err(|error| refused(self.name, route, &error))
        }

        fn facts(&self) -> Facts {
            let Built { build_s, bytes, .. } = *self.built;
            Facts {
                build_s,
                bytes: Some(bytes),
                pairs_max: pairs_max(self.built.kind),
                shared: self.shared,
            }
        }
    }

    fn refused<W: Word>(name: &str, route: &Route<W>, error: &str) -> BenchError {
        let (ip, len) = (route.bits.ip(), route.len);
        BenchError::environment(format!("{name} refuses {ip}/{len}: {error}"))
    }

    /// Tables of 256 entries behind the first level. `rte_fib6` takes 38,096 for the full table, but
    /// reserves many more while routes come, and some with every change that it never gives back: it
    /// refuses routes once as many are reserved as there are.
    fn tbl8s(kind: Kind) -> u32 {
        match kind {
            Kind::Fib4 | Kind::Lpm4 => 1 << 14,
            Kind::Lpm6 => 1 << 16,
            Kind::Fib6 => 1 << 19,
        }
    }

    /// With so many tables, `rte_fib6` refused a route after 248,600 pairs.
    fn pairs_max(kind: Kind) -> usize {
        if kind == Kind::Fib6 { 160_000 } else { usize::MAX }
    }

    const AVX512: &str = "AVX-512";

    const KINDS: &[(Kind, &[&str])] = &[
        (Kind::Fib4, &["rte_fib AVX-512", "rte_fib scalar"]),
        (Kind::Lpm4, &["rte_lpm"]),
        (Kind::Fib6, &["rte_fib6 AVX-512", "rte_fib6 scalar"]),
        (Kind::Lpm6, &["rte_lpm6"]),
    ];

    /// Room for all tables of a family; what is not used is not touched.
    const MEBIBYTES: i32 = 2048;

    /// Routes beyond those of the table that may be added.
    const ROOM: u32 = 1 << 16;
}

/// What some memory is made of.
#[cfg_attr(not(feature = "dpdk"), allow(dead_code))]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Pages {
    resident_kib: u64,
    huge_kib: u64,
}

/// Sums over the mappings between two addresses: proc_pid_smaps(5).
#[cfg_attr(not(feature = "dpdk"), allow(dead_code))]
fn pages(smaps: &str, first: u64, last: u64) -> Pages {
    let mut pages = Pages::default();
    let mut inside = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default();
        let Some(name) = word.strip_suffix(':') else {
            let start = word.split('-').next().unwrap_or_default();
            inside = u64::from_str_radix(start, 16).is_ok_and(|at| (first..last).contains(&at));
            continue;
        };
        let kib = words.next().and_then(|kib| kib.parse::<u64>().ok()).filter(|_| inside);
        match name {
            "Rss" => pages.resident_kib += kib.unwrap_or_default(),
            "AnonHugePages" | "ShmemPmdMapped" => pages.huge_kib += kib.unwrap_or_default(),
            _ => {}
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_summed_within_the_range_alone() {
        let smaps = "1000-2000 rw-s 00000000 00:01 7 /memfd:nohuge\n\
            Rss:   100 kB\nAnonHugePages: 0 kB\nShmemPmdMapped: 60 kB\nVmFlags: rd wr\n\
            2000-3000 rw-p 00000000 00:00 0\nRss: 7 kB\nAnonHugePages: 4 kB\n\
            3000-4000 rw-p 00000000 00:00 0\nRss: 9 kB\nAnonHugePages: 9 kB\n";
        assert_eq!(pages(smaps, 0x1000, 0x3000), Pages { resident_kib: 107, huge_kib: 64 });
        assert_eq!(pages(smaps, 0x4000, 0x5000), Pages::default());
    }
}
