//! FRR's bfdd, with zebra, from which it knows the links.

use std::fs;

use nearhop::kernel::netns::NetNs;

use super::daemon::Daemon;
use crate::support;

/// A running bfdd.
pub struct Bfdd {
    pub bfdd: Daemon,
    zebra: Daemon,
}

impl Bfdd {
    /// Starts both in a namespace, and waits until bfdd answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        be_in_group();
        let folder = Daemon::folder(&format!("bfdd-{name}"));
        let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
        fs::write(path("zebra.conf"), "hostname zebra\n").unwrap();
        fs::write(path("bfdd.conf"), config).unwrap();
        let vty = folder.to_str().unwrap().to_owned();
        let run = |program: &str, more: &[&str]| {
            let binary = format!("/usr/lib/frr/{program}");
            let (conf, pid, socket) =
                (path(&format!("{program}.conf")), path(&format!("{program}.pid")), path("zserv"));
            let files = ["-f", &conf, "-i", &pid, "--vty_socket", &vty, "-z", &socket];
            let words = [&[&*binary, "-u", "root", "-g", "root", "-P", "0"], &files[..], more];
            let own = folder.join(program);
            fs::create_dir_all(&own).unwrap();
            Daemon::run(netns, own, &[], &words.concat())
        };
        let zebra = run("zebra", &[]);
        support::wait_for("zebra to listen", || folder.join("zserv").exists().then_some(()));
        let bfdd = run("bfdd", &["--bfdctl", &path("bfdd.sock")]);
        let this = Self { bfdd, zebra };
        support::wait_for("bfdd to answer", || this.try_ask(&["show bfd peers"]));
        this
    }

    /// Commands one after the other; what they print.
    pub fn ask(&self, commands: &[&str]) -> String {
        self.try_ask(commands).unwrap()
    }

    fn try_ask(&self, commands: &[&str]) -> Option<String> {
        let vty = self.bfdd.folder.parent().unwrap().to_str().unwrap();
        let mut words = vec!["vtysh", "--vty_socket", vty, "-d", "bfdd"];
        words.extend(commands.iter().flat_map(|command| ["-c", command]));
        self.bfdd.ask(&words)
    }
}

/// Both programs refuse to run as a user who is not in the group frrvty: in the test's view of the files, root is.
fn be_in_group() {
    let groups = fs::read_to_string("/etc/group").unwrap();
    if groups.lines().any(|line| line.starts_with("frrvty:") && line.ends_with("root")) {
        return;
    }
    let with_root = |line: &str| match line.strip_prefix("frrvty:") {
        Some(rest) if rest.ends_with(':') => format!("frrvty:{rest}root\n"),
        Some(rest) => format!("frrvty:{rest},root\n"),
        None => format!("{line}\n"),
    };
    fs::write("/run/group", groups.lines().map(with_root).collect::<String>()).unwrap();
    let words = ["--bind", "/run/group", "/etc/group"];
    assert!(std::process::Command::new("mount").args(words).status().unwrap().success());
}
