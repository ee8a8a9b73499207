//! What operators and the end of the process do to announcements.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use std::net::IpAddr;

use nearhop_fib::IpPrefix;

use super::ControlThread;
use crate::api::document::Effected;
use crate::api::pages::prefix_of;
use crate::api::{self, AnnounceRequest, ApiError, Who, views};
use crate::control::{BLOCKS_MAX, Overrides};
use crate::run::signals::Patience;
use crate::time::Nanos;

impl ControlThread {
    /// Carries a command out, once that is on disk.
    pub(super) fn change_announcements(
        &mut self,
        request: &AnnounceRequest,
        who: &Who,
    ) -> Result<Effected, ApiError> {
        let effect = match request {
            AnnounceRequest::DrainRouter(drained) => self.drain_router(*drained, who)?,
            AnnounceRequest::Play { playbook, applied, force } => {
                self.play(playbook, *applied, *force, who)?
            }
            AnnounceRequest::Block { prefix, blocked, force } => {
                let prefix = match prefix.parse::<IpAddr>() {
                    Ok(address) => IpPrefix::host(address),
                    Err(_) => prefix_of("prefix", prefix)?,
                };
                self.block(prefix, *blocked, *force, who)?
            }
        };
        Ok(views::effected(effect))
    }

    fn drain_router(&mut self, drained: bool, who: &Who) -> Result<String, ApiError> {
        let Some(bgp) = &self.daemon.control.config().bgp else {
            return Err(ApiError::conflict("the router announces nothing")
                .with_help("configure [bgp], or drain sites: nearhop drain SITE"));
        };
        let wait = bgp.leaving.drain_wait;
        let next = Overrides { router: drained, ..self.daemon.control.overrides().clone() };
        self.keep(&next, not_kept)?;
        let is_new = self.daemon.control.drain_router(Nanos::now(), drained, &who.0);
        Ok(match (drained, is_new) {
            (true, true) if wait.is_zero() => "all announcements are withdrawn now".into(),
            (true, true) => format!(
                "all announcements are deprioritised now, and withdrawn in {} s; the router forwards on",
                wait.as_secs_f64()
            ),
            (true, false) => "the router was drained before".into(),
            (false, true) => "what is well is announced again".into(),
            (false, false) => "the router was not drained".into(),
        })
    }

    fn play(
        &mut self,
        name: &str,
        applied: bool,
        force: bool,
        who: &Who,
    ) -> Result<String, ApiError> {
        let control = &self.daemon.control;
        let mut next = control.overrides().clone();
        let configured = control.config().bgp.iter().flat_map(|bgp| &bgp.playbooks);
        let names: Vec<&str> = configured.map(|playbook| &*playbook.name).collect();
        if !names.contains(&name) && (applied || !next.playbooks.contains(name)) {
            return Err(ApiError::not_found(format!("no playbook is named {name:?}"))
                .with_help(api::known("playbooks", name, &names)));
        }
        let is_new = if applied {
            next.playbooks.insert(name.to_owned())
        } else {
            next.playbooks.remove(name)
        };
        if !is_new {
            let was = if applied { "applied before" } else { "not applied" };
            return Ok(format!("playbook {name} was {was}"));
        }
        if !force {
            let left = control.left_unannounced(&next.playbooks);
            let left: Vec<String> = left.into_iter().collect();
            let verb = if applied { "apply" } else { "undo" };
            self.guard_services(&left, |names| {
                format!("playbook {verb} {name} withdraws {names} from all neighbours")
            })?;
        }
        self.keep(&next, not_kept)?;
        self.daemon.control.play(Nanos::now(), name, applied, &who.0);
        let done = if applied { "applied" } else { "undone" };
        Ok(format!("playbook {name} is {done}: nearhop show bgp advertised says what it changes"))
    }

    fn block(
        &mut self,
        prefix: IpPrefix,
        blocked: bool,
        force: bool,
        who: &Who,
    ) -> Result<String, ApiError> {
        let control = &self.daemon.control;
        let mut next = control.overrides().clone();
        let is_new = next.blocks.set(prefix, blocked);
        if blocked && is_new {
            self.may_block(prefix, next.blocks.len(), force)?;
        }
        if !is_new {
            let was = if blocked { "blocked before" } else { "not blocked" };
            return Ok(format!("{prefix} was {was}"));
        }
        self.keep(&next, not_kept)?;
        let control = &mut self.daemon.control;
        control.block(Nanos::now(), prefix, blocked, &who.0);
        Ok(if blocked {
            format!("packets to {prefix} are discarded, but those that a longer prefix has")
        } else {
            format!("packets to {prefix} follow its routes again")
        })
    }

    /// Whether a prefix may be blocked beside others, which with it are `count`.
    fn may_block(&self, prefix: IpPrefix, count: usize, force: bool) -> Result<(), ApiError> {
        if count > BLOCKS_MAX {
            return Err(ApiError::conflict(format!("{BLOCKS_MAX} prefixes are blocked already"))
                .with_help("unblock some, or block a shorter prefix that covers them"));
        }
        let needed = self.daemon.control.needed_in(prefix);
        let Some(first) = needed.first().filter(|_| !force) else { return Ok(()) };
        let more = match needed.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let error = format!("{prefix} has what the router needs: {first}{more}");
        Err(ApiError::conflict(error).with_help("add --force to block it all the same"))
    }

    /// Takes back what is announced before the process ends. `false` if there is nothing to wait for, or it
    /// is not to be waited for any longer.
    pub(super) fn begin_exit(&mut self, patience: &Patience) -> bool {
        let now = Nanos::now();
        if self.ends.is_some() {
            return false;
        }
        self.ends = self.daemon.control.begin_exit(now);
        let Some(ends) = self.ends else { return false };
        let wait = ends.since(now);
        patience.extend(wait);
        self.manager.stopping();
        log::info!("announcements are taken back; the router ends in {} s", wait.as_secs_f64());
        true
    }
}

/// What is in effect when a command was not written down: nothing of it.
fn not_kept(may_be_on_disk: bool) -> String {
    if may_be_on_disk {
        "nothing was changed, but a restart may find it so: make state-dir writable, then repeat \
         the command or its opposite"
            .into()
    } else {
        "nothing was changed: make state-dir writable, then repeat the command".into()
    }
}
