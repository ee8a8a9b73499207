use nearhop::ids::Family;
use proptest::prelude::*;

use super::*;
use crate::measure::testing::{LEG_NS, answered, failover, lost, trace};

const MS: u64 = 1_000_000;

fn window(start_us: u64, fault_us: u64, end_us: u64) -> Window {
    Window { start_ns: start_us * 1_000, fault_ns: fault_us * 1_000, end_ns: end_us * 1_000 }
}

fn measure(probes: Vec<Probe>, window: Window) -> FlowResult {
    measure_flow(3, &trace(Family::Ipv4, probes), window)
}

#[test]
fn without_loss_there_is_no_outage_and_the_resolution_is_the_interval() {
    let result = measure(failover(50, 1_000, 20_000, 20_000), window(0, 20_000, 50_000));
    for outage in [result.to_site.outage, result.to_client.outage] {
        assert_eq!((outage.length_ns, outage.resolution_ns, outage.open), (0, MS, false));
    }
    assert_eq!((result.sent, result.lost), (50, 0));
    assert_eq!(result.site_before.as_deref(), Some("fra"));
    assert_eq!(result.site_after.as_deref(), Some("ams"));
    assert_eq!(result.first_on_new_ns, Some(20 * MS + LEG_NS));
    assert_eq!(result.changes.len(), 1);
    assert_eq!(result.changes[0].flow, 3);
}

#[test]
fn a_failover_costs_the_lost_probes() {
    // Sent at 20..=29 ms in vain: ten lost, arrivals 11 ms apart, less one interval.
    let result = measure(failover(50, 1_000, 20_000, 30_000), window(0, 20_000, 50_000));
    assert_eq!(result.lost, 10);
    assert_eq!(result.outage().length_ns, 10 * MS);
    assert_eq!(result.outage().from_ns, 19 * MS + LEG_NS);
    assert_eq!(result.outage().to_ns, 30 * MS + LEG_NS);
    assert!(!result.is_open());
}

#[test]
fn a_gap_before_the_fault_does_not_count() {
    let mut probes = failover(50, 1_000, 30_000, 32_000);
    for probe in &mut probes[5..15] {
        probe.arrival = None;
    }
    assert_eq!(measure(probes, window(0, 30_000, 50_000)).outage().length_ns, 2 * MS);
}

#[test]
fn a_flow_that_never_comes_back_is_open_in_both_directions() {
    let result = measure(failover(50, 1_000, 20_000, 90_000), window(0, 20_000, 50_000));
    assert!(result.to_site.outage.open && result.to_client.outage.open && result.is_open());
    assert_eq!(result.first_on_new_ns, None);
    // From the arrival of the probe sent at 19 ms to the last one sent, at 49 ms.
    assert_eq!(result.to_site.outage.length_ns, 30 * MS - LEG_NS - MS / 2);
}

#[test]
fn one_probe_lost_at_the_very_end_is_no_open_outage() {
    let mut probes = failover(50, 1_000, 20_000, 30_000);
    probes[49].arrival = None;
    let result = measure(probes, window(0, 20_000, 50_000));
    assert!(!result.is_open());
    assert_eq!(result.lost, 11);
}

#[test]
fn the_directions_are_measured_apart() {
    let mut probes = failover(50, 1_000, 20_000, 20_000);
    // Echoes 25..30 wait somewhere on their way back, until 40 ms.
    for probe in &mut probes[25..30] {
        probe.arrival.as_mut().unwrap().client_ns = 40 * MS;
    }
    for probe in &mut probes[30..40] {
        probe.arrival = None;
    }
    let result = measure(probes, window(0, 20_000, 50_000));
    assert_eq!(result.to_site.outage.length_ns, 10 * MS);
    assert_eq!(result.to_client.outage.length_ns, 40 * MS - (24 * MS + 2 * LEG_NS) - MS);
}

#[test]
fn a_late_sender_makes_no_outage_but_shows_in_the_resolution() {
    // Nothing was sent between 20 and 27 ms, then every 2 ms; nothing was lost.
    let mut probes: Vec<_> = (0..=20).map(|seq| answered(seq, seq * 1_000, 0)).collect();
    probes.extend((21..40).map(|seq| answered(seq, 27_000 + (seq - 21) * 2_000, 0)));
    // What stays is one echo that came 30 us late, right after the pause.
    let late = probes[21].arrival.as_mut().unwrap();
    (late.server_ns, late.client_ns) = (late.server_ns + 30_000, late.client_ns + 30_000);
    let outage = measure(probes, window(0, 15_000, 90_000)).outage();
    assert_eq!((outage.length_ns, outage.resolution_ns), (30_000, 7 * MS));
}

#[test]
fn a_pause_of_the_sender_inside_an_outage_takes_nothing_off() {
    let mut probes = failover(50, 1_000, 20_000, 30_000);
    probes.drain(22..28);
    for (probe, seq) in probes.iter_mut().zip(0..) {
        probe.seq = seq;
    }
    let outage = measure(probes, window(0, 20_000, 50_000)).outage();
    assert_eq!((outage.length_ns, outage.resolution_ns), (10 * MS, MS));
}

#[test]
fn reordered_arrivals_are_counted_as_rfc_4737_does() {
    // (arrival order of sequence numbers, expected): the examples follow section 3.3.
    let cases: [(&[u64], u64); 5] = [
        (&[0, 1, 2, 3, 4], 0),
        (&[0, 2, 1, 3, 4], 1),
        (&[1, 2, 3, 4, 0], 1),
        (&[4, 0, 1, 2, 3], 4),
        (&[4, 3, 2, 1, 0], 4),
    ];
    for (order, expected) in cases {
        let mut probes: Vec<_> = (0..5).map(|seq| answered(seq, seq * 1_000, 0)).collect();
        for (place, seq) in order.iter().enumerate() {
            let arrival = probes[*seq as usize].arrival.as_mut().unwrap();
            arrival.client_ns = 10 * MS + place as u64;
        }
        let result = measure(probes, window(0, 0, 20_000));
        assert_eq!(result.to_client.reordered, expected, "{order:?}");
        assert_eq!(result.to_site.reordered, 0, "{order:?}");
    }
}

#[test]
fn a_detour_over_a_third_site_is_two_changes() {
    let sites = [0, 0, 2, 2, 1, 1];
    let probes = sites.iter().zip(0..).map(|(site, seq)| answered(seq, seq * 1_000, *site));
    let result = measure(probes.collect(), window(0, 2_000, 10_000));
    let moves: Vec<_> = result.changes.iter().map(|c| (c.from.as_str(), c.to.as_str())).collect();
    assert_eq!(moves, [("fra", "par"), ("par", "ams")]);
    assert_eq!(result.changes[0].t_ns, 2 * MS + LEG_NS);
    assert_eq!(result.changes[0].after_ns, MS);
}

#[test]
fn no_probe_and_no_answer_give_no_figure() {
    let empty = measure(Vec::new(), window(0, 1, 2));
    assert_eq!((empty.sent, empty.outage(), empty.site_before), (0, Outage::default(), None));
    let silent = measure((0..9).map(|seq| lost(seq, seq)).collect(), window(0, 1, 20));
    assert_eq!((silent.sent, silent.lost, silent.is_open()), (9, 9, true));
}

/// What the outage is, as slowly and plainly as can be: any two arrivals with none between them,
/// less the mean of the sending intervals after the one and before the other.
fn slow_outage(probes: &[Probe], fault_ns: u64, direction: Direction) -> u64 {
    let sent = |seq: u64| probes.iter().find(|probe| probe.seq == seq).map(|probe| probe.sent_ns);
    let mut ends: Vec<(u64, u64, u64)> = vec![(probes[0].sent_ns, 0, 0)];
    for probe in probes {
        let Some(arrival) = &probe.arrival else { continue };
        let before = probe.seq.checked_sub(1).and_then(sent).map_or(0, |s| probe.sent_ns - s);
        let after = sent(probe.seq + 1).map_or(0, |s| s - probe.sent_ns);
        ends.push((direction.time(arrival), before, after));
    }
    let last = probes.last().unwrap();
    if last.arrival.is_none() && ends.iter().all(|end| end.0 < last.sent_ns) {
        ends.push((last.sent_ns, 0, 0));
    }
    let mut longest = 0;
    for (from, _, after) in &ends {
        for (to, before, _) in &ends {
            let between = ends.iter().any(|(t, _, _)| t > from && t < to);
            if to > from && *to > fault_ns && !between {
                longest = longest.max((to - from).saturating_sub((after + before) / 2));
            }
        }
    }
    longest
}

fn slow_reordered(probes: &[Probe], direction: Direction) -> u64 {
    let time = |p: &Probe| p.arrival.as_ref().map(|a| (direction.time(a), p.seq));
    let overtaken = |late: &&Probe| {
        probes.iter().any(|other| {
            other.seq > late.seq && time(other).is_some_and(|t| time(late).is_some_and(|l| t < l))
        })
    };
    probes.iter().filter(overtaken).count() as u64
}

prop_compose! {
    fn arbitrary_probes()(
        steps in proptest::collection::vec(
            (1u64..3_000, proptest::option::weighted(0.7, (1u64..5_000, 1u64..5_000, 0u16..3)), 0u16..2),
            1..60,
        )
    ) -> Vec<Probe> {
        let mut now = 1_000;
        steps.into_iter().zip(0..).map(|((step, answer, duplicates), seq)| {
            now += step;
            let arrival = answer.map(|(there, back, site)| Arrival {
                // All arrivals differ, so that their order is no matter of taste.
                server_ns: (now + there) * 64 + seq,
                client_ns: (now + there + back) * 64 + seq,
                site,
            });
            Probe { seq, sent_ns: now * 64, arrival, duplicates }
        }).collect()
    }
}

proptest! {
    #[test]
    fn any_pattern_of_loss_and_delay_agrees_with_the_slow_model(
        probes in arbitrary_probes(), fault_ns in 0u64..6_400_000,
    ) {
        let window = Window { start_ns: 0, fault_ns, end_ns: u64::MAX };
        let trace = trace(Family::Ipv6, probes.clone());
        let result = measure_flow(0, &trace, window);
        for (direction, found) in
            [(Direction::ToSite, result.to_site), (Direction::ToClient, result.to_client)]
        {
            let slow = slow_outage(&probes, fault_ns, direction);
            prop_assert_eq!(found.outage.length_ns, slow);
            prop_assert_eq!(found.reordered, slow_reordered(&probes, direction));
        }
        prop_assert_eq!(result.sent, probes.len() as u64);
        prop_assert_eq!(result.lost, probes.iter().filter(|p| p.arrival.is_none()).count() as u64);
        let answering: Vec<u16> =
            probes.iter().filter_map(|p| p.arrival).map(|arrival| arrival.site).collect();
        let changes = answering.windows(2).filter(|pair| pair[0] != pair[1]).count();
        prop_assert_eq!(result.changes.len(), changes);
    }
}
