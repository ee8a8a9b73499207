//! Checks that call many sites of a service dead at once are doubted for a while.

use super::*;
use crate::liveness::leg::Crowd;

/// Four sites behind one port that all answer, each with a path.
fn crowd(rig: &mut Rig, threshold: u8) -> [PathId; 4] {
    let paths = [0, 1, 2, 3].map(|site| {
        let crowd = Some(Crowd { service: 9, site, threshold });
        let spec = LegSpec { crowd, ..leg(PathId(0), vec![icmp()]) };
        let path = rig.writer.add_path_down(1, ACCEPT_ALL, spec.initial_reasons()).unwrap();
        rig.monitor.add_leg(rig.now, LegSpec { path, ..spec }).unwrap();
        path
    });
    rig.run_ms(100);
    assert!(paths.iter().all(|&path| rig.alive(path)));
    rig.events();
    paths
}

/// Which legs are doubted from when, and which not any more.
fn doubts(rig: &mut Rig) -> (usize, usize) {
    let (mut begun, mut ended) = (0, 0);
    for kind in rig.events() {
        if let MonitorEventKind::Doubted { until, .. } = kind {
            *if until.is_some() { &mut begun } else { &mut ended } += 1;
        }
    }
    (begun, ended)
}

fn alive(rig: &Rig, paths: &[PathId]) -> usize {
    paths.iter().filter(|&&path| rig.alive(path)).count()
}

#[test]
fn checks_that_call_most_sites_dead_at_once_have_to_say_so_twice() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    rig.site.power = Power::Off;
    // 30 ms to fall, and 50 ms more until the others are believed: 3 to fall, and 2 to rise.
    rig.run_ms(60);
    assert_eq!(alive(&rig, &paths), 2, "half of them are believed");
    assert_eq!(doubts(&mut rig), (2, 0));
    rig.run_ms(60);
    assert_eq!(alive(&rig, &paths), 0, "a second burst agrees");
    rig.site.power = Power::On;
    rig.run_ms(20_000);
    assert_eq!(alive(&rig, &paths), 4);
}

#[test]
fn sites_that_answer_again_in_time_were_never_out_of_use() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    rig.site.power = Power::Off;
    rig.run_ms(50);
    assert_eq!(alive(&rig, &paths), 2);
    rig.site.power = Power::On;
    for _ in 0..1000 {
        rig.run_ms(1);
        assert!(alive(&rig, &paths) >= 2);
    }
    assert_eq!(doubts(&mut rig), (2, 2));
    assert_eq!(alive(&rig, &paths), 4);
}

#[test]
fn carrier_is_believed_whatever_the_checks_of_others_say() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    rig.site.power = Power::Off;
    rig.run_ms(50);
    assert_eq!(alive(&rig, &paths), 2);
    rig.carrier(false);
    assert_eq!(alive(&rig, &paths), 0);
    assert_eq!(doubts(&mut rig), (2, 2));
    rig.carrier(true);
    assert_eq!(alive(&rig, &paths), 0, "what its checks said before the carrier was lost is said");
}

/// The first is, of two as of one; at 100 percent all are.
#[test]
fn a_threshold_leaves_the_first_and_a_hundred_all() {
    for (threshold, left) in [(1, 3), (50, 2), (75, 1), (100, 0)] {
        let mut rig = Rig::with_carrier();
        let paths = crowd(&mut rig, threshold);
        rig.site.power = Power::Off;
        rig.run_ms(50);
        assert_eq!(alive(&rig, &paths), left, "{threshold} percent");
    }
}

/// One dies, is back, and dies again, ten times in a second: never more than one is dead.
#[test]
fn sites_that_are_back_do_not_count() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    let key = |site| TcpCheckKey { version: 7, ..tcp_key(paths[site], 0) };
    for turn in 0..12 {
        let site = turn % paths.len();
        let refused = verdict(&rig, false);
        rig.monitor.handle_tcp_verdict(key(site), &refused);
        assert!(!rig.alive(paths[site]), "turn {turn}: it is believed");
        let answered = verdict(&rig, true);
        rig.monitor.handle_tcp_verdict(key(site), &answered);
    }
    assert_eq!(doubts(&mut rig), (0, 0));
}
