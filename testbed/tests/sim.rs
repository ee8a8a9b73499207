//! `nearlab sim` as a command: what it prints, and how it ends.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

use serde_json::Value;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearlab")).arg("sim").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_holds_is_a_table_and_0() {
    let out = sim(&["--seeds", "4", "--start-seed", "11"]);
    let reported = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{reported}");
    assert!(out.stderr.is_empty(), "progress is for terminals: {}", text(&out.stderr));
    assert!(reported.starts_with("seeds     11 to 14: "), "{reported}");
    assert!(reported.contains("no black hole while a path exists"), "{reported}");
    assert!(!reported.contains("replay:"), "{reported}");
}

#[test]
fn what_does_not_hold_is_1_and_a_line_that_replays_it() {
    let out = sim(&["--seeds", "8", "--break", "site"]);
    let reported = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{reported}");
    let line = reported.lines().find_map(|line| line.strip_prefix("replay: nearlab sim ")).unwrap();
    let (args, why) = line.split_once("  # ").unwrap();
    assert!(args.starts_with("--seed ") && why.contains("not by one of"), "{line}");
    let again = sim(&args.split(' ').collect::<Vec<_>>());
    let reported = text(&again.stdout);
    assert_eq!(again.status.code(), Some(1), "{reported}");
    assert!(reported.contains(why), "the same again: {reported}");
    // And everything that led there.
    for event in [": carrier ", "probe answered", "trial  nothing fails any more"] {
        assert!(reported.contains(event), "no {event}: {reported}");
    }
}

#[test]
fn scripts_get_one_line() {
    let out = sim(&["--seeds", "3", "--break", "work", "--json"]);
    let reported = text(&out.stdout);
    assert_eq!((out.status.code(), reported.lines().count()), (Some(1), 1), "{reported}");
    assert_eq!(text(&out.stderr).matches("replay: nearlab sim --seed ").count(), 3);
    let line: Value = serde_json::from_str(&reported).unwrap();
    assert_eq!((&line["schema"], &line["ok"]), (&"nearlab.sim.v1".into(), &false.into()));
    let first = &line["failures"][0];
    assert_eq!(first["replay"], "nearlab sim --seed 1 --break work");
    assert_eq!(first["breaches"][0]["invariant"], "work");
    let work = line["invariants"].as_array().unwrap().iter().find(|one| one["name"] == "work");
    assert_eq!(work.unwrap()["broken_seeds"], 3);
}

#[test]
fn a_replay_takes_one_seed() {
    let out = sim(&["--seed", "1", "--seeds", "2"]);
    assert_eq!(out.status.code(), Some(2));
}
