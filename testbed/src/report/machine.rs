//! The machine of a run.
#![forbid(unsafe_code)]

use std::fs;
use std::thread;

/// The machine, as its kernel describes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    /// Such as `Linux 6.1.0 x86_64`.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The distribution.
    pub system: String,
}

impl Machine {
    /// Reads it from the kernel; what the kernel does not report is `unknown`.
    pub fn this() -> Self {
        let uname = rustix::system::uname();
        let part = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            kernel: format!(
                "{} {} {}",
                part(uname.sysname()),
                part(uname.release()),
                part(uname.machine())
            ),
            cpu: field("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field("/proc/meminfo", "MemTotal", ':')
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1_024),
            system: field("/etc/os-release", "PRETTY_NAME", '=')
                .map_or_else(unknown, |name| name.trim_matches('"').to_owned()),
        }
    }
}

/// The value after `key` and `separator`, from the first line of a file that begins with `key`.
fn field(path: &str, key: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(separator).map(|(_, value)| value.trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_its_name() {
        let machine = Machine::this();
        assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
        assert!(machine.cores >= 1 && machine.memory_mib > 0, "{machine:?}");
    }
}
