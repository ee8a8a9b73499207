//! A site's DNS server, asked by code that was written elsewhere: hickory's codec, and dig.
#![allow(clippy::unwrap_used, reason = "the lint does not know helpers beside tests as tests")]

mod traffic_support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use traffic_support::{Site, V4, V6, in_namespace};

/// What a test asks.
struct Ask<'a> {
    name: &'a str,
    class: DNSClass,
    kind: RecordType,
    /// EDNS payload size; `None`: no EDNS.
    edns: Option<u16>,
    nsid: bool,
}

const IN_A: Ask =
    Ask { name: "www.example.", class: DNSClass::IN, kind: RecordType::A, edns: None, nsid: false };

impl Ask<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut query = Query::query(Name::from_ascii(self.name).unwrap(), self.kind);
        query.set_query_class(self.class);
        let mut message = Message::new(0x4242, MessageType::Query, OpCode::Query);
        message.add_query(query);
        if let Some(size) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            if self.nsid {
                let nothing = NSIDPayload::new(Vec::new()).unwrap();
                edns.options_mut().insert(EdnsOption::NSID(nothing));
            }
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    fn udp(&self, server: &str) -> Message {
        Message::from_vec(&exchange_udp(server, &self.encode()).expect("an answer")).unwrap()
    }

    fn tcp(&self, server: &str) -> Message {
        let mut stream = TcpStream::connect(address(server)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let query = self.encode();
        stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&query).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    }
}

fn address(server: &str) -> SocketAddr {
    SocketAddr::new(IpAddr::from_str(server).unwrap(), 53)
}

/// The socket is connected, so only an answer from the very address that was asked is seen. Asks
/// again, as resolvers do: a machine busy with other tests may drop a datagram.
fn exchange_udp(server: &str, query: &[u8]) -> Option<Vec<u8>> {
    let any = if server.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(address(server)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut answer = vec![0; 65_535];
    (0..5).find_map(|_| {
        socket.send(query).unwrap();
        let length = socket.recv(&mut answer).ok()?;
        Some(answer[..length].to_vec())
    })
}

fn text(message: &Message) -> String {
    match message.answers.as_slice() {
        [record] => match &record.data {
            RData::TXT(text) => {
                text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()
            }
            other => other.to_string(),
        },
        other => panic!("expected one answer, found {other:?}"),
    }
}

fn has_soa(message: &Message) -> bool {
    message.authorities.iter().any(|record| matches!(record.data, RData::SOA(_)))
}

#[test]
fn a_site_answers_for_itself_and_for_its_zone() {
    in_namespace("a_site_answers_for_itself_and_for_its_zone", || {
        let _site = Site::start("fra");
        for server in [V4, V6] {
            identity(server);
            zone(server);
            negative_answers(server);
            question_is_kept(server);
            sizes(server);
        }
    });
}

fn identity(server: &str) {
    for name in ["id.server.", "hostname.bind.", "version.bind.", "ID.Server."] {
        let ask = Ask { name, class: DNSClass::CH, kind: RecordType::TXT, ..IN_A };
        for answer in [ask.udp(server), ask.tcp(server)] {
            assert_eq!(text(&answer), "fra", "{name} at {server}");
            assert_eq!(answer.answers[0].dns_class, DNSClass::CH);
            assert_eq!(answer.answers[0].ttl, 0);
            assert!(answer.metadata.authoritative && answer.edns.is_none());
        }
    }
    for nsid in [false, true] {
        for class in [DNSClass::IN, DNSClass::CH] {
            let (name, kind) = match class {
                DNSClass::CH => ("id.server.", RecordType::TXT),
                _ => ("www.example.", RecordType::A),
            };
            let answer = Ask { name, class, kind, edns: Some(1_232), nsid }.udp(server);
            let edns = answer.edns.expect("EDNS is answered with EDNS");
            let expected = EdnsOption::NSID(NSIDPayload::new(*b"fra").unwrap());
            assert_eq!(edns.option(EdnsCode::NSID), nsid.then_some(&expected), "{class} {nsid}");
        }
    }
}

fn zone(server: &str) {
    let ask = |name, kind| Ask { name, kind, ..IN_A }.udp(server);
    assert_eq!(text(&ask("www.example.", RecordType::A)), V4);
    assert_eq!(text(&ask("www.example.", RecordType::AAAA)), V6);
    assert_eq!(text(&ask("site.example.", RecordType::TXT)), "fra");
    assert_eq!(text(&ask("example.", RecordType::NS)), "ns.example.");
    let soa = ask("example.", RecordType::SOA);
    assert!(matches!(soa.answers[0].data, RData::SOA(_)));
    assert!(soa.metadata.authoritative);
    assert_eq!(soa.metadata.response_code, ResponseCode::NoError);
}

fn negative_answers(server: &str) {
    let cases = [
        ("nobody.example.", DNSClass::IN, RecordType::A, ResponseCode::NXDomain, true),
        ("www.example.", DNSClass::IN, RecordType::MX, ResponseCode::NoError, true),
        ("example.", DNSClass::IN, RecordType::TXT, ResponseCode::NoError, true),
        ("elsewhere.test.", DNSClass::IN, RecordType::A, ResponseCode::Refused, false),
        ("www.example.", DNSClass::HS, RecordType::A, ResponseCode::Refused, false),
        ("www.example.", DNSClass::CH, RecordType::TXT, ResponseCode::Refused, false),
        ("id.server.", DNSClass::CH, RecordType::A, ResponseCode::NoError, false),
        ("id.server.", DNSClass::IN, RecordType::TXT, ResponseCode::Refused, false),
    ];
    for (name, class, kind, code, soa) in cases {
        let answer = Ask { name, class, kind, edns: None, nsid: false }.udp(server);
        let case = format!("{name} {class} {kind} at {server}");
        assert_eq!(answer.metadata.response_code, code, "{case}");
        assert_eq!(has_soa(&answer), soa, "{case}");
        assert!(answer.answers.is_empty(), "{case}");
    }
    let transfer = Ask { name: "example.", kind: RecordType::AXFR, ..IN_A }.tcp(server);
    assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);
    // Not a message: ignored, or answered with FORMERR; the server goes on either way.
    let socket = UdpSocket::bind(if server == V4 { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    for length in 0..40 {
        socket.send_to(&vec![0x5a; length], address(server)).unwrap();
    }
    let whole = IN_A.encode();
    for length in 12..whole.len() {
        socket.send_to(&whole[..length], address(server)).unwrap();
    }
    assert_eq!(text(&IN_A.udp(server)), V4);
}

fn question_is_kept(server: &str) {
    for name in ["wWw.ExAmPlE.", "WWW.EXAMPLE.", "nObOdY.eXaMpLe.", "elSEwhere.TEST."] {
        let query = Ask { name, ..IN_A }.encode();
        let answer = exchange_udp(server, &query).unwrap();
        assert_eq!(answer[12..query.len()], query[12..], "{name}");
    }
    let query = Ask { name: "iD.SeRvEr.", class: DNSClass::CH, kind: RecordType::TXT, ..IN_A };
    let query = query.encode();
    assert_eq!(exchange_udp(server, &query).unwrap()[12..query.len()], query[12..]);
}

fn sizes(server: &str) {
    let ask = |edns| Ask { name: "big.example.", kind: RecordType::TXT, edns, ..IN_A };
    for (edns, cut) in [(None, true), (Some(600), true), (Some(4_096), false)] {
        let bytes = exchange_udp(server, &ask(edns).encode()).unwrap();
        assert!(bytes.len() <= usize::from(edns.unwrap_or(512)), "{edns:?}: {}", bytes.len());
        assert_eq!(Message::from_vec(&bytes).unwrap().metadata.truncation, cut, "{edns:?}");
    }
    let whole = ask(None).tcp(server);
    assert!(!whole.metadata.truncation);
    assert_eq!(text(&whole).len(), 1_000);

    let mut message = Message::from_vec(&IN_A.encode()).unwrap();
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    let answer = exchange_udp(server, &message.to_vec().unwrap()).unwrap();
    let code = Message::from_vec(&answer).unwrap().metadata.response_code;
    // 16 is BADVERS (RFC 6891) and BADSIG (RFC 8945) alike.
    assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn dig_agrees() {
    in_namespace("dig_agrees", || {
        if Command::new("dig").arg("-v").output().is_err() {
            let why = "dig is not installed: apt-get install bind9-dnsutils";
            return traffic_support::skip::skip("dig_agrees", why);
        }
        let _site = Site::start("ams-2");
        let cases: [(&[&str], &str); 8] = [
            (&["id.server", "CH", "TXT", "+short"], "\"ams-2\"\n"),
            (&["version.bind", "CH", "TXT", "+short", "+tcp"], "\"ams-2\"\n"),
            (&["site.example", "TXT", "+short"], "\"ams-2\"\n"),
            (&["www.example", "A", "+short"], "198.51.100.53\n"),
            (&["www.example", "AAAA", "+short", "+tcp"], "2001:db8:53::53\n"),
            (&["www.example", "A", "+nsid"], "NSID: 61 6d 73 2d 32 (\"ams-2\")"),
            (&["nobody.example", "A"], "status: NXDOMAIN"),
            (&["big.example", "TXT", "+noedns", "+ignore"], "flags: qr aa tc rd"),
        ];
        for server in [V4, V6] {
            for (args, expected) in cases {
                let at = format!("@{server}");
                let output = Command::new("dig").arg(&at).args(args).output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "dig {at} {args:?}: {output:?}");
                assert!(text.contains(expected), "dig {at} {args:?} said:\n{text}");
                assert!(!text.contains("Warning"), "dig {at} {args:?} warns:\n{text}");
            }
        }
    });
}
