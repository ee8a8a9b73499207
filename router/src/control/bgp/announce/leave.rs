//! Leaving: what is announced is first made what nobody prefers, so that traffic moves while the router still
//! forwards it (RFC 8326), and then withdrawn.

use std::time::Duration;

use super::super::Bgp;
use crate::bgp::session::State;
use crate::config::model::{Leaving, OnExit};
use crate::time::Nanos;

/// Whether the router leaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Leave {
    /// It does not.
    #[default]
    No,
    /// All that it announces is deprioritised until then.
    Warned {
        /// When it is withdrawn.
        until: Nanos,
        /// Why.
        why: LeaveCause,
    },
    /// It announces nothing.
    Gone(LeaveCause),
}

/// Why the router leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaveCause {
    /// An operator drained it.
    Drained,
    /// Its process ends.
    Exit,
}

impl Leave {
    /// When it goes on although nothing happens.
    pub(super) fn due(self) -> Option<Nanos> {
        match self {
            Self::Warned { until, .. } => Some(until),
            Self::No | Self::Gone(_) => None,
        }
    }
}

impl LeaveCause {
    /// As the subject of a sentence.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Drained => "the router is drained",
            Self::Exit => "the router ends",
        }
    }
}

impl Bgp {
    /// Whether the router leaves.
    pub(in crate::control) fn leaves(&self) -> Leave {
        self.announcements.leave
    }

    /// Takes all announcements back after `wait`, at once if that is zero; or announces again. A router that
    /// ends is not drained any more.
    pub(in crate::control) fn drain(&mut self, now: Nanos, is_drained: bool, wait: Duration) {
        let leave = self.announcements.leave;
        if matches!(leave, Leave::Gone(LeaveCause::Exit))
            || matches!(leave, Leave::Warned { why: LeaveCause::Exit, .. })
        {
            return;
        }
        self.leave(if is_drained { warned(now, wait, LeaveCause::Drained) } else { Leave::No });
    }

    /// The process is about to end. Returns when it may; `None` is at once, as nobody expects anything of it.
    pub(in crate::control) fn begin_exit(&mut self, now: Nanos, how: &Leaving) -> Option<Nanos> {
        let is_heard = self
            .neighbors
            .values()
            .any(|state| state.state == State::Established && !state.announced.is_empty());
        if !is_heard {
            return None;
        }
        let wait = how.exit_wait;
        let (leave, waits) = match how.on_exit {
            OnExit::End => return None,
            OnExit::Withdraw => (Leave::Gone(LeaveCause::Exit), 1),
            OnExit::GracefulShutdown => (warned(now, wait, LeaveCause::Exit), 2),
        };
        self.leave(leave);
        Some(now + wait * waits)
    }

    /// Time has passed.
    pub(super) fn go_on_leaving(&mut self, now: Nanos) {
        if let Leave::Warned { until, why } = self.announcements.leave
            && until <= now
        {
            self.leave(Leave::Gone(why));
        }
    }

    fn leave(&mut self, leave: Leave) {
        if std::mem::replace(&mut self.announcements.leave, leave) != leave {
            self.mark_all();
        }
    }
}

fn warned(now: Nanos, wait: Duration, why: LeaveCause) -> Leave {
    if wait.is_zero() { Leave::Gone(why) } else { Leave::Warned { until: now + wait, why } }
}
