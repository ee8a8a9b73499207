//! Drained sites stay drained, whatever becomes of the file that keeps them.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::process::Command;

use daemon_support::{Rig, config};
use support::in_namespaces;

const AMS_FIRST: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];

#[test]
fn a_drain_that_cannot_be_kept_is_refused_and_changes_nothing() {
    in_namespaces("a_drain_that_cannot_be_kept_is_refused_and_changes_nothing", || {
        let rig = Rig::start(AMS_FIRST);
        let refused = |why: &str| {
            let out = rig.nearhop(&["drain", "ams"]);
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(!out.status.success(), "{said}");
            assert!(said.contains(why) && said.contains("nothing was changed"), "{said}");
            let services = rig.show("services");
            assert!(services.iter().all(|leg| leg["state"] == "up"), "{services:?}");
        };
        let state = rig.dir.join("state");
        fs::create_dir_all(state.join("overrides.json.new")).unwrap();
        refused("overrides.json.new");
        // No room: a file system of one page, which is taken.
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4096", "tmpfs"])
            .arg(&state)
            .status();
        assert!(mounted.unwrap().success());
        fs::write(state.join("other"), [0; 4096]).unwrap();
        refused("No space left on device");
        fs::remove_file(state.join("other")).unwrap();
        // One page is room for one of the two files.
        refused("No space left on device");
        // The failed attempts have left nothing that a restart would take for a drain.
        let left: Vec<_> = fs::read_dir(&state).unwrap().map(|file| file.unwrap().path()).collect();
        let is_list = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "json");
        assert!(!left.iter().any(is_list), "{left:?}");
    });
}

#[test]
fn a_router_whose_drains_are_damaged_uses_their_copy_or_does_not_start() {
    in_namespaces("a_router_whose_drains_are_damaged_uses_their_copy_or_does_not_start", || {
        let mut rig = Rig::start(AMS_FIRST);
        assert!(rig.nearhop(&["drain", "ams"]).status.success());
        rig.terminate();
        let state = rig.dir.join("state");
        let (list, copy) = (state.join("overrides.json"), state.join("overrides.copy.json"));
        fs::write(&list, "").unwrap();
        rig.restart(AMS_FIRST);
        let states = |rig: &Rig| {
            rig.connect();
            support::wait_for("the first results", || {
                let up = rig.dir.join("ready").exists().then(|| rig.show("services"))?;
                let of = |leg: &serde_json::Value| leg["site"] == "ams";
                let state = |leg: &serde_json::Value| leg["state"].as_str().unwrap().to_owned();
                Some(up.iter().filter(|leg| of(leg)).map(state).collect::<Vec<_>>())
            })
        };
        assert_eq!(states(&rig), ["drained"; 2]);
        rig.terminate();

        for file in [&list, &copy] {
            fs::write(file, "{\"drained\":[\"am").unwrap();
        }
        let file = rig.dir.join("r1.toml");
        let run = ["run", file.to_str().unwrap()];
        let out = rig.nearhop(&run);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(3), "{said}");
        assert!(said.contains("overrides.json") && said.contains("--forget-overrides"), "{said}");

        rig.restart_forgetting(AMS_FIRST);
        assert!(states(&rig).iter().all(|state| state != "drained"));
        rig.terminate();
        rig.restart(AMS_FIRST);
        assert!(states(&rig).iter().all(|state| state != "drained"), "it was forgotten for good");
        // A reload of a wrong file says what `check` says of it, and the log has it in lines.
        let good = config(AMS_FIRST);
        rig.write_file(&good.replace("10.0.0.1/24", "10.0.0.256/24").replace("workers", "worker"));
        let drawn = |out: std::process::Output| {
            assert!(!out.status.success(), "{out:?}");
            String::from_utf8_lossy(&out.stderr).into_owned()
        };
        let file = file.to_str().unwrap();
        let (checked, reloaded) =
            (drawn(rig.nearhop(&["check", file])), drawn(rig.nearhop(&["reload"])));
        let findings = checked.trim_end().strip_suffix("2 errors").unwrap().trim_end();
        assert!(findings.contains("the fourth number, \"256\", is above 255"), "{findings}");
        let (head, tail) = reloaded.split_once("\n\n").unwrap();
        assert_eq!(tail.trim_end(), findings);
        assert!(head.contains("2 errors, and the configuration in force stays"), "{head}");
        daemon_support::signal(&rig.router, rustix::process::Signal::HUP);
        support::wait_for("the log of the reload", || {
            let log = fs::read_to_string(rig.dir.join("log")).unwrap();
            let line = "not reloaded: /run/rig/r1.toml:9:14: addresses: \"10.0.0.256\" is not an \
                        address: the fourth number, \"256\", is above 255";
            log.contains(line).then_some(())
        });
        // A state directory that is named by a reload keeps what is in effect.
        assert!(rig.nearhop(&["drain", "ams"]).status.success());
        rig.write_file(&config(AMS_FIRST).replace("/run/rig/state", "/run/rig/other"));
        assert!(rig.nearhop(&["reload"]).status.success());
        let kept = fs::read_to_string(rig.dir.join("other/overrides.json")).unwrap();
        assert!(kept.contains("ams"), "{kept}");
    });
}
