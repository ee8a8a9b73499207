//! The answers of commands that change something.

use serde_json::{Value, json};

use crate::control::Control;

/// The answer to `drain SITE`, or to `undrain SITE` if not `drained`: the services that have the
/// site.
pub fn drained(control: &Control, site: &str, drained: bool) -> Value {
    let services = control.config().services.iter();
    let items: Vec<Value> = services
        .filter(|service| service.sites.iter().any(|one| one.name == site))
        .map(|service| json!({ "site": site, "service": service.name, "drained": drained }))
        .collect();
    json!({ "schema": "nearhop.drain.v1", "items": items })
}

/// The answer to `reload`: the changes, as text.
pub fn reloaded(changes: &[String]) -> Value {
    let items: Vec<Value> = changes.iter().map(|change| json!({ "change": change })).collect();
    json!({ "schema": "nearhop.reload.v1", "items": items })
}

/// The answer to `undamp`.
pub fn undamped() -> Value {
    json!({ "schema": "nearhop.undamp.v1", "items": [] })
}
