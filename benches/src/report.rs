//! What a bench gives: rows of figures, as a table for people and as JSON for scripts.
#![forbid(unsafe_code)]

use std::fmt;

use nearlab::report::Machine;
use serde::Serialize;

use crate::noise::Measured;
use crate::stats::Summary;

/// One bench of one run: `nearhop.bench.v1`.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names are the schema's")]
pub struct Bench {
    schema: &'static str,
    bench: String,
    machine: MachineFacts,
    noise: Measured,
    rows: Vec<Row>,
}

/// The machine in JSON.
#[derive(Clone, Debug, Serialize)]
struct MachineFacts {
    kernel: String,
    cpu: String,
    cores: usize,
    memory_mib: u64,
    system: String,
}

/// One figure of nearhop, beside that of a peer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// nearhop's figure: the median.
    pub nearhop: Option<f64>,
    /// The peer's.
    pub peer: Option<f64>,
    /// Who the peer is, and that it is missing where it is.
    pub peer_name: String,
    /// nearhop's figure divided by the peer's.
    pub ratio: Option<f64>,
    /// What is to be reached, in words; empty where the figure is only shown.
    pub target: String,
    /// Whether it was.
    pub met: Option<bool>,
    /// First and third quartile of nearhop's figure, in its unit.
    pub spread: Option<[f64; 2]>,
    /// One of many: people see it only if it missed its target.
    #[serde(skip)]
    pub detail: bool,
}

impl Row {
    /// A row with nearhop's figure alone.
    pub fn figure(name: impl Into<String>, unit: &str, figure: &Summary) -> Self {
        Self {
            name: name.into(),
            unit: unit.to_owned(),
            nearhop: Some(figure.p50),
            spread: Some([figure.p25, figure.p75]),
            ..Self::default()
        }
    }

    /// Sets a peer's figure beside it.
    #[must_use]
    pub fn against(mut self, name: &str, peer: Option<f64>) -> Self {
        name.clone_into(&mut self.peer_name);
        self.peer = peer;
        self.ratio = self.nearhop.zip(peer).filter(|(_, peer)| *peer != 0.0).map(|(n, p)| n / p);
        self
    }

    /// Judges it.
    #[must_use]
    pub fn judged(mut self, target: impl Into<String>, met: bool) -> Self {
        self.target = target.into();
        self.met = Some(met);
        self
    }

    /// Keeps it from people while its target is met.
    #[must_use]
    pub fn in_detail(mut self) -> Self {
        self.detail = true;
        self
    }

    /// A peer that could not be measured.
    pub fn missing(name: impl Into<String>, peer: &str, why: &str) -> Self {
        let peer_name = format!("{peer} ({why})");
        Self { name: name.into(), peer_name, ..Self::default() }
    }
}

impl Bench {
    /// Puts a run's results together.
    pub fn new(name: &str, noise: Measured, rows: Vec<Row>) -> Self {
        let Machine { kernel, cpu, cores, memory_mib, system } = Machine::this();
        let machine = MachineFacts { kernel, cpu, cores, memory_mib, system };
        Self { schema: SCHEMA, bench: name.to_owned(), machine, noise, rows }
    }

    /// Whether every target that was judged was met.
    pub fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }
}

impl Bench {
    /// Whether others left the processors alone, before and after.
    pub fn is_quiet(&self) -> bool {
        self.noise.is_quiet()
    }
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MachineFacts { kernel, cpu, cores, .. } = &self.machine;
        writeln!(f, "\n{}: {cpu}, {cores} cores, {kernel}; {}\n", self.bench, self.noise)?;
        let is_shown = |row: &&Row| !row.detail || row.met == Some(false);
        let shown: Vec<&Row> = self.rows.iter().filter(is_shown).collect();
        let width = shown.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:<width$}  {:>10}  {:>21}  {:>10}  {:>7}  {:<5}  PEER, TARGET",
            "NAME", "NEARHOP", "QUARTILES", "PEER", "RATIO", "UNIT"
        )?;
        for row in &shown {
            row.write(f, width)?;
        }
        match self.rows.len() - shown.len() {
            0 => Ok(()),
            more => writeln!(f, "and {more} rows that met their target, in --json"),
        }
    }
}

impl Row {
    fn write(&self, f: &mut fmt::Formatter<'_>, width: usize) -> fmt::Result {
        let figure =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let spread = self.spread.map_or("-".to_owned(), |[a, b]| format!("{a:.3} .. {b:.3}"));
        let met = match self.met {
            None => "",
            Some(true) => ": met",
            Some(false) => ": MISSED",
        };
        let comma = if self.peer_name.is_empty() || self.target.is_empty() { "" } else { "; " };
        writeln!(
            f,
            "{:<width$}  {:>10}  {:>21}  {:>10}  {:>7}  {:<5}  {}{comma}{}{met}",
            self.name,
            figure(self.nearhop),
            spread,
            figure(self.peer),
            figure(self.ratio),
            self.unit,
            self.peer_name,
            self.target,
        )
    }
}

/// Why there are no figures.
#[derive(Clone, Debug)]
pub struct BenchError {
    message: String,
    usage: bool,
}

impl BenchError {
    /// Asked wrongly.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), usage: true }
    }

    /// It cannot be measured here and now.
    pub fn environment(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), usage: false }
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        if self.usage { 2 } else { 3 }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

const SCHEMA: &str = "nearhop.bench.v1";
