//! What a FIB may be made with.
#![forbid(unsafe_code)]

/// Options of [`crate::fib_with`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// What the IPv4 table begins as.
    pub v4: V4Form,
}

/// A form of the IPv4 table. All have the same answers, and change while readers look up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum V4Form {
    /// One memory access for prefixes of up to 24 bits: most lookups per second. 32 MB, or 64 once
    /// numbers of groups need slots of 32 bits ([`crate::Fib::v4_slot_bits`]).
    #[default]
    Direct,
    /// A few bytes for each route, so that the table stays in the processor's cache: where memory
    /// counts, or the time of one lookup that the next depends on. It goes on in the direct form,
    /// with slots of 32 bits, once there are more than 2¹⁵ - 1 groups, or as many /24s divided by
    /// longer prefixes, or it takes 64 MB.
    Compact,
}
