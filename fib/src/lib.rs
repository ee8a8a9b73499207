//! Longest-prefix match and anycast selection: one writer, any number of wait-free readers.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod addr;
mod flow;
mod prefix;

pub use addr::Addr;
pub use flow::FlowKey;
pub use prefix::{IpPrefix, Prefix, PrefixError};
