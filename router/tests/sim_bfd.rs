//! BFD between simulated routers that are BGP neighbours: what is lost without a word is noticed within the
//! detection time, and what is forged costs nothing.
//!
//! ```text
//! client ── r1 ──── r2 ── near     r1 has no sites; r2 and r3 announce theirs to it
//!            └───── r3 ── far
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // it is all for tests

mod sim_support;

use std::time::Duration;

use nearhop::bfd::machine::{PORT, PORT_MULTIHOP};
use nearhop::bfd::packet::{Control, State as BfdState};
use nearhop::event::EventKind;
use nearhop::liveness::bfd::{BfdReport, BfdView};
use nearhop::packet::build::Datagram;
use nearhop::port::memory::LinkState;
use nearhop::sim::{Action, Draft, RouterThread};
use nearhop::time::Nanos;
use nearhop::verdict::Verdict;
use nearhop_fib::Reason;
use sim_support::star::{
    DELAY, OTHERS, R1, R2, R3, Star, first, other, other_with_ports, with_ports_of_r1,
};

impl Star {
    /// Every session stands, and r1 sends packets to r2. The keys are those of the neighbours r2 and r1.
    fn new(seed: u64, [of_r1, of_r2]: [&str; 2]) -> Self {
        let others = [other(R2, "near", of_r2), other(R3, "far", "")];
        let mut lab = Self::join(seed, &first([of_r1, ""]), others);
        lab.serve(Duration::from_secs(8), EVERY);
        lab
    }

    /// The session at a router.
    fn bfd(&self, node: usize) -> BfdReport {
        let reports = self.net.node(node).bfd().reports();
        let [report] = &reports[..] else { panic!("one session: {reports:?}") };
        report.clone()
    }

    /// r1's events since a time: when BFD went down, and when BGP did.
    fn downs(&self, since: Nanos) -> (Option<Nanos>, Option<Nanos>) {
        let mut downs = (None, None);
        for event in self.net.events().iter().filter(|one| one.node == R1 && one.t >= since) {
            match &event.kind {
                EventKind::Bfd { up: false, stored_ns, .. } => {
                    downs.0 = downs.0.or(Some(Nanos(*stored_ns)));
                }
                EventKind::Bgp { neighbor, up: false, .. } if neighbor == "r2" => {
                    downs.1 = downs.1.or(Some(event.t));
                }
                _ => {}
            }
        }
        downs
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.net.now() + Duration::from_mins(1);
        while !done(self) {
            assert!(self.net.now() < end, "{what}: {:?}", self.net.events());
            self.run(Duration::from_millis(100));
        }
    }
}

/// The hold time is three seconds; BFD needs 30 ms, and the session and its routes go with it.
#[test]
fn a_silent_link_is_noticed_within_the_detection_time_and_packets_move_at_once() {
    let mut lab = Star::new(1, [FAST, FAST]);
    let session = lab.bfd(R1);
    assert_eq!((session.state, session.view), (BfdState::Up, BfdView::Up));
    assert_eq!(session.detection_time, Duration::from_millis(30));
    for _ in 0..3 {
        let cut = lab.net.now();
        lab.act(Action::Link { link: lab.near, state: LinkState::Silent });
        lab.run(Duration::from_millis(100));
        let (bfd, bgp) = lab.downs(cut);
        let (bfd, bgp) = (bfd.unwrap(), bgp.expect("BGP is told"));
        assert!(bfd.since(cut) <= Duration::from_millis(31), "{:?}", bfd.since(cut));
        assert!(bfd <= bgp, "the byte comes first");
        // Of packets that were sent since the byte was stored none is lost.
        let later = bfd + Duration::from_millis(1);
        assert_eq!(lab.sites(), ["far", "far"]);
        for flow in &lab.flows {
            assert_eq!(lab.net.flow(*flow).lost(later, lab.net.now() - DELAY * 8), 0);
        }
        assert_eq!(lab.bfd(R1).view, BfdView::Failed);
        let last =
            lab.net.node(R1).control().bgp_neighbors().find(|(_, one)| one.config.name == "r2");
        let why = last.unwrap().1.last_error.clone().unwrap();
        assert!(why.contains("BFD down"), "{why}");

        lab.act(Action::Link { link: lab.near, state: LinkState::Up });
        lab.until("back again", |lab| lab.stands(R2) && lab.sites() == ["near", "near"]);
        assert_eq!(lab.bfd(R1).view, BfdView::Up);
        lab.run(Duration::from_secs(2));
    }
}

/// RFC 5882, section 3.2: r2's operator takes BFD away. Nothing but BFD ends.
#[test]
fn what_an_operator_of_the_neighbor_ends_is_no_failure() {
    let mut lab = Star::new(2, [FAST, FAST]);
    let since = lab.net.now();
    let without = other(R2, "near", "").config().unwrap();
    lab.act(Action::Reload { node: R2, config: Box::new(without) });
    lab.run(Duration::from_secs(10));
    assert!(lab.net.node(R2).bfd().reports().is_empty(), "it has said so, and is gone");
    let session = lab.bfd(R1);
    assert_eq!((session.state, session.view), (BfdState::Down, BfdView::Unknown));
    assert_eq!(lab.downs(since).1, None, "no BGP session ends");
    assert!(lab.stands(R2) && lab.sites() == ["near", "near"]);
    // With it again it is up again; other timers do not interrupt it.
    for bfd in [FAST, SLOW] {
        let with = other(R2, "near", bfd).config().unwrap();
        lab.act(Action::Reload { node: R2, config: Box::new(with) });
        lab.until("up", |lab| lab.bfd(R1).view == BfdView::Up);
        lab.run(Duration::from_secs(3));
    }
    assert_eq!(lab.bfd(R1).detection_time, Duration::from_millis(200), "r2 sends each 50 ms");
    assert_eq!(lab.downs(since).1, None);
}

/// A neighbour without BFD is used as if there were none.
#[test]
fn a_neighbor_that_speaks_no_bfd_is_used_all_the_same() {
    let mut lab = Star::new(3, [FAST, ""]);
    lab.run(Duration::from_secs(5));
    let session = lab.bfd(R1);
    assert_eq!((session.state, session.view), (BfdState::Down, BfdView::Unknown));
    assert!(lab.stands(R2) && lab.sites() == ["near", "near"]);
    let dropped = lab.net.node(R2).counters().of(Verdict::BfdNoSession);
    assert!(dropped > 5, "r2 counts what it has no session for: {dropped}");
    // BGP's own timer decides.
    let cut = lab.net.now();
    lab.act(Action::Link { link: lab.near, state: LinkState::Silent });
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.downs(cut), (None, None));
    lab.until("the hold time is over", |lab| lab.sites() == ["far", "far"]);
}

/// What the neighbour said once is no proof of it now.
#[test]
fn authenticated_sessions_need_the_same_key() {
    let [keyed, other_key] = ["secret", "another"].map(|key| {
        format!(
            "bfd = {{ interval = \"10ms\", auth = {{ type = \"meticulous-keyed-sha1\", key-id = 1, key = \"{key}\" }} }}\n"
        )
    });
    let lab = Star::new(4, [&keyed, &keyed]);
    assert_eq!(lab.bfd(R1).view, BfdView::Up);
    let lab = Star::new(4, [&keyed, &other_key]);
    assert_eq!(lab.bfd(R1).state, BfdState::Down);
    assert!(lab.net.node(R1).bfd().dropped().get("auth-hash").is_some_and(|count| *count > 3));
}

/// Forged packets end in the worker, each kind in a counter of its own. Of those that could be a neighbour's that
/// has begun again, a few come further; what they say counts only without authentication.
#[test]
fn forged_packets_are_counted_and_cost_the_liveness_engine_nothing() {
    let mut lab = Star::new(5, [KEYED, KEYED]);
    let since = lab.net.now();
    let own = lab.bfd(R1).discriminators[0];
    let good = Forged { from: "10.12.0.2", port: "r2", to: PORT, ttl: 255, named: own ^ 1 };
    let kinds = [
        (Forged { ttl: 254, ..good }, Verdict::BfdTtl),
        (Forged { from: "10.12.0.3", ..good }, Verdict::BfdNoSession),
        (Forged { to: PORT_MULTIHOP, ..good }, Verdict::BfdNoSession),
        // Right in all but its link.
        (Forged { port: "r3", named: own, ..good }, Verdict::BfdNoSession),
        (good, Verdict::BfdDiscriminator),
        (Forged { named: 0, ..good }, Verdict::BfdPoliced),
    ];
    let before = kinds.map(|(_, verdict)| lab.net.node(R1).counters().of(verdict));
    let taken = lab.net.node(R1).bfd().received();
    let mut sent = 0;
    for _ in 0..FLOOD / 1000 {
        for (forged, _) in &kinds {
            let device = lab.net.node(R1).device(forged.port).unwrap();
            let packet = forged.packet();
            for _ in 0..200 {
                device.inject(&packet).unwrap();
                sent += 1;
            }
        }
        lab.run(Duration::from_millis(10));
    }
    lab.run(Duration::from_millis(10));
    let long = lab.net.now().since(since);
    let counted = |index: usize| lab.net.node(R1).counters().of(kinds[index].1) - before[index];
    let each = sent / kinds.len() as u64;
    assert_eq!((counted(0), counted(1), counted(4)), (each, 3 * each, each));
    let policed = counted(5);
    assert!(policed >= each - 20, "but a few: {policed} of {each}");
    // What came besides is r2's own: one each 7.5 ms at most.
    let own = long.as_micros() as u64 / 7_500 + 2;
    let taken = lab.net.node(R1).bfd().received() - taken;
    assert!(taken <= own + each - policed, "{taken} packets in {long:?}");
    assert_eq!(lab.downs(since), (None, None), "nothing went down");
    assert!(lab.stands(R2) && lab.bfd(R1).view == BfdView::Up);
}

/// Who hears the link knows the session's number, and not its key.
#[test]
fn packets_without_the_key_are_discarded_and_counted() {
    let mut lab = Star::new(6, [KEYED, KEYED]);
    let before = lab.bfd(R1);
    let named = before.discriminators[0];
    let forged = Forged { from: "10.12.0.2", port: "r2", to: PORT, ttl: 255, named };
    for _ in 0..60 {
        lab.net.node(R1).device("r2").unwrap().inject(&forged.packet()).unwrap();
    }
    lab.run(Duration::from_millis(100));
    let after = lab.bfd(R1);
    assert_eq!(after.stats.discarded - before.stats.discarded, 60);
    assert_eq!(lab.net.node(R1).bfd().dropped()["auth-missing"], 60);
    assert_eq!(after.view, BfdView::Up);
}

/// r2 and r3 are sites to r1, and next hops; r2 is watched as both.
fn three_routers() -> Star {
    let mut r1 = with_ports_of_r1(Draft::new("r1"));
    let hosts = "bfd = { interval = \"10ms\", target = [\"10.12.0.2\", \"fd00:12::2\"] }\n";
    r1.site("near", "r2", 10, hosts).site("far", "r3", 20, "");
    // The same session for both.
    r1.watched_route("203.0.113.0/24", &["10.12.0.2", "10.13.0.2"], FAST);
    let others = OTHERS.map(|(node, site)| {
        let number = node + 1;
        let mut draft = other_with_ports(node, site);
        draft.watched_route("10.0.0.0/24", &[&format!("10.1{number}.0.1")], FAST);
        draft.watched_route("fd00::/64", &[&format!("fd00:1{number}::1")], FAST);
        draft.site(site, site, 10, "");
        draft
    });
    let mut lab = Star::join(8, &r1, others);
    lab.serve(Duration::from_secs(5), EVERY);
    lab
}

/// A site whose host is watched, and a static next hop: r2 is both to r1, and r1 to r2.
#[test]
fn a_site_and_a_next_hop_are_left_when_bfd_loses_their_host() {
    let mut lab = three_routers();
    let reports = lab.net.node(R1).bfd().reports();
    assert_eq!(reports.len(), 3, "r2 in two families, r3 in one: {reports:?}");
    assert!(reports.iter().all(|one| one.view == BfdView::Up), "{reports:?}");
    let of_both = reports.iter().find(|one| one.paths.len() == 2);
    assert!(of_both.is_some_and(|one| one.ends.remote.to_string() == "10.12.0.2"), "{reports:?}");

    let cut = lab.net.now();
    lab.act(Action::Link { link: lab.near, state: LinkState::Silent });
    lab.run(Duration::from_millis(100));
    let legs = lab.net.events().iter().filter(|one| one.node == R1 && one.t >= cut);
    let legs = legs.filter_map(|one| match &one.kind {
        EventKind::Site { site, up, reason, .. } => Some((site.as_str(), *up, reason.as_str())),
        _ => None,
    });
    assert_eq!(legs.collect::<Vec<_>>(), [("near", false, "bfd"); 2]);
    assert_eq!(lab.sites(), ["far", "far"]);
    let later = cut + Duration::from_millis(33);
    for flow in &lab.flows {
        assert_eq!(lab.net.flow(*flow).lost(later, lab.net.now() - DELAY * 8), 0);
    }
    let down = |lab: &Star, node: usize| {
        let reports = lab.net.node(node).bfd().reports();
        let paths = reports.into_iter().filter(|one| one.view == BfdView::Failed);
        let writer = lab.net.node(node).control().writer();
        paths
            .flat_map(|one| one.paths)
            .filter(|&path| writer.path_reasons(path).has(Reason::Bfd))
            .count()
    };
    assert_eq!((down(&lab, R1), down(&lab, R2)), (3, 2), "two legs and a next hop; two next hops");

    lab.act(Action::Link { link: lab.near, state: LinkState::Up });
    lab.until("back again", |lab| lab.sites() == ["near", "near"]);
    assert_eq!((down(&lab, R1), down(&lab, R2)), (0, 0));

    // Without BFD nothing is left of it, also while it says that the host is lost.
    lab.act(Action::Link { link: lab.near, state: LinkState::Silent });
    lab.run(Duration::from_millis(100));
    assert_eq!(lab.sites(), ["far", "far"]);
    let mut without = with_ports_of_r1(Draft::new("r1"));
    without.site("near", "r2", 10, "").site("far", "r3", 20, "");
    lab.act(Action::Link { link: lab.near, state: LinkState::Up });
    lab.act(Action::Reload { node: R1, config: Box::new(without.config().unwrap()) });
    // It flapped, and waits for that alone.
    lab.until("nothing says any more that it is down", |lab| lab.sites() == ["near", "near"]);
    lab.run(Duration::from_secs(5));
    assert!(lab.net.node(R1).bfd().reports().is_empty());
}

/// Nobody who gets no turn takes the neighbour for dead: packets lay unread.
#[test]
fn a_worker_that_gets_no_turn_is_no_silent_neighbor() {
    let mut lab = Star::new(7, [FAST, SLOW]);
    let since = lab.net.now();
    for (part, ms) in [(RouterThread::Worker, 500), (RouterThread::Liveness, 60)] {
        for _ in 0..10 {
            lab.act(Action::Stall { node: R1, part, stalled: true });
            lab.run(Duration::from_millis(ms));
            lab.act(Action::Stall { node: R1, part, stalled: false });
            lab.run(Duration::from_millis(300));
        }
    }
    assert_eq!(lab.downs(since), (None, None));
}

#[derive(Clone, Copy)]
struct Forged {
    from: &'static str,
    port: &'static str,
    to: u16,
    ttl: u8,
    named: u32,
}

impl Forged {
    fn packet(&self) -> Vec<u8> {
        let control = Control {
            state: BfdState::Down,
            multiplier: 3,
            my_discriminator: 99,
            your_discriminator: self.named,
            desired_min_tx_us: 10_000,
            required_min_rx_us: 10_000,
            ..Control::default()
        };
        let mut payload = Vec::new();
        control.write(0, &mut payload);
        let src = format!("{}:49999", self.from).parse().unwrap();
        let dst = format!("10.12.0.1:{}", self.to).parse().unwrap();
        let mut out = vec![0; 200];
        let datagram = Datagram { src, dst, ttl: self.ttl, payload: &payload };
        let len = datagram.write(&mut out).unwrap();
        out.truncate(len);
        out
    }
}

const FAST: &str = "bfd = { interval = \"10ms\" }\n";

const KEYED: &str =
    "bfd = { interval = \"10ms\", auth = { type = \"keyed-sha1\", key-id = 1, key = \"k\" } }\n";

const SLOW: &str = "bfd = { interval = \"50ms\", multiplier = 4 }\n";

/// Between two packets of a flow.
const EVERY: Duration = Duration::from_millis(5);

/// Forged packets in all.
const FLOOD: usize = 50_000;
