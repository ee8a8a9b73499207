//! Trials: a random network, random faults, and the invariants that must hold, all from one seed.
//!
//! ```
//! use nearhop::sim::trial::{Options, run};
//! let outcome = run(1, Options::default());
//! assert_eq!(outcome.breaches, []);
//! ```
//!
//! A trial draws two to six routers with links, sites and clients, gives some of them other configurations,
//! and inflicts faults for two seconds (six where routers speak BGP), one after the other. Then it ends stalls and corruption, waits for the routers'
//! [`budget`], and judges every packet sent after that. Other faults remain: an oracle derives from
//! links, sites, costs and routes which site must serve each client.
#![forbid(unsafe_code)]

mod answers;
mod config;
mod faults;
mod invariant;
mod judge;
mod layout;
mod moves;
mod oracle;
mod rush;
#[cfg(test)]
mod tests;
mod watch;
mod world;

pub use faults::FaultKind;
pub use invariant::Invariant;
pub use layout::NetShape;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{NodeError, Power, RunError};
use crate::config::ConfigErrors;
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::time::Nanos;
use config::UNCHECKED;
use judge::Judge;
use layout::{Layout, Leg, LegTarget};
use world::World;

/// Options of a trial.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only networks of this shape.
    pub shape: Option<NetShape>,
    /// Break this invariant on purpose, to test that the judge notices.
    pub spoil: Option<Invariant>,
}

/// The result of a trial.
#[derive(Clone, Debug)]
pub struct TrialResult {
    /// The seed of network and faults.
    pub seed: u64,
    /// How its routers were linked.
    pub shape: NetShape,
    /// How many routers there were.
    pub routers: usize,
    /// How many sites there were.
    pub sites: usize,
    /// How often each fault was inflicted.
    pub faults: BTreeMap<FaultKind, u64>,
    /// How much was checked, in [`Invariant::unit`]s.
    pub checked: BTreeMap<Invariant, u64>,
    /// What did not hold.
    pub breaches: Vec<Breach>,
    /// Loops that ended in time.
    pub loops: Vec<TransientLoop>,
    /// Packets that clients sent.
    pub packets: u64,
    /// Length of the trial on the network's own clock.
    pub took: Duration,
    /// Everything the trial did and the routers reported, by time.
    pub story: Vec<StoryLine>,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Breach {
    /// The invariant.
    pub invariant: Invariant,
    /// What was observed instead.
    pub what: String,
}

/// A loop that packets went round in for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransientLoop {
    /// When a packet first reached a router again.
    pub from: Nanos,
    /// When a packet last did.
    pub to: Nanos,
    /// How often packets did.
    pub returns: u64,
}

/// A line of the story of a trial.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoryLine {
    /// The time.
    pub t: Nanos,
    /// The router that reported it, or `trial`.
    pub who: String,
    /// What happened.
    pub what: String,
}

/// Runs the trial of a seed. The same seed and options produce the same result.
///
/// A panic, or a clock that does not advance, is a breach of [`Invariant::Work`].
pub fn run(seed: u64, options: Options) -> TrialResult {
    let mut rng = Rng::new(seed);
    let layout = Layout::draw(&mut rng, options.shape);
    let mut outcome = TrialResult::new(seed, &layout);
    let ended = catch_unwind(AssertUnwindSafe(|| try_run(layout, rng, options, &mut outcome)));
    let what = match ended {
        Ok(Ok(())) => return outcome,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("panic: {}", words(&*panic)),
    };
    outcome.breaches.push(Breach { invariant: Invariant::Work, what });
    outcome
}

/// Time in which the routers must have converged: the longest sequence of checks that wait for one
/// another, and where routers speak BGP the longest sequence of its timers.
pub fn budget(shape: NetShape, routers: usize) -> Duration {
    let checks = Duration::from_secs(1) + Duration::from_millis(300) * routers as u32;
    if shape == NetShape::Peers { checks + SESSIONS_STAND_AFTER } else { checks }
}

impl TransientLoop {
    /// Time from the first to the last packet that reached a router again.
    pub fn lasted(&self) -> Duration {
        self.to.since(self.from)
    }
}

impl TrialResult {
    fn new(seed: u64, layout: &Layout) -> Self {
        Self {
            seed,
            shape: layout.shape,
            routers: layout.routers(),
            sites: layout.sites.len(),
            faults: BTreeMap::new(),
            checked: BTreeMap::new(),
            breaches: Vec::new(),
            loops: Vec::new(),
            packets: 0,
            took: Duration::ZERO,
            story: Vec::new(),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}: {}", self.invariant.text(), self.what)
    }
}

/// Why a trial ended early.
#[derive(Debug, thiserror::Error)]
enum TrialError {
    #[error("a router's configuration is wrong: {0}")]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    RunError(#[from] RunError),
}

fn try_run(
    layout: Layout,
    rng: Rng,
    options: Options,
    outcome: &mut TrialResult,
) -> Result<(), TrialError> {
    let mut world = World::new(outcome.seed, layout, rng)?;
    let begun = world.net.now();
    let mut judge = Judge::new(options.spoil);
    world.watch.spoilt = options.spoil;
    let ended = play(&mut world, &mut judge, &mut outcome.faults);
    if ended.is_ok() {
        judge.always(&world, begun);
    }
    outcome.checked = judge.checked;
    outcome.breaches = judge.breaches;
    outcome.loops = judge::loops(world.net.revisits());
    outcome.packets = world.net.flows().iter().map(|flow| flow.sent.len() as u64).sum();
    outcome.took = world.net.now().since(begun);
    outcome.story = story(world);
    ended
}

fn play(
    world: &mut World,
    judge: &mut Judge,
    faults: &mut BTreeMap<FaultKind, u64>,
) -> Result<(), TrialError> {
    let bgp = world.layout.shape == NetShape::Peers;
    world.run_for(if bgp { WARM_UP_OF_BGP } else { WARM_UP })?;
    world.warm_since = world.net.now();
    world.start_flows();
    // While nothing fails, only they can change what packets get.
    for _ in 0..CALM_RELOADS {
        faults::pause(world, 40, 40)?;
        faults::reload(world)?;
        *faults.entry(FaultKind::Reload).or_default() += 1;
    }
    faults::pause(world, 40, 40)?;
    let end = world.net.now() + if bgp { BGP_FAULTS_LAST } else { FAULTS_LAST };
    while world.net.now() < end {
        *faults.entry(faults::inflict(world)?).or_default() += 1;
        faults::pause(world, 20, 180)?;
    }
    // Nothing that comes later puts right what this one leaves behind.
    rush::rush(world)?;
    *faults.entry(FaultKind::Rush).or_default() += 1;
    world.note("nothing fails any more".to_owned());
    world.settle();
    converge(world, bgp)?;
    let expected = judge.expected(world);
    for (client, addresses) in expected.iter().enumerate() {
        for (address, sites) in addresses.iter().enumerate() {
            world.note(format!("c{client} at address {address}: to be served by one of {sites:?}"));
        }
    }
    spoil(world, judge.spoilt)?;
    let since = world.net.now();
    world.run_for(if bgp { 2 * JUDGED } else { JUDGED })?;
    judge.converged(world, since, &expected);
    Ok(())
}

/// Waits until the routers must have converged. Where they speak BGP, the longest sequence of timers is rare:
/// once every session is as it must be, nothing is waited for but checks.
fn converge(world: &mut World, bgp: bool) -> Result<(), TrialError> {
    let routers = world.layout.routers();
    let end = world.net.now() + budget(world.layout.shape, routers);
    world.run_for(budget(NetShape::Chain, routers))?;
    while bgp && world.net.now() < end && !judge::agree(world) {
        world.run_for(CONVERGING_FOR)?;
    }
    // What was learned last is published.
    if bgp { world.run_for(CONVERGING_FOR) } else { Ok(()) }
}

/// Breaks an invariant by changing the network; the judge breaks the others for itself.
fn spoil(world: &mut World, what: Option<Invariant>) -> Result<(), TrialError> {
    match what {
        Some(Invariant::BlackHole) => {
            (0..world.layout.sites.len()).for_each(|site| world.set_power(site, Power::Off));
        }
        // The first two routers prefer one another, without any check.
        Some(Invariant::Loop) => {
            world.set_link(world.trunk_links[0], LinkState::Up);
            for node in [0, 1] {
                let to = LegTarget::Trunk(0);
                for legs in &mut world.layout.legs[node] {
                    legs.retain(|leg| leg.to != to);
                    legs.push(Leg { to, cost: UNCHECKED });
                }
                world.reload(node, "without sense")?;
            }
            world.run_for(SPOILT_FOR)?;
        }
        _ => {}
    }
    Ok(())
}

/// What the trial did and the routers reported, by time; an action comes before its effects.
fn story(world: World) -> Vec<StoryLine> {
    let mut story = world.story;
    let reported = |one: &super::NodeEvent| {
        let (t, who) = (one.t, config::router_name(one.node));
        StoryLine { t, who, what: one.kind.to_string() }
    };
    story.extend(world.net.events().iter().map(reported));
    story.sort_by_key(|reported| reported.t);
    story
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Time for the first results.
const WARM_UP: Duration = Duration::from_secs(1);

/// A first attempt to connect may meet a neighbour whose ports are not open yet.
const WARM_UP_OF_BGP: Duration = Duration::from_secs(4);

/// A neighbour that is silent is lost after the hold time; after that it waits, each time for longer, and then
/// for the next attempt to connect, which comes every 30 s. What was withdrawn is announced again after 10 s.
const SESSIONS_STAND_AFTER: Duration = Duration::from_mins(1);
const CALM_RELOADS: usize = 6;
const FAULTS_LAST: Duration = Duration::from_secs(2);
const BGP_FAULTS_LAST: Duration = Duration::from_secs(6);
const JUDGED: Duration = Duration::from_millis(400);

/// Between two looks whether sessions are as they must be.
const CONVERGING_FOR: Duration = Duration::from_millis(500);

const SPOILT_FOR: Duration = Duration::from_millis(100);
