//! A lab that plays: its router and its sites run, and all that happens goes to one log. The demo,
//! scenarios and `nearlab up` stand on it.
#![forbid(unsafe_code)]

mod bgp;
mod router;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nearhop::event::{Event, EventKind};
use nearhop::ids::Family;
use nearhop::time::Nanos;

use crate::announcer::{Announcer, AnnouncerError};
use crate::lab::process::Program;
use crate::lab::{Act, Fault, Lab, Output, ProcessRole, wait_for, wait_until};
use crate::measure::KillKind;
use crate::report::{EventLog, LabEventKind, RunFolder};
use crate::sandbox::own_executable;
use crate::site::SiteOptions;
use crate::topology::{Node, NodeKind, ServiceSite, Topology};
use crate::traffic::{Awaited, Patience, ProbeOptions, Prober};
use router::Router;

/// A lab with its router and its sites.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) router: Router,
    /// Sites from the nearest on.
    pub(crate) order: Vec<String>,
    /// The BGP daemons of sites that announce.
    announcers: Vec<Announcer>,
    pub(crate) events: EventLog,
    config: PathBuf,
    router_name: String,
    silence: String,
}

/// Why something on the stage could not be done.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The machine, the lab or one of its parts.
    #[error("{0}")]
    Lab(String),
    /// Something did not come about in time.
    #[error(transparent)]
    Overdue(#[from] crate::lab::Overdue),
    /// Flows are not answered as they have to be: the router's fault, or a site's.
    #[error("{0}")]
    NotServed(String),
    /// A BGP daemon of a site.
    #[error(transparent)]
    Announcer(#[from] AnnouncerError),
    /// A file of the run could not be written.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
}

impl StageError {
    pub(crate) fn lab(error: impl std::fmt::Display) -> Self {
        Self::Lab(error.to_string())
    }
}

impl Stage {
    /// Builds it: the router first, because it makes the devices that the others need. The topology
    /// has one router.
    pub(crate) fn build(
        topology: Topology,
        seed: u64,
        folder: &RunFolder,
    ) -> Result<Self, StageError> {
        Self::build_with(topology, seed, folder, &[])
    }

    /// Builds it, with these further arguments of `nearhop run`.
    pub(crate) fn build_with(
        topology: Topology,
        seed: u64,
        folder: &RunFolder,
        router_args: &[OsString],
    ) -> Result<Self, StageError> {
        let announcers = Announcer::all(&topology)?;
        let router = topology.nodes_of(NodeKind::Router).next();
        let router_name = router.map(|node| node.name.clone()).unwrap_or_default();
        let order = by_rank(&topology);
        let config = PathBuf::from(format!("/run/{router_name}.toml"));
        // Where the client command looks, in a shell at the router.
        let socket = PathBuf::from(format!("/run/nearhop/{router_name}.sock"));
        fs::write(&config, topology.router_config(&router_name)).map_err(StageError::lab)?;
        let lab = Lab::build(topology, seed).map_err(StageError::lab)?;
        let mut program = router_program(&router_name, &config, &socket, folder);
        program.command.extend_from_slice(router_args);
        lab.start(program).map_err(StageError::lab)?;
        lab.connect(START_BUDGET).map_err(StageError::lab)?;
        let serves = |site: &&Node| lab.topology().service_addresses(&site.name).next().is_some();
        for site in lab.topology().nodes_of(NodeKind::Site).filter(serves) {
            start_site(&lab, &site.name, folder)?;
        }
        for announcer in &announcers {
            let (site, daemon) = (announcer.site(), announcer.daemon().label());
            announcer.start(&lab, &folder.path().join(format!("{site}-{daemon}.log")))?;
        }
        wait_until("the router's control socket", START_BUDGET, || socket.exists())?;
        let events = folder.events()?;
        let router = Router::follow(&socket, events.clone())?;
        let silence = lab.silence().map_or_else(|| "unknown".into(), |way| way.to_string());
        Ok(Self { lab, router, order, announcers, events, config, router_name, silence })
    }

    /// Starts a prober at its client.
    pub(crate) fn start_prober(&self, options: &ProbeOptions) -> Result<Prober, StageError> {
        let mut command = Command::new(own_executable());
        command.args(options.to_args());
        self.lab
            .netns(&options.client)
            .within(|| Prober::spawn(command))
            .map_err(StageError::lab)?
            .map_err(StageError::lab)
    }

    /// Waits until every site of every service is up in every family, and everything that sites
    /// announce has come to the router.
    pub(crate) fn wait_for_sites(&self) -> Result<(), StageError> {
        let wanted = legs(self.lab.topology());
        let events = &self.events;
        wait_for("every site to be up in the router", START_BUDGET, || {
            let mut up = BTreeSet::new();
            events.router_events(0).iter().for_each(|event| note_up(event, &mut up));
            let missing: Vec<_> = wanted.difference(&up).map(|leg| leg.1.as_str()).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("not up: {}", missing.join(", "))) }
        })?;
        self.wait_for_announcements()
    }

    /// Does this to a site, and says so in the log.
    pub(crate) fn inflict(&self, how: KillKind, site: &str) -> Result<Act, StageError> {
        let act = self.lab.inflict(fault(how), site).map_err(StageError::lab)?;
        let fault = LabEventKind::Fault { how, site: site.to_owned(), family: None };
        self.events.lab(act.before.0, fault)?;
        Ok(act)
    }

    /// Undoes [`Self::inflict`], and says so in the log.
    pub(crate) fn heal(&self, how: KillKind, site: &str) -> Result<Act, StageError> {
        let act = self.lab.heal(fault(how), site).map_err(StageError::lab)?;
        self.events.lab(act.before.0, LabEventKind::Heal { how, site: site.to_owned() })?;
        Ok(act)
    }

    /// Asks the router for a change, such as `drain/ams`, and says so in the log.
    pub(crate) fn ask(&self, path: &str) -> Result<(), StageError> {
        self.router.post(&format!("/v1/{path}"))?;
        self.note(LabEventKind::Change { what: path.replace('/', " ") })
    }

    /// Makes `order` the order of costs, by a reload.
    pub(crate) fn reorder(&mut self, order: &[String]) -> Result<(), StageError> {
        let names: Vec<&str> = order.iter().map(String::as_str).collect();
        let topology = self.lab.topology().reordered(&names);
        fs::write(&self.config, topology.router_config(&self.router_name))
            .map_err(StageError::lab)?;
        self.router.post("/v1/reload")?;
        self.order = by_rank(&topology);
        let what = format!("reload: {} is the cheapest", order[0]);
        self.note(LabEventKind::Change { what })
    }

    pub(crate) fn note(&self, kind: LabEventKind) -> Result<(), StageError> {
        self.events.lab(Nanos::now().0, kind)?;
        Ok(())
    }

    /// Their names, in order.
    pub(crate) fn sites(&self) -> Vec<String> {
        let mut sites = self.order.clone();
        sites.sort_unstable();
        sites
    }

    /// The longest time until the router knows of a fault that nobody announces.
    pub(crate) fn detection(&self) -> Duration {
        let services = &self.lab.topology().services;
        services.first().map_or(Duration::ZERO, |service| service.health.detection())
    }

    /// How silent faults are made here.
    pub(crate) fn silence(&self) -> &str {
        &self.silence
    }

    /// Leaves everything as it is until a signal ends the program, for nothing is dropped.
    pub(crate) fn hold(self) -> ! {
        let _stays = self;
        loop {
            std::thread::park();
        }
    }
}

/// Sites of the first service, the nearest first.
fn by_rank(topology: &Topology) -> Vec<String> {
    let mut sites = topology.services.first().map_or_else(Vec::new, |first| first.sites.clone());
    sites.sort_by_key(ServiceSite::rank);
    sites.into_iter().map(|site| site.name).collect()
}

fn fault(kind: KillKind) -> Fault {
    match kind {
        KillKind::Announced => Fault::Announced,
        KillKind::Silent => Fault::Silent,
        KillKind::Server => Fault::Server,
        KillKind::Site => Fault::Site,
        KillKind::Daemon => Fault::Daemon,
    }
}

/// Service, site, family.
type Leg = (String, String, &'static str);

fn legs(topology: &Topology) -> BTreeSet<Leg> {
    let mut legs = BTreeSet::new();
    for service in topology.services.iter().filter(|service| !service.is_announced()) {
        for site in &service.sites {
            legs.extend(service.addresses.iter().map(|address| {
                (service.name.clone(), site.name.clone(), Family::of(*address).label())
            }));
        }
    }
    legs
}

fn note_up(event: &Event, up: &mut BTreeSet<Leg>) {
    if let EventKind::Site { service, site, family, up: is_up, .. } = &event.kind {
        let key = (service.clone(), site.clone(), family.label());
        if *is_up {
            up.insert(key);
        } else {
            up.remove(&key);
        }
    }
}

fn router_program(name: &str, config: &Path, socket: &Path, folder: &RunFolder) -> Program {
    let args = ["router".into(), "run".into(), config.into(), "--socket".into(), socket.into()];
    let args: [OsString; 5] = args;
    Program {
        role: ProcessRole::Router,
        stderr: Output::File(folder.path().join(format!("{name}.log"))),
        ..Program::own(name, name, args)
    }
}

fn start_site(lab: &Lab, site: &str, folder: &RunFolder) -> Result<(), StageError> {
    let options = SiteOptions {
        name: site.to_owned(),
        addresses: lab.topology().service_addresses(site).collect(),
        dns_port: 53,
        http_port: 80,
        echo_port: ECHO_PORT,
        ready_file: None,
    };
    let program = Program {
        role: ProcessRole::Server,
        stdout: Output::Null,
        stderr: Output::File(folder.path().join(format!("{site}.log"))),
        ..Program::own(site, site, options.to_args())
    };
    lab.start(program).map_err(StageError::lab)
}

/// Port of the sites' echo (RFC 862).
pub(crate) const ECHO_PORT: u16 = 7;

/// What records wait for. `delay`: the longest of any link, one way.
pub(crate) fn patience(awaited: Awaited, delay: Duration) -> Patience {
    let ms = |span: Duration| u64::try_from((span + 4 * delay).as_millis()).unwrap_or(u64::MAX);
    Patience { awaited, settle_ms: ms(SETTLE), give_up_ms: ms(GIVE_UP) }
}

/// For an echo to come twice.
const SETTLE: Duration = Duration::from_millis(30);

/// An echo that has not come after this time never will: a hundred times what one takes where two
/// programs that never sleep share its cores.
const GIVE_UP: Duration = Duration::from_secs(2);

/// For everything to come up; more than ten times what it takes.
const START_BUDGET: Duration = Duration::from_secs(15);
