//! Trials: a network from a seed, faults from the same seed, and what has to hold then.
//!
//! ```
//! use nearhop::sim::trial::{Options, run};
//! let outcome = run(1, Options::default());
//! assert_eq!(outcome.breaches, []);
//! ```
//!
//! A trial draws two to six routers, their links, sites and clients; lets things fail for two
//! seconds, one after the other; ends what stands still or is damaged; gives the routers their
//! [`budget`]; and then judges every packet. What failed and was not healed stays so: the oracle
//! says from links, sites, costs and routes who has to serve now.
#![forbid(unsafe_code)]

mod faults;
mod judge;
mod oracle;
mod plan;
#[cfg(test)]
mod tests;
mod world;

pub use faults::Fault;
pub use plan::Shape;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Action, NodeError, Power, Stuck};
use crate::config::ConfigErrors;
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::time::Nanos;
use judge::Judge;
use plan::{Leg, Plan, To, UNCHECKED};
use world::World;

/// What has to hold of a trial.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Invariant {
    /// Every packet that a router begins with ends in exactly one verdict.
    Account,
    /// After the budget no packet is lost while there is a way.
    BlackHole,
    /// No flow moves unless the router where its way changes told why.
    Cause,
    /// After the budget no packet comes to a router twice.
    Loop,
    /// After the budget each flow is at the site that the oracle says, and stays there.
    Site,
    /// Routers do something only for a packet, a timer or an order, and never panic.
    Work,
}

/// How trials are done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only networks of this shape.
    pub shape: Option<Shape>,
    /// Break this invariant on purpose, to see that the judge notices.
    pub spoil: Option<Invariant>,
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Where it came from.
    pub seed: u64,
    /// How its routers were linked.
    pub shape: Shape,
    /// How many routers there were.
    pub routers: usize,
    /// How many sites there were.
    pub sites: usize,
    /// How often each fault was inflicted.
    pub faults: BTreeMap<Fault, u64>,
    /// How much there was to look at: packets, flows, moves or steps.
    pub checked: BTreeMap<Invariant, u64>,
    /// What did not hold.
    pub breaches: Vec<Breach>,
    /// Loops that came and went.
    pub loops: Vec<TransientLoop>,
    /// Packets that clients sent.
    pub packets: u64,
    /// Of the network's own clock.
    pub took: Duration,
    /// Everything that was done and that routers said, by time.
    pub story: Vec<Told>,
}

/// Something that did not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Breach {
    /// What should have.
    pub invariant: Invariant,
    /// What was seen instead.
    pub what: String,
}

/// Packets went in a circle for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransientLoop {
    /// When a packet first came to a router again.
    pub from: Nanos,
    /// When one last did.
    pub to: Nanos,
    /// How often packets did.
    pub returns: u64,
}

/// A line of the story of a trial.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// When.
    pub t: Nanos,
    /// The router that says it, or `trial`.
    pub who: String,
    /// In words.
    pub what: String,
}

/// Runs the trial of a seed. The same seed and options give the same outcome.
///
/// A panic, or a clock that stands still, is a breach of [`Invariant::Work`].
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut rng = Rng::new(seed);
    let plan = Plan::draw(&mut rng, options.shape);
    let mut outcome = Outcome::new(seed, &plan);
    let ended = catch_unwind(AssertUnwindSafe(|| try_run(plan, rng, options, &mut outcome)));
    let what = match ended {
        Ok(Ok(())) => return outcome,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("panic: {}", words(&*panic)),
    };
    outcome.breaches.push(Breach { invariant: Invariant::Work, what });
    outcome
}

/// What routers are given to find a new order: the longest row of checks that wait for one another.
pub fn budget(routers: usize) -> Duration {
    Duration::from_secs(1) + Duration::from_millis(300) * routers as u32
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Account, Self::BlackHole, Self::Cause, Self::Loop, Self::Site, Self::Work];

    /// One word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::BlackHole => "black-hole",
            Self::Cause => "cause",
            Self::Loop => "loop",
            Self::Site => "site",
            Self::Work => "work",
        }
    }

    /// What holds, in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Account => "every packet ends in one verdict",
            Self::BlackHole => "no black hole while a path exists",
            Self::Cause => "no flow moves without a cause",
            Self::Loop => "no forwarding loop after the budget",
            Self::Site => "the site is the oracle's",
            Self::Work => "bounded work",
        }
    }

    /// What is counted in [`Outcome::checked`].
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Account | Self::BlackHole | Self::Loop => "packets",
            Self::Cause => "moves",
            Self::Site => "flows",
            Self::Work => "steps",
        }
    }
}

impl TransientLoop {
    /// From the first to the last packet that came to a router again.
    pub fn lasted(&self) -> Duration {
        self.to.since(self.from)
    }
}

impl Outcome {
    fn new(seed: u64, plan: &Plan) -> Self {
        Self {
            seed,
            shape: plan.shape,
            routers: plan.routers(),
            sites: plan.sites.len(),
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
        write!(f, "not so: {}: {}", self.invariant.text(), self.what)
    }
}

/// What ends a trial before its time.
#[derive(Debug, thiserror::Error)]
enum TrialError {
    #[error("a router's configuration is wrong: {0}")]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

fn try_run(
    plan: Plan,
    rng: Rng,
    options: Options,
    outcome: &mut Outcome,
) -> Result<(), TrialError> {
    let mut world = World::new(outcome.seed, plan, rng)?;
    let begun = world.net.now();
    let mut judge = Judge::new(options.spoil);
    let ended = play(&mut world, &mut judge, &mut outcome.faults);
    if ended.is_ok() {
        judge.always(&world, begun);
    }
    outcome.checked = judge.checked;
    outcome.breaches = judge.breaches;
    outcome.loops = judge::loops(world.net.returns());
    outcome.packets = world.net.flows().iter().map(|flow| flow.sent.len() as u64).sum();
    outcome.took = world.net.now().since(begun);
    outcome.story = story(world);
    ended
}

fn play(
    world: &mut World,
    judge: &mut Judge,
    faults: &mut BTreeMap<Fault, u64>,
) -> Result<(), TrialError> {
    world.run_for(WARM_UP)?;
    world.start_flows();
    let end = world.net.now() + FAULTS_LAST;
    while world.net.now() < end {
        *faults.entry(faults::inflict(world)?).or_default() += 1;
        faults::pause(world, 20, 180)?;
    }
    world.tell("nothing fails any more".to_owned());
    world.settle();
    let routers = world.plan.routers();
    world.run_for(budget(routers))?;
    let expected = judge.expected(world);
    for (client, sites) in expected.iter().enumerate() {
        world.tell(format!("c{client} has to be served by one of {sites:?}"));
    }
    spoil(world, judge.spoilt)?;
    let since = world.net.now();
    world.run_for(JUDGED)?;
    judge.converged(world, since, &expected);
    Ok(())
}

/// Breaks what cannot be broken by telling the judge something wrong.
fn spoil(world: &mut World, what: Option<Invariant>) -> Result<(), TrialError> {
    match what {
        Some(Invariant::BlackHole) => {
            (0..world.plan.sites.len()).for_each(|site| world.set_power(site, Power::Off));
        }
        // The first two routers prefer one another, and ask nobody whether that is of use.
        Some(Invariant::Loop) => {
            world.set_link(world.trunk_links[0], LinkState::Up);
            for node in [0, 1] {
                let to = To::Trunk(0);
                world.plan.legs[node].retain(|leg| leg.to != to);
                world.plan.legs[node].push(Leg { to, cost: UNCHECKED });
                let config = Box::new(world.plan.config(node)?);
                world.act(Action::Reload { node, config });
            }
            world.run_for(SPOILT_FOR)?;
        }
        _ => {}
    }
    Ok(())
}

/// What the trial did and what routers said, by time; what was done comes before what came of it.
fn story(world: World) -> Vec<Told> {
    let mut story = world.story;
    let told = |one: &super::Happened| {
        let (t, who) = (one.t, plan::router_name(one.node));
        Told { t, who, what: one.kind.to_string() }
    };
    story.extend(world.net.happened().iter().map(told));
    story.sort_by_key(|told| told.t);
    story
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

/// For the first verdicts.
const WARM_UP: Duration = Duration::from_secs(1);
const FAULTS_LAST: Duration = Duration::from_secs(2);
const JUDGED: Duration = Duration::from_millis(400);

const SPOILT_FOR: Duration = Duration::from_millis(100);
