//! `nearhop top`: rates from the counters of a running router.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a command, which shows rates")]

mod frame;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use self::frame::frame;
use super::args::TopArgs;
use super::client;
use super::output::{Failure, answer_after, answer_json};
use super::screen::{self, Size};
use crate::api::column::Text;
use crate::api::document::{Document, NoHead};
use crate::api::rows::{PortRow, ServiceRow, TopOfService, TopRow, VerdictRow};
use crate::time::Nanos;

pub(super) fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    let client = client::connect(&args.client.socket)?;
    let look = || -> Result<CounterSample, Failure> {
        let mut look = CounterSample { at: Nanos::now(), counters: BTreeMap::new() };
        look.add_ports(&client::items(&client.get("/v1/show/ports")?)?);
        look.add_verdicts(&client::items(&client.get("/v1/show/verdicts")?)?);
        look.add_services(&client::items(&client.get("/v1/show/services")?)?);
        Ok(look)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut before = look()?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        let interval = Duration::from_secs_f64(args.interval);
        runtime.block_on(async { tokio::time::sleep(interval).await });
        let now = look()?;
        let items = now.rates_since(&before);
        if args.client.json {
            answer_json(document(items)?)?;
        } else {
            // Each frame replaces the previous one, as in top(1).
            let clear = if screen::size().is_some() { "\x1b[H\x1b[2J" } else { "" };
            answer_after(clear, frame(&items, room(args.client.wide)).join("\n"))?;
        }
        before = now;
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn document(items: Vec<TopRow>) -> Result<String, Failure> {
    let text = serde_json::to_string(&Document::new("top", NoHead {}, items));
    text.map_err(|error| Failure::environment(format!("cannot write JSON: {error}")))
}

/// The size of a frame. On a terminal one line is left for the cursor, so nothing scrolls.
fn room(wide: bool) -> Option<Size> {
    let lines = screen::size().map_or(usize::MAX, |size| size.lines.saturating_sub(1));
    match screen::width(wide) {
        None if lines == usize::MAX => None,
        width => Some(Size { width: width.unwrap_or(usize::MAX), lines }),
    }
}

/// What an item's counters belong to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Of {
    Port(String),
    Verdict(String),
    Service { service: String, family: String },
    Site { service: String, family: String, site: String },
}

impl Of {
    /// The position of its kind in the document.
    fn rank(&self) -> u8 {
        match self {
            Self::Port(_) => 0,
            Self::Verdict(_) => 1,
            Self::Service { .. } => 2,
            Self::Site { .. } => 3,
        }
    }

    /// What identifies it, without its rates.
    fn row(&self) -> TopRow {
        let owned = |text: &String| Text::Owned(text.clone());
        let of_service = |service, family, site: Option<&String>| {
            let (service, family, site) = (owned(service), owned(family), site.map(owned));
            Some(TopOfService { service, family, site })
        };
        match self {
            Self::Port(port) => TopRow {
                of: "port".into(),
                name: owned(port),
                port: Some(owned(port)),
                ..TopRow::default()
            },
            Self::Verdict(verdict) => TopRow {
                of: "verdict".into(),
                name: owned(verdict),
                verdict: Some(owned(verdict)),
                ..TopRow::default()
            },
            Self::Service { service, family } => TopRow {
                of: "service".into(),
                name: owned(service),
                of_service: of_service(service, family, None),
                ..TopRow::default()
            },
            Self::Site { service, family, site } => TopRow {
                of: "site".into(),
                name: format!("{site} of {service}").into(),
                of_service: of_service(service, family, Some(site)),
                ..TopRow::default()
            },
        }
    }
}

/// The counters at one moment.
struct CounterSample {
    at: Nanos,
    counters: BTreeMap<Of, Counters>,
}

/// Counters in the order of [`RATES`]; `None` for those that something does not have.
type Counters = [Option<u64>; RATES.len()];

impl CounterSample {
    fn add_ports(&mut self, rows: &[PortRow]) {
        for row in rows {
            let PortRow { rx_packets, rx_bytes, tx_packets, tx_bytes, tx_dropped, .. } = *row;
            let [rx, tx] = [[rx_packets, rx_bytes], [tx_packets, tx_bytes]].map(|of| of.map(Some));
            let counters = [None, None, rx[0], rx[1], tx[0], tx[1], Some(tx_dropped)];
            self.add(Of::Port(row.port.to_string()), counters);
        }
    }

    fn add_verdicts(&mut self, rows: &[VerdictRow]) {
        for row in rows {
            let counters = [Some(row.packets), None, None, None, None, None, None];
            self.add(Of::Verdict(row.verdict.to_string()), counters);
        }
    }

    /// A leg counts for its service and for its site.
    fn add_services(&mut self, rows: &[ServiceRow]) {
        for row in rows {
            let counters = [Some(row.packets), Some(row.bytes), None, None, None, None, None];
            let [service, family, site] =
                [&row.service, &row.family, &row.site].map(ToString::to_string);
            self.add(Of::Service { service: service.clone(), family: family.clone() }, counters);
            self.add(Of::Site { service, family, site }, counters);
        }
    }

    fn add(&mut self, of: Of, counters: Counters) {
        for (sum, counter) in self.counters.entry(of).or_default().iter_mut().zip(counters) {
            if let Some(count) = counter {
                *sum = Some(sum.unwrap_or(0) + count);
            }
        }
    }

    /// Rates, most packets first within each kind. Items without packets are left out, except
    /// ports.
    fn rates_since(&self, before: &Self) -> Vec<TopRow> {
        let seconds = self.at.since(before.at).as_secs_f64().max(0.001);
        let mut items = Vec::new();
        for (of, counters) in &self.counters {
            let mut row = of.row();
            let mut packets = 0;
            let old = before.counters.get(of).copied().unwrap_or_default();
            for ((rate, now), old) in RATES.iter().zip(counters).zip(old) {
                let Some(now) = now else { continue };
                // A restarted router counts from 0: the rate is then 0, not negative.
                let more = now.saturating_sub(old.unwrap_or(0));
                *(rate.of)(&mut row) = Some((more as f64 / seconds).round() as u64);
                packets += if rate.is_packets { more } else { 0 };
            }
            if packets > 0 || matches!(of, Of::Port(_)) {
                items.push((of, packets, row));
            }
        }
        items.sort_by_key(|(of, packets, _)| (of.rank(), Reverse(*packets)));
        items.into_iter().map(|(.., row)| row).collect()
    }
}

/// A rate of a row.
struct Rate {
    of: fn(&mut TopRow) -> &mut Option<u64>,
    /// Whether it is of packets, not of bytes.
    is_packets: bool,
}

const fn packets(of: fn(&mut TopRow) -> &mut Option<u64>) -> Rate {
    Rate { of, is_packets: true }
}

const fn bytes(of: fn(&mut TopRow) -> &mut Option<u64>) -> Rate {
    Rate { of, is_packets: false }
}

const RATES: [Rate; 7] = [
    packets(|row| &mut row.packets_per_s),
    bytes(|row| &mut row.bytes_per_s),
    packets(|row| &mut row.rx_packets_per_s),
    bytes(|row| &mut row.rx_bytes_per_s),
    packets(|row| &mut row.tx_packets_per_s),
    bytes(|row| &mut row.tx_bytes_per_s),
    packets(|row| &mut row.dropped_per_s),
];

#[cfg(test)]
pub(super) mod tests;
