//! Finds the offloads that this kernel supports: requests all, then fewer and fewer.
#![forbid(unsafe_code)]

use std::io;

use crate::packet::offload::Offloads;

/// Requests `wanted` by `set`, a TUNSETOFFLOAD, and fewer while the kernel refuses. Returns the
/// offloads it accepted, and for each one missing, why.
///
/// The kernel refuses TSO without checksums, and USO for one family only.
pub(super) fn negotiate(
    wanted: Offloads,
    mut set: impl FnMut(u32) -> io::Result<()>,
) -> io::Result<(Offloads, Vec<String>)> {
    let mut asked = tidy(wanted);
    let mut missing = Vec::new();
    loop {
        match set(mask(asked)) {
            Ok(()) => return Ok((asked, missing)),
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            Err(error) => {
                let Some((less, what)) = less(asked) else { return Err(error) };
                missing.push(format!("{what}: not supported by this kernel ({error})"));
                asked = less;
            }
        }
    }
}

/// `asked` without the newest of its offloads, and the name of that.
fn less(asked: Offloads) -> Option<(Offloads, &'static str)> {
    if asked.uso4 {
        let less = Offloads { uso4: false, uso6: false, ..asked };
        return Some((less, "UDP superframes (uso4, uso6; since Linux 6.2)"));
    }
    if asked.tso_ecn {
        let less = Offloads { tso_ecn: false, ..asked };
        return Some((less, "TCP superframes with ECN (tso-ecn)"));
    }
    if asked.tso4 || asked.tso6 {
        let less = Offloads { tso4: false, tso6: false, ..asked };
        return Some((less, "TCP superframes (tso4, tso6)"));
    }
    asked.checksum.then_some((Offloads::NONE, "partial checksums (csum)"))
}

/// `wanted` reduced to combinations that the kernel allows.
fn tidy(wanted: Offloads) -> Offloads {
    if !wanted.checksum {
        return Offloads::NONE;
    }
    let uso = wanted.uso4 && wanted.uso6;
    let tso_ecn = wanted.tso_ecn && (wanted.tso4 || wanted.tso6);
    Offloads { uso4: uso, uso6: uso, tso_ecn, ..wanted }
}

fn mask(offloads: Offloads) -> u32 {
    [
        (offloads.checksum, TUN_F_CSUM),
        (offloads.tso4, TUN_F_TSO4),
        (offloads.tso6, TUN_F_TSO6),
        (offloads.tso_ecn, TUN_F_TSO_ECN),
        (offloads.uso4, TUN_F_USO4),
        (offloads.uso6, TUN_F_USO6),
    ]
    .into_iter()
    .map(|(is_set, flag)| if is_set { flag } else { 0 })
    .sum()
}

// `<linux/if_tun.h>`
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_TSO_ECN: u32 = 0x08;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that supports the flags of `known`, with the rules of `tun_set_offload`.
    fn kernel(known: u32) -> impl FnMut(u32) -> io::Result<()> {
        move |mask| {
            let tso = mask & (TUN_F_TSO4 | TUN_F_TSO6) != 0;
            let uso = mask & (TUN_F_USO4 | TUN_F_USO6);
            let one_uso = uso != 0 && uso != TUN_F_USO4 | TUN_F_USO6;
            let bad = mask & !known != 0 || (tso && mask & TUN_F_CSUM == 0) || one_uso;
            if bad { Err(io::Error::from_raw_os_error(libc::EINVAL)) } else { Ok(()) }
        }
    }

    #[test]
    fn an_older_kernel_is_asked_for_less_and_what_is_missing_is_reported() {
        let without_uso = Offloads { uso4: false, uso6: false, ..Offloads::ALL };
        let checksum = Offloads { checksum: true, ..Offloads::NONE };
        for (known, taken, missing) in [
            (0x6f, Offloads::ALL, 0),
            (0x0f, without_uso, 1),
            (0x07, Offloads { tso_ecn: false, ..without_uso }, 2),
            (0x01, checksum, 3),
            (0x00, Offloads::NONE, 4),
        ] {
            let (found, reported) = negotiate(Offloads::ALL, kernel(known)).unwrap();
            assert_eq!((found, reported.len()), (taken, missing), "{known:#x}: {reported:?}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_together_is_not_asked_for() {
        let mut asked = Vec::new();
        for wanted in [
            Offloads { checksum: false, ..Offloads::ALL },
            Offloads { uso6: false, ..Offloads::ALL },
            Offloads { tso4: false, tso6: false, ..Offloads::ALL },
        ] {
            let mut kernel = kernel(0x6f);
            negotiate(wanted, |mask| {
                asked.push(mask);
                kernel(mask)
            })
            .unwrap();
        }
        assert_eq!(asked, [0x00, 0x0f, 0x61]);
    }

    #[test]
    fn another_error_is_no_reason_to_ask_for_less() {
        let gone = negotiate(Offloads::ALL, |_| Err(io::Error::from_raw_os_error(libc::EBADFD)));
        assert_eq!(gone.unwrap_err().raw_os_error(), Some(libc::EBADFD));
    }
}
