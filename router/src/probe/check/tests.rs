use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn ms(ms: u64) -> Nanos {
    Nanos(ms * MS)
}

fn rule(interval_ms: u64, fall: u32, rise: u32) -> Rule {
    Rule { interval: Duration::from_millis(interval_ms), fall, rise, initial_up: false }
}

/// Whole intervals from zero on.
fn fresh(rule: Rule) -> CheckState {
    CheckState::new(Nanos::ZERO, Nanos::ZERO, rule.interval, rule)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(Nanos, u16),
    Answer(Nanos, u16),
    Bad(Nanos, u16),
    Refuse(Nanos, u16),
    Suspend(Nanos),
    Resume(Nanos),
    Tick(Nanos),
}

use Step::{Answer as Ans, Bad, Refuse, Resume, Send, Suspend, Tick};

impl Step {
    fn at(self) -> Nanos {
        let (Send(t, _) | Ans(t, _) | Bad(t, _) | Refuse(t, _) | Suspend(t) | Resume(t) | Tick(t)) =
            self;
        t
    }
}

const REFUSED: Cause = Cause::Refused { kind: 3, code: 3 };

/// By an owner that is never late: whatever is due by a step is handled before it.
fn play(live: &mut CheckState, steps: &[Step]) -> Vec<(Nanos, bool, Cause)> {
    let mut verdicts = Vec::new();
    for &step in steps {
        live.handle_timeout(step.at());
        match step {
            Send(t, tag) => live.sent(t, tag),
            Ans(t, tag) => drop(live.answered(t, tag)),
            Bad(_, tag) => drop(live.answered_badly(tag)),
            Refuse(t, tag) => drop(live.refused(t, tag, REFUSED)),
            Suspend(t) => live.suspend(t),
            Resume(t) => live.resume(t, live.rule.interval),
            Tick(_) => {}
        }
        while let Some(verdict) = live.poll_verdict() {
            verdicts.push((verdict.t, verdict.up, verdict.cause));
        }
    }
    verdicts
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn verdicts_by_the_nanosecond() {
    let up = |t| (t, true, Cause::Answered);
    let down = |t| (t, false, Cause::Silent);
    let before = |t: Nanos| Nanos(t.0 - 1);
    for (case, rule, steps, want) in [
        (
            "never answered",
            rule(10, 3, 1),
            vec![Tick(Nanos(30 * MS - 1)), Tick(ms(30))],
            vec![down(ms(30))],
        ),
        (
            "one answer is enough",
            rule(10, 3, 1),
            vec![Send(ms(0), 1), Ans(ms(4), 1)],
            vec![up(ms(4))],
        ),
        (
            "not a nanosecond before the budget",
            rule(10, 3, 1),
            vec![Send(ms(0), 1), Ans(ms(4), 1), Tick(before(ms(30))), Tick(ms(30))],
            vec![up(ms(4)), down(ms(30))],
        ),
        (
            "the budget runs from the sending, not from the answer",
            rule(10, 3, 1),
            vec![
                Send(ms(0), 1),
                Send(ms(10), 2),
                Ans(ms(29), 2),
                Tick(before(ms(40))),
                Tick(ms(40)),
            ],
            vec![up(ms(29)), down(ms(40))],
        ),
        (
            "an answer received before the deadline saves it although the timer is handled late",
            rule(10, 3, 1),
            vec![
                Send(ms(0), 1),
                Ans(ms(1), 1),
                Send(ms(10), 2),
                Ans(before(ms(30)), 2),
                Tick(ms(39)),
            ],
            vec![up(ms(1))],
        ),
        (
            "one received when silence was called does not, but counts for coming up again",
            rule(10, 3, 1),
            vec![Send(ms(0), 1), Ans(ms(1), 1), Send(ms(10), 2), Ans(ms(30), 2)],
            vec![up(ms(1)), down(ms(30)), up(ms(30))],
        ),
        (
            "an answer later than its own budget counts for nothing",
            rule(10, 3, 1),
            vec![Send(ms(0), 1), Tick(ms(30)), Ans(ms(30), 1), Ans(ms(31), 1)],
            vec![down(ms(30))],
        ),
        (
            "an older request's answer does not shorten the budget",
            rule(10, 3, 1),
            vec![
                Send(ms(0), 1),
                Send(ms(10), 2),
                Ans(ms(12), 2),
                Ans(ms(13), 1),
                Tick(before(ms(40))),
            ],
            vec![up(ms(12))],
        ),
        (
            "rise wants a row: a hole breaks it",
            rule(10, 5, 3),
            vec![
                Send(ms(0), 1),
                Ans(ms(1), 1),
                Send(ms(10), 2),
                Ans(ms(11), 2),
                Send(ms(20), 3),
                Send(ms(30), 4),
                Ans(ms(31), 4),
                Send(ms(40), 5),
                Ans(ms(41), 5),
                Send(ms(50), 6),
                Ans(ms(51), 6),
            ],
            vec![up(ms(51))],
        ),
        (
            "a reordered answer closes the hole",
            rule(10, 5, 3),
            vec![
                Send(ms(0), 1),
                Send(ms(10), 2),
                Send(ms(20), 3),
                Ans(ms(21), 3),
                Ans(ms(22), 1),
                Ans(ms(23), 2),
            ],
            vec![up(ms(23))],
        ),
        (
            "a duplicate counts once",
            rule(10, 5, 2),
            vec![Send(ms(0), 1), Ans(ms(1), 1), Ans(ms(2), 1), Ans(ms(3), 1)],
            vec![],
        ),
        (
            "a check that answers but never passes rise gets its first result all the same",
            rule(10, 3, 2),
            vec![
                Send(ms(0), 1),
                Ans(ms(1), 1),
                Send(ms(10), 2),
                Send(ms(20), 3),
                Ans(ms(21), 3),
                Send(ms(30), 4),
                Send(ms(40), 5),
                Ans(ms(41), 5),
                Tick(before(ms(50))),
                Tick(ms(50)),
            ],
            vec![down(ms(50))],
        ),
        (
            "a refusal is down at once and wipes the slate",
            rule(10, 3, 1),
            vec![
                Send(ms(0), 1),
                Ans(ms(1), 1),
                Send(ms(10), 2),
                Send(ms(20), 3),
                Refuse(ms(21), 3),
                Ans(ms(22), 2),
                Refuse(ms(23), 2),
                Send(ms(30), 4),
                Ans(ms(31), 4),
            ],
            vec![up(ms(1)), (ms(21), false, REFUSED), up(ms(31))],
        ),
        (
            "a refusal of nothing outstanding is no news",
            rule(10, 3, 1),
            vec![Send(ms(0), 1), Ans(ms(1), 1), Refuse(ms(2), 1), Refuse(ms(2), 9)],
            vec![up(ms(1))],
        ),
        (
            "a refusal is a first result",
            rule(10, 3, 1),
            vec![Send(ms(0), 1), Refuse(ms(1), 1), Tick(ms(99))],
            vec![(ms(1), false, REFUSED)],
        ),
        (
            "bad answers are silence, and named",
            rule(10, 3, 1),
            vec![
                Send(ms(0), 1),
                Ans(ms(1), 1),
                Send(ms(10), 2),
                Bad(ms(11), 2),
                Ans(ms(12), 2),
                Tick(ms(30)),
            ],
            vec![up(ms(1)), (ms(30), false, Cause::BadAnswer)],
        ),
        (
            "carrier lost is down at once, and back it needs answers",
            rule(10, 3, 2),
            vec![
                Send(ms(0), 1),
                Ans(ms(1), 1),
                Send(ms(10), 2),
                Ans(ms(11), 2),
                Send(ms(20), 3),
                Suspend(ms(21)),
                Ans(ms(22), 3),
                Tick(ms(500)),
                Resume(ms(500)),
                Send(ms(500), 4),
                Ans(ms(501), 4),
                Send(ms(510), 5),
                Ans(ms(511), 5),
            ],
            vec![up(ms(11)), (ms(21), false, Cause::Carrier), up(ms(511))],
        ),
        (
            "answers from before a silence are no part of the row after it",
            rule(10, 2, 2),
            vec![
                Send(ms(0), 1),
                Ans(ms(1), 1),
                Send(ms(10), 2),
                Ans(ms(11), 2),
                Tick(ms(30)),
                Send(ms(40), 3),
                Ans(ms(41), 3),
                Send(ms(50), 4),
                Ans(ms(51), 4),
            ],
            vec![up(ms(11)), down(ms(30)), up(ms(51))],
        ),
    ] {
        assert_eq!(play(&mut fresh(rule), &steps), want, "{case}");
    }
}

#[test]
fn configured_up_is_a_verdict_that_silence_takes_back() {
    let mut live = fresh(Rule { initial_up: true, ..rule(10, 3, 2) });
    let verdicts = play(&mut live, &[Tick(ms(29)), Tick(ms(30))]);
    assert_eq!(verdicts, [(Nanos::ZERO, true, Cause::Initial), (ms(30), false, Cause::Silent)]);
}

#[test]
fn a_verdict_noticed_late_says_when_it_was_due() {
    let mut live = fresh(rule(10, 3, 1));
    live.handle_timeout(ms(37));
    let verdict = live.poll_verdict().unwrap();
    assert_eq!((verdict.t, verdict.due), (ms(37), ms(30)));
    assert_eq!(live.stats().since, ms(30));
}

/// The thread that receives was late, and so was the one that judges.
#[test]
fn an_answer_wins_over_a_deadline_that_nobody_judged() {
    let mut live = fresh(rule(10, 3, 1));
    for (sent, tag) in [(0, 1), (10, 2), (20, 3), (30, 4)] {
        live.sent(ms(sent), tag);
    }
    assert_eq!(live.answered(ms(1), 1), Answer::Counted);
    assert_eq!(live.poll_verdict().map(|verdict| verdict.up), Some(true));
    // Read at 45 ms, each after the deadline that it moves, and the first after its own.
    for tag in [2, 3, 4] {
        assert_eq!(live.answered(ms(45), tag), Answer::Counted, "{tag}");
    }
    live.handle_timeout(ms(46));
    assert_eq!((live.poll_verdict(), live.verdict_due()), (None, Some(ms(60))));
    live.handle_timeout(ms(60));
    assert_eq!(live.poll_verdict().map(|verdict| verdict.up), Some(false));
}

#[test]
fn an_answer_later_than_its_own_time_brings_nobody_up() {
    let mut live = fresh(rule(10, 3, 1));
    live.sent(ms(0), 1);
    live.sent(ms(10), 2);
    assert_eq!(live.answered(ms(30), 1), Answer::Late);
    assert_eq!((live.stats().late, live.stats().lost), (1, 1));
    assert_eq!(live.poll_verdict(), None);
    assert_eq!(live.answered(ms(39), 2), Answer::Counted);
    assert_eq!(live.poll_verdict().map(|verdict| verdict.up), Some(true));
}

#[test]
fn a_verdict_is_held_from_the_first_doubt_on_and_no_longer_than_that() {
    let mut live = fresh(rule(10, 3, 1));
    live.sent(ms(0), 1);
    live.answered(ms(1), 1);
    live.sent(ms(10), 2);
    assert!(live.poll_verdict().is_some());
    // The whole machine stood still for a second.
    let mut now = ms(1_000);
    let end = now + HOLD_MAX;
    while now < end {
        now += Duration::from_millis(1);
        live.hold(now, now + Duration::from_millis(1));
        live.handle_timeout(now);
        assert_eq!(live.poll_verdict(), None, "{now}");
        if now.0 / MS == 1_100 {
            // An answer ends the doubt; the next is a new one.
            assert_eq!(live.answered(now, 2), Answer::Counted);
            break;
        }
    }
    let again = now + Duration::from_millis(1);
    let mut held = Duration::ZERO;
    while live.poll_verdict().is_none() {
        now += Duration::from_millis(1);
        live.hold(now, now + Duration::from_millis(1));
        live.handle_timeout(now);
        held = now.since(again);
    }
    assert_eq!(held, HOLD_MAX);
}

#[test]
fn requests_keep_their_grid_and_missed_ones_are_left_out() {
    let mut live = CheckState::new(ms(0), ms(1), Duration::from_millis(4), rule(10, 100, 1));
    let mut sent = Vec::new();
    for now in [1, 5, 15, 58, 65, 75] {
        assert!(live.send_due(ms(now)), "{now} ms");
        live.sent(ms(now), now as u16);
        sent.push(live.poll_timeout().unwrap().0 / MS);
    }
    assert_eq!(sent, [5, 15, 25, 65, 75, 85]);
}

#[test]
fn counters_say_lost_late_and_duplicate_apart() {
    let mut live = fresh(rule(10, 2, 1));
    play(
        &mut live,
        &[
            Send(ms(0), 1),
            Ans(ms(1), 1),
            Ans(ms(2), 1), // answered, duplicate
            Send(ms(10), 2),
            Send(ms(20), 3),
            Tick(ms(30)),
            Ans(ms(31), 2),
            Ans(ms(32), 2), // late once
            Refuse(ms(33), 3),
        ],
    );
    let stats = live.stats();
    assert_eq!(
        (stats.sent, stats.answered, stats.lost, stats.late, stats.duplicate, stats.bad),
        (3, 1, 2, 1, 1, 1)
    );
    assert_eq!(live.answered(ms(34), 77), Answer::Unknown);
}

#[test]
fn rules_too_small_to_work_are_made_large_enough() {
    let live = fresh(Rule { interval: Duration::ZERO, fall: 1, rise: 0, initial_up: false });
    let rule = live.rule();
    assert_eq!((rule.interval, rule.fall, rule.rise), (Duration::from_nanos(1), 2, 1));
}

/// The rules again, slowly: the whole history is kept and everything is computed from it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "the obvious model")]
struct Model {
    rule: Rule,
    requests: Vec<Sent>,
    started: Nanos,
    up: bool,
    known: bool,
    bad: bool,
    /// Requests before this one are no part of a row any more.
    row_from: usize,
    suspended: bool,
}

#[derive(Debug)]
struct Sent {
    at: Nanos,
    tag: u16,
    answered: bool,
    open: bool,
}

impl Model {
    fn deadline(&self) -> Option<Nanos> {
        if self.suspended || (self.known && !self.up) {
            return None;
        }
        let answered = self.requests[self.row_from..].iter().filter(|r| r.answered);
        let last = answered.map(|r| r.at).max().unwrap_or(self.started);
        let silent = last + self.rule.budget();
        let decide = self.started + self.rule.interval * (self.rule.fall + self.rule.rise);
        Some(if self.known { silent } else { silent.min(decide) })
    }

    fn advance(&mut self, now: Nanos, out: &mut Vec<(Nanos, bool, Cause)>) {
        let expired = |r: &Sent| r.at + self.rule.budget() <= now;
        let answered = self.requests[self.row_from..].iter().filter(|r| r.answered);
        let last = answered.map(|r| r.at).max().unwrap_or(self.started);
        if self.deadline().is_some_and(|due| due <= now) {
            out.push((now, false, if self.bad { Cause::BadAnswer } else { Cause::Silent }));
            (self.up, self.known) = (false, true);
            if last + self.rule.budget() <= now {
                self.row_from = self.requests.iter().take_while(|r| expired(r)).count();
            }
        }
        let budget = self.rule.budget();
        self.requests.iter_mut().for_each(|r| r.open &= r.at + budget > now);
    }

    fn wipe(&mut self) {
        self.requests.iter_mut().for_each(|r| r.open = false);
        self.row_from = self.requests.len();
    }

    fn down(&mut self, t: Nanos, cause: Cause, out: &mut Vec<(Nanos, bool, Cause)>) {
        if self.up || !self.known {
            out.push((t, false, cause));
        }
        (self.up, self.known) = (false, true);
    }

    fn answer(&mut self, t: Nanos, tag: u16, out: &mut Vec<(Nanos, bool, Cause)>) {
        let Some(index) = self.requests.iter().position(|r| r.tag == tag && r.open) else { return };
        (self.requests[index].open, self.requests[index].answered) = (false, true);
        self.bad = false;
        let rows = self.requests[self.row_from..].split(|r| !r.answered);
        // Only the row that the answer is in can have grown to `rise`.
        let row = rows.filter(|row| row.iter().any(|r| r.tag == tag)).map(<[Sent]>::len).max();
        if !self.up && row.unwrap_or(0) >= self.rule.rise as usize {
            (self.up, self.known) = (true, true);
            out.push((t, true, Cause::Answered));
        }
    }

    fn step(&mut self, step: Step, out: &mut Vec<(Nanos, bool, Cause)>) {
        self.advance(step.at(), out);
        let open = |model: &Self, tag| model.requests.iter().position(|r| r.tag == tag && r.open);
        match step {
            Send(at, tag) => self.requests.push(Sent { at, tag, answered: false, open: true }),
            Ans(t, tag) => self.answer(t, tag, out),
            Bad(_, tag) => {
                if let Some(index) = open(self, tag) {
                    self.requests[index].open = false;
                    self.bad = true;
                }
            }
            Refuse(t, tag) => {
                if open(self, tag).is_some() {
                    self.wipe();
                    self.down(t, REFUSED, out);
                }
            }
            Suspend(t) => {
                self.wipe();
                self.down(t, Cause::Carrier, out);
                self.suspended = true;
            }
            Resume(_) => self.suspended = false,
            Tick(_) => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Send,
    /// Of the request so many back.
    Answer(u16),
    Bad(u16),
    Refuse(u16),
    Suspend,
    Resume,
    Tick,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => Just(Act::Send),
        10 => (0..6_u16).prop_map(Act::Answer),
        1 => (0..6_u16).prop_map(Act::Bad),
        1 => (0..6_u16).prop_map(Act::Refuse),
        1 => Just(Act::Suspend),
        2 => Just(Act::Resume),
        2 => Just(Act::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn agrees_with_a_model_that_keeps_all_history(
        acts in proptest::collection::vec((0..13_u64, act()), 1..120),
        fall in 2..5_u32,
        rise in 1..5_u32,
        initial_up in any::<bool>(),
    ) {
        // Sends are spaced as the machine itself would space them, so that its window holds them.
        let rule = Rule { interval: Duration::from_nanos(10), fall, rise, initial_up };
        let mut live = fresh(rule);
        let mut model = Model {
            rule, requests: vec![], started: Nanos::ZERO, up: initial_up, known: initial_up,
            bad: false, row_from: 0, suspended: false,
        };
        let mut want = Vec::new();
        if initial_up {
            want.push((Nanos::ZERO, true, Cause::Initial));
        }
        let (mut now, mut tag, mut got, mut suspended) = (Nanos::ZERO, 0_u16, Vec::new(), false);
        for (wait, act) in acts {
            now += Duration::from_nanos(wait);
            let step = match act {
                Act::Send if live.send_due(now) => { tag += 1; Send(now, tag) }
                Act::Answer(back) => Ans(now, tag.wrapping_sub(back)),
                Act::Bad(back) => Bad(now, tag.wrapping_sub(back)),
                Act::Refuse(back) => Refuse(now, tag.wrapping_sub(back)),
                Act::Suspend => { suspended = true; Suspend(now) }
                Act::Resume if suspended => { suspended = false; Resume(now) }
                Act::Send | Act::Tick | Act::Resume => Tick(now),
            };
            got.extend(play(&mut live, &[step]));
            model.step(step, &mut want);
            prop_assert_eq!(&got, &want, "after {:?}", step);
            prop_assert_eq!(live.stats().up, model.up);
        }
    }
}
