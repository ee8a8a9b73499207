//! Every accessor of every view against smoltcp's, on valid and invalid packets.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod packet_support;

use nearhop::packet::ipv6::Extensions;
use nearhop::packet::{Fragment, Meta, icmp, icmpv6, ipv4, ipv6, tcp, udp};
use nearhop::verdict::Verdict;
use packet_support::{mutated, payload};
use proptest::prelude::*;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet, Ipv6ExtHeader,
    Ipv6FragmentHeader, Ipv6Packet, Ipv6RoutingHeader, TcpPacket, UdpPacket,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn ipv4_is_as_smoltcp_reads_it(bytes in mutated(packet_support::ipv4())) {
        let theirs = Ipv4Packet::new_checked(&bytes[..]).ok();
        let theirs = theirs.filter(|p| p.version() == 4 && p.verify_checksum());
        match (ipv4::Ipv4::parse(&bytes), theirs) {
            (Ok(ours), Some(theirs)) => same_ipv4(&ours, &theirs)?,
            // smoltcp checks neither options nor the end of a fragment.
            (Err(Verdict::BadOption | Verdict::SourceRoute), Some(theirs)) => {
                prop_assert!(theirs.header_len() > 20);
            }
            (Err(Verdict::BadFragment), Some(theirs)) => {
                let end = theirs.frag_offset() as usize + theirs.total_len() as usize;
                prop_assert!(end > 65_535, "ends at {end}");
            }
            (Err(_), None) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} but {theirs:?}"),
        }
    }

    #[test]
    fn ipv6_is_as_smoltcp_reads_it(bytes in mutated(packet_support::ipv6())) {
        let theirs = Ipv6Packet::new_checked(&bytes[..]).ok().filter(|p| p.version() == 6);
        match (ipv6::Ipv6::parse(&bytes), theirs) {
            (Ok(ours), Some(theirs)) => {
                same_ipv6(&ours, &theirs)?;
                let want = walk(theirs.next_header(), theirs.payload());
                prop_assert_eq!(ours.extensions(), want);
            }
            (Err(Verdict::Jumbogram | Verdict::BadTotalLength), Some(theirs)) => {
                prop_assert_eq!(theirs.payload_len(), 0);
                prop_assert_eq!(theirs.next_header(), IpProtocol::HopByHop);
            }
            (Err(_), None) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} but {theirs:?}"),
        }
    }

    #[test]
    fn meta_is_what_the_views_say(bytes in prop_oneof![
        mutated(packet_support::ipv4()),
        mutated(packet_support::ipv6()),
    ]) {
        if let Ok(meta) = Meta::parse(&bytes) {
            prop_assert!(meta.header_len <= meta.len && meta.len <= bytes.len());
            prop_assert_eq!(Meta::parse(&bytes[..meta.len]), Ok(meta));
            for len in 0..meta.len {
                prop_assert!(Meta::parse(&bytes[..len]).is_err());
            }
            match bytes[0] >> 4 {
                4 => meta_of_ipv4(&meta, &Ipv4Packet::new_checked(&bytes[..]).unwrap())?,
                _ => meta_of_ipv6(&meta, &Ipv6Packet::new_checked(&bytes[..]).unwrap())?,
            }
        }
    }

    #[test]
    fn udp_is_as_smoltcp_reads_it(
        mut bytes in payload(), src: [u8; 4], dst: [u8; 4], tame in 0..4u8
    ) {
        let [src, dst] = [src, dst].map(std::net::Ipv4Addr::from);
        if tame > 0 && bytes.len() >= 8 {
            let len = (bytes.len() as u16).to_be_bytes();
            bytes[4..6].copy_from_slice(&len);
        }
        if tame > 1 && bytes.len() >= 8 {
            UdpPacket::new_unchecked(&mut bytes[..]).fill_checksum(&src.into(), &dst.into());
        }
        match (udp::Udp::parse(&bytes), UdpPacket::new_checked(&bytes[..])) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.src_port(), theirs.src_port());
                prop_assert_eq!(ours.dst_port(), theirs.dst_port());
                prop_assert_eq!(ours.datagram_len(), theirs.len());
                prop_assert_eq!(ours.checksum(), theirs.checksum());
                prop_assert_eq!(ours.payload(), theirs.payload());
                let valid = theirs.verify_checksum(&IpAddress::Ipv4(src), &IpAddress::Ipv4(dst));
                prop_assert_eq!(ours.is_valid(src.into(), dst.into()), valid);
            }
            (ours, theirs) => prop_assert_eq!(ours.is_err(), theirs.is_err()),
        }
    }

    #[test]
    fn tcp_is_as_smoltcp_reads_it(
        mut bytes in payload(), src: [u8; 16], dst: [u8; 16], tame in 0..4u8
    ) {
        let [src, dst] = [src, dst].map(std::net::Ipv6Addr::from);
        if tame > 0 && bytes.len() >= 20 {
            bytes[12] = (5 + tame) << 4 | bytes[12] & 1;
        }
        if tame > 1 && bytes.len() >= 20 {
            TcpPacket::new_unchecked(&mut bytes[..]).fill_checksum(&src.into(), &dst.into());
        }
        match (tcp::Tcp::parse(&bytes), TcpPacket::new_checked(&bytes[..])) {
            (Ok(ours), Ok(theirs)) => same_tcp(&ours, &theirs, src, dst)?,
            (ours, theirs) => prop_assert_eq!(ours.is_err(), theirs.is_err()),
        }
    }

    #[test]
    fn icmp_is_as_smoltcp_reads_it(mut bytes in payload(), tame: bool) {
        if tame && bytes.len() >= 8 {
            Icmpv4Packet::new_unchecked(&mut bytes[..]).fill_checksum();
        }
        match (icmp::Message::parse(&bytes), Icmpv4Packet::new_checked(&bytes[..])) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.kind(), u8::from(theirs.msg_type()));
                prop_assert_eq!(ours.code(), theirs.msg_code());
                prop_assert_eq!(ours.checksum(), theirs.checksum());
                prop_assert_eq!(ours.ident(), theirs.echo_ident());
                prop_assert_eq!(ours.seq(), theirs.echo_seq_no());
                prop_assert_eq!(icmp::mtu(&ours), theirs.echo_seq_no());
                prop_assert_eq!(ours.data(), theirs.data());
                prop_assert_eq!(icmp::is_valid(&ours), theirs.verify_checksum());
            }
            (ours, theirs) => prop_assert_eq!(ours.is_err(), theirs.is_err()),
        }
    }

    #[test]
    fn icmpv6_is_as_smoltcp_reads_it(
        kind in prop::sample::select(vec![1u8, 2, 3, 4, 128, 129]),
        mut bytes in payload(), src: [u8; 16], dst: [u8; 16], tame: bool,
    ) {
        let [src, dst] = [src, dst].map(std::net::Ipv6Addr::from);
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if tame && bytes.len() >= 8 {
            Icmpv6Packet::new_unchecked(&mut bytes[..]).fill_checksum(&src, &dst);
        }
        match (icmp::Message::parse(&bytes), Icmpv6Packet::new_checked(&bytes[..])) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.kind(), u8::from(theirs.msg_type()));
                prop_assert_eq!(ours.code(), theirs.msg_code());
                prop_assert_eq!(ours.checksum(), theirs.checksum());
                prop_assert_eq!(ours.ident(), theirs.echo_ident());
                prop_assert_eq!(ours.seq(), theirs.echo_seq_no());
                prop_assert_eq!(icmpv6::mtu(&ours), theirs.pkt_too_big_mtu());
                prop_assert_eq!(ours.rest_of_header(), theirs.param_problem_ptr());
                prop_assert_eq!(ours.data(), theirs.payload());
                prop_assert_eq!(
                    icmpv6::is_valid(&ours, src, dst),
                    theirs.verify_checksum(&src, &dst)
                );
            }
            (ours, theirs) => prop_assert_eq!(ours.is_err(), theirs.is_err()),
        }
    }
}

fn same_ipv4(ours: &ipv4::Ipv4, theirs: &Ipv4Packet<&[u8]>) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.header_len(), usize::from(theirs.header_len()));
    prop_assert_eq!(ours.tos(), theirs.dscp() << 2 | theirs.ecn());
    prop_assert_eq!(ours.total_len(), theirs.total_len());
    prop_assert_eq!(ours.ident(), theirs.ident());
    prop_assert_eq!(ours.dont_fragment(), theirs.dont_frag());
    prop_assert_eq!(ours.more_fragments(), theirs.more_frags());
    prop_assert_eq!(ours.fragment_offset(), usize::from(theirs.frag_offset()));
    prop_assert_eq!(ours.ttl(), theirs.hop_limit());
    prop_assert_eq!(ours.protocol(), u8::from(theirs.next_header()));
    prop_assert_eq!(ours.checksum(), theirs.checksum());
    prop_assert_eq!(ours.src(), theirs.src_addr());
    prop_assert_eq!(ours.dst(), theirs.dst_addr());
    prop_assert_eq!(ours.payload(), theirs.payload());
    prop_assert_eq!(ours.options().len() + 20, ours.header_len());
    Ok(())
}

fn same_ipv6(ours: &ipv6::Ipv6, theirs: &Ipv6Packet<&[u8]>) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.traffic_class(), theirs.traffic_class());
    prop_assert_eq!(ours.flow_label(), theirs.flow_label());
    prop_assert_eq!(ours.payload_len(), theirs.payload_len());
    prop_assert_eq!(ours.next_header(), u8::from(theirs.next_header()));
    prop_assert_eq!(ours.hop_limit(), theirs.hop_limit());
    prop_assert_eq!(ours.src(), theirs.src_addr());
    prop_assert_eq!(ours.dst(), theirs.dst_addr());
    prop_assert_eq!(ours.payload(), theirs.payload());
    Ok(())
}

fn same_tcp(
    ours: &tcp::Tcp,
    theirs: &TcpPacket<&[u8]>,
    src: std::net::Ipv6Addr,
    dst: std::net::Ipv6Addr,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.src_port(), theirs.src_port());
    prop_assert_eq!(ours.dst_port(), theirs.dst_port());
    prop_assert_eq!(ours.seq().cast_signed(), theirs.seq_number().0);
    prop_assert_eq!(ours.ack().cast_signed(), theirs.ack_number().0);
    prop_assert_eq!(ours.header_len(), usize::from(theirs.header_len()));
    for (flag, set) in [
        (tcp::FIN, theirs.fin()),
        (tcp::SYN, theirs.syn()),
        (tcp::RST, theirs.rst()),
        (tcp::PSH, theirs.psh()),
        (tcp::ACK, theirs.ack()),
        (tcp::URG, theirs.urg()),
        (tcp::ECE, theirs.ece()),
        (tcp::CWR, theirs.cwr()),
    ] {
        prop_assert_eq!(ours.flags() & flag != 0, set);
    }
    prop_assert_eq!(ours.window(), theirs.window_len());
    prop_assert_eq!(ours.checksum(), theirs.checksum());
    prop_assert_eq!(ours.urgent(), theirs.urgent_at());
    prop_assert_eq!(ours.options(), theirs.options());
    prop_assert_eq!(ours.payload(), theirs.payload());
    let valid = theirs.verify_checksum(&IpAddress::Ipv6(src), &IpAddress::Ipv6(dst));
    prop_assert_eq!(ours.is_valid(src.into(), dst.into()), valid);
    Ok(())
}

fn meta_of_ipv4(meta: &Meta, theirs: &Ipv4Packet<&[u8]>) -> Result<(), TestCaseError> {
    prop_assert_eq!(meta.len, usize::from(theirs.total_len()));
    prop_assert_eq!(meta.header_len, usize::from(theirs.header_len()));
    prop_assert_eq!((meta.src, meta.dst), (theirs.src_addr().into(), theirs.dst_addr().into()));
    prop_assert_eq!(meta.dont_fragment, theirs.dont_frag());
    prop_assert_eq!(meta.protocol, u8::from(theirs.next_header()));
    let part = match (theirs.frag_offset(), theirs.more_frags()) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    prop_assert_eq!(meta.fragment, part);
    same_ports(meta, theirs.payload())
}

fn meta_of_ipv6(meta: &Meta, theirs: &Ipv6Packet<&[u8]>) -> Result<(), TestCaseError> {
    prop_assert_eq!(meta.len, theirs.total_len());
    prop_assert_eq!((meta.src, meta.dst), (theirs.src_addr().into(), theirs.dst_addr().into()));
    prop_assert!(meta.dont_fragment);
    if meta.protocol != 58 {
        prop_assert_eq!(meta.flow.label, theirs.flow_label());
    }
    let walked = walk(theirs.next_header(), theirs.payload()).unwrap();
    prop_assert_eq!(meta.header_len, 40 + walked.len);
    prop_assert_eq!(meta.protocol, walked.protocol);
    same_ports(meta, &theirs.payload()[walked.len..])
}

fn same_ports(meta: &Meta, upper: &[u8]) -> Result<(), TestCaseError> {
    let has_ports = matches!(meta.protocol, 6 | 17 | 33 | 132 | 136);
    if meta.fragment == Fragment::Whole && has_ports && upper.len() >= 8 {
        let ports = UdpPacket::new_unchecked(upper);
        prop_assert_eq!(meta.flow.src_port, ports.src_port());
        prop_assert_eq!(meta.flow.dst_port, ports.dst_port());
    }
    Ok(())
}

/// The extension headers by smoltcp's views; this function only walks the chain.
fn walk(first: IpProtocol, payload: &[u8]) -> Result<Extensions, Verdict> {
    let mut found = Extensions { protocol: first.into(), len: 0, fragment: None };
    for step in 0..9 {
        let rest = &payload[found.len..];
        // An authentication header's length is in words of 4 bytes, which smoltcp's view does not
        // implement.
        let authentication = || match rest {
            [next, len, ..] => (*next, (usize::from(*len) + 2) * 4),
            _ => (0, usize::MAX),
        };
        let generic = || match Ipv6ExtHeader::new_checked(rest) {
            Ok(header) => (header.next_header().into(), header.payload().len() + 2),
            Err(_) => (0, usize::MAX),
        };
        let (next, len) = match found.protocol {
            51 => authentication(),
            44 => (rest.first().copied().unwrap_or(0), 8),
            0 | 43 | 60 => generic(),
            _ => return Ok(found),
        };
        if step == 8 {
            return Err(Verdict::TooManyExtensions);
        }
        let body = rest.get(2..len).ok_or(Verdict::BadOption)?;
        match found.protocol {
            0 if step > 0 => return Err(Verdict::BadOption),
            0 => hop_by_hop(body)?,
            43 if u8::from(Ipv6RoutingHeader::new_unchecked(body).routing_type()) == 0 => {
                return Err(Verdict::SourceRoute);
            }
            44 if found.fragment.is_some() => return Err(Verdict::BadFragment),
            44 => {
                let header = Ipv6FragmentHeader::new_checked(body).unwrap();
                found.fragment = Some(ipv6::FragmentHeader {
                    end: found.len + 8,
                    next_header: next,
                    offset: usize::from(header.frag_offset()) * 8,
                    more: header.more_frags(),
                    ident: header.ident(),
                });
            }
            _ => {}
        }
        (found.protocol, found.len) = (next, found.len + len);
        if found.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return Ok(found);
        }
    }
    unreachable!()
}

/// At most 16 options by smoltcp's view.
fn hop_by_hop(mut options: &[u8]) -> Result<(), Verdict> {
    for _ in 0..16 {
        if options.is_empty() {
            return Ok(());
        }
        let option = smoltcp::wire::Ipv6Option::new_unchecked(options);
        if u8::from(option.option_type()) == 0xc2 && options.get(1) == Some(&4) {
            return Err(Verdict::Jumbogram);
        }
        option.check_len().map_err(|_| Verdict::BadOption)?;
        let pad_1 = option.option_type() == smoltcp::wire::Ipv6OptionType::Pad1;
        options = &options[if pad_1 { 1 } else { 2 + usize::from(option.data_len()) }..];
    }
    Ok(())
}
