//! The router with many BGP neighbours, all behind one of its ports.

use std::fmt::Write as _;
use std::ops::Range;

use super::{Costs, Rig, config};

/// The second is where the neighbours are.
pub const SITES: Costs<'_> = &[("ams", 10), ("peer", 20)];

/// A configuration with a neighbour at each of the addresses `10.2.0.LAST`, of which some are in the router's
/// AS 65001, and all others in AS 65002. `keys` are of each of them.
pub fn with_neighbors(lasts: Range<u8>, internal: &[u8], keys: &str) -> String {
    let addresses: Vec<String> =
        lasts.clone().map(|last| format!("\"10.2.0.{last}/24\"")).collect();
    let mut text = config(SITES)
        .replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n")
        .replace("\"10.2.0.2/24\"", &addresses.join(", "));
    text.push_str("[bgp]\nas = 65001\n");
    for last in lasts {
        let asn = if internal.contains(&last) { 65_001 } else { 65_002 };
        let _ = write!(
            text,
            "[[bgp.neighbor]]\naddress = \"10.2.0.{last}\"\nas = {asn}\nimport = \"all\"\n{keys}"
        );
    }
    text
}

/// The prefixes that the router forwards by BGP.
pub fn routes(rig: &Rig) -> Vec<String> {
    let rows = rig.show("routes");
    let of = rows.iter().filter(|row| row["source"] == "bgp");
    of.map(|row| row["prefix"].as_str().unwrap().to_owned()).collect()
}

/// State of the session with a neighbour, and why the last one ended.
pub fn session(rig: &Rig, last: u8) -> (String, String) {
    let address = format!("10.2.0.{last}");
    let rows = rig.show("bgp");
    let row = rows.iter().find(|row| row["address"] == *address).unwrap();
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("why"))
}

/// How many sessions stand.
pub fn established(rig: &Rig) -> usize {
    rig.show("bgp").iter().filter(|row| row["state"] == "Established").count()
}
