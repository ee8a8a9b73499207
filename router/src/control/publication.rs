//! What is to be published, why, and what is being published.

use std::collections::BTreeMap;
use std::time::Duration;

use nearhop_fib::WriteError;

use super::publisher::{Done, Parts, Publisher};
use crate::event::MoveCause;
use crate::ids::Family;
use crate::time::Nanos;

/// The publisher, and what it has to do.
#[derive(Default)]
pub(super) struct Publication {
    pub(super) publisher: Publisher,
    /// What has to be published yet, besides what is being published.
    owed: Owed,
    under_way: Option<UnderWay>,
}

/// What waits to be published, and why flows move when it is.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// A configuration.
    pub(super) all: Option<(MoveCause, String)>,
    /// Services whose order changed.
    pub(super) services: BTreeMap<(String, Family), (MoveCause, String)>,
    /// Routes of the RIB.
    pub(super) routes: bool,
}

/// A publication that has begun.
#[derive(Debug)]
struct UnderWay {
    why: Owed,
    started: Nanos,
}

/// A publication that has ended.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) why: Owed,
    pub(super) done: Done,
    pub(super) took: Duration,
}

impl Owed {
    fn is_nothing(&self) -> bool {
        self.all.is_none() && self.services.is_empty() && !self.routes
    }
}

impl Publication {
    /// Everything is to be published, for this cause. What is under way is superseded.
    pub(super) fn owe_all(&mut self, cause: MoveCause, member: &str) {
        if let Some(superseded) = self.under_way.take() {
            self.owed.services.extend(superseded.why.services);
            self.owed.routes |= superseded.why.routes;
        }
        self.owed.all = Some((cause, member.to_owned()));
    }

    /// The groups of a service are to be published, for this cause.
    pub(super) fn owe(&mut self, service: (String, Family), cause: MoveCause, member: &str) {
        self.owed.services.insert(service, (cause, member.to_owned()));
    }

    /// Routes of the RIB are to be published.
    pub(super) fn owe_routes(&mut self) {
        self.owed.routes = true;
    }

    /// Whether there is nothing to publish.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.owed.is_nothing()
    }

    /// Whether one has begun.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether routes may become others now, if each leads there at once ([`Publisher::move_at_once`]): not while
    /// a configuration is to be published, nor while it is found out what a publication has to do.
    pub(super) fn admits_moves(&self) -> bool {
        let of_routes = |why: &Owed| why.all.is_none();
        let is_under_way = self.under_way.as_ref();
        of_routes(&self.owed)
            && is_under_way.is_none_or(|one| of_routes(&one.why) && self.publisher.is_planned())
    }

    /// Does up to about `budget` lookups and changes. Returns the publication that ended by it.
    ///
    /// # Errors
    /// A reader stalls: to be called again later.
    pub(super) fn step(
        &mut self,
        parts: &mut Parts<'_>,
        budget: usize,
        clock: fn() -> Nanos,
    ) -> Result<Option<Published>, WriteError> {
        if self.under_way.is_none() {
            self.under_way =
                Some(UnderWay { why: std::mem::take(&mut self.owed), started: clock() });
            self.publisher.begin(parts.rib);
        }
        let Some(done) = self.publisher.step(parts, budget)? else { return Ok(None) };
        Ok(self.under_way.take().map(|UnderWay { why, started }| {
            let took = clock().since(started);
            Published { why, done, took }
        }))
    }
}
