//! What is done to a network in a trial, as the seed says.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::TrialError;
use super::plan::{Shape, router_name, site_name};
use super::world::{Absence, World};
use crate::port::memory::LinkState;
use crate::sim::{Action, Impairment, LinkId, Part, Power};

/// A kind of fault, or of its end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// One bit of some packets of a link is turned.
    Corrupt,
    /// A link is cut, and both ends are told.
    Cut,
    /// A site is drained, or taken back.
    Drain,
    /// Some packets of a link arrive twice.
    Duplicate,
    /// A link is cut and healed every few milliseconds, and healed at last.
    Flap,
    /// A link, or all between routers, are as new.
    Heal,
    /// The routers fall apart in two: every link between the halves is cut, or silent.
    Partition,
    /// A router is given other costs and other checks.
    Reload,
    /// Some packets of a link are overtaken.
    Reorder,
    /// A router is killed, and starts again.
    Restart,
    /// Packets vanish on a link, and nobody is told.
    Silent,
    /// A site, or two at once, lose their power or their server, or come back.
    Site,
    /// A worker or the control part of a router stands still for a while.
    Stall,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Corrupt,
        Self::Cut,
        Self::Drain,
        Self::Duplicate,
        Self::Flap,
        Self::Heal,
        Self::Partition,
        Self::Reload,
        Self::Reorder,
        Self::Restart,
        Self::Silent,
        Self::Site,
        Self::Stall,
    ];

    /// One word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Cut => "cut",
            Self::Drain => "drain",
            Self::Duplicate => "duplicate",
            Self::Flap => "flap",
            Self::Heal => "heal",
            Self::Partition => "partition",
            Self::Reload => "reload",
            Self::Reorder => "reorder",
            Self::Restart => "restart",
            Self::Silent => "silent",
            Self::Site => "site",
            Self::Stall => "stall",
        }
    }
}

/// Does one of them. Flaps and restarts take their time.
pub(super) fn inflict(world: &mut World) -> Result<Fault, TrialError> {
    // Healing is as likely as breaking, or there would soon be nothing left to break.
    let kinds = Fault::ALL.len() as u64;
    let fault = match world.rng.below(kinds + 3) {
        index if index < kinds => Fault::ALL[index as usize],
        _ => Fault::Heal,
    };
    match fault {
        Fault::Cut => link(world, LinkState::Down, "cut"),
        Fault::Silent => link(world, LinkState::Silent, "goes silent"),
        Fault::Corrupt => impair(world, |corrupt| Impairment { corrupt, ..CLEAN }),
        Fault::Duplicate => impair(world, |duplicate| Impairment { duplicate, ..CLEAN }),
        Fault::Reorder => impair(world, |reorder| Impairment { reorder, ..CLEAN }),
        Fault::Drain => drain(world),
        Fault::Flap => flap(world)?,
        Fault::Heal => heal(world),
        Fault::Partition => partition(world),
        Fault::Reload => reload(world)?,
        Fault::Restart => restart(world)?,
        Fault::Site => sites(world),
        Fault::Stall => stall(world),
    }
    Ok(fault)
}

fn link(world: &mut World, state: LinkState, how: &str) {
    let (link, name) = world.any_link();
    world.tell(format!("link {name} {how}"));
    world.set_link(link, state);
}

fn impair(world: &mut World, impairment: impl FnOnce(u16) -> Impairment) {
    let (link, name) = world.any_link();
    let impairment = impairment(20 + world.rng.below(380) as u16);
    world.tell(format!("link {name}: {impairment:?} of a thousand"));
    world.act(Action::Impair { link, impairment });
}

fn heal(world: &mut World) {
    let (link, name) = world.any_link();
    let (links, names) = if world.rng.below(2) == 0 {
        (vec![link], name)
    } else {
        (world.trunk_links.clone(), "s between routers".to_owned())
    };
    world.tell(format!("heal link {names}"));
    for link in links {
        world.set_link(link, LinkState::Up);
        world.act(Action::Impair { link, impairment: CLEAN });
    }
}

fn flap(world: &mut World) -> Result<(), TrialError> {
    let (link, name) = world.any_link();
    let times = 1 + world.rng.below(8);
    world.tell(format!("link {name} flaps {times} times"));
    for _ in 0..times {
        world.set_link(link, LinkState::Down);
        pause(world, 1, 20)?;
        world.set_link(link, LinkState::Up);
        pause(world, 1, 60)?;
    }
    Ok(())
}

fn partition(world: &mut World) {
    let routers = world.plan.routers();
    let all = (1 << routers) - 1;
    // Neither none nor all of them.
    let half = 1 + world.rng.below(all - 1);
    let in_half = |router: usize| half >> router & 1 == 1;
    let (state, how) = match world.rng.below(2) {
        0 => (LinkState::Down, "cut"),
        _ => (LinkState::Silent, "silent"),
    };
    let names: Vec<String> = (0..routers).filter(|r| in_half(*r)).map(router_name).collect();
    world.tell(format!("partition, {how}: {} from the others", names.join(" ")));
    let between = |ends: &[usize; 2]| in_half(ends[0]) != in_half(ends[1]);
    let trunks = world.plan.trunks.iter().zip(&world.trunk_links);
    let cut: Vec<LinkId> = trunks.filter(|(ends, _)| between(ends)).map(|(_, &l)| l).collect();
    for link in cut {
        world.set_link(link, state);
    }
}

fn sites(world: &mut World) {
    let power = [Power::On, Power::ServerDead, Power::Off][world.rng.below(3) as usize];
    for _ in 0..=world.rng.below(2) {
        let site = world.rng.below(world.plan.sites.len() as u64) as usize;
        world.tell(format!("site {}: {power:?}", site_name(site)));
        world.set_power(site, power);
    }
}

fn drain(world: &mut World) {
    // Where every router of a circle has drained its own, each prefers the next for as long as that
    // is answered, and so none is: no order is right.
    if world.plan.shape == Shape::Circle {
        return world.tell("no drain in a circle".to_owned());
    }
    let site = world.rng.below(world.plan.sites.len() as u64) as usize;
    let (node, name) = (world.plan.sites[site], site_name(site));
    let key = (node, name.clone());
    let drained = world.drained.insert(key.clone());
    if !drained {
        world.drained.remove(&key);
    }
    world.tell(format!("{} {name}", if drained { "drain" } else { "undrain" }));
    world.act(Action::Drain { node, site: name, drained });
}

fn reload(world: &mut World) -> Result<(), TrialError> {
    let node = any_router(world);
    world.plan.deal(node, &mut world.rng);
    world.plan.every_ms[node] = 20 + world.rng.below(3);
    world.tell(format!("reload of {} with other costs", router_name(node)));
    let config = Box::new(world.plan.config(node)?);
    world.act(Action::Reload { node, config });
    Ok(())
}

/// Drains do not outlive a router that has no place to keep them.
fn restart(world: &mut World) -> Result<(), TrialError> {
    let node = any_router(world);
    world.tell(format!("{} is killed", router_name(node)));
    // News that its control thread had no time to tell is never told.
    let is_mute = world.net.node(node).stalls(Part::Control);
    let now = world.net.now();
    let from = world.mute_since.get(&node).copied().filter(|_| is_mute).unwrap_or(now);
    world.act(Action::Stop { node });
    pause(world, 5, 195)?;
    world.tell(format!("{} starts", router_name(node)));
    world.act(Action::Start { node });
    world.drained.retain(|(router, _)| *router != node);
    world.absences.push(Absence { node, from, to: world.net.now() });
    Ok(())
}

fn stall(world: &mut World) {
    let node = any_router(world);
    let part = [Part::Worker, Part::Control][world.rng.below(2) as usize];
    let ms = 20 + world.rng.below(280);
    world.tell(format!("{part:?} of {} stands still for {ms} ms", router_name(node)));
    if part == Part::Control && !world.net.node(node).stalls(part) {
        world.mute_since.insert(node, world.net.now());
    }
    world.act(Action::Stall { node, part, stalled: true });
    let end = world.net.now() + Duration::from_millis(ms);
    world.net.at(end, Action::Stall { node, part, stalled: false });
}

fn any_router(world: &mut World) -> usize {
    world.rng.below(world.plan.routers() as u64) as usize
}

/// `least` milliseconds, or up to `more` longer.
pub(super) fn pause(world: &mut World, least: u64, more: u64) -> Result<(), TrialError> {
    let ms = least + world.rng.below(more);
    world.run_for(Duration::from_millis(ms))
}

const CLEAN: Impairment = Impairment { reorder: 0, duplicate: 0, corrupt: 0 };
