//! Whether a configuration has room beside the one in force, while the one gives way to the other.

use super::legs::LegKey;
use super::sources::sets_max;
use super::wanted::{changed, count_legs, probes, wanted_legs};
use super::{Control, PortState};
use crate::config::model::Service;
use crate::config::{Config, model};
use crate::ids::PORTS_MAX;
use crate::liveness::leg::LegSpec;
use crate::policy::CHECKS_MAX;

/// Why a configuration cannot follow the one in force.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReloadError {
    /// The sockets are bound before anything else, and others know where they are.
    #[error("[api] cannot change while nearhop runs; restart it")]
    Api,
    /// The old checks and the new ones do not fit together, which they have to for a moment.
    #[error(
        "the prober would have {0} checks while the old ones give way to the new ones, and there \
         can be {CHECKS_MAX}; change fewer sites at a time, or restart nearhop"
    )]
    Checks(usize),
    /// A port keeps its name but is another device.
    #[error(
        "port {0:?} would become another device; give the new one another name, or restart nearhop"
    )]
    Device(String),
    /// New ports get numbers before those of old ones are free again.
    #[error(
        "{0} new ports, but there are not as many free numbers ({PORTS_MAX} in all) until old ports \
         are gone; change fewer ports at a time"
    )]
    Ports(usize),
    /// Ids are free again only after what had them is gone.
    #[error(
        "the FIB has room for {room} more {what} while the old ones give way to the new ones, and \
         this configuration may need {needed}; change less at a time, or restart nearhop"
    )]
    Room {
        /// Of what.
        what: &'static str,
        /// How many may be needed.
        needed: usize,
        /// How many there can be.
        room: usize,
    },
    /// More workers or fewer need new threads and queues.
    #[error("the number of workers cannot change while nearhop runs; restart it")]
    Workers,
}

impl Control {
    /// The ports of `config` that are not open yet.
    ///
    /// # Errors
    /// What the configuration changes that only a restart can change. Nothing was changed.
    pub fn ports_to_open<'a>(
        &self,
        config: &'a Config,
    ) -> Result<Vec<&'a model::Port>, ReloadError> {
        if config.router.workers != self.config.router.workers {
            return Err(ReloadError::Workers);
        }
        if config.api != self.config.api {
            return Err(ReloadError::Api);
        }
        let mut open = Vec::new();
        for port in &config.ports {
            match self.ports.get(&port.name) {
                None => open.push(port),
                Some(state) => {
                    let same = |a: &model::Port, b: &model::Port| {
                        (&a.device, &a.netns) == (&b.device, &b.netns)
                    };
                    if !same(&state.config, port) {
                        return Err(ReloadError::Device(port.name.clone()));
                    }
                }
            }
        }
        if open.len() > self.ports.numbers_available() {
            return Err(ReloadError::Ports(open.len()));
        }
        let Amid { probes, new_legs } = self.amid(config);
        if probes > CHECKS_MAX {
            return Err(ReloadError::Checks(probes));
        }
        let room = self.writer.room();
        let enough = |what, needed: usize, room: usize| {
            if needed <= room { Ok(()) } else { Err(ReloadError::Room { what, needed, room }) }
        };
        enough("paths", new_legs + open.len(), room.paths)?;
        enough("adjacencies", open.len(), room.adjacencies)?;
        // At most: many of them are those there are already.
        enough("groups", sets_max(config), room.groups)?;
        Ok(open)
    }

    /// What there would be at most while `config` comes into force: what there is, of legs that go too,
    /// and what is new.
    fn amid(&self, config: &Config) -> Amid {
        // Legs by a port that is not open yet are new, whatever number it gets.
        let exit = |name: &str| Some(self.ports.get(name).map(PortState::exit).unwrap_or_default());
        let is_new = |(key, spec): &(&LegKey, &LegSpec)| {
            self.legs.get(key).is_none_or(|leg| leg.checks != spec.checks)
        };
        let of_old = |name: &str| self.config.service(name);
        let mut amid = Amid { probes: self.legs.probes(), new_legs: 0 };
        let changed = changed(&self.config, of_old, config);
        let (known, new): (Vec<&Service>, Vec<&Service>) = changed
            .into_iter()
            .map(|index| &config.services[index])
            .partition(|service| of_old(&service.name).is_some());
        for (legs, probes) in new.into_iter().map(count_legs) {
            amid.new_legs += legs;
            amid.probes += probes;
        }
        let wanted = wanted_legs(config, known, exit);
        let probes = wanted.iter().filter(is_new).map(|(_, spec)| probes(&spec.checks));
        amid.probes += probes.sum::<usize>();
        amid.new_legs += wanted.keys().filter(|key| self.legs.get(key).is_none()).count();
        amid
    }
}

/// What has to have room while a configuration comes into force.
#[derive(Clone, Copy, Debug)]
struct Amid {
    /// Checks of the prober.
    probes: usize,
    /// Legs that there are not yet.
    new_legs: usize,
}
