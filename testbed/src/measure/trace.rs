//! What a prober recorded of one flow.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use nearhop::ids::Family;
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

    /// Appends what was recorded later of the same flow. Probes that are here already are left out;
    /// sites are matched by name.
    pub fn extend(&mut self, later: &Trace) {
        let next = self.probes.last().map_or(0, |probe| probe.seq + 1);
        let known: Vec<u16> = later.sites.iter().map(|name| self.site_index(name)).collect();
        let start = later.probes.partition_point(|probe| probe.seq < next);
        self.probes.extend(later.probes[start..].iter().map(|probe| {
            let arrival = probe.arrival.map(|arrival| Arrival {
                site: known.get(usize::from(arrival.site)).copied().unwrap_or(u16::MAX),
                ..arrival
            });
            Probe { arrival, ..*probe }
        }));
    }

    fn site_index(&mut self, name: &str) -> u16 {
        let at = self.sites.iter().position(|site| site == name).unwrap_or_else(|| {
            self.sites.push(name.to_owned());
            self.sites.len() - 1
        });
        at as u16
    }

    /// Who answers now: the site of the last probe that was answered.
    pub fn current_site(&self) -> Option<&str> {
        self.probes.iter().rev().find_map(|probe| probe.arrival.as_ref()).map(|a| self.site(a))
    }
}

#[cfg(test)]
mod tests {
    use nearhop::ids::Family;

    use crate::measure::testing::{answered, trace};

    #[test]
    fn later_records_join_by_number_and_by_name() {
        let mut all = trace(Family::Ipv4, vec![answered(0, 0, 0), answered(1, 10, 1)]);
        let mut later = trace(Family::Ipv4, vec![answered(1, 10, 0), answered(2, 20, 1)]);
        later.sites = vec!["ams".into(), "osl".into()];
        all.extend(&later);
        assert_eq!(all.probes.iter().map(|probe| probe.seq).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(all.sites, ["fra", "ams", "par", "osl"]);
        assert_eq!(all.current_site(), Some("osl"));
        assert_eq!(all.between(10_000, 20_000).len(), 1);
    }
}
