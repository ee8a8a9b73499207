//! How sessions begin, fail and are tried again, and their timers.
#![forbid(unsafe_code)]

use super::{
    Action, Cause, Duration, Event, Link, Nanos, Notification, Outbox, PerFamily, Session, Side,
    State, codes,
};

impl Session {
    /// Leaves Idle.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.idle_due = None;
        if !self.enabled {
            return;
        }
        self.phase = State::Active;
        if !self.config.waits() {
            self.connect(now);
        }
    }

    /// Connects; an attempt that is under way is given up (event 9).
    pub(super) fn connect(&mut self, now: Nanos) {
        self.connect_due = None;
        if self.outgoing.is_some() || self.state() >= State::OpenConfirm {
            return;
        }
        if self.phase == State::Connect {
            self.actions.push_back(Action::Close { side: Side::Outgoing, last: Vec::new() });
        }
        self.phase = State::Connect;
        self.connect_due = self.next_connect(now);
        self.actions.push_back(Action::Connect { min_ttl: self.config.min_ttl });
    }

    pub(super) fn next_connect(&mut self, now: Nanos) -> Option<Nanos> {
        let retry = self.jitter(self.config.connect_retry);
        (!self.config.waits()).then(|| now + retry)
    }

    pub(super) fn link_timeout(&mut self, now: Nanos, side: Side) {
        let Some(link) = self.link(side) else { return };
        if link.is_stuck(now) {
            let Some(link) = self.link_mut(side).take() else { return };
            self.actions.push_back(Action::Close { side, last: Vec::new() });
            self.lost(now, &link, Cause::SendHold);
            return;
        }
        if link.is_silent(now) {
            self.fail(now, side, Notification::new(codes::HOLD_TIMER), String::new());
            return;
        }
        if link.keepalive_due.is_some_and(|due| due <= now) {
            let (link, record) = self.link_and_record(side);
            if let Some(link) = link {
                link.say_keepalive(now, record);
            }
            self.next_keepalive(now, side);
        }
    }

    pub(super) fn next_keepalive(&mut self, now: Nanos, side: Side) {
        let hold = |link: &Link| link.agreed.as_ref().map(|agreed| agreed.negotiated.hold_time);
        let hold = self.link(side).and_then(hold).unwrap_or_default();
        // RFC 4271, section 10: a third of the hold time, and jitter.
        let interval = self.jitter(hold / 3);
        if let Some(link) = self.link_mut(side) {
            link.keepalive_due = (hold > Duration::ZERO).then(|| now + interval);
        }
    }

    /// Between three quarters and the whole of `span` (RFC 4271, section 10).
    pub(super) fn jitter(&mut self, span: Duration) -> Duration {
        let most = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let quarter = most / 4;
        Duration::from_nanos(most - if quarter == 0 { 0 } else { self.rng.below(quarter) })
    }

    /// Says `notification` on a connection, closes it, and goes to Idle unless there is another.
    pub(super) fn fail(&mut self, now: Nanos, side: Side, notification: Notification, why: String) {
        let Some(link) = self.link_mut(side).take() else { return };
        self.close(now, side, &link, &notification);
        self.lost(now, &link, Cause::Sent { notification, why });
    }

    pub(super) fn close(
        &mut self,
        now: Nanos,
        side: Side,
        link: &Link,
        notification: &Notification,
    ) {
        let mut last = link.output().to_vec();
        notification.put(&mut last);
        self.record.said(now, &last[link.output().len()..]);
        self.actions.push_back(Action::Close { side, last });
    }

    /// A connection is gone that was not only being made.
    pub(super) fn lost(&mut self, now: Nanos, link: &Link, cause: Cause) {
        let was_established = link.state == State::Established;
        let is_good = was_established && now.since(link.since) >= self.config.idle_hold_max;
        let is_harmless = matches!(&cause, Cause::Received(notification)
            if (notification.code, notification.subcode) == codes::UNSUPPORTED_VERSION);
        self.bare = matches!(&cause, Cause::Received(notification)
            if link.state == State::OpenSent
                && (notification.code, notification.subcode) == codes::UNSUPPORTED_PARAMETER
                && self.config.families.ipv4);
        if is_good {
            self.failures = 0;
        }
        let is_collision = matches!(cause, Cause::Collision);
        self.down(cause, was_established);
        if self.incoming.is_none() && self.outgoing.is_none() && !is_collision {
            self.idle(now);
            if !is_harmless {
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    pub(super) fn down(&mut self, cause: Cause, was_established: bool) {
        if was_established {
            self.outbox = Outbox::default();
            self.warned = PerFamily::NONE;
        }
        self.events.push_back(Event::Down { was_established, cause });
    }

    /// Goes to Idle, for longer each time. An attempt to connect is given up.
    pub(super) fn idle(&mut self, now: Nanos) {
        if self.phase == State::Connect {
            self.actions.push_back(Action::Close { side: Side::Outgoing, last: Vec::new() });
        }
        self.phase = State::Idle;
        self.connect_due = None;
        if self.config.dynamic {
            self.enabled = false;
            self.events.push_back(Event::Ended);
        }
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let hold = self.config.idle_hold.saturating_mul(factor).min(self.config.idle_hold_max);
        let hold = self.jitter(hold);
        self.idle_due = self.enabled.then(|| now + hold);
    }

    pub(super) fn end_all(&mut self, now: Nanos, notification: &Notification, why: &str) {
        let before = self.state();
        for side in [Side::Incoming, Side::Outgoing] {
            let Some(link) = self.link_mut(side).take() else { continue };
            self.close(now, side, &link, notification);
            let was_established = link.state == State::Established;
            let cause = Cause::Sent { notification: notification.clone(), why: why.into() };
            self.down(cause, was_established);
        }
        if before != State::Idle {
            self.idle(now);
        }
        self.report(before);
    }

    pub(super) fn report(&mut self, from: State) {
        let to = self.state();
        if from != to {
            self.events.push_back(Event::State { from, to });
        }
    }
}
