//! BGP routers that nobody here wrote, in the namespaces of one test.
#![allow(dead_code)] // each test binary uses its own part

pub mod bfdd;
pub mod bird;
pub mod daemon;
pub mod exabgp;
pub mod frr;
pub mod gobgp;
pub mod peer;
pub mod speaker;

use std::path::Path;

/// Why a program cannot be used; `None` if it is there.
pub fn missing(program: &str, package: &str) -> Option<String> {
    let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    let is_there = path.split(':').any(|folder| Path::new(folder).join(program).exists());
    (!is_there).then(|| format!("{program} is not there (package {package})"))
}
