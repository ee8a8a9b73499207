//! Starting, being refused, and ending: messages, and what remains.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use daemon_support::{Rig, config, signal};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use rustix::process::Signal;
use support::{in_namespaces, netns, run};

const TWO: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];

/// The last port of the file fails, each time for another reason.
#[test]
fn a_router_that_cannot_start_says_what_to_type_and_leaves_nothing() {
    in_namespaces("a_router_that_cannot_start_says_what_to_type_and_leaves_nothing", || {
        for name in ["client", "ams"] {
            netns(name);
        }
        fs::write("/run/ready", "of one that was killed\n").unwrap();
        assert_refused(&start(&[]), &["port \"fra\"", "/run/netns/fra", "`ip netns add fra`"]);
        assert!(!Path::new("/run/ready").exists(), "an old ready file says what is not so");

        netns("fra");
        run("ip -n fra tuntap add nh-fra mode tap");
        let wanted = ["port \"fra\"", "found a TAP device", "`ip -n fra link del nh-fra`"];
        assert_refused(&start(&[]), &wanted);
        run("ip -n fra link del nh-fra");
        run("ip -n fra link add nh-fra type veth peer name other");
        assert_refused(&start(&[]), &["port \"fra\"", "found", "`ip -n fra link del nh-fra`"]);
        run("ip -n fra link del nh-fra");

        // Root without privileges, as under a service manager that restricts capabilities.
        let without = |caps| start(&["setpriv", "--bounding-set", caps, "--inh-caps", caps]);
        let wanted = ["port \"client\"", "nh-client", "CAP_NET_ADMIN", "setcap cap_net_admin+ep"];
        assert_refused(&without("-net_admin"), &wanted);
        let wanted = ["port \"client\"", "/run/netns/client", "CAP_SYS_ADMIN", "unshare -Urnm"];
        assert_refused(&without("-net_admin,-sys_admin"), &wanted);
    });
}

#[test]
fn a_place_that_is_taken_is_left_alone() {
    in_namespaces("a_place_that_is_taken_is_left_alone", || {
        for name in ["client", "ams", "fra"] {
            netns(name);
        }
        fs::write("/run/r1.sock", "somebody's file").unwrap();
        assert_refused(
            &start(&[]),
            &["/run/r1.sock", "found another kind of file", "--socket PATH"],
        );
        assert_eq!(fs::read_to_string("/run/r1.sock").unwrap(), "somebody's file");
        fs::remove_file("/run/r1.sock").unwrap();

        LinkSetup::open(&NetNs::Here).unwrap().set_up("lo", true).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = format!("[api]\nhttp = \"{}\"\n", taken.local_addr().unwrap());
        let out = start_with(&[&config(TWO), &http[..]].concat(), &[]);
        assert_refused(&out, &["[api] http: cannot listen on 127.0.0.1", "in use"]);
    });
}

fn start(with: &[&str]) -> Output {
    start_with(&config(TWO), with)
}

/// Runs a router that must not start, optionally through another program.
fn start_with(config: &str, with: &[&str]) -> Output {
    fs::write("/run/r1.toml", config).unwrap();
    let nearhop = [env!("CARGO_BIN_EXE_nearhop"), "run", "/run/r1.toml"];
    let rest = ["--socket", "/run/r1.sock", "--ready-file", "/run/ready"];
    let bounded = ["timeout", "-k", "1", "60"];
    let words = [&bounded[..], with, &nearhop[..], &rest[..]].concat();
    Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap()
}

fn assert_refused(out: &Output, wanted: &[&str]) {
    let reported = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(3), "{reported}");
    let error = reported.lines().skip_while(|line| !line.starts_with("error: "));
    let error: Vec<_> = error.collect();
    for words in wanted {
        assert!(error.join("\n").contains(words), "{words:?} is not in: {reported}");
    }
    let is_socket = |path: &str| {
        use std::os::unix::fs::FileTypeExt as _;
        fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
    };
    assert!(!is_socket("/run/r1.sock"), "the socket stays behind");
    for name in ["client", "ams"] {
        let links = LinkSetup::open(&NetNs::named(name)).unwrap().list().unwrap();
        assert_eq!(links.len(), 1, "only lo in {name}: {links:?}");
    }
}

#[test]
fn a_router_under_a_flood_answers_its_operator_and_ends_when_asked_to() {
    in_namespaces("a_router_under_a_flood_answers_its_operator_and_ends_when_asked_to", || {
        let mut rig = Rig::start(TWO);
        let socket = rig.client.within(|| UdpSocket::bind("10.0.0.2:0")).unwrap().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Bounded, in case something else fails.
                let end = Nanos::now() + Duration::from_secs(20);
                while !over.load(Ordering::Relaxed) && Nanos::now() < end {
                    // When the router has ended, there is no route to it.
                    let _ = socket.send_to(&[0; 32], "10.0.0.1:9");
                }
            });
            let seen = support::wait_for("the flood", || {
                Some(rig.show("ports")[1]["rx_packets"].as_u64()?).filter(|&count| count > 20_000)
            });
            let asked = Nanos::now();
            for verb in ["drain", "undrain"] {
                assert!(rig.nearhop(&[verb, "fra"]).status.success());
            }
            let took = Nanos::now().since(asked);
            assert!(rig.show("ports")[1]["rx_packets"].as_u64() > Some(seen), "it goes on");
            let ended = rig.terminate();
            over.store(true, Ordering::Relaxed);
            assert_eq!(ended, Some(0));
            assert!(took < Duration::from_secs(5), "{took:?} for two answers");
        });
    });
}

#[test]
fn either_signal_ends_it_cleanly_and_a_hangup_does_not() {
    in_namespaces("either_signal_ends_it_cleanly_and_a_hangup_does_not", || {
        let mut rig = Rig::start(TWO);
        for end in [Signal::INT, Signal::TERM] {
            support::wait_for("the ready file", || rig.dir.join("ready").exists().then_some(()));
            signal(&rig.router, Signal::HUP);
            assert!(!rig.show("ports").is_empty());
            signal(&rig.router, end);
            assert_eq!(rig.router.wait().unwrap().code(), Some(0), "{end:?}");
            for file in ["r1.sock", "ready"] {
                assert!(!rig.dir.join(file).exists(), "{file} stays behind");
            }
            for site in ["client", "ams", "fra"] {
                let links = LinkSetup::open(&NetNs::named(site)).unwrap().list().unwrap();
                assert_eq!(links.len(), 1, "only lo in {site}: {links:?}");
            }
            rig.restart(TWO);
        }
    });
}
