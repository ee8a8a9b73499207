//! TUN ports on real devices: packets, modes, states.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use nearhop::batch::{BURST, Batch};
use nearhop::kernel::link::{LinkSetup, TunStatus};
use nearhop::kernel::netns::NetNs;
use nearhop::packet::offload::Offloads;
use nearhop::port::gone::is_gone;
use nearhop::port::tun::{self, OpenedTun, TunMode, TunSpec};
use nearhop::port::{Port, PortError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{in_namespaces, udp_packet, udp_received, udp_socket, v4, v6, wait_for};

fn spec(netns: &NetNs, queues: usize) -> TunSpec {
    TunSpec {
        name: "t0".into(),
        netns: netns.clone(),
        queues,
        persist: false,
        offloads: Offloads::NONE,
    }
}

/// Opens `spec` and sets it up, with host 2 of the test networks on the kernel's side.
fn ready(spec: &TunSpec) -> OpenedTun {
    let opened = tun::open(spec).unwrap();
    opened.bring_up(1500, &peers()).unwrap();
    opened
}

fn peers() -> [IpNetwork; 2] {
    [IpNetwork::new(v4(2), 24).unwrap(), IpNetwork::new(v6(2), 64).unwrap()]
}

fn status(opened: &OpenedTun) -> TunStatus {
    LinkSetup::open(&opened.netns).unwrap().status(&opened.name).unwrap().tun.unwrap()
}

/// Sends a datagram each way in each family, over each queue.
fn assert_packets_pass(opened: &OpenedTun) {
    let port = &opened.port;
    for (far, near) in [(v4(9), v4(2)), (v6(9), v6(2))] {
        let socket = udp_socket(&opened.netns, near);
        assert_kernel_to_port(&**port, &socket, far);
        for queue in 0..port.queues() {
            let payload = [b'x', queue as u8];
            let from = SocketAddr::new(far, 4000);
            let packet = udp_packet(from, socket.local_addr().unwrap(), &payload);
            port.tx(queue, &packet).unwrap();
            let mut buffer = [0; 100];
            let (len, sender) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], sender), (&payload[..], from));
        }
    }
}

fn assert_kernel_to_port(port: &dyn Port, socket: &UdpSocket, far: IpAddr) {
    // Different destination ports are different flows: the kernel spreads them over the queues.
    let wanted: Vec<_> = (0..32)
        .map(|i| (SocketAddr::new(far, 5000 + i), format!("{far} {i}").into_bytes()))
        .collect();
    for (to, payload) in &wanted {
        socket.send_to(payload, to).unwrap();
    }
    let mut received = Vec::new();
    wait_for("32 datagrams", || {
        received.extend(udp_received(port));
        (received.len() >= wanted.len()).then_some(())
    });
    received.sort();
    assert_eq!(received, wanted);
}

#[test]
fn packets_pass_both_ways_over_one_two_and_four_queues() {
    in_namespaces("packets_pass_both_ways_over_one_two_and_four_queues", || {
        let netns = support::netns("site");
        for (queues, mode, engine) in [
            (1, TunMode::SingleQueue, "tun"),
            (2, TunMode::MultiQueue, "tun multi-queue"),
            (4, TunMode::MultiQueue, "tun multi-queue"),
        ] {
            let opened = ready(&spec(&netns, queues));
            assert_eq!((opened.queues, opened.mode, opened.created), (queues, mode, true));
            assert_eq!((opened.port.queues(), opened.port.engine()), (queues, engine));
            assert_packets_pass(&opened);
            assert!(opened.port.fd(queues).is_none());
            let beyond = opened.port.tx(queues, &udp_packet_to_kernel());
            assert!(matches!(beyond, Err(PortError::Refused(_))));
        }
    });
}

fn udp_packet_to_kernel() -> Vec<u8> {
    udp_packet(SocketAddr::new(v4(9), 1), SocketAddr::new(v4(2), 1), b"")
}

#[test]
fn a_port_opens_in_its_own_namespace_too() {
    in_namespaces("a_port_opens_in_its_own_namespace_too", || {
        assert_packets_pass(&ready(&spec(&NetNs::Here, 2)));
    });
}

#[test]
fn answers_to_a_flow_come_on_the_queue_it_was_sent_on() {
    in_namespaces("answers_to_a_flow_come_on_the_queue_it_was_sent_on", || {
        let opened = ready(&spec(&support::netns("site"), 4));
        let socket = udp_socket(&opened.netns, v4(2));
        for queue in [3, 1, 2, 0] {
            let from = SocketAddr::new(v4(9), 6000 + queue as u16);
            opened
                .port
                .tx(queue, &udp_packet(from, socket.local_addr().unwrap(), b"question"))
                .unwrap();
            let (_, sender) = socket.recv_from(&mut [0; 100]).unwrap();
            socket.send_to(b"answer", sender).unwrap();
            let mut batch = Batch::new();
            wait_for("answer on the queue of the question", || {
                opened.port.rx(queue, &mut batch).unwrap();
                (0..batch.len())
                    .filter_map(|index| support::udp_payload(batch.packet(index).1))
                    .find(|answer| *answer == (from, b"answer".to_vec()))
            });
        }
    });
}

#[test]
fn a_packet_wakes_whoever_polls_its_queue() {
    in_namespaces("a_packet_wakes_whoever_polls_its_queue", || {
        let opened = ready(&spec(&support::netns("site"), 1));
        udp_received(&*opened.port);
        let socket = udp_socket(&opened.netns, v4(2));
        socket.send_to(b"x", (v4(9), 7)).unwrap();
        let fd = opened.port.fd(0).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let bound = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&bound)).unwrap(), 1);
        assert_eq!(udp_received(&*opened.port).len(), 1);
    });
}

#[test]
fn a_batch_is_filled_no_further_than_it_has_room() {
    in_namespaces("a_batch_is_filled_no_further_than_it_has_room", || {
        let opened = ready(&spec(&support::netns("site"), 1));
        let socket = udp_socket(&opened.netns, v4(2));
        for i in 0..BURST + 10 {
            socket.send_to(&[i as u8], (v4(9), 7)).unwrap();
        }
        let mut batch = Batch::new();
        assert_eq!(opened.port.rx(0, &mut batch).unwrap(), BURST);
        assert_eq!(opened.port.rx(0, &mut batch).unwrap(), 0);
        batch.clear();
        assert!(opened.port.rx(0, &mut batch).unwrap() >= 10);
    });
}

#[test]
fn the_mtu_is_set_and_packets_of_that_size_pass_whole() {
    in_namespaces("the_mtu_is_set_and_packets_of_that_size_pass_whole", || {
        let netns = support::netns("site");
        for mtu in [1280, 9000, 65_535_u32] {
            let opened = tun::open(&spec(&netns, 1)).unwrap();
            opened.bring_up(mtu, &peers()).unwrap();
            let mut links = LinkSetup::open(&netns).unwrap();
            assert_eq!(links.status("t0").unwrap().mtu, mtu);
            let payload = vec![7; mtu as usize - 28];
            let socket = udp_socket(&netns, v4(2));
            socket.send_to(&payload, (v4(9), 7)).unwrap();
            let to = SocketAddr::new(v4(9), 7);
            let whole = wait_for("whole packet", || udp_received(&*opened.port).pop());
            assert!(whole == (to, payload.clone()), "MTU {mtu}: {} bytes", whole.1.len());
            let packet = udp_packet(to, socket.local_addr().unwrap(), &payload);
            opened.port.tx(0, &packet).unwrap();
            assert_eq!(socket.recv_from(&mut vec![0; 65_535]).unwrap().0, payload.len());
        }
    });
}

#[test]
fn a_port_that_is_set_down_says_so_and_works_again_when_set_up() {
    in_namespaces("a_port_that_is_set_down_says_so_and_works_again_when_set_up", || {
        let netns = support::netns("site");
        for queues in [1, 2] {
            let opened = ready(&spec(&netns, queues));
            let mut links = LinkSetup::open(&netns).unwrap();
            let socket = udp_socket(&netns, v4(2));
            udp_received(&*opened.port);
            links.set_up("t0", false).unwrap();
            for queue in 0..queues {
                let sent = opened.port.tx(queue, &udp_packet_to_kernel());
                assert!(matches!(sent, Err(PortError::Down)), "{sent:?}");
                // The kernel reports only that nothing can be read.
                assert_eq!(opened.port.rx(queue, &mut Batch::new()).unwrap(), 0);
            }
            drop(socket);
            opened.bring_up(1500, &peers()).unwrap();
            assert_packets_pass(&opened);
        }
    });
}

#[test]
fn a_port_that_is_deleted_is_gone() {
    in_namespaces("a_port_that_is_deleted_is_gone", || {
        let netns = support::netns("site");
        for queues in [1, 2] {
            let opened = ready(&spec(&netns, queues));
            assert!(!is_gone(&*opened.port));
            LinkSetup::open(&netns).unwrap().set_up("t0", false).unwrap();
            assert!(!is_gone(&*opened.port), "down is not gone");
            LinkSetup::open(&netns).unwrap().delete("t0").unwrap();
            assert!(is_gone(&*opened.port));
            for queue in 0..queues {
                let sent = opened.port.tx(queue, &udp_packet_to_kernel());
                assert!(matches!(sent, Err(PortError::Gone)), "{sent:?}");
                let received = opened.port.rx(queue, &mut Batch::new());
                assert!(matches!(received, Err(PortError::Gone)), "{received:?}");
            }
        }
    });
}

#[test]
fn what_is_no_ip_packet_is_refused() {
    in_namespaces("what_is_no_ip_packet_is_refused", || {
        let opened = ready(&spec(&support::netns("site"), 1));
        for bad in [&[][..], &[0x50; 40][..]] {
            let sent = opened.port.tx(0, bad);
            assert!(matches!(sent, Err(PortError::Refused(_))), "{bad:?}: {sent:?}");
        }
        assert_packets_pass(&opened);
    });
}

#[test]
fn what_a_full_queue_cannot_take_is_counted() {
    in_namespaces("what_a_full_queue_cannot_take_is_counted", || {
        let opened = ready(&spec(&support::netns("site"), 1));
        let mut links = LinkSetup::open(&opened.netns).unwrap();
        let dropped_before = links.status("t0").unwrap().stats.tx_dropped;
        let socket = udp_socket(&opened.netns, v4(2));
        let sent = 2000;
        for i in 0..sent {
            // The kernel may report the drop (ENOBUFS).
            let _ = socket.send_to(&u32::to_be_bytes(i), (v4(9), 7));
        }
        let received = udp_received(&*opened.port).len() as u64;
        let stats = links.status("t0").unwrap().stats;
        assert!(received < u64::from(sent), "nothing was dropped");
        assert_eq!(received + stats.tx_dropped - dropped_before, u64::from(sent), "{stats:?}");
        assert!(stats.tx_packets >= received && stats.tx_bytes > 0);
    });
}

#[test]
fn a_device_that_is_kept_stays_and_any_other_goes() {
    in_namespaces("a_device_that_is_kept_stays_and_any_other_goes", || {
        let netns = support::netns("site");
        let mut links = LinkSetup::open(&netns).unwrap();
        for queues in [1, 2] {
            for persist in [false, true] {
                let opened = tun::open(&TunSpec { persist, ..spec(&netns, queues) }).unwrap();
                let ifindex = opened.ifindex;
                assert_eq!(links.status("t0").unwrap().ifindex, ifindex);
                drop(opened);
                let after = links.find("t0").unwrap().map(|link| link.ifindex);
                assert_eq!(after, persist.then_some(ifindex), "{queues} queues");
            }
            // Opened again it is the same device, and still persistent although this time not
            // requested.
            drop(ready(&spec(&netns, queues)));
            assert!(links.find("t0").unwrap().is_some());
            links.delete("t0").unwrap();
        }
    });
}

#[test]
fn a_device_made_in_another_mode_is_used_in_its_own() {
    in_namespaces("a_device_made_in_another_mode_is_used_in_its_own", || {
        let netns = support::netns("site");
        for (options, queues, mode, used) in [
            ("", 1, TunMode::SingleQueue, 1),
            ("", 4, TunMode::SingleQueue, 1),
            ("multi_queue", 1, TunMode::MultiQueue, 1),
            ("multi_queue", 4, TunMode::MultiQueue, 4),
            ("vnet_hdr", 1, TunMode::SingleQueue, 1),
            ("vnet_hdr multi_queue", 2, TunMode::MultiQueue, 2),
            ("pi", 1, TunMode::SingleQueue, 1),
            ("pi vnet_hdr", 2, TunMode::SingleQueue, 1),
            ("pi vnet_hdr multi_queue", 1, TunMode::MultiQueue, 1),
        ] {
            let case = format!("`{options}`, {queues} wanted");
            support::run(&format!("ip -n site tuntap add t0 mode tun {options}"));
            let mut links = LinkSetup::open(&netns).unwrap();
            let before = links.status("t0").unwrap();
            let opened = ready(&spec(&netns, queues));
            assert_eq!((opened.mode, opened.queues), (mode, used), "{case}");
            assert_eq!((opened.ifindex, opened.created), (before.ifindex, false), "{case}");
            assert_packets_pass(&opened);
            let open_queues = if mode == TunMode::MultiQueue { used as u32 } else { 0 };
            let unchanged = TunStatus { open_queues, ..before.tun.unwrap() };
            assert_eq!(status(&opened), unchanged, "{case}");
            drop(opened);
            assert_eq!(links.status("t0").unwrap().tun, before.tun, "{case}: left as it was");
            links.delete("t0").unwrap();
        }
    });
}

#[test]
fn what_the_holder_before_left_to_the_reader_is_taken_back() {
    in_namespaces("what_the_holder_before_left_to_the_reader_is_taken_back", || {
        let netns = support::netns("site");
        support::run("ip -n site tuntap add t0 mode tun vnet_hdr");
        netns.within(|| support::leave_checksums_to_the_reader("t0")).unwrap();
        assert_packets_pass(&ready(&spec(&netns, 1)));
    });
}

#[test]
fn a_port_can_be_used_by_several_threads() {
    in_namespaces("a_port_can_be_used_by_several_threads", || {
        let opened = ready(&spec(&support::netns("site"), 2));
        let socket = udp_socket(&opened.netns, v4(2));
        let to = socket.local_addr().unwrap();
        let senders: Vec<_> = (0..4)
            .map(|i| {
                let port = Arc::clone(&opened.port);
                std::thread::spawn(move || {
                    let packet = udp_packet(SocketAddr::new(v4(9), 100 + i), to, &[i as u8]);
                    (0..10).for_each(|_| port.tx(0, &packet).unwrap());
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        let mut counts = [0; 4];
        for _ in 0..40 {
            let mut byte = [0];
            socket.recv_from(&mut byte).unwrap();
            counts[usize::from(byte[0])] += 1;
        }
        assert_eq!(counts, [10; 4]);
    });
}
