//! Reads communities.
#![forbid(unsafe_code)]

use crate::bgp::{Community, LargeCommunity};
use crate::config::value::ValueError;

/// `HIGH:LOW`, or the name of a well-known one.
pub(super) fn community(text: &str) -> Result<Community, ValueError> {
    if let Some((_, known)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
        return Ok(*known);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let halves: Vec<u16> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    if let ([high, low], 2) = (&halves[..], parts.len()) {
        return Ok(Community::new(*high, *low));
    }
    let fault = ValueError::new("expected two numbers up to 65535, such as \"65001:100\"")
        .because(format!("{text:?} is not a community"));
    Err(match parts.len() {
        3 => fault.help("three numbers are a large community: write it into large-communities"),
        2 if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') => {
            fault.help("an AS above 65535 has large communities: \"4200000000:100:1\"")
        }
        _ => {
            let names: Vec<&str> = WELL_KNOWN.iter().map(|(name, _)| *name).collect();
            fault.help(format!("or a name: {}", names.join(", ")))
        }
    })
}

/// `AS:NUMBER:NUMBER`.
pub(super) fn large_community(text: &str) -> Result<LargeCommunity, ValueError> {
    let parts: Vec<Option<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match parts[..] {
        [Some(global), Some(one), Some(two)] => Ok(LargeCommunity { global, local: [one, two] }),
        _ => Err(ValueError::new("expected three numbers, such as \"4200000000:100:1\"")
            .because(format!("{text:?} is not a large community"))),
    }
}

const WELL_KNOWN: [(&str, Community); 5] = [
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("blackhole", Community::BLACKHOLE),
];
