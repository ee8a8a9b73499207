//! Anycast networks out of Linux network namespaces.

pub mod measure;
pub mod report;
pub mod site;
pub mod traffic;
pub mod utc;
