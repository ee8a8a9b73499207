//! What operators take out of service: the guard of a service's last site, and the file that keeps it over
//! restarts.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use super::ControlThread;
use crate::api::document::Overridden;
use crate::api::{self, ApiError, OverrideKind, OverrideRequest, Who, views};
use crate::config::Config;
use crate::control::Overrides;
use crate::policy::LastSiteGuard;
use crate::run::RunError;
use crate::run::state_files;
use crate::time::Nanos;

impl ControlThread {
    /// Takes a site out of service or back in, once that is on disk.
    pub(super) fn put_override(
        &mut self,
        request: &OverrideRequest,
        who: &Who,
    ) -> Result<Overridden, ApiError> {
        let OverrideRequest { site, what, force } = request;
        let out = what.takes_out();
        self.find_site(site)?;
        if out && !force {
            let left: Vec<String> = self.daemon.control.served_by_last(site).into_iter().collect();
            self.guard(&format!("{} {site}", what.verb()), &left)?;
        }
        let mut next = self.daemon.control.overrides().clone();
        match what {
            OverrideKind::Drain | OverrideKind::Undrain => next.drain(site, out),
            OverrideKind::Disable | OverrideKind::Enable => next.disable(site, out),
        };
        self.keep(&next, |may_be_on_disk| not_saved(may_be_on_disk, site, *what))?;
        let (now, control) = (Nanos::now(), &mut self.daemon.control);
        match what {
            OverrideKind::Drain | OverrideKind::Undrain => control.drain(now, site, out, &who.0),
            OverrideKind::Disable | OverrideKind::Enable => control.disable(now, site, out, &who.0),
        };
        self.pass_orders_on();
        Ok(views::overridden(&self.daemon.control, site, *what))
    }

    /// Refuses or warns of a command that leaves these services without a site.
    pub(super) fn guard(&self, command: &str, services: &[String]) -> Result<(), ApiError> {
        self.guard_services(services, |names| format!("{command} leaves no site for {names}"))
    }

    /// Refuses or warns of what is done to these services, if there are any; `what` says it of their names.
    pub(super) fn guard_services(
        &self,
        services: &[String],
        what: impl FnOnce(&str) -> String,
    ) -> Result<(), ApiError> {
        if services.is_empty() {
            return Ok(());
        }
        let left = what(&services.join(", "));
        match self.daemon.control.config().router.last_site_guard {
            LastSiteGuard::Warn => {
                log::warn!("{left}");
                Ok(())
            }
            LastSiteGuard::Refuse => {
                let help = "add --force to do it all the same (last-site-guard in [router])";
                Err(ApiError::conflict(left).with_help(help))
            }
        }
    }

    /// Writes what operators decided to disk, if there is a place for it. `help` says what to do where that
    /// fails, and whether it may be on disk all the same.
    pub(super) fn keep(
        &self,
        next: &Overrides,
        help: impl FnOnce(bool) -> String,
    ) -> Result<(), ApiError> {
        let Some(dir) = &self.daemon.control.config().router.state_dir else { return Ok(()) };
        state_files::save(dir, next).map_err(|error| {
            ApiError::environment(error.to_string()).with_help(help(error.may_be_on_disk))
        })
    }

    /// To be called before the first configuration.
    pub(super) fn load_overrides(&mut self, config: &Config) -> Result<(), RunError> {
        let Some(dir) = &config.router.state_dir else { return Ok(()) };
        if self.options.forget_overrides {
            log::warn!("no site is drained or disabled (--forget-overrides)");
            return state_files::save(dir, &Overrides::default()).map_err(|error| {
                RunError::new(format!("cannot forget drained and disabled sites: {error}"))
            });
        }
        self.daemon.control.restore(state_files::load(dir)?);
        Ok(())
    }

    /// Sites that are out of service stay so over a restart by another configuration's state directory.
    pub(super) fn move_overrides(&self, config: &Config) -> Result<(), ApiError> {
        let control = &self.daemon.control;
        match &config.router.state_dir {
            Some(dir) if control.config().router.state_dir.as_ref() != Some(dir) => {
                state_files::save(dir, control.overrides()).map_err(|error| {
                    ApiError::environment(format!("state-dir: {error}"))
                        .with_help("the configuration in force stays; make the directory writable")
                })
            }
            _ => Ok(()),
        }
    }

    fn find_site(&self, site: &str) -> Result<(), ApiError> {
        let sites = self.daemon.control.config().services.iter().flat_map(|s| &s.sites);
        let mut names: Vec<&str> = sites.map(|site| &*site.name).collect();
        if names.contains(&site) {
            return Ok(());
        }
        names.sort_unstable();
        names.dedup();
        Err(ApiError::not_found(format!("no service has a site {site:?}"))
            .with_help(api::known("sites", site, &names)))
    }
}

/// What is in effect when a command was not written down: nothing of it.
fn not_saved(may_be_on_disk: bool, site: &str, what: OverrideKind) -> String {
    let verb = what.verb();
    if may_be_on_disk {
        format!(
            "{site} serves as before, but {verb} may be in effect after a restart: make state-dir \
             writable, then repeat the command or its opposite"
        )
    } else {
        format!("nothing was changed: make state-dir writable, then {verb} {site} again")
    }
}
