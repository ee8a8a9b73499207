//! What operators do to announcements: drain the router, end it, block prefixes, apply playbooks.

use super::*;

/// Neighbours hear first that they should take another way, and then that this one is gone.
#[test]
fn a_drained_router_warns_waits_and_withdraws() {
    let mut speaking = speaking("");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    assert!(speaking.rig.control.drain_router(speaking.now, true, "test"));
    assert!(!speaking.rig.control.drain_router(speaking.now, true, "test"), "it is already");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001 65001 65001 65001"]);
    let due = speaking.rig.control.bgp_timeout().unwrap();
    assert_eq!(due.since(speaking.now), Duration::from_secs(30));
    speaking.pass(Duration::from_secs(30));
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
    assert_eq!(speaking.rig.control.bgp_timeout(), None);
    // Whatever becomes of sites and sessions.
    speaking.rig.set("fra", "fra", false);
    speaking.establish([10, 0, 0, 2].into());
    assert!(speaking.lines().is_empty());
    assert!(speaking.rig.control.drain_router(speaking.now, false, "test"));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    // What was withdrawn before a restart is not announced first.
    speaking.rig.control.restore(Overrides { router: true, ..Overrides::default() });
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
}

#[test]
fn before_the_end_announcements_are_taken_back_if_there_are_any() {
    let bgp = |keys: &str| {
        let mut speaking = speaking_with("", keys);
        assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
        speaking
    };
    let mut speaking = bgp("");
    let ends = speaking.rig.control.begin_exit(speaking.now).unwrap();
    assert_eq!(ends.since(speaking.now), Duration::from_secs(1));
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
    speaking.rig.control.drain_router(speaking.now, false, "test");
    assert!(speaking.lines().is_empty(), "nothing brings it back");

    let mut speaking = bgp("on-exit = \"graceful-shutdown\"\nexit-wait = \"3s\"");
    let ends = speaking.rig.control.begin_exit(speaking.now).unwrap();
    assert_eq!(ends.since(speaking.now), Duration::from_secs(6));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001 65001 65001 65001"]);
    speaking.pass(Duration::from_secs(3));
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);

    assert_eq!(bgp("on-exit = \"end\"").rig.control.begin_exit(NOW), None);
    let mut speaking = bgp("");
    speaking.rig.set("ams", "ams", false);
    speaking.rig.set("fra", "fra", false);
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
    assert_eq!(speaking.rig.control.begin_exit(NOW), None, "nobody waits for anything");
}

/// Here at once, and at neighbours that take such routes, whatever else they hear of.
#[test]
fn a_blocked_prefix_is_discarded_and_announced_to_those_who_are_asked_to() {
    let router = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
    let text = format!(
        "{router}[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"fra\"\n\
         [[service]]\nname = \"www\"\nprefixes = [\"{SERVICE}/32\"]\n\
         [[service.site]]\nname = \"ams\"\nvia = \"ams\"\n[bgp]\nas = 65001\n\
         [[bgp.neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"none\"\n\
         export = \"none\"\nblackhole = true\nprepend = 3\n\
         [[bgp.neighbor]]\naddress = \"10.0.0.3\"\nas = 65003\nimport = \"none\"\nexport = \"services\"\n"
    );
    let mut speaking = Speaking::new(&text);
    assert_eq!(speaking.lines(), [format!("+{SERVICE}/32 65001")]);
    let attacked: IpPrefix = "203.0.113.7/32".parse().unwrap();
    let block = |speaking: &mut Speaking, prefix: IpPrefix, blocked| {
        assert!(speaking.rig.control.block(speaking.now, prefix, blocked, "test"));
        assert!(!speaking.rig.control.block(speaking.now, prefix, blocked, "test"), "it is so");
        speaking.rig.control.publish(speaking.now).unwrap();
        speaking.told()
    };
    let told = block(&mut speaking, attacked, true);
    let [(id, prefix, Some(attributes))] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*prefix, *id), (attacked, speaking.lanes[&IpAddr::from([10, 0, 0, 2])].0));
    let communities: Vec<_> = attributes.communities.iter().map(ToString::to_string).collect();
    assert_eq!(communities, ["blackhole", "no-export"]);
    assert_eq!(attributes.as_path.to_string(), "65001", "a prepend means nothing here");
    assert_eq!(speaking.rig.group("203.0.113.7"), Some(Group::Blackhole));
    assert_eq!(speaking.rig.control.source(attacked).map(Source::label), Some("block"));
    let forwards = |group| matches!(group, Some(Group::Forward { .. }));
    assert!(forwards(speaking.rig.group("203.0.113.8")));

    // It is kept over a reload; a service's own prefix is announced to nobody else.
    speaking.rig.apply(&text).unwrap();
    assert!(speaking.told().is_empty());
    assert_eq!(speaking.rig.group("203.0.113.7"), Some(Group::Blackhole));
    let service: IpPrefix = format!("{SERVICE}/32").parse().unwrap();
    let needed = speaking.rig.control.needed_in(service);
    assert_eq!(needed, [format!("{SERVICE}/32 is of service www")]);
    let mut lines: Vec<_> = block(&mut speaking, service, true)
        .into_iter()
        .map(|(id, _, attributes)| (id.0, attributes.is_some()))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [(0, true), (1, false)]);
    assert_eq!(speaking.rig.group(SERVICE), Some(Group::Blackhole));
    assert_eq!(block(&mut speaking, service, false).len(), 2, "as before");
    assert!(forwards(speaking.rig.group(SERVICE)));
    assert!(block(&mut speaking, attacked, false)[0].2.is_none());
    assert!(forwards(speaking.rig.group("203.0.113.7")));

    let own = speaking.rig.control.needed_in("10.0.0.0/24".parse().unwrap());
    assert_eq!(
        own,
        [
            "10.0.0.1 is the router's",
            "10.0.0.2 is a BGP neighbour's",
            "10.0.0.3 is a BGP neighbour's",
        ]
    );
    assert!(speaking.rig.control.needed_in(attacked).is_empty());
}

/// All of a playbook's steps at once, kept over a reload, and undone without a trace.
#[test]
fn a_playbook_is_applied_and_undone_and_says_what_it_would_leave_unannounced() {
    let router = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
    let neighbor = |last: u8| {
        format!(
            "[[bgp.neighbor]]\nname = \"n{last}\"\naddress = \"10.0.0.{last}\"\nas = 65002\n\
             import = \"none\"\nexport = \"services\"\n"
        )
    };
    let text = format!(
        "{router}[[service]]\nname = \"www\"\nprefixes = [\"{SERVICE}/32\"]\n\
         [[service.site]]\nname = \"ams\"\nvia = \"ams\"\n[bgp]\nas = 65001\n{}{}\
         [[bgp.playbook]]\nname = \"away\"\n\
         [[bgp.playbook.step]]\nneighbors = [\"n2\"]\nwithdraw = true\n\
         [[bgp.playbook.step]]\nneighbors = [\"n3\"]\nprepend = 2\n\
         [[bgp.playbook]]\nname = \"gone\"\n[[bgp.playbook.step]]\nwithdraw = true\n",
        neighbor(2),
        neighbor(3)
    );
    let mut speaking = Speaking::new(&text);
    let announced = format!("+{SERVICE}/32 65001");
    assert_eq!(speaking.lines(), [announced.clone(), announced.clone()]);
    let left = |speaking: &Speaking, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        speaking.rig.control.left_unannounced(&names).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(left(&speaking, &["away"]), [""; 0]);
    assert_eq!(left(&speaking, &["gone"]), ["www"]);
    // Of one family alone.
    let both = text.replace(
        &format!("prefixes = [\"{SERVICE}/32\"]"),
        &format!("prefixes = [\"{SERVICE}/32\", \"2001:db8:53::53/128\"]"),
    );
    let both = both
        .replace("addresses = [\"10.0.0.1/24\"", "addresses = [\"10.0.0.1/24\", \"fd00::1/64\"");
    let v6 = "[[bgp.playbook.step]]\nprefixes = [\"2001:db8:53::53/128\"]\nwithdraw = true\n";
    let both = both.replace(
        "name = \"gone\"\n[[bgp.playbook.step]]\nwithdraw = true\n",
        &format!("name = \"gone\"\n{v6}"),
    );
    let mut of_both = Speaking::of_both_families(&both);
    assert_eq!(of_both.lines().len(), 4, "both families to both neighbours");
    assert_eq!(left(&of_both, &["gone"]), ["www/ipv6"]);
    assert_eq!(left(&of_both, &["away"]), [""; 0]);
    // What a reload makes of a playbook that is applied.
    assert!(of_both.rig.control.play(NOW, "gone", true, "test"));
    of_both.lines();
    let by_reload = |text: &str| of_both.rig.control.left_by_playbooks_of(&parse(text));
    assert!(by_reload(&both).is_empty(), "nothing changes");
    let all = both.replace(v6, "[[bgp.playbook.step]]\nwithdraw = true\n");
    assert_eq!(by_reload(&all).into_iter().collect::<Vec<_>>(), ["www"]);
    assert!(speaking.rig.control.play(NOW, "away", true, "test"));
    assert!(!speaking.rig.control.play(NOW, "away", true, "test"), "it is already");
    let mut lines = speaking.lines();
    lines.sort_unstable();
    assert_eq!(lines, [format!("+{SERVICE}/32 65001 65001 65001"), format!("-{SERVICE}/32")]);
    speaking.rig.apply(&text).unwrap();
    assert!(speaking.lines().is_empty(), "a reload changes nothing of it");
    assert!(speaking.rig.control.play(NOW, "away", false, "test"));
    assert_eq!(speaking.lines(), [announced.clone(), announced]);
    let applied: Vec<bool> = speaking
        .rig
        .events()
        .into_iter()
        .filter_map(|kind| match kind {
            EventKind::Playbook { applied, .. } => Some(applied),
            _ => None,
        })
        .collect();
    assert_eq!(applied, [true, false]);
}
