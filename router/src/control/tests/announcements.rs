//! What sessions are ordered to announce, by what becomes of sites, operators and time.

mod operators;
mod proofs;
mod refreshes;
mod services;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crossbeam_channel::Sender;

use super::*;
use crate::bgp::lane::{BgpNews, NeighborSpec};
use crate::bgp::session::State;
use crate::bgp::{Attributes, Negotiated};
use crate::ids::NeighborId;

/// A router whose neighbours are played by the test.
struct Speaking {
    rig: Rig,
    lanes: BTreeMap<IpAddr, (NeighborId, Sender<BgpNews>)>,
    now: Nanos,
}

/// What a neighbour was told: the prefix, and its attributes or none.
type Told = (NeighborId, IpPrefix, Option<Arc<Attributes>>);

impl Speaking {
    /// Every leg is up, every session established; what that announces was told.
    fn new(text: &str) -> Self {
        Self::of(Rig::up(text))
    }

    /// With legs of both families.
    fn of_both_families(text: &str) -> Self {
        let (mut rig, _) = Rig::new(text);
        let paths: Vec<_> = rig.control.legs().map(|(_, leg)| leg.path).collect();
        for path in paths {
            let kind = MonitorEventKind::Leg { path, up: true, reason: "up".into(), rtt: None };
            rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
        }
        rig.control.publish(NOW).unwrap();
        Self::of(rig)
    }

    fn of(rig: Rig) -> Self {
        let mut speaking = Self { rig, lanes: BTreeMap::new(), now: NOW };
        speaking.told();
        let lanes: Vec<IpAddr> = speaking.lanes.keys().copied().collect();
        for address in lanes {
            speaking.establish(address);
        }
        speaking
    }

    fn establish(&mut self, address: IpAddr) {
        let (_, lane) = &self.lanes[&address];
        lane.send(BgpNews::State(State::Established)).unwrap();
        lane.send(BgpNews::Established(self.now, Box::new(negotiated()))).unwrap();
        self.rig.control.publish(self.now).unwrap();
    }

    /// All that there is to tell now, in any number of steps.
    fn told(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            for order in self.rig.control.poll_bgp(self.now) {
                match order {
                    BgpOrder::Announce(id, changes, _) => {
                        assert!(changes.len() <= 512, "an order is a part of a step");
                        told.extend(changes.into_iter().map(|(nlri, one)| (id, nlri.prefix, one)));
                    }
                    BgpOrder::Begin(spec) => {
                        let NeighborSpec { id, peering, lane, .. } = *spec;
                        self.lanes.insert(peering.address.unwrap(), (id, lane));
                    }
                    BgpOrder::Bfd(..)
                    | BgpOrder::Clear(..)
                    | BgpOrder::End(..)
                    | BgpOrder::Keep(..)
                    | BgpOrder::Lease(..)
                    | BgpOrder::Mark(..)
                    | BgpOrder::Prefixes(..)
                    | BgpOrder::Ranges(..)
                    | BgpOrder::Refuse(..)
                    | BgpOrder::Room => {}
                }
            }
            if !self.rig.control.is_announcing() {
                return told;
            }
        }
    }

    /// As [`Self::told`], a line for each: `+` or `-`, the prefix, the path.
    fn lines(&mut self) -> Vec<String> {
        let line = |(_, prefix, attributes): Told| match attributes {
            Some(attributes) => format!("+{prefix} {}", attributes.as_path),
            None => format!("-{prefix}"),
        };
        self.told().into_iter().map(line).collect()
    }

    /// All orders that there are now, in words.
    fn orders(&mut self) -> Vec<String> {
        let word = |order| match order {
            BgpOrder::Announce(_, changes, _) => format!("{} route(s)", changes.len()),
            BgpOrder::Clear(_, how) => format!("{how:?}"),
            BgpOrder::Mark(_, family, kind) => format!("{kind:?} {}", family.label()),
            other => format!("{other:?}"),
        };
        let mut all = Vec::new();
        loop {
            all.extend(self.rig.control.poll_bgp(self.now).into_iter().map(word));
            if !self.rig.control.is_announcing() {
                return all;
            }
        }
    }

    /// The only neighbour says this.
    fn hear(&mut self, news: BgpNews) {
        let (_, lane) = self.lanes.values().next().unwrap();
        lane.send(news).unwrap();
        while self.rig.control.has_bgp_news() {
            self.rig.control.publish(self.now).unwrap();
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
    }
}

fn negotiated() -> Negotiated {
    let usual = Negotiated::for_tests(65_002, Ipv4Addr::new(10, 0, 0, 2));
    Negotiated { enhanced_refresh: true, ..usual }
}

fn speaking(service: &str) -> Speaking {
    speaking_with(service, "")
}

/// With these keys of the service and of `[bgp]`.
fn speaking_with(service: &str, bgp: &str) -> Speaking {
    Speaking::new(&speaking_text(service, bgp))
}

fn speaking_text(service: &str, bgp: &str) -> String {
    let router = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
    let sites = "[[service.site]]\nname = \"ams\"\nvia = \"ams\"\n\
                 [[service.site]]\nname = \"fra\"\nvia = \"fra\"\n";
    format!(
        "{router}[[service]]\nname = \"www\"\nprefixes = [\"{SERVICE}/32\"]\n{service}\n{sites}\
         [bgp]\nas = 65001\n{bgp}\n\
         [[bgp.neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"none\"\nexport = \"services\"\n"
    )
}
