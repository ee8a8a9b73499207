//! The liveness of one target: a pure machine that every kind of check shares.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use super::rtt::Rtt;
use super::{Cause, CheckStats, ErrorSeen, Ignore, Ignored};
use crate::time::Nanos;

/// When a target counts as up and down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Between two requests; at least 1 ns.
    pub interval: Duration,
    /// Silent for `interval × fall` is down. At least 2: with 1 the next request would leave at
    /// the moment its predecessor's time runs out, so every target would be down; `fall`
    /// survives `fall - 2` lost packets in a row.
    pub fall: u32,
    /// As many answers in a row are up; at least 1.
    pub rise: u32,
    /// Up before the first result.
    pub initial_up: bool,
}

/// A change of mind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// When it was noticed.
    pub t: Nanos,
    /// When it was due, at or before `t`.
    pub due: Nanos,
    /// Whether the target counts as there.
    pub up: bool,
    /// Why.
    pub cause: Cause,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It counts.
    Counted,
    /// Its request was answered before.
    Duplicate,
    /// Its request's time had run out.
    Late,
    /// No request that is remembered.
    Unknown,
}

/// Decides whether one target is up, from the requests sent to it and what came back.
///
/// The owner sends a request whenever [`Self::send_due`] says so, reports it by [`Self::sent`], calls
/// [`Self::handle_timeout`] at [`Self::poll_timeout`], and drains [`Self::poll_verdict`] after each
/// call. A request is named by a tag (an ICMP sequence number, a DNS id), distinct among those
/// outstanding. Each call does work bounded by `fall` (and by [`WINDOW_MAX`]); none allocates
/// after the first `fall` requests.
#[derive(Debug)]
pub struct CheckState {
    rule: Rule,
    window: VecDeque<Request>,
    /// Answers in a row up to the request that left the window last.
    run_before: u32,
    forgotten: [Option<u16>; FORGOTTEN_MAX],
    forgotten_next: usize,
    /// The next request is due then; `None` while suspended.
    next_send: Option<Nanos>,
    /// When the second request is sent, as a part of the interval: spreads checks over time.
    phase: Option<Duration>,
    /// Silence until then is down; `None` while that is known already.
    deadline: Option<Nanos>,
    /// When the first request after the newest answered one was sent, if any was.
    asked_since: Option<Nanos>,
    /// The first result is given then at the latest.
    decide_by: Option<Nanos>,
    /// Silence is not judged before then: its requests left late.
    requests_until: Option<Nanos>,
    /// Silence is not judged before then: answers may lie unread.
    held_until: Option<Nanos>,
    /// Since when it is held for that.
    doubted_since: Option<Nanos>,
    bad_since_good: bool,
    verdicts: VecDeque<Verdict>,
    rtt: Rtt,
    stats: CheckStats,
}

impl CheckState {
    /// A check whose first request is due at `start`, its second one `phase` later (at most one
    /// interval), the others every interval. With `initial_up` a verdict waits at once.
    pub fn new(now: Nanos, start: Nanos, phase: Duration, rule: Rule) -> Self {
        let rule = Rule {
            interval: rule.interval.max(Duration::from_nanos(1)),
            fall: rule.fall.max(2),
            rise: rule.rise.max(1),
            ..rule
        };
        let mut check = Self {
            rule,
            window: VecDeque::with_capacity((rule.fall as usize + 2).min(WINDOW_MAX)),
            run_before: 0,
            forgotten: [None; FORGOTTEN_MAX],
            forgotten_next: 0,
            next_send: Some(start),
            phase: Some(phase.min(rule.interval)),
            deadline: Some(start + rule.budget()),
            asked_since: None,
            decide_by: Some(
                start + rule.interval.saturating_mul(rule.fall.saturating_add(rule.rise)),
            ),
            requests_until: None,
            held_until: None,
            doubted_since: None,
            bad_since_good: false,
            verdicts: VecDeque::with_capacity(2),
            rtt: Rtt::default(),
            stats: CheckStats { since: now, ..CheckStats::default() },
        };
        if rule.initial_up {
            check.decide(now, now, true, Cause::Initial);
        }
        check
    }

    /// Whether a request has to be sent now.
    pub fn send_due(&self, now: Nanos) -> bool {
        self.next_send.is_some_and(|at| at <= now)
    }

    /// When the next request has to be sent; `None` while suspended.
    pub fn next_send(&self) -> Option<Nanos> {
        self.next_send
    }

    /// A request with this tag leaves now. Requests that were missed because the owner was late
    /// are left out, so that a late thread makes no burst.
    pub fn sent(&mut self, now: Nanos, tag: u16) {
        while self.window.len() >= WINDOW_MAX.min(self.rule.fall as usize + 2) {
            self.forget_oldest();
        }
        self.window.push_back(Request { tag, sent: now, run: 0, fate: Fate::Pending });
        self.asked_since.get_or_insert(now);
        self.stats.sent += 1;
        let step = self.phase.take().unwrap_or(self.rule.interval);
        self.next_send = self.next_send.map(|due| self.rule.after(now, due + step));
    }

    /// An answer to the request with this tag was received then. Answers have to come in the order
    /// they were received, before [`Self::handle_timeout`] is called with a later time.
    ///
    /// It wins over a deadline that is over but not judged yet, for whoever received it may have
    /// been late. It does not bring the target up after its own time, `interval × fall`.
    pub fn answered(&mut self, received: Nanos, tag: u16) -> Answer {
        let Some(index) = self.window.iter().position(|request| request.tag == tag) else {
            return self.answered_late(tag);
        };
        let request = &mut self.window[index];
        if request.fate != Fate::Pending {
            self.stats.duplicate += 1;
            return Answer::Duplicate;
        }
        if !self.stats.up && request.sent + self.rule.budget() <= received {
            request.fate = Fate::Late;
            self.stats.lost += 1;
            self.stats.late += 1;
            return Answer::Late;
        }
        request.fate = Fate::Answered;
        let sent = request.sent;
        self.doubted_since = None;
        let newest = self.window.iter().rposition(|request| request.fate == Fate::Answered);
        let next = newest.and_then(|newest| self.window.get(newest + 1));
        self.asked_since = next.map(|request| request.sent);
        self.stats.answered += 1;
        self.bad_since_good = false;
        self.deadline = self.deadline.map(|at| at.max(sent + self.rule.budget()));
        if self.lengthen_run(index) >= self.rule.rise && !self.stats.up {
            self.deadline = Some(self.newest_answered() + self.rule.budget());
            self.decide(received, received, true, Cause::Answered);
        }
        Answer::Counted
    }

    /// As [`Self::answered`] for protocols whose answers do not say which request they belong to:
    /// the oldest outstanding one, which never overrates the target.
    pub fn answered_any(&mut self, received: Nanos) -> Answer {
        match self.oldest_pending() {
            Some(tag) => self.answered(received, tag),
            None => self.answered_late_any(),
        }
    }

    /// Takes the round-trip time of an answer that [`Self::answered`] counted.
    pub fn measured(&mut self, rtt: Duration) {
        self.rtt.sample(rtt);
    }

    /// When the request with this tag was sent, while it is outstanding.
    pub fn sent_at(&self, tag: u16) -> Option<Nanos> {
        self.pending().find(|request| request.tag == tag).map(|request| request.sent)
    }

    /// The tag of the oldest outstanding request.
    pub fn oldest_pending(&self) -> Option<u16> {
        self.pending().next().map(|request| request.tag)
    }

    /// How many requests are outstanding.
    pub fn outstanding(&self) -> usize {
        self.pending().count()
    }

    /// The request with this tag was refused (an ICMP error, a reset): down at once, and every
    /// other outstanding request is forgotten, so that only later ones count for coming up.
    /// `false` if no such request is outstanding.
    pub fn refused(&mut self, now: Nanos, tag: u16, cause: Cause) -> bool {
        if self.sent_at(tag).is_none() {
            return false;
        }
        self.stats.bad += 1;
        self.forget_all();
        self.fall(now, now, cause);
        true
    }

    /// The request with this tag got an answer that says the target does not work. It counts as
    /// none, and ends a row of answers. `false` if no such request is outstanding.
    pub fn answered_badly(&mut self, tag: u16) -> bool {
        let pending = |r: &&mut Request| r.tag == tag && r.fate == Fate::Pending;
        let Some(request) = self.window.iter_mut().find(pending) else { return false };
        request.fate = Fate::Bad;
        self.stats.bad += 1;
        self.bad_since_good = true;
        true
    }

    /// A packet about this check changed nothing.
    pub fn ignore(&mut self, reason: Ignore) {
        self.stats.ignored.count(reason);
    }

    /// As [`Self::ignore`], for packets that were counted elsewhere.
    pub(crate) fn ignore_all(&mut self, ignored: &Ignored) {
        self.stats.ignored.add(ignored);
    }

    /// An ICMP error quoted one of its requests.
    pub fn saw_error(&mut self, error: ErrorSeen) {
        self.stats.last_error = Some(error);
    }

    /// The carrier is gone: down at once, nothing is due any more.
    pub fn suspend(&mut self, now: Nanos) {
        self.forget_all();
        self.next_send = None;
        self.fall(now, now, Cause::Carrier);
    }

    /// The carrier is back: the first request is due at `start`; `rise` answers are needed.
    pub fn resume(&mut self, start: Nanos, phase: Duration) {
        self.next_send = Some(start);
        self.phase = Some(phase.min(self.rule.interval));
    }

    /// The clock moved. Early and repeated calls do nothing. Nothing else calls silence down, so
    /// whoever calls this has handed in every answer before that was received by now.
    pub fn handle_timeout(&mut self, now: Nanos) {
        if self.held_until.max(self.requests_until).is_some_and(|until| now < until) {
            return;
        }
        (self.held_until, self.requests_until) = (None, None);
        while self.window.front().is_some_and(|oldest| oldest.sent + self.rule.budget() <= now) {
            self.forget_oldest();
        }
        if self.deadline.is_some_and(|at| at <= now) {
            // What was answered before the silence is no part of a row after it.
            self.run_before = 0;
        }
        if let Some(due) = self.verdict_due().filter(|&due| due <= now) {
            let cause = if self.bad_since_good { Cause::BadAnswer } else { Cause::Silent };
            self.fall(now, due, cause);
        }
    }

    /// When to call [`Self::handle_timeout`] or send next. Changes with every call that takes
    /// `&mut self`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        [self.next_send, self.verdict_due()].into_iter().flatten().min()
    }

    /// When silence, or too few answers for too long, will be called down.
    pub fn verdict_due(&self) -> Option<Nanos> {
        Some(self.silence_ends()?.max(self.held_until.unwrap_or_default()))
    }

    /// As [`Self::handle_timeout`], by an owner that may be short of CPU: it is not called silent yet
    /// while its requests are too young for that, because the owner was late, and, for [`HOLD_MAX`]
    /// at most, while `unread` says that answers received by the given time may not have been
    /// handed in.
    pub fn handle_timeout_unless(&mut self, now: Nanos, unread: impl FnOnce(Nanos) -> bool) {
        if let Some(due) = self.silence_ends()
            && self.verdict_due().is_some_and(|due| due <= now)
        {
            self.hold_for_requests(now);
            if self.requests_until.is_none_or(|until| until <= now) && unread(due) {
                self.hold(now, now + HOLD_STEP);
            }
        }
        self.handle_timeout(now);
    }

    /// Puts a verdict off from `now` until `until`, because answers that came in time may lie
    /// unread. For [`HOLD_MAX`] in all at most; later calls do nothing.
    fn hold(&mut self, now: Nanos, until: Nanos) {
        let since = *self.doubted_since.get_or_insert(now);
        if until <= since + HOLD_MAX {
            self.held_until = Some(until);
        }
    }

    /// Puts a verdict off because the requests whose silence it would be about were sent late, or
    /// not at all yet: an owner that got no turn must not pass for a dead target. Requests sent
    /// when they were due are given no more time than the rule's.
    fn hold_for_requests(&mut self, now: Nanos) {
        let patience = self.rule.interval.saturating_mul(self.rule.fall - 1);
        let until = self.asked_since.unwrap_or(now) + patience;
        if self.deadline.is_some_and(|due| due < until) && self.next_send.is_some() {
            self.requests_until = Some(until);
        }
    }

    /// When a verdict is due, if no answer lies unread.
    fn silence_ends(&self) -> Option<Nanos> {
        let due = [self.deadline, self.decide_by].into_iter().flatten().min()?;
        Some(due.max(self.requests_until.unwrap_or_default()))
    }

    /// Takes a verdict; call until `None` after every call that takes `&mut self`.
    #[must_use]
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// The rule it judges by, with what is too small made large enough.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Counters and state.
    pub fn stats(&self) -> CheckStats {
        CheckStats { rtt_last: self.rtt.last(), rtt_ewma: self.rtt.smooth(), ..self.stats }
    }

    fn fall(&mut self, t: Nanos, due: Nanos, cause: Cause) {
        if self.stats.up || !self.stats.known {
            self.decide(t, due, false, cause);
        }
        self.deadline = None;
    }

    fn decide(&mut self, t: Nanos, due: Nanos, up: bool, cause: Cause) {
        self.decide_by = None;
        self.doubted_since = None;
        self.stats = CheckStats { up, known: true, since: due, ..self.stats };
        self.verdicts.push_back(Verdict { t, due, up, cause });
    }

    fn pending(&self) -> impl Iterator<Item = &Request> {
        self.window.iter().filter(|request| request.fate == Fate::Pending)
    }

    fn newest_answered(&self) -> Nanos {
        let answered = self.window.iter().filter(|request| request.fate == Fate::Answered);
        answered.map(|request| request.sent).max().unwrap_or_default()
    }

    /// Joins request `index`, just answered, with the answered ones before and after it; returns
    /// how many in a row that makes.
    fn lengthen_run(&mut self, index: usize) -> u32 {
        let mut run = index.checked_sub(1).map_or(self.run_before, |i| self.window[i].run);
        let row = self.window.range_mut(index..).take_while(|r| r.fate == Fate::Answered);
        for request in row {
            run = run.saturating_add(1);
            request.run = run;
        }
        run
    }

    fn answered_late(&mut self, tag: u16) -> Answer {
        match self.forgotten.iter_mut().find(|slot| **slot == Some(tag)) {
            Some(slot) => {
                *slot = None;
                self.stats.late += 1;
                Answer::Late
            }
            None => Answer::Unknown,
        }
    }

    fn answered_late_any(&mut self) -> Answer {
        match self.forgotten.iter().flatten().next() {
            Some(&tag) => self.answered_late(tag),
            None => Answer::Unknown,
        }
    }

    fn forget_oldest(&mut self) {
        let Some(request) = self.window.pop_front() else { return };
        self.run_before = request.run;
        if request.fate == Fate::Pending {
            self.stats.lost += 1;
            self.forgotten[self.forgotten_next] = Some(request.tag);
            self.forgotten_next = (self.forgotten_next + 1) % FORGOTTEN_MAX;
        }
    }

    fn forget_all(&mut self) {
        while !self.window.is_empty() {
            self.forget_oldest();
        }
        self.run_before = 0;
    }
}

impl Rule {
    /// `interval × fall`: how long silence may last.
    pub fn budget(&self) -> Duration {
        self.interval.saturating_mul(self.fall)
    }

    /// `due`, or if that is not after `now` the first time after it in steps of the interval.
    fn after(&self, now: Nanos, due: Nanos) -> Nanos {
        if due > now {
            return due;
        }
        let behind = u64::try_from(now.since(due).as_nanos()).unwrap_or(u64::MAX);
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        now + Duration::from_nanos(interval - behind % interval)
    }
}

#[derive(Debug)]
struct Request {
    tag: u16,
    sent: Nanos,
    /// Answers in a row up to this one; 0 unless it is answered.
    run: u32,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Pending,
    Answered,
    Bad,
    Late,
}

/// Requests remembered at most. With a larger `fall` the oldest are forgotten early: their
/// answers count as late.
pub const WINDOW_MAX: usize = 1_024;

/// The longest that a verdict is put off because answers may lie unread. Beyond that the router
/// forwards nothing for so long that a site which it takes for dead by mistake is the lesser evil.
pub const HOLD_MAX: Duration = Duration::from_millis(500);

/// How long a held check waits before it is looked at again.
const HOLD_STEP: Duration = Duration::from_micros(500);

/// Requests without an answer in time whose tags are kept, to distinguish late answers from forged ones.
const FORGOTTEN_MAX: usize = 16;

#[cfg(test)]
mod tests;
