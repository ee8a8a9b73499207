//! The sandbox: what is in it, what comes out of it, and that nothing stays behind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearlab::doctor;
use nearlab::lab::{Lab, wait_until};
use nearlab::sandbox::registry;
use nearlab::topology::Topology;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Case, SOON, sandboxed};

/// Run in a sandbox, as tests.
pub const INSIDE: &[Case] = &[
    Case { name: "inside_is_a_machine_of_its_own", run: inside },
    Case { name: "doctor_inside", run: doctor_inside },
];

/// Run outside.
pub const OUTSIDE: &[Case] = &[
    Case { name: "the_exit_code_comes_out", run: exit_code },
    Case { name: "kill_9_of_the_outer_leaves_nothing", run: kill_outer },
    Case { name: "kill_9_of_init_leaves_nothing", run: kill_init },
    Case { name: "a_signal_is_passed_on_once", run: interrupt_by_kill },
    Case { name: "ctrl_c_reaches_the_program_once", run: interrupt_by_terminal },
    Case { name: "two_labs_at_once", run: two_labs },
    Case { name: "a_shell_enters_a_running_lab", run: shell },
    Case { name: "a_shell_shows_its_node_in_its_prompt", run: prompts },
    Case { name: "doctor_outside", run: doctor_outside },
    Case { name: "no_lab_on_the_host", run: no_lab_on_the_host },
];

fn inside() {
    assert_eq!(rustix::process::geteuid().as_raw(), 0);
    assert_eq!(std::os::unix::process::parent_id(), 1);
    let links = LinkSetup::open(&NetNs::Here).unwrap().list().unwrap();
    assert_eq!(links.len(), 1, "{links:?}");
    assert!(links[0].name == "lo" && links[0].admin_up);
    assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
    assert_eq!(std::env::var_os("XDG_RUNTIME_DIR"), None);
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    assert_eq!(numbers.count(), 2, "init and this one");
}

fn doctor_inside() {
    let report = doctor::run().unwrap();
    print!("{report}");
    assert!(report.ok());
    assert!(!fs::exists("/run/netns/nearlab-doctor").unwrap());
}

fn exit_code() {
    assert_eq!(sandboxed("exit_7").status().unwrap().code(), Some(7));
    assert_eq!(sandboxed("die").status().unwrap().code(), Some(128 + 9));
}

fn kill_outer() {
    let mut lab = RunningLab::start();
    lab.outer.kill().unwrap();
    lab.outer.wait().unwrap();
    lab.expect_nothing_left();
}

fn kill_init() {
    let mut lab = RunningLab::start();
    kill_process(Pid::from_raw(lab.init.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(lab.outer.wait().unwrap().code(), Some(128 + 9));
    lab.expect_nothing_left();
}

fn interrupt_by_kill() {
    let mut outer = sandboxed("count_interrupts").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(outer.stdout.take().unwrap()).lines();
    assert_eq!(out.next().unwrap().unwrap(), "ready");
    kill_process(Pid::from_child(&outer), Signal::INT).unwrap();
    assert_eq!(out.next().unwrap().unwrap(), "interrupts: 1");
    assert!(outer.wait().unwrap().success());
}

/// script(1) gives it a terminal; the terminal sends SIGINT to the whole foreground group.
fn interrupt_by_terminal() {
    let plain = sandboxed("count_interrupts");
    let line = format!("'{}'", plain.get_program().display());
    let mut script = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(script.stdout.take().unwrap()).lines();
    assert_eq!(out.next().unwrap().unwrap().trim_end(), "ready");
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    let answer = out.next().unwrap().unwrap();
    assert!(answer.trim_end().ends_with("interrupts: 1"), "{answer}");
    drop(keyboard);
    script.wait().unwrap();
}

fn two_labs() {
    let labs = [RunningLab::start(), RunningLab::start()];
    assert_ne!(labs[0].netns, labs[1].netns);
    for mut lab in labs {
        drop(lab.outer.stdin.take());
        assert!(lab.outer.wait().unwrap().success());
        lab.expect_nothing_left();
    }
}

/// Runs a command at a node, over the public function, in a process of one thread.
fn shell() {
    let lab = RunningLab::start();
    let init = lab.init.pid.to_string();
    let at = |node: &str, command: &str| {
        let mut own = Command::new(std::env::current_exe().unwrap());
        let output = own.args(["__shell", &init, node, "sh", "-c", command]).output().unwrap();
        let reported = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), reported + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, reported) = at("ams", "readlink /proc/self/ns/net; id -u; exit 5");
    assert_eq!((code, reported), (Some(5), format!("net:[{}]\n0\n", lab.netns)));
    let (code, reported) = at("nowhere", "true");
    assert_ne!(code, Some(0));
    assert!(
        reported.contains("no node nowhere") && reported.contains("ams, client, fra"),
        "{reported}"
    );
}

/// Each shell shows the node before whatever prompt its user has.
fn prompts() {
    let lab = RunningLab::start();
    let home = tempfile::tempdir().unwrap();
    for (file, text) in [
        (".bashrc", "PS1='own> '"),
        (".zshrc", "PS1='own> '"),
        (".config/fish/config.fish", "function fish_prompt; echo -n 'own> '; end"),
    ] {
        let path = home.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let own = std::env::current_exe().unwrap();
    for (shell, prompt) in [
        ("bash", "(ams) own> "),
        ("zsh", "(ams) own> "),
        ("fish", "(ams) own> "),
        ("dash", "(ams) # "),
    ] {
        let found = ["/bin", "/usr/bin"].map(|folder| format!("{folder}/{shell}"));
        let Some(path) = found.into_iter().find(|path| std::path::Path::new(path).exists()) else {
            continue;
        };
        let line = format!("{} __shell {} ams", own.display(), lab.init.pid);
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("SHELL", path).env("HOME", home.path());
        script.env("TERM", "dumb").env_remove("ZDOTDIR").env_remove("XDG_CONFIG_HOME");
        let mut script = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        script.stdin.take().unwrap().write_all(b"exit\n").unwrap();
        let output = script.wait_with_output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains(prompt), "{shell}: {shown:?}");
    }
}

fn doctor_outside() {
    let report = doctor::run().unwrap();
    assert!(report.ok(), "{report}");
    assert!(report.items.len() >= 10, "{report}");
    let realtime = report.items.iter().find(|item| item.name == "SCHED_FIFO").unwrap();
    assert!(realtime.ok || realtime.follows.contains("BFD"), "{report}");
}

fn no_lab_on_the_host() {
    let error = Lab::build(Topology::three_sites(), 0).err().unwrap();
    assert!(error.to_string().contains("not built on the host"), "{error}");
}

/// A sandbox that runs `hold_a_lab`.
struct RunningLab {
    outer: Child,
    init: registry::Entry,
    pidns: u64,
    netns: u64,
    /// Both namespaces: while they are open, the kernel gives their inode numbers to no other.
    _namespaces: [File; 2],
}

impl RunningLab {
    fn start() -> Self {
        let mut command = sandboxed("hold_a_lab");
        let mut outer = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().skip(1).map(|word| word.parse().unwrap());
        let (pidns, netns) = (words.next().unwrap(), words.next().unwrap());
        let init = registered(outer.id());
        let inside = processes_in("pid", pidns);
        assert!(inside.len() >= 4, "init, program, cable, echo");
        let open = |kind: &str, inode| {
            let processes = processes_in(kind, inode);
            let found = processes.iter().find_map(|process| {
                let file = File::open(process.join("ns").join(kind)).ok()?;
                (file.metadata().ok()?.ino() == inode).then_some(file)
            });
            found.unwrap()
        };
        let namespaces = [open("pid", pidns), open("net", netns)];
        Self { outer, init, pidns, netns, _namespaces: namespaces }
    }

    /// No process; no namespace that one could be in; no line in the list of labs.
    fn expect_nothing_left(&self) {
        let gone = || processes_in("pid", self.pidns).is_empty();
        wait_until("the last process to go", SOON, gone).unwrap();
        assert_eq!(processes_in("net", self.netns), [""; 0].map(PathBuf::from));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("/run/netns/ams"), "{mounts}");
        // An init that is dead counts as running until somebody has waited for it.
        let unlisted = || !registry::running().unwrap().contains(&self.init);
        wait_until("the lab to leave the list", SOON, unlisted).unwrap();
    }
}

/// Processes in the namespace of this kind with this inode, as the host counts them.
fn processes_in(kind: &str, inode: u64) -> Vec<PathBuf> {
    let inside = |process: &PathBuf| {
        fs::metadata(process.join("ns").join(kind)).is_ok_and(|file| file.ino() == inode)
    };
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(inside).collect()
}

/// The init of a sandbox, by the registry: the entry that is a child of the outer process.
fn registered(outer: u32) -> registry::Entry {
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let own = |pid: u32| children.split_whitespace().any(|one| one == pid.to_string());
    let labs = registry::running().unwrap();
    let entry = labs.into_iter().find(|entry| own(entry.pid)).unwrap();
    assert_eq!(entry.name, "hold_a_lab");
    entry
}

impl Drop for RunningLab {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}
