//! The protocol between a prober and its parent.
//!
//! Both write one JSON object per line. A [`Reply::Records`] is followed by as many raw bytes as it
//! announces: records of [`RECORD_LEN`] bytes, flow by flow in the order of `counts`. The prober
//! ends at the end of its standard input.
#![forbid(unsafe_code)]

use nearhop::ids::Family;
use serde::{Deserialize, Serialize};

use super::pace::PaceStats;
use crate::measure::{Arrival, Flow, Probe};

/// A command of the parent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Change the spacing of probes.
    Spacing {
        /// Time between two probes of a flow, microseconds.
        us: u64,
    },
    /// Return the records of the probes sent at or after `from_ns` and before `to_ns`.
    Take {
        /// CLOCK_MONOTONIC nanoseconds.
        from_ns: u64,
        /// CLOCK_MONOTONIC nanoseconds.
        to_ns: u64,
        /// Which echoes are waited for, and how long.
        patience: Patience,
    },
    /// Return the site that answers each flow now.
    Latest,
    /// Return the DNS queries sent at or after `from_ns` and before `to_ns`.
    Dns {
        /// CLOCK_MONOTONIC nanoseconds.
        from_ns: u64,
        /// CLOCK_MONOTONIC nanoseconds.
        to_ns: u64,
    },
    /// End the process.
    Stop,
}

/// For which echoes records wait. What comes later counts as lost.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Patience {
    /// Which probes have to be answered first.
    pub awaited: Awaited,
    /// So long after the end of the range records wait in any case: an echo may come twice.
    pub settle_ms: u64,
    /// So long after it was sent a probe is given up: a bound for what is lost, not for a machine
    /// that is slow.
    pub give_up_ms: u64,
}

/// Which probes of a range have to be answered before its records are given.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaited {
    /// All: nothing may be lost.
    Every,
    /// The last one of each flow: some of the others are lost for good.
    Last,
}

/// A reply of the prober.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Sockets are open and probes are being sent.
    Ready {
        /// The flows, by number.
        flows: Vec<Flow>,
        /// Origin of receive times: `kernel` or `user`.
        stamps: String,
    },
    /// The new spacing is in effect.
    Spacing {
        /// Since when, CLOCK_MONOTONIC nanoseconds.
        t_ns: u64,
        /// Microseconds.
        us: u64,
    },
    /// Records follow.
    Records(RecordsHead),
    /// The site that answers each flow now.
    Latest {
        /// One entry per flow, by number.
        flows: Vec<FlowNow>,
    },
    /// DNS queries.
    Dns {
        /// In order of sending.
        queries: Vec<DnsRecord>,
    },
    /// Another site answers a flow now. Sent without a command.
    Moved {
        /// The flow's number.
        flow: u16,
        /// When the first probe arrived at the new site, CLOCK_MONOTONIC nanoseconds.
        t_ns: u64,
        /// The site that answered before.
        from: String,
        /// The site that answers now.
        to: String,
    },
    /// The command was not understood, or cannot be carried out.
    Refused {
        /// The reason.
        reason: String,
    },
}

/// The header of raw records.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordsHead {
    /// Number of records that follow, per flow.
    pub counts: Vec<u64>,
    /// Names of the sites that records refer to.
    pub sites: Vec<String>,
    /// Number of raw bytes that follow.
    pub bytes: u64,
    /// Whether the oldest requested records were still kept.
    pub complete: bool,
    /// How well the sender kept its deadlines since it started.
    pub pace: PaceStats,
    /// Probes that the kernel refused to send; they count as sent and lost.
    pub send_errors: u64,
    /// Datagrams that were not an echo of a known probe, or came from another address.
    pub strays: u64,
    /// Echoes with a receive time of the kernel.
    pub kernel_stamps: u64,
    /// Echoes with the time of reading as receive time.
    pub user_stamps: u64,
}

/// The site that answers a flow.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FlowNow {
    /// The flow's number.
    pub flow: u16,
    /// Address family.
    pub family: Family,
    /// The site that answered last; `None` before the first answer.
    pub site: Option<String>,
    /// When that echo arrived, CLOCK_MONOTONIC nanoseconds.
    pub heard_ns: u64,
    /// Round-trip time of that echo, nanoseconds.
    pub rtt_ns: u64,
    /// Probes sent so far.
    pub sent: u64,
    /// Probes answered so far.
    pub answered: u64,
}

/// A DNS query and its answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DnsRecord {
    /// Address family.
    pub family: Family,
    /// The question, such as `id.server. CH TXT`.
    pub question: String,
    /// When it was sent, CLOCK_MONOTONIC nanoseconds.
    pub sent_ns: u64,
    /// The answer, if any.
    pub answer: Option<DnsAnswer>,
}

/// A DNS answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DnsAnswer {
    /// When it arrived, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
    /// The site that answered, from NSID (RFC 5001).
    pub site: Option<String>,
    /// The response code, 0 for NOERROR.
    pub rcode: u16,
    /// Data of the first answer record.
    pub data: Option<String>,
}

/// Appends a record's bytes.
pub fn encode_record(probe: &Probe, out: &mut Vec<u8>) {
    let arrival = probe.arrival.unwrap_or(Arrival { server_ns: 0, client_ns: 0, site: NO_SITE });
    for word in [probe.seq, probe.sent_ns, arrival.server_ns, arrival.client_ns] {
        out.extend(word.to_le_bytes());
    }
    out.extend(arrival.site.to_le_bytes());
    out.extend(probe.duplicates.to_le_bytes());
}

/// Decodes a record of [`RECORD_LEN`] bytes; `None` for any other length.
pub fn decode_record(bytes: &[u8]) -> Option<Probe> {
    let bytes: &[u8; RECORD_LEN] = bytes.try_into().ok()?;
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let arrival = Arrival { server_ns: word(16), client_ns: word(24), site: half(32) };
    Some(Probe {
        seq: word(0),
        sent_ns: word(8),
        arrival: (arrival.site != NO_SITE).then_some(arrival),
        duplicates: half(34),
    })
}

/// Length of a raw record, bytes.
pub const RECORD_LEN: usize = 36;

/// Marks a record without an echo.
const NO_SITE: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_one_plain_line() {
        let cases = [
            (Command::Spacing { us: 200 }, r#"{"do":"spacing","us":200}"#),
            (Command::Latest, r#"{"do":"latest"}"#),
            (
                Command::Take {
                    from_ns: 1,
                    to_ns: 2,
                    patience: Patience { awaited: Awaited::Last, settle_ms: 3, give_up_ms: 4 },
                },
                r#"{"do":"take","from_ns":1,"to_ns":2,"patience":{"awaited":"last","settle_ms":3,"give_up_ms":4}}"#,
            ),
        ];
        for (command, line) in cases {
            assert_eq!(serde_json::to_string(&command).unwrap(), line);
            assert_eq!(serde_json::from_str::<Command>(line).unwrap(), command);
        }
        assert!(serde_json::from_str::<Command>(r#"{"do":"spacing","ms":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn records_survive(
            seq: u64, sent_ns: u64, duplicates: u16,
            arrival in proptest::option::of((any::<u64>(), any::<u64>(), 0..NO_SITE)),
        ) {
            let arrival =
                arrival.map(|(server_ns, client_ns, site)| Arrival { server_ns, client_ns, site });
            let probe = Probe { seq, sent_ns, arrival, duplicates };
            let mut bytes = Vec::new();
            encode_record(&probe, &mut bytes);
            prop_assert_eq!(bytes.len(), RECORD_LEN);
            prop_assert_eq!(decode_record(&bytes), Some(probe));
            prop_assert_eq!(decode_record(&bytes[1..]), None);
        }
    }
}
