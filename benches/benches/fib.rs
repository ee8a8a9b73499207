//! History of lookups in the full table: for comparing commits on one machine. Figures to quote,
//! and other tables' beside them, come from `nearhop-benches fib`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

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

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nearhop_fib::{Group, GroupId, Reader, Writer, fib};

use keys::{HOPS, Keys, Routes, Workload};
use lookup::{Lookup, prefix};
use rig::Table;

fn lookups(c: &mut Criterion) {
    let prefixes = Table::load().unwrap_or_else(|error| panic!("testdata: {error}")).prefixes;
    family(c, &Routes::<u32>::of(&prefixes));
    family(c, &Routes::<u128>::of(&prefixes));
}

fn family<W: Lookup>(c: &mut Criterion, routes: &Routes<W>) {
    let (_writer, mut reader) = table(routes);
    let online = reader.online();
    let mut group = c.benchmark_group(W::FAMILY);
    for workload in Workload::ALL {
        let keys = Keys::some(workload, routes, KEYS);
        group.throughput(Throughput::Elements(1));
        let mut bits = keys.bits.iter().cycle();
        group.bench_function(format!("{workload}/one"), |b| {
            b.iter(|| bits.next().map(|&key| W::one(&online, black_box(key))));
        });
        for batch in [32, 256] {
            group.throughput(Throughput::Elements(batch as u64));
            let mut found = vec![GroupId::NONE; batch];
            let mut batches = keys.addrs.chunks_exact(batch).cycle();
            group.bench_function(format!("{workload}/{batch}"), |b| {
                b.iter(|| {
                    if let Some(addrs) = batches.next() {
                        W::batch(&online, black_box(addrs), &mut found);
                    }
                    black_box(&found);
                });
            });
        }
    }
    group.finish();
}

fn table<W: Lookup>(routes: &Routes<W>) -> (Writer, Reader) {
    let (mut writer, handle) = fib(1);
    let mut group = |_| writer.add_group(&Group::Blackhole).expect("an empty FIB has room");
    let groups: Vec<GroupId> = (0..HOPS).map(&mut group).collect();
    for route in &routes.0 {
        writer.insert(prefix(route), groups[route.hop as usize]).expect("the group is there");
    }
    (writer, handle.reader().expect("one reader was asked for"))
}

/// Many more than caches hold table for.
const KEYS: usize = 1 << 20;

criterion_group!(benches, lookups);
criterion_main!(benches);
