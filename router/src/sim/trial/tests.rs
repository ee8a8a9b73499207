use std::collections::BTreeSet;

use super::*;
use crate::put_back::{PutBack, for_tests};
use crate::sim::{CarrierNews, FlowId, Revisit};

const PEERS: Option<NetShape> = Some(NetShape::Peers);

#[test]
fn the_same_seed_gives_the_same_story() {
    for shape in [None, PEERS] {
        let story = |seed| run(seed, Options { shape, ..Options::default() }).story;
        let first = story(3);
        assert!(first.len() > 100, "{}", first.len());
        assert_eq!(first, story(3));
        assert_ne!(first, story(4));
    }
}

#[test]
fn seeds_draw_every_shape_every_size_and_every_fault() {
    let outcomes: Vec<TrialResult> = (1..=40).map(|seed| run(seed, Options::default())).collect();
    let shapes: BTreeSet<NetShape> = outcomes.iter().map(|one| one.shape).collect();
    assert_eq!(shapes, NetShape::ALL.into());
    let sizes: BTreeSet<usize> = outcomes.iter().map(|one| one.routers).collect();
    assert_eq!(sizes, (2..=6).collect());
    let faults: BTreeSet<FaultKind> =
        outcomes.iter().flat_map(|one| one.faults.keys().copied()).collect();
    assert_eq!(faults, FaultKind::ALL.into());
    for invariant in Invariant::ALL {
        let checked: u64 = outcomes.iter().map(|one| one.checked[&invariant]).sum();
        assert!(checked > 100, "{checked} {} for {}", invariant.unit(), invariant.label());
    }
}

#[test]
fn each_invariant_that_is_broken_is_noticed_as_itself() {
    for invariant in Invariant::ALL {
        // In a circle whose sites all die, packets also loop.
        let shape = match invariant {
            Invariant::Announce | Invariant::Bfd | Invariant::Learn | Invariant::Withdraw => {
                NetShape::Peers
            }
            _ => NetShape::Chain,
        };
        let options = Options { spoil: Some(invariant), shape: Some(shape) };
        let broken = |seed| -> BTreeSet<Invariant> {
            run(seed, options).breaches.iter().map(|breach| breach.invariant).collect()
        };
        // With some seeds one site is left, which is both the most and the least expensive.
        let first = (1..=20).map(broken).find(|broken| broken.contains(&invariant));
        let first = first.unwrap_or_else(|| panic!("{} is not noticed", invariant.label()));
        // A dead site, or one at the end of a loop, serves nobody.
        let follows = [invariant, Invariant::BlackHole, Invariant::Site];
        assert!(first.iter().all(|one| follows.contains(one)), "{}: {first:?}", invariant.label());
    }
}

/// Some trial notices the fault by one of these invariants, which hold in it without the fault.
fn is_caught(fault: PutBack, by: &[Invariant]) {
    is_caught_in(None, fault, by);
}

/// As [`is_caught`], in networks of one shape; all that is broken in that trial.
fn is_caught_in(shape: Option<NetShape>, fault: PutBack, by: &[Invariant]) -> Vec<Breach> {
    let options = Options { shape, ..Options::default() };
    let broken = |seed: u64| {
        let breaches = for_tests::with(fault, || run(seed, options)).breaches;
        let is_caught = breaches.iter().any(|breach| by.contains(&breach.invariant));
        is_caught.then_some((seed, breaches))
    };
    let (seed, breaches) =
        (1..=1000).find_map(broken).unwrap_or_else(|| panic!("{fault:?} is not caught"));
    eprintln!("{fault:?}: seed {seed}");
    let without = run(seed, options).breaches;
    assert_eq!(without, [], "{fault:?}: seed {seed} breaks without it too");
    breaches
}

#[test]
fn news_of_a_carrier_that_is_older_than_the_port_are_caught() {
    is_caught(PutBack::CarrierOlderThanPort, &[Invariant::Carrier]);
}

#[test]
fn a_full_lane_that_loses_is_caught() {
    is_caught(PutBack::FullLaneLoses, &[Invariant::BlackHole, Invariant::Site]);
}

#[test]
fn groups_that_change_in_place_under_moving_prefixes_are_caught() {
    is_caught(PutBack::GroupInPlace, &[Invariant::Answer]);
}

#[test]
fn verdicts_about_checks_that_are_no_more_are_caught() {
    is_caught(PutBack::OldVerdicts, &[Invariant::BlackHole, Invariant::Site]);
}

#[test]
fn checks_that_are_silent_while_answers_lie_unread_are_caught() {
    is_caught(PutBack::SilentWhileUnread, &[Invariant::Alarm, Invariant::Cause]);
}

#[test]
fn what_was_announced_in_an_earlier_session_alone_is_caught() {
    is_caught_in(PEERS, PutBack::AnnouncedBefore, &[Invariant::Learn]);
}

#[test]
fn routes_of_a_dead_session_are_caught() {
    is_caught_in(PEERS, PutBack::DeadSessionStays, &[Invariant::Withdraw]);
}

#[test]
fn a_session_that_begins_between_two_looks_is_caught() {
    is_caught_in(PEERS, PutBack::StateUnnoticed, &[Invariant::Learn]);
}

#[test]
fn an_ill_service_that_stays_announced_is_caught() {
    is_caught_in(PEERS, PutBack::IllStaysAnnounced, &[Invariant::Announce]);
}

/// Whatever moved by it moved with a reason, and was back in time: what BFD alone is asked shows the fault.
#[test]
fn intervals_that_count_before_they_are_confirmed_are_caught_by_bfd_alone() {
    let breaches = is_caught_in(PEERS, PutBack::IntervalsUnconfirmed, &[Invariant::Bfd]);
    let others: Vec<&Breach> =
        breaches.iter().filter(|breach| breach.invariant != Invariant::Bfd).collect();
    assert_eq!(others, Vec::<&Breach>::new());
}

/// All sites die silently, and each router falls back on the next until it has missed enough
/// answers. Between two routers the rule against U-turns prevents a loop; three form one.
#[test]
fn a_transient_loop_is_counted_and_ends_in_time() {
    let (died, world) = all_sites_die(NetShape::Circle);
    let loops = judge::loops(world.net.revisits());
    let [one] = &loops[..] else { panic!("{loops:?}") };
    // Routers give up their own sites after three echoes, 20 ms apart, and the other router after four, 40 ms
    // apart. That one is doubted first, for as long as seven of these take, as it is the second that dies at once.
    let ms = Duration::from_millis;
    assert!(
        one.from > died + ms(40) && one.to < died + ms(160 + 280 + 40),
        "{one:?}, died at {died}"
    );
    assert!(one.lasted() > ms(20) && one.returns > 60, "{one:?}: a packet alone gives 60");
    let expired = |node| world.net.node(node).counters().of(crate::verdict::Verdict::TtlExpired);
    assert!((0..3).map(expired).sum::<u64>() > 0, "a packet ends by its TTL");

    let (_, world) = all_sites_die(NetShape::Pair);
    assert_eq!(world.net.revisits(), []);
}

/// The time of death, and the world after that was detected and every loop has ended.
fn all_sites_die(shape: NetShape) -> (Nanos, World) {
    let mut rng = Rng::new(1);
    let layout = Layout::draw(&mut rng, Some(shape));
    let mut world = World::new(1, layout, rng).unwrap();
    world.run_for(WARM_UP).unwrap();
    world.start_flows();
    world.run_for(Duration::from_millis(300)).unwrap();
    assert_eq!(world.net.revisits(), [], "no loop as long as the sites live");
    let died = world.net.now();
    (0..world.layout.sites.len()).for_each(|site| world.set_power(site, Power::Off));
    world.run_for(budget(shape, world.layout.routers())).unwrap();
    let judged = world.net.now();
    world.run_for(Duration::from_millis(300)).unwrap();
    assert!(world.net.revisits().iter().all(|at| at.t < judged));
    (died, world)
}

#[test]
fn transient_loops_are_reported_apart_by_the_time_between_them() {
    let at = |ms: u64| Revisit { t: Nanos(ms * 1_000_000), flow: FlowId(0), node: 0 };
    let found = judge::loops(&[at(10), at(20), at(60), at(120)]);
    let lasted: Vec<_> = found.iter().map(|one| (one.lasted().as_millis(), one.returns)).collect();
    assert_eq!(lasted, [(50, 3), (0, 1)]);
}

/// A network written by hand: r0 - r1 - r2, one site behind r1 and one behind r2. For their first service r0 and
/// r1 prefer the farther one, for their second, if there is one, the nearer.
fn by_hand(services: usize) -> Layout {
    let leg = |to, cost| Leg { to, cost };
    let of = |legs: &dyn Fn(usize) -> Vec<Leg>| (0..services).map(legs).collect();
    let costs = [[10, 20], [20, 10]];
    Layout {
        shape: NetShape::Chain,
        legs: vec![
            of(&|_| vec![leg(LegTarget::Trunk(0), 10)]),
            of(&|service| {
                let [far, near] = costs[service];
                vec![leg(LegTarget::Trunk(1), far), leg(LegTarget::Site(0), near)]
            }),
            of(&|_| vec![leg(LegTarget::Site(1), 10)]),
        ],
        homes: vec![[0, services - 1, 0]; 3],
        trunks: vec![[0, 1], [1, 2]],
        sites: vec![1, 2],
        clients: vec![0, 2],
        every_ms: vec![20; 3],
        falls: vec![3; 3],
        over_tcp: vec![false; 2],
        plugs: vec![0; 2],
        speaks: Vec::new(),
    }
}

#[test]
fn the_oracle_looks_up_the_service_of_an_address() {
    let mut world = World::new(1, by_hand(2), Rng::new(1)).unwrap();
    let says = |world: &World| {
        let of_client = Judge::new(None).expected(world).remove(0);
        of_client.map(|sites| sites.into_iter().collect::<String>())
    };
    assert_eq!(says(&world), ["s1", "s0", "s1"]);
    world.layout.homes[1] = [1, 0, 0];
    assert_eq!(says(&world), ["s0", "s1", "s1"]);
    world.set_power(1, Power::Off);
    world.run_for(Duration::from_millis(1)).unwrap();
    assert_eq!(says(&world), ["s0", "s0", "s0"]);
}

#[test]
fn a_site_is_served_by_the_port_that_its_cable_is_in() {
    let mut world = World::new(1, by_hand(1), Rng::new(1)).unwrap();
    world.run_for(WARM_UP).unwrap();
    world.start_flows();
    for _ in 0..2 {
        rush::replug_site(&mut world, 1).unwrap();
        world.run_for(budget(NetShape::Chain, 3)).unwrap();
        let mut judge = Judge::new(None);
        let (expected, since) = (judge.expected(&world), world.net.now());
        assert_eq!(expected[0][0], BTreeSet::from(["s1".to_owned()]));
        world.run_for(JUDGED).unwrap();
        judge.converged(&world, since, &expected);
        assert_eq!(judge.breaches, []);
    }
    let ports: Vec<String> =
        world.net.node(2).control().ports().map(|port| port.name().to_owned()).collect();
    assert_eq!(ports, ["c1", "r1", "s1-2"]);
    let of_old = |one: &&CarrierNews| one.port == "s1" && !one.up;
    assert_eq!(world.net.carrier_news().iter().filter(of_old).count(), 1);
}

#[test]
fn the_oracle_follows_costs_links_drains_and_the_way_back() {
    let mut world = World::new(1, by_hand(1), Rng::new(1)).unwrap();
    let mut says = |change: &mut dyn FnMut(&mut World)| {
        change(&mut world);
        world.run_for(Duration::from_millis(1)).unwrap();
        let expected = Judge::new(None).expected(&world);
        let names: Vec<Vec<&str>> =
            expected.iter().map(|sites| sites[0].iter().map(String::as_str).collect()).collect();
        format!("{names:?}")
    };
    let both = r#"[["s1"], ["s1"]]"#;
    assert_eq!(says(&mut |_| ()), both);
    let drained = (2, "s1".to_owned());
    assert_eq!(says(&mut |w| w.drained.extend([drained.clone()])), both, "it is all r2 has");
    assert_eq!(says(&mut |w| w.set_power(1, Power::ServerDead)), r#"[["s0"], []]"#);
    assert_eq!(says(&mut |w| w.set_power(1, Power::On)), both);
    let cut = |w: &mut World| w.set_link(w.trunk_links[1], LinkState::Silent);
    assert_eq!(says(&mut { cut }), r#"[["s0"], ["s1"]]"#);
    let first = |w: &mut World| w.set_link(w.trunk_links[0], LinkState::Down);
    assert_eq!(says(&mut { first }), r#"[[], ["s1"]]"#);
}
