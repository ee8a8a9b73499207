//! Which lines are shown, and how.

use super::*;
use crate::event::EventKind;

fn stamp(seq: u64, t_ns: u64) -> Stamp {
    Stamp { seq: Some(seq), t_ns: Some(t_ns), kind: None }
}

fn line(seq: u64, kind: &str) -> String {
    let of = r#""schema":"nearhop.event.v1","node":"r1""#;
    format!("{{{of},\"t_ns\":{},\"seq\":{seq},{kind}}}\n", Nanos::now().0)
}

fn shown(filter: Filter, is_json: bool, chunks: &[&str]) -> String {
    let mut events = Events::new(Vec::new(), filter, is_json);
    for chunk in chunks {
        events.take(chunk.as_bytes()).unwrap();
    }
    String::from_utf8(events.out).unwrap()
}

const ALL: Filter = Filter { from: None, kinds: Vec::new() };

#[test]
fn a_line_for_people_has_a_time_a_kind_and_what_happened() {
    let carrier = line(7, r#""kind":"carrier","port":"fra","up":false"#);
    let (start, end) = carrier.split_at(40);
    let text = shown(ALL, false, &[start, end]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0].len()), (2, "2026-11-23 (UTC)".len()), "{text}");
    let (time, rest) = lines[1].split_once("  ").unwrap();
    assert_eq!(rest, "carrier         port fra: carrier down");
    assert_eq!((time.len(), &time[2..3], &time[8..9]), (12, ":", "."), "{time}");
    assert_eq!(shown(ALL, true, &[start, end]), carrier);
    let newer = line(8, r#""kind":"hue","red":1"#);
    assert_eq!(shown(ALL, false, &[&newer]), newer, "a kind of a newer router");
    assert_eq!(KIND, EventKind::NAMES.map(str::len).into_iter().max().unwrap());
}

#[test]
fn lost_events_are_counted_and_kinds_that_are_not_asked_for_are_no_loss() {
    let filter = || Filter { from: None, kinds: vec!["ready".into()] };
    let lines = [3, 4, 9].map(|seq| line(seq, r#""kind":"ready""#));
    let other = line(5, r#""kind":"carrier","port":"fra","up":true"#);
    let chunks = [&*lines[0], &lines[1], &other, &lines[2]];
    let text = shown(filter(), false, &chunks);
    assert_eq!((text.matches("ready").count() / 2, text.contains("fra")), (3, false), "{text}");
    assert!(text.contains("… 3 events are lost"), "{text}");
    assert_eq!(shown(filter(), true, &chunks), lines.concat());
}

#[test]
fn what_is_forgotten_is_known_by_the_first_event() {
    let of = |from| Filter { from: Some(from), kinds: Vec::new() };
    for (from, first, lacks) in [
        (From::Seq(5), stamp(5, 9), false),
        (From::Seq(5), stamp(6, 9), true),
        (From::Time(5), stamp(0, 9), false),
        (From::Time(5), stamp(1, 9), true),
        (From::Time(5), stamp(1, 5), false),
    ] {
        assert_eq!(of(from).lacks_before(&first), lacks, "{from:?}");
    }
    assert!(of(From::Time(5)).passes(&stamp(1, 5)) && !of(From::Time(5)).passes(&stamp(9, 4)));
    assert!(of(From::Seq(5)).passes(&stamp(5, 0)) && !of(From::Seq(5)).passes(&stamp(4, 9)));
}

#[test]
fn the_time_of_day_is_counted_from_now() {
    let wall = Wall { monotonic: Nanos(5 * SECOND), unix_ns: 100 * SECOND };
    assert_eq!(wall.of(Nanos(4_250_000_000)), Moment { seconds: 99, millis: 250 });
    assert_eq!(wall.of(Nanos(6 * SECOND)), Moment { seconds: 101, millis: 0 });
    assert_eq!(wall.since(90).as_secs(), 10);
    assert_eq!(wall.since(110).as_secs(), 0);
}
