//! The forwarding step in memory: no device, no system call but the clock's.
#![forbid(unsafe_code)]

pub mod rig;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use nearhop::batch::BURST;
use nearhop::packet::Meta;
use nearhop::time::Nanos;

use self::rig::{Rig, Table};
use crate::Wish;
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;

/// Runs the bench.
pub fn run(wish: Wish<'_>, _noise: &mut Noise) -> Result<Vec<Row>, BenchError> {
    let table = Table::load().map_err(BenchError::environment)?;
    let mut rig = Rig::new(&table);
    let rounds = (wish.repeat as usize).max(3);
    let mut rows = Vec::new();
    for (traffic, flows) in [("one flow", 1), ("1,024 flows", 1 << 10), ("262,144 flows", 1 << 18)]
    {
        let packets = table.packets(flows);
        let chunks: Vec<&[Vec<u8>]> = packets.chunks_exact(BURST).collect();
        let mut stages = [(); 5].map(|()| Vec::with_capacity(rounds));
        for _ in 0..rounds {
            for (stage, samples) in stages.iter_mut().enumerate() {
                samples.push(time(&mut rig, &chunks, stage));
            }
        }
        let names =
            ["copy in", "parse", "lookup", "lookup and select", "whole step, copy included"];
        for (name, samples) in names.into_iter().zip(&stages) {
            let summary = Summary::of(samples.iter().copied());
            rows.push(Row::told(format!("{traffic}: {name}"), "ns", &summary));
        }
    }
    rows.push(Row::told("routes", "", &Summary::of([table.prefixes.len() as f64])));
    Ok(rows)
}

/// Nanoseconds for a packet of one pass over all chunks.
fn time(rig: &mut Rig, chunks: &[&[Vec<u8>]], stage: usize) -> f64 {
    let start = Nanos::now();
    let mut passes = 0;
    while passes * chunks.len() * BURST < PACKETS_MIN {
        for chunk in chunks {
            match stage {
                0 => rig.fill(chunk),
                1 => parse(chunk),
                2 => lookup(rig, chunk, false),
                3 => lookup(rig, chunk, true),
                _ => rig.step(chunk),
            }
        }
        passes += 1;
    }
    let packets = passes * chunks.len() * BURST;
    Nanos::now().since(start).as_nanos() as f64 / packets as f64
}

fn parse(chunk: &[Vec<u8>]) {
    for packet in chunk {
        let _ = black_box(Meta::parse(black_box(packet)));
    }
}

/// Destination addresses are read from the packets' own bytes.
fn lookup(rig: &mut Rig, chunk: &[Vec<u8>], select: bool) {
    let online = rig.reader.online();
    for packet in chunk {
        let word = [packet[16], packet[17], packet[18], packet[19]];
        let found = online.lookup(IpAddr::V4(Ipv4Addr::from(word)));
        if select {
            let flow =
                nearhop_fib::FlowKey { dst: u128::from(u32::from_be_bytes(word)), ..rig.key };
            black_box(online.select(found, flow.hash(0)));
        } else {
            black_box(found);
        }
    }
}

/// A sample takes some milliseconds.
const PACKETS_MIN: usize = 1 << 17;
