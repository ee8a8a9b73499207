//! Rows of what is announced by BGP.

use crate::api::column::Text;
use crate::api::column::Unit::{self, Flag, List, Number};
use crate::api::row::rows;

rows! {
    /// A step of a playbook.
    pub struct PlaybookRow {
        /// The playbook's name.
        playbook: Text = "PLAYBOOK" Unit::Text,
        /// Whether it is applied.
        applied: bool = "APPLIED" Flag,
        /// The neighbours that the step is about; all if empty.
        neighbors: Vec<Text> = "NEIGHBORS" List => 1,
        /// The services and prefixes that it is about; all if empty.
        of: Vec<Text> = "OF" List => 2,
        /// `withdraw`, or what is said besides of what is announced.
        does: Text = "DOES" Unit::Text,
    }

    /// A blocked prefix.
    pub struct BlockRow {
        /// The prefix.
        prefix: Text = "PREFIX" Unit::Text,
        /// Neighbours to which it is announced as one to be discarded.
        announced_to: Vec<Text> = "ANNOUNCED TO" List,
    }

    /// What a command about announcements brings about.
    pub struct EffectHead {
        /// What becomes of announcements, in a sentence.
        effect: Text = "effect" Unit::Text,
    }

    /// A prefix that may be announced, and a neighbour.
    pub struct AdvertisedRow {
        /// The prefix.
        prefix: Text = "PREFIX" Unit::Text,
        /// The neighbour's name.
        neighbor: Text = "NEIGHBOR" Unit::Text,
        /// What the prefix is of: `service` and its name, `aggregate`, or `block`.
        of: Text = "OF" Unit::Text => 5,
        /// `announced`; `withheld`, whatever becomes of its sites; or `withdrawn`.
        state: Text = "STATE" Unit::Text,
        /// The next hop that is announced.
        next_hop: Option<Text> = "NEXT HOP" Unit::Text => 4,
        /// The AS path that is announced, the latest AS first.
        as_path: Option<Text> = "PATH" Unit::Text => 1,
        /// The MED that is announced.
        med: Option<u64> = "MED" Number => 2,
        /// The LOCAL_PREF that is announced, to a neighbour in the same AS.
        local_pref: Option<u64> = "LOCAL PREF" Number => 6,
        /// The communities that are announced, of all kinds.
        communities: Vec<Text> = "COMMUNITIES" List => 3,
        /// Why.
        why: Text = "WHY" Unit::Text,
    }
}
