//! BIRD 2: a peer that takes the same table, and a sender of it.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearlab::lab::wait_for;

use crate::report::BenchError;

/// A running BIRD.
pub struct Bird {
    child: Child,
    folder: PathBuf,
}

impl Bird {
    /// Starts one in a namespace, with this configuration, and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started, or does not answer.
    pub fn start(netns: &NetNs, config: &str) -> Result<Self, BenchError> {
        let folder = PathBuf::from("/run/fulltable-bird");
        let prepare = || -> std::io::Result<File> {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("bird.conf"), config)?;
            File::create(folder.join("log"))
        };
        let log = prepare().map_err(BenchError::environment)?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={netns}")).args(["bird", "-f"]);
        for (flag, file) in [("-c", "bird.conf"), ("-s", "bird.ctl"), ("-P", "bird.pid")] {
            command.arg(flag).arg(folder.join(file));
        }
        command.env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(BenchError::environment)?;
        let bird = Self { child, folder };
        let answers = wait_for("BIRD to answer", ANSWERS_WITHIN, || bird.ask("show status"));
        answers.map_err(|error| {
            let said = fs::read_to_string(bird.folder.join("log")).unwrap_or_default();
            BenchError::environment(format!("{error}; it said: {said}"))
        })?;
        Ok(bird)
    }

    /// What it answers to a command of birdc.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, command: &str) -> Result<String, String> {
        let asked = Command::new("birdc")
            .env("PATH", PATH)
            .arg("-s")
            .arg(self.folder.join("bird.ctl"))
            .args(command.split(' '))
            .stdin(Stdio::null())
            .output();
        let output = asked.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// How many routes of both families it has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn routes(&self) -> Result<usize, String> {
        let text = self.ask("show route count")?;
        let counts = text.lines().filter_map(|line| {
            // 849191 of 849191 routes for 849191 networks in table master4
            line.split_whitespace()
                .next()?
                .parse::<usize>()
                .ok()
                .filter(|_| line.contains(" in table "))
        });
        Ok(counts.sum())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where daemons are too.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
