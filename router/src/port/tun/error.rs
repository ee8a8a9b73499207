//! Errors in opening a TUN device: what failed, where, and what to do.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::io;

use super::{CLONE_DEVICE, QUEUES_MAX, TunSpec};
use crate::kernel::descriptors;
use crate::kernel::link::LinkError;
use crate::kernel::netns::{NetNs, NetNsError};

/// Why a TUN device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// A process has it open, possibly this one.
    #[error(
        "TUN device {device} in network namespace {netns} is in use; end the process that has it \
         open, or use another name (`{look}` shows the device)"
    )]
    Busy {
        /// Interface name.
        device: String,
        /// Its network namespace.
        netns: NetNs,
        /// A command that shows the device.
        look: String,
    },
    /// The name is not a valid interface name.
    #[error("{name:?} cannot be the name of a TUN device: expected 1 to 15 bytes{expected}")]
    BadName {
        /// The name.
        name: String,
        /// The rule it breaks, or its length.
        expected: String,
    },
    /// The number of queues is out of range.
    #[error("TUN device {device} cannot have {queues} queues, expected 1 to {QUEUES_MAX}")]
    BadQueues {
        /// Interface name.
        device: String,
        /// Number of queues requested.
        queues: usize,
    },
    /// `/dev/net/tun` cannot be opened.
    #[error("cannot open {CLONE_DEVICE}: {source}{}", clone_device_hint(.source))]
    CloneDevice {
        /// The kernel's error.
        source: io::Error,
    },
    /// The process lacks the privilege.
    #[error(
        "no permission to {action} TUN device {device} in network namespace {netns} (operation \
         not permitted): this needs CAP_NET_ADMIN there; run as root, inside `unshare -Urnm`, or \
         give the program the capability: `setcap cap_net_admin+ep FILE`"
    )]
    Denied {
        /// `create` or `attach to`.
        action: &'static str,
        /// Interface name.
        device: String,
        /// Its network namespace.
        netns: NetNs,
    },
    /// The kernel refused for another reason.
    #[error("cannot {action} TUN device {device} in network namespace {netns}: {source}{hint}")]
    Failed {
        /// `create` or `attach to`.
        action: &'static str,
        /// Interface name.
        device: String,
        /// Its network namespace.
        netns: NetNs,
        /// The kernel's error.
        source: io::Error,
        /// What to do about it.
        hint: String,
    },
    /// The device could not be queried.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The namespace could not be opened or entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// Another kind of device has the name.
    #[error(
        "{device} in network namespace {netns} cannot be used as a TUN port: found {found}; {fix}"
    )]
    Unusable {
        /// Interface name.
        device: String,
        /// Its network namespace.
        netns: NetNs,
        /// What exists.
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

    /// The error for an existing device `found`; only a virtual device is `deletable`.
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

    /// The error for a failed TUNSETIFF or later ioctl.
    pub(super) fn from_open(spec: &TunSpec, created: bool, source: io::Error) -> Self {
        let action = if created { "create" } else { "attach to" };
        let (device, netns) = (spec.name.clone(), spec.netns.clone());
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::Denied { action, device, netns },
            Some(libc::EBUSY) => Self::busy(spec),
            _ if created => Self::Failed { action, device, netns, source, hint: String::new() },
            _ => {
                let fix = netns.ip_command(&format!("link del {device}"));
                let hint = format!("; delete it with `{fix}`, and nearhop creates it again");
                Self::Failed { action, device, netns, source, hint }
            }
        }
    }
}

/// Checks made before the kernel is asked, which would silently truncate a long name and expand a
/// `%`.
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

fn clone_device_hint(source: &io::Error) -> Cow<'static, str> {
    match source.raw_os_error() {
        Some(libc::ENOENT) => {
            "; create it with `modprobe tun` as root (in a container, run that with `--device \
             /dev/net/tun`)"
                .into()
        }
        Some(libc::ENODEV | libc::ENXIO) => {
            "; the kernel has no TUN driver: `modprobe tun` as root".into()
        }
        Some(libc::EACCES | libc::EPERM) => {
            "; no permission: run `chmod 0666 /dev/net/tun` as root, which is its usual mode".into()
        }
        _ => descriptors::hint(source).into(),
    }
}
