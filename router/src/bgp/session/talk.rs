//! What is said on a connection, and what is heard.
#![forbid(unsafe_code)]

use super::super::frame::FrameKind;
use super::super::{Message, Open, decode_update, negotiate};
use super::link::Agreed;
use super::outbox::Unsendable;
use super::{
    Arc, AttributeStore, Attributes, Cause, Event, Family, MessageError, Nanos, Nlri, NotExchanged,
    Notification, Progress, Received, RefreshKind, RouteRefresh, Session, Side, State, codes,
};

impl Session {
    /// Reads one message, if a whole one is there. Those with routes are read only if there is `room` for
    /// them; until then the neighbour does not count as silent.
    pub fn receive(&mut self, now: Nanos, store: &mut AttributeStore, room: bool) -> Progress {
        let before = self.state();
        let mut progress = Progress::Idle;
        for side in [Side::Incoming, Side::Outgoing] {
            match self.receive_from(now, side, store, room) {
                Progress::Idle => {}
                Progress::Full => progress = Progress::Full,
                done => {
                    progress = done;
                    break;
                }
            }
        }
        self.report(before);
        progress
    }

    /// Announces a route, once it may (`min_route_advertisement`). What was to be said of it before and was
    /// not sent yet is not sent.
    pub fn announce(
        &mut self,
        nlri: Nlri,
        attributes: &Arc<Attributes>,
    ) -> Result<(), NotExchanged> {
        self.check_exchanged(nlri.family())?;
        self.outbox.announce(nlri, attributes);
        Ok(())
    }

    /// Withdraws a route, at once.
    pub fn withdraw(&mut self, nlri: Nlri) -> Result<(), NotExchanged> {
        self.check_exchanged(nlri.family())?;
        self.outbox.withdraw(nlri);
        Ok(())
    }

    /// Says that all routes of a family were announced. Due once after each beginning of a session.
    pub fn end_of_rib(&mut self, family: Family) -> Result<(), NotExchanged> {
        self.check_exchanged(family)?;
        self.outbox.end_of_rib(family);
        Ok(())
    }

    /// All routes of a family follow, as the neighbour asked.
    pub fn begin_refresh(&mut self, family: Family) -> Result<(), NotExchanged> {
        self.mark_refresh(family, RefreshKind::Begin)
    }

    /// All routes of a family were announced, as the neighbour asked.
    pub fn end_refresh(&mut self, family: Family) -> Result<(), NotExchanged> {
        self.mark_refresh(family, RefreshKind::End)
    }

    /// Asks the neighbour for all routes of a family; `false` if it does not know how to.
    pub fn request_refresh(&mut self, family: Family) -> Result<bool, NotExchanged> {
        self.check_exchanged(family)?;
        let is_known = self.negotiated().is_some_and(|negotiated| negotiated.route_refresh);
        if is_known {
            self.outbox.refresh(family, RefreshKind::Request);
        }
        Ok(is_known)
    }

    /// Changes that were not sent yet, of routes.
    pub fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// The neighbour announces `count` prefixes of a family now. Too many end the session (RFC 4486).
    pub fn handle_prefix_count(&mut self, now: Nanos, family: Family, count: u32) {
        let Some(limit) = *self.config.max_prefixes.of(family) else { return };
        if self.check_exchanged(family).is_err() {
            return;
        }
        if count > limit.max {
            let refusal = RouteRefresh::of(family, RefreshKind::Request);
            let mut data = refusal.afi.to_be_bytes().to_vec();
            data.push(refusal.safi);
            data.extend_from_slice(&limit.max.to_be_bytes());
            let notification = Notification::with(codes::MAX_PREFIXES, data);
            let why = format!("{count} {} prefixes; {} are allowed", family.label(), limit.max);
            self.end_all(now, &notification, &why);
            self.idle_due = limit.restart_after.filter(|_| self.enabled).map(|after| now + after);
            return;
        }
        let is_near = count >= limit.warn_at;
        let warned = std::mem::replace(self.warned.of_mut(family), is_near);
        if is_near && !warned {
            self.events.push_back(Event::PrefixesNearLimit { family, count });
        }
    }

    /// Fills up what is to be sent.
    pub(super) fn fill(&mut self, now: Nanos, side: Side) {
        let interval = self.config.min_route_advertisement;
        loop {
            if !self.outbox.is_ready() && self.outbox.is_waiting() && self.burst_due <= now {
                self.outbox.begin_burst();
                self.burst_due = now + self.jitter(interval);
            }
            let Self { incoming, outgoing, outbox, record, events, .. } = self;
            let link = match side {
                Side::Incoming => incoming,
                Side::Outgoing => outgoing,
            };
            let Some(link) = link else { return };
            let Some(Agreed { negotiated, .. }) = &link.agreed else { return };
            if !outbox.is_ready() || link.output().len() >= OUTPUT_MIN {
                return;
            }
            let packing = negotiated.packing();
            match link.say(now, record, |out| outbox.put_message(&packing, out)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(Unsendable { nlri, why }) => {
                    events.push_back(Event::NotAnnounced { nlri, why });
                }
            }
        }
    }

    fn check_exchanged(&self, family: Family) -> Result<(), NotExchanged> {
        let is_exchanged = |agreed: &super::Negotiated| *agreed.families.of(family);
        self.negotiated().is_some_and(is_exchanged).then_some(()).ok_or(NotExchanged)
    }

    fn mark_refresh(&mut self, family: Family, kind: RefreshKind) -> Result<(), NotExchanged> {
        self.check_exchanged(family)?;
        if self.negotiated().is_some_and(|negotiated| negotiated.enhanced_refresh) {
            self.outbox.refresh(family, kind);
        }
        Ok(())
    }

    fn receive_from(
        &mut self,
        now: Nanos,
        side: Side,
        store: &mut AttributeStore,
        room: bool,
    ) -> Progress {
        let (Some(link), record) = self.link_and_record(side) else { return Progress::Idle };
        let frame = match link.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Progress::Idle,
            Err(MessageError { notification, why }) => {
                let unread = link.unread();
                record.heard_nonsense(now, &unread[..unread.len().min(NONSENSE_MAX)]);
                self.fail(now, side, notification, why);
                return Progress::Handled;
            }
        };
        let (state, kind, len) = (link.state, frame.kind, frame.message.len());
        let has_routes = matches!(kind, FrameKind::Update | FrameKind::RouteRefresh);
        if has_routes && state == State::Established && !room {
            return Progress::Full;
        }
        record.heard(now, frame.message);
        if !is_expected(kind, state) {
            let codes = match state {
                State::OpenSent => codes::UNEXPECTED_IN_OPEN_SENT,
                State::OpenConfirm => codes::UNEXPECTED_IN_OPEN_CONFIRM,
                _ => codes::UNEXPECTED_IN_ESTABLISHED,
            };
            let why = format!("{} in {}", kind.label(), state.label());
            // RFC 6608: the data is the type.
            self.fail(now, side, Notification::with(codes, [kind.value()]), why);
            return Progress::Handled;
        }
        let context = link.agreed.as_ref().map(|agreed| agreed.context);
        let message = match (kind, context) {
            (FrameKind::Update, Some(context)) => {
                decode_update(frame.body(), &context, store).map(Message::Update)
            }
            _ => Message::decode_other(frame),
        };
        link.consume(len);
        link.heard(now);
        match message {
            Ok(message) => self.handle_message(now, side, message),
            Err(MessageError { notification, why }) => {
                self.fail(now, side, notification, why);
                Progress::Handled
            }
        }
    }

    fn handle_message(&mut self, now: Nanos, side: Side, message: Message) -> Progress {
        match message {
            Message::Open(open) => self.handle_open(now, side, &open),
            Message::Keepalive => self.handle_keepalive(now, side),
            Message::Notification(notification) => {
                if let Some(link) = self.link_mut(side).take() {
                    self.actions.push_back(super::Action::Close { side, last: Vec::new() });
                    self.lost(now, &link, Cause::Received(notification));
                }
            }
            Message::RouteRefresh(refresh) => return self.handle_refresh(refresh),
            Message::Update(update) => {
                return Progress::Received(Received::Update(update));
            }
        }
        Progress::Handled
    }

    /// Events 19 to 23.
    fn handle_open(&mut self, now: Nanos, side: Side, open: &Open) {
        let Some(link) = self.link(side) else { return };
        let negotiated = match negotiate(&self.config, link.bare, open) {
            Ok(negotiated) => negotiated,
            Err(MessageError { notification, why }) => {
                return self.fail(now, side, notification, why);
            }
        };
        let own = (self.config.router_id, self.config.local_as);
        let we_win = own > (negotiated.remote_id, negotiated.remote_as);
        let context = negotiated.update_context(&self.config);
        let send_hold = self.config.send_hold(negotiated.hold_time);
        if let Some(link) = self.link_mut(side) {
            link.set_hold(now, negotiated.hold_time, send_hold);
            link.agreed = Some(Agreed { negotiated, context });
        }
        if let Some(loser) = self.loser(side, we_win) {
            self.collide(now, loser);
            if loser == side {
                return;
            }
        }
        if let (Some(link), record) = self.link_and_record(side) {
            link.state = State::OpenConfirm;
            // Even if the OPEN still waits: it is what the neighbour's next state needs.
            link.say(now, record, Message::put_keepalive);
        }
        self.next_keepalive(now, side);
    }

    /// Which connection to close, if there are two with the neighbour (RFC 4271, section 6.8): that of the
    /// speaker with the lower identifier, or with the lower AS if these are equal (RFC 6286); an established
    /// one stays.
    fn loser(&self, side: Side, we_win: bool) -> Option<Side> {
        match self.link(side.other())?.state {
            State::Established => Some(side),
            State::OpenConfirm => Some(if we_win { Side::Incoming } else { Side::Outgoing }),
            // Its OPEN has yet to come.
            _ => None,
        }
    }

    fn collide(&mut self, now: Nanos, side: Side) {
        let Some(link) = self.link_mut(side).take() else { return };
        self.close(now, side, &link, &Notification::new(codes::COLLISION));
        self.lost(now, &link, Cause::Collision);
    }

    /// Event 26.
    fn handle_keepalive(&mut self, now: Nanos, side: Side) {
        let Some(link) = self.link_mut(side) else { return };
        if link.state != State::OpenConfirm {
            return;
        }
        link.state = State::Established;
        link.since = now;
        let negotiated = link.agreed.as_ref().map(|agreed| agreed.negotiated.clone());
        self.record.counters.established += 1;
        self.burst_due = now;
        self.connect_due = None;
        if self.phase == State::Connect {
            self.actions.push_back(super::Action::Close { side: Side::Outgoing, last: Vec::new() });
            self.phase = State::Active;
        }
        let established = negotiated.map(|agreed| Event::Established(Box::new(agreed)));
        self.events.extend(established);
    }

    /// RFC 2918 and RFC 7313: what is about other families, or was not agreed on, is ignored.
    fn handle_refresh(&mut self, refresh: RouteRefresh) -> Progress {
        let Some(family) = refresh.family().filter(|family| self.check_exchanged(*family).is_ok())
        else {
            return Progress::Handled;
        };
        let is_enhanced = self.negotiated().is_some_and(|negotiated| negotiated.enhanced_refresh);
        match refresh.kind {
            RefreshKind::Request => self.events.push_back(Event::RefreshRequested(family)),
            RefreshKind::Begin if is_enhanced => {
                return Progress::Received(Received::RefreshBegin(family));
            }
            RefreshKind::End if is_enhanced => {
                return Progress::Received(Received::RefreshEnd(family));
            }
            _ => {}
        }
        Progress::Handled
    }
}

/// What a speaker may say in which state (RFC 4271, section 8.2.2).
const fn is_expected(kind: FrameKind, state: State) -> bool {
    match kind {
        FrameKind::Notification => true,
        FrameKind::Open => matches!(state, State::OpenSent),
        FrameKind::Keepalive => matches!(state, State::OpenConfirm | State::Established),
        FrameKind::Update | FrameKind::RouteRefresh => matches!(state, State::Established),
    }
}

/// Octets that are kept in a transcript of what is no message.
const NONSENSE_MAX: usize = 256;

/// Octets that are kept ready, besides one message.
const OUTPUT_MIN: usize = 16 << 10;
