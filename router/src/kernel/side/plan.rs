//! The difference between what is configured and what there is, as changes in order. Pure.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::seen::{Seen, SeenAddress};
use super::{Change, IPV6_MTU_MIN, MARK, Side};

/// Addresses that the router answers for although they may not bear its mark: those of earlier
/// configurations, and all on a kernel that keeps no mark.
pub type Mine = BTreeSet<IpNetwork>;

/// What to change next; empty if all is as configured. Changes of the device come alone, for what
/// there is after them is to be looked at again. `failed` were refused, and are left out.
pub fn plan(want: &Side, seen: &Seen, mine: &Mine, failed: &[Change]) -> Vec<Change> {
    let is_left = |change: &Change| !failed.contains(change);
    let device: Vec<Change> = device(want, seen).into_iter().filter(is_left).collect();
    if !device.is_empty() {
        return device;
    }
    let mut changes = before_adding(want, seen, mine);
    let missing: Vec<Change> = missing(want, seen).into_iter().filter(is_left).collect();
    if missing.is_empty() {
        changes.extend(late(want, seen));
    }
    changes.extend(missing);
    // After what takes their place, so that the last IPv4 address, with which the kernel deletes all
    // routes of the device, is not among them.
    changes.extend(unwanted_v4(want, seen, mine));
    changes.extend(routes(want, seen));
    changes.retain(is_left);
    changes
}

fn device(want: &Side, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    let lets_ipv6_in = seen.mtu < IPV6_MTU_MIN && want.mtu >= IPV6_MTU_MIN;
    if seen.mtu != want.mtu {
        let quietly = want.quiet && lets_ipv6_in;
        changes.push(if quietly { Change::QuietMtu } else { Change::Mtu }(want.mtu));
    }
    if want.quiet && seen.makes_link_local == Some(true) {
        changes.push(Change::Quiet);
    }
    if seen.promotes == Some(false) && want.addresses.iter().any(IpNetwork::is_ipv4) {
        changes.push(Change::Promote);
    }
    changes
}

/// IPv6 addresses that go: before new ones come, since the kernel has no IPv6 address twice on a device,
/// whatever the length.
fn before_adding(want: &Side, seen: &Seen, mine: &Mine) -> Vec<Change> {
    let goes = |address: &&SeenAddress| {
        let network = &address.network;
        let same_ip = |one: &IpNetwork| one.ip() == network.ip();
        network.is_ipv6()
            && !want.addresses.contains(network)
            && (is_mine(address, mine)
                || want.addresses.iter().any(same_ip)
                || want.quiet && address.is_made_by_kernel())
    };
    seen.addresses.iter().filter(goes).map(|one| Change::DeleteAddress(one.network)).collect()
}

/// Addresses that are not there, in their order. A device that is set down takes no IPv6: its kernel
/// would add no route with the address, and none when it is set up.
fn missing(want: &Side, seen: &Seen) -> Vec<Change> {
    let is_missing = |address: &&IpNetwork| {
        let there = |one: &SeenAddress| one.network == **address && !one.has_peer;
        (address.is_ipv4() || takes_ipv6(want, seen)) && !seen.addresses.iter().any(there)
    };
    want.addresses.iter().filter(is_missing).map(|address| Change::AddAddress(*address)).collect()
}

fn takes_ipv6(want: &Side, seen: &Seen) -> bool {
    seen.admin_up && want.mtu >= IPV6_MTU_MIN
}

/// IPv4 addresses to delete because they stand before one that is configured before them. All that
/// are configured are there, and those that are deleted are added again behind the others.
fn late(want: &Side, seen: &Seen) -> Vec<Change> {
    let mut done: BTreeSet<IpNetwork> = BTreeSet::new();
    let mut changes = Vec::new();
    for address in want.addresses.iter().filter(|address| address.is_ipv4()) {
        let network = network_of(address);
        if !done.insert(network) {
            continue;
        }
        let wanted: Vec<&IpNetwork> =
            want.addresses.iter().filter(|one| network_of(one) == network).collect();
        let mut stay = 0;
        let of_seen = seen.addresses.iter().map(|one| &one.network);
        for there in of_seen.filter(|one| wanted.contains(one)) {
            if wanted.get(stay) == Some(&there) {
                stay += 1;
            }
        }
        changes.extend(wanted[stay..].iter().map(|one| Change::DeleteAddress(**one)));
    }
    changes
}

fn unwanted_v4(want: &Side, seen: &Seen, mine: &Mine) -> Vec<Change> {
    let goes = |address: &&SeenAddress| {
        let network = &address.network;
        network.is_ipv4() && !want.addresses.contains(network) && is_mine(address, mine)
    };
    seen.addresses.iter().filter(goes).map(|one| Change::DeleteAddress(one.network)).collect()
}

fn is_mine(address: &SeenAddress, mine: &Mine) -> bool {
    address.is_marked() || !address.has_peer && mine.contains(&address.network)
}

/// A route that somebody else has added the same way does as well. A device that is set down has none.
fn routes(want: &Side, seen: &Seen) -> Vec<Change> {
    let goes = seen.routes.iter().filter(|one| one.origin == MARK);
    let goes = goes.filter(|one| !(one.is_plain && want.routes.contains(&one.to)));
    let mut changes: Vec<Change> = goes.map(|one| Change::DeleteRoute(one.to)).collect();
    let is_missing = |to: &&IpNetwork| {
        let there = seen.routes.iter().any(|one| one.is_plain && one.to == **to);
        !there && seen.admin_up && (to.is_ipv4() || takes_ipv6(want, seen))
    };
    changes.extend(want.routes.iter().filter(is_missing).map(|to| Change::AddRoute(*to)));
    changes
}

fn network_of(address: &IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(*address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::side::SeenRoute;

    fn networks(texts: &str) -> Vec<IpNetwork> {
        texts.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    /// A device that is up; addresses that end in `*` are the router's own.
    fn seen(mtu: u32, addresses: &str) -> Seen {
        let of = |text: &str| SeenAddress {
            network: text.trim_end_matches('*').parse().unwrap(),
            has_peer: false,
            origin: if text.ends_with('*') { MARK } else { 0 },
        };
        Seen {
            name: "t0".into(),
            admin_up: true,
            mtu,
            makes_link_local: (mtu >= IPV6_MTU_MIN).then_some(false),
            promotes: Some(true),
            addresses: addresses.split_whitespace().map(of).collect(),
            routes: vec![],
        }
    }

    fn planned(want: &Side, seen: &Seen) -> String {
        let changes = plan(want, seen, &Mine::new(), &[]);
        changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn addresses_come_before_others_go_and_in_their_order() {
        for (want, there, wanted) in [
            ("10.0.0.2/24", "10.0.0.2/24*", ""),
            ("10.0.0.2/24", "10.0.0.2/24", ""),
            ("10.0.0.3/24", "10.0.0.2/24*", "add address 10.0.0.3/24, delete address 10.0.0.2/24"),
            ("10.0.0.3/24", "10.0.0.2/24", "add address 10.0.0.3/24"),
            // The kernel has an IPv6 address once, whatever the length.
            ("fd00::2/96", "fd00::2/64*", "delete address fd00::2/64, add address fd00::2/96"),
            ("fd00::2/96", "fd00::2/64", "delete address fd00::2/64, add address fd00::2/96"),
            // Sent from is the first: what stands before it goes, and comes again behind it.
            ("10.0.0.3/24 10.0.0.2/24", "10.0.0.2/24* 10.0.0.3/24*", "delete address 10.0.0.2/24"),
            ("10.0.0.3/24 10.0.0.2/24", "10.0.0.3/24* 10.0.0.2/24*", ""),
            ("10.0.0.3/24 10.0.1.2/24", "10.0.1.2/24* 10.0.0.3/24*", ""),
        ] {
            let side = Side { mtu: 1500, addresses: networks(want), ..Side::default() };
            assert_eq!(planned(&side, &seen(1500, there)), wanted, "{want} where {there} is");
        }
    }

    #[test]
    fn what_changes_the_device_comes_alone_and_what_was_refused_not_again() {
        let quiet = true;
        let addresses = networks("10.0.0.2/24 fd00::2/64");
        let want = Side { mtu: 1500, quiet, addresses, routes: vec![] };
        assert_eq!(plan(&want, &seen(1000, ""), &Mine::new(), &[]), [Change::QuietMtu(1500)]);
        let loud = Seen { makes_link_local: Some(true), ..seen(9000, "") };
        let device = [Change::Mtu(1500), Change::Quiet];
        assert_eq!(plan(&want, &loud, &Mine::new(), &[]), device);
        let rest = plan(&want, &loud, &Mine::new(), &device);
        assert_eq!(
            rest,
            networks("10.0.0.2/24 fd00::2/64")
                .iter()
                .map(|one| Change::AddAddress(*one))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_device_that_is_down_has_no_routes_and_no_ipv6() {
        let addresses = networks("10.0.0.2/24 fd00::2/64");
        let want = Side { mtu: 1500, quiet: false, addresses, routes: networks("0.0.0.0/0 ::/0") };
        let down = Seen { admin_up: false, ..seen(1500, "10.0.0.2/24*") };
        assert_eq!(planned(&want, &down), "");
        let up = "add address fd00::2/64, add route 0.0.0.0/0, add route ::/0";
        assert_eq!(planned(&want, &seen(1500, "10.0.0.2/24*")), up);
        let to = "0.0.0.0/0".parse().unwrap();
        let route = |origin, is_plain| SeenRoute { to, is_plain, origin };
        let with = |route| Seen { routes: vec![route], ..seen(1500, "10.0.0.2/24* fd00::2/64*") };
        assert_eq!(planned(&want, &with(route(4, true))), "add route ::/0", "somebody's does too");
        let other = Side { routes: vec![], ..want };
        assert_eq!(planned(&other, &with(route(4, true))), "");
        assert_eq!(planned(&other, &with(route(MARK, true))), "delete route 0.0.0.0/0");
    }
}
