//! Why a prefix is announced so, or not, and how that is said.

use super::decide::Decision;
use super::learned::NotOnward;
use super::leave::LeaveCause;
use crate::bgp::lease::LeaseState;
use crate::bgp::session::State;
use crate::config::model::AggregateWhile;
use crate::time::Nanos;

/// Why a prefix is announced so, or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// So many sites are well, which is enough.
    Enough {
        /// Sites that are well.
        well: usize,
        /// Sites that are needed.
        needed: usize,
    },
    /// So many sites are well, which is too few.
    TooFew {
        /// Sites that are well.
        well: usize,
        /// Sites that are needed.
        needed: usize,
    },
    /// An operator has it discarded.
    Blocked,
    /// It is blocked, and the neighbour is not to hear of such prefixes.
    NoBlackholes,
    /// The playbook of this name withdraws it.
    Playbook(String),
    /// So many services of an aggregate are announced.
    Parts {
        /// Services that are announced.
        announced: usize,
        /// Services that it has.
        all: usize,
        /// How many of them are needed.
        needed: AggregateWhile,
    },
    /// It is announced whatever becomes of its sites.
    Always {
        /// Sites that are well.
        well: usize,
    },
    /// No packet that came in by the neighbour's port was answered by a site yet.
    Unproven {
        /// It is announced then in any case.
        until: Nanos,
    },
    /// Enough sites are well again, and it waits in case they are not for long.
    Delayed {
        /// Until then.
        until: Nanos,
    },
    /// All is deprioritised, and withdrawn then.
    Leaving {
        /// When.
        until: Nanos,
        /// Why.
        why: LeaveCause,
    },
    /// All is withdrawn.
    Left(LeaveCause),
    /// The neighbour of this name announces it.
    Learned {
        /// Its name.
        from: String,
    },
    /// Another neighbour's path that this one must not hear of.
    NotOnward(NotOnward),
    /// The neighbour's `export` does not have it.
    NotExported,
    /// A part of the router stood still.
    Lease(LeaseState),
    /// No session is established.
    NoSession(State),
    /// The neighbour does not take routes of this family.
    FamilyNotNegotiated,
    /// The router has no address of this family towards the neighbour.
    NoNextHop,
    /// The neighbour's `export-policy` refuses it.
    Policy {
        /// The policy's name.
        policy: String,
        /// The rule's; `None`: no rule decided.
        rule: Option<String>,
    },
}

impl Decision {
    /// `announced`, `withheld` (whatever becomes of its sites) or `withdrawn`.
    pub fn label(&self) -> &'static str {
        match (&self.announce, &self.why) {
            (Some(_), _) => "announced",
            (
                None,
                Reason::NotExported
                | Reason::NotOnward(_)
                | Reason::NoBlackholes
                | Reason::NoSession(_)
                | Reason::FamilyNotNegotiated
                | Reason::NoNextHop
                | Reason::Policy { .. },
            ) => "withheld",
            (None, _) => "withdrawn",
        }
    }

    /// The reason, in words.
    pub fn text(&self, now: Nanos) -> String {
        let reason = self.reason(now);
        if self.playbooks.is_empty() {
            return reason;
        }
        format!("{reason}; changed by playbook {}", self.playbooks.join(", "))
    }

    fn reason(&self, now: Nanos) -> String {
        let sites = |well: usize| match well {
            0 => "no site is well".to_owned(),
            1 => "1 site is well".to_owned(),
            _ => format!("{well} sites are well"),
        };
        let is_announced = self.announce.is_some();
        match &self.why {
            Reason::TooFew { well, needed } if is_announced => {
                format!("deprioritised: {}, {needed} needed", sites(*well))
            }
            Reason::Enough { well, needed } | Reason::TooFew { well, needed } => {
                format!("{}, {needed} needed", sites(*well))
            }
            Reason::Always { well } => format!("always; {}", sites(*well)),
            Reason::Unproven { until } => format!(
                "unproven: no site has answered a packet from the neighbour's port; waits for another {}",
                seconds(now, *until)
            ),
            Reason::Learned { from } => format!("{from} announces it"),
            Reason::NotOnward(why) => why.to_string(),
            Reason::Blocked => "blocked: its packets are to be discarded".into(),
            Reason::NoBlackholes => {
                "blocked, and the neighbour has no blackhole = true in its configuration".into()
            }
            Reason::Playbook(name) => format!("playbook {name} withdraws it"),
            Reason::Parts { announced, all, needed } => {
                let needed = match needed {
                    AggregateWhile::All => "all are needed",
                    AggregateWhile::Any => "one is enough",
                };
                format!("{announced} of {all} services are announced, {needed}")
            }
            Reason::Delayed { until } if is_announced => {
                format!("deprioritised for another {}", seconds(now, *until))
            }
            Reason::Delayed { until } => format!("delayed for another {}", seconds(now, *until)),
            Reason::Leaving { until, why } => {
                format!("{}: withdrawn in {}", why.text(), seconds(now, *until))
            }
            Reason::Left(why) => why.text().into(),
            Reason::Lease(lease) => lease.text(),
            Reason::NotExported => "export of the neighbour does not have it".into(),
            Reason::NoSession(state) => format!("no session ({})", state.label()),
            Reason::FamilyNotNegotiated => "the family was not negotiated".into(),
            Reason::Policy { policy, rule: Some(rule) } => {
                format!("rule {rule:?} of policy {policy:?} refuses it")
            }
            Reason::Policy { policy, rule: None } => {
                format!("no rule of policy {policy:?} accepts it")
            }
            Reason::NoNextHop => {
                "no next hop: the router has no address of the family on the neighbour's port"
                    .into()
            }
        }
    }
}

/// Rounded up, so that it is never 0 while there is time left.
fn seconds(now: Nanos, until: Nanos) -> String {
    format!("{} s", until.since(now).as_millis().div_ceil(1000))
}
