//! Router discovery by a fake clock.

use nearhop_fib::AdjacencyId;

use super::*;

const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const PORT: PortId = PortId(7);

fn link(listens: bool) -> DiscoveryLink {
    let exit = Exit { adjacency: AdjacencyId(3), port: PORT };
    DiscoveryLink { exit, address: OWN, listens }
}

fn discovery(listens: bool) -> RouterDiscovery {
    let mut discovery = RouterDiscovery::new(5);
    discovery.set_links(Nanos::ZERO, &[link(listens)]);
    discovery
}

/// What is sent until then, each with its time; the timers alone decide when.
fn run(discovery: &mut RouterDiscovery, from: Nanos, until: Nanos) -> Vec<(Nanos, Discovery)> {
    let mut sent = Vec::new();
    let mut now = from;
    loop {
        discovery.handle_timeout(now);
        while let Some((exit, packet)) = discovery.poll_transmit() {
            assert_eq!(exit, link(true).exit);
            sent.push((now, Discovery::parse(&packet).unwrap().unwrap()));
        }
        match discovery.poll_timeout() {
            Some(next) if next <= until => now = now.max(next),
            _ => return sent,
        }
    }
}

fn advertisements(sent: &[(Nanos, Discovery)]) -> Vec<Nanos> {
    let of = sent.iter().filter(|(_, what)| *what == Discovery::Advertisement(OWN));
    of.map(|(at, _)| *at).collect()
}

fn seconds(seconds: u64) -> Nanos {
    Nanos::ZERO + Duration::from_secs(seconds)
}

#[test]
fn it_advertises_at_once_then_early_then_at_its_interval() {
    let mut discovery = discovery(false);
    let times = advertisements(&run(&mut discovery, Nanos::ZERO, seconds(600)));
    assert_eq!(times[0], Nanos::ZERO);
    let gaps: Vec<Duration> = times.windows(2).map(|two| two[1].since(two[0])).collect();
    assert!(gaps[..2].iter().all(|gap| *gap <= INITIAL_INTERVAL_MAX), "{gaps:?}");
    assert!(gaps.iter().all(|gap| (INTERVAL_MIN..=INTERVAL_MAX).contains(gap)), "{gaps:?}");
    let distinct: BTreeSet<Duration> = gaps[2..].iter().copied().collect();
    assert!(distinct.len() > 20, "they are drawn: {gaps:?}");
}

#[test]
fn a_solicitation_is_answered_soon_and_many_of_them_no_more_often() {
    let mut discovery = discovery(false);
    let start = seconds(100);
    run(&mut discovery, Nanos::ZERO, start);
    let mut sent = Vec::new();
    let mut now = start;
    // Ten a second for a minute.
    for _ in 0..600 {
        let asked = solicitation(OTHER);
        assert_eq!(discovery.handle_packet(now, PORT, &asked), Heard::Handled);
        let next = now + Duration::from_millis(100);
        sent.extend(advertisements(&run(&mut discovery, now, next)));
        now = next;
    }
    let gaps: Vec<Duration> = sent.windows(2).map(|two| two[1].since(two[0])).collect();
    assert!(gaps.iter().all(|gap| *gap >= BETWEEN_ADVERTISEMENTS_MIN), "{gaps:?}");
    let soon = BETWEEN_ADVERTISEMENTS_MIN + ANSWER_DELAY_MAX + Duration::from_millis(100);
    assert!(gaps.iter().all(|gap| *gap <= soon), "{gaps:?}");
}

#[test]
fn it_asks_a_few_times_for_a_neighbor_that_it_looks_for() {
    let asked = |listens| {
        let sent = run(&mut discovery(listens), Nanos::ZERO, seconds(60));
        sent.iter().filter(|(_, what)| *what == Discovery::Solicitation).count()
    };
    assert_eq!((asked(true), asked(false)), (SOLICITATIONS as usize, 0));

    let mut found = discovery(true);
    let heard = found.handle_packet(Nanos::ZERO, PORT, &advertisement(OTHER));
    assert_eq!(heard, Heard::Neighbor(OTHER));
    let sent = run(&mut found, Nanos::ZERO, seconds(60));
    assert!(sent.iter().all(|(_, what)| *what != Discovery::Solicitation), "it is known");
    assert_eq!(found.neighbors().collect::<Vec<_>>(), [(PORT, OTHER)]);
}

#[test]
fn only_valid_advertisements_of_others_on_links_that_listen_count() {
    let mut loud = discovery(true);
    let mut wrong = advertisement(OTHER);
    wrong[7] = 64;
    for packet in [wrong, advertisement(OWN)] {
        assert_eq!(loud.handle_packet(Nanos::ZERO, PORT, &packet), Heard::Handled);
    }
    assert_eq!(loud.stats(), DiscoveryStats { heard: 0, refused: 2 });
    let elsewhere = loud.handle_packet(Nanos::ZERO, PortId(8), &advertisement(OTHER));
    assert_eq!((elsewhere, loud.neighbors().count()), (Heard::Other, 0));
    assert_eq!(loud.handle_packet(Nanos::ZERO, PORT, b"E"), Heard::Other);

    let mut deaf = discovery(false);
    assert_eq!(deaf.handle_packet(Nanos::ZERO, PORT, &advertisement(OTHER)), Heard::Handled);
    assert_eq!((deaf.stats().heard, deaf.neighbors().count()), (0, 0));
}

#[test]
fn a_link_that_comes_back_is_told_at_once_and_one_that_stays_goes_on() {
    let mut discovery = discovery(true);
    discovery.handle_packet(Nanos::ZERO, PORT, &advertisement(OTHER));
    run(&mut discovery, Nanos::ZERO, seconds(30));
    discovery.set_carrier(seconds(30), PORT, false);
    assert_eq!(discovery.poll_timeout(), None, "nobody hears it");
    discovery.handle_timeout(seconds(90));
    assert_eq!(discovery.poll_transmit(), None);
    discovery.set_carrier(seconds(90), PORT, true);
    let sent = run(&mut discovery, seconds(90), seconds(90));
    assert_eq!(advertisements(&sent), [seconds(90)]);
    assert_eq!(discovery.neighbors().count(), 1, "the one that was there");

    let due = discovery.poll_timeout();
    discovery.set_links(seconds(90), &[link(true)]);
    assert_eq!(discovery.poll_timeout(), due, "the same link");
    discovery.set_links(seconds(90), &[link(false)]);
    assert_eq!(discovery.poll_timeout(), Some(seconds(90)), "another");
    assert_eq!(discovery.neighbors().count(), 0);
    discovery.set_links(seconds(90), &[]);
    assert_eq!(discovery.poll_timeout(), None);
}
