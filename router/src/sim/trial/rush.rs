//! Changes that come while threads are behind: what is on its way then speaks of what was.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::TrialError;
use super::config::{router_name, site_name};
use super::faults::{pause, reload_of, stall_for};
use super::world::{Spell, World};
use crate::port::memory::LinkState;
use crate::sim::{Action, Power, RouterThread};

/// Moves the cable of a site to a new port, and gives its router the configuration that says so.
pub(super) fn replug(world: &mut World) -> Result<(), TrialError> {
    let site = any_site(world);
    replug_site(world, site)
}

/// Several changes at one router within moments, while its threads stall.
pub(super) fn rush(world: &mut World) -> Result<(), TrialError> {
    let site = any_site(world);
    match world.rng.below(4) {
        0 => rush_at(world, site),
        1 => swap(world, site),
        _ => blink(world, site),
    }
}

/// A site's port goes, and the liveness thread hears late of that and of the loss of its carrier; the control
/// thread hears of both late too, and opens another port then.
fn swap(world: &mut World, site: usize) -> Result<(), TrialError> {
    let node = world.layout.sites[site];
    let ms = 20 + world.rng.below(60);
    let end = world.net.now() + Duration::from_millis(ms);
    stall_for(world, node, RouterThread::Liveness, ms);
    replug_site(world, site)?;
    let left = end.since(world.net.now()).as_millis() as u64;
    pause(world, left.saturating_sub(4), 4)?;
    let control_ms = 4 + world.rng.below(16);
    stall_for(world, node, RouterThread::Control, control_ms);
    let other = site_of(world, node);
    replug_site(world, other)
}

/// A site's server dies and comes back before its router's liveness thread has heard of it, and that checks it
/// another way by then.
fn blink(world: &mut World, site: usize) -> Result<(), TrialError> {
    let node = world.layout.sites[site];
    let layout = &world.layout;
    // As many failures as its checks wait for, and as long again as one of them at most.
    let dead_ms = 2 * layout.every_ms[node] * (layout.falls[node] + world.rng.below(2));
    let (most_ms, more_ms) = (dead_ms + world.rng.below(20), world.rng.below(60));
    world.note(format!("the server of {} blinks", site_name(site)));
    stall_for(world, node, RouterThread::Liveness, most_ms + more_ms);
    world.set_power(site, Power::ServerDead);
    pause(world, dead_ms, 20)?;
    world.layout.over_tcp[site] = !world.layout.over_tcp[site];
    if world.rng.below(2) == 0 {
        world.set_power(site, Power::On);
        pause(world, 0, 10)?;
    }
    world.reload(node, "with another check of that site")?;
    world.set_power(site, Power::On);
    Ok(())
}

/// Most of the changes are about one site.
fn rush_at(world: &mut World, site: usize) -> Result<(), TrialError> {
    let node = world.layout.sites[site];
    let pace = [2, 8, 40][world.rng.below(3) as usize];
    world.note(format!("rush at {}", router_name(node)));
    stall(world, node, pace);
    for _ in 0..3 + world.rng.below(5) {
        match world.rng.below(8) {
            0 | 1 => {
                let one = site_of(world, node);
                replug_site(world, one)?;
            }
            2 | 3 => power(world, site),
            4 | 5 => reload_of(world, node)?,
            6 => cable(world, site),
            _ => stall(world, node, pace),
        }
        pause(world, 0, pace)?;
    }
    Ok(())
}

/// Does so with one site.
pub(super) fn replug_site(world: &mut World, site: usize) -> Result<(), TrialError> {
    let (node, link) = (world.layout.sites[site], world.site_links[site]);
    world.layout.plugs[site] += 1;
    let port = world.layout.site_port(site);
    world.note(format!("the cable of {} is put into port {port}", site_name(site)));
    let now = world.net.now();
    world.unrest.push(Spell { node, from: now, to: now });
    world.act(Action::Plug { node, link, port });
    // Now and then the old port's loss of carrier is known before it goes.
    pause(world, 0, 4)?;
    world.reload(node, "with that port")
}

fn power(world: &mut World, site: usize) {
    let power = match world.net.site(site).power {
        Power::On => {
            [Power::ServerDead, Power::ServerDead, Power::Off][world.rng.below(3) as usize]
        }
        _ => Power::On,
    };
    world.note(format!("site {}: {power:?}", site_name(site)));
    world.set_power(site, power);
}

fn cable(world: &mut World, site: usize) {
    let link = world.site_links[site];
    let state = match world.net.link(link) {
        LinkState::Up => LinkState::Down,
        _ => LinkState::Up,
    };
    world.note(format!("link to {}: {state:?}", site_name(site)));
    world.set_link(link, state);
}

/// Most often the liveness thread, which all others speak to.
fn stall(world: &mut World, node: usize, pace: u64) {
    let part = match world.rng.below(6) {
        0..3 => RouterThread::Liveness,
        3..5 => RouterThread::Control,
        _ => RouterThread::Host,
    };
    let ms = pace + world.rng.below(6 * pace);
    stall_for(world, node, part, ms);
}

/// One of the sites of a router that has some.
fn site_of(world: &mut World, node: usize) -> usize {
    let sites = &world.layout.sites;
    let own: Vec<usize> = (0..sites.len()).filter(|&site| sites[site] == node).collect();
    own[world.rng.below(own.len() as u64) as usize]
}

fn any_site(world: &mut World) -> usize {
    world.rng.below(world.layout.sites.len() as u64) as usize
}
