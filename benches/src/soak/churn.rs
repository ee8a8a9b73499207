//! What routers really heard: announcements and withdrawals, as `testdata/bgp-churn.txt.gz` has them.
//!
//! A line is `A PEER PREFIX HOP` or `W PEER PREFIX`; peers and next hops are numbers. BENCHMARKING.md
//! says how the file was made.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use flate2::read::GzDecoder;
use nearhop_fib::IpPrefix;

/// One line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Update {
    /// Who says so.
    pub peer: u16,
    /// Of what.
    pub prefix: IpPrefix,
    /// By which next hop; none is a withdrawal.
    pub hop: Option<u16>,
}

impl Update {
    /// Reads the file.
    ///
    /// # Errors
    /// The file is not there, or a line is not what it should be.
    pub fn load() -> io::Result<Vec<Self>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bgp-churn.txt.gz");
        let lines = BufReader::new(GzDecoder::new(File::open(path)?)).lines();
        let updates = lines.zip(1..).map(|(line, number)| {
            let line = line?;
            Self::parse(&line)
                .ok_or_else(|| io::Error::other(format!("line {number} is no update: {line:?}")))
        });
        updates.collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let (peer, prefix) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let hop = match (kind, words.next()) {
            ("A", Some(hop)) => Some(hop.parse().ok()?),
            ("W", None) => None,
            _ => return None,
        };
        words.next().is_none().then_some(Self { peer, prefix, hop })
    }
}

/// What is heard of each prefix from whom.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<IpPrefix, BTreeMap<u16, u16>>);

impl Sessions {
    /// Hears an update; gives back the next hop of the best path now, that of the first peer.
    pub fn hear(&mut self, update: Update) -> Option<u16> {
        let paths = self.0.entry(update.prefix).or_default();
        match update.hop {
            Some(hop) => paths.insert(update.peer, hop),
            None => paths.remove(&update.peer),
        };
        paths.values().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_and_the_first_peer_with_a_path_decides() {
        let updates = Update::load().unwrap();
        assert_eq!(updates.len(), 64_662);
        assert_eq!(updates.iter().filter(|update| update.hop.is_some()).count(), 55_259);
        let mut sessions = Sessions::default();
        let mut hear = |line| sessions.hear(Update::parse(line).unwrap());
        assert_eq!(hear("A 7 10.0.0.0/8 3"), Some(3));
        assert_eq!(hear("A 5 10.0.0.0/8 4"), Some(4));
        assert_eq!(hear("W 5 10.0.0.0/8"), Some(3));
        assert_eq!(hear("W 7 10.0.0.0/8"), None);
        for bad in ["", "A 1 10.0.0.0/8", "W 1 10.0.0.0/8 2", "A 1 10.0.0.1/8 2", "A 1 ::/0 2 3"] {
            assert_eq!(Update::parse(bad), None, "{bad:?}");
        }
    }
}
