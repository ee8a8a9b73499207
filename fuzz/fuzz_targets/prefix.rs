//! Text to prefixes: never a panic; what is accepted is canonical, reads back as itself, and is
//! what another parser makes of the same text.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use nearhop_fib::{IpPrefix, PrefixError};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<IpPrefix>() {
        Ok(prefix) => accepted(text, prefix),
        // The prefix that was probably meant has to be one.
        Err(PrefixError::HostBits { addr, len }) => {
            let meant = IpPrefix::new(addr, len).expect("a hint that is no prefix itself");
            assert_eq!(IpPrefix::around(addr, len), Some(meant));
        }
        Err(_) => {}
    }
});

fn accepted(text: &str, prefix: IpPrefix) {
    assert_eq!(prefix.to_string().parse(), Ok(prefix), "{text:?}");
    assert!(prefix.contains(prefix.addr()), "{text:?}");
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    assert_eq!(address.parse::<IpAddr>(), Ok(prefix.addr()), "{text:?}");
}
