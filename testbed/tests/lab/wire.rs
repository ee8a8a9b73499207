//! Impaired links, measured from their ends.

use std::net::UdpSocket;
use std::time::Duration;

use nearhop::time::Nanos;
use nearlab::lab::{Fault, Lab, wait_for, wait_until};
use nearlab::topology::{Impairment, Topology};
use nearlab::wire::Counters;

use crate::support::{Case, SERVICE, SOON, answered, cabled, client, device, lay_cable};

pub const INSIDE: &[Case] = &[
    Case { name: "wire_delay", run: delay },
    Case { name: "wire_loss", run: loss },
    Case { name: "wire_rate", run: rate },
    Case { name: "wire_state_is_carried_over", run: state },
];

fn delay() {
    let one_way = Duration::from_millis(20);
    let _lab = impaired(Impairment { delay: one_way, ..Impairment::default() });
    for address in SERVICE {
        let socket = client(address);
        let mut trips: Vec<_> = (0..20).filter_map(|_| round_trip(&socket)).collect();
        assert!(trips.len() >= 10, "{} of 20 answered", trips.len());
        trips.sort();
        println!("{address}: {:?} least, {:?} median", trips[0], trips[trips.len() / 2]);
        assert!(trips[0] >= 2 * one_way, "{trips:?}");
        // The least: on a busy machine the others say more of the machine than of the wire.
        assert!(trips[0] < 2 * one_way + Duration::from_millis(30), "{trips:?}");
    }
}

/// 10 % each way: 0.81 of 3,000 come back; five standard deviations either way.
fn loss() {
    let lab = impaired(Impairment { loss: 0.1, ..Impairment::default() });
    let before = counters(&lab, |_| true);
    let socket = client(SERVICE[0]);
    let mut came = 0;
    for _ in 0..3000 / 20 {
        (0..20).for_each(|_| assert_eq!(socket.send(b"there?").unwrap(), 6));
        socket.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        came += (0..20).take_while(|_| socket.recv(&mut [0; 64]).is_ok()).count();
    }
    println!("{came} of 3000 came back");
    assert!((2322..=2538).contains(&came), "{came} of 3000");
    let after = counters(&lab, |now| now.to_host.received >= before.to_host.received + 3000);
    let lost = after.to_host.lost - before.to_host.lost;
    assert!((218..=382).contains(&lost), "{lost} lost on the way to the host: {after:?}");
    assert_eq!(after.to_host.overflowed + after.to_router.overflowed, 0);
    assert_eq!(after.to_host.unread + after.to_router.unread, 0);
}

/// 60 packets of 1,028 bytes at 2 Mbit/s are 4.1 ms apart, although they were sent at once.
fn rate() {
    let _lab = impaired(Impairment { rate: Some(2_000_000), ..Impairment::default() });
    let socket = client(SERVICE[0]);
    (0..60).for_each(|_| assert_eq!(socket.send(&[0; 1000]).unwrap(), 1000));
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let times: Vec<_> = (0..60).map(|_| arrival(&socket)).collect();
    let took = times[59].since(times[0]);
    let expected = Duration::from_micros(59 * 1028 * 8 / 2);
    println!("60 packets took {took:?}, expected {expected:?}");
    assert!(took > expected * 9 / 10, "{took:?} instead of {expected:?}");
    assert!(took < expected * 2, "{took:?} instead of {expected:?}");
}

/// A host's NIC set down takes the router's device down and up; a router that dies takes the
/// carrier, and one that comes back brings it.
fn state() {
    let lab = impaired(Impairment { delay: Duration::from_millis(1), ..Impairment::default() });
    let router_device = || device("wire-ams", "nh-ams");
    for _ in 0..2 {
        lab.inflict(Fault::Announced, "ams").unwrap();
        wait_until("the far end to be down", SOON, || !router_device().unwrap().admin_up).unwrap();
        assert!(!answered(&client(SERVICE[0])));
        lab.heal(Fault::Announced, "ams").unwrap();
        wait_until("the far end to be up", SOON, || router_device().unwrap().admin_up).unwrap();
        expect_answers();
    }
    lab.kill("cable").unwrap();
    let carrier = || device("ams", "nh-ams").unwrap().carrier;
    wait_until("the carrier to go", SOON, || !carrier()).unwrap();
    lay_cable(&lab, "ams");
    wait_until("the carrier to come", SOON, carrier).unwrap();
    expect_answers();
    lab.inflict(Fault::Silent, "ams").unwrap();
    assert!(SERVICE.iter().all(|address| !answered(&client(address))));
    assert!(router_device().unwrap().up());
}

/// The built-in lab with the link to ams impaired.
fn impaired(impairment: Impairment) -> Lab {
    let mut topology = Topology::three_sites();
    let link = topology.links.iter_mut().find(|link| link.host == "ams").unwrap();
    link.impairment = impairment;
    cabled(topology, "ams")
}

fn expect_answers() {
    for address in SERVICE {
        wait_until("answers", SOON, || answered(&client(address))).unwrap();
    }
}

fn round_trip(socket: &UdpSocket) -> Option<Duration> {
    let before = Nanos::now();
    answered(socket).then(|| Nanos::now().since(before))
}

fn arrival(socket: &UdpSocket) -> Nanos {
    socket.recv(&mut [0; 2048]).unwrap();
    Nanos::now()
}

/// The counters of the wire once they fit, and have stopped moving.
fn counters(lab: &Lab, fit: impl Fn(&Counters) -> bool) -> Counters {
    assert!(lab.pid_of("wire-ams").is_some());
    wait_for("the wire's counters", SOON, || match Counters::read("ams") {
        Ok(counters) if fit(&counters) => Ok(counters),
        other => Err(format!("{other:?}")),
    })
    .unwrap()
}
