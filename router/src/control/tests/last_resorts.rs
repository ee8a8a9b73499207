//! What operators take out of service, and who serves when nobody is up and not drained.

use super::*;

#[test]
fn a_damped_site_serves_while_no_other_does_and_events_say_so() {
    let mut rig = Rig::up(&two_sites(10, 20));
    rig.set("ams", "ams", false);
    rig.damp("ams", "ams");
    assert_eq!((rig.serving(), rig.resort()), (set(&["fra"]), None), "it waits while fra serves");
    rig.set("fra", "fra", false);
    assert_eq!((rig.serving(), rig.resort()), (set(&["ams"]), Some(Resort::Damped)));
    assert_eq!(
        rig.selects(),
        [
            moved("ams", "fra", MoveCause::MemberDied, "ams"),
            moved("fra", "ams", MoveCause::MemberDied, "fra"),
        ]
    );
    rig.set("fra", "fra", true);
    assert_eq!((rig.serving(), rig.resort()), (set(&["fra"]), None));
}

#[test]
fn what_covers_a_service_serves_before_its_drained_sites() {
    let cover = "[[route]]\nprefix = \"198.51.100.0/24\"\nvia = \"client\"\n";
    let sites = [("ams", "\"ams\"", "cost = 10"), ("fra", "\"fra\"", "cost = 20")];
    let covered = with_service("when-all-dead = \"covering\"", &sites) + cover;
    let mut rig = Rig::up(&covered);
    rig.control.drain(NOW, "ams", true, "uid 0");
    rig.control.drain(NOW, "fra", true, "uid 0");
    assert_eq!((rig.serving(), rig.resort()), (set(&["?"]), Some(Resort::Covering)));
    assert_eq!(rig.selects().pop(), Some(moved("fra", "", MoveCause::Operator, "fra")));
    rig.apply(&covered.replace(cover, "")).unwrap();
    assert_eq!((rig.serving(), rig.resort()), (set(&["ams"]), Some(Resort::Drained)));
}

#[test]
fn a_disabled_site_never_serves_and_legs_made_later_are_disabled_too() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let (ams, fra) = (rig.path("ams", "ams"), rig.path("fra", "fra"));
    assert_eq!(rig.control.disable(NOW, "fra", true, "uid 0"), Some(vec![fra]));
    assert_eq!(rig.control.disable(NOW, "fra", true, "uid 0"), Some(vec![]), "twice is once");
    assert_eq!(rig.control.disable(NOW, "nowhere", true, "uid 0"), None);
    rig.control.handle.set_path_down(fra, Reason::Operator);
    let down = |path| {
        let reason = "disabled by an operator".to_owned();
        let kind = MonitorEventKind::Leg { path, up: false, reason, rtt: None };
        MonitorEvent { t: NOW, stored: NOW, kind }
    };
    rig.control.handle_monitor(&down(fra));
    rig.control.handle.set_path_down(ams, Reason::Probe);
    rig.control.handle_monitor(&down(ams));
    assert_eq!(rig.serving(), set(&["AllDead { answer: true } for 198.51.100.53"]));
    let sites = [("ams", "\"ams\"", "cost = 10"), ("fra", "\"client\"", "cost = 20")];
    let orders = rig.apply(&with_service("", &sites)).unwrap();
    let new = rig.path("fra", "client");
    assert!(rig.control.handle.path_reasons(new).has(Reason::Operator));
    let disabled: Vec<bool> = orders.legs.iter().map(|leg| leg.disabled).collect();
    assert_eq!(disabled, [true]);
    assert_eq!(rig.control.disable(NOW, "fra", false, "uid 0"), Some(vec![new]));
}

#[test]
fn the_last_site_that_serves_is_named_and_what_nobody_serves_is_not() {
    let other = other_service();
    let mut rig = Rig::up(&(two_sites(10, 20) + &other));
    let last = |rig: &Rig, site: &str| -> Vec<String> {
        rig.control.served_by_last(site).into_iter().collect()
    };
    assert_eq!((last(&rig, "par"), last(&rig, "fra")), (vec!["dns".to_owned()], vec![]));
    rig.set("ams", "ams", false);
    assert_eq!((last(&rig, "ams"), last(&rig, "fra")), (vec![], vec!["www".to_owned()]));
    rig.control.drain(NOW, "fra", true, "uid 0");
    assert_eq!(last(&rig, "fra"), Vec::<String>::new(), "drained already");
}

#[test]
fn a_configuration_that_leaves_a_service_without_a_site_is_told_from_others() {
    let both = two_sites(10, 20) + &other_service();
    let mut rig = Rig::up(&both);
    let left = |rig: &Rig, text: &str| rig.control.left_without(&parse(text));
    let only_fra = with_service("", &[("fra", "\"fra\"", "cost = 20")]);
    assert_eq!(left(&rig, &only_fra), Vec::<String>::new(), "dns is gone, www has fra");
    rig.set("fra", "fra", false);
    assert_eq!(left(&rig, &only_fra), Vec::<String>::new(), "whether it is up is no matter");
    rig.control.drain(NOW, "fra", true, "uid 0");
    assert_eq!(left(&rig, &only_fra), ["www"]);
    rig.control.drain(NOW, "fra", false, "uid 0");
    rig.control.disable(NOW, "fra", true, "uid 0");
    assert_eq!(left(&rig, &only_fra), ["www"]);
    assert_eq!(left(&rig, &both), Vec::<String>::new());
}

#[test]
fn a_drained_site_gets_no_flow_while_another_can_take_it() {
    let mut rig = Rig::up(&two_sites(10, 20));
    assert!(rig.control.drain(NOW, "ams", true, "uid 0"));
    assert_eq!(rig.serving(), set(&["fra"]));
    assert!(rig.control.drain(NOW, "ams", true, "uid 0"), "twice is once");
    rig.set("fra", "fra", false);
    assert_eq!(rig.serving(), set(&["ams"]), "better than nobody");
    rig.set("fra", "fra", true);
    // Legs made again are drained as the old ones were.
    let keys = "when-all-dead = \"drop\"";
    let sites = [("ams", "[\"ams\", \"client\"]", "cost = 10"), ("fra", "\"fra\"", "cost = 20")];
    rig.apply(&with_service(keys, &sites)).unwrap();
    rig.set("ams", "client", true);
    assert_eq!(rig.serving(), set(&["fra"]));
    assert!(rig.control.drain(NOW, "ams", false, "uid 0"));
    assert_eq!(rig.serving(), set(&["ams"]));
    assert!(!rig.control.drain(NOW, "nowhere", true, "uid 0") && rig.control.drained().is_empty());
    assert_eq!(
        rig.selects(),
        [
            moved("ams", "fra", MoveCause::Operator, "ams"),
            moved("fra", "ams", MoveCause::MemberDied, "fra"),
            moved("ams", "fra", MoveCause::CheaperUp, "fra"),
            moved("fra", "ams", MoveCause::Operator, "ams"),
        ]
    );
}
