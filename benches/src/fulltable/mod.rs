//! How fast a table of BGP comes into the FIB, what memory the whole process needs for it at its peak, and
//! what happens to packets meanwhile. BIRD takes the same table in the same run, and sends it too.
#![forbid(unsafe_code)]

mod bird;
mod lab;
pub mod speaker;
pub mod table;

use std::net::Ipv6Addr;

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;

use self::lab::{Lab, REMOTE_AS, ROUTER, neighbor, peak_mb, processor_s};
use self::speaker::{Ends, Speaker};
use self::table::{Announcer, Table};
use crate::Wish;
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;

/// Who announces what.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Feed {
    /// How many neighbours announce, each its own part of the table (`fulltable`).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=250))]
    neighbors: u32,
    /// How many routes each of them has (`fulltable`); a million in all by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    routes: Option<u32>,
    /// So many of them die at once, three times, and come back with their routes (`fulltable`).
    #[arg(long, default_value_t = 0)]
    flap: u32,
    /// So many TCP checks of one site run beside it, each every 50 ms (`fulltable`).
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=256))]
    checks: u32,
}

impl Feed {
    /// # Errors
    /// More are to flap than there are.
    pub fn check(self) -> Result<(), BenchError> {
        let Self { neighbors, flap, .. } = self;
        if flap > neighbors {
            let why = format!(
                "{flap} neighbours cannot flap of {neighbors}: --flap is at most --neighbors"
            );
            return Err(BenchError::usage(why));
        }
        Ok(())
    }
}

/// One load of a table.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    seconds: f64,
    peak_mb: f64,
    lost: f64,
    /// The longest of the control thread, which has the routes.
    step_ms: f64,
    /// Of the host thread, which has the sessions and the TCP checks.
    host_step_ms: f64,
    /// Processor time of the router, of all its threads.
    processor_s: f64,
    /// Verdicts that a TCP check is down.
    false_verdicts: f64,
}

/// A router that begins to take a table.
struct Begun {
    idle_s: f64,
}

impl Begun {
    fn now(lab: &Lab) -> Result<Self, BenchError> {
        lab.count_again();
        Ok(Self { idle_s: processor_s(lab.daemon.child.id())? })
    }

    /// The table came in this time.
    fn end(self, lab: &Lab, seconds: f64) -> Result<Load, BenchError> {
        let processor_s = processor_s(lab.daemon.child.id())? - self.idle_s;
        let (step_us, step) = lab.longest_step("control")?;
        let (host_step_us, host_step) = lab.longest_step("host")?;
        let ms = |us: u64| us as f64 / 1e3;
        eprintln!(
            "longest steps: {:.2} ms, {step}; {:.2} ms, {host_step}",
            ms(step_us),
            ms(host_step_us)
        );
        Ok(Load {
            seconds,
            peak_mb: 0.0,
            lost: 0.0,
            step_ms: ms(step_us),
            host_step_ms: ms(host_step_us),
            processor_s,
            false_verdicts: 0.0,
        })
    }
}

impl Load {
    /// What is known at the end of a run.
    fn finish(&mut self, lab: &mut Lab) -> Result<(), BenchError> {
        self.peak_mb = peak_mb(lab.daemon.child.id())?;
        self.false_verdicts = lab.verdicts_down() as f64;
        let (_, lost) = lab.losses();
        self.lost = lost as f64;
        Ok(())
    }
}

/// Runs it.
pub fn run(wish: Wish<'_>, noise: &mut Noise) -> Result<Vec<Row>, BenchError> {
    let count = wish.feed.neighbors as usize;
    let each = wish.feed.routes.map_or(MILLION / count, |routes| routes as usize);
    let table = Table::load(count * each)?;
    eprintln!("{} routes with {} sets of attributes", table.routes.len(), table.sets);
    let parts: Vec<Part> = (0..count).map(|index| Part::new(&table, index, each)).collect();
    let (mut loads, mut flaps) = (Vec::new(), Vec::new());
    for _ in 0..wish.repeat {
        let (load, flapped) = load(&parts, wish.feed)?;
        loads.push(load);
        flaps.extend(flapped);
        noise.look_after();
    }
    let peers = if wish.alone { None } else { Some(bird::with_bird(&table, wish.repeat)) };
    let (by_bird, of_bird) = match peers {
        Some(peers) => peers?,
        None => (Vec::new(), Vec::new()),
    };
    let name = if count == 1 {
        format!("{each} routes, pre-encoded")
    } else {
        format!("{count} neighbours with {each} routes")
    };
    let is_judged = count * each == MILLION;
    let mut rows = rows(&name, &loads, &of_bird, is_judged);
    if !by_bird.is_empty() {
        rows.extend(self::rows(
            &format!("{} routes, by BIRD", table.routes.len()),
            &by_bird,
            &[],
            is_judged,
        ));
    }
    if wish.feed.checks > 0 {
        let verdicts = Summary::of(loads.iter().map(|load| load.false_verdicts));
        let name = format!("{} TCP checks beside it: false verdicts", wish.feed.checks);
        rows.push(Row::figure(name, "", &verdicts).judged("none", verdicts.max == 0.0));
    }
    if !flaps.is_empty() {
        let of = |figure: fn(&Flap) -> f64| Summary::of(flaps.iter().map(figure));
        let name = format!("{} of them flap", wish.feed.flap);
        rows.push(Row::figure(format!("{name}: gone"), "s", &of(|flap| flap.gone)));
        rows.push(Row::figure(format!("{name}: back"), "s", &of(|flap| flap.back)));
    }
    if wish.alone || of_bird.is_empty() {
        rows.push(Row::missing("BIRD", "BIRD 2", "left out, or not installed"));
    }
    Ok(rows)
}

/// What one neighbour announces.
struct Part {
    ends: Ends,
    routes: Vec<(nearhop_fib::IpPrefix, u32)>,
    bytes: Vec<u8>,
}

impl Part {
    fn new(table: &Table, index: usize, each: usize) -> Self {
        let routes = table.routes[index * each..][..each].to_vec();
        let local = neighbor(index);
        let from = Announcer { asn: REMOTE_AS, v4: local, v6: NEXT_HOP_V6 };
        let ends = Ends { local, asn: REMOTE_AS, remote: ROUTER };
        let bytes = Table::encode(&routes, from);
        Self { ends, routes, bytes }
    }

    fn open(&self) -> Result<Speaker, BenchError> {
        Speaker::open(&NetNs::named("up"), self.ends)
    }
}

/// How long routes of neighbours that died were there, and how long they needed to be back.
#[derive(Clone, Copy, Debug)]
struct Flap {
    gone: f64,
    back: f64,
}

/// Starts a router and loads it with all parts at once; then some of the neighbours flap.
fn load(parts: &[Part], feed: Feed) -> Result<(Load, Vec<Flap>), BenchError> {
    let mut lab = Lab::start(parts.len(), feed.checks as usize)?;
    let speakers: Result<Vec<_>, _> = parts.iter().map(Part::open).collect();
    let mut speakers = speakers?;
    let total: usize = parts.iter().map(|part| part.routes.len()).sum();
    let begun = Begun::now(&lab)?;
    let since = send_all(&mut speakers, parts)?;
    let published = lab.wait_published(total as u64)?;
    let mut load = begun.end(&lab, published.at.since(since).as_secs_f64())?;
    check(&lab, parts)?;
    let mut flaps = Vec::new();
    for _ in 0..if feed.flap > 0 { FLAPS } else { 0 } {
        flaps.push(self::flap(&lab, &mut speakers, parts, feed.flap as usize)?);
    }
    load.finish(&mut lab)?;
    let Load { seconds, processor_s, peak_mb, lost, .. } = load;
    eprintln!(
        "{seconds:.3} s ({processor_s:.2} s of processors) in {} publications, {peak_mb:.1} MB, {lost} datagrams lost",
        published.times,
    );
    Ok((load, flaps))
}

/// Each neighbour on a thread of its own; returns when the first byte was sent.
fn send_all(speakers: &mut [Speaker], parts: &[Part]) -> Result<Nanos, BenchError> {
    let begun = std::thread::scope(|scope| {
        let each = speakers.iter_mut().zip(parts);
        let threads: Vec<_> =
            each.map(|(speaker, part)| scope.spawn(|| speaker.send(&part.bytes))).collect();
        let sent = threads.into_iter().map(|thread| match thread.join() {
            Ok(sent) => sent,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        sent.collect::<Result<Vec<_>, _>>()
    });
    Ok(begun?.into_iter().min().unwrap_or_default())
}

/// The first neighbours die and come back.
fn flap(
    lab: &Lab,
    speakers: &mut Vec<Speaker>,
    parts: &[Part],
    count: usize,
) -> Result<Flap, BenchError> {
    let routes: usize = parts[..count].iter().map(|part| part.routes.len()).sum();
    lab.count_again();
    let died = Nanos::now();
    drop(speakers.drain(..count));
    let gone = lab.wait_published(routes as u64)?.at.since(died).as_secs_f64();
    let again: Result<Vec<_>, _> = parts[..count].iter().map(Part::open).collect();
    speakers.splice(0..0, again?);
    lab.count_again();
    let begun = send_all(&mut speakers[..count], &parts[..count])?;
    let back = lab.wait_published(routes as u64)?.at.since(begun).as_secs_f64();
    Ok(Flap { gone, back })
}

/// What was sent is what the router has, and some of it is looked up.
fn check(lab: &Lab, parts: &[Part]) -> Result<(), BenchError> {
    let rows = lab.show("bgp")?;
    let of = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
    let total: usize = parts.iter().map(|part| part.routes.len()).sum();
    let received = of("received_ipv4") + of("received_ipv6");
    if received != total as u64 || of("refused") != 0 {
        let refused = of("refused");
        let why = format!("{received} of {total} routes received, {refused} of them refused");
        return Err(BenchError::environment(why));
    }
    for part in parts {
        for (prefix, _) in part.routes.iter().step_by((part.routes.len() / LOOKUPS).max(1)) {
            let found = lab.explain(prefix.addr())?;
            if found["source"] != "bgp" || found["verdict"] != "forwarded" {
                return Err(BenchError::environment(format!("{prefix} leads to {found}")));
            }
        }
    }
    Ok(())
}

fn rows(name: &str, loads: &[Load], peer: &[Load], is_judged: bool) -> Vec<Row> {
    let of = |figure: fn(&Load) -> f64| Summary::of(loads.iter().map(figure));
    let against = |row: Row, figure: fn(&Load) -> f64| {
        let figure = Summary::of(peer.iter().map(figure)).p50;
        if peer.is_empty() { row } else { row.against("BIRD 2, its RIB alone", Some(figure)) }
    };
    let judged = |row: Row, target: &str, met: bool| {
        if is_judged { row.judged(target, met) } else { row }
    };
    let (time, memory) = (of(|load| load.seconds), of(|load| load.peak_mb));
    let time_row = Row::figure(format!("{name}: in the FIB"), "s", &time);
    let memory_row = Row::figure(format!("{name}: peak"), "MB", &memory);
    vec![
        judged(against(time_row, |load| load.seconds), "within 1.5 s", time.p50 <= 1.5),
        against(
            Row::figure(format!("{name}: processor time"), "s", &of(|load| load.processor_s)),
            |load| load.processor_s,
        ),
        judged(against(memory_row, |load| load.peak_mb), "at most 200 MB", memory.max <= 200.0),
        Row::figure(format!("{name}: lost"), "", &of(|load| load.lost))
            .judged("none", of(|load| load.lost).max == 0.0),
        Row::figure(format!("{name}: longest control step"), "ms", &of(|load| load.step_ms)),
        Row::figure(format!("{name}: longest host step"), "ms", &of(|load| load.host_step_ms)),
    ]
}

const MILLION: usize = 1_000_000;

/// Prefixes of each neighbour that are looked up at the end.
const LOOKUPS: usize = 100;

/// How often neighbours die in one run; the router waits longer each time before it takes them back.
const FLAPS: usize = 3;

const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_neighbours_flap_than_there_are() {
        for (neighbors, flap, is_good) in [(1, 0, true), (10, 10, true), (9, 10, false)] {
            let feed = Feed { neighbors, routes: None, flap, checks: 0 };
            assert_eq!(feed.check().is_ok(), is_good, "{feed:?}");
        }
    }
}
