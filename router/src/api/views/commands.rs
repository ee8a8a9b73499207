//! The answers of commands that change something.

use super::owned;
use crate::api::OverrideKind;
use crate::api::document::{Cleared, Document, Effected, NoHead, Overridden, Reloaded, Undamped};
use crate::api::rows::{EffectHead, OverrideHead, OverrideRow, ReloadRow};
use crate::control::{Control, Serving};
use crate::ids::Family;

/// The answer to `drain`, `undrain`, `disable` and `enable`: the services that have the site, and who serves
/// them from now on. What is disabled or enabled is carried out by the liveness thread, right after this.
pub fn overridden(control: &Control, site: &str, what: OverrideKind) -> Overridden {
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
                sites_left: control.sites_left(service, family) as u64,
                serving: others.map(|one| owned(one)).collect(),
                resort: resort.map(|resort| resort.text().into()),
            }
        })
    });
    let rows: Vec<_> = rows.collect();
    let still_serves = rows.iter().any(|row| row.serving.iter().any(|one| one == site));
    let effect = effect(what, site, still_serves).into();
    Document::new("override", OverrideHead { effect }, rows)
}

/// What becomes of the flows that are there: no site knows the TCP connections of another.
fn effect(what: OverrideKind, site: &str, still_serves: bool) -> String {
    let lost = |to: &str| format!("their TCP connections end, because {to} does not know them");
    if !what.takes_out() {
        let to = lost(site);
        return format!(
            "flows that {site} is best for, old ones too, move to it once it is up; {to}"
        );
    }
    let goes_on = if still_serves { "; it still serves where no other site is left" } else { "" };
    format!(
        "all flows of {site}, old ones too, move to other sites now; {}{goes_on}",
        lost("the new site")
    )
}

/// The answer to `reload`: the changes, as text.
pub fn reloaded(changes: &[String]) -> Reloaded {
    let items = changes.iter().map(|change| ReloadRow { change: owned(change) }).collect();
    Document::new("reload", NoHead {}, items)
}

/// The answer to a command about announcements.
pub fn effected(effect: String) -> Effected {
    Document::new("effect", EffectHead { effect: effect.into() }, Vec::new())
}

/// The answer to `clear`.
pub fn cleared() -> Cleared {
    Document::new("clear", NoHead {}, Vec::new())
}

/// The answer to `undamp`.
pub fn undamped() -> Undamped {
    Document::new("undamp", NoHead {}, Vec::new())
}
