//! Another neighbour, which sends the router a full table meanwhile.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nearhop::kernel::link::LinkSetup;
use nearhop_fib::IpPrefix;

use super::config::{LOADER, LOADER_AS};
use super::stand::Stand;
use crate::fulltable::speaker::{Ends, Speaker};
use crate::fulltable::table::{Announcer, Table};
use crate::report::BenchError;

/// An established session, behind the port of the next best site.
pub struct Loader {
    speaker: Speaker,
    /// The table by one next hop and by the other, so that each time every route changes.
    tables: [Vec<u8>; 2],
}

impl Loader {
    /// Opens the session.
    ///
    /// # Errors
    /// There is no table, or the router does not take the session.
    pub fn open(stand: &Stand) -> Result<Self, BenchError> {
        let (netns, device) = stand.next_best();
        let address = format!("{LOADER}/32").parse().map_err(BenchError::environment)?;
        let mut links = LinkSetup::open(&netns).map_err(BenchError::environment)?;
        links.replace_address(&device, address).map_err(BenchError::environment)?;
        let table = Table::load(ROUTES)?;
        let is_v4 = |(prefix, _): &&(IpPrefix, u32)| matches!(prefix, IpPrefix::V4(_));
        let routes: Vec<_> = table.routes.iter().filter(is_v4).copied().collect();
        let tables = [LOADER, Ipv4Addr::new(10, 2, 0, 2)].map(|v4| {
            Table::encode(&routes, Announcer { asn: LOADER_AS, v4, v6: Ipv6Addr::UNSPECIFIED })
        });
        let remote = Ipv4Addr::new(10, 2, 0, 1);
        let speaker = Speaker::open(&netns, Ends { local: LOADER, asn: LOADER_AS, remote })?;
        Ok(Self { speaker, tables })
    }

    /// Does something while the table is being sent; whether it still was by the end of that.
    ///
    /// # Errors
    /// The session ends.
    pub fn during<T>(&mut self, work: impl FnOnce() -> T) -> Result<(T, bool), BenchError> {
        self.tables.swap(0, 1);
        let (speaker, bytes) = (&mut self.speaker, &self.tables[0]);
        let sent = AtomicBool::new(false);
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let outcome = speaker.send(bytes);
                sent.store(true, Ordering::Release);
                outcome
            });
            let done = work();
            let in_time = !sent.load(Ordering::Acquire);
            match sending.join() {
                Ok(outcome) => outcome.map(|_| (done, in_time)),
                Err(_) => Err(BenchError::environment("the loading neighbour panicked")),
            }
        })
    }
}

/// Of both families.
const ROUTES: usize = 1_000_000;
