//! Everything that happens, as one typed stream: logs, `watch`, reports and tests read the same.
#![forbid(unsafe_code)]

use std::fmt;

use crate::ids::Family;
use serde::{Deserialize, Serialize};

/// The schema name every event line carries.
pub const SCHEMA: &str = "nearhop.event.v1";

/// One line of `nearhop watch`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Event {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// When it happened, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
    /// Counts up by one for each event of a router since it started; a gap means lines were lost.
    pub seq: u64,
    /// The router's name.
    pub node: String,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A port's carrier came or went.
    Carrier {
        /// Port name.
        port: String,
        /// Whether it is there now.
        up: bool,
    },
    /// A flapping leg is held down although its checks pass.
    Damped {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// How long it has to be well before it is used again.
        hold_ms: u64,
    },
    /// A port's device went away or cannot be opened, or is there again; or somebody changed it.
    Device {
        /// Port name.
        port: String,
        /// Whether the port has its device now.
        ok: bool,
        /// What is wrong with it, or what was.
        reason: String,
    },
    /// An operator drained a site, or took that back.
    Drain {
        /// Site name.
        site: String,
        /// Whether it takes no new flows now.
        drained: bool,
    },
    /// A worker's engine on a port has failed; it goes on with another.
    Engine {
        /// Port name.
        port: String,
        /// Which worker.
        worker: u16,
        /// What it goes on with.
        engine: String,
        /// What is wrong with the one before.
        reason: String,
    },
    /// The first packet that left by this leg since something last changed.
    FirstPacket {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// Which worker sent it.
        worker: u16,
    },
    /// A neighbour router came or went.
    Neighbor {
        /// Its address or name.
        neighbor: String,
        /// Whether it is there now.
        up: bool,
        /// Why.
        reason: String,
    },
    /// A group or route became visible to the workers.
    Publish {
        /// How many groups were made or replaced.
        groups: u64,
        /// How many prefixes were added, changed or removed.
        prefixes: u64,
        /// How long the control thread took, from start to the last store.
        took_us: u64,
    },
    /// A worker holds back structural updates.
    ReaderStalled {
        /// Which worker.
        worker: u16,
        /// For how long it has not finished a batch.
        stalled_ms: u64,
    },
    /// Ports are open, routes installed, every site's first verdict is known.
    Ready,
    /// A new configuration is in force.
    Reload {
        /// What changed, one line each.
        changes: Vec<String>,
    },
    /// Which site a service's packets go to first changed.
    Select {
        /// Service name.
        service: String,
        /// Address family.
        family: Family,
        /// The sites of the cheapest living tier before.
        from: Vec<String>,
        /// The sites of the cheapest living tier now.
        to: Vec<String>,
        /// Why flows may have moved.
        cause: MoveCause,
        /// The member that caused it: who died, or who is cheaper now.
        member: String,
    },
    /// One leg of a site (a service, a family, a link) went up or down.
    Site {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// The port it is reached by.
        port: String,
        /// Whether packets go there now.
        up: bool,
        /// What decided it: `carrier`, `probe`, `health`, ...
        reason: String,
        /// When the byte that workers read was stored; `t_ns` is when the news came.
        stored_ns: u64,
    },
}

/// The causes for which a flow may move to another site.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveCause {
    /// The share of flows that a site takes changed.
    Accept,
    /// Another member is cheaper now: it came up, or latencies changed.
    CheaperUp,
    /// The configuration changed.
    Configuration,
    /// Its own member died.
    MemberDied,
    /// An operator's action.
    Operator,
}

/// One sentence for logs.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Carrier { port, up } => write!(f, "carrier of port {port} {}", went(*up)),
            Self::Damped { service, site, family, hold_ms } => {
                let family = family.label();
                write!(f, "{service}: {site} ({family}) flapped and waits {hold_ms} ms")
            }
            Self::Device { port, reason, .. } => write!(f, "port {port}: {reason}"),
            Self::Drain { site, drained: true } => write!(f, "{site} is drained"),
            Self::Drain { site, drained: false } => write!(f, "{site} is back from its drain"),
            Self::Engine { port, worker, engine, reason } => {
                write!(f, "port {port}: worker {worker} goes on with {engine}: {reason}")
            }
            Self::FirstPacket { service, site, family, worker } => {
                let family = family.label();
                write!(f, "{service}: first packet to {site} ({family}), by worker {worker}")
            }
            Self::Neighbor { neighbor, up, reason } => {
                write!(f, "neighbour {neighbor} {}: {reason}", went(*up))
            }
            Self::Publish { groups, prefixes, took_us } => {
                write!(f, "published {groups} groups and {prefixes} prefixes in {took_us} us")
            }
            Self::ReaderStalled { worker, stalled_ms } => {
                write!(f, "worker {worker} holds updates back for {stalled_ms} ms")
            }
            Self::Ready => f.write_str("ready"),
            Self::Reload { changes } if changes.is_empty() => f.write_str("reloaded: no change"),
            Self::Reload { changes } => write!(f, "reloaded: {}", changes.join("; ")),
            Self::Select { service, family, from, to, cause, member } => {
                let (family, cause) = (family.label(), cause.text());
                let (from, to) = (names(from), names(to));
                write!(f, "{service} ({family}) goes to {to}, not to {from}: {cause}, {member}")
            }
            Self::Site { service, site, family, port, up, reason, .. } => {
                let family = family.label();
                write!(f, "{service}: {site} ({family}) by port {port} {}: {reason}", went(*up))
            }
        }
    }
}

fn went(up: bool) -> &'static str {
    if up { "came up" } else { "went down" }
}

fn names(sites: &[String]) -> String {
    if sites.is_empty() { "nobody".to_owned() } else { sites.join(", ") }
}

impl MoveCause {
    /// A few words for logs.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Accept => "a site takes another share",
            Self::CheaperUp => "a cheaper site",
            Self::Configuration => "by configuration",
            Self::MemberDied => "a site died",
            Self::Operator => "an operator's action",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_flat_and_reads_back() {
        let event = Event {
            schema: SCHEMA.into(),
            t_ns: 5,
            seq: 1,
            node: "r1".into(),
            kind: EventKind::Carrier { port: "fra".into(), up: false },
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"schema":"nearhop.event.v1","t_ns":5,"seq":1,"node":"r1","kind":"carrier","port":"fra","up":false}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
