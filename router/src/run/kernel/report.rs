//! What the kernel's thread has to say to the control thread.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::run::RunError;
use crate::run::ports::Opened;

/// What happened since the control thread last took it; of each port's side only the newest.
#[derive(Default)]
pub(in crate::run) struct KernelReport {
    /// Ports whose side was put right, or cannot be.
    pub(in crate::run) sides: BTreeMap<String, SideNews>,
    /// Devices that were opened again, or why not.
    pub(in crate::run) opened: Vec<(String, Result<Opened, String>)>,
    /// What a reload asked for.
    pub(in crate::run) prepared: Option<Result<BTreeMap<String, Opened>, RunError>>,
    /// Ports that are gone, and whose devices are free.
    pub(in crate::run) freed: Vec<String>,
}

/// What became of a port's side.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::run) struct SideNews {
    /// Its device, for the port may have another by now.
    pub(in crate::run) ifindex: u32,
    /// What is not as configured, and why.
    pub(in crate::run) why: Option<String>,
    /// What was done to put it right.
    pub(in crate::run) made: Vec<String>,
}

impl KernelReport {
    /// In place of what was said before; what was done stays said.
    pub(super) fn add(&mut self, port: String, news: SideNews) {
        let said = self.sides.entry(port).or_default();
        let mut made = std::mem::take(&mut said.made);
        if said.ifindex != news.ifindex {
            made.clear();
        }
        made.extend(news.made);
        // A device that somebody changes all the time is not told of in full.
        made.truncate(MADE_MAX);
        *said = SideNews { made, ..news };
    }
}

/// Changes of one port that are kept for an event.
const MADE_MAX: usize = 16;
