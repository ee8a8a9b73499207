//! An impaired link: delay, jitter, loss and rate without a kernel module.
//!
//! ```text
//! router ══ TUN (the router's) ─ kernel ─ packet socket ═╗
//!           in the wire's namespace                    emulator: one model each way
//! host   ── TUN (the host's NIC), descriptor ════════════╝
//! ```
//!
//! The model is the same on every machine and, with the same seed, makes the same decisions. netem
//! is not used even where the kernel has it, because a lab would show other figures on the many
//! kernels without it.
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

/// Configuration of the emulator process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spec {
    /// Name used in counters and messages.
    pub name: String,
    /// Namespace of the router's TUN, which the router makes.
    pub router_netns: String,
    /// Namespace of the host, where the emulator makes the NIC.
    pub host_netns: String,
    /// Name of both devices.
    pub device: String,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Impairment of packets, in each direction.
    pub impairment: Impairment,
    /// Seed of the model's decisions.
    pub seed: u64,
}

/// Command line of the emulator of a link: this program, which must call [`dispatch`].
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

/// Runs the emulator if the arguments (without the program's name) request it. A program that
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
    eprintln!("nearlab: the emulator of a link failed: {error}");
    Some(ExitCode::FAILURE)
}

const COMMAND: &str = "__wire";
const MTU: u32 = 1500;
