//! The tables that are compared.
#![forbid(unsafe_code)]

pub mod crates;
pub mod dpdk;
pub mod nearhop;
pub mod planb;
