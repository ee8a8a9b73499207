//! nearhop's daemon as a process of a bench.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nearhop::client::Client;
use nearhop::event::Event;
use nearlab::lab::wait_for;
use nearlab::sandbox::own_executable;
use serde_json::Value;

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

impl Daemon {
    /// Passes events on from now on, or all that there were with `since=0` in `query`, on a thread that ends
    /// with the router.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn follow(
        &self,
        query: &str,
        mut note: impl FnMut(Event) + Send + 'static,
    ) -> Result<(), BenchError> {
        let (socket, path) = (self.socket.clone(), format!("/v1/watch{query}"));
        let watch = move || {
            let Ok(client) = Client::new(socket) else { return };
            let mut rest = Vec::new();
            let _ = client.follow(&path, std::future::pending(), |chunk| {
                rest.extend_from_slice(chunk);
                let whole = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                let lines = rest[..whole].split(|&byte| byte == b'\n');
                lines.filter_map(|line| serde_json::from_slice(line).ok()).for_each(&mut note);
                rest.drain(..whole);
                ControlFlow::Continue(())
            });
        };
        let thread = thread::Builder::new().name("watch".into()).spawn(watch);
        thread.map(drop).map_err(BenchError::environment)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It is the sandbox's: what is left of it ends with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows of `show NOUN`.
///
/// # Errors
/// The router does not answer.
pub fn show(client: &Client, noun: &str) -> Result<Vec<Value>, BenchError> {
    let answer = client.get(&format!("/v1/show/{noun}")).map_err(BenchError::environment)?;
    let document: Value = serde_json::from_slice(&answer).map_err(BenchError::environment)?;
    Ok(document["items"].as_array().cloned().unwrap_or_default())
}

/// The longest step of the router's threads whose names begin so, since it started, in microseconds, and which.
///
/// # Errors
/// The router does not answer.
pub fn longest_step(client: &Client, thread: &str) -> Result<(u64, String), BenchError> {
    let of = |row: &Value| row["longest_us"].as_u64().unwrap_or(0);
    let steps = show(client, "steps")?;
    let is_asked =
        |row: &&Value| row["thread"].as_str().is_some_and(|name| name.starts_with(thread));
    let slowest = steps.iter().filter(is_asked).max_by_key(|row| of(row));
    Ok(slowest.map_or_else(Default::default, |row| {
        (of(row), format!("{} of {}", row["step"], row["thread"]))
    }))
}

/// Memory of a process, KiB: `VmRSS` is what it has, `VmHWM` the most that it ever had.
///
/// # Errors
/// The kernel does not report it.
pub fn memory_kib(pid: u32, what: &str) -> Result<u64, BenchError> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).map_err(BenchError::environment)?;
    let value = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let figure = value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok());
    figure.ok_or_else(|| BenchError::environment(format!("the kernel does not report {what}")))
}
