//! What the other engines and the workers report.

use std::time::Duration;

use nearhop_fib::{PathId, WriteError};

use super::legs::Caution;
use super::select::Known;
use super::services::Services;
use super::{Control, LegKey, PortState};
use crate::event::{EventKind, MoveCause};
use crate::forward::FirstPacket;
use crate::liveness::event::{MonitorEvent, MonitorEventKind};
use crate::port::EngineChoice;
use crate::port::news::EngineNews;
use crate::put_back::{self, PutBack};
use crate::time::Nanos;

impl Control {
    /// Something happened to a port or a leg; its bytes are stored already.
    pub fn handle_monitor(&mut self, event: &MonitorEvent) {
        match &event.kind {
            MonitorEventKind::Carrier { port, up } => {
                // News from before is of another port, which had the number then.
                let is_meant = |state: &&mut PortState| {
                    event.t >= state.since || put_back::is(PutBack::CarrierOlderThanPort)
                };
                if let Some(state) = self.ports.by_id_mut(*port).filter(is_meant) {
                    state.carrier = *up;
                    let kind = EventKind::Carrier { port: state.name().to_owned(), up: *up };
                    self.events.push_back((event.t, kind));
                }
            }
            MonitorEventKind::Damped { path, hold } => {
                if let Some(key) = self.key_of(*path) {
                    if let Some(leg) = self.legs.get_mut(&key) {
                        leg.caution = Caution::Damped;
                    }
                    self.bgp.mark(&key.service);
                    let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
                    let (service, site) = (key.service.clone(), key.site.clone());
                    let kind = EventKind::Damped { service, site, family: key.family, hold_ms };
                    self.events.push_back((event.t, kind));
                    self.look(event.t, &key, MoveCause::CheaperUp);
                }
            }
            MonitorEventKind::Doubted { path, until } => {
                let Some(key) = self.key_of(*path) else { return };
                if let Some(leg) = self.legs.get_mut(&key) {
                    leg.caution = until.map_or(Caution::None, |_| Caution::Doubted);
                }
                let hold = until.map_or(Duration::ZERO, |until| until.since(event.t));
                let kind = EventKind::Doubted {
                    service: key.service,
                    site: key.site,
                    family: key.family,
                    port: key.port,
                    doubted: until.is_some(),
                    hold_ms: u64::try_from(hold.as_millis()).unwrap_or(u64::MAX),
                };
                self.events.push_back((event.t, kind));
            }
            MonitorEventKind::Gone { port, .. } => self.lose_device(event.t, *port),
            MonitorEventKind::Link { port, name, mtu, .. } => {
                self.handle_link(event.t, *port, name, *mtu);
            }
            MonitorEventKind::Leg { path, up, reason, rtt } => {
                if let Some(rtt) = rtt {
                    // It is ranked by what it is, and not by what it was.
                    self.note_round_trip(*path, *rtt);
                }
                self.leg_changed(event.t, *path, *up, reason, event.stored);
            }
        }
    }

    /// A worker sent the first packet by a path since something changed.
    pub fn handle_first_packet(&mut self, worker: usize, first: FirstPacket) {
        if let Some((key, _)) = self.legs.by_path(first.path) {
            let kind = EventKind::FirstPacket {
                service: key.service.clone(),
                site: key.site.clone(),
                family: key.family,
                worker: worker as u16,
            };
            self.events.push_back((first.t, kind));
        }
    }

    /// A worker has opened a queue of a port, or its engine has failed.
    pub fn handle_engine(&mut self, now: Nanos, news: &EngineNews) {
        let Some(state) = self.ports.by_id_mut(news.port) else { return };
        let name = state.name();
        let worker = news.worker;
        match &news.why {
            Some(why) if news.failed || state.config.engine == EngineChoice::Uring => {
                log::error!("port {name}, worker {worker}: {} is used: {why}", news.engine);
            }
            Some(why) => {
                log::info!("port {name}, worker {worker}: {} is used: {why}", news.engine);
            }
            None => log::debug!("port {name}, worker {worker}: {} is used", news.engine),
        }
        if news.failed {
            let kind = EventKind::Engine {
                port: name.to_owned(),
                worker: worker as u16,
                engine: news.engine.to_owned(),
                reason: news.why.clone().unwrap_or_default(),
            };
            self.events.push_back((now, kind));
        }
        state.engines.insert(worker, news.engine);
    }

    /// A leg went up or down.
    fn leg_changed(&mut self, t: Nanos, path: PathId, up: bool, reason: &str, stored: Nanos) {
        let Some(key) = self.key_of(path) else { return };
        let before = self.distance_of(&key);
        self.legs.decide(&key, t, up, reason);
        if up || !put_back::is(PutBack::IllStaysAnnounced) {
            self.bgp.mark(&key.service);
        }
        let kind = EventKind::Site {
            service: key.service.clone(),
            site: key.site.clone(),
            family: key.family,
            port: key.port.clone(),
            up,
            reason: reason.to_owned(),
            stored_ns: stored.0,
        };
        self.events.push_back((t, kind));
        let cause = if up { MoveCause::CheaperUp } else { MoveCause::MemberDied };
        if self.distance_of(&key) != before {
            // A site is as far as its nearest link that is up or measured.
            self.owe((key.service.clone(), key.family), cause, &key.site);
        }
        let nothing_waits = !self.publication.is_under_way() && self.routing.is_fed();
        if !self.publication.is_idle() && nothing_waits {
            // What a stalled reader holds back is published later.
            let _ = self.publish_step(t);
        }
        self.look(t, &key, cause);
    }

    /// Looks whether the sites that packets go to are others, as something became of a leg.
    fn look(&mut self, t: Nanos, key: &LegKey, cause: MoveCause) {
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let known = Known { services, rib: &self.routing.rib };
        let why = (cause, &*key.site);
        let changed = self.selection.look(known, (key.service.clone(), key.family), why);
        self.events.extend(changed.map(|kind| (t, kind)));
    }

    /// Takes smoothed round-trip times; groups whose order changes by them are published.
    ///
    /// # Errors
    /// As [`Control::publish_step`].
    pub fn handle_round_trips(
        &mut self,
        now: Nanos,
        times: impl IntoIterator<Item = (PathId, Duration)>,
    ) -> Result<(), WriteError> {
        for (path, rtt) in times {
            self.note_round_trip(path, rtt);
        }
        self.publish_step(now).map(drop)
    }

    /// What it moves is to be published.
    fn note_round_trip(&mut self, path: PathId, rtt: Duration) {
        let Some(key) = self.key_of(path) else { return };
        let unit = self.services().get(&key.service).and_then(|service| service.latency_unit);
        // One that is measured for the first time counts from now on, also if it is in no whole unit.
        let before = self.distance_of(&key);
        let Some(leg) = self.legs.get_mut(&key) else { return };
        leg.rtt = Some(rtt);
        if let Some(unit) = unit {
            leg.distance.measured(rtt, unit);
        }
        if self.distance_of(&key) != before {
            self.owe((key.service, key.family), MoveCause::CheaperUp, &key.site);
        }
    }

    /// How far the site of a leg is.
    fn distance_of(&self, key: &LegKey) -> Option<u64> {
        let service = self.services().get(&key.service)?;
        Some(self.services().distance(service, key.family, &key.site, 0))
    }

    fn key_of(&self, path: PathId) -> Option<LegKey> {
        self.legs.by_path(path).map(|(key, _)| key.clone())
    }
}
