//! The nouns of `show` as subcommands: one for each row of their table.
#![forbid(unsafe_code)]

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, FromArgMatches, Subcommand};

use super::ShowNoun;
use crate::api::nouns::{Pages, SHOWN};

impl Subcommand for ShowNoun {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let command = command.subcommand_required(true).arg_required_else_help(true);
        SHOWN.iter().fold(command, |command, noun| {
            let only = Arg::new("only").value_name("ONLY").help(match noun.pages {
                Pages::Prefixes => {
                    "Only prefixes in this one, or the one that an address is forwarded by"
                }
                _ => "Only rows with this word: a service, a site, a port",
            });
            let about = noun.about.trim_end_matches('.');
            command.subcommand(clap::Command::new(noun.name).about(about).arg(only))
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
        let found = matches.subcommand().and_then(|(name, matches)| {
            let noun = SHOWN.iter().find(|noun| noun.name == name)?;
            Some(Self { noun, only: matches.get_one("only").cloned() })
        });
        found.ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
