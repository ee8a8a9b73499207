//! What a thousand BFD sessions cost: nearhop has one end of each, BIRD the other. Both are asked of the same sessions at
//! the same time, each for the processor time of its own threads.
#![forbid(unsafe_code)]

mod stand;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nearhop::time::Nanos;
use nearlab::traffic::probe::sleep_until;

use self::stand::{INTERVAL_MS, SESSIONS, Stand};
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;
use crate::{Wish, linux};

/// What was seen for a while.
struct Sample {
    /// Shares of one core, percent.
    liveness: f64,
    workers: f64,
    all: f64,
    bird: f64,
    /// Packets a second, each way.
    received: f64,
    sent: f64,
    /// Sessions that went down.
    downs: f64,
}

/// Runs it.
pub fn run(wish: Wish<'_>, noise: &mut Noise) -> Result<Vec<Row>, BenchError> {
    let name = format!("{SESSIONS} sessions at {INTERVAL_MS} ms");
    if !linux::finds("bird") {
        return Ok(vec![Row::missing(name, "BIRD", "missing: no program bird")]);
    }
    let stand = Stand::start()?;
    let mut samples = Vec::new();
    for _ in 0..wish.repeat {
        samples.push(Sample::take(&stand)?);
    }
    noise.look_after();
    let of = |figure: fn(&Sample) -> f64| Summary::of(samples.iter().map(figure));
    let named = |what: &str| format!("{name}: {what}");
    let bird = of(|sample| sample.bird);
    let liveness = of(|sample| sample.liveness);
    let target = format!("at most {SHARE_MAX} %");
    let is_met = liveness.p50 <= SHARE_MAX;
    Ok(vec![
        Row::figure(named("liveness thread"), "%", &liveness).judged(target, is_met),
        Row::figure(named("workers"), "%", &of(|sample| sample.workers)),
        Row::figure(named("all threads"), "%", &of(|sample| sample.all))
            .against("BIRD, the other end", Some(bird.p50)),
        Row::figure(named("received"), "1/s", &of(|sample| sample.received)),
        Row::figure(named("sent"), "1/s", &of(|sample| sample.sent)),
        Row::figure(named("went down"), "", &of(|sample| sample.downs)),
    ])
}

impl Sample {
    fn take(stand: &Stand) -> Result<Self, BenchError> {
        let ids = [stand.nearhop(), stand.bird()];
        let begun = Nanos::now();
        let (before, packets, downs) = (ids.map(processor_s), stand.packets()?, stand.downs());
        sleep_until(begun + LOOK);
        let (after, packets_after) = (ids.map(processor_s), stand.packets()?);
        let seconds = Nanos::now().since(begun).as_secs_f64();
        let [[nearhop, bird], [nearhop_after, bird_after]] = [before, after];
        let (nearhop, nearhop_after, bird, bird_after) =
            (nearhop?, nearhop_after?, bird?, bird_after?);
        let share = |name: &str| {
            let of = |times: &BTreeMap<String, f64>| -> f64 {
                times.iter().filter(|(of, _)| of.starts_with(name)).map(|(_, time)| time).sum()
            };
            100.0 * (of(&nearhop_after) - of(&nearhop)) / seconds
        };
        let sum = |times: &BTreeMap<String, f64>| times.values().sum::<f64>();
        let rate = |way: usize| (packets_after[way] - packets[way]) as f64 / seconds;
        let sample = Self {
            liveness: share("nh-liveness"),
            workers: share("nh-worker"),
            all: share(""),
            bird: 100.0 * (sum(&bird_after) - sum(&bird)) / seconds,
            received: rate(0),
            sent: rate(1),
            downs: (stand.downs() - downs) as f64,
        };
        eprintln!(
            "liveness {:.1} %, workers {:.1} %, all {:.1} %; BIRD {:.1} %; {:.0} and {:.0} packets/s, {} down",
            sample.liveness,
            sample.workers,
            sample.all,
            sample.bird,
            sample.received,
            sample.sent,
            sample.downs,
        );
        Ok(sample)
    }
}

/// Processor time of each thread of a process, seconds, by name; of threads of the same name together.
fn processor_s(pid: u32) -> Result<BTreeMap<String, f64>, BenchError> {
    let mut times = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(BenchError::environment)?;
    for task in tasks.flatten() {
        // One that has ended meanwhile used nothing worth noting.
        let Ok(text) = fs::read_to_string(task.path().join("stat")) else { continue };
        if let Some((name, seconds)) = thread_time(&text) {
            *times.entry(name.to_owned()).or_default() += seconds;
        }
    }
    Ok(times)
}

/// A thread's name and processor time: fields 2, and 14 with 15, of proc_pid_stat(5).
fn thread_time(stat: &str) -> Option<(&str, f64)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<u64, _>>().ok()?;
    Some((name, ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// How long processor time is added up.
const LOOK: Duration = Duration::from_secs(10);

/// What the liveness thread may use of one core, percent.
const SHARE_MAX: f64 = 25.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_a_name_and_a_time() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 9 0 0 0 250 150 3 4 20 0 1 0 99 1 1";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(thread_time(stat), Some(("a (b) c", 400.0 / ticks)));
        assert_eq!(thread_time("7 (a"), None);
        let own = processor_s(std::process::id()).unwrap();
        assert!(!own.is_empty());
    }
}
