//! Clients of the API that ask and never read, or begin and never end: they are bounded, and nobody else
//! waits for them.
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing it did not expect")]

mod daemon_support;
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use daemon_support::{Rig, config_with};
use nearhop::client::Client;
use support::in_namespaces;

const SITES: daemon_support::Costs<'static> = &[("ams", 10), ("fra", 20)];

#[test]
fn idle_and_deaf_clients_are_bounded_and_hold_nobody_up() {
    in_namespaces("idle_and_deaf_clients_are_bounded_and_hold_nobody_up", || {
        let mut text = config_with(SITES, "[]");
        text = text.replacen("[router]", "[api]\nhttp = \"127.0.0.1:7780\"\n[router]", 1);
        for n in 0..20_000 {
            let _ = write!(
                text,
                "[[route]]\nprefix = \"100.64.{}.{}/32\"\nvia = \"fra\"\n",
                n / 256,
                n % 256
            );
        }
        let rig = Rig::start_with(SITES, &text);
        support::run("ip link set lo up");
        let resident = || {
            let status = fs::read_to_string(format!("/proc/{}/status", rig.router.id())).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        let connect = || TcpStream::connect(HTTP).unwrap();
        // These ask for a long answer and never read it; then come those who say nothing, or half a head,
        // more than there are places.
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..40 {
            let mut client = connect();
            // Else the kernel would hold the whole answer.
            rustix::net::sockopt::set_socket_recv_buffer_size(&client, 4096).unwrap();
            write!(client, "GET /v1/show/fib HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").unwrap();
            clients.push(client);
        }
        for n in 0..nearhop::api::CONNECTIONS_MAX {
            let mut client = connect();
            if n % 2 == 0 {
                client.write_all(b"GET /v1/show/fib HT").unwrap();
            }
            clients.push(client);
        }
        for _ in 0..20 {
            assert_eq!(rig.show("ports").len(), 3, "the control socket has places of its own");
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 64 << 10, "{grown} KiB for {} clients", clients.len());
        // They are cut off, and somebody else is served.
        let answer = answer_to("/v1/show/ports", "localhost");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for client in &clients {
            let _ = client.shutdown(Shutdown::Both);
        }
        let answer = answer_to("/healthz", "127.0.0.1");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ready\n"), "{answer}");
        // A name that somebody else's server gave to this address is not ours.
        let answer = answer_to("/v1/show/ports", "evil.example");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    });
}

#[test]
fn metrics_say_what_show_says_and_events_who_gave_a_command() {
    in_namespaces("metrics_say_what_show_says_and_events_who_gave_a_command", || {
        let rig = Rig::start(SITES);
        assert!(rig.nearhop(&["drain", "fra"]).status.success());
        rig.write_file(&config_with(SITES, "[]"));
        assert!(rig.nearhop(&["reload"]).status.success());
        let me = format!("uid {} pid ", rustix::process::getuid().as_raw());
        let events = rig.events_until(|event| event["kind"] == "reload");
        for kind in ["drain", "reload"] {
            let event = events.iter().find(|event| event["kind"] == kind).unwrap();
            let by = event["by"].as_str().unwrap();
            assert!(by.starts_with(&me), "{kind} by {by}, not {me}");
        }
        let client = Client::new(rig.dir.join("r1.sock")).unwrap();
        let text = String::from_utf8(client.get("/metrics").unwrap().to_vec()).unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in [
            "nearhop_port_up{port=\"ams\"} 1",
            "nearhop_leg_up{service=\"echo\",family=\"ipv4\",site=\"ams\",port=\"ams\"} 1",
            "nearhop_leg_cost{service=\"echo\",family=\"ipv6\",site=\"fra\",port=\"fra\"} 20.0",
            "nearhop_router_services{router=\"r1\"} 1.0",
        ] {
            assert!(text.lines().any(|one| one == line), "no line {line}\n{text}");
        }
        // Every sample is a name, labels and a number, of a family that was declared.
        let mut families = BTreeSet::new();
        for line in text.lines() {
            if let Some(of) = line.strip_prefix("# TYPE ") {
                families.insert(of.split(' ').next().unwrap().to_owned());
            }
            if line.starts_with('#') {
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = sample.split('{').next().unwrap();
            let family = name.strip_suffix("_total").unwrap_or(name);
            assert!(families.contains(family), "{family} is not declared");
        }
        check_by_promtool(&text);
        let groups = rig.show("groups");
        let of_echo: Vec<_> = groups.iter().filter(|row| row["service"] == "echo").collect();
        assert_eq!(of_echo.len(), 2, "one for each family: {groups:?}");
        assert!(of_echo.iter().all(|row| row["members"] == 2 && row["prefixes"] == 1));
        let adjacencies = rig.show("adjacencies");
        assert_eq!(adjacencies.len(), 3);
        assert!(adjacencies.iter().all(|row| row["state"] == "up" && row["mtu"] == 1500));
    });
}

/// What Prometheus' own tool says of the text, where it is installed.
fn check_by_promtool(text: &str) {
    let tool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let Ok(mut tool) = tool else {
        eprintln!("promtool is not installed: the text was only parsed");
        return;
    };
    tool.stdin.take().unwrap().write_all(older_format(text).as_bytes()).unwrap();
    assert!(tool.wait().unwrap().success());
}

/// OpenMetrics as the format that promtool reads: there a counter is declared by the name of its samples,
/// and nothing marks the end.
fn older_format(text: &str) -> String {
    let declared =
        |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: BTreeSet<String> = text.lines().filter_map(declared).collect();
    let mut older = String::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        let name = if words.next() == Some("#") { words.nth(1) } else { None };
        match name.filter(|name| counters.contains(*name)) {
            Some(name) => older += &line.replacen(name, &format!("{name}_total"), 1),
            None => older += line,
        }
        older.push('\n');
    }
    older
}

/// What the API says to one who reads it.
fn answer_to(path: &str, host: &str) -> String {
    let mut client = TcpStream::connect(HTTP).unwrap();
    client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    write!(client, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// Where the API listens over TCP.
const HTTP: &str = "127.0.0.1:7780";
