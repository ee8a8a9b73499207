//! The keys of every document: the type of each value, and its header in tables.
//!
//! The client builds its tables from these declarations. A test compares them with the rows that
//! [`views`](super::views) builds, so every key has a declared type.
#![forbid(unsafe_code)]

use self::Unit::{
    Age, BitRate, Bytes, Cost, Count, Duration, Flag, List, Mark, Number, PacketRate, Percent,
    Ratio, Text, TextOr,
};

/// The type of a value. It decides how tables format the value and align its column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// How long a state has lasted, on this scale. Shown as `4.1s`.
    Age(Scale),
    /// Bytes per second in JSON. Shown as bits per second: `6.5M`.
    BitRate,
    /// A number of bytes. Shown as `1.2M`.
    Bytes,
    /// A site's cost; lower is better. Shown unchanged.
    Cost,
    /// A count. Shown as `12.3k`.
    Count,
    /// A duration on this scale. Shown as `420us`.
    Duration(Scale),
    /// A boolean. Shown as `yes` or `no`.
    Flag,
    /// An array of texts. Shown separated by commas.
    List,
    /// A boolean that marks its row with `>`. Its column has no header.
    Mark,
    /// An id, a rank or a size, of which sums make no sense. Shown unchanged.
    Number,
    /// Packets per second. Shown as `12.3k`.
    PacketRate,
    /// A share from 0 to 1. Shown as `38%`.
    Percent,
    /// A ratio of two counts. Shown with one decimal.
    Ratio,
    /// Text.
    Text,
    /// Text; `null` means "all" and is shown as this.
    TextOr(&'static str),
}

impl Unit {
    /// Whether values are numbers, which tables align to the right.
    pub const fn is_number(self) -> bool {
        !matches!(self, Flag | List | Mark | Text | TextOr(_))
    }
}

/// The unit of a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

impl Scale {
    /// Nanoseconds in one unit.
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Ms => 1_000_000,
            Self::Us => 1_000,
        }
    }
}

/// A key of a document and the type of its values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Column {
    /// Key in JSON: snake_case, with its unit. Never renamed.
    pub key: &'static str,
    /// Header in tables.
    pub header: &'static str,
    /// The type of its values. Any value may be `null`: not known.
    pub unit: Unit,
}

/// A kind of document, `nearhop.NAME.v1`.
#[derive(Clone, Copy, Debug)]
pub struct Noun {
    /// The argument of `show`, or the command that it answers.
    pub name: &'static str,
    /// How its rows appear in `/metrics`, if they do.
    pub metrics: Option<Metrics>,
    /// Keys of the document itself.
    pub fields: &'static [Column],
    /// Keys of its items, in the order of a table's columns.
    pub columns: &'static [Column],
}

/// What tells the rows of a document apart, as metrics.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    /// What names begin with, behind `nearhop_`.
    pub of: &'static str,
    /// The keys that are labels.
    pub labels: &'static [&'static str],
}

impl Noun {
    /// The noun with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        NOUNS.iter().find(|noun| noun.name == name)
    }
}

const fn column(key: &'static str, header: &'static str, unit: Unit) -> Column {
    Column { key, header, unit }
}

/// Every noun.
pub const NOUNS: &[Noun] = &[
    Noun {
        name: "services",
        metrics: Some(Metrics { of: "leg", labels: &["service", "family", "site", "port"] }),
        fields: &[],
        columns: &[
            column("service", "SERVICE", Text),
            column("family", "FAMILY", Text),
            column("prefix", "PREFIX", List),
            column("best", "", Mark),
            column("site", "SITE", Text),
            column("port", "PORT", Text),
            column("state", "STATE", Text),
            column("tier", "TIER", Number),
            column("cost", "COST", Cost),
            column("latency_us", "LATENCY", Duration(Scale::Us)),
            column("accept", "ACCEPT", Percent),
            column("packets", "PACKETS", Count),
            column("bytes", "BYTES", Bytes),
            column("age_ms", "AGE", Age(Scale::Ms)),
            column("why", "WHY", Text),
        ],
    },
    Noun {
        name: "fib",
        metrics: None,
        fields: &[],
        columns: &[
            column("prefix", "PREFIX", Text),
            column("source", "SOURCE", Text),
            column("kind", "KIND", Text),
            column("group", "GROUP", Number),
            column("best", "", Mark),
            column("site", "SITE", Text),
            column("port", "PORT", Text),
            column("tier", "TIER", Number),
            column("weight", "WEIGHT", Number),
            column("cost", "COST", Cost),
            column("state", "STATE", Text),
            column("reasons", "REASONS", List),
            column("service", "SERVICE", Text),
            column("family", "FAMILY", Text),
            column("latency_us", "LATENCY", Duration(Scale::Us)),
            column("accept", "ACCEPT", Percent),
            column("age_ms", "AGE", Age(Scale::Ms)),
            column("why", "WHY", Text),
        ],
    },
    Noun {
        name: "routes",
        metrics: None,
        fields: &[],
        columns: &[
            column("prefix", "PREFIX", Text),
            column("best", "", Mark),
            column("source", "SOURCE", Text),
            column("kind", "KIND", Text),
            column("via", "VIA", List),
            column("state", "STATE", Text),
            column("why", "WHY", Text),
        ],
    },
    Noun {
        name: "groups",
        metrics: None,
        fields: &[],
        columns: &[
            column("group", "GROUP", Number),
            column("kind", "KIND", Text),
            column("service", "SERVICE", Text),
            column("family", "FAMILY", Text),
            column("via", "VIA", List),
            column("prefixes", "PREFIXES", Count),
            column("members", "MEMBERS", Number),
            column("alive", "ALIVE", Number),
            column("spread", "SPREAD", Text),
            column("when_all_dead", "WHEN ALL DEAD", Text),
        ],
    },
    Noun {
        name: "adjacencies",
        metrics: None,
        fields: &[],
        columns: &[
            column("adjacency", "ADJACENCY", Number),
            column("port", "PORT", Text),
            column("state", "STATE", Text),
            column("reasons", "REASONS", List),
            column("mtu", "MTU", Number),
            column("packets", "PACKETS", Count),
            column("bytes", "BYTES", Bytes),
        ],
    },
    Noun {
        name: "ports",
        metrics: Some(Metrics { of: "port", labels: &["port"] }),
        fields: &[],
        columns: &[
            column("port", "PORT", Text),
            column("device", "DEVICE", Text),
            column("netns", "NETNS", Text),
            column("engine", "ENGINE", Text),
            column("kind", "KIND", Text),
            column("queues", "QUEUES", Number),
            column("offloads", "OFFLOADS", Text),
            column("state", "STATE", Text),
            column("mtu", "MTU", Number),
            column("rx_packets", "RX PACKETS", Count),
            column("rx_bytes", "RX BYTES", Bytes),
            column("packets_per_batch", "PACKETS PER BATCH", Ratio),
            column("packets_per_read", "PACKETS PER READ", Ratio),
            column("tx_packets", "TX PACKETS", Count),
            column("tx_bytes", "TX BYTES", Bytes),
            column("packets_per_write", "PACKETS PER WRITE", Ratio),
            column("tx_dropped", "TX DROPPED", Count),
            column("device_dropped", "DEVICE DROPPED", Count),
            column("device_refused", "DEVICE REFUSED", Count),
            column("why", "WHY", Text),
        ],
    },
    Noun {
        name: "drops",
        metrics: Some(Metrics { of: "drops", labels: &["reason"] }),
        fields: &[],
        columns: &[
            column("reason", "REASON", Text),
            column("packets", "PACKETS", Count),
            column("text", "TEXT", Text),
        ],
    },
    Noun {
        name: "verdicts",
        metrics: Some(Metrics { of: "verdict", labels: &["verdict", "outcome"] }),
        fields: &[],
        columns: &[
            column("verdict", "VERDICT", Text),
            column("outcome", "OUTCOME", Text),
            column("packets", "PACKETS", Count),
            column("text", "TEXT", Text),
        ],
    },
    Noun {
        name: "workers",
        metrics: Some(Metrics { of: "worker", labels: &["worker"] }),
        fields: &[],
        columns: &[
            column("worker", "WORKER", Number),
            column("busy_poll_us", "BUSY POLL", Duration(Scale::Us)),
            column("sleeps", "SLEEPS", Count),
            column("found_awake", "FOUND AWAKE", Count),
            column("busy_ms", "BUSY", Duration(Scale::Ms)),
            column("lookups_v4_by", "LOOKUPS V4 BY", Text),
            column("lookups_v6_by", "LOOKUPS V6 BY", Text),
        ],
    },
    Noun {
        name: "router",
        metrics: Some(Metrics { of: "router", labels: &["router"] }),
        fields: &[],
        columns: &[
            column("router", "ROUTER", Text),
            column("id", "ID", Text),
            column("workers", "WORKERS", Number),
            column("ports", "PORTS", Number),
            column("services", "SERVICES", Number),
            column("liveness_late_us", "LIVENESS LATE", Duration(Scale::Us)),
            column("probes_unsent", "PROBES UNSENT", Count),
        ],
    },
    Noun {
        name: "steps",
        metrics: Some(Metrics { of: "slow_steps", labels: &["thread", "step"] }),
        fields: &[],
        columns: &[
            column("thread", "THREAD", Text),
            column("step", "STEP", Text),
            column("count", "COUNT", Count),
            column("longest_us", "LONGEST", Duration(Scale::Us)),
        ],
    },
    Noun {
        name: "host",
        metrics: Some(Metrics { of: "host", labels: &["counter"] }),
        fields: &[],
        columns: &[
            column("counter", "COUNTER", Text),
            column("packets", "PACKETS", Count),
            column("text", "TEXT", Text),
        ],
    },
    Noun {
        name: "checks",
        metrics: Some(Metrics {
            of: "check",
            labels: &["service", "site", "port", "target", "kind", "check"],
        }),
        fields: &[],
        columns: &[
            column("target", "TARGET", Text),
            column("site", "SITE", Text),
            column("service", "SERVICE", Text),
            column("port", "PORT", Text),
            column("check", "CHECK", Number),
            column("kind", "KIND", Text),
            column("state", "STATE", Text),
            column("latency_us", "LATENCY", Duration(Scale::Us)),
            column("sent", "SENT", Count),
            column("answered", "ANSWERED", Count),
            column("lost", "LOST", Count),
            column("age_ms", "AGE", Age(Scale::Ms)),
        ],
    },
    Noun {
        name: "explain",
        metrics: None,
        fields: &[
            column("address", "address", Text),
            column("outcome", "outcome", Text),
            column("prefix", "prefix", Text),
            column("source", "source", Text),
            column("kind", "kind", Text),
            column("group", "group", Number),
            column("selected", "selected", Text),
        ],
        columns: &[
            column("chosen", "", Mark),
            column("best", "", Mark),
            column("site", "SITE", Text),
            column("port", "PORT", Text),
            column("tier", "TIER", Number),
            column("cost", "COST", Cost),
            column("state", "STATE", Text),
            column("reasons", "REASONS", List),
            column("latency_us", "LATENCY", Duration(Scale::Us)),
            column("accept", "ACCEPT", Percent),
            column("weight", "WEIGHT", Number),
            column("service", "SERVICE", Text),
            column("family", "FAMILY", Text),
            column("age_ms", "AGE", Age(Scale::Ms)),
            column("why", "WHY", Text),
        ],
    },
    Noun {
        name: "top",
        metrics: None,
        fields: &[],
        columns: &[
            column("of", "OF", Text),
            column("name", "NAME", Text),
            column("port", "PORT", Text),
            column("verdict", "VERDICT", Text),
            column("service", "SERVICE", Text),
            column("family", "FAMILY", Text),
            column("site", "SITE", TextOr("(all)")),
            column("packets_per_s", "PKT/S", PacketRate),
            column("bytes_per_s", "BIT/S", BitRate),
            column("rx_packets_per_s", "RX PKT/S", PacketRate),
            column("rx_bytes_per_s", "RX BIT/S", BitRate),
            column("tx_packets_per_s", "TX PKT/S", PacketRate),
            column("tx_bytes_per_s", "TX BIT/S", BitRate),
            column("dropped_per_s", "DROP/S", PacketRate),
        ],
    },
    Noun {
        name: "drain",
        metrics: None,
        fields: &[],
        columns: &[
            column("site", "SITE", Text),
            column("service", "SERVICE", Text),
            column("drained", "DRAINED", Flag),
        ],
    },
    Noun {
        name: "reload",
        metrics: None,
        fields: &[],
        columns: &[column("change", "CHANGE", Text)],
    },
    Noun { name: "undamp", metrics: None, fields: &[], columns: &[] },
];
