//! What goes wrong in a trial, drawn from the seed.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::TrialError;
use super::config::{router_name, site_name};
use super::layout::NetShape;
use super::rush;
use super::world::{Rehomed, Spell, World};
use crate::port::memory::LinkState;
use crate::sim::{Action, Impairment, LinkId, Power, RouterThread};

/// A kind of fault, or of repair.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FaultKind {
    /// A link flips one bit of some packets.
    Corrupt,
    /// A link is cut, and both ends learn of it.
    Cut,
    /// A site is drained or undrained.
    Drain,
    /// A link delivers some packets twice.
    Duplicate,
    /// A link is cut and healed several times within milliseconds; it ends healed.
    Flap,
    /// A link, or every link between routers, is repaired.
    Heal,
    /// The routers are split in two: every link between the halves is cut or silent.
    Partition,
    /// A router gets other costs and other checks, and addresses move to another service.
    Reload,
    /// A link delays some packets, and others overtake them.
    Reorder,
    /// The cable of a site is moved to a new port, and the old one goes.
    Replug,
    /// A router is killed and started again.
    Restart,
    /// Several changes at one router within moments, while its threads stall.
    Rush,
    /// A link loses all packets, and nobody is notified.
    Silent,
    /// One or two sites lose power or their server, or recover.
    Site,
    /// A thread of a router stalls for a while.
    Stall,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Corrupt,
        Self::Cut,
        Self::Drain,
        Self::Duplicate,
        Self::Flap,
        Self::Heal,
        Self::Partition,
        Self::Reload,
        Self::Reorder,
        Self::Replug,
        Self::Restart,
        Self::Rush,
        Self::Silent,
        Self::Site,
        Self::Stall,
    ];

    /// Whether it can lose or damage packets, or answers to checks.
    pub(super) const fn loses(self) -> bool {
        !matches!(self, Self::Drain | Self::Heal | Self::Reload | Self::Stall)
    }

    /// The fault's name in summaries.
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
            Self::Replug => "replug",
            Self::Restart => "restart",
            Self::Rush => "rush",
            Self::Silent => "silent",
            Self::Site => "site",
            Self::Stall => "stall",
        }
    }
}

/// Draws a fault and inflicts it. Flaps and restarts advance the clock.
pub(super) fn inflict(world: &mut World) -> Result<FaultKind, TrialError> {
    // Healing is as likely as breaking, or soon nothing would be left to break.
    let kinds = FaultKind::ALL.len() as u64;
    let fault = match world.rng.below(kinds + 3) {
        index if index < kinds => FaultKind::ALL[index as usize],
        _ => FaultKind::Heal,
    };
    if fault.loses() {
        let now = world.net.now();
        world.lossy_since.get_or_insert(now);
    }
    match fault {
        FaultKind::Cut => link(world, LinkState::Down, "cut"),
        FaultKind::Silent => link(world, LinkState::Silent, "goes silent"),
        FaultKind::Corrupt => impair(world, |corrupt| Impairment { corrupt, ..CLEAN }),
        FaultKind::Duplicate => impair(world, |duplicate| Impairment { duplicate, ..CLEAN }),
        FaultKind::Reorder => impair(world, |reorder| Impairment { reorder, ..CLEAN }),
        FaultKind::Drain => drain(world),
        FaultKind::Flap => flap(world)?,
        FaultKind::Heal => heal(world),
        FaultKind::Partition => partition(world),
        FaultKind::Reload => reload(world)?,
        FaultKind::Replug => rush::replug(world)?,
        FaultKind::Restart => restart(world)?,
        FaultKind::Rush => rush::rush(world)?,
        FaultKind::Site => sites(world),
        FaultKind::Stall => stall(world),
    }
    Ok(fault)
}

fn link(world: &mut World, state: LinkState, how: &str) {
    let (link, name) = world.any_link();
    world.note(format!("link {name} {how}"));
    world.set_link(link, state);
}

fn impair(world: &mut World, impairment: impl FnOnce(u16) -> Impairment) {
    let (link, name) = world.any_link();
    let impairment = impairment(20 + world.rng.below(380) as u16);
    world.note(format!("link {name}: {impairment:?} per thousand"));
    world.act(Action::Impair { link, impairment });
}

fn heal(world: &mut World) {
    let (link, name) = world.any_link();
    let (links, names) = if world.rng.below(2) == 0 {
        (vec![link], name)
    } else {
        (world.trunk_links.clone(), "s between routers".to_owned())
    };
    world.note(format!("heal link {names}"));
    for link in links {
        world.set_link(link, LinkState::Up);
        world.act(Action::Impair { link, impairment: CLEAN });
    }
}

fn flap(world: &mut World) -> Result<(), TrialError> {
    let (link, name) = world.any_link();
    let times = 1 + world.rng.below(8);
    world.note(format!("link {name} flaps {times} times"));
    for _ in 0..times {
        world.set_link(link, LinkState::Down);
        pause(world, 1, 20)?;
        world.set_link(link, LinkState::Up);
        pause(world, 1, 60)?;
    }
    Ok(())
}

fn partition(world: &mut World) {
    let routers = world.layout.routers();
    let all = (1 << routers) - 1;
    // At least one router is in each half.
    let half = 1 + world.rng.below(all - 1);
    let in_half = |router: usize| half >> router & 1 == 1;
    let (state, how) = match world.rng.below(2) {
        0 => (LinkState::Down, "cut"),
        _ => (LinkState::Silent, "silent"),
    };
    let names: Vec<String> = (0..routers).filter(|r| in_half(*r)).map(router_name).collect();
    world.note(format!("partition, {how}: {} from the others", names.join(" ")));
    let between = |ends: &[usize; 2]| in_half(ends[0]) != in_half(ends[1]);
    let trunks = world.layout.trunks.iter().zip(&world.trunk_links);
    let cut: Vec<LinkId> = trunks.filter(|(ends, _)| between(ends)).map(|(_, &l)| l).collect();
    for link in cut {
        world.set_link(link, state);
    }
}

fn sites(world: &mut World) {
    let power = [Power::On, Power::ServerDead, Power::Off][world.rng.below(3) as usize];
    for _ in 0..=world.rng.below(2) {
        let site = world.rng.below(world.layout.sites.len() as u64) as usize;
        world.note(format!("site {}: {power:?}", site_name(site)));
        world.set_power(site, power);
    }
}

fn drain(world: &mut World) {
    // If every router of a circle drains its own sites, each prefers the next as long as that one
    // answers; then none answers, and no order of preference is right.
    if world.layout.shape == NetShape::Circle {
        return world.note("no drain in a circle".to_owned());
    }
    let site = world.rng.below(world.layout.sites.len() as u64) as usize;
    let (node, name) = (world.layout.sites[site], site_name(site));
    let key = (node, name.clone());
    let drained = world.drained.insert(key.clone());
    if !drained {
        world.drained.remove(&key);
    }
    world.note(format!("{} {name}", if drained { "drain" } else { "undrain" }));
    world.act(Action::Drain { node, site: name, drained });
}

/// Gives any router another configuration.
pub(super) fn reload(world: &mut World) -> Result<(), TrialError> {
    let node = any_router(world);
    reload_of(world, node)
}

/// Gives a router other costs, and maybe other checks, and other addresses to its services.
pub(super) fn reload_of(world: &mut World, node: usize) -> Result<(), TrialError> {
    let (layout, rng) = (&mut world.layout, &mut world.rng);
    for service in 0..layout.services() {
        layout.deal(node, service, rng);
    }
    layout.every_ms[node] = layout.shape.every_ms() + rng.below(3);
    layout.speak(node, rng);
    layout.falls[node] = 2 + rng.below(2);
    for site in 0..layout.sites.len() {
        if layout.sites[site] == node && rng.below(3) == 0 {
            layout.over_tcp[site] = !layout.over_tcp[site];
        }
    }
    let moved = if rng.below(2) == 0 { layout.move_address(node, rng) } else { Vec::new() };
    let t = world.net.now();
    world.rehomed.extend(moved.iter().map(|&address| Rehomed { t, node, address }));
    let how = if moved.is_empty() {
        "with other costs".to_owned()
    } else {
        format!("with other costs; addresses {moved:?} are of another service now")
    };
    world.reload(node, &how)
}

/// Drains are lost with a router that has no `state-dir`.
fn restart(world: &mut World) -> Result<(), TrialError> {
    let node = any_router(world);
    world.note(format!("{} is killed", router_name(node)));
    // A stalled control thread never emits the news it had not handled when it was killed.
    let is_mute = world.net.node(node).stalls(RouterThread::Control);
    let now = world.net.now();
    let from = world.mute_since.get(&node).copied().filter(|_| is_mute).unwrap_or(now);
    world.act(Action::Stop { node });
    pause(world, 5, 195)?;
    world.note(format!("{} starts", router_name(node)));
    world.act(Action::Start { node });
    world.drained.retain(|(router, _)| *router != node);
    world.absences.push(Spell { node, from, to: world.net.now() });
    Ok(())
}

fn stall(world: &mut World) {
    let node = any_router(world);
    let part = RouterThread::ALL[world.rng.below(RouterThread::ALL.len() as u64) as usize];
    let ms = 20 + world.rng.below(280);
    stall_for(world, node, part, ms);
}

/// Stalls a thread of a router for so many milliseconds.
pub(super) fn stall_for(world: &mut World, node: usize, part: RouterThread, ms: u64) {
    world.note(format!("{part:?} of {} stalls for {ms} ms", router_name(node)));
    if part == RouterThread::Control && !world.net.node(node).stalls(part) {
        world.mute_since.insert(node, world.net.now());
    }
    world.act(Action::Stall { node, part, stalled: true });
    let end = world.net.now() + Duration::from_millis(ms);
    let spell = Spell { node, from: world.net.now(), to: end };
    if part == RouterThread::Liveness {
        world.mute.push(spell);
    }
    let spells = match part {
        RouterThread::Control => &mut world.deaf,
        _ => &mut world.unrest,
    };
    spells.push(spell);
    world.net.at(end, Action::Stall { node, part, stalled: false });
}

fn any_router(world: &mut World) -> usize {
    world.rng.below(world.layout.routers() as u64) as usize
}

/// Advances the clock by `least` to `least + more` milliseconds.
pub(super) fn pause(world: &mut World, least: u64, more: u64) -> Result<(), TrialError> {
    let ms = least + world.rng.below(more);
    world.run_for(Duration::from_millis(ms))
}

const CLEAN: Impairment = Impairment { reorder: 0, duplicate: 0, corrupt: 0 };
