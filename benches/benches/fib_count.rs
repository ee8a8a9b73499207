//! Instructions of a lookup, counted by callgrind (valgrind): the same in each run on a machine,
//! however busy it is. `cargo bench -p nearhop-benches --bench fib_count`.
//!
//! valgrind knows no AVX-512: what a processor that has it would choose is not what is counted.
#![forbid(unsafe_code)]

#[allow(dead_code, unused_imports, reason = "the bench `fib` uses the rest, and tests it")]
#[path = "../src/fib/keys.rs"]
mod keys;
#[allow(dead_code, unused_imports, reason = "the bench `fib` uses the rest, and tests it")]
#[path = "../src/fib/lookup.rs"]
mod lookup;
#[allow(unused_imports, reason = "the bench `fib` tests it")]
#[path = "../src/fib/random.rs"]
mod random;
#[allow(dead_code, reason = "the bench `forward` uses the rest")]
#[path = "../src/forward/rig.rs"]
mod rig;

use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use nearhop_fib::{Group, GroupId, Online, fib};

use keys::{HOPS, Keys, Routes, Workload};
use lookup::{Lookup, prefix};
use rig::Table;

fn main() {
    let given = |wanted: &str| std::env::args().any(|arg| arg == wanted);
    if given(INSIDE) {
        count();
    } else if given("--bench") {
        // Else a test runner asks, for whom there is nothing.
        run();
    }
}

/// Runs this program under valgrind, which writes a file after each call of a counted function.
fn run() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("out");
    let this = std::env::current_exe().expect("this program's path");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--collect-atstart=no", "-q"])
        // Two patterns for the same functions: of two options with one pattern the last one counts.
        .args(["--toggle-collect=*counted*", "--dump-after=*counted_*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(this)
        .arg(INSIDE);
    match valgrind.status() {
        Ok(status) if status.success() => print(&out),
        Ok(status) => panic!("valgrind: {status}"),
        Err(error) => println!("cannot count: valgrind: {error} (Debian's package `valgrind`)"),
    }
}

/// The files are numbered in the order of the calls.
fn print(out: &Path) {
    println!("instructions of a lookup");
    for (index, name) in cases().iter().enumerate() {
        let path = format!("{}.{}", out.display(), index + 1);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: f64 = total.and_then(|n| n.trim().parse().ok()).expect("callgrind's total");
        println!("{name:<24} {:8.2}", total / COUNT as f64);
    }
}

fn cases() -> Vec<String> {
    let of = |family: &'static str| {
        Workload::ALL.into_iter().flat_map(move |workload| {
            ["one", "32", "256"].map(|how| format!("{family} {workload}/{how}"))
        })
    };
    of("IPv4").chain(of("IPv6")).collect()
}

/// In the order of [`cases`].
fn count() {
    let prefixes = Table::load().expect("testdata").prefixes;
    family(&Routes::<u32>::of(&prefixes));
    family(&Routes::<u128>::of(&prefixes));
}

fn family<W: Lookup>(routes: &Routes<W>) {
    let (mut writer, handle) = fib(1);
    let mut group = |_| writer.add_group(&Group::Blackhole).expect("an empty FIB has room");
    let groups: Vec<GroupId> = (0..HOPS).map(&mut group).collect();
    for route in &routes.0 {
        writer.insert(prefix(route), groups[route.hop as usize]).expect("the group is there");
    }
    let mut reader = handle.reader().expect("a place is free");
    // Which code is fastest is for the clock to say, and not for a count.
    let _ = reader.keep_batch_code("portable");
    let online = reader.online();
    for workload in Workload::ALL {
        let keys = Keys::some(workload, routes, COUNT);
        counted_one(&online, &keys.bits);
        for batch in [32, 256] {
            counted_batch::<W>(&online, &keys.addrs, batch);
        }
    }
}

#[inline(never)]
fn counted_one<W: Lookup>(fib: &Online<'_>, keys: &[W]) {
    for &key in keys {
        black_box(W::one(fib, key));
    }
}

#[inline(never)]
fn counted_batch<W: Lookup>(fib: &Online<'_>, addrs: &[W::Addr], batch: usize) {
    let mut found = [GroupId::NONE; 256];
    for addrs in addrs.chunks_exact(batch) {
        W::batch(fib, addrs, &mut found[..batch]);
        black_box(&found);
    }
}

/// First argument of the program that valgrind runs.
const INSIDE: &str = "--inside";

const COUNT: usize = 1 << 14;
