//! nearhop under test: the daemon itself, a worker for each core.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nearlab::lab::wait_for;
use nearlab::sandbox::own_executable;

use super::subject::{Lab, Subject};
use crate::ROUTER;
use crate::report::BenchError;

/// Starts a router with `line` in the configuration of both ports, or, for `"busy"`, with busy
/// polling, and waits until it is ready.
pub fn build(name: &'static str, line: &str) -> Result<Subject, BenchError> {
    let id: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let (lab, namespaces) = Lab::make(&id)?;
    let (port, router) = if line == "busy" { ("", "busy-poll = \"50us\"\n") } else { (line, "") };
    let text = format!(
        "[router]\nname = \"{id}\"\n{router}\
         [[port]]\nname = \"client\"\ntun = \"nh-c\"\nnetns = \"{id}-c\"\n{port}\
         addresses = [\"10.0.0.1/24\"]\npeer-addresses = [\"10.0.0.2/24\"]\n\
         [[port]]\nname = \"site\"\ntun = \"nh-s\"\nnetns = \"{id}-s\"\n{port}\
         addresses = [\"10.1.0.1/24\"]\npeer-addresses = [\"10.1.0.2/24\"]\n\
         [[route]]\nprefix = \"10.2.0.0/16\"\nvia = \"site\"\n"
    );
    let path = |end: &str| PathBuf::from(format!("/run/{id}.{end}"));
    let (file, ready) = (path("toml"), path("ready"));
    fs::write(&file, text).map_err(BenchError::environment)?;
    let log = File::create(path("log")).map_err(BenchError::environment)?;
    let child = Command::new(own_executable())
        .args([ROUTER.as_ref(), "run".as_ref(), file.as_os_str()])
        .args(["--socket".as_ref(), path("sock").as_os_str()])
        .args(["--ready-file".as_ref(), ready.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(BenchError::environment)?;
    let mut daemon = Daemon(child);
    wait_for("nearhop to be ready", READY_WITHIN, || {
        if let Ok(Some(status)) = daemon.0.try_wait() {
            let said = fs::read_to_string(path("log")).unwrap_or_default();
            return Ok(Err(format!("nearhop ended with {status}: {said}")));
        }
        if ready.exists() { Ok(Ok(())) } else { Err(String::new()) }
    })
    .map_err(BenchError::environment)?
    .map_err(BenchError::environment)?;
    Subject::new(name, &lab, ["nh-c", "nh-s"], 0, Box::new(daemon), namespaces)
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It is the sandbox's: what is left of it ends with that.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const READY_WITHIN: Duration = Duration::from_secs(20);
