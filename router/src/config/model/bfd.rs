//! How a neighbor is watched by BFD.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::bfd::Intervals;
use crate::bfd::auth::Authentication;
use crate::bfd::session::SessionConfig;

/// A BFD session (RFC 5880). Its key is not shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bfd {
    /// How often it sends, and wants to receive, at most.
    pub interval: Duration,
    /// So many packets that are missed in a row are a failure; at least 1.
    pub multiplier: u8,
    /// Whether it waits to hear the neighbor first.
    pub passive: bool,
    /// Whether it is over several hops (RFC 5883); `None` is as the neighbor is.
    pub multihop: Option<bool>,
    /// How its packets are authenticated.
    pub auth: Option<Authentication>,
}

/// BFD with the hosts of a site.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SiteBfd {
    /// The sessions.
    pub bfd: Bfd,
    /// The hosts' addresses, each in the network of one of the site's ports; at least one.
    pub targets: Vec<IpAddr>,
}

impl Bfd {
    /// As the session is begun with it.
    pub fn session(&self) -> SessionConfig {
        let us = u32::try_from(self.interval.as_micros()).unwrap_or(u32::MAX);
        SessionConfig {
            intervals: Intervals { desired_min_tx_us: us, required_min_rx_us: us },
            multiplier: self.multiplier,
            passive: self.passive,
            auth: self.auth.clone(),
        }
    }
}

impl Default for Bfd {
    fn default() -> Self {
        Self {
            interval: INTERVAL_DEFAULT,
            multiplier: 3,
            passive: false,
            multihop: None,
            auth: None,
        }
    }
}

/// As `interval 10ms, multiplier 3`, and what else is configured; without the key.
impl fmt::Display for Bfd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} us times {}", self.interval.as_micros(), self.multiplier)?;
        if self.passive {
            f.write_str(", passive")?;
        }
        if let Some(multihop) = self.multihop {
            f.write_str(if multihop { ", multihop" } else { ", one hop" })?;
        }
        match &self.auth {
            None => Ok(()),
            Some(auth) => {
                let kind = if auth.meticulous { "meticulous-keyed-sha1" } else { "keyed-sha1" };
                write!(f, ", {kind} with key {}", auth.key_id)
            }
        }
    }
}

/// As that of its sessions, and with whom they are.
impl fmt::Display for SiteBfd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let targets: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        write!(f, "{} with {}", self.bfd, targets.join(", "))
    }
}

/// A failure is noticed in 150 ms, also by a thread that is scheduled as any other.
const INTERVAL_DEFAULT: Duration = Duration::from_millis(50);
