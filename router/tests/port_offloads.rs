//! Superframes and I/O engines on real devices, judged by the kernel's own TCP and UDP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use daemon_support::{Rig, config};
use nearhop::batch::{BURST, Batch, Frame, PACKET_MAX};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::packet::Meta;
use nearhop::packet::offload::segment::Segments;
use nearhop::packet::offload::{GSO_UDP_L4, OFFLOAD_LEN, Offload, Offloads};
use nearhop::port::queue::open_queue;
use nearhop::port::tun::{self, OpenedTun, TunSpec};
use nearhop::port::{EngineChoice, Port, PortError, Queue};
use serde_json::Value;
use support::kernel::Need::{UdpSuperframes, Uring};
use support::{
    in_namespaces, in_namespaces_with, set_udp_segment, udp_packet, udp_payload, udp_socket, v4,
    v6, wait_for,
};

const AMS: &[(&str, u32)] = &[("ams", 10)];

fn opened(netns: &NetNs, offloads: Offloads) -> OpenedTun {
    let (name, netns) = ("t0".to_owned(), netns.clone());
    let opened = tun::open(&TunSpec { name, netns, queues: 1, persist: false, offloads }).unwrap();
    let peers = [(v4(2), 24), (v6(2), 64)];
    let peers = peers.map(|(ip, len)| ipnetwork::IpNetwork::new(ip, len).unwrap());
    opened.bring_up(1500, &peers).unwrap();
    opened
}

/// The packets received by a port, with their pending offloads.
fn frames(port: &dyn Port) -> Vec<(Vec<u8>, Offload)> {
    let mut batch = Batch::new();
    port.rx(0, &mut batch).unwrap();
    let all = (0..batch.len()).map(|index| batch.packet(index));
    all.map(|(slot, bytes)| (bytes.to_vec(), slot.offload)).collect()
}

/// The packet on its way back: checksums do not depend on the order of addresses and ports.
fn turned(mut packet: Vec<u8>) -> Vec<u8> {
    let (addresses, len) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
    for (at, len) in [(addresses, len), (addresses + 2 * len, 2)] {
        let (a, b) = packet[at..at + 2 * len].split_at_mut(len);
        a.swap_with_slice(b);
    }
    packet
}

#[test]
fn every_offload_of_this_kernel_is_had_and_named() {
    in_namespaces_with(&[UdpSuperframes], "every_offload_of_this_kernel_is_had_and_named", || {
        let opened = opened(&support::netns("site"), Offloads::ALL);
        assert_eq!((opened.port.offloads(), &*opened.missing), (Offloads::ALL, &[][..]));
    });
}

#[test]
fn a_superframe_comes_whole_from_the_kernel_and_goes_whole_to_it() {
    in_namespaces_with(
        &[UdpSuperframes],
        "a_superframe_comes_whole_from_the_kernel_and_goes_whole_to_it",
        || {
            let netns = support::netns("site");
            let opened = opened(&netns, Offloads::ALL);
            let data: Vec<u8> = (0..40 * 1000_u32).map(|i| (i / 7) as u8).collect();
            for (near, far) in [(v4(2), v4(9)), (v6(2), v6(9))] {
                let socket = udp_socket(&netns, near);
                set_udp_segment(&socket, 1000);
                socket.send_to(&data, (far, 5000)).unwrap();
                let (packet, offload) = wait_for("the superframe", || {
                    frames(&*opened.port).into_iter().find(|(_, offload)| offload.is_superframe())
                });
                assert_eq!((offload.gso_type, offload.gso_size), (GSO_UDP_L4, 1000));
                // Segmented here, smoltcp accepts each segment.
                let plan = Segments::plan(&packet, offload).unwrap();
                let mut together = Vec::new();
                plan.each(&mut vec![0; PACKET_MAX], |segment| {
                    together.extend(udp_payload(segment).unwrap().1);
                });
                assert_eq!((plan.count(), together), (40, data.clone()));
                // Sent back whole, the kernel segments it.
                let back = turned(packet);
                let shape = offload.check(&back, &Meta::parse(&back).unwrap()).unwrap();
                let bytes = [&offload.to_bytes()[..], &back].concat();
                opened.port.send(0, Frame::new(&bytes, shape)).unwrap();
                for piece in data.chunks(1000) {
                    let mut buffer = [0; 2000];
                    let (len, from) = socket.recv_from(&mut buffer).unwrap();
                    assert_eq!((&buffer[..len], from.ip()), (piece, far));
                }
            }
        },
    );
}

#[test]
fn a_lying_header_is_refused_by_the_kernel_and_the_port_goes_on() {
    in_namespaces("a_lying_header_is_refused_by_the_kernel_and_the_port_goes_on", || {
        let netns = support::netns("site");
        let opened = opened(&netns, Offloads::ALL);
        let socket = udp_socket(&netns, v4(2));
        let packet = udp_packet((v4(9), 1).into(), socket.local_addr().unwrap(), b"data");
        let lie = Offload { flags: 1, csum_start: 60_000, csum_offset: 6, ..Offload::NONE };
        let frame = [&lie.to_bytes()[..], &packet].concat();
        let sent = opened.port.send(0, Frame::whole(&frame));
        assert!(matches!(sent, Err(PortError::Refused(_))), "{sent:?}");
        opened.port.tx(0, &packet).unwrap();
        assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 4);
    });
}

/// A queue of `port` with this engine, for the calling thread.
fn queue(port: &Arc<dyn Port>, choice: EngineChoice, engine: &str) -> Box<dyn Queue> {
    let (queue, why) = open_queue(port, 0, choice);
    assert_eq!(queue.engine(), engine, "{why:?}");
    queue
}

const ENGINES: [(EngineChoice, &str); 2] =
    [(EngineChoice::Epoll, "epoll"), (EngineChoice::Auto, "io_uring")];

#[test]
fn each_engine_keeps_the_order_of_packets_both_ways() {
    in_namespaces_with(&[Uring], "each_engine_keeps_the_order_of_packets_both_ways", || {
        let netns = support::netns("site");
        let opened = opened(&netns, Offloads::ALL);
        let socket = udp_socket(&netns, v4(2));
        let to = socket.local_addr().unwrap();
        for (choice, engine) in ENGINES {
            let mut queue = queue(&opened.port, choice, engine);
            let mut batch = Batch::new();
            queue.rx(&mut batch).unwrap();
            let mut seen = 0_u32;
            let mut next = 0_u32;
            // Rounds of different sizes, so that batches end everywhere.
            for round in 1..200_u32 {
                let count = round * 7 % 90 + 1;
                let packets: Vec<Vec<u8>> = (0..count)
                    .map(|i| {
                        let number = (next + i).to_be_bytes();
                        let packet = udp_packet((v4(9), 1).into(), to, &number);
                        [&[0; OFFLOAD_LEN][..], &packet].concat()
                    })
                    .collect();
                let mut reported = 0;
                queue.tx(&mut packets.iter().map(|bytes| Frame::whole(bytes)), &mut |result| {
                    assert!(result.is_ok(), "{result:?}");
                    reported += 1;
                });
                assert_eq!(reported, count, "{engine}: what became of each is reported");
                for i in 0..count {
                    let mut number = [0; 4];
                    socket.recv(&mut number).unwrap();
                    assert_eq!(u32::from_be_bytes(number), next + i, "{engine}");
                    socket.send_to(&number, (v4(9), 7)).unwrap();
                }
                next += count;
                wait_for("all of them back, in order", || {
                    batch.clear();
                    queue.rx(&mut batch).unwrap();
                    for index in 0..batch.len() {
                        let (slot, bytes) = batch.packet(index);
                        let plan = Segments::plan(bytes, slot.offload).ok()?;
                        let mut buffer = [0; 200];
                        let (_, number) = udp_payload(plan.write(0, &mut buffer)?)?;
                        assert_eq!(number, seen.to_be_bytes(), "{engine}");
                        seen += 1;
                    }
                    (seen == next).then_some(())
                });
            }
        }
    });
}

#[test]
fn each_engine_fills_a_batch_no_further_than_it_has_room() {
    in_namespaces_with(&[Uring], "each_engine_fills_a_batch_no_further_than_it_has_room", || {
        let netns = support::netns("site");
        let opened = opened(&netns, Offloads::ALL);
        for (choice, engine) in ENGINES {
            let mut queue = queue(&opened.port, choice, engine);
            let mut batch = Batch::new();
            queue.rx(&mut batch).unwrap();
            let socket = udp_socket(&netns, v4(2));
            for i in 0..BURST + 10 {
                socket.send_to(&[i as u8], (v4(9), 7)).unwrap();
            }
            for wanted in [BURST, 10] {
                batch.clear();
                while queue.rx(&mut batch).unwrap() > 0 {}
                assert_eq!(batch.len(), wanted, "{engine}");
            }
        }
    });
}

#[test]
fn each_engine_reports_a_device_that_is_down_or_gone_and_works_again() {
    in_namespaces_with(
        &[Uring],
        "each_engine_reports_a_device_that_is_down_or_gone_and_works_again",
        || {
            let netns = support::netns("site");
            for (choice, engine) in ENGINES {
                let opened = opened(&netns, Offloads::ALL);
                let mut queue = queue(&opened.port, choice, engine);
                let mut links = LinkSetup::open(&netns).unwrap();
                let packet = udp_packet((v4(9), 1).into(), (v4(2), 1).into(), b"x");
                let frame = [&[0; OFFLOAD_LEN][..], &packet].concat();
                let send = |queue: &mut dyn Queue| {
                    let mut all = Vec::new();
                    let frames = [Frame::whole(&frame); 3];
                    queue.tx(&mut frames.into_iter(), &mut |result| all.push(result));
                    all
                };
                assert!(send(&mut *queue).iter().all(Result::is_ok));
                links.set_up("t0", false).unwrap();
                let down = send(&mut *queue);
                assert!(
                    down.iter().all(|r| matches!(r, Err(PortError::Down))),
                    "{engine} {down:?}"
                );
                assert!(queue.rx(&mut Batch::new()).is_ok());
                links.set_up("t0", true).unwrap();
                assert!(send(&mut *queue).iter().all(Result::is_ok), "{engine}");
                links.delete("t0").unwrap();
                let gone = send(&mut *queue);
                assert!(
                    gone.iter().all(|r| matches!(r, Err(PortError::Gone))),
                    "{engine} {gone:?}"
                );
                let received = queue.rx(&mut Batch::new());
                assert!(matches!(received, Err(PortError::Gone)), "{engine}: {received:?}");
            }
        },
    );
}

#[test]
fn a_device_without_the_header_is_read_by_the_engine_that_always_works() {
    in_namespaces("a_device_without_the_header_is_read_by_the_engine_that_always_works", || {
        let opened = opened(&support::netns("site"), Offloads::NONE);
        let (queue, why) = open_queue(&opened.port, 0, EngineChoice::Uring);
        assert_eq!(queue.engine(), "epoll");
        assert!(why.unwrap().contains("vnet_hdr"));
    });
}

/// Streams `data` to a server behind the router and back; returns what the other side got.
fn stream_through(rig: &Rig, server: IpAddr, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let listener = rig.site_netns("ams").within(|| TcpListener::bind((server, 0))).unwrap();
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let expected = data.len();
    let echo = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut got = vec![0; expected];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
        got
    });
    let timeout = Duration::from_secs(10);
    let connect = || TcpStream::connect_timeout(&address, timeout);
    let mut stream = rig.client.within(connect).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(data).unwrap();
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).unwrap();
    (echo.join().unwrap(), back)
}

fn port_named(rig: &Rig, name: &str) -> Value {
    rig.show("ports").into_iter().find(|port| port["port"] == name).unwrap()
}

/// TCP both ways through ports with these lines in their configuration.
fn tcp_passes(client: &str, site: &str) {
    let text = config(AMS)
        .replace("netns = \"client\"\n", &format!("netns = \"client\"\n{client}"))
        .replace("netns = \"ams\"\n", &format!("netns = \"ams\"\n{site}"));
    let rig = Rig::start_with(AMS, &text);
    let data: Vec<u8> = (0..8_000_000_u32).map(|i| (i / 3) as u8).collect();
    for server in ["10.1.0.2", "fd00:1::2"] {
        let (there, back) = stream_through(&rig, server.parse().unwrap(), &data);
        assert!(there == data && back == data, "{server}");
    }
    let together =
        |port: &str, key: &str| wait_for("counters", || port_named(&rig, port)[key].as_f64()) > 1.5;
    assert_eq!(together("client", "packets_per_read"), client != NO_OFFLOADS, "read");
    assert_eq!(together("ams", "packets_per_write"), site != NO_OFFLOADS, "written");
    let engine = if site.is_empty() { "io_uring" } else { "epoll" };
    assert_eq!(port_named(&rig, "ams")["engine"], engine);
}

const NO_OFFLOADS: &str = "offloads = false\n";

#[test]
fn tcp_passes_in_superframes_by_io_uring() {
    in_namespaces_with(&[Uring], "tcp_passes_in_superframes_by_io_uring", || tcp_passes("", ""));
}

#[test]
fn tcp_passes_in_superframes_by_epoll() {
    in_namespaces("tcp_passes_in_superframes_by_epoll", || {
        tcp_passes("engine = \"epoll\"\n", "engine = \"epoll\"\n");
    });
}

#[test]
fn tcp_passes_to_a_port_that_takes_no_superframes() {
    in_namespaces("tcp_passes_to_a_port_that_takes_no_superframes", || {
        tcp_passes("", NO_OFFLOADS);
    });
}

/// Small packets that come in leave joined, in superframes.
#[test]
fn tcp_passes_from_a_port_that_has_no_superframes() {
    in_namespaces_with(&[Uring], "tcp_passes_from_a_port_that_has_no_superframes", || {
        tcp_passes(NO_OFFLOADS, "");
    });
}

/// Sends datagrams in superframes to a site behind a port with this line in its configuration.
fn datagrams_arrive(site: &str) {
    let text = config(AMS).replace("netns = \"ams\"\n", &format!("netns = \"ams\"\n{site}"));
    let rig = Rig::start_with(AMS, &text);
    for (from, to) in [("10.0.0.2", "10.1.0.2"), ("fd00::2", "fd00:1::2")] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let receiver = udp_socket(rig.site_netns("ams"), to);
        let sender = udp_socket(&rig.client, from);
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        set_udp_segment(&sender, 200);
        let mut number = 0_u32;
        for _ in 0..20 {
            let mut burst = vec![0; 30 * 200];
            for datagram in burst.chunks_mut(200) {
                datagram[..4].copy_from_slice(&number.to_be_bytes());
                number += 1;
            }
            sender.send(&burst).unwrap();
            let mut buffer = [0; 300];
            for expected in number - 30..number {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), 200);
                assert_eq!(buffer[..4], expected.to_be_bytes());
            }
        }
    }
    wait_for("counters", || {
        let port = port_named(&rig, "ams");
        let whole = port["packets_per_write"].as_f64()? > 2.0;
        (port["tx_packets"].as_u64()? >= 1200).then(|| assert_eq!(whole, site.is_empty()))
    });
}

#[test]
fn datagrams_in_superframes_arrive_each_alone_and_in_order() {
    in_namespaces_with(
        &[UdpSuperframes],
        "datagrams_in_superframes_arrive_each_alone_and_in_order",
        || {
            datagrams_arrive("");
        },
    );
}

#[test]
fn datagrams_in_superframes_are_sent_alone_where_the_port_asks_for_that() {
    in_namespaces("datagrams_in_superframes_are_sent_alone_where_the_port_asks_for_that", || {
        datagrams_arrive(NO_OFFLOADS);
    });
}

/// Small datagrams that wait for the router; returns how many were joined.
fn small_datagrams_arrive(join: bool) {
    let text = config(AMS)
        .replace("netns = \"ams\"\n", &format!("netns = \"ams\"\njoin = {join}\n"))
        .replace("workers = 2", "workers = 1");
    let rig = Rig::start_with(AMS, &text);
    let receiver = udp_socket(rig.site_netns("ams"), "10.1.0.2".parse::<IpAddr>().unwrap());
    let sender = udp_socket(&rig.client, "10.0.0.2".parse::<IpAddr>().unwrap());
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    for round in 0..20_u32 {
        // Packets sent while the router is stopped wait in the device's queue.
        rig.stand_still();
        for i in 0..40 {
            sender.send(&(round * 40 + i).to_be_bytes()).unwrap();
        }
        rig.go_on();
        for i in 0..40 {
            let mut number = [0; 8];
            assert_eq!(receiver.recv(&mut number).unwrap(), 4);
            assert_eq!(number[..4], (round * 40 + i).to_be_bytes());
        }
    }
    let joined = || {
        let all = rig.show("verdicts").into_iter();
        let of = all.filter(|verdict| verdict["verdict"] == "joined");
        of.map(|verdict| verdict["packets"].as_u64().unwrap()).sum::<u64>()
    };
    if join {
        wait_for("most to be joined", || (joined() > 600).then_some(()));
    } else {
        assert_eq!(joined(), 0);
    }
}

#[test]
fn small_datagrams_are_joined_and_arrive_each_alone_and_in_order() {
    in_namespaces_with(
        &[UdpSuperframes],
        "small_datagrams_are_joined_and_arrive_each_alone_and_in_order",
        || {
            small_datagrams_arrive(true);
        },
    );
}

#[test]
fn small_datagrams_stay_alone_where_the_port_asks_for_that() {
    in_namespaces("small_datagrams_stay_alone_where_the_port_asks_for_that", || {
        small_datagrams_arrive(false);
    });
}

/// Requests and answers, one at a time; returns the workers' statistics of waiting.
fn ask_and_answer(busy_poll: &str) -> (u64, u64) {
    let text = config(AMS).replace("workers = 2\n", &format!("workers = 2\n{busy_poll}"));
    let rig = Rig::start_with(AMS, &text);
    let client = udp_socket(&rig.client, "10.0.0.2".parse::<IpAddr>().unwrap());
    let site = udp_socket(rig.site_netns("ams"), "10.1.0.2".parse::<IpAddr>().unwrap());
    client.connect(site.local_addr().unwrap()).unwrap();
    for number in 0..500_u32 {
        client.send(&number.to_be_bytes()).unwrap();
        let mut buffer = [0; 8];
        let (len, from) = site.recv_from(&mut buffer).unwrap();
        site.send_to(&buffer[..len], from).unwrap();
        client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..4], number.to_be_bytes());
    }
    let top = rig.nearhop(&["top", "--count", "1", "--interval", "0.1", "--json"]);
    assert!(top.status.success(), "{}", String::from_utf8_lossy(&top.stderr));
    let top: Value = serde_json::from_slice(&top.stdout).unwrap();
    assert_eq!(top["schema"], "nearhop.top.v1");
    let ports = top["items"].as_array().unwrap().iter().filter(|item| item["of"] == "port");
    assert_eq!(ports.map(|port| port["name"].clone()).collect::<Vec<_>>().len(), 2);
    // Counters are copied out every 10 ms while packets flow; the checks' packets suffice.
    wait_for("counters", || {
        let workers = rig.show("workers");
        let sum = |key: &str| workers.iter().map(|w| w[key].as_u64().unwrap()).sum::<u64>();
        (sum("sleeps") + sum("found_awake") > 500).then(|| (sum("found_awake"), sum("busy_ms")))
    })
}

#[test]
fn a_worker_that_may_look_is_found_awake() {
    in_namespaces("a_worker_that_may_look_is_found_awake", || {
        let (found, busy_ms) = ask_and_answer("busy-poll = \"10ms\"\n");
        assert!(found > 300 && busy_ms > 0, "{found} found awake, {busy_ms} ms of looking");
    });
}

#[test]
fn a_worker_that_may_not_look_sleeps() {
    in_namespaces("a_worker_that_may_not_look_sleeps", || {
        assert_eq!(ask_and_answer(""), (0, 0));
    });
}
