//! Signals at every time of a router's life, who has its socket, and what stays behind.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use daemon_support::{Rig, Tracer, config, config_with, has_ended, signal};
use nearhop::api::is_listening;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Signal;
use support::{in_namespaces, netns, wait_for};

const TWO: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];

/// A check that says nothing of a site that does not answer, for a minute.
const PATIENT: &str = "{ icmp = {}, interval = \"500ms\", fall = 120, rise = 1 }";

#[test]
fn what_is_asked_before_the_router_is_ready_waits_until_then() {
    in_namespaces("what_is_asked_before_the_router_is_ready_waits_until_then", || {
        let rig = Rig::alone(TWO, &config_with(TWO, PATIENT), |_| {});
        wait_for("the control socket", || rig.dir.join("r1.sock").exists().then_some(()));
        for asked in [Signal::HUP, Signal::USR2, Signal::USR1] {
            signal(&rig.router, asked);
        }
        rig.wait_for_log("SIGHUP: the configuration is read again once the router is ready");
        rig.wait_for_log("state: r1 is not ready: ");
        rig.connect();
        rig.wait_for_log("INFO  ready");
        let events = rig.events_until(|event| event["kind"] == "reload");
        let kinds: Vec<&str> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
        let ready = kinds.iter().position(|kind| *kind == "ready").unwrap();
        assert!(ready < kinds.len() - 1, "{kinds:?}");
        assert_eq!(events.last().unwrap()["by"], "SIGHUP");
    });
}

/// A file of routes takes a while to read.
fn begin_with_many_routes() -> Child {
    fs::create_dir_all("/run/rig").unwrap();
    for name in ["client", "ams", "fra"] {
        netns(name);
    }
    let mut routes = String::new();
    for n in 0..200_000_u32 {
        let [_, b, c, d] = n.to_be_bytes();
        let _ = writeln!(routes, "100.{b}.{c}.{d}/32 fra");
    }
    fs::write("/run/rig/routes.txt", routes).unwrap();
    let text = config(TWO) + "[[routes]]\nname = \"many\"\nfile = \"/run/rig/routes.txt\"\n";
    fs::write("/run/rig/r1.toml", text).unwrap();
    let log = fs::File::create("/run/rig/log").unwrap();
    let router = daemon_support::command("/run/rig".as_ref()).stderr(log).spawn().unwrap();
    let tasks = format!("/proc/{}/task", router.id());
    wait_for("the signals' thread", || {
        let mut names = fs::read_dir(&tasks).ok()?.flatten().map(|task| task.path().join("comm"));
        names
            .any(|name| fs::read_to_string(name).is_ok_and(|it| it == "nh-signals\n"))
            .then_some(())
    });
    router
}

#[test]
fn signals_while_the_configuration_is_read_end_nothing() {
    in_namespaces("signals_while_the_configuration_is_read_end_nothing", || {
        let mut router = begin_with_many_routes();
        for asked in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::HUP] {
            signal(&router, asked);
        }
        wait_for("the router", || Path::new("/run/rig/ready").exists().then_some(()));
        assert_eq!(router.try_wait().unwrap(), None);
        signal(&router, Signal::TERM);
        assert_eq!(router.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn a_router_ends_at_once_while_it_reads_its_configuration() {
    in_namespaces("a_router_ends_at_once_while_it_reads_its_configuration", || {
        for (end, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
            let mut router = begin_with_many_routes();
            signal(&router, end);
            assert_eq!(router.wait().unwrap().code(), Some(0), "{name}");
            let log = fs::read_to_string("/run/rig/log").unwrap();
            assert!(log.contains(&format!("{name}: the router ends")), "{log}");
            assert!(!Path::new("/run/rig/r1.sock").exists());
            for name in ["client", "ams", "fra"] {
                support::hide_netns(name);
            }
        }
    });
}

#[test]
fn a_summary_of_the_state_is_logged_and_so_is_what_ends_it() {
    in_namespaces("a_summary_of_the_state_is_logged_and_so_is_what_ends_it", || {
        let mut rig = Rig::start(TWO);
        rig.wait_for_log("INFO  ready");
        assert!(rig.nearhop(&["drain", "ams"]).status.success());
        signal(&rig.router, Signal::USR2);
        signal(&rig.router, Signal::USR1);
        rig.wait_for_log("state: packets: ");
        let log = rig.log();
        for wanted in [
            "state: r1 is ready",
            "state: 3 port(s) up, 0 down",
            "state: echo/ipv4 is served by fra, 2 of 2 links up; echo/ipv6 is served by fra,",
            "drained: ams; disabled: none",
        ] {
            assert!(log.contains(wanted), "{wanted} is not in: {log}");
        }
        rig.write_file("nonsense");
        signal(&rig.router, Signal::HUP);
        rig.wait_for_log("SIGHUP: not reloaded: all is as before");
        assert!(!rig.nearhop(&["reload"]).status.success());
        let by_socket = |line: &&str| line.contains("not reloaded") && !line.contains("SIGHUP");
        wait_for("why not", || rig.log().lines().find(by_socket).map(drop));
        rig.wait_for_log("r1.toml:1:");
        assert_eq!(rig.terminate(), Some(0));
        assert!(rig.log().contains("SIGTERM: the router ends"));
    });
}

/// What a router puts into its folder for others to find.
fn left_behind(rig: &Rig) -> Vec<&'static str> {
    let placed = ["ready", "r1.sock", "r1.sock.lock"];
    placed.into_iter().filter(|name| rig.dir.join(name).exists()).collect()
}

#[test]
fn a_control_thread_that_panics_leaves_nothing_behind() {
    in_namespaces("a_control_thread_that_panics_leaves_nothing_behind", || {
        let panicky = |command: &mut Command| {
            command.arg("--test-panic");
        };
        let mut rig = Rig::begin_as(TWO, &config(TWO), panicky);
        wait_for("the ready file", || rig.dir.join("ready").exists().then_some(()));
        assert_eq!(left_behind(&rig), ["ready", "r1.sock", "r1.sock.lock"]);
        signal(&rig.router, Signal::USR1);
        assert_ne!(rig.router.wait().unwrap().code(), Some(0));
        assert!(rig.log().contains("panicked at"), "{}", rig.log());
        assert_eq!(left_behind(&rig), [""; 0]);
    });
}

#[test]
fn a_router_that_has_to_be_forced_to_end_leaves_nothing_behind() {
    in_namespaces("a_router_that_has_to_be_forced_to_end_leaves_nothing_behind", || {
        let rig = Rig::start(TWO);
        wait_for("the ready file", || rig.dir.join("ready").exists().then_some(()));
        let tracer = Tracer::stop(&rig);
        signal(&rig.router, Signal::TERM);
        wait_for("the router to end", || has_ended(&rig.router).then_some(()));
        drop(tracer);
        assert_eq!(left_behind(&rig), [""; 0]);
        assert!(rig.log().contains("the router has not ended within 5 s"), "{}", rig.log());
    });
}

#[test]
fn a_start_beside_a_router_that_is_stopped_is_refused_at_once() {
    in_namespaces("a_start_beside_a_router_that_is_stopped_is_refused_at_once", || {
        let rig = Rig::start(TWO);
        rig.stand_still();
        let socket = rig.dir.join("r1.sock");
        // Whoever connects from now on has to wait for the router to accept.
        let waiting = fill_queue(&socket);
        let second = Command::new("timeout")
            .args(["-k", "1", "15", env!("CARGO_BIN_EXE_nearhop"), "run"])
            .args([rig.dir.join("r1.toml").as_os_str(), "--socket".as_ref(), socket.as_ref()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(3), "{said}");
        let wanted = format!("another router (process {}) already listens", rig.router.id());
        assert!(said.contains(&wanted), "{said}");
        rig.go_on();
        drop(waiting);
        assert!(!rig.show("ports").is_empty());
    });
}

/// Clients that wait to be accepted, as many as may.
fn fill_queue(socket: &Path) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(socket).unwrap();
    let mut waiting = Vec::new();
    loop {
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let client = socket_with(family, SocketType::STREAM, flags, None).unwrap();
        match connect(&client, &address) {
            Ok(()) => waiting.push(client),
            Err(Errno::AGAIN) => return waiting,
            Err(errno) => panic!("{errno}"),
        }
    }
}

#[test]
fn of_several_that_start_at_once_one_runs_and_answers() {
    in_namespaces("of_several_that_start_at_once_one_runs_and_answers", || {
        let dir = Path::new("/run/rig");
        fs::create_dir_all(dir).unwrap();
        for name in ["client", "ams", "fra"] {
            netns(name);
        }
        fs::write(dir.join("r1.toml"), config_with(TWO, "[]")).unwrap();
        let socket = dir.join("r1.sock");
        for round in 0..5 {
            // One that was killed has left its own.
            drop(UnixListener::bind(&socket));
            let start = |_| daemon_support::command(dir).stderr(Stdio::piped()).spawn().unwrap();
            let mut routers: Vec<Child> = (0..4).map(start).collect();
            wait_for("all but one to end", || {
                let ended = routers.iter().filter(|router| has_ended(router)).count();
                (ended == 3 && dir.join("ready").exists()).then_some(())
            });
            assert!(is_listening(&socket).unwrap(), "round {round}");
            let running = routers.iter().position(|router| !has_ended(router)).unwrap();
            signal(&routers[running], Signal::TERM);
            for (index, router) in routers.drain(..).enumerate() {
                let out = router.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                let wanted = if index == running { (0, "ready") } else { (3, "already listens") };
                assert_eq!(out.status.code(), Some(wanted.0), "{said}");
                assert!(said.contains(wanted.1), "{said}");
            }
            assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "only the configuration is left");
        }
    });
}

#[test]
fn what_others_put_in_its_place_stays() {
    in_namespaces("what_others_put_in_its_place_stays", || {
        let mut rig = Rig::start(TWO);
        wait_for("the ready file", || rig.dir.join("ready").exists().then_some(()));
        let (socket, ready) = (rig.dir.join("r1.sock"), rig.dir.join("ready"));
        fs::remove_file(&socket).unwrap();
        fs::remove_file(&ready).unwrap();
        let _others = UnixListener::bind(&socket).unwrap();
        fs::write(&ready, "another's").unwrap();
        assert_eq!(rig.terminate(), Some(0));
        assert!(is_listening(&socket).unwrap());
        assert_eq!(fs::read_to_string(&ready).unwrap(), "another's");
    });
}
