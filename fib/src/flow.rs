//! What makes a flow a flow, and the hashes by which its site and its link are chosen.

/// The fields a site is chosen by. An IPv4 address is right-aligned in its 128 bits.
///
/// Every fragment, the first included, has ports 0, so that all of a datagram goes one way; an ICMP
/// error has the fields of the packet it quotes, reversed, so that it reaches the site that has
/// the flow (RFC 7690).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FlowKey {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// IP protocol number of the upper layer.
    pub protocol: u8,
    /// Source port; 0 where the protocol has none (an ICMP echo has its identifier here).
    pub src_port: u16,
    /// Destination port; 0 where the protocol has none.
    pub dst_port: u16,
    /// IPv6 flow label, 0 for IPv4. Only the link inside a site may depend on it: Linux changes
    /// it when TCP retransmits.
    pub label: u32,
}

/// A flow's hashes. The same flow and seed give the same hashes on every machine.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FlowHash {
    /// Decides the site: everything of the [`FlowKey`] but the label.
    pub site: u64,
    /// The flow label, which decides the link inside the site too.
    pub label: u32,
}

impl FlowKey {
    /// Hashes the flow. `seed` is configured: routers that share it agree.
    ///
    /// Three multiplications fold 128 bits into 64 each, as in wyhash (Wang Yi, public domain). The
    /// ranking of sites and links mixes the result once more.
    #[inline]
    pub fn hash(&self, seed: u64) -> FlowHash {
        let low = fold(self.src as u64 ^ seed ^ K[0], self.dst as u64 ^ K[1]);
        // Two constants where addresses are IPv4.
        let high = fold((self.src >> 64) as u64 ^ K[2], (self.dst >> 64) as u64 ^ K[3]);
        let rest = u64::from(self.protocol) << 32
            | u64::from(self.src_port) << 16
            | u64::from(self.dst_port);
        FlowHash { site: fold(low ^ rest ^ K[4], high ^ seed ^ K[5]), label: self.label }
    }
}

impl FlowHash {
    /// For traffic that is spread packet by packet: `counter` may be anything that changes.
    pub fn of_packet(counter: u64, seed: u64) -> Self {
        Self { site: finish(counter ^ seed ^ K[7]), label: 0 }
    }

    /// Decides the link inside the site. Made only where a site has several.
    #[inline]
    pub fn link(self) -> u64 {
        finish(self.site ^ K[6] ^ u64::from(self.label))
    }

    /// This flow's hash for a site or link with this key: uniform over 64 bits, independent from
    /// key to key.
    #[inline]
    pub(crate) fn with_key(hash: u64, key: u64) -> u64 {
        finish(hash ^ key)
    }

    /// What is compared with `accept`: independent of the site's place in the ranking.
    #[inline]
    pub(crate) fn accept_hash(self, site_key: u64) -> u16 {
        (finish(self.site ^ site_key.rotate_left(32) ^ K[5]) >> 48) as u16
    }
}

/// The key of a site by its name: FNV-1a, finished, so that restarts and other routers agree on it.
pub fn name_key(name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    finish(fnv)
}

/// The key of a link, or of one of several equal-cost routes, of the router of this name. Restarts
/// agree on it, other routers do not: with keys that two routers in a row share, each flow that the
/// first sent by its first link would leave by the second's first link too.
pub fn link_key(router: &str, link: &str) -> u64 {
    finish(name_key(router).rotate_left(32) ^ name_key(link))
}

/// −log₂(hash / 2⁶⁴) with 32 fractional bits, exact to 3 parts in a million. Integers only, so
/// that every machine gets the same.
#[inline]
pub(crate) fn negative_log2(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let mantissa = hash << zeros << 1; // the leading one drops out: a fraction of 64 bits
    let index = (mantissa >> 56) as usize;
    let between = (mantissa >> 24) & 0xffff_ffff;
    let low = LOG2[index];
    let log = low + (((LOG2[index + 1] - low) * between) >> 32);
    ((u64::from(zeros) + 1) << 32) - log
}

/// The product's halves and both factors in one: a factor of 0 leaves the other one, not 0, so that
/// nobody who knows the constants can have all flows share a hash.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    a ^ b ^ product as u64 ^ (product >> 64) as u64
}

/// The finalizer of MurmurHash3 (Appleby, public domain): a bijection that avalanches.
#[inline]
const fn finish(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Odd constants from the fractional digits of π.
const K: [u64; 8] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6d,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
];

/// log₂(1 + i/256) with 32 fractional bits, for i = 0 ..= 256.
const LOG2: [u64; 257] = {
    let mut table = [0; 257];
    let mut i = 0;
    while i <= 256 {
        table[i] = log2_of(256 + i as u128);
        i += 1;
    }
    table
};

/// log₂(x / 256) with 32 fractional bits, for x in 256 ..= 512, bit by bit by squaring.
const fn log2_of(x: u128) -> u64 {
    if x == 512 {
        return 1 << 32;
    }
    let mut value = x << 54; // 62 fractional bits
    let mut log = 0;
    let mut bit = 0;
    while bit < 32 {
        value = (value * value) >> 62;
        log <<= 1;
        if value >> 63 != 0 {
            value >>= 1;
            log |= 1;
        }
        bit += 1;
    }
    log
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_label_moves_the_link_and_never_the_site() {
        let key = FlowKey { src: 1, dst: 2, protocol: 17, src_port: 3, dst_port: 4, label: 0 };
        let relabelled = FlowKey { label: 99, ..key };
        assert_eq!(key.hash(7).site, relabelled.hash(7).site);
        assert_ne!(key.hash(7).link(), relabelled.hash(7).link());
        for other in [
            FlowKey { src: 2, dst: 1, ..key },
            FlowKey { src_port: 4, dst_port: 3, ..key },
            FlowKey { protocol: 6, ..key },
            FlowKey { src: 1 << 64, ..key },
        ] {
            assert_ne!(key.hash(7).site, other.hash(7).site);
        }
        assert_ne!(key.hash(7).site, key.hash(8).site);
    }

    /// For whatever seed: one factor of each product is 0, and the other is varied by all that it is
    /// made of.
    #[test]
    fn a_factor_of_zero_does_not_make_flows_share_a_hash() {
        for seed in [0, 42, 0xdead_beef_0123_4567] {
            let in_halves = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
            let one = |src, dst| FlowKey { src, dst, protocol: 6, ..FlowKey::default() }.hash(seed);
            let of: [&dyn Fn(u64) -> FlowHash; 6] = [
                &|n| one(in_halves(0, seed ^ K[0]), in_halves(0, n)),
                &|n| one(in_halves(0, n), in_halves(0, K[1])),
                &|n| one(in_halves(K[2], 1), in_halves(n, 2)),
                &|n| one(in_halves(n, 1), in_halves(K[3], 2)),
                // The halves' folds are what is left of them where their second factor is 0, and
                // make a factor of the last product 0.
                &|n| one(in_halves(n, seed ^ K[0] ^ K[4] ^ 6 << 32), in_halves(n ^ 9, K[1])),
                &|n| one(in_halves(seed ^ K[5] ^ K[2], n), in_halves(K[3], 3)),
            ];
            for (which, hash) in of.into_iter().enumerate() {
                let hashes: BTreeSet<u64> = (0..100_000).map(|n| hash(n).site).collect();
                assert_eq!(hashes.len(), 100_000, "factor {which}, seed {seed:#x}");
                let bits = hashes.iter().fold([0_u32; 64], |mut ones, hash| {
                    (0..64).for_each(|bit| {
                        ones[bit] += (FlowHash::with_key(*hash, 7) >> bit & 1) as u32;
                    });
                    ones
                });
                assert!(bits.iter().all(|ones| (49_000..51_000).contains(ones)), "{bits:?}");
            }
        }
    }

    #[test]
    fn hashes_are_the_same_on_every_machine_and_in_every_release() {
        let key = FlowKey {
            src: 0x0a00_0002,
            dst: 0xc633_6435,
            protocol: 17,
            src_port: 40_000,
            dst_port: 53,
            label: 0,
        };
        assert_eq!(key.hash(0).site, 0x46ee_6ee3_e471_4441);
        assert_eq!(key.hash(0).link(), 0x1f2e_e8dc_e1cb_e0f4);
        assert_eq!(name_key("fra"), 0x9de0_1e6d_4b11_a57c);
    }

    #[test]
    fn the_links_of_one_router_say_nothing_of_those_of_the_next() {
        for (first, second) in [("r1", "r2"), ("a", "b"), ("edge", "core")] {
            let ranked = |router: &str, flow: u64, links: [&str; 2]| {
                let [one, two] = links.map(|link| FlowHash::with_key(flow, link_key(router, link)));
                one > two
            };
            let links = ["eth0", "eth1"];
            let flows = (0..20_000).map(finish).filter(|&flow| ranked(first, flow, links));
            let (again, other): (Vec<_>, Vec<_>) =
                flows.partition(|&flow| ranked(second, flow, links));
            let share = again.len() as f64 / (again.len() + other.len()) as f64;
            assert!((0.48..0.52).contains(&share), "{share} by the link of the same name");
        }
        assert_ne!(link_key("a", "a"), link_key("b", "b"));
        assert_ne!(link_key("a", "b"), link_key("b", "a"));
    }

    #[test]
    fn the_logarithm_is_close_to_the_float_one() {
        let mut hash = 1_u64;
        for _ in 0..100_000 {
            hash = finish(hash.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let float = 64.0 - (hash as f64).log2();
            let fixed = negative_log2(hash) as f64 / (1_u64 << 32) as f64;
            assert!((float - fixed).abs() < 4e-6, "{hash:#x}: {float} {fixed}");
        }
        assert!(negative_log2(0) > 63 << 32);
        assert!(negative_log2(u64::MAX) < 1 << 8);
    }
}
