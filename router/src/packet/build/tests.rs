use super::*;
use crate::packet::samples::{CLIENT_V4, CLIENT_V6, SERVICE_V4, SERVICE_V6};
use crate::packet::udp::Udp;
use crate::packet::{Meta, ipv4::Ipv4};

fn echo(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, data: &[u8]) -> Echo<'_> {
    Echo { src: src.into(), dst: dst.into(), ttl: 9, reply: false, ident: 1, seq: 2, data }
}

#[test]
fn what_does_not_fit_is_none() {
    let mut out = vec![0; 70_000];
    assert_eq!(echo(CLIENT_V4, SERVICE_V6, &[]).write(&mut out), None, "two families");
    assert_eq!(echo(CLIENT_V4, SERVICE_V4, &[]).write(&mut out[..27]), None, "no room");
    assert_eq!(echo(CLIENT_V4, SERVICE_V4, &[]).write(&mut out[..28]), Some(28));
    let data = vec![0; 65_536];
    for (src, dst, max) in [
        (IpAddr::from(CLIENT_V4), IpAddr::from(SERVICE_V4), 65_507),
        (CLIENT_V6.into(), SERVICE_V6.into(), 65_527),
    ] {
        let datagram = |len| Datagram {
            src: (src, 1).into(),
            dst: (dst, 2).into(),
            ttl: 64,
            payload: &data[..len],
        };
        assert!(echo(src, dst, &data[..max]).write(&mut out).is_some());
        assert_eq!(echo(src, dst, &data[..=max]).write(&mut out), None);
        assert!(datagram(max).write(&mut out).is_some());
        assert_eq!(datagram(max + 1).write(&mut out), None);
        assert_eq!(datagram(data.len()).write(&mut out), None);
    }
}

#[test]
fn a_udp_checksum_is_never_zero() {
    let mut out = [0; 64];
    let mut met = 0;
    for word in 0..=u16::MAX {
        let payload = word.to_be_bytes();
        let datagram = Datagram {
            src: (CLIENT_V4, 4000).into(),
            dst: (SERVICE_V4, 53).into(),
            ttl: 64,
            payload: &payload,
        };
        let len = datagram.write(&mut out).unwrap();
        let udp = Udp::parse(&out[20..len]).unwrap();
        assert_ne!(udp.checksum(), 0);
        assert!(udp.is_valid(CLIENT_V4.into(), SERVICE_V4.into()));
        met += usize::from(udp.checksum() == 0xffff);
    }
    assert!(met > 0);
}

#[test]
fn fields_go_where_they_belong() {
    let mut out = [0; 64];
    let len = echo(CLIENT_V4, SERVICE_V4, b"data").write(&mut out).unwrap();
    let meta = Meta::parse(&out[..len]).unwrap();
    assert_eq!((meta.ttl, meta.dont_fragment, meta.len), (9, true, len));
    assert_eq!(Ipv4::parse(&out[..len]).unwrap().ident(), 0);
    assert_eq!(meta.flow.src_port, 1);
}
