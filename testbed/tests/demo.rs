//! The demo through its own command: what it prints, writes, and leaves behind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn nearlab(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearlab"));
    command.args(args).stdin(Stdio::null());
    command
}

/// `false`, and said, where this machine cannot build labs; a failure where it has to.
fn labs_can_be_built(test: &str) -> bool {
    let doctor = nearlab(&["doctor"]).output().unwrap();
    if doctor.status.success() {
        return true;
    }
    let why = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let required = std::env::var_os("NEARHOP_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "{test} cannot run: {why}");
    let _ = writeln!(std::io::stderr(), "{test}: SKIPPED: this machine cannot build labs");
    if let Some(log) = std::env::var_os("NEARHOP_SKIP_LOG") {
        let log = fs::File::options().create(true).append(true).open(log);
        let _ = log.and_then(|mut log| writeln!(log, "{test}: this machine cannot build labs"));
    }
    false
}

#[test]
fn every_kind_of_kill_is_survived_measured_and_reported() {
    if !labs_can_be_built("every_kind_of_kill_is_survived_measured_and_reported") {
        return;
    }
    let runs = tempfile::tempdir().unwrap();
    // Bounds are generous: figures are judged by the benches, on a quiet machine.
    let out = nearlab(&["demo", "--repeat", "1", "--json", "--slack", "20", "--runs"])
        .arg(runs.path())
        .output()
        .unwrap();
    let (text, told) = (
        String::from_utf8_lossy(&out.stdout).into_owned(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    );
    assert!(out.status.success(), "{text}\n{told}");
    assert_eq!(text.lines().count(), 1, "one line and no other: {text}");
    let summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&summary["schema"], &summary["ok"]), (&"nearlab.demo.v1".into(), &true.into()));
    let kinds: BTreeSet<(&str, &str)> = summary["kills"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kill| (kill["kind"].as_str().unwrap(), kill["family"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    for kill in summary["kills"].as_array().unwrap() {
        assert!(kill["blackout_ms"]["p50"].as_f64().unwrap() > 0.0, "{kill}");
        assert!(kill["lost"].as_u64().unwrap() > 0, "a kill that hits nobody: {kill}");
        assert_ne!(kill["from_site"], kill["to_site"]);
    }
    for heal in summary["heals"].as_array().unwrap() {
        assert_eq!(heal["lost"], 0, "{heal}");
    }
    assert_run_folder(runs.path());
}

fn assert_run_folder(runs: &Path) {
    let folder = fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    for foreign in ["http://", "https://", "<script", "<link", "@import", "url("] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(foreign);
        assert!(!found, "the page loads something: {foreign}");
    }
    let events = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let kinds: BTreeSet<String> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().into())
        .collect();
    for kind in ["ready", "carrier", "site", "select", "publish", "drain", "reload", "fault"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
    for file in ["summary.json", "records.csv.gz", "r1.log"] {
        assert!(folder.join(file).exists(), "no {file}");
    }
}

#[test]
fn an_interrupt_in_the_middle_leaves_nothing_behind() {
    if !labs_can_be_built("an_interrupt_in_the_middle_leaves_nothing_behind") {
        return;
    }
    let runs = tempfile::tempdir().unwrap();
    let mark = runs.path().to_str().unwrap().to_owned();
    let mut demo = nearlab(&["demo", "--repeat", "50", "--slack", "20", "--runs", &mark])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut demo, "announced");
    assert!(!processes_of(&mark).is_empty());
    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = demo.wait().unwrap();
    assert!(!status.success(), "{status}");
    nearlab::lab::wait_until(
        "every process to be gone",
        std::time::Duration::from_secs(10),
        || processes_of(&mark).is_empty(),
    )
    .unwrap();
}

#[test]
fn a_kept_lab_can_be_entered() {
    if !labs_can_be_built("a_kept_lab_can_be_entered") {
        return;
    }
    let runs = tempfile::tempdir().unwrap();
    let registry = tempfile::tempdir().unwrap();
    let mut demo = nearlab(&["demo", "--repeat", "1", "--slack", "20", "--keep", "--kinds"])
        .args(["announced", "--runs"])
        .arg(runs.path())
        .env("XDG_RUNTIME_DIR", registry.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut demo, "nearlab shell client");
    let shell = |args: &[&str]| {
        nearlab(&["shell"]).args(args).env("XDG_RUNTIME_DIR", registry.path()).output().unwrap()
    };
    let out = shell(&["client", "cat", "/proc/net/dev"]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("nh-client"), "{out:?}");
    if Command::new("dig").arg("-v").output().is_ok() {
        let dig = ["dig", "+short", "@198.51.100.53", "id.server", "CH", "TXT"];
        let out = shell(&[&["client"][..], &dig].concat());
        let site = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        assert!(["\"ams\"", "\"fra\"", "\"par\""].contains(&&*site), "{out:?}");
    }
    let out = shell(&["nowhere", "true"]);
    assert!(!out.status.success());
    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    demo.wait().unwrap();
}

/// Reads what the demo prints until a line has this in it.
fn wait_for_line(demo: &mut Child, wanted: &str) {
    let out = demo.stdout.take().unwrap();
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(wanted)), "the demo ended without {wanted:?}");
    // Goes on reading, so that the demo does not meet a closed pipe.
    std::thread::spawn(move || lines.for_each(drop));
}

/// Processes whose command line names this run's folder: the demo, outside and inside its sandbox.
fn processes_of(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}
