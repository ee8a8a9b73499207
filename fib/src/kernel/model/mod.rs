//! The AVX-512 kernels with arrays for registers, so that tests run them on any machine. Each
//! operation does, lane by lane, what the instruction of its name does (Intel's manual).
#![allow(
    clippy::many_single_char_names,
    clippy::used_underscore_items,
    non_camel_case_types,
    reason = "the names of instructions, and as many arguments"
)]
#![forbid(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::group::GroupId;

/// A function of a kernel, as it is.
macro_rules! kernel {
    ($($function:tt)*) => {
        $($function)*
    };
}

mod ops;
#[path = "../avx512/v4_ahead.rs"]
mod v4_ahead;
#[path = "../avx512/v4_gather.rs"]
mod v4_gather;
#[path = "../avx512/v6.rs"]
mod v6;

pub(super) fn v4_ahead(table: &crate::v4::Table, addrs: &[Ipv4Addr], found: &mut [GroupId]) {
    v4_ahead::lookup(table, addrs, found, |group| group);
}

pub(super) fn v4_gather(table: &crate::v4::Table, addrs: &[Ipv4Addr], found: &mut [GroupId]) {
    v4_gather::lookup(table, addrs, found, |group| group);
}

pub(super) fn v6(table: &crate::v6::Table, addrs: &[Ipv6Addr], found: &mut [GroupId]) {
    v6::lookup(table, addrs, found, |group| group);
}
