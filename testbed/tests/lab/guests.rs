//! What runs in a sandbox while a test watches from outside.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nearlab::doctor;
use nearlab::topology::Topology;
use rustix::process::{Signal, kill_process};

use crate::support::{Case, SERVICE, answered, cabled, client};

/// Run in a sandbox, for tests that watch from outside.
pub const GUESTS: &[Case] = &[
    Case { name: "fit", run: fit },
    Case { name: "exit_7", run: || std::process::exit(7) },
    Case { name: "die", run: || kill_process(rustix::process::getpid(), Signal::KILL).unwrap() },
    Case { name: "count_interrupts", run: count_interrupts },
    Case { name: "hold_a_lab", run: hold_a_lab },
];

/// Fails with the report where labs cannot be built.
fn fit() {
    let report = doctor::run().unwrap();
    if !report.ok() {
        print!("{report}");
        std::process::exit(1);
    }
}

fn count_interrupts() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let kind = tokio::signal::unix::SignalKind::interrupt();
        let mut interrupts = tokio::signal::unix::signal(kind).unwrap();
        println!("ready");
        interrupts.recv().await;
        let mut count = 1;
        // A second one would follow at once.
        let more = async {
            while interrupts.recv().await.is_some() {
                count += 1;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), more).await;
        println!("interrupts: {count}");
    });
}

/// A lab that answers, until the process is killed; says so, and its namespaces' inodes.
fn hold_a_lab() {
    let lab = cabled(Topology::three_sites(), "ams");
    assert!(answered(&client(SERVICE[0])) && answered(&client(SERVICE[1])));
    let inode = |path: &str| fs::metadata(path).unwrap().ino();
    println!("up {} {}", inode("/proc/self/ns/pid"), inode("/run/netns/ams"));
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(lab);
}
