//! The forwarding step in memory: no device, no system call but the clock's.
#![forbid(unsafe_code)]

pub mod rig;

use nearhop::batch::BURST;
use nearhop::forward::Stage;
use nearhop::time::Nanos;

use self::rig::{Packets, Rig, Table};
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
    for traffic in TRAFFIC {
        let packets = table.packets(traffic.flows, traffic.apart);
        time(&mut rig, &packets);
        let samples: Vec<Cost> = (0..rounds).map(|_| time(&mut rig, &packets)).collect();
        rows.extend(traffic.rows(&samples));
    }
    rows.push(Row::figure("routes", "", &Summary::of([table.prefixes.len() as f64])));
    Ok(rows)
}

/// What packets come, and what the step may cost with them.
struct Traffic {
    name: &'static str,
    flows: usize,
    /// Bytes from a packet to the next, where they come from.
    apart: usize,
    /// Nanoseconds for a packet; `None`: shown only.
    target: Option<f64>,
    /// The way in counts too: where nothing of a packet is in a cache, it is what waits for it.
    with_copy: bool,
}

const TRAFFIC: [Traffic; 4] = [
    Traffic { name: "one flow", flows: 1, apart: 64, target: Some(8.0), with_copy: false },
    Traffic { name: "1,024 flows", flows: 1 << 10, apart: 64, target: None, with_copy: false },
    Traffic { name: "65,536 flows", flows: 1 << 16, apart: 64, target: None, with_copy: false },
    Traffic { name: "cold", flows: 1 << 18, apart: 512, target: Some(30.0), with_copy: true },
];

impl Traffic {
    fn rows(&self, samples: &[Cost]) -> Vec<Row> {
        let summary = |part: &dyn Fn(&Cost) -> f64| Summary::of(samples.iter().map(part));
        let reported = |name: &str, summary: &Summary| {
            Row::figure(format!("{}: {name}", self.name), "ns", summary)
        };
        let (name, whole) = if self.with_copy {
            ("copy in and step", summary(&|cost| cost.copy_in + cost.step))
        } else {
            ("step", summary(&|cost| cost.step))
        };
        let mut whole_row = reported(name, &whole);
        if let Some(target) = self.target {
            whole_row = whole_row.judged(format!("at most {target}"), whole.p50 <= target);
        }
        let stages = [Stage::Admit, Stage::LookUp, Stage::Select, Stage::Send];
        let stages = stages.into_iter().map(|stage| {
            reported(&format!("  {stage:?}"), &summary(&|cost| cost.stages[stage as usize]))
        });
        [whole_row, reported("  copy in", &summary(&|cost| cost.copy_in))]
            .into_iter()
            .chain(stages)
            .collect()
    }
}

/// Nanoseconds for a packet.
struct Cost {
    copy_in: f64,
    /// By itself, without a look at the clock inside.
    step: f64,
    stages: [f64; Stage::Answer as usize + 1],
}

/// One pass over all packets, as often as it takes for some milliseconds.
fn time(rig: &mut Rig, packets: &Packets) -> Cost {
    let count = packets.bursts().count() * BURST;
    let passes = PACKETS_MIN.div_ceil(count);
    let total = (passes * count) as f64;
    let (mut copy_in, mut step, mut stages) = (0, 0, [0; Stage::Answer as usize + 1]);
    for _ in 0..passes {
        for burst in packets.bursts() {
            let start = Nanos::now();
            rig.fill(burst.clone());
            let filled = Nanos::now();
            rig.step();
            step += Nanos::now().since(filled).as_nanos();
            copy_in += filled.since(start).as_nanos();
        }
        for burst in packets.bursts() {
            rig.fill(burst);
            let mut last = Nanos::now();
            rig.step_watched(|stage| {
                let now = Nanos::now();
                stages[stage as usize] += now.since(last).as_nanos();
                last = now;
            });
        }
    }
    let each = |nanos: u128| nanos as f64 / total;
    Cost { copy_in: each(copy_in), step: each(step), stages: stages.map(each) }
}

const PACKETS_MIN: usize = 1 << 18;
