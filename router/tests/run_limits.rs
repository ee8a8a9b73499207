//! Limits of the process: raised as far as they may be, and named where they are too low.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Command, Output, Stdio};

use daemon_support::{Probes, Rig, SERVICE_V4, Tracer, config, config_with, signal};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use support::{in_namespaces, netns, wait_for};

const TWO: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];

/// So many ports in one namespace, each with a queue for each of so many workers.
fn many_ports(ports: usize, workers: usize) -> String {
    let mut text = format!("[router]\nname = \"r1\"\nworkers = {workers}\n");
    for port in 0..ports {
        let _ = write!(
            text,
            "[[port]]\nname = \"p{port}\"\ntun = \"nh{port}\"\nnetns = \"many\"\n\
             queues = {workers}\naddresses = [\"10.0.{port}.1/24\"]\n"
        );
    }
    text
}

/// Starts a router with these limits (options of prlimit), for as long as a start may take.
fn start_with(limits: &[&str], config: &str) -> Output {
    fs::write("/run/r1.toml", config).unwrap();
    Command::new("timeout")
        .args(["-k", "1", "60", "prlimit"])
        .args(limits)
        .args([env!("CARGO_BIN_EXE_nearhop"), "run", "/run/r1.toml"])
        .args(["--socket", "/run/r1.sock", "--ready-file", "/run/ready"])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A router that goes on, with these limits.
fn spawn_with(limits: &[&str]) -> Child {
    Command::new("prlimit")
        .args(limits)
        .args(["setpriv", "--pdeathsig", "KILL"])
        .args([env!("CARGO_BIN_EXE_nearhop"), "run", "/run/r1.toml"])
        .args(["--socket", "/run/r1.sock", "--ready-file", "/run/ready"])
        .stdin(Stdio::null())
        .stderr(fs::File::create("/run/log").unwrap())
        .spawn()
        .unwrap()
}

fn wait_until_ready(router: &mut Child) {
    wait_for("the router", || {
        let ended = router.try_wait().unwrap();
        assert_eq!(ended, None, "{}", fs::read_to_string("/run/log").unwrap());
        std::path::Path::new("/run/ready").exists().then_some(())
    });
}

fn is_refused(out: &Output, wanted: &[&str]) {
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(3), "{said}");
    for words in wanted {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    assert!(!said.contains("panicked") && !said.contains("stack backtrace"), "{said}");
    assert!(!std::path::Path::new("/run/ready").exists());
}

#[test]
fn many_queues_start_or_the_limit_to_raise_is_named() {
    in_namespaces("many_queues_start_or_the_limit_to_raise_is_named", || {
        netns("many");
        for (ports, workers) in [(120, 8), (60, 16)] {
            let text = many_ports(ports, workers);
            let out = start_with(&["--nofile=1024:1024"], &text);
            let queues = format!("{ports} port(s) with {} queue(s)", ports * workers);
            is_refused(&out, &[&queues, "RLIMIT_NOFILE", "LimitNOFILE=", "found a limit of 1024"]);
            let links = LinkSetup::open(&NetNs::named("many")).unwrap().list().unwrap();
            assert_eq!(links.len(), 1, "nothing was made: {links:?}");
        }
    });
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_as_far_as_that_is_enough() {
    in_namespaces("the_soft_limit_is_raised_to_the_hard_one_as_far_as_that_is_enough", || {
        netns("many");
        fs::write("/run/r1.toml", many_ports(30, 8)).unwrap();
        // Too few at first; the hard limit is what a start by systemd has, or less.
        let mut router = spawn_with(&["--nofile=256:4096"]);
        wait_until_ready(&mut router);
        let open = fs::read_dir(format!("/proc/{}/fd", router.id())).unwrap().count();
        assert!(open > 256, "{open}");
        signal(&router, Signal::TERM);
        assert_eq!(router.wait().unwrap().code(), Some(0));
    });
}

/// Sets the router's limit of open files, of those it may still open.
fn leave_descriptors(rig: &Rig, count: Option<u64>) {
    let open = fs::read_dir(format!("/proc/{}/fd", rig.router.id())).unwrap().count() as u64;
    let pid = Some(Pid::from_child(&rig.router));
    let maximum = prlimit_now(pid).maximum;
    let current = count.map_or(maximum, |count| Some(open + count));
    prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

fn prlimit_now(pid: Option<Pid>) -> Rlimit {
    let text = fs::read_to_string(format!("/proc/{}/limits", pid.unwrap())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let number = |at: usize| line.split_whitespace().nth(at).unwrap().parse().ok();
    Rlimit { current: number(3), maximum: number(4) }
}

#[test]
fn a_namespace_that_cannot_be_looked_at_is_no_other_one() {
    in_namespaces("a_namespace_that_cannot_be_looked_at_is_no_other_one", || {
        let rig = Rig::start(TWO);
        rig.wait_for_log("INFO  ready");
        let probes = Probes::start(&rig.client, SERVICE_V4, 4);
        probes.wait_for_site("ams");
        // The client's connection is the last that is let in.
        leave_descriptors(&rig, Some(0));
        let since = nearhop::time::Nanos::now();
        // Namespaces are looked at each second.
        while nearhop::time::Nanos::now().since(since) < std::time::Duration::from_secs(3) {
            assert_eq!(probes.sites_now(), vec!["ams"; 4]);
        }
        leave_descriptors(&rig, None);
        let ports = wait_for("an answer", || Some(rig.show("ports")).filter(|it| !it.is_empty()));
        assert!(ports.iter().all(|port| port["why"].is_null()), "{ports:?}");
        assert!(!rig.log().contains("namespace"), "{}", rig.log());
        assert_eq!(probes.finish().1, 0);
    });
}

/// A router whose liveness thread stands still before it has watched a port.
fn start_unwatched() -> (Rig, Tracer) {
    for _ in 0..20 {
        let rig = Rig::alone(TWO, &config_with(TWO, "[]"), |_| {});
        let tasks = format!("/proc/{}/task", rig.router.id());
        wait_for("the liveness thread", || {
            let mut tasks = fs::read_dir(&tasks).unwrap().flatten().map(|task| task.path());
            tasks
                .any(|task| {
                    fs::read_to_string(task.join("comm")).is_ok_and(|it| it == "nh-liveness\n")
                })
                .then_some(())
        });
        let tracer = Tracer::stop_named(&rig, "nh-liveness");
        // Nobody waits for that thread before the ports are open.
        let opened = rig.wait_for_log("port fra is nh-fra");
        if !rig.log().contains("carrier up") && !opened.is_empty() {
            return (rig, tracer);
        }
        drop(tracer);
        drop(rig);
        fs::remove_dir_all("/run/rig").unwrap();
        for name in ["client", "ams", "fra"] {
            support::hide_netns(name);
        }
    }
    panic!("the liveness thread was always faster");
}

/// A cut of a port that nobody watches would be noticed by nobody.
#[test]
fn a_router_that_cannot_watch_a_port_is_not_ready_until_it_can() {
    in_namespaces("a_router_that_cannot_watch_a_port_is_not_ready_until_it_can", || {
        let (mut rig, tracer) = start_unwatched();
        leave_descriptors(&rig, Some(0));
        drop(tracer);
        let said = rig.wait_for_log("the carrier of a port is not watched");
        assert!(said.contains("RLIMIT_NOFILE") && said.contains("prlimit --pid"), "{said}");
        signal(&rig.router, Signal::USR1);
        rig.wait_for_log("state: r1 is not ready: the carrier of port");
        assert!(!rig.dir.join("ready").exists());
        leave_descriptors(&rig, None);
        wait_for("the ready file", || rig.dir.join("ready").exists().then_some(()));
        assert_eq!(rig.terminate(), Some(0));
    });
}

#[test]
fn a_reload_that_needs_more_descriptors_is_refused_with_the_limit_to_raise() {
    in_namespaces(
        "a_reload_that_needs_more_descriptors_is_refused_with_the_limit_to_raise",
        || {
            let mut rig = Rig::start(TWO);
            rig.add_site("lon");
            leave_descriptors(&rig, Some(60));
            let more = "[[port]]\nname = \"lon\"\ntun = \"nh-lon\"\nnetns = \"lon\"\n\
                    addresses = [\"10.9.0.1/24\"]\n";
            rig.write_file(&(config(TWO) + more));
            let out = rig.nearhop(&["reload"]);
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(!out.status.success() && said.contains("LimitNOFILE="), "{said}");
            assert_eq!(rig.show("ports").len(), 3);
            leave_descriptors(&rig, None);
            assert!(rig.nearhop(&["reload"]).status.success());
            assert_eq!(rig.show("ports").len(), 4);
        },
    );
}

#[test]
fn too_little_address_space_is_said_and_not_died_of() {
    in_namespaces("too_little_address_space_is_said_and_not_died_of", || {
        for name in ["client", "ams", "fra"] {
            netns(name);
        }
        let mut wanted = 0;
        for mib in [100_u64, 500, 1200] {
            let limit = format!("--as={}", mib << 20);
            let out = start_with(&[&limit], &config(TWO));
            is_refused(&out, &["cannot reserve", "RLIMIT_AS", "LimitAS="]);
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            let rest = said.split("raise it to ").nth(1).unwrap();
            wanted = rest.split(' ').next().unwrap().parse().unwrap();
        }
        // What it asks for is enough.
        let limit = format!("--as={}", wanted << 20);
        fs::write("/run/r1.toml", config_with(TWO, "[]")).unwrap();
        let mut router = spawn_with(&[&limit]);
        wait_until_ready(&mut router);
        signal(&router, Signal::TERM);
        assert_eq!(router.wait().unwrap().code(), Some(0));
    });
}
