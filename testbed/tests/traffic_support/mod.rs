//! A fresh user and network namespace for a test, and sites in it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "the lint does not know helpers beside tests as tests")]

#[path = "../../../router/tests/support/skip.rs"]
pub mod skip;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nearlab::site::SiteOptions;

pub const V4: &str = "198.51.100.53";
pub const V6: &str = "2001:db8:53::53";

/// Runs `body` of the test called `name` in a namespace of its own, in which `lo` is up and has the
/// service's addresses: the test binary starts itself again there. Where that is impossible the
/// test is skipped with a message, unless NEARHOP_REQUIRE_ALL=1.
pub fn in_namespace(name: &str, body: impl FnOnce()) {
    if std::env::var("NEARLAB_TEST_INSIDE").as_deref() == Ok(name) {
        eventually("routes to the addresses on lo", || routed().then_some(()));
        return body();
    }
    let script = format!(
        "ip link set lo up && ip address add {V4}/32 dev lo && \
         ip address add {V6}/128 dev lo nodad && exec \"$0\" \"$@\""
    );
    let exe = std::env::current_exe().unwrap();
    let probe = Command::new("unshare").args(["-Urn", "ip", "link", "set", "lo", "up"]).output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        let why =
            format!("cannot make a user and network namespace with unshare and ip: {probe:?}");
        return skip::skip(name, &why);
    }
    let output = Command::new("unshare")
        .args(["-Urn", "--kill-child", "--fork", "--pid", "sh", "-c", &script])
        .arg(exe)
        .args(["--exact", name, "--nocapture"])
        .env("NEARLAB_TEST_INSIDE", name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{name} failed inside its namespace:\n{text}");
    assert!(text.contains("1 passed"), "{name} did not run inside its namespace:\n{text}");
}

/// Whether packets to the addresses on `lo` find their way: the kernel's IPv6 puts the route in
/// later than the address, from a work queue.
fn routed() -> bool {
    [(V4, "0.0.0.0:0"), (V6, "[::]:0")].into_iter().all(|(address, any)| {
        UdpSocket::bind(any).is_ok_and(|socket| socket.connect((address, 9)).is_ok())
    })
}

/// A site process; killed when dropped.
pub struct Site(pub Child);

impl Site {
    pub fn start(name: &str) -> Self {
        let mut child =
            Self::command(&options(name)).stdout(Stdio::piped()).spawn().expect("nearlab starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the site says when it is ready");
        Self(child)
    }

    pub fn command(options: &SiteOptions) -> Command {
        let mut command = nearlab();
        command.args(options.to_args());
        command
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn options(name: &str) -> SiteOptions {
    SiteOptions {
        name: name.into(),
        addresses: vec![V4.parse().unwrap(), V6.parse().unwrap()],
        dns_port: 53,
        http_port: 80,
        echo_port: 7,
        ready_file: None,
    }
}

pub fn nearlab() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nearlab"))
}

/// Asks until the answer is `Some`, for at most 20 s.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    nearlab::lab::wait_for(what, Duration::from_secs(20), || ask().ok_or_else(String::new)).unwrap()
}
