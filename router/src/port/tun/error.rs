//! Why a TUN device cannot be opened: what, where, and what to type.
#![forbid(unsafe_code)]

use std::io;

use super::{CLONE_DEVICE, QUEUES_MAX, TunSpec};
use crate::kernel::link::LinkError;
use crate::kernel::netns::{NetNs, NetNsError};

/// Why a TUN device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// A process holds it, maybe this one.
    #[error(
        "TUN device {device} in network namespace {netns} is in use; end the process that holds \
         it, or use another name (`{look}` shows the device)"
    )]
    Busy {
        /// Interface name.
        device: String,
        /// Where.
        netns: NetNs,
        /// The command that shows it.
        look: String,
    },
    /// The name cannot be an interface name.
    #[error("{name:?} cannot be the name of a TUN device: expected 1 to 15 bytes{expected}")]
    BadName {
        /// The name.
        name: String,
        /// What else the kernel asks of one, or how long it is.
        expected: String,
    },
    /// More or fewer queues than a TUN device can have.
    #[error("TUN device {device} cannot have {queues} queues, expected 1 to {QUEUES_MAX}")]
    BadQueues {
        /// Interface name.
        device: String,
        /// How many were wanted.
        queues: usize,
    },
    /// The file that TUN devices are made from cannot be opened.
    #[error("cannot open {CLONE_DEVICE}: {source}{}", clone_device_hint(.source))]
    CloneDevice {
        /// What the kernel said.
        source: io::Error,
    },
    /// No privilege.
    #[error(
        "may not {action} TUN device {device} in network namespace {netns} (operation not \
         permitted): this needs CAP_NET_ADMIN there; run as root, or inside `unshare -Urnm`, or \
         give the program the capability: `setcap cap_net_admin+ep FILE`"
    )]
    Denied {
        /// `make` or `attach to`.
        action: &'static str,
        /// Interface name.
        device: String,
        /// Where.
        netns: NetNs,
    },
    /// The kernel refused for another reason.
    #[error("cannot {action} TUN device {device} in network namespace {netns}: {source}{hint}")]
    Failed {
        /// `make` or `attach to`.
        action: &'static str,
        /// Interface name.
        device: String,
        /// Where.
        netns: NetNs,
        /// What the kernel said.
        source: io::Error,
        /// What to type.
        hint: String,
    },
    /// The device could not be looked at.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The namespace could not be opened or entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// Something else bears the name.
    #[error(
        "{device} in network namespace {netns} cannot be used as a TUN port: found {found}; {fix}"
    )]
    Unusable {
        /// Interface name.
        device: String,
        /// Where.
        netns: NetNs,
        /// What is there.
        found: String,
        /// What to do about it.
        fix: String,
    },
}

impl TunError {
    pub(super) fn busy(spec: &TunSpec) -> Self {
        Self::Busy {
            device: spec.name.clone(),
            netns: spec.netns.clone(),
            look: spec.netns.ip_command(&format!("-d link show {}", spec.name)),
        }
    }

    /// `found` is there; only what somebody made can be deleted.
    pub(super) fn unusable(spec: &TunSpec, found: String, deletable: bool) -> Self {
        let (device, netns) = (spec.name.clone(), spec.netns.clone());
        let fix = if deletable {
            let delete = netns.ip_command(&format!("link del {device}"));
            format!("delete it with `{delete}`, or use another name")
        } else {
            "use another name".into()
        };
        Self::Unusable { device, netns, found, fix }
    }

    /// What TUNSETIFF and the ioctls after it said.
    pub(super) fn from_open(spec: &TunSpec, created: bool, source: io::Error) -> Self {
        let action = if created { "make" } else { "attach to" };
        let (device, netns) = (spec.name.clone(), spec.netns.clone());
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::Denied { action, device, netns },
            Some(libc::EBUSY) => Self::busy(spec),
            _ if created => Self::Failed { action, device, netns, source, hint: String::new() },
            _ => {
                let fix = netns.ip_command(&format!("link del {device}"));
                let hint = format!("; delete it with `{fix}` to have it made anew");
                Self::Failed { action, device, netns, source, hint }
            }
        }
    }
}

/// What can be judged before the kernel is asked. It would cut a long name short silently, and
/// number one with a `%`.
pub(super) fn check(spec: &TunSpec) -> Result<(), TunError> {
    let bad_name = |expected| Err(TunError::BadName { name: spec.name.clone(), expected });
    let len = spec.name.len();
    if len == 0 || len >= libc::IFNAMSIZ {
        return bad_name(format!(", found {len}"));
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    if spec.name.contains(forbidden) || spec.name == "." || spec.name == ".." {
        let rule = " without blanks, `/`, `:` and `%`, and neither `.` nor `..`";
        return bad_name(rule.into());
    }
    if !(1..=QUEUES_MAX).contains(&spec.queues) {
        return Err(TunError::BadQueues { device: spec.name.clone(), queues: spec.queues });
    }
    Ok(())
}

fn clone_device_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOENT) => {
            "; `modprobe tun` makes it (as root; in a container, run that with `--device \
             /dev/net/tun`)"
        }
        Some(libc::ENODEV | libc::ENXIO) => {
            "; the kernel has no TUN driver: `modprobe tun` as root"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "; may not use it: `chmod 0666 /dev/net/tun` as root, which is its usual mode"
        }
        _ => "",
    }
}
