//! Running other programs: where, with which environment, and what their end means.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::report::Outcome;

/// The top of the checkout.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}

/// `cargo ARGS`, the same cargo that runs this task.
pub fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = program(&cargo);
    command.args(args);
    command
}

/// A program that is run at the top of the checkout and finds what lives in `sbin`.
pub fn program(name: impl Into<OsString>) -> Command {
    let mut command = Command::new(name.into());
    command.current_dir(root()).env("PATH", path()).stdin(Stdio::null());
    command
}

/// Whether `program` is there to be run.
pub fn exists(program: &str) -> bool {
    std::env::split_paths(&path()).any(|folder| folder.join(program).is_file())
}

/// Prints the command, runs it to its end, and says what that means.
pub fn run(command: &mut Command) -> Outcome {
    println!("$ {}", shown(command));
    match command.status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{}: {status}", shown(command))),
        Err(error) => Outcome::Failed(format!("{}: {error}", shown(command))),
    }
}

/// Whether the command runs and succeeds; prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// What the command prints; `None` unless it succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Every file git knows or would know, from the top of the checkout.
pub fn repository_files() -> Option<Vec<PathBuf>> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let names = output(program("git").args(list))?;
    let exists = |path: &PathBuf| root().join(path).is_file();
    Some(names.split_terminator('\0').map(PathBuf::from).filter(exists).collect())
}

/// As a person would type it: `NAME=value cargo test ...`.
fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter(|(name, _)| *name != "PATH");
    let mut words: Vec<String> = variables
        .filter_map(|(name, value)| Some((name.to_string_lossy(), value?.to_string_lossy())))
        .map(|(name, value)| format!("{name}={}", quoted(&value)))
        .collect();
    let name = Path::new(command.get_program());
    let name =
        if name.is_absolute() { name.file_name().unwrap_or_default() } else { name.as_ref() };
    words.push(name.to_string_lossy().into_owned());
    words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// Debian leaves the `sbin` folders out of an ordinary user's PATH; `ip` and `nft` live there.
fn path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let all: Vec<_> = std::env::split_paths(&own).chain(system).collect();
    std::env::join_paths(all).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = cargo(["test", "--test", "loom*"]);
        command.env("RUSTFLAGS", "--cfg loom");
        let shown = shown(&command);
        assert!(shown.starts_with("RUSTFLAGS='--cfg loom' cargo"), "{shown}");
        assert!(shown.ends_with("test --test 'loom*'"), "{shown}");
    }

    #[test]
    fn the_end_of_a_program_decides() {
        assert!(matches!(run(&mut program("true")), Outcome::Passed));
        assert!(matches!(run(&mut program("false")), Outcome::Failed(_)));
        assert!(matches!(run(&mut program("no-such-program")), Outcome::Failed(_)));
    }
}
