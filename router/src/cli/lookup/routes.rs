//! The routing table read from a file.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use nearhop_fib::{Group, GroupId, IpPrefix, WriteError, Writer, fib};

use crate::cli::output::Failure;
use crate::printable;
use crate::route_file::{Lines, WRONG_SHOWN, parse};

/// Every prefix of a file with its next hop.
pub(super) struct Routes {
    fib: Writer,
    /// Prefix and next hop by group number. Each prefix has a group of its own, so a lookup
    /// identifies the prefix.
    entries: Vec<(IpPrefix, Arc<[u8]>)>,
    names: HashSet<Arc<[u8]>>,
}

impl Routes {
    /// Reads `path`, or standard input for `-`. Any invalid line refuses the whole file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name =
            if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() };
        let unreadable =
            |error: std::io::Error| Failure::usage(format!("cannot read {name}: {error}"));
        let mut lines = Lines::open(path).map_err(unreadable)?;
        let mut routes = Self { fib: fib(1).0, entries: Vec::new(), names: HashSet::new() };
        let mut wrong = Vec::new();
        while wrong.len() < WRONG_SHOWN {
            let line = match lines.read() {
                Ok(None) => break,
                Ok(Some(line)) => line,
                Err(error) => {
                    wrong.push(format!("{name}:{}: {error}", lines.number()));
                    break;
                }
            };
            if let Err(reason) = routes.take(line) {
                wrong.push(format!("{name}:{}: {reason}", lines.number()));
            }
        }
        if wrong.is_empty() { Ok(routes) } else { Err(Failure::usage(wrong.join("\nerror: "))) }
    }

    /// The longest prefix that covers `addr`, and its next hop.
    pub(super) fn find(&self, addr: IpAddr) -> Option<(IpPrefix, &[u8])> {
        let GroupId(number) = self.fib.lookup(addr);
        let (prefix, next_hop) = self.entries.get(number as usize)?;
        Some((*prefix, next_hop))
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let Some((prefix, next_hop)) = parse(line)? else { return Ok(()) };
        let next_hop = self.name(next_hop);
        if let Some(GroupId(known)) = self.fib.get(prefix) {
            self.entries[known as usize].1 = next_hop;
            return Ok(());
        }
        self.insert(prefix).map_err(|error| error.to_string())?;
        self.entries.push((prefix, next_hop));
        Ok(())
    }

    fn insert(&mut self, prefix: IpPrefix) -> Result<(), WriteError> {
        let group = self.fib.add_group(&Group::Blackhole)?;
        debug_assert_eq!(
            group.0 as usize,
            self.entries.len(),
            "ids count up while none is removed"
        );
        self.fib.insert(prefix, group).map(drop)
    }

    /// Stores each distinct next hop once: there are few, and many routes.
    fn name(&mut self, word: &[u8]) -> Arc<[u8]> {
        if let Some(name) = self.names.get(&*printable::bytes(word)) {
            return Arc::clone(name);
        }
        let name: Arc<[u8]> = printable::bytes(word).into();
        self.names.insert(Arc::clone(&name));
        name
    }
}
