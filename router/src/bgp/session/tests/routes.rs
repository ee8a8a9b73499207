//! What is announced, when, and what a refresh does.

use super::*;
use crate::bgp::{NextHop, RouteRefresh, Update, decode_update};

pub(super) fn nlri(number: u32) -> Nlri {
    let addr = Ipv4Addr::from(0x0a00_0000 | number << 8);
    Nlri::new(nearhop_fib::IpPrefix::new(addr.into(), 24).unwrap())
}

pub(super) fn route(med: u32) -> Arc<Attributes> {
    let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
    let as_path = crate::bgp::AsPath::sequence(&[OWN_AS]);
    Arc::new(Attributes { as_path, med: Some(med), ..Attributes::originated(next_hop) })
}

/// What a neighbour makes of it.
pub(super) fn updates_of(bytes: &[u8], context: &UpdateContext) -> Vec<Update> {
    let read = |frame: Frame<'_>| {
        let update = decode_update(frame.body(), context, &mut AttributeStore::default());
        update.expect("a good UPDATE")
    };
    let updates = frames(bytes).into_iter().filter(|frame| frame.kind == FrameKind::Update);
    updates.map(read).collect()
}

fn said(bench: &mut Bench) -> Vec<Update> {
    let remote = crate::bgp::negotiate(&remote_config(), false, &own_open(&config(), false));
    let context = remote.unwrap().update_context(&remote_config());
    let bytes = bench.session.transmit(bench.now, Side::Outgoing).to_vec();
    bench.session.handle_sent(bench.now, Side::Outgoing, bytes.len());
    updates_of(&bytes, &context)
}

#[test]
fn routes_are_taken_only_while_they_can_be_exchanged() {
    for state in [State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm] {
        let mut bench = Bench::reach(state);
        assert_eq!(bench.session.announce(nlri(1), &route(1)), Err(NotExchanged));
        assert_eq!(bench.session.withdraw(nlri(1)), Err(NotExchanged));
        assert_eq!(bench.session.end_of_rib(Family::Ipv4), Err(NotExchanged));
    }
    let mut bench = Bench::reach(State::OpenSent);
    let mut only_ipv6 = remote_config();
    only_ipv6.families = PerFamily::only(Family::Ipv6);
    bench.hear(Side::Outgoing, &bytes_of(&own_open(&only_ipv6, false)));
    bench.hear(Side::Outgoing, &keepalive());
    assert_eq!(bench.session.announce(nlri(1), &route(1)), Err(NotExchanged));
    assert_eq!(bench.session.end_of_rib(Family::Ipv6), Ok(()));
}

#[test]
fn what_was_not_sent_goes_with_the_session() {
    let mut bench = Bench::reach(State::Established);
    bench.session.announce(nlri(1), &route(1)).unwrap();
    bench.session.handle_closed(bench.now, Side::Outgoing);
    assert_eq!(bench.session.unsent(), 0);
}

#[test]
fn announcements_wait_for_the_interval_and_withdrawals_do_not() {
    let mut bench = Bench::reach(State::Established);
    bench.session.config.min_route_advertisement = Duration::from_secs(30);
    bench.session.announce(nlri(1), &route(0)).unwrap();
    assert_eq!(said(&mut bench).len(), 1, "the first goes at once");
    let begin = bench.now;
    // 20 changes a second for ten minutes.
    let (mut announced, mut withdrawn) = (0, 0);
    for step in 1..=20 * 600 {
        bench.session.announce(nlri(1), &route(step)).unwrap();
        bench.pass(Duration::from_millis(50));
        bench.hear(Side::Outgoing, &keepalive());
        for update in said(&mut bench) {
            announced += update.announced.len();
            withdrawn += update.withdrawn.len();
            let newest = update.announced[0].attributes.med;
            assert_eq!(newest, Some(step), "the newest, not what was");
        }
    }
    let passed = bench.now.since(begin).as_secs() as usize;
    assert!((passed / 30 - 1..=passed * 4 / 90 + 1).contains(&announced), "{announced}");
    assert_eq!(withdrawn, 0);
    bench.session.withdraw(nlri(1)).unwrap();
    let updates = said(&mut bench);
    assert_eq!((updates.len(), updates[0].withdrawn.len()), (1, 1), "at once");
}

#[test]
fn what_waits_for_the_interval_has_a_timer() {
    let mut bench = Bench::reach(State::Established);
    bench.session.config.min_route_advertisement = Duration::from_secs(4);
    bench.session.announce(nlri(1), &route(0)).unwrap();
    said(&mut bench);
    let begin = bench.now;
    bench.session.announce(nlri(1), &route(1)).unwrap();
    assert!(said(&mut bench).is_empty());
    assert!(bench.next_timer());
    assert!(bench.now.since(begin) <= Duration::from_secs(4));
    assert!(bench.now.since(begin) >= Duration::from_secs(3));
    assert_eq!(said(&mut bench).len(), 1);
}

fn hear_refresh(bench: &mut Bench, family: Family, kind: RefreshKind) {
    let mut bytes = Vec::new();
    RouteRefresh::of(family, kind).put(&mut bytes);
    bench.hear(Side::Outgoing, &bytes);
}

#[test]
fn a_refresh_goes_both_ways_with_its_marks() {
    let mut bench = Bench::reach(State::Established);
    hear_refresh(&mut bench, Family::Ipv4, RefreshKind::Request);
    assert_eq!(bench.events, [Event::RefreshRequested(Family::Ipv4)]);
    bench.session.begin_refresh(Family::Ipv4).unwrap();
    bench.session.announce(nlri(1), &route(1)).unwrap();
    bench.session.end_refresh(Family::Ipv4).unwrap();
    let bytes = bench.session.transmit(bench.now, Side::Outgoing).to_vec();
    let kinds = kinds(&bytes);
    assert_eq!(kinds, [FrameKind::RouteRefresh, FrameKind::Update, FrameKind::RouteRefresh]);
    let subtypes: Vec<u8> = frames(&bytes).iter().map(|frame| frame.body()[2]).collect();
    assert_eq!((subtypes[0], subtypes[2]), (1, 2));
    bench.session.handle_sent(bench.now, Side::Outgoing, bytes.len());

    assert_eq!(bench.session.request_refresh(Family::Ipv6), Ok(true));
    assert_eq!(bench.said(Side::Outgoing), [FrameKind::RouteRefresh]);
    hear_refresh(&mut bench, Family::Ipv6, RefreshKind::Begin);
    hear_refresh(&mut bench, Family::Ipv6, RefreshKind::End);
    let expected = [Received::RefreshBegin(Family::Ipv6), Received::RefreshEnd(Family::Ipv6)];
    assert_eq!(bench.received, expected);
}

#[test]
fn a_refresh_that_was_not_agreed_on_is_ignored() {
    let mut bench = Bench::reach(State::OpenSent);
    let mut plain = remote_open();
    plain.capabilities.retain(|one| !matches!(one.code(), 2 | 70));
    bench.hear(Side::Outgoing, &bytes_of(&plain));
    bench.hear(Side::Outgoing, &keepalive());
    bench.said(Side::Outgoing);
    hear_refresh(&mut bench, Family::Ipv4, RefreshKind::Begin);
    hear_refresh(&mut bench, Family::Ipv4, RefreshKind::Other(9));
    assert_eq!(bench.received, []);
    assert_eq!(bench.session.request_refresh(Family::Ipv4), Ok(false));
    bench.session.begin_refresh(Family::Ipv4).unwrap();
    assert_eq!(bench.said(Side::Outgoing), []);
    let mut other = Vec::new();
    RouteRefresh { afi: 25, safi: 70, kind: RefreshKind::Request }.put(&mut other);
    bench.hear(Side::Outgoing, &other);
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn a_mark_of_a_wrong_length_is_answered_as_rfc_7313_5_says() {
    let mut bench = Bench::reach(State::Established);
    let mut bytes = Vec::new();
    RouteRefresh::of(Family::Ipv4, RefreshKind::Begin).put(&mut bytes);
    bytes[17] += 1;
    bytes.push(0);
    bench.hear(Side::Outgoing, &bytes);
    let words = bench.last_words().map(|(_, said)| said);
    assert_eq!(words, Some(Notification::with(codes::BAD_REFRESH_LENGTH, bytes)));
}

#[test]
fn a_route_that_fits_into_no_message_is_reported_and_withdrawn() {
    let mut bench = Bench::reach(State::OpenSent);
    let mut short = remote_config();
    short.extended_message = false;
    bench.hear(Side::Outgoing, &bytes_of(&own_open(&short, false)));
    bench.hear(Side::Outgoing, &keepalive());
    bench.said(Side::Outgoing);
    bench.events.clear();
    let path: Vec<u32> = (1..=1100).collect();
    let as_path = crate::bgp::AsPath::sequence(&path);
    let long = Arc::new(Attributes { as_path, ..Attributes::clone(&route(0)) });
    bench.session.announce(nlri(1), &long).unwrap();
    assert_eq!(said(&mut bench)[0].withdrawn, [nlri(1)]);
    bench.poll();
    let is_it = |event: &Event| matches!(event, Event::NotAnnounced { nlri: list, .. } if *list == [nlri(1)]);
    assert!(bench.events.iter().any(is_it), "{:?}", bench.events);
}
