//! Anycast networks out of Linux network namespaces.
#![deny(unsafe_code)]

pub mod doctor;
pub mod lab;
pub mod sandbox;
mod sys;
pub mod topology;
pub mod wire;

use std::ffi::OsStr;
use std::process::ExitCode;

/// Runs a helper process of the lab if the arguments (without the program's name) ask for one.
/// Every program that builds labs calls this first in `main`.
pub fn dispatch<A: AsRef<OsStr>>(args: &[A]) -> Option<ExitCode> {
    wire::dispatch(args).or_else(|| doctor::dispatch(args))
}
