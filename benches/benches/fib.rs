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

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use nearhop_fib::{
    ACCEPT_ALL, FlowKey, Group, GroupId, IpPrefix, Member, PathId, Reader, Reason, Selected,
    Spread, WhenDead, Writer, fib, name_key,
};

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

/// What takes longest: prefixes that decide many slots, in a part with little inside and in one with
/// much; and a route that flaps.
fn changes(c: &mut Criterion) {
    let prefixes = Table::load().unwrap_or_else(|error| panic!("testdata: {error}")).prefixes;
    let (mut writer, _reader) = table(&Routes::<u32>::of(&prefixes));
    let (mut writer_v6, _reader_v6) = table(&Routes::<u128>::of(&prefixes));
    let mut group = c.benchmark_group("add and remove");
    for text in ["0.0.0.0/0", "241.0.0.0/8", "103.0.0.0/8", "241.0.0.0/9", "192.0.2.0/24"] {
        pair(&mut group, &mut writer, text);
    }
    for text in ["::/0", "2001::/16", "2a00::/17", "2a00::/25", "2001:db8::/32", "2001:db8::/48"] {
        pair(&mut group, &mut writer_v6, text);
    }
    group.finish();
}

fn pair(group: &mut BenchmarkGroup<'_, WallTime>, writer: &mut Writer, text: &str) {
    let prefix: IpPrefix = text.parse().expect("a prefix");
    // One that is there already is replaced, and put back.
    let before = writer.get(prefix);
    let (_, other) = writer.iter().next().expect("a full table");
    group.bench_function(text, |b| {
        b.iter(|| {
            writer.insert(prefix, other).expect("the group is there");
            writer.remove(prefix).expect("no reader is online");
        });
    });
    if let Some(group) = before {
        writer.insert(prefix, group).expect("the group is there");
    }
}

/// A flow's member among eight sites and among one, with all of them alive and with the best dead.
fn selection(c: &mut Criterion) {
    let (mut writer, handle) = fib(1);
    let port = writer.add_adjacency(1, name_key("port")).expect("an empty FIB has room");
    let paths: Vec<_> = (0..8)
        .map(|n| writer.add_path(name_key(&format!("site{n}")), ACCEPT_ALL))
        .collect::<Result<_, _>>()
        .expect("an empty FIB has room");
    let mut group_of = |paths: &[PathId]| {
        let member = |&path| Member { path, adjacency: port, tier: 0, weight: 1, link_weight: 1 };
        let members = paths.iter().map(member).collect();
        let when_dead = WhenDead::Unreachable;
        writer
            .add_group(&Group::Forward { members, when_dead, spread: Spread::Flow })
            .expect("an empty FIB has room")
    };
    let groups = [("1 site", group_of(&paths[..1])), ("8 sites", group_of(&paths))];
    let mut reader = handle.reader().expect("one reader was asked for");
    let online = reader.online();
    let mut bench = c.benchmark_group("select");
    bench.throughput(Throughput::Elements(64));
    let mut flow = 0;
    for dead in [false, true] {
        if dead {
            handle.set_path_down(paths[0], Reason::Probe);
        }
        for (name, group) in groups {
            let state = if dead { "one dead" } else { "alive" };
            bench.bench_function(format!("{name}, {state}"), |b| {
                let mut chosen = [Selected::NoRoute; 64];
                b.iter(|| {
                    let hash = |_, _| {
                        flow += 1;
                        FlowKey { dst: flow, ..FlowKey::default() }.hash(0)
                    };
                    online.select_batch(black_box(&[group; 64]), hash, &mut chosen);
                    black_box(&chosen);
                });
            });
        }
    }
    bench.finish();
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

criterion_group!(benches, lookups, changes, selection);
criterion_main!(benches);
