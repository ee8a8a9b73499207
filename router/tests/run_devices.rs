//! Changes to the router's devices from outside while packets flow.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::thread;

use daemon_support::{Probes, Rig, SERVICE_V4, SERVICE_V6, Tracer, config};
use nearhop::kernel::link::LinkSetup;
use serde_json::Value;
use support::kernel::Need;
use support::{in_namespaces, in_namespaces_with, udp_socket, wait_for};

const AMS: &[(&str, u32)] = &[("ams", 10)];

fn port(rig: &Rig, name: &str) -> Value {
    rig.show("ports").into_iter().find(|port| port["port"] == name).unwrap_or_default()
}

fn wait_for_why(rig: &Rig, wanted: Option<&str>) -> Value {
    wait_for(&format!("the port to say {wanted:?}"), || {
        Some(port(rig, "ams")).filter(|port| port["why"].as_str() == wanted)
    })
}

/// A client's socket, and the site's socket it is connected to.
fn ends(rig: &Rig) -> (UdpSocket, UdpSocket) {
    let site = udp_socket(rig.site_netns("ams"), "10.1.0.2".parse::<IpAddr>().unwrap());
    let client = udp_socket(&rig.client, "10.0.0.2".parse::<IpAddr>().unwrap());
    client.connect(site.local_addr().unwrap()).unwrap();
    (client, site)
}

#[test]
fn a_device_that_is_renamed_is_used_on_by_its_new_name() {
    in_namespaces("a_device_that_is_renamed_is_used_on_by_its_new_name", || {
        let rig = Rig::start(AMS);
        let probes = [SERVICE_V4, SERVICE_V6].map(|to| Probes::start(&rig.client, to, 4));
        let is_answered = || probes.iter().for_each(|probes| probes.wait_for_site("ams"));
        for (old, name, why) in
            [("nh-ams", "other", Some("the device is called other now")), ("other", "nh-ams", None)]
        {
            let set = |what: &str| support::run(&format!("ip -n ams link set {what}"));
            // Kernels before 6.2 rename a device only while it is down.
            set(&format!("{old} down"));
            set(&format!("{old} name {name}"));
            set(&format!("{name} up"));
            daemon_support::connect(rig.site_netns("ams"), name, &[]);
            let port = wait_for_why(&rig, why);
            assert_eq!(port["device"], name);
            is_answered();
            // A reload finds the device by its current name.
            let mtu = if why.is_some() { 1400 } else { 1500 };
            let text = config(AMS)
                .replace("netns = \"ams\"\n", &format!("netns = \"ams\"\nmtu = {mtu}\n"));
            rig.write_file(&text);
            let reloaded = rig.nearhop(&["reload"]);
            assert!(reloaded.status.success(), "{reloaded:?}");
            let link = LinkSetup::open(rig.site_netns("ams")).unwrap().find(name).unwrap().unwrap();
            assert_eq!(link.mtu, mtu);
        }
        let mut reported = Vec::new();
        rig.events_until(|event| {
            let reason = event["reason"].as_str().unwrap_or_default();
            if event["kind"] == "device"
                && !reason.starts_with("put right: add address fd00:1::2/64")
            {
                assert_eq!(event["ok"], true);
                reported.push(event["reason"].as_str().unwrap().to_owned());
            }
            reported.len() == 2
        });
        assert_eq!(
            reported,
            ["the device is called other now", "the device is as configured again"]
        );
        for probes in probes {
            probes.finish();
        }
    });
}

#[test]
fn packets_are_measured_by_the_mtu_that_the_device_was_given() {
    in_namespaces("packets_are_measured_by_the_mtu_that_the_device_was_given", || {
        let rig = Rig::start(AMS);
        let mut links = LinkSetup::open(rig.site_netns("ams")).unwrap();
        // It would put the MTU right at once.
        let stopped = Tracer::stop_named(&rig, "nh-kernel");
        let (client, site) = ends(&rig);
        let arrives = |bytes: usize| {
            // An ICMP error about an earlier packet is reported by the next send.
            wait_for("it to be sent", || client.send(&vec![0; bytes]).ok());
            assert_eq!(site.recv(&mut [0; 2048]).unwrap(), bytes);
        };
        arrives(1400);
        links.set_mtu("nh-ams", 1300).unwrap();
        let smaller = "the device's MTU is 1300 now, not the configured one";
        assert_eq!(wait_for_why(&rig, Some(smaller))["mtu"], 1300);
        wait_for("the client's kernel to know the MTU", || {
            // Fails once the error has arrived.
            let _ = client.send(&[0; 1400]);
            let way = support::run("ip -n client route get 10.1.0.2");
            way.contains("mtu 1300").then_some(())
        });
        wait_for("it to be counted", || (rig.dropped("too-big") > 0).then_some(()));
        arrives(1272);
        // A device's MTU above the configured one does not permit larger packets.
        links.set_mtu("nh-ams", 9000).unwrap();
        let larger = "the device's MTU is 9000 now, not the configured one";
        assert_eq!(wait_for_why(&rig, Some(larger))["mtu"], 1500);
        drop(stopped);
        assert_eq!(wait_for_why(&rig, None)["mtu"], 1500);
        assert_eq!(links.status("nh-ams").unwrap().mtu, 1500);
    });
}

/// A router without CPU time for a while: its device queues as many packets as fit.
#[test]
fn what_a_device_has_no_room_for_is_counted_and_the_rest_arrives() {
    in_namespaces("what_a_device_has_no_room_for_is_counted_and_the_rest_arrives", || {
        let rig = Rig::start(AMS);
        support::run(&format!("ip -n client link set nh-client txqueuelen {KEPT}"));
        let (client, site) = ends(&rig);
        for round in 1..=3 {
            rig.stand_still();
            for number in 0..SENT {
                client.send(&number.to_be_bytes()).unwrap();
            }
            rig.go_on();
            let mut number = [0; 4];
            let arrived = (0..KEPT).map(|_| {
                site.recv(&mut number).unwrap();
                u32::from_be_bytes(number)
            });
            assert!(arrived.eq(0..KEPT), "the first ones, in order");
            let dropped = round * u64::from(SENT - KEPT);
            wait_for("the drops of the device", || {
                (port(&rig, "client")["device_dropped"].as_u64()? >= dropped).then_some(())
            });
        }
        client.send(b"more").unwrap();
        assert_eq!(site.recv(&mut [0; 8]).unwrap(), 4);
    });
}

/// Datagrams sent while the router is stopped.
const SENT: u32 = 300;

/// A TUN device keeps as many of them as its queue is long.
const KEPT: u32 = 100;

/// The descriptor that an engine uses is replaced, as if by a bug.
#[cfg(target_arch = "x86_64")]
#[test]
fn an_engine_that_fails_amid_traffic_gives_way_to_the_next() {
    in_namespaces_with(
        &[Need::Uring],
        "an_engine_that_fails_amid_traffic_gives_way_to_the_next",
        || {
            // One worker reads all; packets read together are written together.
            let text = config(AMS)
                .replace("workers = 2", "workers = 1")
                .replace("netns = \"ams\"\n", "netns = \"ams\"\njoin = false\n");
            let rig = Rig::start_with(AMS, &text);
            let engine = |name: &str| port(&rig, name)["engine"].as_str().unwrap().to_owned();
            assert_eq!([engine("client"), engine("ams")], ["io_uring"; 2]);
            let (client, site) = ends(&rig);
            let burst = |from: u32| {
                // Packets sent while the router is stopped wait in the queue, and are read by the
                // ring.
                rig.stand_still();
                for number in from..from + 40 {
                    client.send(&number.to_be_bytes()).unwrap();
                }
                rig.go_on();
                for wanted in from..from + 40 {
                    let mut number = [0; 8];
                    assert_eq!(site.recv(&mut number).unwrap(), 4);
                    assert_eq!(number[..4], wanted.to_be_bytes());
                }
            };
            burst(0);
            take_rings(&rig);
            (1..6).for_each(|round| burst(round * 40));
            let mut failed = 0;
            let events = rig.events_until(|event| {
                failed += u8::from(event["kind"] == "engine");
                failed == 2
            });
            for event in events.iter().filter(|event| event["kind"] == "engine") {
                assert_eq!(event["engine"], "epoll");
                assert!(
                    event["reason"].as_str().unwrap().starts_with("io_uring failed: "),
                    "{event}"
                );
                assert_eq!(engine(event["port"].as_str().unwrap()), "epoll");
            }
            burst(300);
        },
    );
}

/// Makes the router itself replace each of its rings with another descriptor, at an arbitrary
/// moment.
#[cfg(target_arch = "x86_64")]
fn take_rings(rig: &Rig) {
    let pid = i32::try_from(rig.router.id()).unwrap();
    let rings = move || -> Vec<i32> {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(Result::unwrap);
        let is_ring = |fd: &fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:[io_uring]")
        };
        let number = |fd: fs::DirEntry| fd.file_name().into_string().unwrap().parse().unwrap();
        fds.filter(is_ring).map(number).collect()
    };
    assert!(!rings().is_empty());
    // Every ptrace call must come from one thread.
    let taking = thread::spawn(move || {
        wait_for("the router's control thread to be in a system call", || {
            support::trace::seize_and_interrupt(pid);
            let taken = rings().into_iter().map(|fd| support::trace::replace_by_stdin(pid, fd));
            let all = taken.collect::<Option<Vec<()>>>();
            support::trace::detach(pid);
            all
        });
    });
    taking.join().unwrap();
    assert!(rings().is_empty());
}
