//! Ports that come, go and lose their devices.

use super::*;
use crate::port::news::EngineNews;
use crate::put_back::{PutBack, for_tests};

#[test]
fn ports_come_and_go_and_their_numbers_wait_for_readers_and_release() {
    let with_fra = two_sites(10, 20);
    let without = with_service("", &[("ams", "\"ams\"", "cost = 10")]);
    let without = without
        .replace("[[port]]\nname = \"fra\"\ntun = \"nh-fra\"\naddresses = [\"10.2.0.1/24\"]\n", "");
    let mut rig = Rig::up(&with_fra);
    let (leg, port) = (rig.path("fra", "fra"), rig.control.ports.get("fra").unwrap().id);
    let adjacency = rig.control.ports.get("fra").unwrap().adjacency;
    let stop = rig.apply(&without).unwrap().stop;
    assert_eq!(stop.legs, [leg]);
    let stopped: Vec<Exit> = stop.ports.iter().map(|&(exit, _)| exit).collect();
    assert_eq!(stopped, [Exit { adjacency, port }]);
    assert!(rig.control.snapshot().port(port).is_none());
    assert_eq!(rig.group_id("10.2.0.9"), GroupId::NONE);
    // Not released: others are taken.
    let orders = rig.apply(&with_fra).unwrap();
    assert_ne!((orders.ports[0].adjacency, orders.legs[0].path), (adjacency, leg));
    assert_ne!(orders.ports[0].port, port);
    let second = rig.apply(&without).unwrap().stop;
    // Released while a reader is in a batch: still others.
    let online = rig.control.handle().reader().unwrap();
    let mut online = online;
    let guard = online.online();
    rig.control.release(&stop);
    rig.control.release(&second);
    let orders = rig.apply(&with_fra).unwrap();
    let taken = [stop.ports[0].0.adjacency, second.ports[0].0.adjacency];
    assert!(!taken.contains(&orders.ports[0].adjacency));
    assert!(![stop.ports[0].0.port, second.ports[0].0.port].contains(&orders.ports[0].port));
    drop(guard);
    let third = rig.apply(&without).unwrap().stop;
    rig.control.release(&third);
    rig.control.reclaim();
    let orders = rig.apply(&with_fra).unwrap();
    assert!(
        [taken[0], taken[1], third.ports[0].0.adjacency].contains(&orders.ports[0].adjacency),
        "reused at last"
    );
    assert_eq!(orders.ports[0].port, port, "the one that has been free longest");
}

/// RFC 1812 section 4.2.3.1: host bits of zero are a broadcast of old, but RFC 3021 networks have none.
#[test]
fn strict_martians_have_network_addresses_that_no_longer_prefix_has() {
    let networks = ["10.1.0.1/24", "10.2.0.1/24", "10.3.0.0/31", "10.4.0.1/24", "10.5.0.1/30"];
    let text = |martians: &str| {
        let port = |(index, address)| {
            format!(
                "[[port]]\nname = \"p{index}\"\ntun = \"nh-p{index}\"\naddresses = [\"{address}\"]\n"
            )
        };
        let ports: String = networks.iter().enumerate().map(port).collect();
        format!(
            "[router]\nname = \"r1\"\nmartians = \"{martians}\"\naddresses = [\"10.4.0.0/32\"]\n{ports}\
             [[route]]\nprefix = \"10.2.0.0/28\"\nvia = \"p0\"\n"
        )
    };
    for (martians, old) in [("default", &[][..]), ("strict", &["10.1.0.0", "10.5.0.0"])] {
        let snapshot = Rig::new(&text(martians)).0.control.snapshot();
        for broadcast in ["10.1.0.255", "10.2.0.255", "10.4.0.255", "10.5.0.3"] {
            let address = broadcast.parse().unwrap();
            assert!(snapshot.directed_broadcasts.has(address), "{broadcast}");
            assert!(snapshot.martian_sources.has(address), "{broadcast}");
        }
        for network in ["10.1.0.0", "10.2.0.0", "10.4.0.0", "10.5.0.0"] {
            let address = network.parse().unwrap();
            let is_old = old.contains(&network);
            assert_eq!(snapshot.directed_broadcasts.has(address), is_old, "{martians} {network}");
            let is_own = network == "10.4.0.0";
            assert_eq!(snapshot.martian_sources.has(address), is_old || is_own, "{network}");
        }
        assert!(snapshot.martian_sources.has("10.3.0.0".parse().unwrap()), "the router's own");
        assert!(!snapshot.directed_broadcasts.has("10.3.0.0".parse().unwrap()));
    }
}

#[test]
fn errors_have_a_source_whatever_addresses_there_are() {
    let cases = [
        ("[]", "192.0.2.9", &[][..], "192.0.0.8", None),
        (
            "[\"192.0.2.1\", \"2001:db8::1\"]",
            "192.0.2.9",
            &["10.1.0.1/24"],
            "192.0.2.1",
            Some("2001:db8::1"),
        ),
        ("[]", "10.2.0.1", &["169.254.1.1/30", "10.1.0.1/24", "10.2.0.1/24"], "10.2.0.1", None),
        (
            "[]",
            "10.1.0.9",
            &["fe80::1/64", "10.1.0.1/24", "fd00:2::1/64"],
            "10.1.0.1",
            Some("fd00:2::1"),
        ),
    ];
    for (own, id, ports, v4, v6) in cases {
        let port = |(index, address): (usize, &&str)| {
            format!(
                "[[port]]\nname = \"p{index}\"\ntun = \"nh-p{index}\"\naddresses = [\"{address}\"]\n"
            )
        };
        let ports: String = ports.iter().enumerate().map(port).collect();
        let router = format!("[router]\nname = \"r1\"\nid = \"{id}\"\naddresses = {own}\n");
        let snapshot = Rig::new(&(router + &ports)).0.control.snapshot();
        assert_eq!(snapshot.address_v4.map(|ip| ip.to_string()).as_deref(), Some(v4), "{ports}");
        assert_eq!(snapshot.address_v6.map(|ip| ip.to_string()).as_deref(), v6, "{ports}");
    }
}

#[test]
fn a_link_local_address_belongs_to_its_port_alone() {
    let port = |name, addresses| {
        format!("[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\naddresses = {addresses}\n")
    };
    let text = "[router]\nname = \"r1\"\n".to_owned()
        + &port("a", r#"["fe80::1/64", "169.254.10.1/30", "10.1.0.1/24"]"#)
        + &port("b", r#"["fe80::1/64"]"#)
        + &port("c", r#"["10.3.0.1/24"]"#);
    let rig = Rig::new(&text).0;
    let snapshot = rig.control.snapshot();
    let of = |name: &str| {
        let (_, port) = snapshot.ports().find(|(_, port)| port.name == name).unwrap();
        port.link_locals.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of("a"), ["fe80::1", "169.254.10.1", "fe80::"]);
    assert_eq!(of("b"), ["fe80::1", "fe80::"]);
    assert_eq!(of("c"), [""; 0]);
    assert!(!snapshot.martian_sources.has("fe80::1".parse().unwrap()), "a neighbour's elsewhere");
}

/// RFC 4291 section 2.6.1.
#[test]
fn a_network_has_the_anycast_address_of_its_routers_unless_something_else_has_it() {
    let networks = [
        "fd00:1::1/64",
        "fd00:2::/127",
        "fd00:3::1/128",
        "fd00:4::/64",
        "fd00:5::1/64",
        "fd00:6::1/126",
        "fe80::1/64",
        "10.1.0.1/24",
    ];
    let port = |(index, address)| {
        format!(
            "[[port]]\nname = \"p{index}\"\ntun = \"nh-p{index}\"\naddresses = [\"{address}\"]\n"
        )
    };
    let text = "[router]\nname = \"r1\"\n".to_owned()
        + &networks.iter().enumerate().map(port).collect::<String>()
        + "[[service]]\nname = \"dns\"\nprefixes = [\"fd00:5::/128\"]\n";
    let mut rig = Rig::new(&text).0;
    for (address, unicast) in [
        ("fd00:1::", Some("fd00:1::1")),
        ("fd00:2::", Some("fd00:2::")),
        ("fd00:3::", None),
        ("fd00:4::", Some("fd00:4::")),
        ("fd00:5::", None),
        ("fd00:6::", Some("fd00:6::1")),
        ("fe80::", Some("fe80::1")),
        ("10.1.0.0", None),
    ] {
        let ip: IpAddr = address.parse().unwrap();
        let own = rig.control.own_addresses().into_iter().find(|own| own.address == ip);
        let found = own.map(|own| own.unicast.to_string());
        assert_eq!(found.as_deref(), unicast, "{address}");
        assert_eq!(rig.group(address) == Some(Group::Local), unicast.is_some(), "{address}");
        let snapshot = rig.control.snapshot();
        let is_source = snapshot.martian_sources.has(ip);
        assert_eq!(is_source, unicast.is_some() && address != "fe80::", "{address}");
        let mut ports = snapshot.ports();
        let on_link = ports.any(|(_, port)| port.link_locals.contains(&ip));
        assert_eq!(on_link, address == "fe80::", "{address}");
    }
}

#[test]
fn own_addresses_and_services_are_told_apart_from_their_neighbours_by_every_reload() {
    let text = two_sites(10, 20);
    let mut rig = Rig::up(&text);
    let has = |rig: &Rig, address: &str| {
        let (snapshot, address) = (rig.control.snapshot(), address.parse().unwrap());
        (snapshot.martian_sources.has(address), snapshot.services.has(address))
    };
    assert_eq!(has(&rig, "10.2.0.1"), (true, false));
    assert_eq!(has(&rig, "10.2.0.2"), (false, false));
    assert_eq!(has(&rig, SERVICE), (false, true));
    rig.apply(&text.replace("10.2.0.1/24", "10.2.0.2/24")).unwrap();
    assert_eq!(has(&rig, "10.2.0.1"), (false, false));
    assert_eq!(has(&rig, "10.2.0.2"), (true, false));
}

/// The news of a port that is gone come after another has its number.
#[test]
fn carrier_news_older_than_a_port_are_not_its_own() {
    let carrier_after_old_news = || {
        let mut rig = Rig::up(&two_sites(10, 20));
        let port = rig.control.ports.get("fra").unwrap().id;
        let at =
            |t| MonitorEvent { t, stored: t, kind: MonitorEventKind::Carrier { port, up: true } };
        rig.control.handle_monitor(&at(Nanos(NOW.0 - 1)));
        let old = rig.control.ports.get("fra").unwrap().carrier;
        rig.control.handle_monitor(&at(NOW));
        (old, rig.control.ports.get("fra").unwrap().carrier)
    };
    assert_eq!(carrier_after_old_news(), (false, true));
    let with_the_fault = for_tests::with(PutBack::CarrierOlderThanPort, carrier_after_old_news);
    assert_eq!(with_the_fault, (true, true), "it would be noticed");
}

/// More ports than there are numbers come and go, while a worker is in a batch now and then.
#[test]
fn a_hundred_thousand_ports_come_and_go_and_no_number_has_two() {
    const AT_A_TIME: usize = 1_000;
    let (mut rig, _) = Rig::new("[router]\nname = \"r1\"\n");
    let mut busy = rig.control.handle().reader().unwrap();
    let config = |round: usize| {
        let mut config = parse("[router]\nname = \"r1\"\n[[port]]\nname = \"p\"\ntun = \"p\"\n");
        let port = config.ports.remove(0);
        let named =
            |index| config::model::Port { name: format!("p{round}-{index}"), ..port.clone() };
        config.ports = (0..AT_A_TIME).map(named).collect();
        config
    };
    let mut in_use: BTreeSet<PortId> = BTreeSet::new();
    // Since how many batches a number is nobody's; the batch of then may still hold it.
    let mut released: BTreeMap<PortId, usize> = BTreeMap::new();
    let (mut batches, mut early, mut most) = (0, 0, 0);
    for round in 0..34 {
        let mut online = (round % 2 == 1).then(|| busy.online());
        for swap in 0..3 {
            let orders = rig.apply_config(config(round * 3 + swap)).unwrap();
            for Exit { port: id, .. } in &orders.ports {
                assert!(in_use.insert(*id), "{id:?} has two ports");
                assert!(released.remove(id).is_none_or(|batch| batch < batches), "{id:?}: early");
                most = most.max(usize::from(id.0));
            }
            early += released.values().filter(|&&batch| batch == batches).count();
            let mut stop = orders.stop;
            if let Some(online) = &mut online {
                assert!(stop.ports.is_empty(), "a batch may have found them");
                online.quiescent();
                batches += 1;
                stop = rig.control.take_stopping();
            }
            rig.control.release(&stop);
            for (Exit { port: id, .. }, _) in stop.ports {
                assert!(in_use.remove(&id));
                released.insert(id, batches);
            }
            batches += usize::from(online.is_none());
        }
        drop(online);
        batches += 1;
        rig.control.reclaim();
    }
    assert_eq!(in_use.len(), AT_A_TIME);
    assert!(early > 10 * AT_A_TIME, "{early}: batches were under way");
    assert!(most < 10 * AT_A_TIME, "{most}: numbers are used again");
}

#[test]
fn old_news_of_a_number_is_not_taken_for_its_new_ports() {
    let (mut rig, _) = Rig::new(PORTS);
    let port = rig.control.ports.get("fra").unwrap().id;
    let mut carrier = |t: Nanos| {
        let kind = MonitorEventKind::Carrier { port, up: true };
        rig.control.handle_monitor(&MonitorEvent { t, stored: t, kind });
        rig.control.ports.get("fra").unwrap().carrier
    };
    assert!(!carrier(Nanos(NOW.0 - 1)), "of who had the number before");
    assert!(carrier(NOW));
}

#[test]
fn a_port_without_news_of_its_carrier_takes_no_packet() {
    let (mut rig, _) = Rig::new(PORTS);
    let new = "[[port]]\nname = \"new\"\ntun = \"nh-new\"\naddresses = [\"10.3.0.1/24\"]\n";
    let orders = rig.apply_config(parse(&format!("{PORTS}{new}"))).unwrap();
    let [Exit { adjacency, port: id }] = orders.ports[..] else { panic!("{orders:?}") };
    assert!(rig.control.writer().adjacency_reasons(adjacency).has(Reason::Carrier), "{id:?}");
    let found = rig.group_id("10.3.0.9");
    let got = rig.reader.online().select(found, nearhop_fib::FlowHash::of_packet(1, 1));
    assert_eq!(got, Selected::AllDead { answer: true });
}

/// A worker amid a batch has found a group that leads to a port which a reload removes.
#[test]
fn a_port_that_goes_stays_until_every_batch_that_may_lead_to_it_is_done() {
    let without = PORTS
        .replace("[[port]]\nname = \"fra\"\ntun = \"nh-fra\"\naddresses = [\"10.2.0.1/24\"]\n", "");
    let mut rig = Rig::up(&two_sites(10, 20));
    let (leg, port) = (rig.path("fra", "fra"), rig.control.ports.get("fra").unwrap().id);
    let mut busy = rig.control.handle().reader().unwrap();
    let mut online = busy.online();
    let stop = rig.apply(&without).unwrap().stop;
    assert!(stop.legs.contains(&leg) && stop.ports.is_empty(), "{stop:?}");
    assert!(rig.control.snapshot().port(port).is_some());
    assert!(rig.control.take_stopping().ports.is_empty());
    online.quiescent();
    assert_eq!(rig.control.take_stopping().ports.len(), 1);
    assert!(rig.control.snapshot().port(port).is_none());
    assert!(rig.control.take_stopping().ports.is_empty(), "once");
}

#[test]
fn checks_that_do_not_fit_beside_those_there_are_are_refused_before_anything_changes() {
    let checks = |count: usize, port: &str| {
        let mut config = parse(&with_service("", &[(port, &format!("\"{port}\""), "")]));
        let health = &mut config.services[0].sites[0].health;
        *health = vec![health[0].clone(); count];
        config
    };
    let (mut rig, _) = Rig::new(PORTS);
    rig.apply_config(checks(10_000, "ams")).unwrap();
    assert!(rig.control.ports_to_open(&checks(10_000, "ams")).is_ok(), "nothing new");
    let refused = rig.control.ports_to_open(&checks(6_385, "fra")).unwrap_err();
    assert_eq!(refused, ReloadError::Checks(16_385));
    let orders = rig.apply_config(checks(6_384, "fra")).unwrap();
    assert_eq!(orders.stop.legs.len(), 1);
    // Those that go count until they are gone.
    assert!(rig.control.ports_to_open(&checks(10_000, "ams")).is_err());
    rig.control.release(&orders.stop);
    assert!(rig.control.ports_to_open(&checks(10_000, "ams")).is_ok());
}

#[test]
fn a_port_whose_device_is_gone_gets_a_new_one_under_its_number() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let (id, path) = (rig.control.ports.get("ams").unwrap().id, rig.path("ams", "ams"));
    let device = |rig: &Rig| Arc::clone(&rig.control.snapshot().port(id).unwrap().device);
    let old = Arc::downgrade(&device(&rig));
    for _ in 0..2 {
        let kind = MonitorEventKind::Gone { port: id, ifindex: 7 };
        rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
    }
    assert!(matches!(device(&rig).tx(0, &[]), Err(crate::port::PortError::Gone)));
    rig.control.reclaim();
    assert!(old.upgrade().is_none(), "the router lets go of it");
    let reported =
        |ok, reason: &str| EventKind::Device { port: "ams".into(), ok, reason: reason.into() };
    assert_eq!(rig.events(), [reported(false, "device gone; trying again")], "once");
    for _ in 0..2 {
        rig.control.set_fault(NOW, "ams", DeviceFault::Gone(Some("no namespace".into())));
    }
    assert_eq!(rig.events(), [reported(false, "device gone; trying again: no namespace")]);
    let new = MemoryPort::pair(1).0 as Arc<dyn Port>;
    let orders = rig.control.give_device(NOW, "ams", Arc::clone(&new));
    assert_eq!(orders.ports, [rig.control.ports.get("ams").unwrap().exit()], "watched again");
    assert!(
        Arc::ptr_eq(&device(&rig), &new) && rig.control.ports.get("ams").unwrap().fault.is_none()
    );
    assert_eq!((rig.path("ams", "ams"), rig.events()), (path, vec![reported(true, "made again")]));
    rig.apply(&two_sites(10, 20)).unwrap();
    assert!(Arc::ptr_eq(&device(&rig), &new), "a reload keeps it");
}

/// Bytes of the largest packet that leaves by a port.
fn mtu_of(rig: &Rig, port: PortId) -> u16 {
    let snapshot = rig.control.snapshot();
    snapshot.mtu_of(port).unwrap()
}

#[test]
fn a_device_that_somebody_changed_is_followed_and_reported_of() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let id = rig.control.ports.get("ams").unwrap().id;
    let link = |rig: &mut Rig, name: &str, mtu| {
        let kind = MonitorEventKind::Link { port: id, ifindex: 7, name: name.into(), mtu };
        rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
        let reported = rig.events();
        let mtu = mtu_of(rig, id);
        let reasons: Vec<String> = reported
            .iter()
            .map(|event| match event {
                EventKind::Device { ok: true, reason, .. } => reason.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        (reasons, mtu)
    };
    assert_eq!(rig.control.ports.get("ams").unwrap().why().as_deref(), Some("no carrier"));
    let kind = MonitorEventKind::Carrier { port: id, up: true };
    rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
    rig.events();
    assert_eq!(link(&mut rig, "nh-ams", 1500), (vec![], 1500), "as configured");
    let smaller = "the device's MTU is 1000 now, not the configured one";
    assert_eq!(link(&mut rig, "nh-ams", 1000), (vec![smaller.into()], 1000));
    assert_eq!(rig.control.ports.get("ams").unwrap().why().as_deref(), Some(smaller));
    assert_eq!(link(&mut rig, "nh-ams", 1000).0.len(), 0, "once");
    let both = "the device is called x now, and its MTU is 9000 now, not the configured one";
    assert_eq!(link(&mut rig, "x", 9000), (vec![both.into()], 1500), "no more than configured");
    // A reload that brings the device to another MTU needs no word of the kernel's.
    rig.apply(&two_sites(10, 20).replace("tun = \"nh-ams\"", "tun = \"nh-ams\"\nmtu = 1400"))
        .unwrap();
    assert_eq!(mtu_of(&rig, id), 1400);
    rig.events();
    let back = "the device is as configured again";
    assert_eq!(link(&mut rig, "nh-ams", 1400), (vec![back.into()], 1400));
    assert_eq!(rig.control.ports.get("ams").unwrap().why(), None);
    link(&mut rig, "nh-ams", 1300);
    rig.control.give_device(NOW, "ams", MemoryPort::pair(1).0 as Arc<dyn Port>);
    assert_eq!(mtu_of(&rig, id), 1400, "another device");
}

/// A reload has the device's MTU changed before it is in force.
#[test]
fn an_mtu_that_a_reload_asked_for_is_no_change_by_somebody() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let id = rig.control.ports.get("ams").unwrap().id;
    let link = |rig: &mut Rig, mtu| {
        let kind = MonitorEventKind::Link { port: id, ifindex: 7, name: "nh-ams".into(), mtu };
        rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
        rig.events().len()
    };
    rig.control.expect_mtu("ams", Some(1400));
    assert_eq!((link(&mut rig, 1400), mtu_of(&rig, id)), (0, 1500));
    assert_eq!((link(&mut rig, 1300), mtu_of(&rig, id)), (1, 1300), "that is another");
    rig.control.expect_mtu("ams", None);
    assert_eq!((link(&mut rig, 1400), mtu_of(&rig, id)), (1, 1400), "it was refused");
}

#[test]
fn what_the_kernel_refuses_is_reported_once_and_so_is_its_end() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let device = |ok: bool, reason: &str| {
        let (port, reason) = ("ams".to_owned(), reason.to_owned());
        EventKind::Device { port, ok, reason }
    };
    let set = |rig: &mut Rig, why: Option<&str>, made: &[&str]| {
        let made: Vec<String> = made.iter().map(|&one| one.to_owned()).collect();
        rig.control.set_side(NOW, "ams", why.map(str::to_owned), &made);
        rig.events()
    };
    assert_eq!(set(&mut rig, Some("refused"), &[]), [device(false, "refused")]);
    assert_eq!(set(&mut rig, Some("refused"), &[]), []);
    let why = rig.control.ports.get("ams").unwrap().why();
    assert_eq!(why.as_deref(), Some("no carrier; refused"));
    let put_right = device(true, "put right: add address 10.1.0.2/24, set MTU 1500");
    let done = set(&mut rig, None, &["add address 10.1.0.2/24", "set MTU 1500"]);
    assert_eq!(done, [put_right, device(true, "the kernel's side is as configured")]);
    assert_eq!(set(&mut rig, None, &[]), []);
}

#[test]
fn a_port_keeps_its_device_and_workers_their_number() {
    let rig = Rig::up(&two_sites(10, 20));
    let other = parse(&two_sites(10, 20).replace("nh-fra", "nh-other"));
    let refused = rig.control.ports_to_open(&other).unwrap_err();
    assert_eq!(refused, ReloadError::Device("fra".into()));
    let workers = parse(&two_sites(10, 20).replace("name = \"r1\"", "name = \"r1\"\nworkers = 3"));
    assert_eq!(rig.control.ports_to_open(&workers).unwrap_err(), ReloadError::Workers);
    // Threads are there before any port is.
    let (bare, _) = Rig::new("[router]\nname = \"r1\"\n");
    assert_eq!(bare.control.ports_to_open(&workers).unwrap_err(), ReloadError::Workers);
}

#[test]
fn an_engine_that_fails_is_an_event_and_the_port_says_what_it_has() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let id = rig.control.ports.get("ams").unwrap().id;
    let news = |worker, engine, failed: bool| EngineNews {
        worker,
        port: id,
        engine,
        why: failed.then(|| "it broke".to_owned()),
        failed,
    };
    rig.events();
    rig.control.handle_engine(NOW, &news(0, "io_uring", false));
    rig.control.handle_engine(NOW, &news(1, "io_uring", false));
    assert!(rig.events().is_empty(), "nothing has happened");
    rig.control.handle_engine(NOW, &news(1, "epoll", true));
    let (port, engine, reason) = ("ams".to_owned(), "epoll".to_owned(), "it broke".to_owned());
    assert_eq!(rig.events(), [EventKind::Engine { port, worker: 1, engine, reason }]);
    let engines: Vec<_> =
        rig.control.ports.get("ams").unwrap().engines.clone().into_iter().collect();
    assert_eq!(engines, [(0, "io_uring"), (1, "epoll")]);
}
