//! `GET /metrics`: the numbers of the documents, in the text format of OpenMetrics. They are read when
//! somebody scrapes; nothing is kept for it, and nothing counted.
#![forbid(unsafe_code)]

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::column::{Column, Field, Scale, Unit};
use super::nouns::{Metrics, Noun, Rows, Show};

/// The type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Rows by noun, in pages.
#[derive(Debug)]
pub struct Scrape(pub Vec<(Show, Vec<Rows>)>);

/// The text of a scrape.
///
/// # Errors
/// None but those of formatting.
pub fn text(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// How a column's values become numbers.
#[derive(Clone, Copy)]
enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down: each times this.
    Gauge(f64),
    /// 1 where the text is `up`, else 0.
    Up,
}

impl Kind {
    /// `None` for what is no metric.
    fn of(column: &Column) -> Option<Self> {
        match column.unit {
            Unit::Bytes | Unit::Count => Some(Self::Counter),
            Unit::Cost | Unit::Number | Unit::Percent | Unit::Mark | Unit::Flag => {
                Some(Self::Gauge(1.0))
            }
            Unit::Duration(scale) => Some(Self::Gauge(scale.nanos() as f64 / 1e9)),
            Unit::State => Some(Self::Up),
            _ => None,
        }
    }

    const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge(_) | Self::Up => MetricType::Gauge,
        }
    }
}

/// The metrics of a noun: name, column, and how its values become numbers.
fn metrics_of(noun: &'static Noun) -> impl Iterator<Item = (String, usize, &'static Column, Kind)> {
    noun.metrics.into_iter().flat_map(move |metrics| {
        let columns = noun.columns.iter().enumerate();
        let columns = columns.filter(move |(_, one)| !metrics.labels.contains(&one.key));
        columns.filter_map(move |(place, column)| {
            Some((name_of(metrics, column), place, column, Kind::of(column)?))
        })
    })
}

/// What a column is called in `/metrics`, where it is a metric: counters with `_total`.
pub fn exposed_name(noun: &'static Noun, key: &str) -> Option<String> {
    let (name, .., kind) = metrics_of(noun).find(|(_, _, column, _)| column.key == key)?;
    Some(if matches!(kind, Kind::Counter) { format!("{name}_total") } else { name })
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (show, pages) in &self.0 {
            let noun = show.noun();
            let mut fields = Vec::new();
            for rows in pages {
                rows.fields(&mut |field| fields.push(field));
            }
            let labels: Vec<(&str, usize)> = labels_of(noun).collect();
            for (name, place, column, kind) in metrics_of(noun) {
                let help =
                    format!("{} (nearhop show {})", column.about.trim_end_matches('.'), noun.name);
                let mut family =
                    encoder.encode_descriptor(&name, &help, None, kind.metric_type())?;
                for row in fields.chunks(noun.columns.len()) {
                    let labels: Vec<_> =
                        labels.iter().map(|&(key, place)| (key, label(row[place]))).collect();
                    encode_value(family.encode_family(&labels)?, kind, row[place])?;
                }
            }
        }
        Ok(())
    }
}

fn labels_of(noun: &'static Noun) -> impl Iterator<Item = (&'static str, usize)> {
    let labels = noun.metrics.map_or(&[][..], |metrics| metrics.labels);
    labels.iter().filter_map(|&label| {
        Some((label, noun.columns.iter().position(|column| column.key == label)?))
    })
}

fn encode_value(
    mut metric: MetricEncoder<'_>,
    kind: Kind,
    field: Field<'_>,
) -> Result<(), fmt::Error> {
    match (kind, field) {
        (Kind::Counter, Field::Number(count)) => {
            metric.encode_counter::<NoLabelSet, u64, u64>(&count, None)
        }
        (Kind::Gauge(scale), Field::Number(number)) => {
            metric.encode_gauge(&(number as f64 * scale))
        }
        (Kind::Gauge(scale), Field::Share(share)) => metric.encode_gauge(&(share * scale)),
        (Kind::Gauge(_), Field::Flag(flag)) => metric.encode_gauge(&i64::from(flag)),
        (Kind::Up, Field::Text(state)) => metric.encode_gauge(&i64::from(state == "up")),
        // Not known.
        _ => Ok(()),
    }
}

/// `nearhop_`, of what, and the key; times are in seconds.
fn name_of(metrics: Metrics, column: &Column) -> String {
    let key = match column.unit {
        Unit::Duration(Scale::Us) => column.key.replace("_us", "_seconds"),
        Unit::Duration(Scale::Ms) => column.key.replace("_ms", "_seconds"),
        Unit::State => "up".to_owned(),
        _ => column.key.to_owned(),
    };
    format!("nearhop_{}_{key}", metrics.of)
}

fn label(field: Field<'_>) -> String {
    match field {
        Field::Text(text) => text.to_owned(),
        Field::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::nouns::SHOWN;
    use crate::api::rows::{CheckRow, PortRow};

    #[test]
    fn rows_become_metrics_in_base_units_with_their_labels() {
        let text = text(Scrape(vec![
            (
                Show::Ports,
                vec![
                    vec![PortRow {
                        port: "fra".into(),
                        state: "up".into(),
                        mtu: 1500,
                        rx_packets: 7,
                        device_dropped: Some(3),
                        ..PortRow::default()
                    }]
                    .into(),
                    vec![PortRow {
                        port: "a\"b\n".into(),
                        state: "down".into(),
                        ..PortRow::default()
                    }]
                    .into(),
                ],
            ),
            (
                Show::Checks,
                vec![
                    vec![CheckRow {
                        service: "dns".into(),
                        site: "fra".into(),
                        port: "fra".into(),
                        target: "10.0.0.1".into(),
                        kind: "icmp".into(),
                        state: Some("waiting".into()),
                        latency_us: Some(1500),
                        sent: Some(3),
                        ..CheckRow::default()
                    }]
                    .into(),
                ],
            ),
        ]))
        .unwrap();
        for line in [
            "# TYPE nearhop_port_rx_packets counter",
            "nearhop_port_rx_packets_total{port=\"fra\"} 7",
            "nearhop_port_up{port=\"fra\"} 1",
            "nearhop_port_up{port=\"a\\\"b\\n\"} 0",
            "nearhop_port_mtu{port=\"fra\"} 1500.0",
            "nearhop_port_device_dropped_total{port=\"fra\"} 3",
            "# TYPE nearhop_check_latency_seconds gauge",
            "nearhop_check_up{service=\"dns\",site=\"fra\",port=\"fra\",target=\"10.0.0.1\",kind=\"icmp\",check=\"0\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "no line {line}\n{text}");
        }
        assert!(text.contains("} 0.0015\n"), "seconds\n{text}");
        assert!(text.ends_with("# EOF\n"));
        // What is not known is left out, and no line stands without a value.
        assert!(!text.contains("nearhop_port_device_dropped_total{port=\"a\\\"b\\n\"}"), "{text}");
    }

    #[test]
    fn no_two_metrics_have_one_name_and_every_label_has_its_column() {
        let mut names = BTreeSet::new();
        for noun in SHOWN.iter().filter(|noun| noun.metrics.is_some()) {
            let labels = noun.metrics.map_or(0, |metrics| metrics.labels.len());
            assert_eq!(labels_of(noun).count(), labels, "{}", noun.name);
            for (name, ..) in metrics_of(noun) {
                assert!(names.insert(name.clone()), "{name}");
            }
        }
        assert!(names.len() > 30, "{names:?}");
    }
}
