//! What the control plane wants announced to a neighbour, and what is announced of it while the lease has ended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::bgp::lease::LeaseState;
use crate::bgp::session::Session;
use crate::bgp::{AttributeStore, Attributes, Nlri};

/// What is to be announced in a session.
#[derive(Default)]
pub(super) struct Ordered {
    routes: BTreeMap<Nlri, Arc<Attributes>>,
    /// Those after this one have to be said again, as they are to be announced otherwise.
    again: Option<Bound<Nlri>>,
}

impl Ordered {
    /// A route is to be announced so, or not at all.
    pub(super) fn order(
        &mut self,
        session: &mut Session,
        (store, lease): (&mut AttributeStore, LeaseState),
        nlri: Nlri,
        attributes: Option<Arc<Attributes>>,
    ) {
        // Without a session nothing is: all of it is ordered again once there is one.
        if session.negotiated().is_none() {
            return;
        }
        say(session, store, lease, nlri, attributes.as_ref());
        match attributes {
            Some(attributes) => drop(self.routes.insert(nlri, attributes)),
            None => drop(self.routes.remove(&nlri)),
        }
    }

    /// The session has ended.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The lease is in another state.
    pub(super) fn begin_again(&mut self) {
        self.again = Some(Bound::Unbounded);
    }

    /// Says some again; whether there are more.
    pub(super) fn say_again(
        &mut self,
        session: &mut Session,
        store: &mut AttributeStore,
        lease: LeaseState,
    ) -> bool {
        let Some(after) = self.again.take() else { return false };
        let mut rest = self.routes.range((after, Bound::Unbounded));
        for (&nlri, attributes) in rest.by_ref().take(AGAIN_PER_POLL) {
            say(session, store, lease, nlri, Some(attributes));
            self.again = Some(Bound::Excluded(nlri));
        }
        if rest.next().is_none() {
            self.again = None;
        }
        self.again.is_some()
    }
}

fn say(
    session: &mut Session,
    store: &mut AttributeStore,
    lease: LeaseState,
    nlri: Nlri,
    attributes: Option<&Arc<Attributes>>,
) {
    let asn = session.config().local_as;
    let is_internal = session.negotiated().is_some_and(|agreed| agreed.remote_as == asn);
    let own_as = (!is_internal).then_some(asn);
    let said = attributes.and_then(|attributes| match lease.apply(attributes, own_as)? {
        Cow::Borrowed(_) => Some(Arc::clone(attributes)),
        Cow::Owned(changed) => Some(store.intern(changed)),
    });
    // A family that is not exchanged is announced to nobody.
    let _ = match said {
        Some(attributes) => session.announce(nlri, &attributes),
        None => session.withdraw(nlri),
    };
}

/// A part of a poll's time, for each neighbour.
const AGAIN_PER_POLL: usize = 64;
