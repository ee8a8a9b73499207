//! The lab of the demo with its router, its sites and its prober.
#![forbid(unsafe_code)]

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nearhop::event::{Event, EventKind};
use nearhop::time::Nanos;

use super::DemoError;
use super::router::Router;
use crate::lab::process::Program;
use crate::lab::{Lab, Output, ProcessRole, wait_until};
use crate::report::{EventLog, LabEventKind, Mark, RunFolder};
use crate::sandbox::own_executable;
use crate::site::SiteOptions;
use crate::topology::{NodeKind, Topology};
use crate::traffic::protocol::{FlowNow, RecordsHead};
use crate::traffic::{ProbeOptions, Prober, Taken};

/// Everything that plays.
pub(super) struct Stage {
    pub(super) lab: Lab,
    pub(super) router: Router,
    pub(super) prober: Prober,
    /// Sites from the cheapest on.
    pub(super) order: Vec<String>,
    pub(super) events: EventLog,
    pub(super) phase: Phase,
    config: PathBuf,
    router_name: String,
    silence: String,
}

impl Stage {
    /// Builds it: the router first, for it makes the devices that the others need.
    pub(super) fn build(
        topology: Topology,
        seed: u64,
        folder: &RunFolder,
    ) -> Result<Self, DemoError> {
        let name = |kind| -> String {
            topology.nodes_of(kind).next().map(|node| node.name.clone()).unwrap_or_default()
        };
        let (client, router_name) = (name(NodeKind::Client), name(NodeKind::Router));
        let mut order: Vec<_> = topology.services[0].sites.clone();
        order.sort_by_key(|site| site.cost);
        let order: Vec<String> = order.into_iter().map(|site| site.name).collect();

        let config = PathBuf::from(format!("/run/{router_name}.toml"));
        let socket = PathBuf::from(format!("/run/{router_name}.sock"));
        fs::write(&config, topology.router_config(&router_name)).map_err(DemoError::lab)?;
        let lab = Lab::build(topology, seed).map_err(DemoError::lab)?;
        lab.start(router_program(&router_name, &config, &socket, folder))
            .map_err(DemoError::lab)?;
        lab.connect(START_BUDGET).map_err(DemoError::lab)?;
        for site in &order {
            start_site(&lab, site, folder)?;
        }
        wait_until("the router's control socket", START_BUDGET, || socket.exists())?;
        let router = Router::follow(&socket)?;
        let prober = start_prober(&lab, &client)?;
        let silence = lab.silence().map_or_else(|| "unknown".into(), |way| way.to_string());
        let events = folder.events()?;
        let phase = Phase(seed.max(1));
        Ok(Self { lab, router, prober, order, events, phase, config, router_name, silence })
    }

    /// Waits until every site is up, and the cheapest answers every flow.
    pub(super) fn wait_for_service(&mut self) -> Result<(), DemoError> {
        let wanted = self.order.len() * 2;
        let mut up = std::collections::BTreeSet::new();
        let router = &mut self.router;
        let mut fresh = Vec::new();
        wait_until("every site to be up in the router", START_BUDGET, || {
            for event in router.take_new() {
                note_up(&event, &mut up);
                fresh.push(event);
            }
            up.len() == wanted
        })?;
        for event in fresh {
            self.events.router(event)?;
        }
        let first = self.order[0].clone();
        self.wait_for_flows(&format!("{first} to answer every flow"), |site| site == first)
    }

    /// Waits until who answers each flow is as `right` says, heard after this call.
    pub(super) fn wait_for_flows(
        &mut self,
        what: &str,
        right: impl Fn(&str) -> bool,
    ) -> Result<(), DemoError> {
        let since = Nanos::now().0;
        let all = |flows: &[FlowNow]| {
            flows
                .iter()
                .all(|flow| flow.heard_ns > since && flow.site.as_deref().is_some_and(&right))
        };
        match self.prober.wait_until(FLOWS_BUDGET, all).map_err(DemoError::lab)? {
            Ok(_) => Ok(()),
            Err(last) => {
                let told: Vec<String> = last
                    .iter()
                    .map(|f| format!("{} {}", f.family.label(), f.site.as_deref().unwrap_or("-")))
                    .collect();
                let budget = FLOWS_BUDGET.as_secs();
                let last = told.join(", ");
                Err(DemoError::Lab(format!("waited {budget} s for {what}; last: {last}")))
            }
        }
    }

    /// Lets probes of the first moments, sent while things were still coming up, fall out of sight.
    pub(super) fn settle(&mut self) -> Result<(), DemoError> {
        self.prober.set_spacing(CALM).map(drop).map_err(DemoError::lab)
    }

    /// Makes `order` the order of costs, by a reload.
    pub(super) fn reorder(&mut self, order: &[String]) -> Result<(), DemoError> {
        let names: Vec<&str> = order.iter().map(String::as_str).collect();
        let topology = self.lab.topology().reordered(&names);
        fs::write(&self.config, topology.router_config(&self.router_name))
            .map_err(DemoError::lab)?;
        self.router.post("/v1/reload")?;
        self.order = order.to_vec();
        let what = format!("reload: {} is the cheapest", order[0]);
        self.note(LabEventKind::Change { what })
    }

    pub(super) fn note(&mut self, kind: LabEventKind) -> Result<(), DemoError> {
        self.events.lab(Nanos::now().0, kind)?;
        Ok(())
    }

    /// Takes the router's new events into the log, and gives those from `since` on.
    pub(super) fn events_since(&mut self, since: Nanos) -> Result<Vec<Event>, DemoError> {
        for event in self.router.take_new() {
            self.events.router(event)?;
        }
        let all = self.events.router_events();
        Ok(all.into_iter().filter(|event| event.t_ns >= since.0).collect())
    }

    pub(super) fn records(&mut self, range: Range<Nanos>) -> Result<Taken, DemoError> {
        self.prober.take_records(range, SETTLE).map_err(DemoError::lab)
    }

    pub(super) fn sites(&self) -> Vec<String> {
        let mut sites = self.order.clone();
        sites.sort_unstable();
        sites
    }

    /// How things were measured, for the report.
    pub(super) fn method(&self, head: &RecordsHead) -> Vec<(String, String)> {
        let line = |what: &str, how: String| (what.to_owned(), how);
        vec![
            line("probes", format!("numbered UDP datagrams, {} flows", self.prober.flows().len())),
            line("spacing", format!("{BRISK:?} round a kill, {CALM:?} otherwise")),
            line("late sends", format!("{:?}", head.pace)),
            line("receive times", self.prober.stamps().to_owned()),
            line("clock", "CLOCK_MONOTONIC of one machine, for all".into()),
            line("silent faults", format!("made by {}", self.silence)),
            line("detection", "ICMP echo every 10 ms × 3; DNS query every 10 ms × 3".into()),
        ]
    }

    pub(super) fn finish_events(&mut self) -> Result<Vec<Mark>, DemoError> {
        self.events_since(Nanos::ZERO)?;
        Ok(self.events.marks())
    }

    /// Leaves everything as it is until a signal ends the program, for nothing is dropped.
    pub(super) fn hold(self) -> ! {
        let _stays = self;
        loop {
            std::thread::park();
        }
    }
}

/// The moments of kills against the ticking of probes: xorshift64 (Marsaglia, 2003).
pub(super) struct Phase(u64);

impl Phase {
    /// A time below 10 ms.
    pub(super) fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % 10_000)
    }
}

fn note_up(event: &Event, up: &mut std::collections::BTreeSet<(String, &'static str)>) {
    if let EventKind::Site { site, family, up: is_up, .. } = &event.kind {
        let key = (site.clone(), family.label());
        if *is_up {
            up.insert(key);
        } else {
            up.remove(&key);
        }
    }
}

fn router_program(
    name: &str,
    config: &std::path::Path,
    socket: &std::path::Path,
    folder: &RunFolder,
) -> Program {
    let args = ["router".into(), "run".into(), config.into(), "--socket".into(), socket.into()];
    let args: [std::ffi::OsString; 5] = args;
    Program {
        role: ProcessRole::Router,
        stderr: Output::File(folder.path().join(format!("{name}.log"))),
        ..Program::own(name, name, args)
    }
}

fn start_site(lab: &Lab, site: &str, folder: &RunFolder) -> Result<(), DemoError> {
    let options = SiteOptions {
        name: site.to_owned(),
        addresses: lab.topology().service_addresses(site).collect(),
        dns_port: 53,
        http_port: 80,
        echo_port: 7,
        ready_file: None,
    };
    let program = Program {
        role: ProcessRole::Server,
        stdout: Output::Null,
        stderr: Output::File(folder.path().join(format!("{site}.log"))),
        ..Program::own(site, site, options.to_args())
    };
    lab.start(program).map_err(DemoError::lab)
}

fn start_prober(lab: &Lab, client: &str) -> Result<Prober, DemoError> {
    let options = ProbeOptions {
        client: client.to_owned(),
        to: lab.topology().services[0].addresses.clone(),
        flows: 4,
        source_port: 40_000,
        echo_port: 7,
        dns_port: 53,
        spacing_us: u64::try_from(CALM.as_micros()).unwrap_or(1_000),
        dns_every_ms: 10,
    };
    let mut command = Command::new(own_executable());
    command.args(options.to_args());
    lab.netns(client)
        .within(|| Prober::spawn(command))
        .map_err(DemoError::lab)?
        .map_err(DemoError::lab)
}

/// Between two probes of a flow.
pub(super) const CALM: Duration = Duration::from_millis(1);

/// Between two probes of a flow, round a kill.
pub(super) const BRISK: Duration = Duration::from_micros(200);

/// How long echoes may take to come back.
pub(super) const SETTLE: Duration = Duration::from_millis(30);

/// For everything to come up; more than ten times what it takes.
const START_BUDGET: Duration = Duration::from_secs(15);

/// For flows to move.
const FLOWS_BUDGET: Duration = Duration::from_secs(5);
