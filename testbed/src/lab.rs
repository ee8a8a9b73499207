//! A running lab: its namespaces, its processes, and the faults it can inflict.
//!
//! Order of calls: [`Lab::build`] makes the namespaces and starts the emulators of impaired links;
//! [`Lab::start`] starts the router, which makes its TUN devices; [`Lab::connect`] sets the
//! addresses and routes of the hosts' NICs; [`Lab::start`] then starts servers and clients.
//! [`Lab::inflict`] and [`Lab::heal`] return when they took effect.
#![forbid(unsafe_code)]

mod fault;
mod namespace;
mod nic;
pub mod process;
pub mod silence;
pub mod wait;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nearhop::kernel::link::{LinkError, LinkSetup};
use nearhop::kernel::netns::{NetNs, NetNsError};

use crate::sandbox;
use crate::topology::{LinkPlan, Topology};
use crate::wire;

pub use crate::sandbox::join::shell;
pub use fault::{Act, Fault};
pub use namespace::Namespace;
use nic::Nic;
pub(crate) use nic::QUEUE_PACKETS;
use process::{Crew, Program};
pub use process::{Exit, Output, ProcessRole};
pub use wait::{Overdue, wait_for, wait_until};

/// A running lab. Dropping it kills its processes.
pub struct Lab {
    topology: Topology,
    // Declared before the namespaces: fields are dropped in order, processes first.
    crew: Mutex<Crew>,
    nics: BTreeMap<String, Mutex<Nic>>,
    _namespaces: Vec<Namespace>,
}

impl Lab {
    /// Makes the namespaces, gives sites their shared addresses, and starts an emulator for each
    /// impaired link.
    ///
    /// # Errors
    /// This process is not in a sandbox (a lab never runs on the host), or the kernel refuses
    /// something; in both cases nothing is left behind.
    pub fn build(topology: Topology, seed: u64) -> Result<Self, LabError> {
        if !sandbox::is_inside() {
            return Err(LabError::OnTheHost);
        }
        let mut namespaces = Vec::new();
        for node in &topology.nodes {
            namespaces.push(Namespace::make(&node.name)?);
            prepare_loopback(&topology, &node.name)?;
        }
        let mut nics = BTreeMap::new();
        let plans = topology.plans();
        for plan in &plans {
            if !plan.is_direct() {
                namespaces.push(Namespace::make_silent(&plan.router_device_netns)?);
            }
            nics.insert(plan.host.clone(), Mutex::new(Nic::new(plan.clone())?));
        }
        let lab = Self { topology, crew: Mutex::default(), nics, _namespaces: namespaces };
        for (index, plan) in plans.iter().enumerate().filter(|(_, plan)| !plan.is_direct()) {
            lab.start_wire(plan, seed.wrapping_add(index as u64))?;
        }
        Ok(lab)
    }

    /// The topology it was built from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A node's network namespace.
    pub fn netns(&self, node: &str) -> NetNs {
        NetNs::named(node)
    }

    /// Starts a program at its node.
    pub fn start(&self, program: Program) -> Result<(), LabError> {
        self.crew().start(program)
    }

    /// Processes that ended without being killed; each is returned once.
    pub fn exited(&self) -> Vec<Exit> {
        self.crew().exited()
    }

    /// Process ID, in the sandbox's PID namespace, of a program that was started.
    pub fn pid_of(&self, program: &str) -> Option<u32> {
        self.crew().pid_of(program)
    }

    /// The standard output of a program started with [`Output::Piped`]; available once per start.
    pub fn stdout_of(&self, program: &str) -> Option<std::process::ChildStdout> {
        self.crew().stdout_of(program)
    }

    /// Kills a program, and everything it started, with SIGKILL, and waits for its end.
    pub fn kill(&self, program: &str) -> Result<Act, LabError> {
        self.crew().kill(|one| one.name == program)
    }

    /// Waits until every host has its NIC, and sets the addresses and default routes of each. Call
    /// it again after a router was restarted and has made new devices.
    pub fn connect(&self, budget: Duration) -> Result<(), LabError> {
        for (host, nic) in &self.nics {
            let mut nic = lock(nic);
            let what = format!("{} at {host}, which the router creates", nic.device());
            wait_for(&what, budget, || match nic.exists() {
                Ok(true) => Ok(()),
                Ok(false) => Err(self.told_exits()),
                Err(error) => Err(error.to_string()),
            })?;
            nic.configure()?;
        }
        Ok(())
    }

    /// The method of silent faults on this kernel; known after [`Lab::connect`].
    pub fn silence(&self) -> Option<silence::Way> {
        self.nics.values().find_map(|nic| lock(nic).silence())
    }

    /// Inflicts the fault on the node, at once.
    ///
    /// # Errors
    /// The node has nothing that the fault applies to, or the kernel refuses.
    pub fn inflict(&self, fault: Fault, node: &str) -> Result<Act, LabError> {
        let at_node = |program: &Program| program.node == node;
        match fault {
            Fault::Announced => self.nic(node)?.set_down(),
            Fault::Silent => self.nic(node)?.set_silent(true),
            Fault::Server => {
                self.crew().kill(|program| at_node(program) && program.role == ProcessRole::Server)
            }
            Fault::Daemon => {
                self.crew().kill(|program| at_node(program) && program.role == ProcessRole::Daemon)
            }
            // The link first, so that nothing a dying process sends leaves the site.
            Fault::Site => {
                let silent = self.nic(node)?.set_silent(true)?;
                let dead = self.crew().kill(at_node)?;
                Ok(Act { before: silent.before, after: dead.after })
            }
        }
    }

    /// Undoes [`Lab::inflict`]: the link carries packets again, with all addresses and routes, and
    /// killed processes are started again.
    pub fn heal(&self, fault: Fault, node: &str) -> Result<Act, LabError> {
        match fault {
            Fault::Announced => self.nic(node)?.set_up(),
            Fault::Silent => self.nic(node)?.set_silent(false),
            Fault::Server | Fault::Daemon => self.crew().restart_dead(node),
            // The processes first: a machine boots before its link is up.
            Fault::Site => {
                let booted = self.crew().restart_dead(node)?;
                let linked = self.nic(node)?.set_silent(false)?;
                Ok(Act { before: booted.before, after: linked.after })
            }
        }
    }

    fn start_wire(&self, plan: &LinkPlan, seed: u64) -> Result<(), LabError> {
        let command = wire::command(plan, seed).map_err(LabError::step("describe a wire"))?;
        self.start(Program {
            name: format!("wire-{}", plan.host),
            role: ProcessRole::Wire,
            ..Program::new("", "", command)
        })
    }

    fn nic(&self, node: &str) -> Result<MutexGuard<'_, Nic>, LabError> {
        let nic = self.nics.get(node).ok_or_else(|| LabError::NoLink(node.to_owned()))?;
        Ok(lock(nic))
    }

    fn crew(&self) -> MutexGuard<'_, Crew> {
        lock(&self.crew)
    }

    fn told_exits(&self) -> String {
        let exits: Vec<_> = self.exited().iter().map(ToString::to_string).collect();
        exits.join("; ")
    }
}

/// Why a lab could not be built, or something could not be done in it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// This process is not in a sandbox.
    #[error("a lab is not built on the host; call sandbox::enter first")]
    OnTheHost,
    /// The node has no link of its own.
    #[error("\"{0}\" is not a node with a link to a router")]
    NoLink(String),
    /// The node's NIC does not exist.
    #[error("{device} at {host} does not exist; is the router running, and was the lab connected?")]
    NoNic {
        /// The node.
        host: String,
        /// The NIC.
        device: String,
    },
    /// No process that the fault applies to.
    #[error("expected a running program to kill, found none")]
    NobodyToKill,
    /// A program of that name is already running.
    #[error("a program named \"{0}\" is already running")]
    NameTaken(String),
    /// A condition did not become true in time.
    #[error(transparent)]
    Overdue(#[from] Overdue),
    /// A device could not be changed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A namespace could not be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// Another step failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// The step.
        step: String,
        /// The kernel's error.
        source: io::Error,
    },
}

impl LabError {
    /// For `map_err`: names the step.
    fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Step { step: step.into(), source: source.into() }
    }
}

/// A panic while the lock was held is already reported, and the lab must still be torn down.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the loopback up, with the addresses of the services that the node serves.
fn prepare_loopback(topology: &Topology, node: &str) -> Result<(), LabError> {
    let mut links = LinkSetup::open(&NetNs::named(node))?;
    links.set_up("lo", true)?;
    for address in topology.service_addresses(node) {
        links.replace_address("lo", address.into())?;
    }
    Ok(())
}
