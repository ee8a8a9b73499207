//! Anycast networks out of Linux network namespaces.
//!
//! A program that builds labs begins, before any thread exists, with [`dispatch`], for it is also
//! started as the helper processes of its labs, and then with [`sandbox::enter`], for labs are
//! never on the host. What it builds is a [`topology::Topology`], as a [`lab::Lab`].
#![deny(unsafe_code)]

pub mod announcer;
pub mod calibration;
mod console;
pub mod demo;
pub mod doctor;
pub mod lab;
pub mod measure;
pub mod report;
pub mod sandbox;
pub mod scenario;
pub mod sim;
pub mod site;
mod stage;
mod sys;
pub mod topology;
pub mod traffic;
pub mod up;
pub mod wire;

use std::ffi::OsStr;
use std::process::ExitCode;

pub(crate) use nearhop::utc;

/// Runs a helper process of the lab if the arguments (without the program's name) ask for one.
/// Every program that builds labs calls this first in `main`.
pub fn dispatch<A: AsRef<OsStr>>(args: &[A]) -> Option<ExitCode> {
    wire::dispatch(args).or_else(|| doctor::dispatch(args))
}
