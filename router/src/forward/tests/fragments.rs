//! Errors about fragments, and the site that they belong to.

use super::*;
use crate::packet::error::{self, ERROR_MAX};
use crate::packet::origin::split;

/// Answers of the service, each beside the request.
const FLOWS: std::ops::Range<u16> = 4000..4060;

impl Rig {
    /// Two equal sites.
    fn anycast() -> Self {
        let mut rig = Self::new();
        for prefix in ["198.51.100.53/32", "2001:db8:53::53/128"] {
            let members = [1, 2].map(|leg| {
                let (path, adjacency) = rig.legs[leg];
                Member { path, adjacency, tier: 0, weight: 1, link_weight: 1 }
            });
            let (when_dead, spread) = (WhenDead::Unreachable, Spread::Flow);
            let group = Group::Forward { members: members.to_vec(), when_dead, spread };
            rig.group(prefix, &group);
        }
        rig
    }

    /// The ports that one packet from the client leaves by.
    fn ways(&mut self, packet: &[u8]) -> Vec<u16> {
        let sent = self.run(0, std::slice::from_ref(&packet.to_vec()));
        sent.into_iter().map(|(port, _, _)| port).collect()
    }
}

/// Client and service of each family, with this port of the client.
fn ends(port: u16) -> [(String, &'static str, IpAddr); 2] {
    [
        (format!("10.0.0.2:{port}"), SERVICE, "203.0.113.9".parse().unwrap()),
        (format!("[fd00::2]:{port}"), SERVICE6, "2001:db8:9::9".parse().unwrap()),
    ]
}

/// The fragments of an answer of 3,000 bytes.
fn fragments(service: &str, client: &str) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let emit = |piece: &[u8]| pieces.push(piece.to_vec());
    split(&udp(service, client, 3000), 1400, 9, &mut [0; 1400], emit).unwrap();
    pieces
}

/// A too-big of a router behind the client's port.
fn too_big(about: &[u8], from: IpAddr) -> Vec<u8> {
    let mut out = [0; ERROR_MAX];
    let len = error::build(ErrorKind::TooBig { mtu: 1280 }, about, from, 0, &mut out).unwrap();
    out[..len].to_vec()
}

#[test]
fn an_error_about_a_first_fragment_goes_where_the_unfragmented_flow_goes() {
    let mut rig = Rig::anycast();
    let mut used = [0; 3];
    for port in FLOWS {
        for (client, service, router) in ends(port) {
            let asked = rig.ways(&udp(&client, service, 30));
            let about = &fragments(service, &client)[0];
            assert_eq!(rig.ways(&too_big(about, router)), asked, "{client}");
            used[usize::from(asked[0])] += 1;
        }
    }
    assert!(used[1] > 20 && used[2] > 20, "{used:?}");
}

#[test]
fn an_error_about_a_later_fragment_is_copied_to_each_living_site() {
    let mut rig = Rig::anycast();
    for (client, service, router) in ends(4000) {
        let about = too_big(&fragments(service, &client)[1], router);
        let mut ways = rig.ways(&about);
        ways.sort_unstable();
        assert_eq!(ways, [1, 2], "{client}");
        // Each is the same packet, with one hop less.
        let mut forwarded = about.clone();
        assert!(decrement_ttl(&mut forwarded));
        for (_, _, sent) in rig.run(0, std::slice::from_ref(&about)) {
            assert_eq!(sent, forwarded);
        }
        // No copy goes back to where the error came from, nor to the dead.
        for site in [1, 2] {
            let sent = rig.run(site, std::slice::from_ref(&about));
            let mut copies = sent.iter().filter(|(_, verdict, _)| *verdict == Verdict::Originate);
            assert!(copies.all(|(port, _, _)| *port == 3 - site), "{client} by {site}");
            assert!(sent.iter().any(|(port, _, _)| *port == 3 - site), "{client} by {site}");
        }
        rig.handle.set_path_down(rig.legs[2].0, Reason::Probe);
        assert_eq!(rig.ways(&about), [1]);
        rig.handle.clear_path_down(rig.legs[2].0, Reason::Probe);
        // Nor what does not live long enough.
        let mut expired = about.clone();
        if service == SERVICE {
            expired = expire_v4(expired);
        } else {
            expired[7] = 1;
        }
        assert!(rig.ways(&expired).is_empty());
    }
    // An error to a client is about a flow of its own.
    rig.route("10.9.0.0/24", &[1, 2]);
    let about = too_big(&fragments("10.9.0.2:9", "10.1.0.7:9")[1], "203.0.113.9".parse().unwrap());
    assert_eq!(rig.ways(&about).len(), 1);
}

fn expire_v4(mut packet: Vec<u8>) -> Vec<u8> {
    packet[8] = 1;
    packet[10..12].fill(0);
    let sum = crate::packet::checksum::Sum::ZERO.bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn copies_are_limited_and_the_error_itself_is_not() {
    let mut rig = Rig::anycast();
    let [(client, service, router), _] = ends(4000);
    let about = too_big(&fragments(service, &client)[1], router);
    let sent: usize = (0..10).map(|_| rig.run(0, &vec![about.clone(); 64]).len()).sum();
    assert_eq!(rig.of(Verdict::Forward), 640);
    let copied = sent - 640;
    assert!((50..200).contains(&copied), "{copied}");
    assert_eq!(rig.state.counters.errors_limited, 640 - copied as u64);
}

#[test]
fn an_error_leaves_by_the_port_that_the_packet_came_in_by() {
    let mut rig = Rig::anycast();
    let narrow = Adjacency::point_to_point(PortId(0), 1280);
    rig.with_snapshot(|snapshot| snapshot.adjacencies.set(AdjacencyId(0), Some(narrow)));
    for port in FLOWS {
        for (client, service, _) in ends(port) {
            let mut about = vec![
                udp_ttl(service, &client, 30, 1),
                udp(service, &client, 1300),
                udp(service, if service == SERVICE { "9.9.9.9:9" } else { "[2001::9]:9" }, 30),
            ];
            if service == SERVICE6 {
                about.push(fragments(service, &client).remove(0));
            }
            for (site, packet) in [1, 2].into_iter().flat_map(|s| about.iter().map(move |p| (s, p)))
            {
                rig.now = Nanos(rig.now.0 + 1_000_000_000);
                let sent = rig.run(site, std::slice::from_ref(packet));
                let ways: Vec<_> = sent.iter().map(|sent| (sent.0, sent.1)).collect();
                assert_eq!(ways, [(site, Verdict::Originate)], "{service} to {client}");
            }
        }
    }
}
