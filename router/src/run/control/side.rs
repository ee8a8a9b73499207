//! What the kernel's thread has to say: devices that were opened, sides that were put right or cannot be,
//! devices that are free.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use std::sync::PoisonError;

use super::ControlThread;
use crate::config::{Config, model};
use crate::control::DeviceFault;
use crate::kernel::netns::{NetNs, Place};
use crate::run::kernel::KernelOrder;
use crate::run::ports::{Opened, side_of};
use crate::time::Nanos;

impl ControlThread {
    /// Takes what the kernel's thread says.
    pub(super) fn handle_kernel(&mut self) {
        let report = &self.daemon.kernel_report;
        let said = std::mem::take(&mut *report.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, opened) in said.opened {
            self.handle_opened(&name, opened);
        }
        for (name, news) in said.sides {
            // The port may have another device by now.
            if self.opened.get(&name).is_some_and(|place| place.ifindex == news.ifindex) {
                let control = &mut self.daemon.control;
                control.set_side(Nanos::now(), &name, news.why, &news.made);
            }
        }
        for name in said.freed {
            self.leaving.remove(&name);
        }
        if let Some(prepared) = said.prepared {
            self.handle_prepared(prepared);
        }
        self.prepare_deferred();
    }

    /// A device that was gone, or astray, was opened again, or not.
    fn handle_opened(&mut self, name: &str, opened: Result<Opened, String>) {
        let now = Nanos::now();
        if self.fault(name).is_none() {
            // It is configured no more, or was never away: what was opened closes again.
            self.reopening.forget(name);
            return;
        }
        self.reopening.tried(now, name, opened.is_ok());
        match opened {
            Ok(opened) => {
                self.keep_side(name, opened.place.clone(), opened.quiet);
                self.opened.insert(name.to_owned(), opened.place);
                self.daemon.control.give_device(now, name, opened.device);
                self.wake_workers();
                self.pass_orders_on();
            }
            Err(error) => {
                let fault = match self.fault(name) {
                    Some(DeviceFault::Astray(_)) => DeviceFault::Astray(Some(error)),
                    _ => DeviceFault::Gone(Some(error)),
                };
                self.daemon.control.set_fault(now, name, fault);
            }
        }
    }

    /// Has the side of a port kept that was just opened.
    pub(super) fn keep_side(&self, name: &str, place: Place, quiet: bool) {
        let config = self.daemon.control.config();
        let Some(config) = config.ports.iter().find(|port| port.name == name) else { return };
        let (port, side) = (name.to_owned(), side_of(config, quiet));
        self.daemon.kernel.order(KernelOrder::Keep { port, place, side });
    }

    /// Ports that are configured no more have to be free for others before a reload is done.
    pub(super) fn await_leaving(&mut self, before: &Config) {
        let config = self.daemon.control.config();
        let is_configured = |name: &str| config.ports.iter().any(|port| port.name == name);
        self.leaving.retain(|name, _| !is_configured(name));
        let gone = before.ports.iter().filter(|port| !is_configured(&port.name));
        self.leaving.extend(gone.map(|port| (port.name.clone(), device_of(port))));
    }

    /// Whether a port that goes has this one's device still.
    pub(super) fn is_leaving(&self, port: &model::Port) -> bool {
        let device = device_of(port);
        self.leaving.values().any(|leaving| *leaving == device)
    }

    /// Closes what nobody uses any more, without waiting for the housekeeping.
    pub(super) fn hasten_leaving(&mut self) {
        if !self.leaving.is_empty() {
            self.daemon.control.reclaim();
        }
    }
}

/// What no two ports may have at a time: a device's namespace and name.
fn device_of(port: &model::Port) -> (NetNs, String) {
    let model::Device::Tun { name, .. } = &port.device;
    (port.netns.clone(), name.clone())
}
