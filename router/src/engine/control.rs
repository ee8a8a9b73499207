//! The control plane, and what it asks of the others.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use nearhop_fib::WriteError;

use super::{HostOrder, LivenessNews, LivenessOrder};
use crate::config::Config;
use crate::control::{Control, Orders, Stopping};
use crate::port::Port;
use crate::probe::CheckSpec;
use crate::time::Nanos;

/// The control plane's state, and what it has to say to the others.
pub struct ControlEngine {
    control: Control,
    orders: VecDeque<EngineOrder>,
}

/// An order to one of the other engines. They are carried out in the order in which they are taken.
#[derive(Clone, Debug)]
pub enum EngineOrder {
    /// To the liveness engine.
    Liveness(LivenessOrder),
    /// To the host engine.
    Host(HostOrder),
}

impl ControlEngine {
    /// Around the control plane.
    pub fn new(control: Control) -> Self {
        Self { control, orders: VecDeque::new() }
    }

    /// As [`Control::apply`].
    pub fn apply(
        &mut self,
        now: Nanos,
        config: Arc<Config>,
        devices: BTreeMap<String, Arc<dyn Port>>,
    ) {
        let orders = self.control.apply(config, devices, now);
        // Before the checks that are made from them.
        let own = self.control.own_addresses();
        self.orders.push_back(EngineOrder::Host(HostOrder::Addresses(own)));
        let links = self.control.discovery_links();
        self.orders.push_back(EngineOrder::Host(HostOrder::Discover(links)));
        self.announce(now);
        self.order(orders);
    }

    /// As [`Control::give_device`].
    pub fn give_device(&mut self, now: Nanos, name: &str, device: Arc<dyn Port>) {
        let orders = self.control.give_device(now, name, device);
        self.order(orders);
    }

    /// As [`Control::disable`].
    pub fn disable(&mut self, now: Nanos, site: &str, disabled: bool, by: &str) -> bool {
        let Some(paths) = self.control.disable(now, site, disabled, by) else { return false };
        let orders = paths.into_iter().map(|path| LivenessOrder::Disable(path, disabled));
        self.orders.extend(orders.map(EngineOrder::Liveness));
        true
    }

    /// News of the liveness engine.
    pub fn handle_news(&mut self, now: Nanos, news: LivenessNews) {
        match news {
            LivenessNews::Bfd(news) => self.control.handle_bfd(&news),
            LivenessNews::Proven(at, id) => self.control.handle_proof(at, id),
            LivenessNews::Event(event) => self.control.handle_monitor(&event),
            LivenessNews::RoundTrips(times) => {
                // What a stalled reader holds back is published later.
                let _ = self.control.handle_round_trips(now, times);
            }
            LivenessNews::Stopped(stopping) => self.control.release(&stopping),
        }
    }

    /// Brings what is announced by BGP up to date.
    pub fn announce(&mut self, now: Nanos) {
        self.order_bfd();
        let orders = self.control.poll_bgp(now);
        let proofs = self.control.take_proof_orders().into_iter().map(LivenessOrder::Proof);
        self.orders.extend(proofs.map(EngineOrder::Liveness));
        self.orders
            .extend(orders.into_iter().map(|order| EngineOrder::Host(HostOrder::Bgp(order))));
    }

    /// As [`Control::publish_step`]. What nothing leads to any more is watched no more.
    ///
    /// # Errors
    /// As [`Control::publish_step`].
    pub fn publish_step(&mut self, now: Nanos) -> Result<bool, WriteError> {
        let done = self.control.publish_step(now);
        self.stop_what_is_gone();
        done
    }

    /// What readers let go of is used again.
    pub fn reclaim(&mut self) {
        self.control.reclaim();
        self.stop_what_is_gone();
    }

    /// Whether [`Self::poll_order`] has any.
    pub fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Takes the oldest order to another engine.
    pub fn poll_order(&mut self) -> Option<EngineOrder> {
        self.orders.pop_front()
    }

    fn order_bfd(&mut self) {
        let orders = self.control.take_bfd_orders().into_iter().map(LivenessOrder::Bfd);
        self.orders.extend(orders.map(EngineOrder::Liveness));
    }

    fn stop_what_is_gone(&mut self) {
        self.order_bfd();
        let stop = self.control.take_stopping();
        self.order(Orders { stop, ..Orders::default() });
    }

    fn order(&mut self, orders: Orders) {
        let ports = orders.ports.into_iter().map(LivenessOrder::Port);
        self.orders.extend(ports.map(EngineOrder::Liveness));
        for leg in orders.legs {
            // The host engine hears of it second: a verdict about a leg that the liveness engine does not
            // know yet would be ignored, and never come again.
            let host = if leg.checks.iter().any(CheckSpec::is_tcp) {
                HostOrder::Watch(leg.clone())
            } else {
                HostOrder::Forget(leg.path)
            };
            self.orders.push_back(EngineOrder::Liveness(LivenessOrder::Leg(leg)));
            self.orders.push_back(EngineOrder::Host(host));
        }
        let Stopping { legs, paths, ports } = &orders.stop;
        if legs.is_empty() && paths.is_empty() && ports.is_empty() {
            return;
        }
        let legs = orders.stop.legs.iter();
        self.orders.extend(legs.map(|&path| EngineOrder::Host(HostOrder::Forget(path))));
        self.orders.push_back(EngineOrder::Liveness(LivenessOrder::Stop(orders.stop)));
    }
}

impl Deref for ControlEngine {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl DerefMut for ControlEngine {
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}
