//! A site's page, its echo, how it starts, and how it fails to.
#![allow(clippy::unwrap_used, reason = "the lint does not know helpers beside tests as tests")]

mod traffic_support;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use nearhop::time::Nanos;
use nearlab::traffic::wire::{Echo, PROBE_LEN, Probe};
use traffic_support::{Site, V4, V6, eventually, in_namespace, options};

fn get(host: &str, path: &str) -> String {
    // IPv6 of a namespace made a moment ago may still say that the network is unreachable.
    let mut stream = eventually("a connection", || TcpStream::connect((host, 80)).ok());
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: www.example\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_page_says_who_answers_whom() {
    in_namespace("the_page_says_who_answers_whom", || {
        let _site = Site::start("fra");
        for (host, family) in [(V4, "IPv4"), (V6, "IPv6")] {
            let page = get(host, "/");
            assert!(page.starts_with("HTTP/1.1 200"), "{page}");
            let client = format!("{host} ({family})");
            for part in ["<strong>fra</strong>", &client, "<time datetime=\"20"] {
                assert!(page.contains(part), "{part} is not in {page}");
            }
            assert!(get(host, "/site").ends_with("\r\n\r\nfra\n"));
            assert!(get(host, "/nothing").starts_with("HTTP/1.1 404"));
        }
    });
}

#[test]
fn the_echo_answers_probes_and_nothing_else() {
    in_namespace("the_echo_answers_probes_and_nothing_else", || {
        let _site = Site::start("fra");
        for (host, any) in [(V4, "0.0.0.0:0"), (V6, "[::]:0")] {
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect((host, 7)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let before = Nanos::now().0;
            let probe = Probe { flow: 7, seq: 1, sent_ns: before };
            // Only the last of these is a probe; if another were answered, its echo came first.
            let mut other_magic = probe.encode();
            other_magic[3] = b'A';
            socket.send(&other_magic).unwrap();
            socket.send(b"hello").unwrap();
            socket.send(&[0; 1_400]).unwrap();
            socket.send(&probe.encode()).unwrap();
            let mut answer = [0; 2_000];
            let length = socket.recv(&mut answer).unwrap();
            assert_eq!(length, PROBE_LEN, "an echo is as long as its probe");
            let echo = Echo::decode(&answer[..length]).unwrap();
            assert_eq!((echo.probe, echo.site), (probe, "fra"));
            assert!(echo.server_ns + 500_000 >= before && echo.server_ns <= Nanos::now().0);
        }
    });
}

#[test]
fn a_site_is_ready_only_when_all_is_bound_and_otherwise_says_why() {
    in_namespace("a_site_is_ready_only_when_all_is_bound_and_otherwise_says_why", || {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let mut site = Site::command(&nearlab::site::SiteOptions {
            ready_file: Some(ready.clone()),
            ..options("fra")
        })
        // A parent that does not read must not end the site.
        .stdout(Stdio::null())
        .spawn()
        .map(Site)
        .unwrap();
        eventually("the ready file", || ready.exists().then_some(()));
        assert!(get(V4, "/site").ends_with("fra\n"));

        let mut elsewhere = options("ams");
        elsewhere.addresses = vec!["203.0.113.9".parse().unwrap()];
        let cases = [
            (options("ams"), "cannot bind DNS over UDP to 198.51.100.53:53", "ss -lnp"),
            (elsewhere, "203.0.113.9:53", "ip address add 203.0.113.9/32 dev lo"),
        ];
        for (options, place, advice) in cases {
            let output = Site::command(&options).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{text}");
            assert!(text.contains(place) && text.contains(advice), "{text}");
            assert!(output.stdout.is_empty(), "not ready");
        }
        site.kill();
        let output = Site::command(&nearlab::site::SiteOptions {
            ready_file: Some(folder.path().join("no/such/folder")),
            ..options("fra")
        })
        .output()
        .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("cannot report that it is ready") && text.contains("no/such"),
            "{text}"
        );
    });
}
