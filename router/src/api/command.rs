//! What clients ask of the control thread.
#![forbid(unsafe_code)]

use axum::body::Bytes;
use serde::Deserialize;
use tokio::sync::{broadcast, oneshot};

use super::ApiError;
use super::document::{Cleared, Effected, Explanation, Overridden, Reloaded, Undamped};
use super::pages::{PageReply, PageRequest};

/// Who gives a command, as its event says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Who(pub String);

/// A client's request; the answer goes to the [`Reply`] in it.
#[derive(Debug)]
pub enum Command {
    /// `POST /v1/drain/SITE`, `/v1/undrain/SITE`, `/v1/disable/SITE` and `/v1/enable/SITE`.
    Override(OverrideRequest, Who, Reply<Overridden>),
    /// What concerns announcements.
    Announce(AnnounceRequest, Who, Reply<Effected>),
    /// `POST /v1/clear/bgp/NEIGHBOR`, by its name or address; whether its session goes on.
    Clear(String, bool, Who, Reply<Cleared>),
    /// `GET /v1/explain`.
    Explain(ExplainQuery, Reply<Explanation>),
    /// `POST /v1/reload`; whether also where it leaves a service without a site.
    Reload(Who, bool, Reply<Reloaded>),
    /// `GET /healthz`.
    Health(Reply<()>),
    /// `GET /v1/show/NOUN`, or a page of it.
    Show(PageRequest, PageReply),
    /// `POST /v1/undamp`.
    Undamp(Reply<Undamped>),
    /// `GET /v1/watch`: the remembered lines from this `seq` on, and all later ones.
    Watch(Option<u64>, Reply<(Vec<Bytes>, broadcast::Receiver<Bytes>)>),
}

impl Command {
    /// What it is called where steps are named.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Announce(request, ..) => request.verb(),
            Self::Clear(..) => "clear",
            Self::Explain(..) => "explain",
            Self::Health(_) => "health",
            Self::Override(request, ..) => request.what.verb(),
            Self::Reload(..) => "reload",
            Self::Show(..) => "show",
            Self::Undamp(_) => "undamp",
            Self::Watch(..) => "watch",
        }
    }
}

/// A site that an operator takes out of service, or back in.
#[derive(Clone, Debug)]
pub struct OverrideRequest {
    /// Its name.
    pub site: String,
    /// What is to be done.
    pub what: OverrideKind,
    /// Whether also where that leaves a service without a site.
    pub force: bool,
}

/// What an operator does to a site.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OverrideKind {
    /// It serves only where nobody else is left.
    Drain,
    /// It is drained no more.
    Undrain,
    /// It never serves.
    Disable,
    /// It is disabled no more.
    Enable,
}

impl OverrideKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Drain, Self::Undrain, Self::Disable, Self::Enable];

    /// The word for it in paths and commands.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }

    /// Whether it takes the site out.
    pub const fn takes_out(self) -> bool {
        matches!(self, Self::Drain | Self::Disable)
    }
}

/// What an operator does to announcements.
#[derive(Clone, Debug)]
pub enum AnnounceRequest {
    /// `POST /v1/drain-router`, `/v1/undrain-router`: takes all of them back, or no more.
    DrainRouter(bool),
    /// `POST /v1/playbook/apply/NAME`, `/v1/playbook/undo/NAME`.
    Play {
        /// Its name.
        playbook: String,
        /// Whether it is to be applied.
        applied: bool,
        /// Whether also where that withdraws a service from all neighbours.
        force: bool,
    },
    /// `POST /v1/block`, `/v1/unblock`: discards the packets of a prefix, or no more.
    Block {
        /// A prefix or an address.
        prefix: String,
        /// Whether it is to be blocked.
        blocked: bool,
        /// Whether also where the router needs something in it.
        force: bool,
    },
}

impl AnnounceRequest {
    /// The word for it in paths and commands.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::DrainRouter(true) => "drain-router",
            Self::DrainRouter(false) => "undrain-router",
            Self::Play { applied: true, .. } => "playbook apply",
            Self::Play { applied: false, .. } => "playbook undo",
            Self::Block { blocked: true, .. } => "block",
            Self::Block { blocked: false, .. } => "unblock",
        }
    }
}

/// The channel for an answer.
pub type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// Parameters of `GET /v1/explain`: an address, and optionally a flow.
#[derive(Clone, Debug, Deserialize)]
pub struct ExplainQuery {
    /// Destination.
    pub address: std::net::IpAddr,
    /// Source of a flow.
    pub from: Option<std::net::IpAddr>,
    /// IP protocol number.
    pub proto: Option<u8>,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
}
