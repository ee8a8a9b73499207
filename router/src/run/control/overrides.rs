//! What operators take out of service: the guard of a service's last site, and the file that keeps it over
//! restarts.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::ControlThread;
use crate::api::document::Overridden;
use crate::api::{ApiError, OverrideKind, OverrideRequest, Who, views};
use crate::config::Config;
use crate::control::Overrides;
use crate::policy::LastSiteGuard;
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
        if let Some(dir) = &self.daemon.control.config().router.state_dir {
            save(dir, &next).map_err(|error| {
                let file = dir.join(OVERRIDES_FILE);
                ApiError::environment(format!("cannot write {}: {error}", file.display()))
                    .with_help("nothing was changed")
            })?;
        }
        let (now, control) = (Nanos::now(), &mut self.daemon.control);
        match what {
            OverrideKind::Drain | OverrideKind::Undrain => control.drain(now, site, out, &who.0),
            OverrideKind::Disable | OverrideKind::Enable => control.disable(now, site, out, &who.0),
        };
        self.pass_orders_on();
        Ok(views::overridden(&self.daemon.control, site))
    }

    /// Refuses or warns of a command that leaves these services without a site.
    pub(super) fn guard(&self, command: &str, services: &[String]) -> Result<(), ApiError> {
        if services.is_empty() {
            return Ok(());
        }
        let left = format!("{command} leaves no site for {}", services.join(", "));
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

    /// To be called before the first configuration.
    pub(super) fn load_overrides(&mut self, config: &Config) {
        let Some(dir) = &config.router.state_dir else { return };
        let path = dir.join(OVERRIDES_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<Overrides>(&bytes) {
                Ok(overrides) => self.daemon.control.restore(overrides),
                Err(error) => {
                    log::error!("{} is no list of drained sites: {error}", path.display());
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::error!("cannot read {}: {error}", path.display()),
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
            .with_help(format!("known sites: {}", names.join(", "))))
    }
}

/// Written beside and moved into place, so that a crash leaves the old list or the new one.
fn save(dir: &Path, overrides: &Overrides) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let new = dir.join(format!("{OVERRIDES_FILE}.new"));
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(overrides)?)?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(OVERRIDES_FILE))?;
    File::open(dir)?.sync_all()
}

/// The file of drained and disabled sites in the state directory.
const OVERRIDES_FILE: &str = "overrides.json";
