//! The three-site lab by hand (`netns-scripts/`), end to end: it comes up, fails over both ways a
//! link can die, heals, and goes without a trace.
//!
//! Everything happens in namespaces of the test's own (network, mounts with a fresh `/run`,
//! processes; of users too, when not root), so runs never meet, and a run that is killed takes all
//! of it along.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing it did not expect")]

#[path = "../../router/tests/support/skip.rs"]
mod skip;

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use skip::skip;

const NAME: &str = "the_lab_by_hand_fails_over_and_goes_without_a_trace";

#[test]
fn the_lab_by_hand_fails_over_and_goes_without_a_trace() {
    if env::var_os(INSIDE).is_some() {
        return whole_life();
    }
    if let Some(why) = cannot_run() {
        return skip(NAME, &why);
    }
    let nearhop = nearhop();
    let this = env::current_exe().unwrap();
    let mut inside = own_namespaces();
    inside.arg(this).args(["--exact", NAME, "--nocapture"]);
    inside.env(INSIDE, "1").env("NEARHOP", nearhop).env("NEARLAB", env!("CARGO_BIN_EXE_nearlab"));
    let status = inside.stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "inside the namespaces: {status}");
}

#[test]
fn wrong_usage_is_reported_before_anything_is_touched() {
    let cases: [(&str, &[&str], &str); 6] = [
        ("kill-link.sh", &[], "usage: kill-link.sh SITE announced|silent"),
        ("kill-link.sh", &["ams"], "usage: kill-link.sh SITE announced|silent"),
        ("kill-link.sh", &["oslo", "silent"], "no site is named 'oslo'; there are: ams fra par"),
        ("kill-link.sh", &["ams", "loud"], "dies 'announced' or 'silent', not 'loud'"),
        ("heal-link.sh", &[], "usage: heal-link.sh SITE"),
        ("watch.sh", &["often"], "usage: watch.sh [COUNT]"),
    ];
    for (script, args, expected) in cases {
        let output = call(script, args);
        let reported = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{script} {args:?}: {reported}");
        assert!(reported.contains(expected), "{script} {args:?}: {reported}");
    }
}

#[test]
fn the_configuration_is_one_that_nearhop_takes_without_a_warning() {
    let file = repository().join("netns-scripts/three-sites.toml");
    let (config, warnings) = nearhop::config::load(&file).unwrap_or_else(|errors| {
        panic!("{errors}");
    });
    assert!(warnings.is_empty(), "{warnings:?}");
    let sites: Vec<_> = config.services[0].sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!(sites, ["ams", "fra", "par"]);
}

/// Runs in the namespaces that the test made for itself.
fn whole_life() {
    let up = call("up.sh", &[]);
    if up.status.code() == Some(ENVIRONMENT) {
        return skip(NAME, &String::from_utf8_lossy(&up.stderr));
    }
    assert!(up.status.success(), "up.sh: {up:?}");
    served_by("ams");
    assert_eq!(web_page("198.51.100.53"), "ams");
    assert_eq!(web_page("2001:db8:53::53"), "ams");
    assert_eq!(call("up.sh", &[]).status.code(), Some(1), "a second lab is refused");
    served_by("ams");

    for how in ["announced", "silent"] {
        must("kill-link.sh", &["ams", how]);
        served_by("fra");
        assert_eq!(web_page("198.51.100.53"), "fra");
        must("heal-link.sh", &["ams"]);
        served_by("ams");
    }
    let processes = noted_processes();
    assert_eq!(processes.len(), 4, "three sites and the router");
    must("down.sh", &[]);
    nothing_is_left(&processes);
    must("down.sh", &[]);

    must("up.sh", &[]);
    let processes = noted_processes();
    let kill = Command::new("kill").arg("-KILL").args(&processes).status().unwrap();
    assert!(kill.success());
    must("down.sh", &[]);
    nothing_is_left(&processes);
}

/// Waits until both addresses are answered by this site, as `watch.sh` sees it.
fn served_by(site: &str) {
    let expected = format!("  ipv4 {site}  ipv6 {site}");
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let line = must("watch.sh", &["1"]);
        if line.trim_end().ends_with(&expected) {
            return;
        }
        seen.push(line);
    }
    panic!("not served by {site}, but: {seen:#?}");
}

/// What the client gets at `/site`.
fn web_page(address: &str) -> String {
    let server = SocketAddr::new(address.parse::<IpAddr>().unwrap(), 80);
    let request = format!("GET /site HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let answer = NetNs::named("nh-client").within(|| {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    body.trim().to_owned()
}

fn nothing_is_left(processes: &[String]) {
    let namespaces = fs::read_dir("/run/netns").unwrap().count();
    assert_eq!(namespaces, 0, "namespaces are left");
    assert!(!Path::new(STATE).exists(), "{STATE} is left");
    // One that was killed takes a moment to end; numbers are not given out again so soon, for these
    // are of a namespace of this test's own.
    let status = |pid: &String| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    let is_left = |status: &String| !status.contains("State:\tZ");
    let start = Nanos::now();
    loop {
        let left: Vec<String> = processes.iter().filter_map(status).filter(is_left).collect();
        if left.is_empty() {
            return;
        }
        assert!(Nanos::now().since(start) < PATIENCE, "left: {left:#?}");
        std::thread::yield_now();
    }
}

fn noted_processes() -> Vec<String> {
    let notes = fs::read_to_string(Path::new(STATE).join("processes")).unwrap();
    notes.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect()
}

fn must(script: &str, args: &[&str]) -> String {
    let output = call(script, args);
    assert!(output.status.success(), "{script} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn call(script: &str, args: &[&str]) -> Output {
    let script = repository().join("netns-scripts").join(script);
    Command::new(script).args(args).stdin(Stdio::null()).output().unwrap()
}

/// The router's command is another package's: whoever has built it says where it is, else cargo builds
/// it, for this package alone and so with other features.
fn nearhop() -> PathBuf {
    let nearlab = Path::new(env!("CARGO_BIN_EXE_nearlab"));
    if let Some(built) = env::var_os("NEARHOP") {
        return built.into();
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "nearhop", "--bin", "nearhop"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let folder = nearlab.parent().and_then(Path::parent).unwrap();
    let status = cargo.arg("--target-dir").arg(folder).current_dir(repository()).status().unwrap();
    assert!(status.success(), "nearhop does not build");
    nearlab.with_file_name("nearhop")
}

/// What is missing here, if anything is: programs, or the right to make namespaces.
fn cannot_run() -> Option<String> {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !exists(program)).collect();
    if !missing.is_empty() {
        return Some(format!("these programs are missing: {}", missing.join(", ")));
    }
    let tried = own_namespaces().arg("true").stdin(Stdio::null()).output().unwrap();
    let reported = String::from_utf8_lossy(&tried.stderr);
    (!tried.status.success())
        .then(|| format!("no namespaces may be made here: {}", reported.trim()))
}

/// A command that runs what follows as root of namespaces of its own.
fn own_namespaces() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", r#"mount -t tmpfs tmpfs /run && exec "$@""#, "sh"]);
    command
}

fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

const INSIDE: &str = "NEARHOP_TEST_INSIDE_NAMESPACES";
const STATE: &str = "/run/nearhop-netns";
const PROGRAMS: [&str; 4] = ["ip", "nft", "dig", "unshare"];
/// How the commands say that this machine cannot do it.
const ENVIRONMENT: i32 = 3;
/// A try takes 0.2 s, or up to 2 s while nobody answers.
const TRIES: u32 = 60;
const PATIENCE: Duration = Duration::from_secs(10);
