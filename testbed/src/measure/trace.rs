//! What a prober recorded of one flow.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use nearhop::event::Family;
use serde::{Deserialize, Serialize};

/// One flow: a client's source port towards one destination.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Flow {
    /// Name of the client.
    pub client: String,
    /// The client's number for the flow.
    pub id: u16,
    /// Address family.
    pub family: Family,
    /// Source port, in the client's namespace.
    pub source_port: u16,
    /// The anycast address and port it goes to.
    pub destination: SocketAddr,
}

/// Everything known of one flow over some time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// Which flow.
    pub flow: Flow,
    /// Names of sites; [`Arrival::site`] is an index into this.
    pub sites: Vec<String>,
    /// The probes sent, by rising sequence number; none is missing between the first and the last.
    pub probes: Vec<Probe>,
}

/// One numbered probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probe {
    /// Position in the flow.
    pub seq: u64,
    /// When it left.
    pub sent_ns: u64,
    /// The first echo, if one came.
    pub arrival: Option<Arrival>,
    /// Further echoes of the same probe.
    pub duplicates: u16,
}

/// An echo.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// When the probe arrived at the site.
    pub server_ns: u64,
    /// When the echo arrived at the client.
    pub client_ns: u64,
    /// Index of the site's name in [`Trace::sites`].
    pub site: u16,
}

impl Trace {
    /// The name of the site that sent `arrival`.
    pub fn site(&self, arrival: &Arrival) -> &str {
        self.sites.get(usize::from(arrival.site)).map_or("?", String::as_str)
    }

    /// Probes sent at or after `from_ns` and before `to_ns`.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> &[Probe] {
        let start = self.probes.partition_point(|probe| probe.sent_ns < from_ns);
        let end = self.probes.partition_point(|probe| probe.sent_ns < to_ns);
        &self.probes[start..end.max(start)]
    }

    /// Who answers now: the site of the last probe that was answered.
    pub fn current_site(&self) -> Option<&str> {
        self.probes.iter().rev().find_map(|probe| probe.arrival.as_ref()).map(|a| self.site(a))
    }
}
