//! The answers of commands that change something.

use super::owned;
use crate::api::document::{Document, Drained, NoHead, Reloaded, Undamped};
use crate::api::rows::{DrainRow, ReloadRow};
use crate::control::Control;

/// The answer to `drain SITE`, or to `undrain SITE` if not `drained`: the services that have the
/// site.
pub fn drained(control: &Control, site: &str, drained: bool) -> Drained {
    let services = control.config().services.iter();
    let items = services
        .filter(|service| service.sites.iter().any(|one| one.name == site))
        .map(|service| DrainRow { site: owned(site), service: owned(&service.name), drained })
        .collect();
    Document::new("drain", NoHead {}, items)
}

/// The answer to `reload`: the changes, as text.
pub fn reloaded(changes: &[String]) -> Reloaded {
    let items = changes.iter().map(|change| ReloadRow { change: owned(change) }).collect();
    Document::new("reload", NoHead {}, items)
}

/// The answer to `undamp`.
pub fn undamped() -> Undamped {
    Document::new("undamp", NoHead {}, Vec::new())
}
