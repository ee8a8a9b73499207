//! Publications in steps: what readers see in the middle of them, and at their end.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::config::model::{Route, RouteFile, RouteTarget, Via, WhenAllDead};
use crate::put_back::{PutBack, for_tests};
use crate::rib::table::RouteTable;

/// Nested prefixes; addresses in and between them; and what a route may lead to.
const PREFIXES: [&str; 10] = [
    "198.51.100.0/24",
    "198.51.100.0/28",
    "198.51.100.0/30",
    "198.51.100.64/26",
    "198.51.100.1/32",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::1/128",
    "0.0.0.0/0",
    "::/0",
];
const ADDRESSES: [&str; 14] = [
    "198.51.100.0",
    "198.51.100.1",
    "198.51.100.2",
    "198.51.100.5",
    "198.51.100.17",
    "198.51.100.65",
    "198.51.100.200",
    "203.0.113.1",
    "2001:db8::5",
    "2001:db8:1::1",
    "2001:db8:1::2",
    "2001:db8:2::1",
    "2001:db9::1",
    "10.1.0.77",
];

/// Where each prefix leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Nowhere,
    Service(usize),
    Static(usize),
    File(usize, usize),
    /// A route of `[[route]]`, and another of the file.
    Both(usize, usize),
    /// A service, and a route of `[[route]]` behind it.
    Behind(usize, usize),
}

/// What a configuration has beside ports.
#[derive(Clone, Debug)]
struct Draft {
    places: Vec<Place>,
    costs: [bool; 2],
    covering: bool,
    dead: bool,
}

fn target(number: usize) -> RouteTarget {
    let via = |text: &str| {
        RouteTarget::Via(vec![match text.parse() {
            Ok(address) => Via::Address(address),
            Err(_) => Via::Port(text.to_owned()),
        }])
    };
    match number {
        0 => via("ams"),
        1 => via("fra"),
        2 => RouteTarget::Blackhole,
        3 => RouteTarget::Prohibit,
        // By the network of a port, by another route, and by one that may not be there.
        4 => via("10.2.0.9"),
        5 => via("198.51.100.65"),
        _ => via("198.51.100.1"),
    }
}

const TARGETS: usize = 7;

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        2 => Just(Place::Nowhere),
        2 => (0..2_usize).prop_map(Place::Service),
        2 => (0..TARGETS).prop_map(Place::Static),
        2 => (0..2_usize, 0..TARGETS).prop_map(|(file, target)| Place::File(file, target)),
        1 => (0..TARGETS, 0..TARGETS).prop_map(|(one, other)| Place::Both(one, other)),
        2 => (0..2_usize, 0..TARGETS).prop_map(|(one, other)| Place::Behind(one, other)),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let places = proptest::collection::vec(place(), PREFIXES.len());
    (places, any::<[bool; 2]>(), any::<bool>(), any::<bool>())
        .prop_map(|(places, costs, covering, dead)| Draft { places, costs, covering, dead })
}

fn config_of(draft: &Draft) -> Config {
    let mut config = parse(&two_sites(10, 20));
    let model = config.services.remove(0);
    let at = |wanted: &dyn Fn(Place) -> bool| -> Vec<IpPrefix> {
        let all = PREFIXES.iter().zip(&draft.places);
        all.filter(|(_, place)| wanted(**place)).map(|(text, _)| prefix(text)).collect()
    };
    for (number, name) in [(0, "one"), (1, "two")] {
        let mut service = model.clone();
        name.clone_into(&mut service.name);
        service.prefixes =
            at(&|place| matches!(place, Place::Service(of) | Place::Behind(of, _) if of == number));
        if draft.covering && number == 0 {
            service.when_all_dead = WhenAllDead::Covering;
        }
        if draft.costs[number] {
            service.sites[0].cost = 30;
        }
        if !service.prefixes.is_empty() {
            config.services.push(service);
        }
    }
    for (text, place) in PREFIXES.iter().zip(&draft.places) {
        let (Place::Static(number) | Place::Both(number, _) | Place::Behind(_, number)) = *place
        else {
            continue;
        };
        config.routes.push(Route { prefix: prefix(text), target: target(number), bfd: None });
    }
    for file in 0..2 {
        let routes = PREFIXES.iter().zip(&draft.places).filter_map(|(text, place)| match *place {
            Place::File(of, number) if of == file => Some((prefix(text), target(number))),
            Place::Both(_, number) if file == 0 => Some((prefix(text), target(number))),
            _ => None,
        });
        let routes: RouteTable<RouteTarget> = routes.collect();
        let name = format!("file-{file}");
        config.route_files.push(RouteFile { path: (&name).into(), name, routes });
    }
    config
}

/// What a packet to each address gets, by names.
fn answers_by_name(control: &Control, reader: &mut Reader) -> Vec<String> {
    let online = reader.online();
    let of = |text: &&str| {
        let group = online.lookup(text.parse().unwrap());
        match online.select(group, nearhop_fib::FlowHash::of_packet(1, 7)) {
            Selected::Member { adjacency, .. } => {
                let port = online.port(adjacency).and_then(|port| control.name_of(PortId(port)));
                port.unwrap_or("?").to_owned()
            }
            other => format!("{other:?}"),
        }
    };
    ADDRESSES.iter().map(of).collect()
}

/// Brings the legs to what the draft says, as the liveness thread does.
fn set_liveness(rig: &mut Rig, draft: &Draft) {
    for (key, leg) in rig.control.legs() {
        let dead = draft.dead && key.service == "one";
        for reason in [Reason::Probe, Reason::Health] {
            if dead {
                rig.control.handle.set_path_down(leg.path, reason);
            } else {
                rig.control.handle.clear_path_down(leg.path, reason);
            }
        }
    }
}

fn start() -> Rig {
    let (rig, orders) = Rig::new(PORTS);
    for exit in orders.ports {
        rig.control.handle.clear_adjacency_down(exit.adjacency, Reason::Carrier);
    }
    rig
}

/// What a router gets to that never had another configuration.
fn from_nothing(draft: &Draft) -> Vec<String> {
    let mut rig = start();
    rig.apply_config(config_of(draft)).unwrap();
    set_liveness(&mut rig, draft);
    answers_by_name(&rig.control, &mut rig.reader)
}

/// Publishes all, and looks after each change of the FIB.
fn publish_watched(rig: &mut Rig, addresses: &[IpAddr], steps: usize) -> Vec<Vec<Vec<String>>> {
    let seen: Arc<Mutex<Vec<Vec<Vec<String>>>>> = Arc::default();
    let mut reader = rig.control.handle().reader().unwrap();
    let (collected, watched) = (Arc::clone(&seen), addresses.to_vec());
    rig.control.publication.publisher.after_step = Some(Box::new(move || {
        collected.lock().unwrap().push(answers(&mut reader, &watched));
    }));
    for _ in 0..steps {
        if rig.control.publish_some(NOW, 1).unwrap() {
            break;
        }
    }
    rig.control.publication.publisher.after_step = None;
    std::mem::take(&mut *seen.lock().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_history_of_reloads_ends_where_a_start_ends_and_shows_no_third_answer(
        drafts in proptest::collection::vec((draft(), 0..40_usize), 2..8)
    ) {
        let addresses: Vec<IpAddr> = ADDRESSES.iter().map(|text| text.parse().unwrap()).collect();
        let mut rig = start();
        for (draft, _) in &drafts {
            let before = {
                // The legs that there are get the new state first: a death is no publication.
                set_liveness(&mut rig, draft);
                answers(&mut rig.reader, &addresses)
            };
            rig.begin(config_of(draft));
            set_liveness(&mut rig, draft);
            let seen = publish_watched(&mut rig, &addresses, usize::MAX);
            let after = answers(&mut rig.reader, &addresses);
            for step in seen {
                for (index, answer) in step.iter().enumerate() {
                    prop_assert!(
                        *answer == before[index] || *answer == after[index],
                        "{} got {answer:?}, not {:?} nor {:?}",
                        addresses[index],
                        before[index],
                        after[index]
                    );
                }
            }
            let names = answers_by_name(&rig.control, &mut rig.reader);
            prop_assert_eq!(names, from_nothing(draft));
        }
    }

    #[test]
    fn a_reload_supersedes_one_that_is_under_way(
        drafts in proptest::collection::vec((draft(), 0..60_usize), 2..8)
    ) {
        let mut rig = start();
        let mut last = None;
        for (draft, steps) in &drafts {
            rig.begin(config_of(draft));
            publish_watched(&mut rig, &[], *steps);
            last = Some(draft);
        }
        rig.control.publish(NOW).unwrap();
        let draft = last.unwrap();
        set_liveness(&mut rig, draft);
        prop_assert_eq!(answers_by_name(&rig.control, &mut rig.reader), from_nothing(draft));
        // Nothing stays of what nobody has any more: the groups of the last configuration, and of ports.
        let used: BTreeSet<GroupId> = rig.control.writer().iter().map(|(_, group)| group).collect();
        let stop = rig.control.take_stopping();
        rig.control.release(&stop);
        prop_assert!(rig.control.publication.publisher.group_count() <= used.len() + rig.control.routing.offered_sets());
    }

    #[test]
    fn what_the_fib_has_no_room_for_is_installed_once_there_is(
        first in draft(), second in draft(), room in 0..12_usize
    ) {
        let mut rig = start();
        rig.control.publication.publisher.room = Some(room);
        rig.apply_config(config_of(&first)).unwrap();
        let refused = PREFIXES.iter().filter(|text| rig.control.is_refused(prefix(text))).count();
        let (v4, v6) = rig.control.writer().len();
        let wanted = PREFIXES.iter().filter(|text| rig.control.rib().used(prefix(text)).is_some());
        let installed = PREFIXES.iter().filter(|text| rig.control.writer().get(prefix(text)).is_some());
        prop_assert_eq!(wanted.count(), installed.count() + refused);
        prop_assert!(refused == 0 || v4 + v6 >= room, "{refused} of {room}: {v4} + {v6}");
        let told = rig.events().into_iter().find_map(|kind| match kind {
            EventKind::Publish { refused, .. } if refused > 0 => Some(refused),
            _ => None,
        });
        prop_assert_eq!(told.is_some(), refused > 0);
        // Also where what is there cannot be brought to another group.
        let before = rig.control.writer().len();
        rig.apply_config(config_of(&second)).unwrap();
        prop_assert!(rig.control.writer().len().0 <= before.0.max(room));
        rig.apply_config(config_of(&first)).unwrap();
        rig.control.publication.publisher.room = None;
        rig.apply_config(config_of(&second)).unwrap();
        set_liveness(&mut rig, &second);
        prop_assert_eq!(answers_by_name(&rig.control, &mut rig.reader), from_nothing(&second));
    }
}

type Answer = Vec<Vec<String>>;

fn expect_old_or_new((before, seen, after): &(Answer, Vec<Answer>, Answer)) {
    for answer in seen {
        assert!(answer == before || answer == after, "{answer:?}, not {before:?} nor {after:?}");
    }
}

/// What a flow to an address gets before a reload, after each step of it, and at its end.
fn reload_watched(first: &Draft, second: &Draft, address: &str) -> (Answer, Vec<Answer>, Answer) {
    let mut rig = start();
    rig.apply_config(config_of(first)).unwrap();
    set_liveness(&mut rig, second);
    let address: IpAddr = address.parse().unwrap();
    let before = answers(&mut rig.reader, &[address]);
    rig.begin(config_of(second));
    set_liveness(&mut rig, second);
    let seen = publish_watched(&mut rig, &[address], usize::MAX);
    (before, seen, answers(&mut rig.reader, &[address]))
}

/// A dead service's packets follow what covers it, until its prefix has left it: that must not change under
/// them meanwhile.
#[test]
fn who_is_about_to_leave_a_dead_service_sees_its_cover_as_it_was() {
    let mut places = vec![Place::Nowhere; PREFIXES.len()];
    places[0] = Place::Service(1);
    places[4] = Place::Service(0);
    let first = Draft { places: places.clone(), costs: [false; 2], covering: true, dead: true };
    places[4] = Place::Static(2);
    let second = Draft { places, costs: [false, true], ..first.clone() };
    let watched = reload_watched(&first, &second, "198.51.100.1");
    assert_ne!(watched.0, watched.2);
    expect_old_or_new(&watched);
}

/// As the former, for one who comes to a dead service that is new.
#[test]
fn who_comes_to_a_new_dead_service_sees_its_cover_as_it_will_be() {
    let mut places = vec![Place::Nowhere; PREFIXES.len()];
    places[0] = Place::Service(0);
    places[8] = Place::Service(1);
    let (covering, dead) = (false, false);
    let first = Draft { places: places.clone(), costs: [false, true], covering, dead };
    places[0] = Place::Nowhere;
    places[3] = Place::Service(0);
    let second = Draft { places, costs: [false; 2], covering: true, dead: true };
    expect_old_or_new(&reload_watched(&first, &second, "198.51.100.65"));
}

/// As the former, but the groups change in place all the same.
#[test]
fn a_group_that_changes_in_place_under_who_leaves_it_is_caught() {
    let mut places = vec![Place::Nowhere; PREFIXES.len()];
    places[0] = Place::Service(1);
    places[4] = Place::Service(0);
    let (covering, dead) = (true, true);
    let first = Draft { places: places.clone(), costs: [false; 2], covering, dead };
    places[4] = Place::Static(2);
    let second = Draft { places, costs: [false, true], ..first.clone() };
    let watched = || reload_watched(&first, &second, "198.51.100.1");
    let (before, seen, after) = for_tests::with(PutBack::GroupInPlace, watched);
    assert!(seen.iter().any(|answer| *answer != before && *answer != after), "a third answer");
}

/// It leaves the very group that its new one leads on to.
#[test]
fn who_leaves_a_service_for_one_that_it_covers_sees_it_as_it_was() {
    let mut places = vec![Place::Nowhere; PREFIXES.len()];
    places[0] = Place::Service(1);
    places[3] = Place::Service(1);
    let (covering, dead) = (false, false);
    let first = Draft { places: places.clone(), costs: [false, true], covering, dead };
    places[3] = Place::Service(0);
    let second = Draft { places, costs: [false; 2], covering: true, dead };
    expect_old_or_new(&reload_watched(&first, &second, "198.51.100.65"));
}

#[test]
fn a_publication_is_done_in_steps_and_goes_on_where_a_stalled_reader_stopped_it() {
    let mut config = parse(&two_sites(10, 20));
    let routes: RouteTable<RouteTarget> = (0..100_000_u32)
        .map(|n| {
            (IpPrefix::host(std::net::Ipv4Addr::from(0x6440_0000 + 256 * n).into()), target(0))
        })
        .collect();
    let file = RouteFile { name: "many".into(), path: "many".into(), routes };
    config.route_files.push(file);
    let mut rig = Rig::up(&two_sites(10, 20));
    rig.begin(config.clone());
    let mut steps = 0;
    while !rig.control.publish_step(NOW).unwrap() {
        steps += 1;
    }
    assert!(steps > 200, "{steps} steps of about a millisecond");
    assert_eq!(rig.control.writer().len().0, 100_000 + 8);
    // Others instead, and a reader that holds what is unlinked.
    let mut stalled = rig.control.handle().reader().unwrap();
    let guard = stalled.online();
    config.route_files[0].routes = (0..100_000_u32)
        .map(|n| (IpPrefix::host(std::net::Ipv4Addr::from(0x3000_0000 + n).into()), target(1)))
        .collect();
    rig.begin(config.clone());
    let error = rig.control.publish(NOW).unwrap_err();
    assert!(matches!(error, WriteError::Stalled { .. }), "{error:?}");
    assert!(rig.control.is_unpublished());
    drop(guard);
    rig.control.publish(NOW).unwrap();
    assert_eq!(rig.control.writer().len().0, 100_000 + 8);
    let of = |text: &str| rig.control.writer().longest_match(text.parse().unwrap());
    assert_eq!(of("100.65.1.0"), None, "an old one");
    assert!(of("48.0.1.1").is_some());
}
