//! `GET /metrics`: the numbers of the documents, in the text format of OpenMetrics. They are read when
//! somebody scrapes; nothing is kept for it, and nothing counted.
#![forbid(unsafe_code)]

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::nouns::{Column, Metrics, Noun, Scale, Unit};

/// The type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Documents by noun, each with its rows.
#[derive(Debug)]
pub struct Scrape(pub Vec<(&'static Noun, Vec<Value>)>);

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
            Unit::Text if column.key == "state" => Some(Self::Up),
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

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (noun, rows) in &self.0 {
            let Some(metrics) = noun.metrics else { continue };
            let columns = noun.columns.iter().filter(|one| !metrics.labels.contains(&one.key));
            for (column, kind) in columns.filter_map(|one| Some((one, Kind::of(one)?))) {
                encode_column(&mut encoder, (noun, metrics), (column, kind), rows)?;
            }
        }
        Ok(())
    }
}

fn encode_column(
    encoder: &mut DescriptorEncoder<'_>,
    (noun, metrics): (&Noun, Metrics),
    (column, kind): (&Column, Kind),
    rows: &[Value],
) -> Result<(), fmt::Error> {
    let name = name_of(metrics, column);
    let header = if column.header.is_empty() { "whether packets go there" } else { column.header };
    let help = format!("{header}, as in nearhop show {}", noun.name);
    let mut family = encoder.encode_descriptor(&name, &help, None, kind.metric_type())?;
    for row in rows {
        let labels: Vec<(&str, String)> =
            metrics.labels.iter().map(|&key| (key, label(&row[key]))).collect();
        let value = &row[column.key];
        let mut metric = family.encode_family(&labels)?;
        match (kind, value.as_f64(), value.as_bool(), value.as_str()) {
            (Kind::Counter, ..) => {
                if let Some(count) = value.as_u64() {
                    metric.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
                }
            }
            (Kind::Gauge(scale), Some(number), ..) => metric.encode_gauge(&(number * scale))?,
            (Kind::Gauge(_), None, Some(flag), _) => metric.encode_gauge(&i64::from(flag))?,
            (Kind::Up, .., Some(state)) => metric.encode_gauge(&i64::from(state == "up"))?,
            // Not known.
            _ => {}
        }
    }
    Ok(())
}

/// `nearhop_`, of what, and the key; times are in seconds.
fn name_of(metrics: Metrics, column: &Column) -> String {
    let key = match column.unit {
        Unit::Duration(Scale::Us) => column.key.replace("_us", "_seconds"),
        Unit::Duration(Scale::Ms) => column.key.replace("_ms", "_seconds"),
        _ if column.key == "state" => "up".to_owned(),
        _ => column.key.to_owned(),
    };
    format!("nearhop_{}_{key}", metrics.of)
}

fn label(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_metrics_in_base_units_with_their_labels() {
        let ports = Noun::find("ports").unwrap();
        let checks = Noun::find("checks").unwrap();
        let text = text(Scrape(vec![
            (
                ports,
                vec![
                    json!({ "port": "fra", "state": "up", "mtu": 1500, "rx_packets": 7 }),
                    json!({ "port": "a\"b\n", "state": "down", "mtu": null, "rx_packets": 0 }),
                ],
            ),
            (
                checks,
                vec![json!({
                    "service": "dns", "site": "fra", "port": "fra", "target": "10.0.0.1",
                    "kind": "icmp", "check": 0, "state": "waiting", "latency_us": 1500, "sent": 3
                })],
            ),
        ]))
        .unwrap();
        for line in [
            "# TYPE nearhop_port_rx_packets counter",
            "nearhop_port_rx_packets_total{port=\"fra\"} 7",
            "nearhop_port_up{port=\"fra\"} 1",
            "nearhop_port_up{port=\"a\\\"b\\n\"} 0",
            "nearhop_port_mtu{port=\"fra\"} 1500.0",
            "# TYPE nearhop_check_latency_seconds gauge",
            "nearhop_check_up{service=\"dns\",site=\"fra\",port=\"fra\",target=\"10.0.0.1\",kind=\"icmp\",check=\"0\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "no line {line}\n{text}");
        }
        assert!(text.contains("} 0.0015\n"), "seconds\n{text}");
        assert!(text.ends_with("# EOF\n"));
        // What is not known is left out, and no line stands without a value.
        assert!(!text.contains("nearhop_port_mtu{port=\"a\\\"b\\n\"}"), "{text}");
    }

    #[test]
    fn labels_are_keys_of_their_rows_and_no_two_metrics_have_one_name() {
        let mut names = BTreeSet::new();
        for noun in super::super::nouns::NOUNS {
            let Some(metrics) = noun.metrics else { continue };
            for label in metrics.labels {
                assert!(noun.columns.iter().any(|column| column.key == *label), "{label}");
            }
            let columns = noun.columns.iter().filter(|one| !metrics.labels.contains(&one.key));
            for column in columns.filter(|column| Kind::of(column).is_some()) {
                assert!(names.insert(name_of(metrics, column)), "{}", name_of(metrics, column));
            }
        }
        assert!(names.len() > 30, "{names:?}");
    }
}
