//! What a table has to say: for each length that there is, which prefixes have which group. Slow and
//! obvious, and none of it is the table's own code.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use nearhop_fib::{GroupId, IpPrefix};

/// Routes of both families.
#[derive(Debug, Default)]
pub struct Model {
    v4: Family,
    v6: Family,
}

type Family = BTreeMap<u8, HashMap<u128, GroupId>>;

impl Model {
    /// Adds, replaces or removes a route; gives back what it had.
    pub fn set(&mut self, prefix: IpPrefix, group: Option<GroupId>) -> Option<GroupId> {
        let addr = prefix.addr();
        let family = if addr.is_ipv6() { &mut self.v6 } else { &mut self.v4 };
        let of_len = family.entry(prefix.len()).or_default();
        match group {
            Some(group) => of_len.insert(bits_of(addr), group),
            None => of_len.remove(&bits_of(addr)),
        }
    }

    /// The length and group of the longest prefix that covers an address.
    pub fn find(&self, addr: IpAddr) -> Option<(u8, GroupId)> {
        let (family, width) = if addr.is_ipv6() { (&self.v6, 128) } else { (&self.v4, 32) };
        let bits = bits_of(addr);
        family.iter().rev().find_map(|(&len, of_len)| {
            let host = width - u32::from(len);
            let kept = bits.checked_shr(host).and_then(|kept| kept.checked_shl(host));
            Some((len, *of_len.get(&kept.unwrap_or(0))?))
        })
    }
}

/// The address as a number.
pub fn bits_of(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_those_that_cover_an_address() {
        let mut model = Model::default();
        let routes = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/32", "::/0", "2001:db8::/33", "::1/128"];
        for (text, group) in routes.into_iter().zip(1..) {
            assert_eq!(model.set(text.parse().unwrap(), Some(GroupId(group))), None);
        }
        for (addr, want) in [
            ("10.0.0.0", Some((32, GroupId(3)))),
            ("10.0.0.1", Some((8, GroupId(2)))),
            ("11.0.0.0", Some((0, GroupId(1)))),
            ("2001:db8:7fff::", Some((33, GroupId(5)))),
            ("2001:db8:8000::", Some((0, GroupId(4)))),
            ("::1", Some((128, GroupId(6)))),
        ] {
            assert_eq!(model.find(addr.parse().unwrap()), want, "{addr}");
        }
        assert_eq!(model.set("0.0.0.0/0".parse().unwrap(), None), Some(GroupId(1)));
        assert_eq!(model.find("11.0.0.0".parse().unwrap()), None);
    }
}
