//! nearhop's daemon as a process of a bench.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nearlab::lab::wait_for;
use nearlab::sandbox::own_executable;

use crate::ROUTER;
use crate::report::BenchError;

/// A daemon that ends with this value.
pub struct Daemon {
    /// Its process.
    pub child: Child,
    /// Its control socket.
    pub socket: PathBuf,
}

impl Daemon {
    /// Starts one with this configuration, whose files are named by `id`, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready in time.
    pub fn start(id: &str, configuration: &str, within: Duration) -> Result<Self, BenchError> {
        let mut daemon = Self::start_unready(id, configuration)?;
        daemon.wait_ready(within)?;
        Ok(daemon)
    }

    /// As [`Self::start`], without waiting.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_unready(id: &str, configuration: &str) -> Result<Self, BenchError> {
        let path = |end: &str| PathBuf::from(format!("/run/{id}.{end}"));
        let (file, socket, ready) = (path("toml"), path("sock"), path("ready"));
        fs::write(&file, configuration).map_err(BenchError::environment)?;
        // One of this name that was killed may have left it.
        let _ = fs::remove_file(&ready);
        let log = File::create(path("log")).map_err(BenchError::environment)?;
        let child = Command::new(own_executable())
            .args([ROUTER.as_ref(), "run".as_ref(), file.as_os_str()])
            .args(["--socket".as_ref(), socket.as_os_str()])
            .args(["--ready-file".as_ref(), ready.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(BenchError::environment)?;
        Ok(Self { child, socket })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub fn wait_ready(&mut self, within: Duration) -> Result<(), BenchError> {
        let ready = self.socket.with_extension("ready");
        wait_for("nearhop to be ready", within, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                let said = fs::read_to_string(self.socket.with_extension("log"));
                return Ok(Err(format!(
                    "nearhop ended with {status}: {}",
                    said.unwrap_or_default()
                )));
            }
            if ready.exists() { Ok(Ok(())) } else { Err(String::new()) }
        })
        .map_err(BenchError::environment)?
        .map_err(BenchError::environment)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It is the sandbox's: what is left of it ends with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
