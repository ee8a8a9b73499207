//! The nouns of `show` as subcommands: one for each row of their table.
#![forbid(unsafe_code)]

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, FromArgMatches, Subcommand};

use super::ShowNoun;
use crate::api::nouns::{Noun, Pages, SHOWN};
use crate::api::pages::RoutesOf;

impl Subcommand for ShowNoun {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let command = command.subcommand_required(true).arg_required_else_help(true);
        let nouns = SHOWN.iter().filter(|noun| noun.words().1.is_none());
        nouns.fold(command, |command, noun| {
            let parts = SHOWN.iter().filter_map(|part| match part.words() {
                (of, Some(word)) if of == noun.name => Some(shown(part, word)),
                _ => None,
            });
            command.subcommand(parts.fold(shown(noun, noun.name), |command, part| {
                command
                    .subcommand(part)
                    .args_conflicts_with_subcommands(true)
                    .disable_help_subcommand(true)
            }))
        })
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        SHOWN.iter().any(|noun| noun.name == name)
    }
}

impl FromArgMatches for ShowNoun {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let found = matches.subcommand().and_then(|(noun, matches)| {
            let (words, matches) = match matches.subcommand() {
                Some((part, matches)) => ((noun, Some(part)), matches),
                None => ((noun, None), matches),
            };
            let noun = SHOWN.iter().find(|noun| noun.words() == words)?;
            let is_given = |(word, _): &(&'static str, _)| {
                matches.try_get_one::<bool>(word).is_ok_and(|given| given == Some(&true))
            };
            let of = RoutesOf::WORDS.iter().find(|word| is_given(word)).map(|(word, _)| *word);
            let neighbor = matches.try_get_one::<String>("neighbor").ok().flatten().cloned();
            Some(Self { noun, only: matches.get_one("only").cloned(), of, neighbor })
        });
        found.ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The command that shows a noun, or a part of one.
fn shown(noun: &'static Noun, word: &'static str) -> clap::Command {
    let only = Arg::new("only").value_name("ONLY").help(match noun.pages {
        Pages::Prefixes => "Only prefixes in this one, or the one that an address is forwarded by",
        Pages::Announcements => "Only rows with this word: a neighbour, a prefix, a state",
        _ => "Only rows with this word: a service, a site, a port, a neighbour",
    });
    let about = noun.about.trim_end_matches('.');
    let command = clap::Command::new(word).about(about).arg(only);
    if noun.name != "routes" {
        return command;
    }
    let flag = |(word, of): (&'static str, RoutesOf)| {
        Arg::new(word).long(word).action(ArgAction::SetTrue).help(match of {
            RoutesOf::Accepted => "What BGP neighbours announce and is accepted, as it is used",
            RoutesOf::Advertised => "What is announced to BGP neighbours",
            RoutesOf::Best => "Routes in use",
            RoutesOf::Refused => "What BGP neighbours announce and is refused, as it came",
            _ => "What BGP neighbours announce, as it came",
        })
    };
    let neighbor = Arg::new("neighbor").long("neighbor").value_name("NAME");
    command
        .args(RoutesOf::WORDS.map(flag))
        .group(ArgGroup::new("of").args(RoutesOf::WORDS.map(|(word, _)| word)))
        .arg(neighbor.help("Only routes of this BGP neighbour"))
}
