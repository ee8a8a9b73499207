//! The table of nouns: every document with its request, rows, filter, pages and metrics.
//!
//! The server's paths, the client's commands and tables, `/metrics` and `docs/documents.md` are made from
//! it; a row's keys from its fields ([`rows`](super::rows)).
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::Result as JsonResult;

use super::column::{Column, Field};
use super::row::{Row, keys};
use super::rows::{
    AdjacencyRow, AdvertisedRow, BfdDropRow, BfdRow, BgpMessageRow, BgpNeighborRow, BgpRefusalRow,
    BgpRow, BlockRow, CheckRow, DropRow, EffectHead, ExplainHead, ExplainRow, FibRow, GroupRow,
    HostRow, OverrideHead, OverrideRow, PlaybookRow, PortRow, ReloadRow, RouteRow, RouterRow,
    ServiceRow, StepRow, TopRow, VerdictRow, WorkerRow,
};

/// A kind of document, `nearhop.NAME.v1`.
#[derive(Clone, Copy, Debug)]
pub struct Noun {
    /// The argument of `show`, or the command that it answers.
    pub name: &'static str,
    /// What it is about, in a sentence.
    pub about: &'static str,
    /// The request that it answers; `None` for one that the client makes itself.
    pub request: Option<&'static str>,
    /// What `only` selects by, if it is a noun of `show`, and how it is sent.
    pub pages: Pages,
    /// How its rows appear in `/metrics`, if they do.
    pub metrics: Option<Metrics>,
    /// Keys of the document itself.
    pub head: &'static [Column],
    /// Keys of its items, in the order of a table's columns.
    pub columns: &'static [Column],
}

/// What the pages of a document are of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pages {
    /// Prefixes that may be announced: `after` is a prefix.
    Announcements,
    /// Groups: `after` is a group's number in the order of their first use.
    Groups,
    /// Prefixes: `after` is a prefix; `only` is a prefix or an address.
    Prefixes,
    /// Services: `after` is the name of one.
    Services,
    /// It is sent whole.
    Whole,
}

/// What tells the rows of a document apart, as metrics.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    /// What names begin with, behind `nearhop_`.
    pub of: &'static str,
    /// The keys that are labels.
    pub labels: &'static [&'static str],
}

impl Noun {
    /// As the words of the client's `show`: `bgp-advertised` is `advertised` of `bgp`.
    pub fn words(&self) -> (&'static str, Option<&'static str>) {
        match self.name.split_once('-') {
            Some((noun, part)) => (noun, Some(part)),
            None => (self.name, None),
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        SHOWN.iter().chain(OTHERS)
    }

    /// The noun with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|noun| noun.name == name)
    }

    /// `nearhop.NAME.v1`.
    pub fn schema(&self) -> String {
        format!("nearhop.{}.v1", self.name)
    }
}

/// The name that metrics of these rows begin with, and the fields that are labels.
macro_rules! metrics {
    ($row:ty, $of:literal, $($label:ident),+) => {
        Some(Metrics { of: $of, labels: keys!($row: $($label),+) })
    };
}

macro_rules! shown {
    ($($(#[doc = $about:literal])+ $noun:ident($row:ident) = $name:literal, $pages:expr, $metrics:expr;)+) => {
        /// What `show` is asked for.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Show {
            $($(#[doc = $about])+ $noun,)+
        }

        /// Rows of a noun of `show`.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Rows {
            $($(#[doc = $about])+ $noun(Vec<$row>),)+
        }

        /// The nouns of `show`, in the order of [`Show`].
        pub const SHOWN: &[Noun] = &[$(
            Noun {
                name: $name,
                about: concat!($($about),+).trim_ascii(),
                request: Some(concat!("GET /v1/show/", $name)),
                pages: $pages,
                metrics: $metrics,
                head: &[],
                columns: <$row as Row>::COLUMNS,
            },
        )+];

        impl Show {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$noun),+];
        }

        impl Rows {
            /// What they are rows of.
            pub const fn of(&self) -> Show {
                match self {
                    $(Self::$noun(_) => Show::$noun,)+
                }
            }

            /// How many there are.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$noun(rows) => rows.len(),)+
                }
            }

            /// Passes the value of each column of each row to `take`, row by row.
            pub fn fields<'a>(&'a self, take: &mut dyn FnMut(Field<'a>)) {
                match self {
                    $(Self::$noun(rows) => rows.iter().for_each(|row| row.fields(take)),)+
                }
            }

            /// Only those that have this word.
            pub fn retain_with(&mut self, word: &str) {
                match self {
                    $(Self::$noun(rows) => rows.retain(|row| row.has(word)),)+
                }
            }

            /// Appends them as JSON, with commas between them.
            ///
            /// # Errors
            /// None but those of serialization.
            pub fn write_json(&self, out: &mut Vec<u8>) -> JsonResult<()> {
                match self {
                    $(Self::$noun(rows) => write_json(rows, out),)+
                }
            }
        }

        $(
            impl From<Vec<$row>> for Rows {
                fn from(rows: Vec<$row>) -> Self {
                    Self::$noun(rows)
                }
            }
        )+
    };
}

shown! {
    /// Services and their sites: state, cost, and why.
    Services(ServiceRow) = "services", Pages::Services,
        metrics!(ServiceRow, "leg", service, family, site, port);
    /// The forwarding table: prefixes and their groups.
    Fib(FibRow) = "fib", Pages::Prefixes, None;
    /// Routes from every source, selected or not.
    Routes(RouteRow) = "routes", Pages::Prefixes, None;
    /// Groups of the forwarding table: what prefixes share.
    Groups(GroupRow) = "groups", Pages::Groups, None;
    /// BFD sessions: their states, intervals and counters.
    Bfd(BfdRow) = "bfd", Pages::Whole, metrics!(BfdRow, "bfd", neighbor, port);
    /// BFD packets that no session used, by reason.
    BfdDrops(BfdDropRow) = "bfd-drops", Pages::Whole, metrics!(BfdDropRow, "bfd_drops", reason);
    /// BGP neighbours: their sessions, and what goes both ways.
    Bgp(BgpRow) = "bgp", Pages::Whole, metrics!(BgpRow, "bgp", neighbor);
    /// What is announced to BGP neighbours, what is not, and why.
    BgpAdvertised(AdvertisedRow) = "bgp-advertised", Pages::Announcements, None;
    /// All that is known of a BGP neighbour: its session, what was agreed on, messages, refusals by reason.
    BgpNeighbor(BgpNeighborRow) = "bgp-neighbor", Pages::Whole, None;
    /// Paths of BGP neighbours that are refused, by reason.
    BgpRefusals(BgpRefusalRow) = "bgp-refusals", Pages::Whole,
        metrics!(BgpRefusalRow, "bgp_refused", neighbor, reason);
    /// The last messages of a BGP neighbour in both directions, the oldest first.
    BgpTranscript(BgpMessageRow) = "bgp-transcript", Pages::Whole, None;
    /// Prefixes whose packets are discarded because an operator blocked them.
    Blocks(BlockRow) = "blocks", Pages::Whole, None;
    /// Playbooks, with their steps: changes to announcements that operators apply.
    Playbooks(PlaybookRow) = "playbooks", Pages::Whole, None;
    /// Ways out, one for each port.
    Adjacencies(AdjacencyRow) = "adjacencies", Pages::Whole, None;
    /// Ports, their devices and counters.
    Ports(PortRow) = "ports", Pages::Whole, metrics!(PortRow, "port", port);
    /// Dropped packets, by reason.
    Drops(DropRow) = "drops", Pages::Whole, metrics!(DropRow, "drops", reason);
    /// All packets, by verdict.
    Verdicts(VerdictRow) = "verdicts", Pages::Whole,
        metrics!(VerdictRow, "verdict", verdict, outcome);
    /// Checks of every kind: whom they ask, and what they find.
    Checks(CheckRow) = "checks", Pages::Services,
        metrics!(CheckRow, "check", service, site, port, target, kind, check);
    /// How workers wait for packets: sleeping or polling.
    Workers(WorkerRow) = "workers", Pages::Whole, metrics!(WorkerRow, "worker", worker);
    /// The router itself, and how promptly it notices faults.
    Router(RouterRow) = "router", Pages::Whole, metrics!(RouterRow, "router", router);
    /// Packets for the router's own addresses: what became of them.
    Host(HostRow) = "host", Pages::Whole, metrics!(HostRow, "host", counter);
    /// Steps of the router's threads: the longest time of each, and how often it took 10 ms or longer.
    Steps(StepRow) = "steps", Pages::Whole, metrics!(StepRow, "slow_steps", thread, step);
}

impl Show {
    /// The one with this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|show| show.noun().name == name)
    }

    /// Its row in the table.
    pub const fn noun(self) -> &'static Noun {
        &SHOWN[self as usize]
    }
}

impl Rows {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn write_json<T: Serialize>(rows: &[T], out: &mut Vec<u8>) -> JsonResult<()> {
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, row)?;
    }
    Ok(())
}

const fn other<H: Row, T: Row>(
    name: &'static str,
    request: Option<&'static str>,
    about: &'static str,
) -> Noun {
    let (head, columns) = (H::COLUMNS, T::COLUMNS);
    Noun { name, about, request, pages: Pages::Whole, metrics: None, head, columns }
}

/// Documents that answer something else than `show`.
pub const OTHERS: &[Noun] = &[
    other::<ExplainHead, ExplainRow>(
        "explain",
        Some("GET /v1/explain?address=A"),
        "What becomes of packets to an address, and for each member of its group why packets go there or not.",
    ),
    other::<(), TopRow>("top", None, "Rates, which `nearhop top --json` prints at each interval."),
    other::<OverrideHead, OverrideRow>(
        "override",
        Some("POST /v1/drain/SITE"),
        "What becomes of flows, and the services that have the site; also of `POST /v1/undrain/SITE`, `disable` and `enable`.",
    ),
    other::<EffectHead, ()>(
        "effect",
        Some("POST /v1/drain-router"),
        "No rows: what becomes of announcements; also of `POST /v1/undrain-router`, `block`, `unblock` and `playbook`.",
    ),
    other::<(), ()>(
        "clear",
        Some("POST /v1/clear/bgp/NEIGHBOR"),
        "No rows: the neighbour's session begins again, or with `?soft=true` goes on while both sides announce all once more.",
    ),
    other::<(), ReloadRow>("reload", Some("POST /v1/reload"), "What changed."),
    other::<(), ()>(
        "undamp",
        Some("POST /v1/undamp"),
        "No rows: sites that only damping holds down are used.",
    ),
];
