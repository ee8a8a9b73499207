//! History of the forwarding step and its parts, over the full table: for comparing commits on one
//! machine. Figures to quote come from `nearhop-benches forward`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "../src/forward/rig.rs"]
mod rig;

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nearhop::batch::BURST;
use nearhop_fib::{FlowKey, Selected};

use rig::{Rig, Table};

fn forward(c: &mut Criterion) {
    let table = Table::load().unwrap_or_else(|error| panic!("testdata: {error}"));
    let mut rig = Rig::new(&table);
    let addresses: Vec<IpAddr> = table.addresses(1 << 16).into_iter().map(IpAddr::V4).collect();
    let packets = table.packets(1 << 16, 64);
    let bursts: Vec<_> = packets.bursts().collect();

    let mut group = c.benchmark_group("packet");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut at = 0;
    group.bench_function("lookup", |b| {
        let online = rig.reader.online();
        b.iter(|| {
            at = (at + BURST) % addresses.len();
            for &address in &addresses[at..at + BURST] {
                black_box(online.lookup(black_box(address)));
            }
        });
    });
    group.bench_function("select", |b| {
        let online = rig.reader.online();
        let found: Vec<_> = addresses.iter().map(|&address| online.lookup(address)).collect();
        let (mut port, mut chosen) = (0, [Selected::NoRoute; BURST]);
        b.iter(|| {
            at = (at + BURST) % found.len();
            let hash = |_, _| {
                port += 1;
                FlowKey { src_port: port as u16, ..FlowKey::default() }.hash(0)
            };
            online.select_batch(&found[at..at + BURST], hash, &mut chosen);
            black_box(&chosen);
        });
    });
    group.bench_function("forward", |b| {
        b.iter(|| {
            at = (at + 1) % bursts.len();
            rig.fill(black_box(bursts[at].clone()));
            rig.step();
        });
    });
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
