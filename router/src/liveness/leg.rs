//! Legs: what their checks are, and what these say together.
#![forbid(unsafe_code)]

use std::time::Duration;

use nearhop_fib::{PathId, Reason, Reasons};

use super::damping::Damping;
use super::monitor::doubt::Doubt;
use crate::batch::Exit;
use crate::policy::{CheckKind, Combine};
use crate::probe::{CheckId, CheckSpec};
use crate::time::Nanos;

/// One way to a site, as it is to be watched.
#[derive(Clone, Debug)]
pub struct LegSpec {
    /// The path whose byte is kept.
    pub path: PathId,
    /// Which checks of the path these are: verdicts about others are not its own.
    pub version: u64,
    /// The way out of its packets.
    pub exit: Exit,
    /// What has to be answered; empty: only the carrier counts.
    pub checks: Vec<CheckSpec>,
    /// How several checks make one verdict.
    pub combine: Combine,
    /// Why none of its checks can be done, if so: it stays down then.
    pub impossible: Option<String>,
    /// Whether an operator has disabled its site.
    pub disabled: bool,
    /// What it is one of; `None`: its checks are always believed.
    pub crowd: Option<Crowd>,
}

/// Of which service and site a leg is, so that checks that call many sites dead at once are noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Crowd {
    /// A number of the service in the leg's family.
    pub service: u64,
    /// A number of the site.
    pub site: u64,
    /// So many percent of the sites may be called dead within a second; later ones are not believed at once.
    pub threshold: u8,
}

impl LegSpec {
    /// What its path is down for before its checks have said anything.
    pub fn initial_reasons(&self) -> Reasons {
        let begin = if self.disabled { Reason::Operator.into() } else { Reasons::NONE };
        if self.impossible.is_some() {
            return begin.with(Reason::Health);
        }
        let failing = self.checks.iter().filter(|check| !check.initial_up);
        let well = match self.combine {
            Combine::All => failing.clone().next().is_none(),
            Combine::Any => self.checks.is_empty() || self.checks.iter().any(|c| c.initial_up),
        };
        if well {
            return begin;
        }
        failing.fold(begin, |reasons, check| reasons.with(reason_of(&check.kind)))
    }
}

/// A TCP check of a leg, which the host stack does.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TcpCheckKey {
    /// The leg's path.
    pub path: PathId,
    /// As [`LegSpec::version`].
    pub version: u64,
    /// Its number among the leg's checks.
    pub index: usize,
}

/// The reason that a failing check of this kind sets.
pub fn reason_of(kind: &CheckKind) -> Reason {
    match kind {
        CheckKind::Icmp | CheckKind::Udp { .. } => Reason::Probe,
        CheckKind::Dns { .. } | CheckKind::Tcp { .. } => Reason::Health,
    }
}

/// A leg that is watched.
pub(super) struct Leg {
    pub(super) version: u64,
    pub(super) exit: Exit,
    pub(super) checks: Vec<Check>,
    pub(super) combine: Combine,
    /// It has checks that cannot be done.
    pub(super) impossible: bool,
    pub(super) crowd: Option<Crowd>,
    pub(super) doubt: Doubt,
    pub(super) damping: Damping,
    /// Waits until then, although it is well.
    pub(super) hold_until: Option<Nanos>,
    /// As last reported.
    pub(super) up: bool,
    /// Whether a verdict was reported yet.
    pub(super) reported: bool,
}

/// One check of a leg.
pub(super) struct Check {
    /// `None` for a TCP check, which the host stack does.
    pub(super) id: Option<CheckId>,
    pub(super) reason: Reason,
    pub(super) up: bool,
    pub(super) known: bool,
    /// As long as it takes to fall and to rise.
    pub(super) burst: Duration,
}

impl Leg {
    /// One without a verdict and without flaps.
    pub(super) fn new(spec: &LegSpec, checks: Vec<Check>) -> Self {
        Self {
            version: spec.version,
            exit: spec.exit,
            checks,
            combine: spec.combine,
            impossible: spec.impossible.is_some(),
            crowd: spec.crowd,
            doubt: Doubt::None,
            damping: Damping::default(),
            hold_until: None,
            up: false,
            reported: false,
        }
    }

    pub(super) fn is_well(&self) -> bool {
        match self.combine {
            _ if self.impossible => false,
            Combine::All => self.checks.iter().all(|check| check.up),
            Combine::Any => self.checks.is_empty() || self.checks.iter().any(|check| check.up),
        }
    }

    pub(super) fn fails(&self, reason: Reason) -> bool {
        (self.impossible && reason == Reason::Health)
            || self.checks.iter().any(|check| check.reason == reason && !check.up)
    }

    /// Whether it has a check without a first result.
    pub(super) fn is_undecided(&self) -> bool {
        self.checks.iter().any(|check| !check.known)
    }
}
