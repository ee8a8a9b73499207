//! Proof by endurance: wrong frames by the million through every engine. Each is sent on or counted,
//! what leaves is right, and after every few a good packet passes.
//!
//! `cargo run --profile dist -p nearhop-benches -- frames [--count N]`. Ends with status 1 at the first
//! frame of which that is not so.
#![forbid(unsafe_code)]

mod made;
mod router;
mod wire;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use nearhop::time::Nanos;
use nearhop::verdict::Verdict;

use self::made::Frames;
use self::router::Router;
use self::wire::Engine;

/// Wrong frames by the million through every engine, judged.
#[derive(Clone, Copy, Debug, Parser)]
#[command(name = "nearhop-benches frames")]
struct Cli {
    /// How many, for each engine.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Where its random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs it with the arguments after its name.
pub fn main(args: &[OsString]) -> ExitCode {
    let options = Cli::parse_from(args);
    for engine in [Engine::Memory, Engine::Epoll, Engine::Uring] {
        if let Err(why) = run(engine, options).and_then(|used| used.map_or(Ok(()), Used::judge)) {
            let _ = writeln!(std::io::stderr(), "frames: FAILED: {}: {why}", engine.name());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What the process held after a tenth and at the end; `None` where there is no such engine.
fn run(engine: Engine, options: Cli) -> Result<Option<[Used; 2]>, String> {
    let mut router = match Router::new(engine) {
        Err(why) if engine == Engine::Uring => {
            println!("{}: not here: {why}", engine.name());
            return Ok(None);
        }
        router => router?,
    };
    let mut frames = Frames::new(options.seed);
    let (start, mut warm) = (Nanos::now(), None);
    let rounds = options.count.div_ceil(WRONG_IN_ROUND);
    for round in 0..rounds {
        for frame in 0..WRONG_IN_ROUND {
            // More of them on the way that good packets take.
            let from = usize::from(frame % 3 == 0);
            router.put(from, &frames.wrong(from));
        }
        router.run()?;
        let number = round as u32;
        router.put(0, &made::good(number));
        router.run()?;
        if router.arrived.pop() != Some(number) {
            return Err(format!("good packet {number} did not arrive"));
        }
        // Buffers have grown to what they need by then.
        if round == rounds / 10 {
            warm = Some(Used::now());
        }
    }
    let took = Nanos::now().since(start);
    let used = [warm.unwrap_or_else(Used::now), Used::now()];
    println!(
        "{}: {} frames and {rounds} good packets in {:.1} s; {used:?}",
        engine.name(),
        rounds * WRONG_IN_ROUND,
        took.as_secs_f64(),
    );
    for &verdict in Verdict::ALL {
        let count = router.counted(verdict);
        if count > 0 {
            println!("  {:>12} {}", count, verdict.label());
        }
    }
    for verdict in [Verdict::Forward, Verdict::Joined, Verdict::FragmentSent, Verdict::TooBig] {
        if router.counted(verdict) == 0 {
            return Err(format!("nothing ended as {}: that was not tried", verdict.label()));
        }
    }
    Ok(Some(used))
}

/// What the process holds.
#[derive(Clone, Copy, Debug)]
struct Used {
    kib: usize,
    descriptors: usize,
}

impl Used {
    fn now() -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
        let kib = pages.unwrap_or(0) * (rustix::param::page_size() / 1024);
        Self { kib, descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) }
    }

    fn judge([before, after]: [Self; 2]) -> Result<(), String> {
        if after.kib > before.kib + LEAK_KIB || after.descriptors != before.descriptors {
            return Err("something leaks".into());
        }
        Ok(())
    }
}

/// As many as fit into a batch, besides the good one.
const WRONG_IN_ROUND: u64 = nearhop::batch::BURST as u64 - 1;

/// What the allocator may hold more at the end; one frame in a thousand that leaked would be more.
const LEAK_KIB: usize = 2048;

#[cfg(test)]
mod tests;
