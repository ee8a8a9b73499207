//! The router's events as one typed stream: logs, `watch`, reports and tests read the same.
#![forbid(unsafe_code)]

mod text;

use serde::{Deserialize, Serialize};

use crate::ids::Family;

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
    /// A BFD session changed its state.
    Bfd {
        /// The neighbour's address.
        neighbor: String,
        /// The port of its link; `null` over several hops.
        #[serde(default)]
        port: Option<String>,
        /// Whether both ends hear each other now.
        up: bool,
        /// The session's state now: `up`, `down` or `admin-down`.
        state: String,
        /// Why.
        reason: String,
        /// When the bytes that workers read were stored.
        stored_ns: u64,
    },
    /// Packets of a BFD session went out late, so that it asks for longer intervals; or no more.
    BfdPace {
        /// The neighbour's address.
        neighbor: String,
        /// The port of its link; `null` over several hops.
        #[serde(default)]
        port: Option<String>,
        /// So many times longer than configured; 1 is as configured.
        factor: u32,
        /// How late the packet was, microseconds; 0 if none was for a minute.
        late_us: u64,
    },
    /// A BGP session began or ended.
    Bgp {
        /// The neighbour's name.
        neighbor: String,
        /// Whether routes are exchanged now.
        up: bool,
        /// Why.
        reason: String,
    },
    /// An operator blocked a prefix, or unblocked it.
    Block {
        /// Who gave the command.
        by: String,
        /// The prefix.
        prefix: String,
        /// Whether its packets are discarded now.
        blocked: bool,
    },
    /// A port's carrier came up or went down.
    Carrier {
        /// Port name.
        port: String,
        /// Whether there is carrier now.
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
        /// How long its checks have to pass without a failure before it is used again.
        hold_ms: u64,
    },
    /// An operator disabled a site, or enabled it.
    Disable {
        /// Who gave the command.
        by: String,
        /// Site name.
        site: String,
        /// Whether it never serves now.
        disabled: bool,
    },
    /// A port lost its device, cannot open it, or has it again; or something outside changed it.
    Device {
        /// Port name.
        port: String,
        /// Whether the port has its device now.
        ok: bool,
        /// What is wrong with it, or what happened to it.
        reason: String,
    },
    /// A leg is used although its checks fail, as they call many sites dead at once; or no longer so, as they
    /// pass or its port lost carrier.
    Doubted {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// Name of the port it leaves by.
        port: String,
        /// Whether its checks are not believed now.
        doubted: bool,
        /// For how long they have to fail on until they are.
        hold_ms: u64,
    },
    /// An operator drained a site, or undrained it.
    Drain {
        /// Who gave the command.
        by: String,
        /// Site name.
        site: String,
        /// Whether it serves only where nobody else is left.
        drained: bool,
    },
    /// A worker's I/O engine on a port failed; the worker falls back to another.
    Engine {
        /// Port name.
        port: String,
        /// Which worker.
        worker: u16,
        /// The engine it uses now.
        engine: String,
        /// What was wrong with the engine before.
        reason: String,
    },
    /// The first packet that left by this leg after something changed.
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
    /// What is announced to a BGP neighbour is taken back or deprioritised as a part of the router stood still,
    /// or is announced as before.
    Lease {
        /// The neighbour's name.
        neighbor: String,
        /// Whether all is announced as it is to be.
        held: bool,
        /// What became of announcements, and who stood still.
        reason: String,
    },
    /// An operator applied a playbook, or undid it.
    Playbook {
        /// Who gave the command.
        by: String,
        /// The playbook's name.
        playbook: String,
        /// Whether it is applied now.
        applied: bool,
    },
    /// A group or route became visible to the workers.
    Publish {
        /// Groups made or replaced.
        groups: u64,
        /// Prefixes added, changed or removed.
        prefixes: u64,
        /// Prefixes that the FIB had no room for.
        refused: u64,
        /// From the start of the publication to its last store, microseconds.
        took_us: u64,
    },
    /// A worker delays structural updates.
    ReaderStalled {
        /// Which worker.
        worker: u16,
        /// How long it has not finished a batch, milliseconds.
        stalled_ms: u64,
    },
    /// Ports are open, routes are installed, the first outcome of every site's checks is known.
    Ready,
    /// What was to be proven before a prefix is announced is proven, or waited for no more.
    Proof {
        /// The prefix.
        prefix: String,
        /// The port of the neighbours that it is announced to.
        port: String,
        /// Whether a site answered a packet from there, by way of every worker; else it is announced all the same.
        proven: bool,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// A new configuration is in force.
    Reload {
        /// Who asked for it; several, if several did while the file was read.
        by: String,
        /// What changed, one line each.
        changes: Vec<String>,
    },
    /// An operator drained the router, or undrained it.
    RouterDrain {
        /// Who gave the command.
        by: String,
        /// Whether it takes back all that it announces.
        drained: bool,
    },
    /// The sites of a service's cheapest living tier changed.
    Select {
        /// Service name.
        service: String,
        /// Address family.
        family: Family,
        /// That tier's sites before.
        from: Vec<String>,
        /// That tier's sites now.
        to: Vec<String>,
        /// Why these serve although none of them is up and undrained, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resort: Option<Resort>,
        /// Why flows may have moved.
        cause: MoveCause,
        /// The member that caused it: the one that died, or the one that is better now, or as good.
        member: String,
    },
    /// One leg (a service, a site, a family, a link) went up or down.
    Site {
        /// Service name.
        service: String,
        /// Site name.
        site: String,
        /// Address family.
        family: Family,
        /// The port that leads to it.
        port: String,
        /// Whether packets are sent there now.
        up: bool,
        /// What decided it, such as `carrier`, `probe silent`.
        reason: String,
        /// When the byte that workers read was stored; `t_ns` is when the router learned of the
        /// change.
        stored_ns: u64,
    },
}

impl EventKind {
    /// All kinds, as lines name them, in alphabetical order.
    pub const NAMES: [&str; 22] = [
        "bfd",
        "bfd_pace",
        "bgp",
        "block",
        "carrier",
        "damped",
        "device",
        "disable",
        "doubted",
        "drain",
        "engine",
        "first_packet",
        "lease",
        "playbook",
        "proof",
        "publish",
        "reader_stalled",
        "ready",
        "reload",
        "router_drain",
        "select",
        "site",
    ];
}

/// What a service's packets are left to when none of its sites is up and not drained.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resort {
    /// Sites whose checks pass, and that wait only because they flapped.
    Damped,
    /// The next best routes to the service's prefixes, or what covers them.
    Covering,
    /// Drained sites.
    Drained,
    /// The next best routes to the service's prefixes.
    NextRoute,
}

/// Why a flow may move to another site.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveCause {
    /// Another member is better now, or as good: it came up, or latencies changed.
    CheaperUp,
    /// The configuration changed.
    Configuration,
    /// The flow's own member died.
    MemberDied,
    /// An operator drained or undrained a site.
    Operator,
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
