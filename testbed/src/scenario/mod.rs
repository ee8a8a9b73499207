//! A scenario: a lab, its traffic, what is done to it and when, and what is expected of it, in one
//! file that reads at a glance.
//!
//! ```toml
//! seed = 7
//! lasts = "4s"
//! [topology]
//! file = "three-sites.toml"
//! [[flow]]
//! from = "client"
//! to = "198.51.100.53"
//! every = "1ms"
//! [[step]]
//! at = "1s"
//! kill = { site = "ams", how = "silent" }
//! [[step]]
//! at = "2s"
//! heal = { site = "ams" }
//! [expect]
//! outage-max = "60ms"
//! lost-max = 300
//! ```
#![forbid(unsafe_code)]

mod check;
mod expected;
mod judge;
mod output;
mod run;
mod step;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nearhop::config::reader::{ConfigErrors, Style};

use crate::measure::KillKind;
use crate::topology::Topology;

pub use expected::Expectation;
pub use judge::{Failure, Outcome};
pub(crate) use run::wait_for_answers;
pub use run::{RunOptions, run};
pub use step::StepOutcome;

/// What `nearlab run` plays.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// What links roll their dice with.
    pub seed: u64,
    /// The lab: one router, one client at least.
    pub topology: Topology,
    /// The traffic.
    pub flows: Vec<FlowSpec>,
    /// What is done, by time.
    pub steps: Vec<Step>,
    /// From the first moment that counts to the last; no step is later.
    pub lasts: Duration,
    /// What has to hold.
    pub expect: Expect,
}

/// Numbered probes from one client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowSpec {
    /// The client.
    pub from: String,
    /// Anycast addresses.
    pub to: Vec<IpAddr>,
    /// Between two probes of a flow.
    pub every: Duration,
    /// Flows for each address, distinguished by source port.
    pub count: u16,
}

/// Something that is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Since the beginning.
    pub at: Duration,
    /// What.
    pub deed: Deed,
    /// What has to hold of it alone.
    pub expect: StepExpect,
}

/// What has to hold of one step, from then until the next. `None`, or nobody named: anything goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StepExpect {
    /// Who answers every flow when the next step is taken: one of these. The next step waits for it.
    pub served_by: Vec<String>,
    /// Probes that were never answered.
    pub lost_max: Option<u64>,
    /// Changes of site.
    pub moves_max: Option<u64>,
}

/// What is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Deed {
    /// A site dies.
    Kill {
        /// Which one.
        site: String,
        /// How.
        how: KillKind,
    },
    /// A site that died comes back.
    Heal {
        /// Which one.
        site: String,
    },
    /// A site dies and comes back, again and again; in the end it is back.
    Flap {
        /// Which one.
        site: String,
        /// How; announced or silent.
        how: KillKind,
        /// From one death to the next.
        every: Duration,
        /// How long it is dead each time; shorter than `every`.
        down: Duration,
        /// For how long this goes on.
        lasts: Duration,
    },
    /// An operator takes a site out of service: at the router, or, if it announces by BGP, at the site.
    Drain(String),
    /// And takes that back.
    Undrain(String),
    /// A site's BGP daemon withdraws what it announces.
    Withdraw(String),
    /// And announces it again.
    Announce(String),
    /// A reload that hands the costs to the sites in this order.
    Reorder(Vec<String>),
    /// An operator forgives every flapping site.
    Undamp,
}

/// What has to hold at the end. `None`: anything goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expect {
    /// The longest outage of any flow in any direction.
    pub outage_max: Option<Duration>,
    /// Probes that were never answered, of all flows.
    pub lost_max: Option<u64>,
    /// Echoes that arrived after one of a later probe.
    pub reordered_max: Option<u64>,
    /// Echoes beyond the first.
    pub duplicated_max: Option<u64>,
    /// Changes of site, of all flows.
    pub moves_max: Option<u64>,
    /// Of these, without a reason; no more than 0 if not given.
    pub unexplained_moves: u64,
    /// Whether every flow is answered at the end; `true` if not given.
    pub every_client_served: bool,
    /// Who answers at the end: one of these, whatever the flow; empty: anybody.
    pub served_by: Vec<String>,
    /// Sites that the router held down for flapping.
    pub damped: Vec<String>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            outage_max: None,
            lost_max: None,
            reordered_max: None,
            duplicated_max: None,
            moves_max: None,
            unexplained_moves: 0,
            every_client_served: true,
            served_by: Vec::new(),
            damped: Vec::new(),
        }
    }
}

/// Every mistake of a file, and of the topology it names.
#[derive(Debug)]
pub struct FileErrors(pub Vec<ConfigErrors>);

impl FileErrors {
    /// Each mistake with its source line.
    pub fn render(&self, style: Style) -> String {
        let drawn: Vec<_> = self.0.iter().map(|errors| errors.render(style)).collect();
        drawn.join("\n")
    }
}

impl Scenario {
    /// Reads a scenario and the topology it names, which is found from the scenario's folder.
    ///
    /// # Errors
    /// Every mistake of both files.
    pub fn load(path: &Path) -> Result<Self, FileErrors> {
        check::load(path)
    }
}

/// Reads a topology file.
///
/// # Errors
/// Every mistake.
pub fn load_topology(path: &Path) -> Result<Topology, FileErrors> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| FileErrors(vec![ConfigErrors::unreadable(&name, &error)]))?;
    Topology::parse(&name, &text).map_err(|errors| FileErrors(vec![errors]))
}

/// Reads a scenario or a topology, whichever it is, and says what it has.
///
/// # Errors
/// Every mistake.
pub fn validate(path: &Path) -> Result<String, FileErrors> {
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    if check::is_scenario(path) {
        let scenario = Scenario::load(path)?;
        let flows: usize =
            scenario.flows.iter().map(|flow| flow.to.len() * usize::from(flow.count)).sum();
        let (flows, steps) = (count(flows, "flow"), count(scenario.steps.len(), "step"));
        return Ok(format!("scenario ({flows}, {steps}, lasts {:?})", scenario.lasts));
    }
    let topology = load_topology(path)?;
    let (nodes, links) = (count(topology.nodes.len(), "node"), count(topology.links.len(), "link"));
    Ok(format!("topology ({nodes}, {links}, {})", count(topology.services.len(), "service")))
}

#[cfg(test)]
mod tests;
