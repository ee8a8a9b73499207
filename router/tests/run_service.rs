//! Under a service manager: what it is told, when the watchdog is fed, and the unit that is shipped.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use daemon_support::{Rig, Tracer, command_by, config, log_in, signal};
use nearhop::time::Nanos;
use rustix::process::Signal;
use support::{in_namespaces, skip::skip, wait_for};

const TWO: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    /// What has arrived and was not returned yet.
    waiting: RefCell<VecDeque<String>>,
}

impl Manager {
    fn start() -> Self {
        let socket = UnixDatagram::bind(NOTIFY_SOCKET).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, waiting: RefCell::default() }
    }

    /// What has arrived since the last call.
    fn received(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let next = || self.socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec());
        let messages = std::iter::from_fn(next);
        let messages = messages.map(|message| String::from_utf8(message).unwrap());
        self.waiting.take().into_iter().chain(messages).collect()
    }

    /// Everything up to a message that begins so.
    fn until(&self, begins: &str) -> Vec<String> {
        let mut all = Vec::new();
        let end = wait_for(begins, || {
            all.extend(self.received());
            all.iter().position(|message| message.starts_with(begins))
        });
        self.waiting.replace(all.split_off(end + 1).into());
        all
    }

    fn is_fed(&self) -> bool {
        self.received().iter().any(|message| message == "WATCHDOG=1")
    }
}

const NOTIFY_SOCKET: &str = "/run/notify";

/// Those that are no words for people.
fn states(messages: &[String]) -> Vec<&str> {
    let states = messages.iter().map(|message| message.lines().next().unwrap());
    states.filter(|state| !state.starts_with("STATUS=")).collect()
}

#[test]
fn a_manager_is_told_of_readiness_reloads_and_the_end() {
    in_namespaces("a_manager_is_told_of_readiness_reloads_and_the_end", || {
        let manager = Manager::start();
        let told = |command: &mut Command| {
            command.env("NOTIFY_SOCKET", NOTIFY_SOCKET).env_remove("WATCHDOG_USEC");
        };
        let mut rig = Rig::begin_as(TWO, &config(TWO), told);
        let messages = manager.until("READY=1");
        assert_eq!(states(&messages), ["READY=1"]);
        manager.until("STATUS=ready; 3 of 3 port(s) up");
        rig.write_config(&[("ams", 30), ("fra", 20)]);
        assert!(rig.nearhop(&["reload"]).status.success());
        let messages = manager.until("READY=1");
        assert_eq!(states(&messages), ["RELOADING=1", "READY=1"]);
        let reloading = messages.iter().find(|message| message.starts_with("RELOADING=1")).unwrap();
        let usec = reloading.split_once("\nMONOTONIC_USEC=").unwrap().1.parse::<u64>().unwrap();
        assert!(Duration::from_micros(usec) <= Duration::from_nanos(Nanos::now().0));
        rig.write_file("nonsense");
        signal(&rig.router, Signal::HUP);
        assert_eq!(states(&manager.until("READY=1")), ["RELOADING=1", "READY=1"]);
        let messages = manager.until("STATUS=ready; 3 of 3 port(s) up; not reloaded: ");
        assert!(states(&messages).is_empty());
        assert_eq!(rig.terminate(), Some(0));
        assert_eq!(states(&manager.until("STOPPING=1")), ["STOPPING=1"]);
    });
}

/// Every thread but one has nothing to do most of the time, and is no less alive for that.
#[test]
fn the_watchdog_is_fed_while_every_thread_takes_turns_and_no_longer() {
    in_namespaces("the_watchdog_is_fed_while_every_thread_takes_turns_and_no_longer", || {
        let manager = Manager::start();
        let watched = |command: &mut Command| {
            command.env("NOTIFY_SOCKET", NOTIFY_SOCKET).env("WATCHDOG_USEC", "800000");
        };
        // Nothing happens: no check, no packet.
        let text = daemon_support::config_with(TWO, "[]");
        let rig = Rig::begin_as(TWO, &text, watched);
        manager.until("READY=1");
        for thread in ["nh-worker-0", "nh-worker-1", "nh-liveness", "nh-host", "nh-kernel"] {
            for _ in 0..3 {
                wait_for("the watchdog to be fed", || manager.is_fed().then_some(()));
            }
            let warned = || rig.log().matches("the watchdog is not fed: no turn of ").count();
            let tracer = Tracer::stop_named(&rig, thread);
            let before = warned();
            wait_for("a look that finds it idle", || (warned() > before).then_some(()));
            manager.received();
            wait_for("further looks", || (warned() > before + 3).then_some(()));
            assert!(!manager.is_fed(), "fed while {thread} stands still");
            let named = match thread.strip_prefix("nh-worker-") {
                Some(number) => format!("no turn of worker {number}"),
                None => format!("no turn of the {} thread", &thread[3..]),
            };
            assert!(rig.log().contains(&named), "{}", rig.log());
            drop(tracer);
        }
        wait_for("the watchdog to be fed", || manager.is_fed().then_some(()));
        let tracer = Tracer::stop(&rig);
        manager.received();
        let stopped_at = Nanos::now();
        while Nanos::now().since(stopped_at) < Duration::from_secs(2) {
            assert!(!manager.is_fed(), "fed while the control thread stands still");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        drop(tracer);
        wait_for("the watchdog to be fed", || manager.is_fed().then_some(()));
    });
}

fn unit() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/nearhop.service")).unwrap()
}

/// The value of a directive that is there once.
fn directive(unit: &str, name: &str) -> String {
    let values: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0].to_owned()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let test = "systemd_finds_nothing_wrong_with_the_unit";
    if let Err(error) = Command::new("systemd-analyze").arg("--version").output() {
        return skip(test, &format!("no `systemd-analyze` (package systemd): {error}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = unit();
    let verify = |unit: &str| {
        let path = dir.path().join("nearhop.service");
        fs::write(&path, unit).unwrap();
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(path);
        let out = command.stdin(Stdio::null()).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let here = unit.replace("/usr/local/bin/nearhop", env!("CARGO_BIN_EXE_nearhop"));
    assert_eq!(verify(&here), (true, String::new()));
    // It would have found something.
    assert_ne!(verify(&here.replace("WatchdogSec=", "WatchdogSeconds=")).1, "");
}

/// A router that has the unit's capabilities, and may gain no other, opens devices in other namespaces and
/// serves; `run_life.rs` has what is said without one of them.
#[test]
fn the_capabilities_of_the_unit_are_enough() {
    in_namespaces("the_capabilities_of_the_unit_are_enough", || {
        let kept = directive(&unit(), "CapabilityBoundingSet");
        let kept: Vec<String> = kept
            .split(' ')
            .map(|name| format!("+{}", name.strip_prefix("CAP_").unwrap().to_ascii_lowercase()))
            .collect();
        assert_eq!(kept, ["+net_admin", "+sys_admin"]);
        let kept = format!("-all,{}", kept.join(","));
        let options =
            ["--no-new-privs", "--bounding-set", &kept, "--inh-caps", &kept, "--ambient-caps=-all"];
        let restricted = |command: &mut Command| {
            let dir = "/run/rig".as_ref();
            *command = command_by(dir, &options);
            command.stderr(log_in(dir));
        };
        let mut rig = Rig::begin_as(TWO, &config(TWO), restricted);
        rig.wait_all_up();
        let status = fs::read_to_string(format!("/proc/{}/status", rig.router.id())).unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        // CAP_NET_ADMIN is 12, CAP_SYS_ADMIN 21.
        assert_eq!(u64::from_str_radix(effective, 16).unwrap(), 1 << 12 | 1 << 21);
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(rig.nearhop(&["reload"]).status.success());
        assert_eq!(rig.terminate(), Some(0));
    });
}
