//! What a network records of its routers beside their events, to judge these by.
#![forbid(unsafe_code)]

use super::Net;
use crate::time::Nanos;

/// A router was told of the carrier of one of its ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CarrierNews {
    /// When.
    pub t: Nanos,
    /// Which router.
    pub node: usize,
    /// Name of the port.
    pub port: String,
    /// Whether there was carrier.
    pub up: bool,
    /// Whether the port was opened then.
    pub opened: bool,
}

/// A configuration was published by a router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Publication {
    /// Which router.
    pub node: usize,
    /// When the configuration was put in force.
    pub from: Nanos,
    /// When all of it was published; `None` while it is under way.
    pub to: Option<Nanos>,
    /// How many configurations: others came before this one was published.
    pub configs: u32,
}

/// What happened, in the order of time.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) carriers: Vec<CarrierNews>,
    pub(super) publications: Vec<Publication>,
}

impl Records {
    /// A router was given a configuration, and publishes it from now on.
    pub(super) fn begin(&mut self, t: Nanos, node: usize) {
        match self.under_way(node) {
            Some(publication) => publication.configs += 1,
            None => self.publications.push(Publication { node, from: t, to: None, configs: 1 }),
        }
    }

    /// A router has nothing to publish any more, or was killed.
    pub(super) fn end(&mut self, t: Nanos, node: usize) {
        if let Some(publication) = self.under_way(node) {
            publication.to = Some(t);
        }
    }

    fn under_way(&mut self, node: usize) -> Option<&mut Publication> {
        let newest = self.publications.iter_mut().rev().find(|one| one.node == node);
        newest.filter(|one| one.to.is_none())
    }
}

impl Net {
    /// What routers were told of the carrier of their ports, in the order of time.
    pub fn carrier_news(&self) -> &[CarrierNews] {
        &self.records.carriers
    }

    /// The configurations that routers published, in the order in which they were put in force.
    pub fn publications(&self) -> &[Publication] {
        &self.records.publications
    }

    /// Opens the books on the ports that a router did not have before. They are without carrier where the
    /// cable is cut or is in another port.
    pub(super) fn note_opened(&mut self, node: usize, before: &[String]) {
        let ports = self.routers[node].node.control().ports();
        let opened: Vec<String> = ports
            .map(|port| port.name().to_owned())
            .filter(|name| !before.contains(name))
            .collect();
        for port in opened {
            let (t, name) = (self.now, port.clone());
            let news = CarrierNews { t, node, port: name, up: true, opened: true };
            self.records.carriers.push(news);
            if !self.has_carrier(node, &port) {
                self.routers[node].node.set_wire(&port, false);
                self.tell_carrier(node, &port, false);
            }
        }
    }

    /// A running router hears of the carrier of a port, if it has that port.
    pub(super) fn tell_carrier(&mut self, node: usize, port: &str, up: bool) {
        let router = &mut self.routers[node];
        if router.running {
            router.node.set_carrier(port, up);
            self.awake.insert(node);
            let (t, port) = (self.now, port.to_owned());
            self.records.carriers.push(CarrierNews { t, node, port, up, opened: false });
        }
    }
}
