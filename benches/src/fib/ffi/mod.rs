//! Calls that Rust cannot check, and nothing else.

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod planb;
