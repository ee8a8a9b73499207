//! The answers of commands that change something.

use super::owned;
use crate::api::document::{Document, NoHead, Overridden, Reloaded, Undamped};
use crate::api::rows::{OverrideRow, ReloadRow};
use crate::control::{Control, Serving};
use crate::ids::Family;

/// The answer to `drain`, `undrain`, `disable` and `enable`: the services that have the site, and who serves
/// them from now on. What is disabled or enabled is carried out by the liveness thread, right after this.
pub fn overridden(control: &Control, site: &str) -> Overridden {
    let overrides = control.overrides();
    let (drained, disabled) = (overrides.drained.contains(site), overrides.disabled.contains(site));
    let services = control.config().services.iter();
    let with = services.filter(|service| service.sites.iter().any(|one| one.name == site));
    let rows = with.flat_map(|service| {
        let has = |family: &Family| {
            service.prefixes.iter().any(|prefix| Family::of(prefix.addr()) == *family)
        };
        [Family::Ipv4, Family::Ipv6].into_iter().filter(has).map(move |family| {
            let Serving { sites, resort } = control.serving(service, family);
            let others = sites.iter().filter(|one| !disabled || *one != site);
            OverrideRow {
                site: owned(site),
                drained,
                disabled,
                service: owned(&service.name),
                family: family.label().into(),
                serving: others.map(|one| owned(one)).collect(),
                resort: resort.map(|resort| resort.text().into()),
            }
        })
    });
    Document::new("override", NoHead {}, rows.collect())
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
