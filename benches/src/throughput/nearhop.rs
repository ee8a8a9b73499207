//! nearhop under test: the daemon itself, a worker for each core.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::subject::{Lab, Subject};
use crate::daemon::Daemon;
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
    let daemon = Daemon::start(&id, &text, READY_WITHIN)?;
    Subject::new(name, &lab, ["nh-c", "nh-s"], 0, Box::new(daemon), namespaces)
}

const READY_WITHIN: Duration = Duration::from_secs(20);
