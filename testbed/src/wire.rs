//! An impaired link: delay, jitter, loss and rate that need no kernel module.
//!
//! ```text
//! router ══ TUN (the router's) ─ kernel ─ packet socket ═╗
//!           in the wire's namespace                    emulator: one model each way
//! host   ── TUN (the host's NIC), descriptor ════════════╝
//! ```
//!
//! The model is the same on every machine and, given a seed, makes the same decisions; kernels
//! with netem are not asked for it, because those without (there are many) would then show other
//! figures for the same lab.
#![forbid(unsafe_code)]

mod device;
mod emulator;
mod model;

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::sandbox::own_executable;
use crate::topology::{Impairment, LinkPlan};

pub use emulator::Counters;
pub use model::Model;

/// What the emulator process is told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spec {
    /// Name in counters and messages.
    pub name: String,
    /// Namespace of the router's TUN, which the router makes.
    pub router_netns: String,
    /// Namespace of the host, where the emulator makes the NIC.
    pub host_netns: String,
    /// Name of both devices.
    pub device: String,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// What happens to packets, each way.
    pub impairment: Impairment,
    /// Of the model's decisions.
    pub seed: u64,
}

/// The command line of the emulator for a link: this program, and [`dispatch`] in it.
pub(crate) fn command(plan: &LinkPlan, seed: u64) -> io::Result<Vec<OsString>> {
    let spec = Spec {
        name: plan.host.clone(),
        router_netns: plan.router_device_netns.clone(),
        host_netns: plan.host.clone(),
        device: plan.device.clone(),
        mtu: MTU,
        impairment: plan.impairment,
        seed,
    };
    let spec = serde_json::to_string(&spec)?;
    Ok(vec![own_executable().into_os_string(), COMMAND.into(), spec.into()])
}

/// Runs the emulator if the arguments (without the program's name) ask for it. A program that
/// builds labs calls this first in `main`.
pub fn dispatch<A: AsRef<OsStr>>(args: &[A]) -> Option<ExitCode> {
    let [command, spec] = args else { return None };
    if command.as_ref() != COMMAND {
        return None;
    }
    let spec = serde_json::from_slice(spec.as_ref().as_encoded_bytes()).map_err(io::Error::from);
    let Err(error) = spec.and_then(|spec| emulator::run(&spec)) else {
        return Some(ExitCode::SUCCESS);
    };
    eprintln!("nearlab: a wire has failed: {error}");
    Some(ExitCode::FAILURE)
}

const COMMAND: &str = "__wire";
const MTU: u32 = 1500;
