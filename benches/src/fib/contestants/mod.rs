//! The tables that are compared.
#![forbid(unsafe_code)]

pub mod crates;
pub mod dpdk;
pub mod nearhop;
pub mod planb;

#[cfg(test)]
mod tests {
    use ip_network_table_deps_treebitmap::address::Address;

    use super::crates::{PrefixTrie, Treebitmap};
    use super::nearhop::Nearhop;
    use crate::fib::keys::{Keys, Route, Routes};
    use crate::fib::lookup::Lookup;
    use crate::fib::random::Random;
    use crate::fib::speed::{Field, agree};
    use crate::fib::updates;

    /// Prefixes of all lengths around few addresses, so that they nest.
    fn routes<W: Lookup>() -> Routes<W> {
        let mut random = Random(11);
        let centres: Vec<W> = (0..8).map(|_| W::uniform(&mut random)).collect();
        let mut routes: Vec<Route<W>> = Vec::new();
        for hop in 0..600 {
            let len = random.below(u64::from(W::WIDTH) + 1) as u8;
            let host = W::host_mask(len);
            let bits = (centres[random.below(8) as usize] | host) ^ host;
            if !routes.iter().any(|route| (route.bits, route.len) == (bits, len)) {
                routes.push(Route { bits, len, hop });
            }
        }
        Routes(routes)
    }

    fn agree_and_then_not<W>()
    where
        W: Lookup<Addr: Address>,
        (W, u8): prefix_trie::Prefix,
    {
        let routes = routes::<W>();
        let mut random = Random(13);
        let first = routes.0.iter().cycle().take(1024).map(|route| route.bits);
        let near = routes.0.iter().cycle().take(1024).map(|route| {
            let behind = W::host_mask(random.below(u64::from(W::WIDTH)) as u8);
            route.bits ^ W::random(&mut random).and(behind)
        });
        let keys = Keys::from(first.chain(near).collect::<Vec<W>>());
        let mut field: Field<W> = vec![
            Box::new(Nearhop::new(&routes).unwrap()),
            Box::new(PrefixTrie::new(&routes)),
            Box::new(Treebitmap::new(&routes)),
        ];
        let answers = agree(&mut field, &keys).unwrap();
        for contestant in &mut field {
            updates::lengths(contestant.as_mut(), &routes).unwrap();
            let mut out = vec![0; keys.bits.len()];
            contestant.chain(&keys, &mut out);
            answers.check_start(contestant.as_ref(), &out).unwrap();
        }
        agree(&mut field, &keys).unwrap();
        for wrong in 0..field.len() {
            let route = *routes.0.iter().max_by_key(|route| route.len).unwrap();
            field[wrong].remove(&route).unwrap();
            let error = agree(&mut field, &keys).err().unwrap().to_string();
            assert!(error.contains(" differ for "), "{error}");
            field[wrong].insert(&route).unwrap();
        }
    }

    #[test]
    fn all_answer_alike_and_one_wrong_route_is_seen() {
        agree_and_then_not::<u32>();
        agree_and_then_not::<u128>();
    }
}
