//! What sites announce by BGP, and what is done about it.
#![forbid(unsafe_code)]

use std::time::Duration;

use serde::Deserialize;

use super::{Stage, StageError};
use crate::announcer::{Announcer, Stance};
use crate::lab::wait_for;
use crate::report::LabEventKind;
use crate::topology::Service;

/// A row of `show bgp`, as far as it is read here.
#[derive(Deserialize)]
struct Neighbor {
    #[serde(rename = "neighbor")]
    name: String,
    state: String,
    received_ipv4: usize,
    received_ipv6: usize,
}

#[derive(Deserialize)]
struct Neighbors {
    items: Vec<Neighbor>,
}

impl Stage {
    /// The BGP daemons of sites that announce.
    pub(crate) fn announcers(&self) -> &[Announcer] {
        &self.announcers
    }

    /// Waits until every announcing site has a session, and all that it announces has come over it.
    pub(super) fn wait_for_announcements(&self) -> Result<(), StageError> {
        if self.announcers.is_empty() {
            return Ok(());
        }
        wait_for("every site's announcement", SESSIONS_BUDGET, || {
            let answer = self.router.get("/v1/show/bgp").map_err(|error| error.to_string())?;
            let shown: Neighbors =
                serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
            let is_complete = |announcer: &&Announcer| {
                let mut rows = shown.items.iter();
                rows.any(|row| {
                    let received = row.received_ipv4 + row.received_ipv6;
                    row.name == announcer.site()
                        && row.state == "Established"
                        && received >= announcer.prefixes()
                })
            };
            let missing = self.announcers.iter().filter(|one| !is_complete(one));
            let missing: Vec<&str> = missing.map(Announcer::site).collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("not yet: {}", missing.join(", ")))
            }
        })?;
        Ok(())
    }

    /// Who may answer while all sites are well. A route comes into use a moment after it was received:
    /// the first answers may be a farther site's.
    pub(crate) fn may_answer(&self) -> Vec<&str> {
        self.lab.topology().services.iter().flat_map(may_answer).collect()
    }

    /// The operator of a site changes what it announces, and the log has it as `verb`.
    pub(crate) fn take(
        &mut self,
        site: &str,
        stance: Stance,
        verb: &str,
    ) -> Result<(), StageError> {
        let Some(announcer) = self.announcers.iter_mut().find(|one| one.site() == site) else {
            return Err(StageError::Lab(format!("\"{site}\" announces nothing")));
        };
        announcer.take(&self.lab, stance)?;
        self.note(LabEventKind::Change { what: format!("{verb} {site}") })
    }

    /// An operator takes a site out of service, or back: of a site that announces, by what it
    /// announces, else by the router.
    pub(crate) fn set_drained(&mut self, site: &str, drained: bool) -> Result<(), StageError> {
        let verb = if drained { "drain" } else { "undrain" };
        if self.announcers.iter().any(|one| one.site() == site) {
            let stance = if drained { Stance::Drained } else { Stance::Announced };
            return self.take(site, stance, verb);
        }
        self.ask(&format!("{verb}/{site}"))
    }
}

/// A service with costs is waited for by its checks: any site of it may still answer.
fn may_answer(service: &Service) -> Vec<&str> {
    if service.is_announced() {
        return service.nearest();
    }
    service.sites.iter().map(|site| site.name.as_str()).collect()
}

/// Python starts slowly on a busy machine, and a refused connection is tried again seconds later.
const SESSIONS_BUDGET: Duration = Duration::from_mins(1);
