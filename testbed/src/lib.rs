//! Anycast networks out of Linux network namespaces.
#![deny(unsafe_code)]

pub mod sandbox;
mod sys;
pub mod topology;
