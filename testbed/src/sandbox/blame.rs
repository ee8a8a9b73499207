//! Finds out why a machine refuses user namespaces, and the command that fixes it.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;

/// A reason for the refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// Debian's older switch forbids it to users.
    UsernsClone,
    /// The limit of user namespaces is zero.
    MaxUserNamespaces,
    /// Ubuntu's AppArmor removes the capabilities of unknown programs in user namespaces.
    AppArmor,
    /// None of the switches; perhaps a container's seccomp profile, or a kernel without user
    /// namespaces.
    Unknown,
}

impl Blame {
    /// Reads the switches of this machine.
    pub fn find() -> Self {
        Self::from(|name| fs::read_to_string(format!("/proc/sys/{name}")).ok())
    }

    fn from(read: impl Fn(&str) -> Option<String>) -> Self {
        let is = |name: &str, value: &str| read(name).is_some_and(|text| text.trim() == value);
        if is("kernel/unprivileged_userns_clone", "0") {
            Self::UsernsClone
        } else if is("user/max_user_namespaces", "0") {
            Self::MaxUserNamespaces
        } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
            Self::AppArmor
        } else {
            Self::Unknown
        }
    }

    /// The command that fixes it.
    pub fn mend(self) -> &'static str {
        match self {
            Self::UsernsClone => "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            Self::MaxUserNamespaces => "sudo sysctl -w user.max_user_namespaces=15000",
            Self::AppArmor => "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            Self::Unknown => {
                "in a container, start it with --privileged (or seccomp=unconfined and \
                 CAP_SYS_ADMIN); as root, NEARLAB_USERNS=off does without a user namespace"
            }
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UsernsClone => "kernel.unprivileged_userns_clone is 0",
            Self::MaxUserNamespaces => "user.max_user_namespaces is 0",
            Self::AppArmor => "kernel.apparmor_restrict_unprivileged_userns is 1",
            Self::Unknown => "no sysctl forbids it, so a seccomp filter or the kernel itself does",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_is_off_is_named_with_its_command() {
        let table = [
            ("kernel/unprivileged_userns_clone", "0\n", Blame::UsernsClone),
            ("user/max_user_namespaces", "0\n", Blame::MaxUserNamespaces),
            ("kernel/apparmor_restrict_unprivileged_userns", "1\n", Blame::AppArmor),
            ("kernel/unprivileged_userns_clone", "1\n", Blame::Unknown),
        ];
        for (set, value, expected) in table {
            let found = Blame::from(|name| (name == set).then(|| value.to_owned()));
            assert_eq!(found, expected, "{set}={value}");
            let switch = set.replace('/', ".");
            assert!(found == Blame::Unknown || found.mend().contains(&switch), "{switch}");
        }
    }
}
