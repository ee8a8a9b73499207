//! Selection: who gets which flow, and who loses none when another dies.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};

use nearhop_fib::{
    ACCEPT_ALL, ACCEPT_NONE, AdjacencyId, FlowHash, FlowKey, Group, GroupId, Handle, Member,
    PathId, Reader, Reason, Selected, Spread, WhenDead, Writer, fib, name_key,
};
use proptest::prelude::*;

/// A group under test: sites by name, each with its links.
struct World {
    writer: Writer,
    handle: Handle,
    reader: Reader,
    /// Site, link, ids.
    legs: Vec<(&'static str, PathId, AdjacencyId)>,
    members: Vec<Member>,
}

impl World {
    fn new() -> Self {
        let (writer, handle) = fib(1);
        let reader = handle.reader().unwrap();
        Self { writer, handle, reader, legs: Vec::new(), members: Vec::new() }
    }

    /// A link of a site, which in its tier weighs as much as its links.
    fn link(&mut self, site: &'static str, port: u16, tier: u8, weight: u16) -> &mut Self {
        self.site_link(site, port, tier, weight);
        let of_site = |(member, leg): (&Member, &(&str, PathId, AdjacencyId))| {
            (leg.0 == site && member.tier == tier).then_some(member.link_weight)
        };
        let weight = self.members.iter().zip(&self.legs).filter_map(of_site).sum();
        for (member, leg) in self.members.iter_mut().zip(&self.legs) {
            if leg.0 == site && member.tier == tier {
                member.weight = weight;
            }
        }
        self
    }

    /// A link of weight `link_weight` of a site of weight 1.
    fn site_link(&mut self, site: &'static str, port: u16, tier: u8, link_weight: u16) {
        let adjacency = self.writer.add_adjacency(port, name_key(&format!("port{port}"))).unwrap();
        let path = self.writer.add_path(name_key(site), ACCEPT_ALL).unwrap();
        self.legs.push((site, path, adjacency));
        self.members.push(Member { path, adjacency, tier, weight: 1, link_weight });
    }

    /// Sites of a weight and so many links each, the first of weight 1, the next of 2 and so on.
    fn with_sites(sites: &[(&'static str, u16, u16)]) -> Self {
        let (mut world, mut port) = (Self::new(), 0);
        for &(site, weight, links) in sites {
            for link in 1..=links {
                port += 1;
                world.site_link(site, port, 0, link);
                world.members.last_mut().unwrap().weight = weight;
            }
        }
        world
    }

    fn group(&mut self, when_dead: WhenDead) -> GroupId {
        let members = self.members.clone();
        self.writer.add_group(&Group::Forward { members, when_dead, spread: Spread::Flow }).unwrap()
    }

    fn site_of(&self, selected: Selected) -> &'static str {
        let Selected::Member { path, .. } = selected else { return "nobody" };
        self.legs.iter().find(|leg| leg.1 == path).unwrap().0
    }

    /// Chosen alone, and as one of a batch, which is another code.
    fn select(&mut self, group: GroupId, flow: FlowHash) -> Selected {
        let online = self.reader.online();
        let selected = online.select(group, flow);
        let mut batch = [Selected::NoRoute; 2];
        online.select_batch(&[group; 2], |_, _| flow, &mut batch);
        assert_eq!(batch, [selected; 2]);
        selected
    }

    fn site(&mut self, group: GroupId, flow: FlowHash) -> &'static str {
        let selected = self.select(group, flow);
        self.site_of(selected)
    }

    fn path(&self, site: &str) -> PathId {
        self.legs.iter().find(|leg| leg.0 == site).unwrap().1
    }
}

fn flow(n: u64) -> FlowHash {
    FlowKey {
        src: u128::from(n),
        dst: 0xc633_6435,
        protocol: 17,
        src_port: n.wrapping_mul(7) as u16,
        dst_port: 53,
        label: 0,
    }
    .hash(42)
}

#[test]
fn the_cheapest_living_tier_serves_and_the_dead_are_passed_over() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("fra", 2, 1, 1).link("par", 3, 2, 1);
    let group = world.group(WhenDead::Unreachable);
    let (ams, fra, par) = (world.path("ams"), world.path("fra"), world.path("par"));
    assert_eq!(world.site(group, flow(1)), "ams");
    world.handle.set_path_down(ams, Reason::Probe);
    assert_eq!(world.site(group, flow(1)), "fra");
    let fra_link = world.legs[1].2;
    world.handle.set_adjacency_down(fra_link, Reason::Carrier);
    assert_eq!(world.site(group, flow(1)), "par");
    world.handle.set_path_down(par, Reason::Health);
    assert_eq!(world.select(group, flow(1)), Selected::AllDead { answer: true });
    world.handle.clear_adjacency_down(fra_link, Reason::Carrier);
    assert_eq!(world.site(group, flow(1)), "fra");
    // Another owner's reason does not revive it.
    world.handle.set_path_down(fra, Reason::Operator);
    world.handle.clear_path_down(fra, Reason::Probe);
    assert_eq!(world.site(group, flow(1)), "nobody");
}

#[test]
fn when_all_are_dead_each_policy_does_what_it_says() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1);
    let dead = world.path("ams");
    let groups = [WhenDead::Unreachable, WhenDead::Drop, WhenDead::FailOpen]
        .map(|when_dead| world.group(when_dead));
    let local = world.writer.add_group(&Group::Local).unwrap();
    let covered = world.group(WhenDead::Covering(local));
    let circle = world.group(WhenDead::Drop);
    let members = world.members.clone();
    world
        .writer
        .replace_group(
            circle,
            &Group::Forward {
                members,
                when_dead: WhenDead::Covering(circle),
                spread: Spread::Flow,
            },
        )
        .unwrap();
    world.handle.set_path_down(dead, Reason::Probe);
    let got = groups.map(|group| world.select(group, flow(1)));
    assert_eq!(got[0], Selected::AllDead { answer: true });
    assert_eq!(got[1], Selected::AllDead { answer: false });
    assert!(matches!(got[2], Selected::Member { .. }));
    assert_eq!(world.select(covered, flow(1)), Selected::Local);
    assert_eq!(world.select(circle, flow(1)), Selected::CoveringLoop);
    assert_eq!(world.select(GroupId::NONE, flow(1)), Selected::NoRoute);
}

/// Enough for 1 % to be four standard deviations.
const FLOWS: u64 = 1_000_000;

#[test]
fn the_spread_follows_the_weights_within_one_percent() {
    let mut world = World::new();
    world.link("ams", 1, 0, 3).link("fra", 2, 0, 2).link("par", 3, 0, 4).link("par", 4, 0, 1);
    let group = world.group(WhenDead::Drop);
    let mut share: BTreeMap<&str, u32> = BTreeMap::new();
    for n in 0..FLOWS {
        *share.entry(world.site(group, flow(n))).or_default() += 1;
    }
    for (site, want) in [("ams", 0.3), ("fra", 0.2), ("par", 0.5)] {
        let got = f64::from(share[site]) / FLOWS as f64;
        assert!((got - want).abs() < want * 0.01, "{site}: {got} instead of {want}");
    }
}

#[test]
fn a_site_gets_the_share_of_its_weight_however_many_links_it_has() {
    for sites in [
        &[("ams", 30_000, 1), ("fra", 10_000, 3)][..],
        &[("ams", 1, 1), ("fra", 1, 13), ("par", 1, 11), ("waw", 1, 7), ("vie", 1, 5)],
        &[("ams", 9, 1), ("fra", 9, 4), ("par", 9, 9)],
        &[("ams", 65_535, 31), ("fra", 1, 2), ("par", 65_535, 31)],
    ] {
        let mut world = World::with_sites(sites);
        let group = world.group(WhenDead::Drop);
        let mut share: BTreeMap<&str, BTreeMap<AdjacencyId, u32>> = BTreeMap::new();
        for n in 0..FLOWS / 4 {
            let selected = world.select(group, flow(n));
            let Selected::Member { adjacency, .. } = selected else { panic!("{selected:?}") };
            let site = world.site_of(selected);
            *share.entry(site).or_default().entry(adjacency).or_default() += 1;
        }
        let all: f64 = sites.iter().map(|site| f64::from(site.1)).sum();
        for &(site, weight, links) in sites {
            let got: u32 = share.get(site).into_iter().flat_map(BTreeMap::values).sum();
            let (part, want) = (f64::from(got) / (FLOWS / 4) as f64, f64::from(weight) / all);
            assert!((part - want).abs() < 0.02 * want + 0.0002, "{site}: {part} for {want}");
            // Inside the site each link has the share of its own weight.
            let all_links = f64::from(links * (links + 1) / 2);
            for (nth, &flows) in share.get(site).into_iter().flat_map(BTreeMap::values).enumerate()
            {
                let (part, want) =
                    (f64::from(flows), (nth as f64 + 1.0) / all_links * f64::from(got));
                assert!(
                    (part - want).abs() < 5.0 * want.sqrt() + 1.0,
                    "{site}, link {nth}: {part} for {want}"
                );
            }
        }
    }
}

#[test]
fn a_site_death_moves_its_own_flows_and_a_link_death_none_to_another_site() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("fra", 2, 0, 2).link("fra", 3, 0, 1).link("par", 4, 0, 2);
    let group = world.group(WhenDead::Drop);
    let before: Vec<_> = (0..20_000).map(|n| world.site(group, flow(n))).collect();
    let lost_link = world.legs[1].2;
    world.handle.set_adjacency_down(lost_link, Reason::Carrier);
    for (n, &was) in before.iter().enumerate() {
        assert_eq!(world.site(group, flow(n as u64)), was, "a link death moved flow {n}");
    }
    let par = world.path("par");
    world.handle.set_path_down(par, Reason::Probe);
    for (n, &was) in before.iter().enumerate() {
        let now = world.site(group, flow(n as u64));
        assert!(if was == "par" { now != "par" } else { now == was }, "flow {n}: {was} to {now}");
    }
    world.handle.clear_path_down(par, Reason::Probe);
    for (n, &was) in before.iter().enumerate() {
        assert_eq!(world.site(group, flow(n as u64)), was);
    }
}

#[test]
fn the_flow_label_moves_the_link_inside_a_site_only() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("fra", 2, 0, 1).link("fra", 3, 0, 1);
    let group = world.group(WhenDead::Drop);
    let mut links = BTreeSet::new();
    let mut sites = BTreeSet::new();
    for label in 0..64 {
        let key = FlowKey { src: 4, dst: 5, protocol: 6, src_port: 1, dst_port: 2, label };
        let selected = world.reader.online().select(group, key.hash(1));
        sites.insert(world.site_of(selected));
        if let Selected::Member { adjacency, .. } = selected {
            links.insert(adjacency);
        }
    }
    assert_eq!(sites.len(), 1);
    assert_eq!(links.len(), if sites.contains("fra") { 2 } else { 1 });
}

#[test]
fn accept_spills_its_share_to_the_next_tier_and_drained_sites_are_the_last_resort() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("fra", 2, 1, 1);
    let group = world.group(WhenDead::Drop);
    let (ams, fra) = (world.path("ams"), world.path("fra"));
    world.handle.set_accept(ams, ACCEPT_ALL / 4);
    let kept: BTreeSet<u64> =
        (0..40_000).filter(|&n| world.site(group, flow(n)) == "ams").collect();
    assert!((9_600..10_400).contains(&kept.len()), "{}", kept.len());
    world.handle.set_accept(ams, ACCEPT_ALL / 8);
    for n in 0..40_000 {
        if world.site(group, flow(n)) == "ams" {
            assert!(kept.contains(&n), "a smaller share drew a new flow");
        }
    }
    // Nobody accepts this flow: the first alive that is not drained takes it.
    world.handle.set_accept(fra, 1);
    assert_eq!(world.site(group, flow(0)), "ams");
    world.handle.set_accept(ams, ACCEPT_NONE);
    assert_eq!(world.site(group, flow(0)), "fra");
    world.handle.set_accept(fra, ACCEPT_NONE);
    assert_eq!(world.site(group, flow(0)), "ams", "all drained: the first alive");
    world.handle.set_path_down(ams, Reason::Probe);
    assert_eq!(world.site(group, flow(0)), "fra");
}

#[test]
fn damped_sites_serve_before_what_covers_them_and_drained_ones_after() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("fra", 2, 1, 1);
    let local = world.writer.add_group(&Group::Local).unwrap();
    let covered = world.group(WhenDead::Covering(local));
    let nowhere = world.group(WhenDead::Covering(GroupId::NONE));
    let alone = world.group(WhenDead::Unreachable);
    let (ams, fra) = (world.path("ams"), world.path("fra"));
    for path in [ams, fra] {
        world.handle.set_path_down(path, Reason::Damped);
    }
    for group in [covered, nowhere, alone] {
        assert_eq!(world.site(group, flow(1)), "ams", "only damped");
    }
    world.handle.set_accept(ams, ACCEPT_NONE);
    assert_eq!(world.site(covered, flow(1)), "fra", "only damped, before drained");
    world.handle.set_path_down(fra, Reason::Probe);
    assert_eq!(world.select(covered, flow(1)), Selected::Local, "the cover, before drained");
    for group in [nowhere, alone] {
        assert_eq!(world.site(group, flow(1)), "ams", "drained, and damped");
    }
    world.handle.set_path_down(ams, Reason::Operator);
    assert_eq!(world.select(nowhere, flow(1)), Selected::NoRoute);
    assert_eq!(world.select(alone, flow(1)), Selected::AllDead { answer: true });
    world.handle.clear_path_down(fra, Reason::Probe);
    assert_eq!(world.site(alone, flow(1)), "fra");
    let fra_link = world.legs[1].2;
    world.handle.set_adjacency_down(fra_link, Reason::Carrier);
    assert_eq!(world.site(alone, flow(1)), "nobody", "damped, by a link without carrier");
}

/// The way that a covering group prefers is none that would be chosen with all alive.
#[test]
fn what_is_led_on_to_a_covering_group_is_not_sent_back() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("back", 7, 0, 1).link("fra", 3, 1, 1);
    let members = world.members.clone();
    let mut group_of = |members: Vec<Member>, when_dead| {
        let spread = Spread::Flow;
        world.writer.add_group(&Group::Forward { members, when_dead, spread }).unwrap()
    };
    let next = group_of(members[1..].to_vec(), WhenDead::Unreachable);
    let service = group_of(members[..1].to_vec(), WhenDead::Covering(next));
    let empty = group_of(Vec::new(), WhenDead::Covering(next));
    let (ams, back, fra) = (world.path("ams"), world.path("back"), world.path("fra"));
    let ports = ["ams", "back", "fra"].map(|site| {
        let link = world.legs.iter().find(|leg| leg.0 == site).unwrap().2;
        world.reader.online().port(link).unwrap()
    });
    let onward = |world: &mut World, group, port| {
        let selected = world.reader.online().select_onward(group, flow(1), port);
        (world.site_of(selected), selected)
    };
    world.handle.set_path_down(ams, Reason::Probe);
    assert_eq!(world.site(service, flow(1)), "back");
    assert_eq!(onward(&mut world, service, ports[2]).0, "back");
    assert_eq!(onward(&mut world, service, ports[1]).0, "fra", "the next best one");
    world.handle.set_path_down(fra, Reason::Session);
    let refused = onward(&mut world, service, ports[1]).1;
    assert_eq!(refused, Selected::UTurn { answer: true });
    // Where it is what is chosen with all alive, it is taken.
    assert_eq!(onward(&mut world, next, ports[1]).0, "back");
    assert_eq!(onward(&mut world, empty, ports[1]).0, "back");
    // The last resort, before a packet goes back.
    world.handle.clear_path_down(ams, Reason::Probe);
    world.handle.set_accept(ams, ACCEPT_NONE);
    assert_eq!(world.site(service, flow(1)), "back");
    assert_eq!(onward(&mut world, service, ports[1]).0, "ams");
    world.handle.set_path_down(ams, Reason::Probe);
    world.handle.set_path_down(back, Reason::Session);
    assert_eq!(world.select(service, flow(1)), Selected::AllDead { answer: true });
}

#[test]
fn a_disabled_site_serves_nobody_even_where_a_service_fails_open() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("fra", 2, 1, 1);
    let group = world.group(WhenDead::FailOpen);
    let (ams, fra) = (world.path("ams"), world.path("fra"));
    world.handle.set_path_down(ams, Reason::Operator);
    world.handle.set_path_down(fra, Reason::Probe);
    assert_eq!(world.site(group, flow(1)), "fra");
    world.handle.set_path_down(fra, Reason::Operator);
    assert_eq!(world.select(group, flow(1)), Selected::AllDead { answer: true });
}

#[test]
fn one_byte_moves_every_group_and_replacing_a_group_moves_every_prefix() {
    let mut world = World::new();
    world.link("ams", 1, 0, 1).link("fra", 2, 1, 1);
    let groups: Vec<_> = (0..100).map(|_| world.group(WhenDead::Drop)).collect();
    let prefixes: Vec<nearhop_fib::IpPrefix> =
        (0..100).map(|n| format!("10.0.{n}.0/24").parse().unwrap()).collect();
    for (prefix, group) in prefixes.iter().zip(&groups) {
        world.writer.insert(*prefix, *group).unwrap();
    }
    let ams = world.path("ams");
    world.handle.set_path_down(ams, Reason::Probe);
    for group in &groups {
        assert_eq!(world.site(*group, flow(3)), "fra");
    }
    for prefix in &prefixes {
        world.writer.insert(*prefix, groups[0]).unwrap();
    }
    world.writer.replace_group(groups[0], &Group::Blackhole).unwrap();
    let online = world.reader.online();
    for prefix in &prefixes {
        assert_eq!(online.select(online.lookup(prefix.addr()), flow(3)), Selected::Blackhole);
    }
}

#[test]
fn ids_wait_for_readers_and_a_stalled_reader_bounds_what_waits() {
    let (mut writer, handle) = fib(2);
    let mut reader = handle.reader().unwrap();
    let path = writer.add_path(1, ACCEPT_ALL).unwrap();
    let mut online = reader.online();
    writer.remove_path(path).unwrap();
    assert_ne!(writer.add_path(2, ACCEPT_ALL).unwrap(), path, "reused under a reader");
    online.quiescent();
    assert_eq!(writer.reclaim(), 0);
    assert_eq!(writer.add_path(3, ACCEPT_ALL).unwrap(), path);

    let group = writer.add_group(&Group::Local).unwrap();
    let mut stalled = None;
    for _ in 0..=nearhop_fib::RETIRED_MAX {
        if let Err(error) = writer.replace_group(group, &Group::Blackhole) {
            stalled = Some(error);
            break;
        }
    }
    let slot = writer.slowest_reader().unwrap();
    assert_eq!(stalled, Some(nearhop_fib::WriteError::Stalled { reader: slot }));
    assert!(handle.set_path_down(path, Reason::Probe), "liveness goes through all the same");
    drop(online);
    assert_eq!(slot, reader.slot());
    writer.replace_group(group, &Group::Blackhole).unwrap();
}

/// The rules of the choice, written as slowly and plainly as can be.
fn slow_choice(
    world: &World,
    accept: &BTreeMap<PathId, u16>,
    dead: &BTreeSet<PathId>,
    chosen: &str,
) -> Result<(), String> {
    let is_damped = |m: &Member| world.writer.path_reasons(m.path) == Reason::Damped.into();
    let alive = |m: &&Member| !dead.contains(&m.path) && !is_damped(m);
    let well = |m: &&Member| !dead.contains(&m.path);
    let takes_all = |m: &&Member| accept[&m.path] == ACCEPT_ALL;
    let not_drained = |m: &&Member| accept[&m.path] != ACCEPT_NONE;
    let living: Vec<&Member> = world.members.iter().filter(alive).collect();
    if chosen == "nobody" {
        let any = world.members.iter().any(|m| well(&m));
        return if any { Err("nobody although some are well".into()) } else { Ok(()) };
    }
    let path = world.path(chosen);
    let got = world.members.iter().find(|m| m.path == path).unwrap();
    if dead.contains(&got.path) {
        return Err("a dead member".into());
    }
    let sure = living.iter().filter(|m| takes_all(m)).map(|m| m.tier).min();
    if sure.is_some_and(|tier| got.tier > tier) {
        return Err("passed over a cheaper site that takes all".into());
    }
    if accept[&got.path] == ACCEPT_NONE && living.iter().any(not_drained) {
        return Err("a drained site although another is not".into());
    }
    if is_damped(got) && living.iter().any(not_drained) {
        return Err("a damped site although another is not, nor drained".into());
    }
    let undrained = |m: &&Member| well(m) && not_drained(m);
    if accept[&got.path] == ACCEPT_NONE && world.members.iter().any(|m| undrained(&m)) {
        return Err("a drained site although another is only damped".into());
    }
    Ok(())
}

/// What `select_onward` may say, given what `select` says: the same where that leads elsewhere or is
/// the best with all alive; else what `select` says without the members that lead back.
fn no_u_turn(
    world: &mut World,
    group: GroupId,
    flow: FlowHash,
    ingress: u16,
    chosen: &str,
    (onward, selected): (&str, Selected),
) -> Result<(), String> {
    let back = usize::from(ingress); // one link a site, its index is its port
    let leg = world.legs[back];
    let state_of = |path| (path, world.writer.path_reasons(path), world.writer.accept(path));
    let before: Vec<_> = world.legs.iter().map(|leg| state_of(leg.1)).collect();
    for &(path, ..) in &before {
        for reason in [Reason::Probe, Reason::Damped] {
            world.handle.clear_path_down(path, reason);
        }
        world.handle.set_accept(path, ACCEPT_ALL);
    }
    let best = world.site(group, flow);
    for &(path, reasons, accept) in &before {
        for reason in reasons.iter() {
            world.handle.set_path_down(path, reason);
        }
        world.handle.set_accept(path, accept.unwrap());
    }
    if chosen != leg.0 || best == leg.0 {
        return if onward == chosen { Ok(()) } else { Err(format!("{onward} for {chosen}")) };
    }
    world.handle.set_path_down(leg.1, Reason::Operator);
    let without = world.site(group, flow);
    world.handle.clear_path_down(leg.1, Reason::Operator);
    match selected {
        Selected::UTurn { .. } if without == "nobody" => Ok(()),
        _ if onward == without && without != "nobody" => Ok(()),
        _ => Err(format!("{selected:?} where {without} is left and {best} is best")),
    }
}

/// Tiers of equal sites, up to as many as a group may have members: the batch's own way of choosing.
#[test]
fn equal_sites_are_chosen_in_a_batch_as_they_are_alone() {
    for sites in [1, 2, 6, 7, 8, 9, 15, 16, 63, 64] {
        let mut world = World::new();
        let names: Vec<&'static str> = (0..sites).map(|n| &*format!("site{n}").leak()).collect();
        for (n, name) in names.iter().enumerate() {
            world.link(name, n as u16, 0, 1);
        }
        let group = world.group(WhenDead::Unreachable);
        let mut seen = BTreeSet::new();
        for n in 0..sites as u64 * 40 {
            seen.insert(world.site(group, flow(n)));
        }
        assert_eq!(seen.len(), sites, "each is somebody's");
        for dead in &names[..sites / 2] {
            let path = world.path(dead);
            world.handle.set_path_down(path, Reason::Probe);
        }
        let alive: BTreeSet<_> = names[sites / 2..].iter().copied().collect();
        let at: BTreeSet<_> = (0..sites as u64 * 40).map(|n| world.site(group, flow(n))).collect();
        assert_eq!(at, alive);
    }
}

proptest! {
    #[test]
    fn no_choice_breaks_a_rule(
        sites in prop::collection::vec((0..4_u8, 1..100_u16, 0..4_u8, 0..4_u8), 1..12),
        flows in prop::collection::vec(any::<u64>(), 50),
    ) {
        const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut world = World::new();
        let (mut accept, mut dead) = (BTreeMap::new(), BTreeSet::new());
        for (index, &(tier, weight, share, down)) in sites.iter().enumerate() {
            world.link(NAMES[index], index as u16, tier, weight);
            let path = world.path(NAMES[index]);
            let share = [ACCEPT_NONE, 1000, 60_000, ACCEPT_ALL][usize::from(share)];
            world.handle.set_accept(path, share);
            accept.insert(path, share);
            if down == 1 {
                world.handle.set_path_down(path, Reason::Damped);
            } else if down > 1 {
                world.handle.set_path_down(path, Reason::Probe);
                dead.insert(path);
            }
        }
        let group = world.group(WhenDead::Drop);
        let ports = sites.len() as u16;
        for n in flows {
            let chosen = world.site(group, flow(n));
            let verdict = slow_choice(&world, &accept, &dead, chosen);
            prop_assert!(verdict.is_ok(), "{}: {}", chosen, verdict.unwrap_err());
            let ingress = n as u16 % ports;
            let onward = world.reader.online().select_onward(group, flow(n), ingress);
            let onward = (world.site_of(onward), onward);
            let verdict = no_u_turn(&mut world, group, flow(n), ingress, chosen, onward);
            prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
        }
    }
}
