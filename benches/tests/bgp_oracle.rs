//! UPDATEs that nearhop writes, read by another implementation, and the same ones with octets changed:
//! whatever both read without complaint they read alike.
#![forbid(unsafe_code)]

#[path = "bgp_oracle/compare.rs"]
mod compare;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop::bgp::{
    Aggregator, AsPath, Attributes, Community, EXTENDED_MAX, ExtendedCommunity, LargeCommunity,
    NextHop, Nlri, Origin, Packing, PerFamily,
};
use nearhop_fib::IpPrefix;

#[test]
fn another_implementation_reads_the_same() {
    let mut random = Random(1);
    let mut agreed = 0;
    for _ in 0..5000 {
        let (message, context) = random.message();
        match compare::agree(&message, &context) {
            Ok(true) => agreed += 1,
            Ok(false) => panic!("only one of them reads {message:02x?}"),
            Err(difference) => panic!("{difference}\n{message:02x?}"),
        }
    }
    assert_eq!(agreed, 5000);
}

#[test]
fn octets_that_changed_are_read_alike_or_refused() {
    let mut random = Random(2);
    let mut agreed = 0;
    for _ in 0..50_000 {
        let (mut message, context) = random.message();
        for _ in 0..=random.below(2) {
            // Not the marker and the length, which are checked before all else.
            let at = 19 + random.below(message.len() as u32 - 19) as usize;
            message[at] = random.next() as u8;
        }
        match compare::agree(&message, &context) {
            Ok(both) => agreed += u32::from(both),
            Err(difference) => panic!("{difference}\n{message:02x?}"),
        }
    }
    // Most changes are in values of which each is as good as the other.
    assert!(agreed > 12_500, "{agreed} of 50,000 were read by both");
}

/// Messages from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        // Knuth's MMIX; its upper half is random enough.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }

    fn list<T>(&mut self, most: u32, mut one: impl FnMut(&mut Self) -> T) -> Box<[T]> {
        (0..self.below(most)).map(|_| one(self)).collect()
    }

    fn option(&mut self) -> Option<u32> {
        (self.below(2) == 0).then(|| self.next())
    }

    fn message(&mut self) -> (Vec<u8>, nearhop::bgp::UpdateContext) {
        let (four_octet_as, path_ids) = (self.below(8) > 0, self.below(2) == 0);
        let is_ipv4 = self.below(2) == 0;
        let nlri: Vec<Nlri> = (0..=self.below(20)).map(|_| self.nlri(is_ipv4, path_ids)).collect();
        let packing = Packing {
            four_octet_as,
            path_ids: PerFamily { ipv4: path_ids, ipv6: path_ids },
            link_local_next_hop: self.below(2) == 0,
            max_len: EXTENDED_MAX,
        };
        let mut message = Vec::new();
        if self.below(8) == 0 {
            assert_eq!(packing.withdraw(&nlri, &mut message), nlri.len());
        } else {
            let attributes = self.attributes(is_ipv4, four_octet_as);
            let count = packing.announce(&attributes, &nlri, &mut message);
            assert_eq!(count, Ok(nlri.len()));
        }
        (message, compare::context(four_octet_as, path_ids))
    }

    /// Of unicast addresses, since the other implementation looks.
    fn nlri(&mut self, is_ipv4: bool, path_ids: bool) -> Nlri {
        let addr: IpAddr = if is_ipv4 {
            Ipv4Addr::from(0x0a00_0000 | self.next() >> 8).into()
        } else {
            Ipv6Addr::from(u128::from(self.next()) << 64 | 0x2001_0db8 << 96).into()
        };
        let len = if is_ipv4 { 8 + self.below(25) } else { 32 + self.below(97) };
        let prefix = IpPrefix::around(addr, len as u8).expect("a length that fits");
        Nlri { prefix, path_id: if path_ids { self.next() } else { 0 } }
    }

    fn next_hop(&mut self, is_ipv4: bool) -> NextHop {
        let global = Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(self.next()));
        let link_local = Ipv6Addr::from(0xfe80 << 112 | u128::from(self.next()));
        match (self.below(4), is_ipv4) {
            (0, _) => NextHop { addr: global.into(), link_local: Some(link_local) },
            (1, _) => NextHop::new(link_local.into()),
            (_, true) => NextHop::new(Ipv4Addr::from(0xc000_0200 | self.below(256)).into()),
            (_, false) => NextHop::new(global.into()),
        }
    }

    fn attributes(&mut self, is_ipv4: bool, four_octet_as: bool) -> Attributes {
        let most = if four_octet_as { u32::MAX } else { 65_535 };
        let path = self.list(8, |random| 1 + random.below(most - 1));
        let mut attributes = Attributes {
            origin: [Origin::Igp, Origin::Egp, Origin::Incomplete][self.below(3) as usize],
            atomic_aggregate: self.below(4) == 0,
            as_path: AsPath::sequence(&path),
            med: self.option(),
            local_pref: self.option(),
            communities: self.list(6, |random| Community(random.next())),
            ..Attributes::originated(self.next_hop(is_ipv4))
        };
        attributes.change_rare(|rare| {
            rare.large = self.list(3, |random| LargeCommunity {
                global: random.next(),
                local: [random.next(), random.next()],
            });
            // Targets of two-octet ASes.
            rare.extended =
                self.list(3, |random| ExtendedCommunity(2 << 48 | u64::from(random.next())));
            rare.originator_id = self.option().map(Ipv4Addr::from);
            rare.cluster_list = self.list(3, |random| Ipv4Addr::from(random.next()));
            rare.only_to_customer = self.option();
            rare.aggregator = self.option().map(|id| Aggregator {
                asn: 1 + self.below(most - 1),
                router_id: Ipv4Addr::from(id),
            });
        });
        attributes
    }
}
