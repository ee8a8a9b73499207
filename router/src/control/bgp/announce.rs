//! Which services are announced to whom, and since when they may be again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nearhop_fib::IpPrefix;

use super::Bgp;
use crate::bgp::lane::{BgpOrder, Change};
use crate::bgp::policy::{Policy, Verdict};
use crate::bgp::session::State;
use crate::bgp::{AsPath, Attributes, NextHop as BgpNextHop};
use crate::config::Config;
use crate::config::model::{self, Export};
use crate::ids::Family;
use crate::time::Nanos;

/// How long a service that can be announced again is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Whether it is announced now.
    is_announced: bool,
    /// When it is again.
    until: Option<Nanos>,
    /// When it was last seen ill.
    ill: Nanos,
    delay: Duration,
}

impl Bgp {
    /// Announces and withdraws what changed. `is_well`: whether a service has enough sites that may serve.
    pub(in crate::control) fn announce(
        &mut self,
        now: Nanos,
        config: &Config,
        is_well: impl Fn(&model::Service, Family) -> bool,
    ) {
        let is_due = self.poll_timeout().is_some_and(|due| due <= now);
        if self.neighbors.is_empty() || !(std::mem::take(&mut self.is_dirty) || is_due) {
            return;
        }
        let asn = config.bgp.as_ref().map_or(0, |bgp| bgp.asn);
        let mut prefixes: Vec<(&model::Service, IpPrefix)> = Vec::new();
        for service in &config.services {
            for &prefix in &service.prefixes {
                if self.may_announce(now, prefix, is_well(service, Family::of(prefix.addr()))) {
                    prefixes.push((service, prefix));
                }
            }
        }
        for (&id, state) in &mut self.neighbors {
            if state.state != State::Established {
                continue;
            }
            let mut wanted = BTreeMap::new();
            for (service, prefix) in &prefixes {
                let is_exported = match &state.config.export {
                    Export::AllServices => true,
                    Export::Services(names) => names.contains(&service.name),
                };
                let family = Family::of(prefix.addr());
                if !is_exported || !state.families.of(family) {
                    continue;
                }
                let Some(next_hop) = next_hop_for(config, state.local(), family) else { continue };
                let attributes = originated(next_hop, asn, state.is_internal);
                let policy = state.config.export_policy.as_deref();
                let Some(attributes) = exported(policy, *prefix, attributes) else { continue };
                wanted.insert(*prefix, attributes);
            }
            let mut changes: Vec<Change> = Vec::new();
            for (prefix, attributes) in &wanted {
                if state.announced.get(prefix) != Some(attributes) {
                    changes.push((*prefix, Some(Arc::clone(attributes))));
                }
            }
            let gone = state.announced.keys().filter(|prefix| !wanted.contains_key(prefix));
            changes.extend(gone.map(|prefix| (*prefix, None)));
            let end = std::mem::take(&mut state.owes_end);
            if end || !changes.is_empty() {
                state.announced = wanted;
                self.orders.push(BgpOrder::Announce(id, changes, end));
            }
        }
    }

    /// When [`Self::announce`] has something to say although nothing happened.
    pub(in crate::control) fn poll_timeout(&self) -> Option<Nanos> {
        self.held.values().filter_map(|held| held.until).min()
    }

    /// Whether a prefix is announced: at once the first time, and after each withdrawal later than after the
    /// one before, so that a site that flaps is no route that flaps.
    fn may_announce(&mut self, now: Nanos, prefix: IpPrefix, is_well: bool) -> bool {
        let fresh =
            Held { is_announced: false, until: None, ill: Nanos::ZERO, delay: Duration::ZERO };
        let held = self.held.entry(prefix).or_insert(fresh);
        match (is_well, held.is_announced) {
            (true, true) => {}
            (false, true) => {
                held.is_announced = false;
                if held.delay > Duration::ZERO && now.since(held.ill) > held.delay * 4 {
                    held.delay = Duration::ZERO;
                }
                held.ill = now;
                held.delay = (held.delay * 2).clamp(ANNOUNCE_DELAY, ANNOUNCE_DELAY_MAX);
            }
            (false, false) => {
                held.until = None;
                held.ill = now;
            }
            (true, false) => {
                let until = *held.until.get_or_insert(now + held.delay);
                if now >= until {
                    held.is_announced = true;
                    held.until = None;
                }
            }
        }
        held.is_announced
    }
}

/// The next hop of what is announced in a family: the router's end, or its address of the other family on
/// the same port.
fn next_hop_for(config: &Config, local: IpAddr, family: Family) -> Option<IpAddr> {
    if Family::of(local) == family {
        return Some(local);
    }
    let has_local = |port: &&model::Port| port.addresses.iter().any(|net| net.ip() == local);
    let port = config.ports.iter().find(has_local);
    let addresses = port.map_or(&config.router.addresses, |port| &port.addresses);
    let usable = |ip: &IpAddr| {
        Family::of(*ip) == family && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
    };
    addresses.iter().map(ipnetwork::IpNetwork::ip).find(usable)
}

fn originated(next_hop: IpAddr, asn: u32, is_internal: bool) -> Arc<Attributes> {
    let mut attributes = Attributes::originated(BgpNextHop::new(next_hop));
    if is_internal {
        attributes.local_pref = Some(100);
    } else {
        attributes.as_path = AsPath::sequence(&[asn]);
    }
    Arc::new(attributes)
}

/// What an export policy makes of a route; `None` if it refuses it.
fn exported(
    policy: Option<&Policy>,
    prefix: IpPrefix,
    attributes: Arc<Attributes>,
) -> Option<Arc<Attributes>> {
    let Some(policy) = policy else { return Some(attributes) };
    match policy.verdict(prefix, &attributes) {
        Verdict::Accepted { attributes: Cow::Owned(changed), .. } => Some(Arc::new(changed)),
        Verdict::Accepted { .. } => Some(attributes),
        Verdict::Refused { .. } => None,
    }
}

/// From when a service can be announced again until it is; doubled by each withdrawal.
const ANNOUNCE_DELAY: Duration = Duration::from_secs(10);
const ANNOUNCE_DELAY_MAX: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = Nanos(1_000_000_000_000);

    /// A site that is up and down twenty times a second is one withdrawal in ten seconds, then fewer.
    #[test]
    fn a_site_that_flaps_is_no_route_that_flaps() {
        let (mut bgp, prefix) = (Bgp::default(), "198.51.100.53/32".parse().unwrap());
        let mut now = START;
        assert!(bgp.may_announce(now, prefix, true), "at once the first time");
        let (mut before, mut changes) = (true, Vec::new());
        for turn in 0..20 * 300 {
            now += Duration::from_millis(25);
            assert!(!bgp.may_announce(now, prefix, false), "what is dead is not announced");
            now += Duration::from_millis(25);
            let is_announced = bgp.may_announce(now, prefix, true);
            if before != is_announced {
                changes.push(turn);
            }
            before = is_announced;
        }
        assert_eq!(changes, [0], "each death begins the wait again");

        // Well for good: announced after the wait, and after another death later than the first time.
        let mut waits = Vec::new();
        for _ in 0..3 {
            let begin = now;
            assert!(!bgp.may_announce(now, prefix, true));
            while !bgp.may_announce(now, prefix, true) {
                now = bgp.poll_timeout().unwrap();
            }
            waits.push(now.since(begin).as_secs());
            now += Duration::from_secs(1);
            assert!(!bgp.may_announce(now, prefix, false));
        }
        assert!(waits[0] < 11 && waits[1..] == [20, 40], "{waits:?}");
        now += ANNOUNCE_DELAY_MAX * 10;
        bgp.may_announce(now, prefix, true);
        now = bgp.poll_timeout().unwrap();
        assert!(bgp.may_announce(now, prefix, true));
        now += ANNOUNCE_DELAY_MAX * 10;
        assert!(!bgp.may_announce(now, prefix, false));
        let begin = now;
        bgp.may_announce(now, prefix, true);
        assert_eq!(
            bgp.poll_timeout().unwrap().since(begin),
            ANNOUNCE_DELAY,
            "forgotten after a while"
        );
    }
}
