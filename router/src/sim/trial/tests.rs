use std::collections::BTreeSet;

use super::*;
use crate::put_back::{PutBack, for_tests};
use crate::sim::{FlowId, Revisit};

#[test]
fn the_same_seed_gives_the_same_story() {
    let story = |seed| run(seed, Options::default()).story;
    let first = story(3);
    assert!(first.len() > 100, "{}", first.len());
    assert_eq!(first, story(3));
    assert_ne!(first, story(4));
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
        let options = Options { spoil: Some(invariant), shape: Some(NetShape::Chain) };
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

/// Each is caught by an invariant that holds without it, by the first of these seeds that catches it.
#[test]
fn mended_faults_that_are_put_back_are_caught() {
    let sound = |seed| run(seed, Options::default()).breaches.is_empty();
    for (fault, by) in [
        (PutBack::SilentWhileUnread, vec![Invariant::Alarm, Invariant::Cause]),
        (PutBack::FullLaneLoses, vec![Invariant::BlackHole, Invariant::Site]),
    ] {
        let broken = |seed: &u64| {
            let outcome = for_tests::with(fault, || run(*seed, Options::default()));
            outcome.breaches.iter().any(|breach| by.contains(&breach.invariant))
        };
        let seed = (1..=1000).find(broken);
        let seed = seed.unwrap_or_else(|| panic!("{fault:?} is not caught"));
        eprintln!("{fault:?}: seed {seed}");
        assert!(sound(seed), "{fault:?}: seed {seed} breaks without it too");
    }
}

/// All sites die silently, and each router falls back on the next until it has missed enough
/// answers. Between two routers the rule against U-turns prevents a loop; three form one.
#[test]
fn a_transient_loop_is_counted_and_ends_in_time() {
    let (died, world) = all_sites_die(NetShape::Circle);
    let loops = judge::loops(world.net.revisits());
    let [one] = &loops[..] else { panic!("{loops:?}") };
    // Routers give up their own sites after three echoes, 20 ms apart, and the other router after
    // four, 40 ms apart.
    let ms = Duration::from_millis;
    assert!(one.from > died + ms(40) && one.to < died + ms(160 + 40), "{one:?}, died at {died}");
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
    world.run_for(budget(world.layout.routers())).unwrap();
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

/// The oracle on a network written by hand: r0 - r1 - r2, one site behind r1 and one behind r2. r0
/// and r1 prefer the farther one.
#[test]
fn the_oracle_follows_costs_links_drains_and_the_way_back() {
    let leg = |to, cost| Leg { to, cost };
    let layout = Layout {
        shape: NetShape::Chain,
        legs: vec![
            vec![leg(LegTarget::Trunk(0), 10)],
            vec![leg(LegTarget::Trunk(1), 10), leg(LegTarget::Site(0), 20)],
            vec![leg(LegTarget::Site(1), 10)],
        ],
        trunks: vec![[0, 1], [1, 2]],
        sites: vec![1, 2],
        clients: vec![0, 2],
        every_ms: vec![20; 3],
        over_tcp: vec![false; 3],
    };
    let mut world = World::new(1, layout, Rng::new(1)).unwrap();
    let mut says = |change: &mut dyn FnMut(&mut World)| {
        change(&mut world);
        world.run_for(Duration::from_millis(1)).unwrap();
        let expected = Judge::new(None).expected(&world);
        let names: Vec<Vec<&str>> =
            expected.iter().map(|sites| sites.iter().map(String::as_str).collect()).collect();
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
