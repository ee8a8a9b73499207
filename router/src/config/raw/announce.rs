//! Reads when services are announced by BGP, and what is said of them.
#![forbid(unsafe_code)]

use std::time::Duration;

use toml::Spanned;

use super::policy::{community, large_community};
use super::{inner_or, inner_or_default};
use crate::bgp::lease::LeaseRules;
use crate::bgp::{Community, LargeCommunity};
use crate::config::model::{
    Additions, AnnounceRules, AnnounceWhen, BelowMin, Leaving, LinkBandwidth, NeighborTerms, OnExit,
};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::Table;

/// The keys of a service about its announcements, as written.
pub(in crate::config) struct RawAnnounceRules {
    pub(in crate::config) when: Option<Spanned<AnnounceWhen>>,
    pub(in crate::config) prove_timeout: Option<Spanned<Duration>>,
    pub(in crate::config) min_sites: Option<Spanned<usize>>,
    below_min: BelowMin,
    delay: Option<Spanned<Duration>>,
}

/// What is added to announcements, as written.
pub(in crate::config) struct RawAdditions {
    pub(in crate::config) communities: Vec<Spanned<Community>>,
    pub(in crate::config) large_communities: Vec<Spanned<LargeCommunity>>,
    pub(in crate::config) prepend: Option<Spanned<u8>>,
    med: Option<Spanned<u32>>,
}

/// What a neighbor hears of all that is announced to it, as written.
pub(in crate::config) struct RawTerms {
    pub(in crate::config) additions: RawAdditions,
    pub(in crate::config) local_pref: Option<Spanned<u32>>,
    link_bandwidth: LinkBandwidth,
    takes_blackholes: bool,
    takes_learned: bool,
}

impl RawAnnounceRules {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            when: table.get("announce", text("a word", announce_when)),
            prove_timeout: table.get("prove-timeout", text("a span of time", prove_timeout)),
            min_sites: table.get("min-sites", value::integer(1..=SITES_MAX)),
            below_min: inner_or_default(table.get("below-min", text("a word", below_min))),
            delay: table.get("announce-delay", text("a span of time", delay)),
        }
    }

    pub(super) fn into_model(self) -> AnnounceRules {
        let default = AnnounceRules::default();
        AnnounceRules {
            when: self.when.map_or(default.when, Spanned::into_inner),
            prove_timeout: self.prove_timeout.map_or(default.prove_timeout, Spanned::into_inner),
            min_sites: self.min_sites.map_or(default.min_sites, Spanned::into_inner),
            below_min: self.below_min,
            delay: self.delay.map_or(default.delay, Spanned::into_inner),
        }
    }
}

impl RawAdditions {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            communities: table.list("communities", text("a community", community)),
            large_communities: table
                .list("large-communities", text("a large community", large_community)),
            prepend: table.get("prepend", value::integer(0..=PREPEND_MAX)),
            med: table.get("med", value::integer(0..=u32::MAX)),
        }
    }

    /// Whether it adds nothing.
    pub(super) fn is_empty(&self) -> bool {
        let Self { communities, large_communities, prepend, med } = self;
        communities.is_empty() && large_communities.is_empty() && prepend.is_none() && med.is_none()
    }

    pub(super) fn into_model(self) -> Additions {
        let communities = self.communities.into_iter().map(Spanned::into_inner);
        let large_communities = self.large_communities.into_iter().map(Spanned::into_inner);
        Additions {
            communities: communities.collect(),
            large_communities: large_communities.collect(),
            prepend: inner_or_default(self.prepend),
            med: self.med.map(Spanned::into_inner),
        }
    }
}

impl RawTerms {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            additions: RawAdditions::read(table),
            local_pref: table.get("local-pref", value::integer(0..=u32::MAX)),
            link_bandwidth: inner_or_default(
                table.get("link-bandwidth", text("a word", link_bandwidth)),
            ),
            takes_blackholes: inner_or_default(table.get("blackhole", value::boolean)),
            takes_learned: inner_or_default(table.get("export-learned", value::boolean)),
        }
    }

    pub(super) fn into_model(self) -> NeighborTerms {
        NeighborTerms {
            additions: self.additions.into_model(),
            local_pref: self.local_pref.map(Spanned::into_inner),
            link_bandwidth: self.link_bandwidth,
            takes_blackholes: self.takes_blackholes,
            takes_learned: self.takes_learned,
        }
    }
}

/// How the router takes back what it announces.
pub(super) fn leaving(bgp: &mut Table<'_>) -> Leaving {
    let default = Leaving::default();
    let wait = |longest| text("a span of time", value::duration_in(Duration::ZERO..=longest));
    Leaving {
        drain_wait: inner_or(bgp.get("drain-wait", wait(DRAIN_WAIT_MAX)), default.drain_wait),
        on_exit: inner_or_default(bgp.get("on-exit", text("a word", on_exit))),
        exit_wait: inner_or(bgp.get("exit-wait", wait(EXIT_WAIT_MAX)), default.exit_wait),
    }
}

/// When what is announced is deprioritised because a part of the router stands still.
pub(super) fn lease(bgp: &mut Table<'_>) -> LeaseRules {
    let default = LeaseRules::default();
    LeaseRules {
        after: inner_or(bgp.get("lease", text("a span of time", lease_after)), default.after),
        withdraw: inner_or(
            bgp.get("lease-withdraw", text("a span of time, or \"never\"", lease_withdraw)),
            default.withdraw,
        ),
        ..default
    }
}

/// Zero, or a second at least: a thread of a busy machine may be late.
fn lease_after(text: &str) -> Result<Duration, ValueError> {
    let span = value::duration_in(Duration::ZERO..=LEASE_MAX)(text)?;
    if !span.is_zero() && span < LEASE_MIN {
        return Err(ValueError::new("expected 0s (never), or 1s to 10min"));
    }
    Ok(span)
}

fn lease_withdraw(text: &str) -> Result<Option<Duration>, ValueError> {
    match text {
        "never" => Ok(None),
        _ => value::duration_in(Duration::ZERO..=LEASE_WITHDRAW_MAX)(text).map(Some),
    }
}

fn on_exit(word: &str) -> Result<OnExit, ValueError> {
    let words = [
        ("withdraw", Some(OnExit::Withdraw)),
        ("graceful-shutdown", Some(OnExit::GracefulShutdown)),
        ("end", Some(OnExit::End)),
    ];
    one_of(word, &words)
}

fn link_bandwidth(word: &str) -> Result<LinkBandwidth, ValueError> {
    let words = [
        ("off", Some(LinkBandwidth::Off)),
        ("auto", Some(LinkBandwidth::Auto)),
        ("transitive", Some(LinkBandwidth::Transitive)),
        ("non-transitive", Some(LinkBandwidth::NonTransitive)),
    ];
    one_of(word, &words)
}

fn announce_when(word: &str) -> Result<AnnounceWhen, ValueError> {
    let words = [
        ("always", Some(AnnounceWhen::Always)),
        ("healthy", Some(AnnounceWhen::Healthy)),
        ("proven", Some(AnnounceWhen::Proven)),
    ];
    one_of(word, &words)
}

fn below_min(word: &str) -> Result<BelowMin, ValueError> {
    let words =
        [("withdraw", Some(BelowMin::Withdraw)), ("deprioritise", Some(BelowMin::Deprioritise))];
    one_of(word, &words)
}

fn prove_timeout(text: &str) -> Result<Duration, ValueError> {
    value::duration_in(PROVE_TIMEOUT_MIN..=DELAY_MAX)(text)
}

/// At most [`DELAY_MAX`], to which repeated withdrawals lead too.
fn delay(text: &str) -> Result<Duration, ValueError> {
    value::duration_in(Duration::ZERO..=DELAY_MAX)(text)
}

/// Longer paths are refused by many.
const PREPEND_MAX: u8 = 16;

const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_mins(10);
const LEASE_WITHDRAW_MAX: Duration = Duration::from_hours(24);

const DRAIN_WAIT_MAX: Duration = Duration::from_hours(1);

/// Whoever ends a process does not wait for long.
const EXIT_WAIT_MAX: Duration = Duration::from_mins(1);

/// Several requests, each 100 ms after the last.
const PROVE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

const DELAY_MAX: Duration = Duration::from_mins(10);

/// As many sites as a service can have.
const SITES_MAX: usize = 64;
