//! FRR's bgpd, without zebra or with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nearhop::kernel::netns::NetNs;
use serde_json::Value;

use super::daemon::Daemon;
use crate::support;

/// A running bgpd, and the zebra that it has its interfaces and the kernel's table from.
pub struct Frr {
    pub daemon: Daemon,
    zebra: Option<Daemon>,
}

impl Frr {
    /// Starts one in a namespace, and waits until it answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        Self::start_with(netns, name, config, &[])
    }

    /// As [`Self::start`], with more words on its command line.
    pub fn start_with(netns: &NetNs, name: &str, config: &str, more: &[&str]) -> Self {
        let folder = Daemon::folder(&format!("frr-{name}"));
        let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
        let (conf, pid, socket) = (path("bgpd.conf"), path("bgpd.pid"), path("zserv.api"));
        fs::write(&conf, config).unwrap();
        let vty = folder.to_str().unwrap().to_owned();
        // As who starts it, without the kernel's table, without zebra, without a port for commands.
        let files = ["-f", &conf, "-i", &pid, "--vty_socket", &vty, "-z", &socket];
        let words =
            [&["/usr/lib/frr/bgpd", "-S", "-n", "-Z", "-P", "0"], &files[..], more].concat();
        let daemon = Daemon::run(netns, folder.clone(), &[], &words);
        Self { daemon, zebra: None }.wait()
    }

    /// Like [`Self::start`], with a zebra, which tells bgpd of its interfaces and sends router advertisements for
    /// it: so neighbours need no address. It changes its user, which needs root outside of a user namespace.
    pub fn start_with_zebra(netns: &NetNs, name: &str, config: &str) -> Self {
        let folder = Daemon::folder(&format!("frr-{name}"));
        let of_zebra = Daemon::folder(&format!("frr-{name}/zebra"));
        // It keeps files of its own there, whatever it is told, and changes its user.
        fs::create_dir_all("/run/frr").unwrap();
        for folder in ["/run/frr".into(), folder.clone(), of_zebra.clone()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
        let vty = folder.to_str().unwrap().to_owned();
        let socket = path("zserv.api");
        let run = |program: &str, folder: &Path, options: &[&str], config: &str| {
            let (conf, pid) = (path(&format!("{program}.conf")), path(&format!("{program}.pid")));
            fs::write(&conf, config).unwrap();
            let program = format!("/usr/lib/frr/{program}");
            let files = ["-f", &conf, "-i", &pid, "--vty_socket", &vty, "-z", &socket];
            let words = [&[program.as_str(), "-P", "0"], options, &files].concat();
            Daemon::run(netns, folder.to_owned(), &[], &words)
        };
        let zebra = run("zebra", &of_zebra, &[], "log stdout debugging\n");
        support::wait_for("zebra to listen", || Path::new(&socket).exists().then_some(()));
        let daemon = run("bgpd", &folder, &["-S"], config);
        Self { daemon, zebra: Some(zebra) }.wait()
    }

    fn wait(self) -> Self {
        support::wait_for("bgpd to answer", || self.try_ask(&["show bgp summary json"]));
        self
    }

    /// Announces the latter prefixes, and the former no more; `N` in them stands for 1.
    pub fn change_networks(&mut self, asn: u32, gone: &[&str], new: &[&str]) {
        let mut lines = vec!["configure terminal".to_owned(), format!("router bgp {asn}")];
        for (no, prefixes) in [("no ", gone), ("", new)] {
            for prefix in prefixes.iter().map(|prefix| prefix.replace('N', "1")) {
                let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
                lines.push(format!("address-family {family} unicast"));
                lines.push(format!("{no}network {prefix}"));
                lines.push("exit-address-family".into());
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.try_ask(&lines).unwrap();
    }

    /// Dies without a word.
    pub fn kill(&mut self) {
        self.daemon.kill();
        if let Some(zebra) = &mut self.zebra {
            zebra.kill();
        }
    }

    /// What it answers to a command that answers with JSON; null if it does not.
    pub fn ask(&self, command: &str) -> Value {
        let text = self.try_ask(&[command]).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What it prints for commands one after the other; `None` if one fails.
    pub fn try_ask(&self, commands: &[&str]) -> Option<String> {
        let vty = self.daemon.folder.to_str().unwrap();
        let mut words = vec!["vtysh", "--vty_socket", vty, "-d", "bgpd"];
        words.extend(commands.iter().flat_map(|command| ["-c", command]));
        self.daemon.ask(&words)
    }
}
