//! Connections between link-local addresses, which two links may have alike.

use super::*;

const US: &str = "fe80::1";
const THEM: &str = "fe80::2";

/// What the host sends by the ports it names, for a segment by a port.
fn segment(
    host: &mut Host,
    port: PortId,
    from: u16,
    seq: u32,
    ack: u32,
    flags: u8,
) -> Vec<Outgoing> {
    host.handle_packet(Nanos::ZERO, port, &tcp(THEM, US, (from, 179), seq, ack, flags));
    host.poll(Nanos::ZERO);
    std::iter::from_fn(|| host.poll_transmit()).collect()
}

/// Sequence number that a segment begins with.
fn seq_of(out: &Outgoing) -> u32 {
    u32::from_be_bytes(parts(&out.packet).3[4..8].try_into().unwrap())
}

#[test]
fn a_connection_belongs_to_the_port_that_it_came_in_by() {
    let mut host = host(&[US]);
    let listener = host.tcp_listen(Some(addr(US)), 179, TcpOptions::default()).unwrap();
    for (port, from) in [(PORT, 5_000), (OTHER, 5_001)] {
        let out = segment(&mut host, port, from, 7, 0, 2);
        assert_eq!((out.len(), out[0].by), (1, Some(port)), "SYN and acknowledgement");
        let ack = seq_of(&out[0]).wrapping_add(1);
        let wrong = if port == PORT { OTHER } else { PORT };
        // Until it is open, and once it is, the other port's segments are others'.
        segment(&mut host, wrong, from, 8, ack, 16);
        assert!(host.tcp_accept(listener).is_none());
        segment(&mut host, port, from, 8, ack, 16);
        let (socket, remote) = host.tcp_accept(listener).unwrap();
        assert_eq!((remote.ip(), host.tcp_port(socket)), (addr(THEM), Some(port)));
        segment(&mut host, wrong, from, 8, ack, 4);
        assert!(matches!(host.tcp_progress(socket), Some(Progress::Open(_))), "no reset of it");
        host.tcp_send(socket, b"x").unwrap();
        host.poll(Nanos::ZERO);
        let out: Vec<_> = std::iter::from_fn(|| host.poll_transmit()).collect();
        assert!(out.iter().all(|out| out.by == Some(port)), "{out:?}");
        assert!(!out.is_empty());
    }
    assert_eq!(host.stats().wrong_port, 4);
}

/// An answer that is sent again has no packet that it answers.
#[test]
fn an_answer_that_is_repeated_leaves_by_the_same_port() {
    let mut host = host(&[US]);
    host.tcp_listen(Some(addr(US)), 179, TcpOptions::default()).unwrap();
    segment(&mut host, OTHER, 5_000, 7, 0, 2);
    host.poll(ms(3_000));
    let out: Vec<_> = std::iter::from_fn(|| host.poll_transmit()).collect();
    assert_eq!((out.len(), out[0].by), (1, Some(OTHER)));
}

#[test]
fn what_a_pinned_connection_to_a_link_local_address_sends_and_takes_is_of_its_port() {
    let mut host = host(&[US]);
    let exit = Exit { adjacency: AdjacencyId(3), port: OTHER };
    let options = TcpOptions { pin: Some(exit), port: Some(40_000), ..TcpOptions::default() };
    let remote = SocketAddr::new(addr(THEM), 179);
    let socket = host.tcp_connect(addr(US), remote, options).unwrap();
    host.poll(Nanos::ZERO);
    let out = host.poll_transmit().unwrap();
    assert_eq!((out.pin, host.tcp_port(socket)), (Some(exit), Some(OTHER)));
    let ack = seq_of(&out).wrapping_add(1);
    let answer = tcp(THEM, US, (179, 40_000), 9, ack, 18);
    host.handle_packet(Nanos::ZERO, PORT, &answer);
    host.poll(Nanos::ZERO);
    assert_eq!(host.tcp_progress(socket), Some(Progress::Opening));
    host.handle_packet(Nanos::ZERO, OTHER, &answer);
    host.poll(Nanos::ZERO);
    assert!(matches!(host.tcp_progress(socket), Some(Progress::Open(_))));
}

/// More than a backlog has: what is forgotten is not accepted, whoever's port it would count by.
#[test]
fn a_flood_of_connections_costs_none_its_port() {
    let mut host = host(&[US]);
    let options = TcpOptions { backlog: 100, ..TcpOptions::default() };
    let listener = host.tcp_listen(Some(addr(US)), 179, options).unwrap();
    let mut acks = Vec::new();
    for from in 5_000..5_090 {
        let out = segment(&mut host, PORT, from, 7, 0, 2);
        acks.push((from, seq_of(&out[0]).wrapping_add(1)));
    }
    for (from, ack) in acks {
        segment(&mut host, PORT, from, 8, ack, 16);
    }
    let mut accepted = 0;
    for _ in 0..100 {
        if let Some((socket, _)) = host.tcp_accept(listener) {
            assert_eq!(host.tcp_port(socket), Some(PORT));
            accepted += 1;
        }
    }
    assert_eq!(accepted, 64);
}
