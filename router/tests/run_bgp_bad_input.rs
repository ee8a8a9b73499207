//! Neighbours that do what none should, to the running daemon. Beside each of them stands another one's session,
//! which nothing may happen to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

use bgp_support::speaker::{
    End, Ends, Speaker, as_path, attribute, dial, message, nlri, open, update,
};
use daemon_support::Rig;
use daemon_support::bgp::{SITES, routes, session, with_neighbors};
use nearhop::kernel::netns::NetNs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{in_namespaces, wait_for};

/// The daemon, and one neighbour that behaves.
struct Bench {
    rig: Rig,
    good: Speaker,
}

impl Bench {
    /// With neighbours at the addresses from 2 on; the first one's session stands and announces one prefix.
    fn start(neighbors: u8, keys: &str) -> Self {
        let keys = format!("export = \"services\"\n{keys}");
        let config = with_neighbors(2..2 + neighbors, &[INTERNAL], &keys);
        Self::of(Rig::start_with(SITES, &config))
    }

    /// The first neighbour's session stands.
    fn of(rig: Rig) -> Self {
        let mut good = Speaker::open(rig.site_netns("peer"), ends(2));
        good.update(&[], &route(2), &nlri("5.2.0.0/24"));
        wait_for("the good route", || routes(&rig).contains(&"5.2.0.0/24".into()).then_some(()));
        Self { rig, good }
    }

    fn netns(&self) -> &NetNs {
        self.rig.site_netns("peer")
    }

    /// The good neighbour says something new, which is used; its session is the one it was.
    fn is_unharmed(&mut self) {
        self.good.update(&[], &route(2), &nlri("5.2.1.0/24"));
        wait_for("a new route of the good neighbour", || {
            routes(&self.rig).contains(&"5.2.1.0/24".into()).then_some(())
        });
        self.good.update(&nlri("5.2.1.0/24"), &[], &[]);
        assert!(routes(&self.rig).contains(&"5.2.0.0/24".into()));
        assert_eq!(self.good.poll_end(), None);
        assert_eq!(session(&self.rig, 2), ("Established".into(), String::new()));
        let items = self.rig.show("services");
        assert!(items.iter().all(|item| item["state"] == "up"), "no check failed: {items:?}");
    }

    /// Memory of the daemon that is not shared, in octets.
    fn memory(&self) -> usize {
        let path = format!("/proc/{}/statm", self.rig.router.id());
        let text = std::fs::read_to_string(path).unwrap();
        let pages = |index| text.split(' ').nth(index).unwrap().parse::<usize>().unwrap();
        (pages(1) - pages(2)) * 4096
    }
}

#[test]
fn half_messages_end_with_their_connection() {
    in_namespaces("half_messages_end_with_their_connection", || {
        let mut bench = Bench::start(2, "passive = true\n");
        let whole = open(ends(3));
        for len in 0..whole.len() {
            let Ok(mut stream) = dial(bench.netns(), ends(3)) else { continue };
            // It may refuse: after a connection that failed it waits.
            let _ = stream.write_all(&whole[..len]);
        }
        bench.is_unharmed();
        let mut speaker = Speaker::open(bench.netns(), ends(3));
        let half = update(&[], &route(3), &nlri("5.3.0.0/24"));
        speaker.send(&half[..half.len() - 1]);
        bench.is_unharmed();
        assert!(!routes(&bench.rig).contains(&"5.3.0.0/24".into()), "its last octet is missing");
        speaker.send(&half[half.len() - 1..]);
        wait_for("what is whole now", || {
            routes(&bench.rig).contains(&"5.3.0.0/24".into()).then_some(())
        });
        speaker.send(&half[..30]);
        drop(speaker);
        wait_for("no route of a connection that is closed", || {
            (!routes(&bench.rig).contains(&"5.3.0.0/24".into())).then_some(())
        });
        bench.is_unharmed();
    });
}

#[test]
fn octets_that_come_one_by_one_are_messages() {
    in_namespaces("octets_that_come_one_by_one_are_messages", || {
        let mut bench = Bench::start(2, "passive = true\n");
        let mut speaker = Speaker::open(bench.netns(), ends(3));
        let mut bytes = message(4, &[]);
        for index in 0..8 {
            bytes.extend(update(&[], &route(3), &nlri(&format!("5.3.{index}.0/24"))));
        }
        bytes.extend(update(&nlri("5.3.3.0/24"), &[], &[]));
        // One segment each: nobody waits for more before it sends.
        for byte in bytes {
            speaker.send(&[byte]);
        }
        let expected: Vec<String> = [0, 1, 2, 4, 5, 6, 7].map(|n| format!("5.3.{n}.0/24")).into();
        wait_for("seven routes", || {
            let found = routes(&bench.rig);
            let found = found.into_iter().filter(|one| one.starts_with("5.3.")).collect::<Vec<_>>();
            (found == expected).then_some(())
        });
        bench.is_unharmed();
    });
}

/// Each is answered by the error that RFC 4271, section 6.2, RFC 6286 or RFC 6793 has for it.
#[test]
fn wrong_opens_are_answered_by_their_errors() {
    in_namespaces("wrong_opens_are_answered_by_their_errors", || {
        let right = |last| ends(last);
        let hold = |seconds: u8| {
            let mut bytes = open(right(5));
            bytes[23] = seconds;
            bytes
        };
        let version = {
            let mut bytes = open(right(6));
            bytes[19] = 3;
            bytes
        };
        let marker = {
            let mut bytes = open(right(7));
            bytes[3] = 0;
            bytes
        };
        let own: Ipv4Addr = [10, 0, 0, 1].into();
        let zero = Ipv4Addr::UNSPECIFIED;
        let wrong = [
            ("the AS of somebody else", 3, open(Ends { asn: 65_009, ..right(3) }), (2, 2)),
            ("AS 0", 4, open(Ends { asn: 0, ..right(4) }), (2, 2)),
            ("a hold time of one second", 5, hold(1), (2, 6)),
            ("version 3", 6, version, (2, 1)),
            ("a broken marker", 7, marker, (1, 1)),
            ("no identifier", 8, open(Ends { id: zero, ..right(8) }), (2, 3)),
            (
                "our identifier, in our AS",
                INTERNAL,
                open(Ends { id: own, ..right(INTERNAL) }),
                (2, 3),
            ),
            ("an UPDATE instead of OPEN", 10, update(&[], &[], &[]), (5, 1)),
        ];
        let mut bench = Bench::start(10, "passive = true\n");
        for (what, last, bytes, (code, subcode)) in wrong {
            let connect = || Speaker::connect(bench.netns(), ends(last)).ok();
            let mut speaker = wait_for("a connection", connect);
            speaker.send(&bytes);
            let end = wait_for(what, || speaker.poll_end());
            assert_eq!(end, End::Notified(code, subcode), "{what}");
        }
        // An identifier has to be unique in one AS alone (RFC 6286).
        let _same = Speaker::open(bench.netns(), Ends { id: own, ..ends(11) });
        bench.is_unharmed();
    });
}

/// Connections of one address at once: one can be a session, the others are refused, and cost little.
#[test]
fn four_thousand_connections_of_one_address_harm_nobody() {
    in_namespaces("four_thousand_connections_of_one_address_harm_nobody", || {
        let mut bench = Bench::start(2, "passive = true\n");
        let before = bench.memory();
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, Rlimit { ..limit }).unwrap();
        let room = limit.current.map_or(CONNECTIONS, |limit| limit.saturating_sub(100) as usize);
        // Of the neighbour, and of an address that is none.
        for (last, count) in [(3, CONNECTIONS), (4, CONNECTIONS / 8)] {
            let mut open: Vec<Speaker> = Vec::new();
            for _ in 0..count {
                open.extend(Speaker::connect(bench.netns(), ends(last)));
                if open.len() >= room {
                    open.clear();
                }
            }
            bench.is_unharmed();
            let more = bench.memory().saturating_sub(before);
            assert!(more < MEMORY_MAX, "{more} octets more with {} connections", open.len());
        }
        // Nobody holds the place of a neighbour that means it.
        let mut speaker = Speaker::open(bench.netns(), ends(3));
        speaker.update(&[], &route(3), &nlri("5.3.0.0/24"));
        wait_for("its route", || routes(&bench.rig).contains(&"5.3.0.0/24".into()).then_some(()));
        bench.is_unharmed();
    });
}

/// Connections from all over a range at once: as many as it has room for are neighbours for a while, the others
/// are refused, and all of it costs little.
#[test]
fn four_thousand_connections_from_a_range_harm_nobody() {
    in_namespaces("four_thousand_connections_from_a_range_harm_nobody", || {
        let lasts = 64..128_u8;
        let addresses = lasts.clone().map(|last| format!("\"10.2.0.{last}/24\""));
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        let one = with_neighbors(2..3, &[], "passive = true\nexport = \"services\"\n");
        let config = one.replace("\"10.2.0.2/24\"", &format!("\"10.2.0.2/24\", {addresses}"))
            + "[[bgp.neighbor]]\nname = \"rack\"\nrange = \"10.2.0.64/26\"\nlimit = 8\nas = 65002\n\
               import = \"all\"\nexport = \"services\"\n";
        let mut bench = Bench::of(Rig::start_with(SITES, &config));
        let before = bench.memory();
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, Rlimit { ..limit }).unwrap();
        let room = limit.current.map_or(CONNECTIONS, |limit| limit.saturating_sub(100) as usize);
        let mut open: Vec<Speaker> = Vec::new();
        for last in lasts.clone().cycle().take(CONNECTIONS) {
            open.extend(Speaker::connect(bench.netns(), ends(last)));
            if open.len() >= room {
                open.clear();
            }
        }
        let rows = bench.rig.show("bgp");
        let of_range = rows.iter().filter(|row| row["range"] == "rack").count();
        assert!(of_range <= 8, "{rows:?}");
        bench.is_unharmed();
        let more = bench.memory().saturating_sub(before);
        assert!(more < MEMORY_MAX, "{more} octets more with {} connections", open.len());
        // Once they are gone there is room for one that means it.
        drop(open);
        let mut speaker = Speaker::open(bench.netns(), ends(100));
        speaker.update(&[], &route(100), &nlri("5.100.0.0/24"));
        wait_for("its route", || routes(&bench.rig).contains(&"5.100.0.0/24".into()).then_some(()));
        // An entry goes with its session.
        drop(speaker);
        wait_for("no neighbour of the range", || {
            bench.rig.show("bgp").iter().all(|row| row["range"] != "rack").then_some(())
        });
        bench.is_unharmed();
    });
}

/// It asks for everything again and again, and reads nothing of it: what is to be said to it does not pile up.
#[test]
fn a_neighbor_that_never_reads_harms_nobody() {
    in_namespaces("a_neighbor_that_never_reads_harms_nobody", || {
        let mut bench = Bench::start(2, "passive = true\n");
        let speaker = Speaker::open(bench.netns(), ends(3));
        let refresh = message(5, &[0, 1, 0, 1]).repeat(100);
        let before = bench.memory();
        let mut stream = speaker.stream();
        stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // Until nearhop reads no more either, or has read them all.
        let mut idle = 0;
        while sent < REFRESHES * 23 && idle < 100 {
            match stream.write(&refresh[sent % 23..]) {
                Ok(len) => {
                    sent += len;
                    idle = 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    idle += 1;
                    bench.is_unharmed();
                }
                Err(error) => panic!("the session ended: {error}"),
            }
        }
        assert!(sent > 100 * 23, "{sent} octets");
        let more = bench.memory().saturating_sub(before);
        assert!(more < MEMORY_MAX, "{more} octets more after {sent} octets of requests");
        bench.is_unharmed();
    });
}

/// More prefixes than it may announce: the session ends by the error for that, and says why.
#[test]
fn a_neighbor_with_too_many_prefixes_ends_alone() {
    in_namespaces("a_neighbor_with_too_many_prefixes_ends_alone", || {
        let mut bench = Bench::start(2, "passive = true\nmax-prefixes = 1000\n");
        let mut speaker = Speaker::open(bench.netns(), ends(3));
        let before = bench.memory();
        let mut bytes = Vec::new();
        for high in 0..TOO_MANY / 256 {
            let all = (0..=255).map(|low| nlri(&format!("5.{}.{low}.0/24", 10 + high)));
            bytes.extend(update(&[], &route(3), &all.collect::<Vec<_>>().concat()));
        }
        speaker.send(&bytes);
        let end = wait_for("the end of the session", || speaker.poll_end());
        assert_eq!(end, End::Notified(6, 1), "maximum number of prefixes reached (RFC 4486)");
        let events = bench.rig.events_until(|event| event["kind"] == "bgp" && event["up"] == false);
        let event = events.last().unwrap();
        assert_eq!(event["neighbor"], "10.2.0.3", "{event}");
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains("prefixes"), "{reason}");
        wait_for("no route of it", || (routes(&bench.rig) == ["5.2.0.0/24"]).then_some(()));
        bench.is_unharmed();
        let more = bench.memory().saturating_sub(before);
        assert!(more < MEMORY_MAX, "{more} octets more");
    });
}

/// Both connect at once: one connection becomes the session, that of the higher identifier; the other ends by
/// the error for that (RFC 4271, section 6.8).
#[test]
fn of_two_connections_at_once_that_of_the_higher_identifier_stays() {
    in_namespaces("of_two_connections_at_once_that_of_the_higher_identifier_stays", || {
        let mut bench = Bench::start(1, "");
        let listener = bench.netns().within(|| TcpListener::bind("0.0.0.0:179"));
        let listener = listener.unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        // A new neighbour is connected to at once.
        bench.rig.write_file(&with_neighbors(2..5, &[], "export = \"services\"\n"));
        assert!(bench.rig.nearhop(&["reload"]).status.success());
        let mut connected: BTreeMap<IpAddr, TcpStream> = BTreeMap::new();
        wait_for("nearhop to connect to both", || {
            let accepted = listener.accept().ok().map(|(stream, _)| stream);
            connected.extend(accepted.map(|one| (one.local_addr().unwrap().ip(), one)));
            (connected.len() == 2).then_some(())
        });
        for (last, id, stays) in [(3, [10, 0, 0, 0], 0), (4, [10, 0, 0, 2], 1)] {
            let ends = Ends { id: id.into(), ..ends(last) };
            let theirs = connected.remove(&ends.from.into()).unwrap();
            let mine = wait_for("a connection", || Speaker::connect(bench.netns(), ends).ok());
            let mut both = [Speaker::of(theirs), mine];
            for speaker in &mut both {
                speaker.send(&open(ends));
            }
            let [ended, stayed] = [1 - stays, stays];
            let end = wait_for("the end of one", || both[ended].poll_end());
            assert_eq!(end, End::Notified(6, 7), "connection collision resolution");
            both[stayed].send(&message(4, &[]));
            let prefix = format!("5.{last}.0.0/24");
            both[stayed].update(&[], &route(last), &nlri(&prefix));
            wait_for("a route of the other", || routes(&bench.rig).contains(&prefix).then_some(()));
            assert_eq!(both[stayed].poll_end(), None);
        }
        bench.is_unharmed();
    });
}

/// A neighbour by the last octet of its address.
fn ends(last: u8) -> Ends {
    let from = Ipv4Addr::new(10, 2, 0, last);
    let asn = if last == INTERNAL { 65_001 } else { 65_002 };
    Ends { from, to: Ipv4Addr::new(10, 2, 0, 1), asn, id: from, hold_s: 0 }
}

/// The attributes of its routes.
fn route(last: u8) -> Vec<u8> {
    let next_hop = attribute(0x40, 3, &[10, 2, 0, last]);
    [attribute(0x40, 1, &[0]), as_path(&[65_002]), next_hop].concat()
}

/// The last octet of the one neighbour in the router's own AS, where there are so many.
const INTERNAL: u8 = 9;

const CONNECTIONS: usize = 4096;

/// More than anything here may cost: a table of a million routes takes ten times as much.
const MEMORY_MAX: usize = 32 << 20;

/// Each asks for all routes of a family.
const REFRESHES: usize = 200_000;

/// As many as 20 times the limit.
const TOO_MANY: usize = 20_480;
