//! What becomes of a port when something happens to its device.

use std::fmt;
use std::sync::Arc;

use nearhop_fib::Reason;

use super::{Control, LegKey, LegState, Orders};
use crate::config::model::Device;
use crate::event::EventKind;
use crate::ids::PortId;
use crate::port::Port;
use crate::port::gone::GonePort;
use crate::time::Nanos;

/// What is wrong with a port's device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeviceFault {
    /// It was deleted or moved to another namespace; with what keeps it from being made again.
    Gone(Option<String>),
    /// It is in use, but in a namespace that is not the configured one any more; with what keeps it
    /// from being made there.
    Astray(Option<String>),
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, error) = match self {
            Self::Gone(error) => ("device gone", error),
            Self::Astray(error) => (
                "still in the namespace of before, and its network namespace is another now",
                error,
            ),
        };
        write!(f, "{what}; trying again")?;
        error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

/// What of a device is not as it is configured, because somebody has changed it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changed {
    /// Its name.
    pub name: Option<String>,
    /// Bytes of the largest packet.
    pub mtu: Option<u16>,
}

impl Changed {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "the device is called {name} now")?;
        }
        if let Some(mtu) = self.mtu {
            let and = if self.name.is_some() { ", and its" } else { "the device's" };
            write!(f, "{and} MTU is {mtu} now, not the configured one")?;
        }
        Ok(())
    }
}

impl Control {
    /// A port's device is gone. Workers get one that takes nothing, so that they hold neither the
    /// old one nor its namespace, until [`Self::give_device`].
    pub fn lose_device(&mut self, now: Nanos, id: PortId) {
        let Some(state) = self.ports.by_id(id) else { return };
        let name = state.name().to_owned();
        self.ports.replace_device(&name, Arc::new(GonePort));
        self.publish_snapshot();
        self.set_fault(now, &name, DeviceFault::Gone(None));
    }

    /// Notes what is wrong with a port's device, and reports it unless it is known already.
    pub fn set_fault(&mut self, now: Nanos, name: &str, fault: DeviceFault) {
        let Some(state) = self.ports.get_mut(name).filter(|s| s.fault.as_ref() != Some(&fault))
        else {
            return;
        };
        let reason = fault.to_string();
        state.fault = Some(fault);
        let kind = EventKind::Device { port: name.to_owned(), ok: false, reason };
        self.events.push_back((now, kind));
    }

    /// A port's device is the right one after all.
    pub fn clear_fault(&mut self, now: Nanos, name: &str, reason: &str) {
        if let Some(state) = self.ports.get_mut(name).filter(|state| state.fault.is_some()) {
            state.fault = None;
            let (port, reason) = (name.to_owned(), reason.to_owned());
            self.events.push_back((now, EventKind::Device { port, ok: true, reason }));
        }
    }

    /// Gives a port a new device under its old number. It is down until there is carrier.
    pub fn give_device(&mut self, now: Nanos, name: &str, device: Arc<dyn Port>) -> Orders {
        let mut orders = Orders::default();
        let Some(state) = self.ports.get_mut(name) else { return orders };
        orders.ports.push(state.exit());
        state.changed = Changed::default();
        state.side = None;
        self.ports.replace_device(name, device);
        self.publish_snapshot();
        self.clear_fault(now, name, "made again");
        orders
    }

    /// What became of the kernel's side of a port: what of it is not as configured, and what was done
    /// to put it right.
    pub fn set_side(&mut self, now: Nanos, name: &str, why: Option<String>, made: &[String]) {
        let Some(state) = self.ports.get_mut(name) else { return };
        let put_right = (!made.is_empty()).then(|| format!("put right: {}", made.join(", ")));
        let mut events = vec![put_right.map(|reason| (true, reason))];
        if state.side != why {
            let ok = why.is_none();
            let reason = why.clone().unwrap_or_else(|| "the kernel's side is as configured".into());
            events.push(Some((ok, reason)));
            state.side = why;
        }
        for (ok, reason) in events.into_iter().flatten() {
            self.events.push_back((now, EventKind::Device { port: name.to_owned(), ok, reason }));
        }
    }

    /// A port's device is brought to another MTU, before that is in force; `None` for that is off.
    pub fn expect_mtu(&mut self, name: &str, mtu: Option<u16>) {
        if let Some(state) = self.ports.get_mut(name) {
            state.expected_mtu = mtu;
        }
    }

    /// Why a leg is down, as of now: what took it down may be over, and something else keep it from
    /// coming back.
    pub fn why_down(&self, key: &LegKey, leg: &LegState) -> String {
        if let Some(impossible) = &leg.impossible {
            return impossible.clone();
        }
        let port = self.ports.get(&key.port);
        let is_back = port.is_some_and(|port| port.carrier);
        let reason = if is_back && leg.reason == Reason::Carrier.label() {
            "no check has passed since the carrier came back"
        } else {
            &leg.reason
        };
        match port.and_then(|port| port.side.as_ref()) {
            Some(side) => format!("{reason}; port {}: {side}", key.port),
            None => reason.to_owned(),
        }
    }

    /// What the kernel says of a port's device: when it is first heard of, and after each change.
    pub(super) fn handle_link(&mut self, now: Nanos, id: PortId, name: &str, mtu: u32) {
        let Some(state) = self.ports.by_id_mut(id) else { return };
        let Device::Tun { name: configured, .. } = &state.config.device;
        let changed = Changed {
            name: (name != configured).then(|| name.to_owned()),
            mtu: (mtu != u32::from(state.config.mtu)
                && Some(mtu) != state.expected_mtu.map(u32::from))
            .then(|| u16::try_from(mtu).unwrap_or(u16::MAX)),
        };
        if state.changed == changed {
            return;
        }
        let reason = if changed.is_nothing() {
            "the device is as configured again".to_owned()
        } else {
            changed.to_string()
        };
        state.changed = changed;
        let kind = EventKind::Device { port: state.name().to_owned(), ok: true, reason };
        self.events.push_back((now, kind));
        self.publish_snapshot();
    }
}
