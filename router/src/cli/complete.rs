//! Names of a running router's sites, services, ports and the like, for shells that complete a command.
//!
//! A completion script passes the words of the line so far to `nearhop __complete`, the last of them being the
//! one to complete, and gets a name per line. If no router answers soon, there are none.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::CommandFactory;
use serde::Deserialize;

use super::args::{Cli, CompleteArgs, SocketArgs};
use super::client;
use super::output::{Failure, answer};
use crate::client::Client;

pub(super) fn run(args: &CompleteArgs) -> Result<ExitCode, Failure> {
    let Some(asked) = Asked::of(&args.words) else { return Ok(ExitCode::SUCCESS) };
    let (found, wait) = mpsc::channel();
    // Ends with the process, if a router that stands still holds it up.
    thread::spawn(move || {
        let given = || std::env::var_os("NEARHOP_SOCKET").map(PathBuf::from);
        let names = client::connect(&SocketArgs { socket: asked.socket.or_else(given) })
            .and_then(|client| asked.names.read(&client));
        let names = names.unwrap_or_default().into_iter().map(|(name, _)| name);
        let _ = found.send(names.collect::<BTreeSet<_>>());
    });
    let names = wait.recv_timeout(ANSWER_WITHIN).unwrap_or_default();
    if !names.is_empty() {
        answer(names.into_iter().collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What of a router has names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Names {
    /// Blocked prefixes.
    Blocks,
    /// BGP neighbours.
    Neighbors,
    /// Ports.
    Ports,
    /// Services, their sites and their ports.
    OfServices,
    /// Playbooks.
    Playbooks,
    /// Services and their ports.
    ServicesAndPorts,
    /// Sites.
    Sites,
}

impl Names {
    /// What rows of this noun are selected by, if that is a name.
    pub(super) fn of_noun(noun: &str) -> Option<Self> {
        match noun {
            "services" | "checks" => Some(Self::OfServices),
            "groups" => Some(Self::ServicesAndPorts),
            "ports" | "adjacencies" => Some(Self::Ports),
            "bgp" | "bgp-neighbor" | "bgp-refusals" | "bgp-transcript" => Some(Self::Neighbors),
            "blocks" => Some(Self::Blocks),
            "playbooks" => Some(Self::Playbooks),
            _ => None,
        }
    }

    /// What has these names.
    pub(super) const fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Blocks => &["blocked prefix"],
            Self::Neighbors => &["BGP neighbour"],
            Self::OfServices => &["service", "site", "port"],
            Self::Playbooks => &["playbook"],
            Self::Ports => &["port"],
            Self::ServicesAndPorts => &["service", "port"],
            Self::Sites => &["site"],
        }
    }

    /// Asks a router: each name with what has it.
    pub(super) fn read(self, client: &Client) -> Result<BTreeSet<(String, &'static str)>, Failure> {
        let path = match self {
            Self::Blocks => "/v1/show/blocks",
            Self::Neighbors => "/v1/show/bgp",
            Self::Playbooks => "/v1/show/playbooks",
            Self::Ports => "/v1/show/ports",
            _ => "/v1/show/services",
        };
        let rows: Vec<Named> = client::items(&client.get(path)?)?;
        let names = rows.into_iter().flat_map(|row| {
            let Named { neighbor, playbook, port, prefix, service, site } = row;
            let all = [
                (neighbor, "BGP neighbour"),
                (playbook, "playbook"),
                (port, "port"),
                (prefix, "blocked prefix"),
                (service, "service"),
                (site, "site"),
            ];
            all.into_iter().filter_map(|(name, kind)| Some((name?, kind)))
        });
        Ok(names.filter(|(_, kind)| self.kinds().contains(kind)).collect())
    }
}

/// The names in a row.
#[derive(Deserialize)]
struct Named {
    neighbor: Option<String>,
    playbook: Option<String>,
    port: Option<String>,
    prefix: Option<String>,
    service: Option<String>,
    site: Option<String>,
}

/// What the last of some words could be.
#[derive(Debug, Eq, PartialEq)]
struct Asked {
    names: Names,
    socket: Option<PathBuf>,
}

impl Asked {
    /// `words` are those behind the name of the program.
    fn of(words: &[String]) -> Option<Self> {
        let (current, before) = words.split_last()?;
        if current.starts_with('-') {
            return None;
        }
        let (mut given, mut socket) = (Vec::new(), None);
        let mut before = before.iter().map(String::as_str);
        while let Some(word) = before.next() {
            if word == "--socket" {
                // Bash takes `=` for a word.
                socket = Some(before.find(|word| *word != "=")?);
            } else if let Some(path) = word.strip_prefix("--socket=") {
                socket = Some(path);
            } else if !word.starts_with('-') {
                given.push(word);
            }
        }
        let names = match given[..] {
            [verb] if TAKES_SITE.contains(&&*command(verb)?) => Some(Names::Sites),
            [verb] if command(verb)? == "unblock" => Some(Names::Blocks),
            [verb, _] if command(verb)? == "playbook" => Some(Names::Playbooks),
            [verb, noun] if command(verb)? == "show" => Names::of_noun(&shown(noun)?),
            [verb, noun, part] if command(verb)? == "show" => {
                Names::of_noun(&format!("{}-{part}", shown(noun)?))
            }
            _ => None,
        }?;
        Some(Self { names, socket: socket.map(PathBuf::from) })
    }
}

/// The command that these letters stand for.
fn command(word: &str) -> Option<String> {
    only(&Cli::command(), word)
}

/// The noun of `show` that these letters stand for.
fn shown(word: &str) -> Option<String> {
    only(Cli::command().find_subcommand("show")?, word)
}

/// The subcommand with this name, or else the only one that begins so.
fn only(command: &clap::Command, word: &str) -> Option<String> {
    let names = command.get_subcommands().map(clap::Command::get_name);
    let named: Vec<_> = names.filter(|name| name.starts_with(word)).collect();
    match named[..] {
        [only] => Some(only.to_owned()),
        _ => named.into_iter().find(|name| *name == word).map(str::to_owned),
    }
}

const TAKES_SITE: [&str; 4] = ["disable", "drain", "enable", "undrain"];

/// How long a shell waits: its user has pressed a key.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_before_say_which_names_are_meant() {
        let asked = |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            Asked::of(&words).map(|asked| (asked.names, asked.socket))
        };
        let socket = || Some(PathBuf::from("/r1.sock"));
        for (line, want) in [
            ("drain ", Some((Names::Sites, None))),
            ("dra f", Some((Names::Sites, None))),
            ("enable --force f", Some((Names::Sites, None))),
            ("--socket /r1.sock drain f", Some((Names::Sites, socket()))),
            ("drain --socket /r1.sock f", Some((Names::Sites, socket()))),
            ("drain --socket = /r1.sock f", Some((Names::Sites, socket()))),
            ("drain --socket=/r1.sock f", Some((Names::Sites, socket()))),
            ("drain --socket /r", None),
            ("drain fra ", None),
            ("d f", None),
            ("drain -", None),
            ("show services ", Some((Names::OfServices, None))),
            ("show --json che d", Some((Names::OfServices, None))),
            ("show ports ", Some((Names::Ports, None))),
            ("show groups ", Some((Names::ServicesAndPorts, None))),
            ("show fib 1", None),
            ("show bgp ", Some((Names::Neighbors, None))),
            ("show bgp neighbor u", Some((Names::Neighbors, None))),
            ("show bgp transcript u", Some((Names::Neighbors, None))),
            ("show ports fra ", None),
            ("show blocks ", Some((Names::Blocks, None))),
            ("show playbooks a", Some((Names::Playbooks, None))),
            ("unblock ", Some((Names::Blocks, None))),
            ("block ", None),
            ("playbook ", None),
            ("playbook apply ", Some((Names::Playbooks, None))),
            ("play undo --force a", Some((Names::Playbooks, None))),
            ("playbook apply away ", None),
            ("show se", None),
            ("reload ", None),
            ("", None),
        ] {
            assert_eq!(asked(line), want, "{line}");
        }
    }
}
