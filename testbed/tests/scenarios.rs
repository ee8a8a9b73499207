//! The scenarios that come with the lab, and the commands that read such files, as a user runs them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing it did not expect")]

#[path = "../../router/tests/support/skip.rs"]
mod skip;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use skip::skip;

#[test]
fn every_file_that_comes_with_the_lab_is_valid() {
    let files: Vec<_> = fs::read_dir(labs()).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 5);
    let output = nearlab().arg("validate").args(&files).output().unwrap();
    let reported = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        reported.lines().filter(|line| line.contains(": ok: ")).count(),
        files.len(),
        "{reported}"
    );
}

#[test]
fn a_wrong_file_is_reported_with_its_places_and_2() {
    let folder = tempfile::tempdir().unwrap();
    let (scenario, topology) = (folder.path().join("s.toml"), folder.path().join("t.toml"));
    fs::write(&scenario, "seed = -1\n[expect]\nlost_max = 5\n").unwrap();
    fs::write(&topology, "[[node]]\nname = \"ams\"\nkind = \"siet\"\n").unwrap();
    let validate = nearlab().arg("validate").args([&scenario, &topology]).output().unwrap();
    let reported = String::from_utf8_lossy(&validate.stderr).into_owned();
    assert_eq!(validate.status.code(), Some(2), "{reported}");
    for expected in ["s.toml:1:8\n", "s.toml:3:1\n", "t.toml:3:8\n", "did you mean lost-max?"] {
        assert!(reported.contains(expected), "{expected}: {reported}");
    }
    for (verb, file) in
        [("run", &scenario), ("run", &folder.path().join("none")), ("up", &topology)]
    {
        let output = nearlab().arg(verb).arg(file).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb}: {output:?}");
    }
}

#[test]
fn the_failover_scenario_holds() {
    assert_failover(Beside::Nothing);
}

#[test]
fn the_failover_scenario_holds_beside_busy_loops() {
    assert_failover(Beside::BusyLoops);
}

/// What died is left, what was healed is taken back, nothing moves without a reason.
fn assert_failover(beside: Beside) {
    let Some(summary) = played(&labs().join("failover.toml"), beside) else { return };
    let steps = summary["steps"].as_array().unwrap();
    let moves: Vec<_> = steps.iter().map(|step| step["moves"].as_u64().unwrap()).collect();
    assert_eq!(moves, [8, 8, 8, 8], "{summary:#}");
    assert_eq!(steps[1]["lost"], 0, "a heal loses nothing: {summary:#}");
    assert_eq!(steps[3]["lost"], 0, "a heal loses nothing: {summary:#}");
}

/// Each kind leaves something else behind that a heal has to put right before packets come.
#[test]
fn a_heal_loses_nothing_beside_busy_loops_whatever_it_heals() {
    let folder = tempfile::tempdir().unwrap();
    let (file, topology) = (folder.path().join("heals.toml"), folder.path().join("patient.toml"));
    // A site that gets no turn for 100 ms is left for another, which is no fault of a heal.
    let patient = fs::read_to_string(labs().join("two-sites.toml")).unwrap();
    let patient = patient.replace("fall = 10", "fall = 30");
    assert!(patient.contains("fall = 30"));
    fs::write(&topology, patient).unwrap();
    let mut text = format!("lasts = \"8s\"\n[topology]\nfile = {topology:?}\n");
    for (at, how) in (500..).step_by(1_800).zip(["announced", "silent", "server", "site"]) {
        let step = |at: u32, deed: &str| format!("[[step]]\nat = \"{at}ms\"\n{deed}\n");
        text += &step(at, &format!("kill = {{ site = \"ams\", how = \"{how}\" }}"));
        // Else it would wait, longer each time, for being well.
        text += &step(at + 800, "undamp = true");
        text += &step(at + 800, "heal = { site = \"ams\" }");
    }
    text += "[expect]\nserved-by = [\"ams\"]\n";
    fs::write(&file, text).unwrap();
    let Some(summary) = played(&file, Beside::BusyLoops) else { return };
    for heal in summary["steps"].as_array().unwrap().chunks(3).map(|steps| &steps[2]) {
        assert_eq!(heal["what"], "heal ams", "{summary:#}");
        assert_eq!((&heal["lost"], &heal["moves"]), (&0.into(), &8.into()), "{summary:#}");
    }
}

/// A site that flaps ten times a second takes no other's flows with it, and is held down.
#[test]
fn the_flap_scenario_holds() {
    let file = labs().join("flap.toml");
    let Some(summary) = played(&file, Beside::Nothing) else { return };
    assert!(summary["moves"].as_u64().unwrap() > 0, "it hit no flow: {summary:#}");
}

/// BIRD withdraws, FRR is drained, ExaBGP dies, and each comes back: the file says who answers next, and
/// that nothing is lost but by the death.
#[test]
fn the_bgp_scenario_holds() {
    let Some(summary) = played(&labs().join("bgp-anycast.toml"), Beside::Nothing) else { return };
    let steps = summary["steps"].as_array().unwrap();
    let served: Vec<_> = steps.iter().map(|step| step["served_by"][0].as_str().unwrap()).collect();
    assert_eq!(served, ["fra", "par", "fra", "par", "fra", "ams"], "{summary:#}");
    assert!(steps.iter().all(|step| step["moves"] == 8), "every flow, each time: {summary:#}");
    let listed = summary["expectations"].as_array().unwrap();
    let of_steps = listed.iter().filter(|one| one["expect"].as_str().unwrap().starts_with("step "));
    assert_eq!(of_steps.count(), 11, "{summary:#}");
}

/// What `up` prints to type works, and does what it says.
#[test]
fn a_lab_whose_sites_announce_prints_commands_that_work() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut up = nearlab();
    up.arg("up").arg(labs().join("bgp-sites.toml")).arg("--runs").arg(folder.path());
    up.env("XDG_RUNTIME_DIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut up = up.spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines().map(Result::unwrap);
    if !lines.by_ref().any(|line| line.starts_with("Sites announce by BGP")) {
        return cannot(&up.wait_with_output().unwrap());
    }
    let commands: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let typed = |of: &str| {
        let is_of = |line: &&String| line.trim_start().starts_with(of);
        commands.iter().filter(is_of).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((commands.len(), typed("#").len()), (9, 3), "{commands:#?}");
    let said = |command: &str| {
        let mut shell = Command::new("sh");
        let nearlab = format!("nearlab() {{ {} \"$@\"; }}; ", env!("CARGO_BIN_EXE_nearlab"));
        shell.args(["-c", &(nearlab + command)]).env("XDG_RUNTIME_DIR", folder.path());
        let output = shell.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (site, established, moves) in [
        ("ams", "Established", "ams -> fra"),
        ("fra", "10.0.2.1        4      65000", "fra -> par"),
        ("par", "established", "par -> fra"),
    ] {
        let [show, take] = typed(&format!("nearlab shell {site}")).try_into().unwrap();
        let shown = said(&show);
        assert!(shown.contains(established), "{show}: {shown}");
        said(&take);
        let moved = lines.by_ref().filter(|line| line.contains(" ipv4 ") && line.ends_with(moves));
        assert_eq!(moved.take(4).count(), 4, "{moves}");
    }
    interrupt(&up);
    assert!(!up.wait().unwrap().success());
}

#[test]
fn an_expectation_that_fails_is_reported_with_the_events_round_it_and_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("too-much.toml");
    let text = "lasts = \"800ms\"\n\
                [[step]]\nat = \"300ms\"\nkill = { site = \"ams\", how = \"silent\" }\n\
                [expect]\nlost-max = 0\n";
    fs::write(&file, text).unwrap();
    let Some(output) = run(&file, folder.path(), Beside::Nothing) else { return };
    let reported = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{reported}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["failures"][0]["expect"], "lost-max", "{summary:#}");
    let round = reported.split("FAILED   lost-max").nth(1).unwrap();
    for event in ["<<< here", r#""how":"silent","site":"ams""#, r#""port":"ams","up":false"#] {
        assert!(round.contains(event), "{event}: {reported}");
    }
}

#[test]
fn a_lab_that_is_up_can_be_entered_until_it_is_interrupted() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut up = nearlab();
    up.arg("up").arg(labs().join("three-sites.toml")).arg("--runs").arg(folder.path());
    up.env("XDG_RUNTIME_DIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut up = up.spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let stands = |line: &String| line.contains("stays up until Ctrl-C");
    if !lines.by_ref().map(Result::unwrap).any(|line| stands(&line)) {
        let output = up.wait_with_output().unwrap();
        return cannot(&output);
    }
    let shell = |node: &str, command: &[&str]| {
        let mut shell = nearlab();
        shell.args(["shell", node]).args(command).env("XDG_RUNTIME_DIR", folder.path());
        shell.output().unwrap()
    };
    let this = env!("CARGO_BIN_EXE_nearlab");
    let shown = shell("r1", &[this, "router", "show", "services", "--json"]);
    let shown: Value =
        serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{shown:?}"));
    assert_eq!(shown["items"].as_array().unwrap().len(), 6, "{shown:#}");
    let drained = shell("r1", &[this, "router", "drain", "ams"]);
    assert!(drained.status.success(), "{drained:?}");
    // Eight flows are reported to have moved, by `up` itself.
    let moved = lines.by_ref().map(Result::unwrap).filter(|line| line.ends_with(": ams -> fra"));
    assert_eq!(moved.take(8).count(), 8);
    interrupt(&up);
    assert!(!up.wait().unwrap().success());
}

/// A shell without job control starts `nearlab up &` with SIGINT ignored.
#[test]
fn a_lab_that_is_up_in_the_background_of_a_script_ends_by_sigint() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut up = Command::new("sh");
    up.args([
        "-c",
        "trap '' INT QUIT; exec \"$0\" up --runs \"$1\"",
        env!("CARGO_BIN_EXE_nearlab"),
    ]);
    up.arg(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    let mut up = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(up.stdout.take().unwrap()).lines();
    if !lines.map(Result::unwrap).any(|line| line.contains("stays up until Ctrl-C")) {
        return cannot(&up.wait_with_output().unwrap());
    }
    interrupt(&up);
    assert_eq!(up.wait().unwrap().code(), Some(128 + 2));
}

#[test]
fn manual_pages_and_completions_cover_every_command() {
    let commands =
        ["demo", "run", "validate", "sim", "up", "doctor", "shell", "site", "completions"];
    let said = |args: &[&str]| {
        let output = nearlab().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&["completions", shell]);
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    assert!(said(&["man"]).contains(".TH nearlab 1"));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    said(&["man", pages.to_str().unwrap()]);
    for command in commands {
        let page = fs::read_to_string(pages.join(format!("nearlab-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    assert_eq!(said(&["version"]), said(&["--version"]));
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Plays a scenario that holds, and returns its summary; `None` where labs cannot be.
fn played(file: &Path, beside: Beside) -> Option<Value> {
    let folder = tempfile::tempdir().unwrap();
    let output = run(file, folder.path(), beside)?;
    let reported = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{reported}");
    let run = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    for file in ["events.jsonl", "records.csv.gz", "summary.json", "report.html"] {
        assert!(run.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written: Value =
        serde_json::from_slice(&fs::read(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary, written);
    Some(summary)
}

fn run(file: &Path, runs: &Path, beside: Beside) -> Option<Output> {
    let _alone = alone();
    let _busy = (beside == Beside::BusyLoops).then(Busy::start);
    let output = nearlab().arg("run").arg(file).arg("--json").arg("--runs").arg(runs).output();
    let output = output.unwrap();
    if output.status.code() == Some(ENVIRONMENT) {
        cannot(&output);
        return None;
    }
    Some(output)
}

/// This machine cannot build labs; anything else is a failure.
fn cannot(output: &Output) {
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(ENVIRONMENT), "{why}");
    skip("scenarios", &why);
}

/// Labs that play at once would find each other's checks late.
fn alone() -> MutexGuard<'static, ()> {
    static LABS: Mutex<()> = Mutex::new(());
    LABS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What else the machine does while a scenario plays.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Beside {
    Nothing,
    BusyLoops,
}

/// Threads that never sleep, one for each core, at least two: every other thread has to wait for
/// its turn. Dropping this ends them.
struct Busy {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let spin = || {
            let over = Arc::clone(&over);
            thread::spawn(move || while !over.load(Ordering::Relaxed) {})
        };
        let threads = (0..cores.max(2)).map(|_| spin()).collect();
        Self { over, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn nearlab() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearlab"));
    command.stdin(Stdio::null());
    command
}

fn labs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("labs")
}

/// How the command says that this machine cannot do it.
const ENVIRONMENT: i32 = 3;
