//! FRR: zebra, bgpd and bfdd.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearlab::lab::wait_for;

use super::config::{self, Setup};
use super::router::Router;
use crate::program::{Program, ask, folder};
use crate::report::BenchError;

/// A running FRR.
pub struct Frr {
    daemons: Vec<Program>,
    netns: NetNs,
    folder: PathBuf,
}

impl Frr {
    /// Starts the three daemons, and waits until each answers.
    pub fn start(netns: &NetNs, lab: &str, setup: Setup) -> Result<Self, BenchError> {
        join_vty_group()?;
        let folder = folder(&format!("{lab}-frr"))?;
        let mut frr = Self { daemons: Vec::new(), netns: netns.clone(), folder };
        for (daemon, text) in
            [("zebra", String::new()), ("bfdd", config::bfdd(setup)), ("bgpd", config::bgpd())]
        {
            let path = |file: &str| frr.folder.join(file).display().to_string();
            let (conf, pid) = (path(&format!("{daemon}.conf")), path(&format!("{daemon}.pid")));
            fs::write(&conf, text).map_err(BenchError::environment)?;
            let (program, api, vty) =
                (format!("/usr/lib/frr/{daemon}"), path("zserv.api"), path(""));
            let control = path("bfdd.sock");
            // As who starts it; no port for commands.
            let mut words = vec![
                &*program,
                "-u",
                "root",
                "-g",
                "root",
                "-f",
                &conf,
                "-i",
                &pid,
                "--vty_socket",
                &vty,
            ];
            words.extend(["-z", &api, "-P", "0"]);
            if daemon == "bfdd" {
                words.extend(["--bfdctl", &control]);
            }
            let log = frr.folder.join(format!("{daemon}.out"));
            let started = Program::start(netns, &log, &words)?;
            frr.daemons.push(started);
            wait_for(daemon, ANSWERS_WITHIN, || frr.run(daemon, "show version")).map_err(
                |error| {
                    let said = fs::read_to_string(&log).unwrap_or_default();
                    BenchError::environment(format!("{error}; it said: {said}"))
                },
            )?;
        }
        Ok(frr)
    }

    fn run(&self, daemon: &str, command: &str) -> Result<String, String> {
        let vty = self.folder.display().to_string();
        ask(&self.netns, &["vtysh", "--vty_socket", &vty, "-d", daemon, "-c", command])
    }
}

impl Router for Frr {
    fn reload(&mut self) -> Result<(), BenchError> {
        // It has no command that reads its file; this one looks at every route again.
        self.run("bgpd", "clear ip bgp * soft in").map(drop).map_err(BenchError::environment)
    }
}

/// FRR's daemons run as a user that is in the group `frrvty`. Of a sandbox's users root may be the only one, so
/// that it is taken into the group, in the sandbox's view of the file alone.
fn join_vty_group() -> Result<(), BenchError> {
    let groups = fs::read_to_string(GROUPS).map_err(BenchError::environment)?;
    let mut changed = String::new();
    for line in groups.lines() {
        let root = match line.strip_prefix("frrvty:").and_then(|rest| rest.rsplit(':').next()) {
            Some(members) if !members.split(',').any(|member| member == "root") => {
                if members.is_empty() { "root" } else { ",root" }
            }
            _ => "",
        };
        let _ = writeln!(changed, "{line}{root}");
    }
    if changed == groups {
        return Ok(());
    }
    let file = "/run/frr-groups";
    fs::write(file, changed).map_err(BenchError::environment)?;
    let mount = Command::new("mount").args(["--bind", file, GROUPS]).status();
    match mount.map_err(BenchError::environment)? {
        status if status.success() => Ok(()),
        status => Err(BenchError::environment(format!("mount --bind {file} {GROUPS}: {status}"))),
    }
}

const GROUPS: &str = "/etc/group";
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
