//! The log's options: what is logged, and in which form.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::process::{Command, Output, Stdio};

use daemon_support::{Rig, config};
use serde_json::Value;
use support::in_namespaces;

const TWO: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];

#[test]
fn a_text_line_is_time_level_and_message() {
    in_namespaces("a_text_line_is_time_level_and_message", || {
        let mut rig = Rig::start(TWO);
        rig.wait_for_log("ready");
        assert_eq!(rig.terminate(), Some(0));
        let log = rig.log();
        // The configuration's warnings, which are drawn as `check` draws them, come first.
        for line in log.lines().skip_while(|line| !line.ends_with("2 worker(s)")) {
            let (time, rest) = line.split_once(' ').unwrap();
            assert_is_time(time);
            let (level, message) = rest.split_at(6);
            assert!(["INFO  ", "WARN  ", "ERROR "].contains(&level), "{line:?}");
            assert!(!message.is_empty() && !message.contains("nearhop::"), "{line:?}");
        }
    });
}

#[test]
fn a_json_line_is_an_object_with_the_same_three() {
    in_namespaces("a_json_line_is_an_object_with_the_same_three", || {
        let json = |command: &mut Command| {
            command.args(["--log-format", "json"]);
        };
        let mut rig = Rig::begin_as(TWO, &config(TWO), json);
        rig.wait_all_up();
        // What a broken file is refused for is said in lines of the log, too.
        rig.write_file("[[port]]\nname = 1\n");
        daemon_support::signal(&rig.router, rustix::process::Signal::HUP);
        rig.wait_for_log("not reloaded");
        assert_eq!(rig.terminate(), Some(0));
        let lines = objects(&rig.log());
        let said = |words: &str| {
            lines.iter().find(|line| line["message"].as_str().unwrap().contains(words))
        };
        assert_eq!(said("2 worker(s)").unwrap()["level"], "info");
        assert_eq!(said("not reloaded").unwrap()["level"], "error");
    });
}

#[test]
fn a_router_that_cannot_start_says_so_in_json() {
    let broken = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/config/broken.toml");
    let out = run(&["--log-format", "json", broken], &[]);
    assert_eq!(out.status.code(), Some(2));
    let lines = objects(&String::from_utf8_lossy(&out.stderr));
    let at_a_line = |line: &Value| line["message"].as_str().unwrap().contains("broken.toml:");
    assert!(lines.iter().any(|line| line["level"] == "error" && at_a_line(line)), "{lines:?}");
}

#[test]
fn a_level_is_of_the_command_line_or_of_the_environment() {
    in_namespaces("a_level_is_of_the_command_line_or_of_the_environment", || {
        let quiet = |command: &mut Command| {
            // The command line wins.
            command.args(["--log-level", "error"]).env("NEARHOP_LOG", "debug");
        };
        let mut rig = Rig::begin_as(TWO, &config(TWO), quiet);
        rig.wait_all_up();
        assert_eq!(rig.terminate(), Some(0));
        assert!(!rig.log().contains(" INFO "), "{}", rig.log());
        let missing = "/run/no-such-file.toml";
        for (filter, wanted) in [("warn,nearhop=loud", 2), ("info,nearhop::run=debug", 2)] {
            let out = run(&[missing], &[("NEARHOP_LOG", filter)]);
            let error = String::from_utf8_lossy(&out.stderr).into_owned();
            assert_eq!(out.status.code(), Some(wanted), "{error}");
            assert_eq!(error.contains("NEARHOP_LOG"), filter.contains("loud"), "{error}");
        }
        let out = run(&[missing], &[("NEARHOP_LOG_FORMAT", "json")]);
        assert!(!objects(&String::from_utf8_lossy(&out.stderr)).is_empty());
    });
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearhop"));
    command.arg("run").args(args).envs(env.iter().copied()).stdin(Stdio::null());
    command.output().unwrap()
}

/// Every line, each of which must be an object of three strings.
fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        let fields: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(fields.len() == 3 && fields.iter().all(|key| value[key].is_string()), "{line}");
        assert_is_time(value["ts"].as_str().unwrap());
        value
    };
    text.lines().map(object).collect()
}

/// Such as 2026-11-23T18:53:20.042Z.
fn assert_is_time(text: &str) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{text}");
}
