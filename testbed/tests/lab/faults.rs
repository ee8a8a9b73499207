//! Each fault does what it says, in both families, and is healed without a trace.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::silence::{Silencer, Way};
use nearlab::lab::{Fault, Lab, wait_for, wait_until};
use nearlab::topology::Topology;

use crate::support::{Case, SERVICE, SOON, answered, cabled, client, device, lay_cable, udp};

pub const INSIDE: &[Case] = &[
    Case { name: "announced_fault", run: announced },
    Case { name: "silent_fault", run: silent },
    Case { name: "silence_takes_effect_at_once", run: at_once },
    Case { name: "server_fault", run: server },
    Case { name: "site_fault", run: site },
    Case { name: "a_router_that_comes_back", run: router_comes_back },
    Case { name: "faults_that_cannot_be", run: impossible },
];

fn announced() {
    let lab = cabled(Topology::three_sites(), "ams");
    for _ in 0..3 {
        let act = lab.inflict(Fault::Announced, "ams").unwrap();
        assert!(act.before < act.after);
        assert!(!device("ams", "nh-ams").unwrap().admin_up);
        expect(false);
        lab.heal(Fault::Announced, "ams").unwrap();
        expect(true);
    }
}

/// Both directions are silent, the device looks healthy, and the sender gets no error.
fn silent() {
    let lab = cabled(Topology::three_sites(), "ams");
    println!("silence by {}", lab.silence().unwrap());
    lab.inflict(Fault::Silent, "ams").unwrap();
    expect(false);
    assert!(device("ams", "nh-ams").unwrap().up());
    let plan = lab.topology().plan_of("client").unwrap();
    for address in plan.host_addresses {
        let from = udp("ams", &address.ip().to_string(), 9);
        from.send(b"anybody?").unwrap();
        let error = from.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }
    lab.heal(Fault::Silent, "ams").unwrap();
    expect(true);
    for address in plan.host_addresses {
        wait_for_refusal(&udp("ams", &address.ip().to_string(), 9));
    }
}

/// No question asked after the call has returned is answered; in each way of dropping.
fn at_once() {
    let lab = cabled(Topology::three_sites(), "ams");
    let ifindex = device("ams", "nh-ams").unwrap().ifindex;
    for way in Way::ALL {
        let silencer = Silencer::with(way, &NetNs::named("ams"), "nh-ams", ifindex);
        let mut silencer = match silencer {
            Ok(silencer) => silencer,
            Err(error) => {
                println!("{way}: not on this kernel ({error})");
                continue;
            }
        };
        let mut took = Vec::new();
        let mut undone = Vec::new();
        for _ in 0..20 {
            let before = Nanos::now();
            silencer.set(true).unwrap();
            took.push(Nanos::now().since(before));
            for address in SERVICE {
                assert!(!quickly_answered(address), "{way}");
            }
            let before = Nanos::now();
            silencer.set(false).unwrap();
            undone.push(Nanos::now().since(before));
            wait_for_answers();
        }
        took.sort();
        undone.sort();
        println!("{way}: set in {:?} (median), {:?} (most)", took[10], took[19]);
        println!("{way}: undone in {:?} (median), {:?} (most)", undone[10], undone[19]);
        assert!(took[0] < Duration::from_millis(1), "{way}: {took:?}");
    }
    drop(lab);
}

fn server() {
    let lab = cabled(Topology::three_sites(), "ams");
    let pid = lab.pid_of("echo").unwrap();
    lab.inflict(Fault::Server, "ams").unwrap();
    assert_eq!(lab.pid_of("echo"), None);
    // The machine answers on, saying that nobody listens.
    for address in SERVICE {
        wait_for_refusal(&client(address));
    }
    assert!(lab.exited().is_empty(), "who was killed has not ended by itself");
    lab.heal(Fault::Server, "ams").unwrap();
    wait_for_answers();
    assert_ne!(lab.pid_of("echo"), Some(pid));
}

fn site() {
    let lab = cabled(Topology::three_sites(), "ams");
    let act = lab.inflict(Fault::Site, "ams").unwrap();
    assert!(act.before < act.after);
    assert_eq!(lab.pid_of("echo"), None);
    assert!(device("ams", "nh-ams").unwrap().up());
    for address in SERVICE {
        let socket = client(address);
        socket.send(b"there?").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }
    lab.heal(Fault::Site, "ams").unwrap();
    wait_for_answers();
}

fn router_comes_back() {
    let lab = cabled(Topology::three_sites(), "ams");
    lab.kill("cable").unwrap();
    wait_until("the NIC to go", SOON, || device("ams", "nh-ams").is_none()).unwrap();
    lay_cable(&lab, "ams");
    wait_for_answers();
    lab.inflict(Fault::Silent, "ams").unwrap();
    expect(false);
}

fn impossible() {
    let lab = cabled(Topology::three_sites(), "ams");
    let refused = |fault, node| lab.inflict(fault, node).unwrap_err().to_string();
    assert!(refused(Fault::Silent, "r1").contains("\"r1\" is not a node with a link"));
    assert!(refused(Fault::Server, "fra").contains("expected a running program"));
    lab.kill("cable").unwrap();
    wait_until("the NIC to go", SOON, || device("ams", "nh-ams").is_none()).unwrap();
    assert!(refused(Fault::Announced, "ams").contains("set nh-ams down"));
    let second = Lab::build(Topology::three_sites(), 0).err().unwrap().to_string();
    assert!(second.contains("make the network namespace client"), "{second}");
    // And it must not have taken the first one's namespaces with it.
    assert!(device("client", "lo").unwrap().admin_up);
}

fn expect(answers: bool) {
    for address in SERVICE {
        assert_eq!(answered(&client(address)), answers, "{address}");
    }
}

fn wait_for_answers() {
    for address in SERVICE {
        wait_until("answers", SOON, || answered(&client(address))).unwrap();
    }
}

/// A host sends few errors a second (RFC 1812, section 4.3.2.8), so it may have to be asked again.
fn wait_for_refusal(socket: &UdpSocket) {
    wait_for("a refusal", SOON, || {
        socket.send(b"there?").and_then(|_| socket.recv(&mut [0; 16])).map_or_else(
            |error| match error.kind() {
                ErrorKind::ConnectionRefused => Ok(()),
                _ => Err(error.to_string()),
            },
            |_| panic!("answered by whom?"),
        )
    })
    .unwrap();
}

/// As `answered`, but a packet in this lab takes well under 20 ms.
fn quickly_answered(address: &str) -> bool {
    let socket = client(address);
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    answered(&socket)
}
