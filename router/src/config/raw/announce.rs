//! Reads when services are announced by BGP, and what is said of them.
#![forbid(unsafe_code)]

use std::time::Duration;

use toml::Spanned;

use super::inner_or_default;
use crate::config::model::{AnnounceRules, BelowMin};
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::Table;

/// The keys of a service about its announcements, as written.
pub(in crate::config) struct RawAnnounceRules {
    pub(in crate::config) min_sites: Option<Spanned<usize>>,
    below_min: BelowMin,
    delay: Option<Spanned<Duration>>,
}

impl RawAnnounceRules {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            min_sites: table.get("min-sites", value::integer(1..=SITES_MAX)),
            below_min: inner_or_default(table.get("below-min", text("a word", below_min))),
            delay: table.get("announce-delay", text("a span of time", delay)),
        }
    }

    pub(super) fn into_model(self) -> AnnounceRules {
        let default = AnnounceRules::default();
        AnnounceRules {
            min_sites: self.min_sites.map_or(default.min_sites, Spanned::into_inner),
            below_min: self.below_min,
            delay: self.delay.map_or(default.delay, Spanned::into_inner),
        }
    }
}

fn below_min(word: &str) -> Result<BelowMin, ValueError> {
    let words =
        [("withdraw", Some(BelowMin::Withdraw)), ("deprioritise", Some(BelowMin::Deprioritise))];
    one_of(word, &words)
}

/// At most [`DELAY_MAX`], to which repeated withdrawals lead too.
fn delay(text: &str) -> Result<Duration, ValueError> {
    value::duration_in(Duration::ZERO..=DELAY_MAX)(text)
}

const DELAY_MAX: Duration = Duration::from_mins(10);

/// As many sites as a service can have.
const SITES_MAX: usize = 64;
