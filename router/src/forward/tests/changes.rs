//! What changes between two packets, or amid a batch.

use super::*;

#[test]
fn the_first_packet_after_a_change_is_noted_once_for_each_path() {
    let mut rig = Rig::new();
    let packet = udp(CLIENT, SERVICE, 5);
    rig.run(0, &vec![packet.clone(); 5]);
    assert_eq!(rig.state.first_packets, [FirstPacket { path: rig.legs[1].0, t: rig.now }]);
    rig.state.first_packets.clear();
    rig.run(0, std::slice::from_ref(&packet));
    assert!(rig.state.first_packets.is_empty());
    rig.handle.set_path_down(rig.legs[1].0, Reason::Probe);
    rig.changes.fetch_add(1, Ordering::Release);
    rig.run(0, &vec![packet; 5]);
    assert_eq!(rig.state.first_packets, [FirstPacket { path: rig.legs[2].0, t: rig.now }]);
}

#[test]
fn an_adjacency_that_went_with_its_port_is_a_counted_drop() {
    let mut rig = Rig::new();
    rig.with_snapshot(|snapshot| {
        snapshot.ports[1] = None;
        snapshot.adjacencies.set(AdjacencyId(1), None);
    });
    assert!(rig.run(0, &[udp(CLIENT, SERVICE, 5)]).is_empty());
    assert_eq!(rig.of(Verdict::NoPort), 1);
}

/// Replaces the group of `addr` after this stage with one that uses a newly added port. Returns the
/// ports by which packets left.
fn ways_after(stage: Stage, addr: Ipv4Addr, packet: &[u8]) -> Vec<u16> {
    let Rig { mut writer, mut reader, published, mut state, mut batch, now, .. } = Rig::new();
    assert!(batch.push(packet));
    let mut snapshots = Snapshots::new(Arc::clone(&published));
    let online = reader.online();
    let found = online.lookup(addr.into());
    forward_watched(&mut batch, &online, &mut snapshots, &mut state, now, |done| {
        if done != stage {
            return;
        }
        let mut newer = (**published.load()).clone();
        let adjacency = writer.add_adjacency(3, 3).unwrap();
        newer.ports.push(newer.ports[1].clone());
        newer.adjacencies.set(adjacency, Some(Adjacency::point_to_point(PortId(3), 1400)));
        published.store(Arc::new(newer));
        let path = writer.add_path(name_key("new"), ACCEPT_ALL).unwrap();
        let members = vec![Member { path, adjacency, tier: 0, weight: 1, link_weight: 1 }];
        let (when_dead, spread) = (WhenDead::Drop, Spread::Flow);
        let group = Group::Forward { members, when_dead, spread };
        writer.replace_group(found, &group).unwrap();
    });
    batch.transmissions().map(|(sent, _)| sent.exit.port.0).collect()
}

#[test]
fn a_port_that_appears_with_its_group_amid_a_batch_is_found() {
    let to = Ipv4Addr::new(198, 51, 100, 53);
    assert_eq!(ways_after(Stage::LookUp, to, &udp(CLIENT, SERVICE, 5)), [3]);
}
