//! Bytes to changes of a FIB and questions to it, beside a list of prefixes that is searched from end
//! to end: all answers are the same, what is refused changes nothing, and what is emptied is empty.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use nearhop_fib::{Group, GroupId, Handle, IpPrefix, Reader, WriteError, Writer, fib};

fuzz_target!(|bytes: &[u8]| {
    // An empty FIB costs milliseconds: one serves all inputs, each of which leaves it empty.
    thread_local!(static FIB: RefCell<Option<Fib>> = const { RefCell::new(None) });
    FIB.with_borrow_mut(|kept| {
        let mut fib = kept.take().unwrap_or_else(Fib::new);
        let mut input = Input(bytes);
        while fib.step(&mut input).is_some() {}
        fib.check(0);
        fib.empty();
        *kept = Some(fib);
    });
});

struct Fib {
    writer: Writer,
    _handle: Handle,
    reader: Reader,
    groups: Vec<GroupId>,
    routes: BTreeMap<IpPrefix, GroupId>,
    /// Where to look: around every prefix there ever was.
    places: Vec<IpAddr>,
}

impl Fib {
    fn new() -> Self {
        let (mut writer, handle) = fib(1);
        let reader = handle.reader().expect("one may be there");
        let groups = (0..8).map(|_| writer.add_group(&Group::Local).expect("there is room"));
        let groups = groups.collect();
        let (routes, places) = (BTreeMap::new(), Vec::new());
        Self { writer, _handle: handle, reader, groups, routes, places }
    }

    /// `None` at the end of the input.
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? {
            0..=119 => {
                let (prefix, group) = (input.prefix()?, input.group(&self.groups)?);
                assert_eq!(
                    self.writer.insert(prefix, group),
                    Ok(self.routes.insert(prefix, group))
                );
                self.touch(prefix);
            }
            120..=199 => {
                let prefix = match self.nth(input.byte()?) {
                    Some((prefix, _)) => prefix,
                    None => input.prefix()?,
                };
                assert_eq!(self.writer.remove(prefix), Ok(self.routes.remove(&prefix)));
                self.touch(prefix);
            }
            200..=209 => {
                let group = input.group(&self.groups)?;
                assert_eq!(self.writer.replace_group(group, &Group::Blackhole), Ok(()));
            }
            210..=219 => self.remove_group(input.group(&self.groups)?),
            220..=234 => self.check_order(input.byte()?),
            235..=244 => {
                let group = GroupId(8 + u32::from(input.byte()?) * 0x0101_0101 % 0xffff_fff0);
                let refused = self.writer.insert(input.prefix()?, group);
                assert_eq!(refused, Err(WriteError::UnknownGroup));
            }
            245..=249 => drop(self.writer.reclaim()),
            _ => self.check(self.places.len().saturating_sub(LATELY)),
        }
        Some(())
    }

    fn touch(&mut self, prefix: IpPrefix) {
        let around = boundaries(prefix);
        for addr in around {
            assert_eq!(self.writer.lookup(addr), self.want(addr), "{addr}");
        }
        self.places.extend(around);
    }

    fn nth(&self, nth: u8) -> Option<(IpPrefix, GroupId)> {
        let nth = usize::from(nth) % self.routes.len().max(1);
        self.routes.iter().nth(nth).map(|(&prefix, &group)| (prefix, group))
    }

    fn want(&self, addr: IpAddr) -> GroupId {
        let covering = self.routes.iter().filter(|(prefix, _)| prefix.contains(addr));
        let longest = covering.max_by_key(|(prefix, _)| prefix.len());
        longest.map_or(GroupId::NONE, |(_, &group)| group)
    }

    /// Removed if no route leads there, and another takes its place at once.
    fn remove_group(&mut self, group: GroupId) {
        let routes = self.routes.values().filter(|&&to| to == group).count() as u32;
        if routes > 0 {
            assert_eq!(self.writer.remove_group(group), Err(WriteError::GroupInUse { routes }));
            return;
        }
        assert_eq!(self.writer.remove_group(group), Ok(()));
        assert_eq!(self.writer.remove_group(group), Err(WriteError::UnknownGroup));
        assert_eq!(self.writer.add_group(&Group::Local), Ok(group), "nobody holds it");
    }

    fn check_order(&self, nth: u8) {
        let Some((from, _)) = self.nth(nth) else { return };
        let after = self.routes.iter().filter(|&(&prefix, _)| prefix > from);
        assert!(self.writer.iter_after(from).eq(after.map(|(&prefix, &group)| (prefix, group))));
    }

    /// The places from one on, in batches, as a reader.
    fn check(&mut self, from: usize) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for addr in &self.places[from..] {
            match addr {
                IpAddr::V4(addr) => v4.push(*addr),
                IpAddr::V6(addr) => v6.push(*addr),
            }
        }
        let (mut found_v4, mut found_v6) = (vec![GroupId(0); v4.len()], vec![GroupId(0); v6.len()]);
        let online = self.reader.online();
        online.lookup_batch_v4(&v4, &mut found_v4);
        online.lookup_batch_v6(&v6, &mut found_v6);
        drop(online);
        for (addr, found) in v4.into_iter().zip(found_v4) {
            assert_eq!(found, self.want(addr.into()), "{addr}");
        }
        for (addr, found) in v6.into_iter().zip(found_v6) {
            assert_eq!(found, self.want(addr.into()), "{addr}");
        }
        assert!(self.writer.iter().eq(self.routes.iter().map(|(&prefix, &group)| (prefix, group))));
    }

    fn empty(&mut self) {
        while let Some((prefix, group)) = self.routes.pop_last() {
            assert_eq!(self.writer.remove(prefix), Ok(Some(group)));
        }
        assert!(self.writer.is_empty());
        assert_eq!(self.writer.reclaim(), 0);
        for addr in self.places.drain(..) {
            assert_eq!(self.writer.lookup(addr), GroupId::NONE, "{addr}");
        }
    }
}

/// What is left of the bytes.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn group(&mut self, groups: &[GroupId]) -> Option<GroupId> {
        Some(groups[usize::from(self.byte()?) % groups.len()])
    }

    /// Two bytes at some place of few addresses, so that prefixes meet; any length.
    fn prefix(&mut self) -> Option<IpPrefix> {
        let (kind, len, place) = (self.byte()?, self.byte()?, self.byte()?);
        let value = u16::from_be_bytes([self.byte()?, self.byte()?]);
        if kind % 3 == 0 {
            let base = [0, 0x0a00_0000, 0xc000_0200, u32::MAX][usize::from(kind / 3) % 4];
            let bits = base ^ u32::from(value) << (place % 17);
            IpPrefix::around(Ipv4Addr::from_bits(bits).into(), len % 33)
        } else {
            let base = [0, 0x2001_0db8 << 96, 0x2001_0db8_ffff << 80, u128::MAX];
            let bits = base[usize::from(kind / 3) % 4] ^ u128::from(value) << (place % 113);
            IpPrefix::around(Ipv6Addr::from_bits(bits).into(), len % 129)
        }
    }
}

/// The first and last address of a prefix and their neighbours outside.
fn boundaries(prefix: IpPrefix) -> [IpAddr; 4] {
    match prefix {
        IpPrefix::V4(prefix) => {
            let (first, last) = (prefix.addr().to_bits(), prefix.last().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpPrefix::V6(prefix) => {
            let (first, last) = (prefix.addr().to_bits(), prefix.last().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// Places of the latest changes: to look at all of them each time would take too long.
const LATELY: usize = 100;
