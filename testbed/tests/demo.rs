//! The demo through its own command: what it prints, writes, and leaves behind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../router/tests/support/skip.rs"]
mod skip;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use skip::skip;

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
    let _ = std::io::stderr().write_all(&doctor.stdout);
    skip(test, "this machine cannot build labs, see `nearlab doctor`");
    false
}

/// Demos that run at once would find each other's checks late.
fn alone() -> MutexGuard<'static, ()> {
    static DEMOS: Mutex<()> = Mutex::new(());
    DEMOS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_kind_of_kill_is_survived_measured_and_reported() {
    let _alone = alone();
    if !labs_can_be_built("every_kind_of_kill_is_survived_measured_and_reported") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (lab, runs) = (patient_lab(folder.path()), folder.path().join("runs"));
    let demo = ["demo", "--repeat", "1", "--json", "--topology"];
    let out = nearlab(&demo).arg(lab).arg("--runs").arg(&runs).output().unwrap();
    assert_all_survived(&out);
    assert_run_folder(&runs);
}

/// The built-in lab with checks that wait for 300 ms instead of 30: on a machine that is busy with
/// other work a site may get no turn for as long as that, and would be left for another.
fn patient_lab(folder: &Path) -> PathBuf {
    let file = folder.join("patient.toml");
    let built_in = include_str!("../labs/three-sites.toml");
    fs::write(&file, format!("{built_in}health = {{ interval = \"10ms\", fall = 30 }}\n")).unwrap();
    file
}

/// The one line on standard output.
fn summary_of(out: &Output) -> Value {
    let text = String::from_utf8_lossy(&out.stdout);
    let reported = String::from_utf8_lossy(&out.stderr);
    assert_eq!(text.lines().count(), 1, "one line and no other: {text}\n{reported}");
    serde_json::from_str(&text).unwrap()
}

fn assert_all_survived(out: &Output) {
    let summary = summary_of(out);
    assert!(out.status.success(), "{summary}\n{}", String::from_utf8_lossy(&out.stderr));
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
        // One that is announced may be over before the next probe.
        let hits = kill["kind"] == "announced" || kill["lost"].as_u64() > Some(0);
        assert!(hits, "a kill that hits nobody: {kill}");
        assert_ne!(kill["from_site"], kill["to_site"]);
    }
    for heal in summary["heals"].as_array().unwrap() {
        assert_eq!(heal["lost"], 0, "{heal}");
    }
}

fn assert_run_folder(runs: &Path) {
    let folders = fs::read_dir(runs).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    let folder = folder.unwrap();
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    for foreign in ["http://", "https://", "<script", "<link", "@import", "url("] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(foreign);
        assert!(!found, "the page loads something: {foreign}");
    }
    let events = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: BTreeSet<&str> =
        events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let times = |events: &[Value]| events.iter().map(|e| e["t_ns"].as_u64()).collect::<Vec<_>>();
    assert!(times(&events).is_sorted(), "{:?}", times(&events));
    for kind in ["ready", "carrier", "site", "select", "publish", "drain", "reload", "fault"] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
    for file in ["summary.json", "records.csv.gz", "r1.log"] {
        assert!(folder.join(file).exists(), "no {file}");
    }
}

/// Ten budgets late: a router that is as slow as that must not pass, wherever speed can be judged.
#[test]
fn a_router_that_is_too_slow_fails_where_speed_is_judged() {
    let test = "a_router_that_is_too_slow_fails_where_speed_is_judged";
    let _alone = alone();
    if !labs_can_be_built(test) {
        return;
    }
    let runs = tempfile::tempdir().unwrap();
    let announced = ["demo", "--repeat", "3", "--kinds", "announced", "--json", "--runs"];
    for _ in 0..JUDGED_TRIES {
        let late = ["--test-carrier-delay-ms", "20"];
        let out = nearlab(&announced).arg(runs.path()).args(late).output().unwrap();
        let summary = summary_of(&out);
        let kills = summary["kills"].as_array().unwrap();
        if kills.iter().any(|kill| kill["judged"] == true) {
            assert_eq!(out.status.code(), Some(1), "{summary}");
            let missed = kills.iter().filter(|kill| kill["met"] == false);
            for kill in missed.clone() {
                let (blackout, budget) = (&kill["blackout_ms"]["p50"], &kill["budget_ms"]);
                assert!(blackout.as_f64() > budget.as_f64(), "{kill}");
            }
            assert!(missed.count() > 0, "{summary}");
            return;
        }
        assert!(kills.iter().all(|kill| !kill["why"].as_str().unwrap().is_empty()), "{summary}");
    }
    // Nothing is missing here that could be installed: not a test to be skipped.
    eprintln!("{test}: no speed could be judged on this machine in {JUDGED_TRIES} runs");
}

/// What cannot be judged here is not held against the router, and says why.
#[test]
fn every_kind_is_judged_where_the_machine_keeps_still() {
    let test = "every_kind_is_judged_where_the_machine_keeps_still";
    let _alone = alone();
    if !labs_can_be_built(test) {
        return;
    }
    let runs = tempfile::tempdir().unwrap();
    for _ in 0..JUDGED_TRIES {
        let demo = ["demo", "--repeat", "3", "--json", "--runs"];
        let out = nearlab(&demo).arg(runs.path()).output().unwrap();
        let summary = summary_of(&out);
        let kills = summary["kills"].as_array().unwrap();
        assert!(kills.iter().all(|kill| !kill["why"].as_str().unwrap().is_empty()), "{summary}");
        if out.status.success() && kills.iter().all(|kill| kill["judged"] == true) {
            assert!(kills.iter().all(|kill| kill["met"] == true), "{summary}");
            return;
        }
    }
    eprintln!("{test}: not every speed could be judged on this machine in {JUDGED_TRIES} runs");
}

#[test]
fn an_interrupt_in_the_middle_leaves_nothing_behind() {
    let _alone = alone();
    if !labs_can_be_built("an_interrupt_in_the_middle_leaves_nothing_behind") {
        return;
    }
    let (runs, registry) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut demo = nearlab(&["demo", "--repeat", "50", "--runs"])
        .arg(runs.path())
        .env("XDG_RUNTIME_DIR", registry.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut demo, "announced");
    let entries = || fs::read_dir(registry.path().join("nearlab")).unwrap().count();
    assert_eq!(entries(), 1);
    let namespaces = namespaces_below(demo.id());
    assert!(namespaces.len() >= 5, "a router, a client and three sites: {namespaces:?}");
    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = demo.wait().unwrap();
    assert!(!status.success(), "{status}");
    nearlab::lab::wait_until("every process to be gone", Duration::from_secs(10), || {
        processes().all(|pid| netns_of(pid).is_none_or(|netns| !namespaces.contains(&netns)))
    })
    .unwrap();
    assert_eq!(entries(), 0, "the lab is listed still");
    assert_events_up_to_the_break(runs.path());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/run/netns/ams"), "{mounts}");
}

/// Of what was on the screen when the demo was broken off nothing is missing.
fn assert_events_up_to_the_break(runs: &Path) {
    let folder = fs::read_dir(runs).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    // The last line may be cut where the program ended.
    let whole = &text[..=text.rfind('\n').unwrap()];
    let events: Vec<Value> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["ready", "fault", "site", "select", "heal"] {
        assert!(events.iter().any(|event| event["kind"] == kind), "no {kind} in {whole}");
    }
    // Every event of the router, from its first on.
    let of_router = events.iter().filter(|event| event["schema"] == "nearhop.event.v1");
    let numbers: Vec<u64> = of_router.map(|event| event["seq"].as_u64().unwrap()).collect();
    let first = numbers[0];
    assert!(numbers.iter().zip(first..).all(|(&is, should)| is == should), "{numbers:?}");
}

/// Root on the host is more than labs need: an ordinary user has to be enough.
#[test]
fn an_ordinary_user_is_enough() {
    let _alone = alone();
    let test = "an_ordinary_user_is_enough";
    if !rustix::process::geteuid().is_root() || !labs_can_be_built(test) {
        return; // then every test here is such a test already
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The build may lie where that user cannot go.
    let program = dir.path().join("nearlab");
    fs::copy(env!("CARGO_BIN_EXE_nearlab"), &program).unwrap();
    let runs = dir.path().join("runs");
    fs::create_dir(&runs).unwrap();
    chown(&runs, Some(NOBODY), Some(NOBODY)).unwrap();
    let as_nobody = |args: &[&str]| {
        Command::new("unshare")
            .args(["-m", "sh", "-ec", AS_NOBODY, "sh"])
            .arg(&program)
            .args(args)
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let doctor = as_nobody(&["doctor"]);
    if !doctor.status.success() {
        let reported =
            String::from_utf8_lossy(&doctor.stdout) + String::from_utf8_lossy(&doctor.stderr);
        let reason = reported.lines().find(|line| line.contains("user")).unwrap_or("see `doctor`");
        return skip(test, &format!("user {NOBODY} cannot build labs here: {reason}"));
    }
    let lab = patient_lab(dir.path());
    let demo = ["demo", "--repeat", "1", "--json", "--topology"];
    let out = as_nobody(&[&demo[..], &[lab.to_str().unwrap()]].concat());
    assert_all_survived(&out);
    assert_run_folder(&runs);
    let page = fs::read_dir(&runs).unwrap().next().unwrap().unwrap();
    assert_eq!(page.metadata().unwrap().uid(), NOBODY);
}

#[test]
fn a_kept_lab_can_be_entered() {
    let _alone = alone();
    if !labs_can_be_built("a_kept_lab_can_be_entered") {
        return;
    }
    let runs = tempfile::tempdir().unwrap();
    let registry = tempfile::tempdir().unwrap();
    let mut demo = nearlab(&["demo", "--repeat", "1", "--keep", "--kinds"])
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

/// Network namespaces of a process's descendants, but not this process's own: by inode.
fn namespaces_below(root: u32) -> BTreeSet<u64> {
    let mut below = BTreeSet::from([root]);
    loop {
        let children =
            processes().filter(|&pid| parent_of(pid).is_some_and(|p| below.contains(&p)));
        let more: BTreeSet<u32> = children.chain(below.iter().copied()).collect();
        if more.len() == below.len() {
            break;
        }
        below = more;
    }
    let here = netns_of(std::process::id());
    below.into_iter().filter_map(netns_of).filter(|netns| Some(*netns) != here).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn netns_of(pid: u32) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino())
}

/// proc_pid_stat(5): the fourth field; the second, in brackets, may have anything in it.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// A machine that is busy with other work may be calm the next time.
const JUDGED_TRIES: u32 = 5;

const NOBODY: u32 = 65_534;

/// Becomes that user, with a TUN node that anybody may open, as on a usual machine.
const AS_NOBODY: &str = "\
    mount -t tmpfs none /dev/net
    mknod -m 666 /dev/net/tun c 10 200
    exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- \"$@\"";
