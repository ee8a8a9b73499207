//! Canonical prefixes: an address whose host bits are all zero, and a length.

use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::addr::Addr;

/// A prefix of one family. Host bits are zero: two prefixes are equal exactly when they cover the
/// same addresses. Ordered by address, then from short to long, so that a prefix comes right
/// before everything it covers.
///
/// ```
/// use nearhop_fib::Prefix;
/// use std::net::Ipv4Addr;
///
/// let ten: Prefix<Ipv4Addr> = "10.0.0.0/8".parse()?;
/// assert!(ten.contains(Ipv4Addr::new(10, 1, 2, 3)));
/// assert_eq!("10.0.0.1/8".parse::<Prefix<Ipv4Addr>>().unwrap_err().to_string(),
///     "host bits are set: the prefix is 10.0.0.0/8");
/// # Ok::<(), nearhop_fib::PrefixError>(())
/// ```
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Prefix<A> {
    addr: A,
    len: u8,
}

impl<A: Addr> Prefix<A> {
    /// Checks length and host bits.
    pub fn new(addr: A, len: u8) -> Result<Self, PrefixError> {
        if len > A::BITS {
            return Err(PrefixError::Length { max: A::BITS });
        }
        let canonical = addr.truncated(len);
        if canonical == addr {
            Ok(Self { addr, len })
        } else {
            let addr = if A::BITS == 32 {
                IpAddr::V4(Ipv4Addr::from_bits128(canonical.to_bits128()))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits128(canonical.to_bits128()))
            };
            Err(PrefixError::HostBits { addr, len })
        }
    }

    /// The prefix of this length around `addr`; host bits are cleared. `None` if `len` is longer
    /// than an address.
    pub fn around(addr: A, len: u8) -> Option<Self> {
        (len <= A::BITS).then(|| Self { addr: addr.truncated(len), len })
    }

    /// The prefix that holds `addr` alone.
    pub fn host(addr: A) -> Self {
        Self { addr, len: A::BITS }
    }

    /// The first address.
    pub fn addr(self) -> A {
        self.addr
    }

    /// The last address.
    pub fn last(self) -> A {
        self.addr.last_of(self.len)
    }

    /// How many leading bits are fixed.
    #[expect(clippy::len_without_is_empty, reason = "a prefix's length is not a container's")]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether `addr` begins with these bits.
    pub fn contains(self, addr: A) -> bool {
        addr.truncated(self.len) == self.addr
    }

    /// Whether every address of `other` is one of this prefix's; true for itself.
    pub fn covers(self, other: Self) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }
}

impl<A: Addr> Ord for Prefix<A> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.addr.cmp(&other.addr).then(self.len.cmp(&other.len))
    }
}

impl<A: Addr> PartialOrd for Prefix<A> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<A: Addr> fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl<A: Addr> fmt::Debug for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<A: Addr> FromStr for Prefix<A> {
    type Err = PrefixError;

    /// `ADDRESS/LENGTH`, or an address alone for the host prefix.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (text, None),
        };
        let addr: A = addr.parse().map_err(|_| PrefixError::Address)?;
        let Some(len) = len else { return Ok(Self::host(addr)) };
        let digits = !len.is_empty() && len.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = len.len() > 1 && len.starts_with('0');
        match len.parse() {
            Ok(len) if digits && !leading_zero => Self::new(addr, len),
            _ => Err(PrefixError::Length { max: A::BITS }),
        }
    }
}

/// A prefix of either family.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IpPrefix {
    /// IPv4.
    V4(Prefix<Ipv4Addr>),
    /// IPv6.
    V6(Prefix<Ipv6Addr>),
}

impl IpPrefix {
    /// Checks length and host bits.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        match addr {
            IpAddr::V4(addr) => Prefix::new(addr, len).map(Self::V4),
            IpAddr::V6(addr) => Prefix::new(addr, len).map(Self::V6),
        }
    }

    /// The prefix, if it is one of IPv4.
    pub const fn v4(self) -> Option<Prefix<Ipv4Addr>> {
        match self {
            Self::V4(prefix) => Some(prefix),
            Self::V6(_) => None,
        }
    }

    /// The prefix, if it is one of IPv6.
    pub const fn v6(self) -> Option<Prefix<Ipv6Addr>> {
        match self {
            Self::V4(_) => None,
            Self::V6(prefix) => Some(prefix),
        }
    }

    /// The prefix of this length around `addr`; host bits are cleared.
    pub fn around(addr: IpAddr, len: u8) -> Option<Self> {
        match addr {
            IpAddr::V4(addr) => Prefix::around(addr, len).map(Self::V4),
            IpAddr::V6(addr) => Prefix::around(addr, len).map(Self::V6),
        }
    }

    /// The prefix that holds `addr` alone.
    pub fn host(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::V4(Prefix::host(addr)),
            IpAddr::V6(addr) => Self::V6(Prefix::host(addr)),
        }
    }

    /// The first address.
    pub fn addr(self) -> IpAddr {
        match self {
            Self::V4(prefix) => IpAddr::V4(prefix.addr()),
            Self::V6(prefix) => IpAddr::V6(prefix.addr()),
        }
    }

    /// How many leading bits are fixed.
    #[expect(clippy::len_without_is_empty, reason = "a prefix's length is not a container's")]
    pub fn len(self) -> u8 {
        match self {
            Self::V4(prefix) => prefix.len(),
            Self::V6(prefix) => prefix.len(),
        }
    }

    /// Whether `addr` is of this family and begins with these bits.
    pub fn contains(self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Self::V4(prefix), IpAddr::V4(addr)) => prefix.contains(addr),
            (Self::V6(prefix), IpAddr::V6(addr)) => prefix.contains(addr),
            _ => false,
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(prefix) => prefix.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for IpPrefix {
    type Err = PrefixError;

    /// `ADDRESS/LENGTH`, or an address alone for the host prefix.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        if text.contains(':') { text.parse().map(Self::V6) } else { text.parse().map(Self::V4) }
    }
}

impl From<Prefix<Ipv4Addr>> for IpPrefix {
    fn from(prefix: Prefix<Ipv4Addr>) -> Self {
        Self::V4(prefix)
    }
}

impl From<Prefix<Ipv6Addr>> for IpPrefix {
    fn from(prefix: Prefix<Ipv6Addr>) -> Self {
        Self::V6(prefix)
    }
}

#[cfg(feature = "std")]
impl From<IpPrefix> for ipnetwork::IpNetwork {
    fn from(prefix: IpPrefix) -> Self {
        match prefix {
            IpPrefix::V4(p) => Self::V4(
                ipnetwork::Ipv4Network::new_checked(p.addr(), p.len())
                    .unwrap_or(ipnetwork::Ipv4Network::from(p.addr())),
            ),
            IpPrefix::V6(p) => Self::V6(
                ipnetwork::Ipv6Network::new_checked(p.addr(), p.len())
                    .unwrap_or(ipnetwork::Ipv6Network::from(p.addr())),
            ),
        }
    }
}

#[cfg(feature = "std")]
impl TryFrom<ipnetwork::IpNetwork> for IpPrefix {
    type Error = PrefixError;

    /// An `IpNetwork` keeps host bits; a prefix must not have any.
    fn try_from(network: ipnetwork::IpNetwork) -> Result<Self, PrefixError> {
        Self::new(network.ip(), network.prefix())
    }
}

/// Why something is not a prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PrefixError {
    /// The part before the slash is not an address of the family.
    Address,
    /// Bits beyond the length are set.
    HostBits {
        /// The address with those bits cleared.
        addr: IpAddr,
        /// The length as given.
        len: u8,
    },
    /// The length is not a decimal number from 0 to `max`.
    Length {
        /// 32 or 128.
        max: u8,
    },
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("not an IP address"),
            Self::HostBits { addr, len } => {
                write!(f, "host bits are set: the prefix is {addr}/{len}")
            }
            Self::Length { max } => write!(f, "the prefix length must be 0 to {max}"),
        }
    }
}

impl core::error::Error for PrefixError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn parses_what_it_prints_and_nothing_ambiguous() {
        for good in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/32", "::1/128"]
        {
            assert_eq!(good.parse::<IpPrefix>().unwrap().to_string(), good);
        }
        assert_eq!("192.0.2.1".parse::<IpPrefix>().unwrap().to_string(), "192.0.2.1/32");
        for (bad, want) in [
            ("10.0.0.1/8", "host bits are set: the prefix is 10.0.0.0/8"),
            ("2001:db8::1/32", "host bits are set: the prefix is 2001:db8::/32"),
            ("10.0.0.0/33", "the prefix length must be 0 to 32"),
            ("::/129", "the prefix length must be 0 to 128"),
            ("10.0.0.0/+8", "the prefix length must be 0 to 32"),
            ("10.0.0.0/08", "the prefix length must be 0 to 32"),
            ("10.0.0.0/", "the prefix length must be 0 to 32"),
            ("10.0.0/8", "not an IP address"),
            ("", "not an IP address"),
            ("10.0.0.0 /8", "not an IP address"),
        ] {
            assert_eq!(bad.parse::<IpPrefix>().unwrap_err().to_string(), want, "{bad:?}");
        }
    }

    #[test]
    fn order_puts_a_prefix_right_before_what_it_covers() {
        let mut all = ["10.0.1.0/24", "10.0.0.0/8", "9.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24"]
            .map(|p| p.parse::<Prefix<Ipv4Addr>>().unwrap());
        all.sort();
        let text = all.map(|p| p.to_string());
        assert_eq!(text, ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.1.0/24"]);
    }

    #[test]
    fn edges_of_the_length() {
        let all: Prefix<Ipv6Addr> = "::/0".parse().unwrap();
        assert_eq!(all.last(), Ipv6Addr::from_bits(u128::MAX));
        let one: Prefix<Ipv4Addr> = "255.255.255.255/32".parse().unwrap();
        assert_eq!(one.last(), one.addr());
        assert!(all.covers(Prefix::host(Ipv6Addr::LOCALHOST)));
    }
}
