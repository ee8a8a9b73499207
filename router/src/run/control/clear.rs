//! BGP sessions that an operator clears.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use super::ControlThread;
use crate::api::document::Cleared;
use crate::api::{self, ApiError, Who, views};
use crate::bgp::lane::Clear;
use crate::time::Nanos;

impl ControlThread {
    /// Clears the session with a neighbour, named by its name or address.
    pub(super) fn clear_bgp(
        &mut self,
        neighbor: &str,
        soft: bool,
        who: &Who,
    ) -> Result<Cleared, ApiError> {
        let how = if soft { Clear::Soft } else { Clear::Restart };
        let control = &mut self.daemon.control;
        if !control.clear_bgp(neighbor, how) {
            let names = control.bgp_neighbors().map(|(_, state)| state.config.name.clone());
            let names: Vec<String> = names.collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let help = api::known("neighbors", neighbor, &names);
            let error = ApiError::not_found(format!("no such BGP neighbor: {neighbor:?}"));
            return Err(error.with_help(help));
        }
        log::info!("bgp {neighbor}: cleared{} by {}", if soft { " softly" } else { "" }, who.0);
        control.announce(Nanos::now());
        self.pass_orders_on();
        Ok(views::cleared())
    }
}
