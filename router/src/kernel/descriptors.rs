//! The limit of open files, RLIMIT_NOFILE: every queue, ring, namespace and client takes one.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one; returns what it is from now on, `None` if there is none.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(errno) => {
            log::warn!("cannot raise the limit of open files to the hard limit: {errno}");
            current
        }
    }
}

/// The limit now, `None` if there is none.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many the configuration in force needs, for [`hint`].
pub fn expect(needed: u64) {
    NEEDED.store(needed, Ordering::Relaxed);
}

/// What to type for `needed` descriptors.
pub fn how_to_raise(needed: u64) -> String {
    let limit = limit().map_or("none".to_owned(), |limit| limit.to_string());
    let pid = std::process::id();
    format!(
        "the limit of open files is {limit} (RLIMIT_NOFILE), and {needed} are needed: raise it by \
         `ulimit -n {needed}`, by LimitNOFILE={needed} in the unit, or for the running process by \
         `prlimit --pid {pid} --nofile={needed}`"
    )
}

/// What to do about an error, if it is a want of descriptors; else nothing.
pub fn hint(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            format!(
                "; {}",
                how_to_raise(NEEDED.load(Ordering::Relaxed).max(limit().unwrap_or(0) + 1))
            )
        }
        Some(libc::ENFILE) => "; the system has no more: raise fs.file-max by sysctl".into(),
        _ => String::new(),
    }
}

/// What the configuration in force needs.
static NEEDED: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_want_of_descriptors_has_a_hint_and_it_says_how_many() {
        expect(5_000_000);
        let hint_of = |errno| hint(&io::Error::from_raw_os_error(errno));
        let said = hint_of(libc::EMFILE);
        assert!(said.contains("RLIMIT_NOFILE") && said.contains("LimitNOFILE=5000000"), "{said}");
        assert!(hint_of(libc::ENFILE).contains("fs.file-max"));
        assert_eq!(hint_of(libc::EPERM), "");
    }
}
