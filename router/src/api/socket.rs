//! The default path of the control socket: `NAME.sock` in `$RUNTIME_DIRECTORY`, else in
//! `$XDG_RUNTIME_DIR/nearhop`, else in `/run/nearhop`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The socket of the router named `name`, unless configured otherwise. `env` returns the value of
/// an environment variable.
pub fn default_path(name: &str, env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let mut dirs = directories(env);
    dirs.swap_remove(0).join(format!("{name}.sock"))
}

/// The directories that may contain sockets; this process would create its own in the first. Under
/// a service manager that is the only one. Elsewhere a client also searches the system's directory,
/// because its environment may differ from the router's.
pub fn directories(env: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    // systemd separates several directories by colons; the first is the unit's main one.
    let runtime = set("RUNTIME_DIRECTORY").and_then(|dirs| std::env::split_paths(&dirs).next());
    if let Some(dir) = runtime {
        return vec![dir];
    }
    let user = set("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join("nearhop"));
    user.into_iter().chain([PathBuf::from("/run/nearhop")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(pairs: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    #[test]
    fn the_default_path_follows_the_environment() {
        for (pairs, want) in [
            (&[][..], "/run/nearhop/r1.sock"),
            (&[("XDG_RUNTIME_DIR", "/run/user/7")], "/run/user/7/nearhop/r1.sock"),
            (
                &[("RUNTIME_DIRECTORY", "/run/a:/run/b"), ("XDG_RUNTIME_DIR", "/x")],
                "/run/a/r1.sock",
            ),
            (&[("RUNTIME_DIRECTORY", "")], "/run/nearhop/r1.sock"),
        ] {
            assert_eq!(default_path("r1", env(pairs)), Path::new(want));
        }
    }
}
