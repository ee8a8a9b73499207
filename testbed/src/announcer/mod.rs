//! A site's BGP daemon: BIRD, FRR or ExaBGP as the distribution has it, in the site's namespace.
//!
//! Everything of it is in a folder of its own under the lab's /run: the configuration, the control
//! socket, and in `bin/` the daemon's own command, which `nearlab shell SITE` finds first. What a
//! site does to its announcement is written to the configuration and, if the daemon runs, done by its
//! command: so a daemon that dies and starts again announces what it did before.
#![forbid(unsafe_code)]

mod bird;
mod exabgp;
mod frr;
mod programs;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::lab::process::Program;
use crate::lab::{Lab, Output, ProcessRole, wait_for};
use crate::topology::{Announce, Daemon, LinkPlan, Topology};

pub use programs::missing;
use programs::path_of;

/// The daemon of a site that announces prefixes.
#[derive(Debug)]
pub struct Announcer {
    peering: Peering,
    stance: Stance,
    folder: PathBuf,
}

/// What a site does about its prefixes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stance {
    /// It announces them.
    Announced,
    /// It announces them with the community GRACEFUL_SHUTDOWN (RFC 8326): any other path is better.
    Drained,
    /// It does not announce them.
    Withdrawn,
}

/// The ends of a session, and what is announced over it.
#[derive(Clone, Debug)]
struct Peering {
    site: String,
    /// The site's end, one address per family; the session uses the first.
    local: [IpAddr; 2],
    /// The router's end.
    remote: IpAddr,
    announce: Announce,
}

/// Why a daemon could not be set up, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AnnouncerError {
    /// Its program is not installed; the text says what to type.
    #[error("{0}")]
    Missing(String),
    /// A file of it could not be written.
    #[error("{site}: cannot write {}: {source}", path.display())]
    Write {
        /// The site.
        site: String,
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Its command failed.
    #[error("{site}: '{command}' failed: {why}")]
    Refused {
        /// The site.
        site: String,
        /// The command.
        command: String,
        /// What it printed, or the kernel's error.
        why: String,
    },
    /// The lab could not start it.
    #[error(transparent)]
    Lab(#[from] crate::lab::LabError),
}

impl Announcer {
    /// The daemons of all sites of the lab that announce something. Nothing is started yet.
    ///
    /// # Errors
    /// A daemon is not installed.
    pub fn all(topology: &Topology) -> Result<Vec<Self>, AnnouncerError> {
        if let Some(what) = missing(topology) {
            return Err(AnnouncerError::Missing(what));
        }
        let announcer = |(site, announce): (&str, &Announce)| {
            let plan = topology.plan_of(site)?;
            Some(Self::new(&plan, announce.clone()))
        };
        Ok(topology.announcing().filter_map(announcer).collect())
    }

    fn new(plan: &LinkPlan, announce: Announce) -> Self {
        let peering = Peering {
            site: plan.host.clone(),
            local: plan.host_addresses.map(|address| address.ip()),
            remote: plan.router_addresses[0].ip(),
            announce,
        };
        let folder = folder_of(&peering.site);
        Self { peering, stance: Stance::Announced, folder }
    }

    /// The site.
    pub fn site(&self) -> &str {
        &self.peering.site
    }

    /// What runs there.
    pub fn daemon(&self) -> Daemon {
        self.peering.announce.by
    }

    /// How many prefixes the router has from it while it announces.
    pub fn prefixes(&self) -> usize {
        self.peering.announce.prefixes.len()
    }

    /// For people: what runs at the site and what its two commands do, then the commands, which are
    /// typed after `nearlab shell SITE`. The first shows its sessions, the second takes the site out.
    pub fn examples(&self) -> [String; 3] {
        let site = self.site();
        let prefix = self.peering.announce.prefixes.first();
        let examples = match self.daemon() {
            Daemon::Bird => {
                ["BIRD", "a withdrawal", "birdc show protocols", "birdc disable anycast4"]
            }
            Daemon::Frr => [
                "FRR",
                "a drain (RFC 8326)",
                "vtysh -c 'show bgp summary'",
                "vtysh -c 'conf t' -c 'router bgp' -c 'bgp graceful-shutdown'",
            ],
            Daemon::Exabgp => {
                ["ExaBGP", "a withdrawal", "exabgpcli show neighbor summary", "exabgpcli"]
            }
        };
        let [daemon, change, show, mut take] = examples.map(String::from);
        if let (Daemon::Exabgp, Some(prefix)) = (self.daemon(), prefix) {
            let hop = self.peering.hop(prefix);
            take = format!("{take} withdraw route {prefix} next-hop {hop}");
        }
        [format!("{daemon} at {site}: its session, and {change}"), show, take]
    }

    /// Starts it; its output goes to `log`. The site's NIC has its addresses.
    ///
    /// # Errors
    /// A file cannot be written, or the program not started.
    pub fn start(&self, lab: &Lab, log: &Path) -> Result<(), AnnouncerError> {
        let path = self.folder.clone();
        fs::create_dir_all(self.folder.join("bin")).map_err(self.write_error(path))?;
        self.write_config()?;
        let parts = match self.daemon() {
            Daemon::Bird => bird::parts(&self.folder),
            Daemon::Frr => frr::parts(&self.folder),
            Daemon::Exabgp => exabgp::parts(&self.folder, self.site()),
        };
        for (name, text) in &parts.files {
            self.write(name, text)?;
        }
        for pipe in &parts.pipes {
            exabgp::make_pipe(pipe).map_err(self.write_error(pipe.clone()))?;
        }
        let (name, command) = &parts.client;
        self.write(&format!("bin/{name}"), &format!("#!/bin/sh\nexec {command} \"$@\"\n"))?;
        let client = self.folder.join("bin").join(name);
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755))
            .map_err(self.write_error(client))?;
        lab.start(Program {
            role: ProcessRole::Daemon,
            env: parts.env,
            stdout: Output::File(log.to_owned()),
            stderr: Output::File(log.to_owned()),
            ..Program::new(&program_of(self.site()), self.site(), parts.command)
        })?;
        Ok(())
    }

    /// Takes the stance: in the configuration, and at once if the daemon runs.
    ///
    /// # Errors
    /// The configuration cannot be written, or the daemon refuses.
    pub fn take(&mut self, lab: &Lab, stance: Stance) -> Result<(), AnnouncerError> {
        let before = std::mem::replace(&mut self.stance, stance);
        self.write_config()?;
        if before == stance || lab.pid_of(&program_of(self.site())).is_none() {
            return Ok(());
        }
        match self.daemon() {
            Daemon::Bird => self.run(&["birdc", "configure"].map(String::from)),
            Daemon::Frr => self.run(&frr::commands(&self.peering, before, stance)),
            Daemon::Exabgp => self.say(lab, &exabgp::commands(&self.peering, stance)),
        }
    }

    /// Writes to the pipe that ExaBGP reads. One that has just started has read its configuration,
    /// perhaps before it was written, and is yet to open its pipe.
    fn say(&self, lab: &Lab, lines: &str) -> Result<(), AnnouncerError> {
        let refused = |why: String| AnnouncerError::Refused {
            site: self.site().to_owned(),
            command: lines.trim().to_owned(),
            why,
        };
        let (pipe, program) = (&exabgp::pipes(self.site())[0], program_of(self.site()));
        wait_for("ExaBGP to open its pipe", PIPE_BUDGET, || match exabgp::say(pipe, lines) {
            Ok(false) if lab.pid_of(&program).is_some() => Err(String::new()),
            other => Ok(other.map(drop)),
        })
        .map_err(|overdue| refused(overdue.to_string()))?
        .map_err(|error| refused(error.to_string()))
    }

    /// Runs the daemon's own command, the first word, as a person would.
    fn run(&self, command: &[String]) -> Result<(), AnnouncerError> {
        let refused = |why: String| AnnouncerError::Refused {
            site: self.site().to_owned(),
            command: command.join(" "),
            why,
        };
        let Some((program, args)) = command.split_first() else { return Ok(()) };
        let output = Command::new(self.folder.join("bin").join(program))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| refused(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(refused(format!("{}; {}", output.status, String::from_utf8_lossy(&said).trim())))
    }

    fn write_config(&self) -> Result<(), AnnouncerError> {
        let (name, text) = match self.daemon() {
            Daemon::Bird => ("bird.conf", bird::config(&self.peering, self.stance)),
            Daemon::Frr => ("bgpd.conf", frr::config(&self.peering, self.stance)),
            Daemon::Exabgp => ("exabgp.conf", exabgp::config(&self.peering, self.stance)),
        };
        self.write(name, &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), AnnouncerError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(self.write_error(path))
    }

    fn write_error(&self, path: PathBuf) -> impl FnOnce(io::Error) -> AnnouncerError {
        let site = self.site().to_owned();
        move |source| AnnouncerError::Write { site, path, source }
    }
}

/// Where `nearlab shell` finds the command of the node's daemon, if it has one.
pub(crate) fn bin_of(node: &str) -> PathBuf {
    folder_of(node).join("bin")
}

fn folder_of(site: &str) -> PathBuf {
    PathBuf::from(format!("/run/nearlab/bgp-{site}"))
}

fn program_of(site: &str) -> String {
    format!("bgp-{site}")
}

/// What a daemon is started with.
struct Parts {
    command: Vec<std::ffi::OsString>,
    env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Files beside its configuration.
    files: Vec<(&'static str, String)>,
    /// Named pipes that it listens to.
    pipes: Vec<PathBuf>,
    /// Its own command: how it is named, and what runs it here.
    client: (&'static str, String),
}

impl Peering {
    /// The prefixes of one family: 0 is IPv4, 1 is IPv6.
    fn prefixes_of(&self, family: usize) -> impl Iterator<Item = &IpNetwork> {
        self.announce.prefixes.iter().filter(move |prefix| prefix.is_ipv6() == (family == 1))
    }

    /// The next hop of a prefix: the site's end in its family.
    fn hop(&self, prefix: &IpNetwork) -> IpAddr {
        self.local[usize::from(prefix.is_ipv6())]
    }

    /// The AS as often as it stands in the path beyond the once that BGP itself puts there.
    fn prepended(&self) -> Vec<String> {
        vec![self.announce.asn.to_string(); usize::from(self.announce.prepend)]
    }
}

/// GRACEFUL_SHUTDOWN (RFC 8326), as all of these daemons write it.
const SHUTDOWN: [u16; 2] = [65_535, 0];

/// A hundred times what it takes.
const PIPE_BUDGET: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
