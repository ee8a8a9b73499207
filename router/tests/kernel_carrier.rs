//! The carrier monitor against real devices.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nearhop::kernel::carrier::{CarrierMonitor, LinkEvent};
use nearhop::kernel::link::{LinkSetup, VethEnd};
use nearhop::kernel::netns::NetNs;
use nearhop::packet::offload::Offloads;
use nearhop::port::tun::{self, OpenedTun, TunSpec};
use nearhop::time::Nanos;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::in_namespaces;

fn open_tun(netns: &NetNs, name: &str) -> OpenedTun {
    let (name, netns) = (name.into(), netns.clone());
    tun::open(&TunSpec { name, netns, queues: 1, persist: false, offloads: Offloads::NONE })
        .unwrap()
}

/// Polls the descriptor, like the control thread, until there is an event.
fn next_event(monitor: &mut CarrierMonitor) -> LinkEvent {
    loop {
        if let Some(event) = monitor.poll_event() {
            return event;
        }
        let mut fds = [PollFd::from_borrowed_fd(monitor.fd(), PollFlags::IN)];
        let bound = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&bound)).unwrap(), 1, "no event within 20 s");
    }
}

fn next_of(monitor: &mut CarrierMonitor, name: &str) -> LinkEvent {
    loop {
        let event = next_event(monitor);
        if event.name == name {
            return event;
        }
    }
}

fn synced(netns: &NetNs) -> (CarrierMonitor, BTreeMap<String, LinkEvent>) {
    let mut monitor = CarrierMonitor::open(netns).unwrap();
    let mut links = BTreeMap::new();
    while let Some(event) = monitor.poll_event() {
        links.insert(event.name.clone(), event);
    }
    assert!(monitor.is_synced(), "the list needs no waiting");
    (monitor, links)
}

#[test]
fn what_is_there_comes_first_then_each_change() {
    in_namespaces("what_is_there_comes_first_then_each_change", || {
        let netns = support::netns("site");
        let down = open_tun(&netns, "down");
        let up = open_tun(&netns, "up");
        up.bring_up(1400, &[]).unwrap();
        let (mut monitor, links) = synced(&netns);
        let states: Vec<_> = links.values().map(|e| (e.name.as_str(), e.up, e.mtu)).collect();
        assert_eq!(states, [("down", false, 1500), ("lo", true, 65_536), ("up", true, 1400)]);
        assert_eq!(links["up"].ifindex, up.ifindex);

        let mut setup = LinkSetup::open(&netns).unwrap();
        let event = |up, deleted, mtu| {
            let (ifindex, name) = (down.ifindex, "down".to_string());
            LinkEvent { ifindex, name, up, deleted, mtu }
        };
        setup.set_up("down", true).unwrap();
        assert_eq!(next_event(&mut monitor), event(true, false, 1500));
        setup.set_mtu("down", 9000).unwrap();
        assert_eq!(next_event(&mut monitor), event(true, false, 9000));
        setup.set_up("down", false).unwrap();
        assert_eq!(next_event(&mut monitor), event(false, false, 9000));
        setup.set_up("down", true).unwrap();
        assert_eq!(next_event(&mut monitor), event(true, false, 9000));
        setup.delete("down").unwrap();
        // The kernel sets a device down before it deletes it.
        assert_eq!(next_event(&mut monitor), event(false, false, 9000));
        assert_eq!(next_event(&mut monitor), event(false, true, 9000));
        assert_eq!(monitor.poll_event(), None);
    });
}

#[test]
fn a_device_that_is_made_or_moved_in_and_out_is_reported() {
    in_namespaces("a_device_that_is_made_or_moved_in_and_out_is_reported", || {
        let (a, b) = (support::netns("a"), support::netns("b"));
        let (mut monitor, _) = synced(&a);
        let end = |name: &str, ifindex, netns: &NetNs| VethEnd {
            name: name.into(),
            ifindex: Some(ifindex),
            netns: netns.clone(),
        };
        LinkSetup::create_veth(&end("va", 100, &a), &end("vb", 200, &b)).unwrap();
        let made = next_of(&mut monitor, "va");
        assert_eq!((made.ifindex, made.up, made.deleted), (100, false, false));
        let (mut in_a, mut in_b) = (LinkSetup::open(&a).unwrap(), LinkSetup::open(&b).unwrap());
        in_a.set_up("va", true).unwrap();
        in_b.set_up("vb", true).unwrap();
        assert!(next_of(&mut monitor, "va").up);
        // The far end goes down: this end stays up administratively, and loses its carrier.
        in_b.set_up("vb", false).unwrap();
        let cut = next_of(&mut monitor, "va");
        assert_eq!((cut.up, cut.deleted), (false, false));
        assert!(in_a.status("va").unwrap().admin_up);
        in_a.move_to("va", &b).unwrap();
        assert!(next_of(&mut monitor, "va").deleted);
    });
}

#[test]
fn a_device_that_leaves_a_bridge_is_still_there() {
    in_namespaces("a_device_that_leaves_a_bridge_is_still_there", || {
        let a = support::netns("a");
        support::run("ip -n a link add va type veth peer name vb");
        support::run("ip -n a link add br0 type bridge");
        let (mut monitor, _) = synced(&a);
        support::run("ip -n a link set va master br0");
        support::run("ip -n a link set va nomaster");
        LinkSetup::open(&a).unwrap().set_mtu("va", 1400).unwrap();
        loop {
            let event = next_of(&mut monitor, "va");
            assert!(!event.deleted);
            if event.mtu == 1400 {
                break;
            }
        }
    });
}

#[test]
fn an_overflow_is_made_up_for() {
    in_namespaces("an_overflow_is_made_up_for", || {
        let netns = support::netns("site");
        let _kept = open_tun(&netns, "kept");
        let mut going = Some(open_tun(&netns, "going"));
        let (mut monitor, _) = synced(&netns);
        let mut setup = LinkSetup::open(&netns).unwrap();
        // Far more notifications than the socket's buffer holds.
        for i in 0..3000 {
            setup.set_up("kept", i % 2 == 0).unwrap();
        }
        drop(going.take());
        let _coming = open_tun(&netns, "coming");
        setup.set_up("kept", true).unwrap();
        setup.set_mtu("kept", 4000).unwrap();

        let mut links: BTreeMap<String, LinkEvent> = BTreeMap::new();
        let mut events = 0;
        let settled = |links: &BTreeMap<String, LinkEvent>| {
            let state = |name| links.get(name).map(|e: &LinkEvent| (e.up, e.deleted, e.mtu));
            state("kept") == Some((true, false, 4000))
                && state("going") == Some((false, true, 1500))
                && state("coming") == Some((false, false, 1500))
        };
        while !settled(&links) {
            let event = next_event(&mut monitor);
            links.insert(event.name.clone(), event);
            events += 1;
        }
        assert!(events < 3000, "nothing was lost: {events} events");
        assert!(monitor.is_synced());
        // The monitor works as before.
        setup.set_up("kept", false).unwrap();
        assert!(!next_of(&mut monitor, "kept").up);
    });
}

#[test]
fn how_long_a_tun_that_is_set_down_takes_to_be_reported() {
    in_namespaces("how_long_a_tun_that_is_set_down_takes_to_be_reported", || {
        const ROUNDS: usize = 50;
        let netns = support::netns("site");
        let _tun = open_tun(&netns, "t0");
        let (mut monitor, _) = synced(&netns);
        let mut setup = LinkSetup::open(&netns).unwrap();
        let (sender, receiver) = mpsc::channel();
        let watcher = thread::spawn(move || {
            for _ in 0..2 * ROUNDS {
                let event = next_of(&mut monitor, "t0");
                sender.send((event.up, Nanos::now())).unwrap();
            }
        });
        let mut took: Vec<Duration> = Vec::new();
        for _ in 0..ROUNDS {
            setup.set_up("t0", true).unwrap();
            assert!(receiver.recv_timeout(Duration::from_secs(20)).unwrap().0);
            let start = Nanos::now();
            setup.set_up("t0", false).unwrap();
            let (up, at) = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
            assert!(!up);
            took.push(at.since(start));
        }
        watcher.join().unwrap();
        took.sort();
        let [least, median, most] = [took[0], took[ROUNDS / 2], took[ROUNDS - 1]];
        println!("set down to event: least {least:?}, median {median:?}, most {most:?}");
    });
}
