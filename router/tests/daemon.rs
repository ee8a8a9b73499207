//! The daemon on real devices: a client, a router, two sites.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use daemon_support::{Probes, Rig, SERVICE_V4, SERVICE_V6, Tracer, Watch, config, signal};
use nearhop::kernel::link::LinkSetup;
use support::in_namespaces;

const AMS_FIRST: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];
const FRA_FIRST: &[(&str, u32)] = &[("ams", 30), ("fra", 20)];
const EQUAL: &[(&str, u32)] = &[("ams", 10), ("fra", 10)];

#[test]
fn drains_and_reloads_move_every_flow_and_lose_nothing() {
    in_namespaces("drains_and_reloads_move_every_flow_and_lose_nothing", || {
        let rig = Rig::start(AMS_FIRST);
        let watch = Watch::start(&rig);
        for to in [SERVICE_V4, SERVICE_V6] {
            let probes = Probes::start(&rig.client, to, 4);
            probes.wait_for_site("ams");
            assert!(rig.nearhop(&["drain", "ams"]).status.success());
            probes.wait_for_site("fra");
            assert!(rig.nearhop(&["undrain", "ams"]).status.success());
            probes.wait_for_site("ams");
            rig.write_config(FRA_FIRST);
            let out = rig.nearhop(&["reload"]);
            assert!(String::from_utf8_lossy(&out.stdout).contains("cost 10 -> 30"), "{out:?}");
            probes.wait_for_site("fra");
            rig.write_config(AMS_FIRST);
            signal(&rig.router, rustix::process::Signal::HUP);
            probes.wait_for_site("ams");
            let (sent, lost, _) = probes.finish();
            assert!(sent > 10 && lost == 0, "{lost} of {sent} lost");
        }
        watch.wait_for("the reload's event", |event| event["kind"] == "reload");
        let lines = watch.lines.lock().unwrap();
        let seqs: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    });
}

/// A connection of TCP to a site that is drained is reset by the next one, which does not know it; that is what
/// help, manual and answer say.
#[test]
fn a_drain_ends_connections_of_tcp_and_says_so() {
    in_namespaces("a_drain_ends_connections_of_tcp_and_says_so", || {
        let rig = Rig::start(AMS_FIRST);
        for site in ["ams", "fra"] {
            let at = (SERVICE_V4.parse::<std::net::Ipv4Addr>().unwrap(), 9);
            let listen = || std::net::TcpListener::bind(at);
            let listener = rig.site_netns(site).within(listen).unwrap().unwrap();
            std::thread::spawn(move || {
                // Ends with the test's process; keeps what connects open.
                let mut open = Vec::new();
                for mut stream in listener.incoming().map_while(Result::ok) {
                    stream.write_all(site.as_bytes()).unwrap();
                    open.push(stream);
                }
            });
        }
        let connect = || {
            let to = std::net::SocketAddr::new(SERVICE_V4.parse().unwrap(), 9);
            let mut stream = rig.client.within(|| TcpStream::connect(to)).unwrap().unwrap();
            let mut site = [0; 3];
            stream.read_exact(&mut site).unwrap();
            (stream, String::from_utf8_lossy(&site).into_owned())
        };
        let (mut old, site) = connect();
        assert_eq!(site, "ams");
        let out = rig.nearhop(&["drain", "ams"]);
        let text = String::from_utf8_lossy(&out.stdout);
        let effect = "effect: all flows of ams, old ones too, move to other sites now; their TCP \
                      connections end, because the new site does not know them\n";
        assert!(text.starts_with(effect), "{text}");
        let row = text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, ["ams", "yes", "no", "echo", "ipv6", "fra", "1", "-"], "{text}");
        assert_eq!(connect().1, "fra");
        old.write_all(b"x").unwrap();
        let ended = old.read(&mut [0; 8]).unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

/// However the router ends, its watchers say that it has, and exit with a status of their own.
#[test]
fn watchers_say_that_the_router_has_ended() {
    in_namespaces("watchers_say_that_the_router_has_ended", || {
        let mut rig = Rig::start(AMS_FIRST);
        for end in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            let mut watch = Command::new(env!("CARGO_BIN_EXE_nearhop"));
            watch.args(["watch", "--since", "0"]).env("NEARHOP_SOCKET", rig.dir.join("r1.sock"));
            let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut first = String::new();
            let mut lines = BufReader::new(watch.stdout.take().unwrap());
            lines.read_line(&mut first).unwrap();
            assert!(first.contains("nearhop.event.v1"), "{first}");
            signal(&rig.router, end);
            let ended = watch.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!((&*said, ended.status.code()), ("the router has ended\n", Some(4)));
            rig.router.wait().unwrap();
            rig.restart(AMS_FIRST);
            rig.connect();
            rig.wait_all_up();
        }
    });
}

/// Drains, disables and reloads that would leave a service without a site are refused, and what is forced is
/// shown; what is disabled stays so over a restart.
#[test]
fn the_last_site_is_guarded_and_a_disabled_one_stays_out() {
    in_namespaces("the_last_site_is_guarded_and_a_disabled_one_stays_out", || {
        let mut rig = Rig::start(AMS_FIRST);
        let watch = Watch::start(&rig);
        let refused = |words: &[&str], what: &str| {
            let out = rig.nearhop(words);
            let error = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(!out.status.success() && error.contains(what), "{words:?}: {error}");
            assert!(error.contains("--force"), "{error}");
        };
        let done = |words: &[&str]| -> String {
            let out = rig.nearhop(words);
            assert!(out.status.success(), "{words:?}: {out:?}");
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        done(&["drain", "fra"]);
        refused(&["drain", "ams"], "drain ams leaves no site for echo");
        refused(&["disable", "ams"], "disable ams leaves no site for echo");
        rig.write_config(&AMS_FIRST[1..]);
        refused(&["reload"], "reload leaves no site for echo");
        rig.write_config(AMS_FIRST);
        let forced = done(&["drain", "ams", "--force"]);
        assert!(forced.contains("only drained sites are left"), "{forced}");
        let last = |event: &serde_json::Value| event["resort"] == "drained";
        watch.wait_for("the last resort", last);
        let probes = Probes::start(&rig.client, SERVICE_V4, 2);
        probes.wait_for_site("ams");
        done(&["undrain", "fra"]);
        probes.wait_for_site("fra");
        done(&["undrain", "ams"]);
        probes.wait_for_site("ams");
        done(&["disable", "ams"]);
        probes.wait_for_site("fra");
        assert_eq!(probes.finish().1, 0);
        let state = |rig: &Rig| {
            let of_ams = |row: &serde_json::Value| row["site"] == "ams";
            let rows = rig.show("services");
            rows.into_iter().find(of_ams).map(|row| row["state"].clone()).unwrap()
        };
        assert_eq!(state(&rig), "disabled");
        let why = |row: &serde_json::Value| row["why"] == "disabled by an operator";
        assert_eq!(rig.show("services").iter().filter(|row| why(row)).count(), 2);
        assert_eq!(rig.terminate(), Some(0));
        rig.restart(AMS_FIRST);
        rig.connect();
        assert_eq!(state(&rig), "disabled");
        let probes = Probes::start(&rig.client, SERVICE_V4, 2);
        probes.wait_for_site("fra");
        assert!(rig.nearhop(&["enable", "ams"]).status.success());
        probes.wait_for_site("ams");
    });
}

#[test]
fn workers_say_which_code_looks_up_and_their_number_stays() {
    in_namespaces("workers_say_which_code_looks_up_and_their_number_stays", || {
        let rig = Rig::start(AMS_FIRST);
        let text = config(AMS_FIRST).replace("workers = 2\n", "workers = 1\n");
        std::fs::write(rig.dir.join("r1.toml"), text).unwrap();
        let out = rig.nearhop(&["reload"]);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && error.contains("workers cannot change"), "{error}");
        for worker in rig.show("workers") {
            for by in ["lookups_v4_by", "lookups_v6_by"] {
                assert!(worker[by].as_str().is_some_and(|code| !code.is_empty()), "{worker}");
            }
        }
    });
}

#[test]
fn a_broken_file_changes_nothing_and_says_where() {
    in_namespaces("a_broken_file_changes_nothing_and_says_where", || {
        let rig = Rig::start(AMS_FIRST);
        let before = rig.show("fib");
        fs::write(rig.dir.join("r1.toml"), "[router]\nname = 5\nnonsense = 1\n").unwrap();
        let out = rig.nearhop(&["reload"]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(text.contains("r1.toml:2:8") && text.contains("r1.toml:3:1"), "{text}");
        assert_eq!(rig.show("fib").len(), before.len());
    });
}

#[test]
fn explain_names_the_site_that_a_flow_really_goes_to() {
    in_namespaces("explain_names_the_site_that_a_flow_really_goes_to", || {
        let rig = Rig::start(EQUAL);
        let mut sites = std::collections::BTreeSet::new();
        for port in 41_000..41_016_u16 {
            let socket =
                rig.client.within(|| UdpSocket::bind(("10.0.0.2", port))).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send_to(&[0; 8], (SERVICE_V4, 7)).unwrap();
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer).unwrap();
            let site = String::from_utf8_lossy(&buffer[8..len]).into_owned();
            let sport = port.to_string();
            let flow = ["--from", "10.0.0.2", "--proto", "udp", "--sport", &sport, "--dport", "7"];
            let out = rig.nearhop(&[&["explain", SERVICE_V4, "--json"], &flow[..]].concat());
            let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            let chosen = said["items"].as_array().unwrap().iter().find(|m| m["chosen"] == true);
            assert_eq!(chosen.unwrap()["site"], site, "{said}");
            sites.insert(site);
        }
        assert_eq!(sites.len(), 2, "equal sites share the flows");
    });
}

/// The ports that lead to sites have no IPv6 address, so IPv6 checks have no source.
#[test]
fn a_leg_that_cannot_be_checked_is_down_and_the_router_ready() {
    in_namespaces("a_leg_that_cannot_be_checked_is_down_and_the_router_ready", || {
        let config = daemon_support::config(AMS_FIRST)
            .replace(", \"fd00:1::1/64\"", "")
            .replace(", \"fd00:2::1/64\"", "");
        let rig = Rig::begin_with(AMS_FIRST, &config);
        support::wait_for("the router to be ready", || {
            rig.dir.join("ready").exists().then_some(())
        });
        let legs = rig.show("services");
        let why = "unreachable: no check is possible: neither port ams nor [router] has an IPv6 \
                   address";
        for family in ["ipv4", "ipv6"] {
            let of = |leg: &&serde_json::Value| leg["site"] == "ams" && leg["family"] == family;
            let leg = legs.iter().find(of).unwrap();
            let wanted = if family == "ipv4" { ("up", "lowest cost") } else { ("down", why) };
            assert_eq!((&leg["state"], &leg["why"]), (&wanted.0.into(), &wanted.1.into()));
        }
        let out = rig.nearhop(&["explain", SERVICE_V6]);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(said.contains(why), "{said}");
        let out = rig.nearhop(&["check", "/run/rig/r1.toml"]);
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(said.contains("no port of a site has an IPv6 address"), "{said}");
        // An address of the router itself, added by a reload, is enough.
        let router = "state-dir = \"/run/rig/state\"\n";
        let own = format!("{router}addresses = [\"fd00:9::1/128\"]\n");
        rig.write_file(&config.replace(router, &own));
        assert!(rig.nearhop(&["reload"]).status.success());
        rig.wait_all_up();
    });
}

#[test]
fn a_second_router_is_refused_and_the_first_goes_on() {
    in_namespaces("a_second_router_is_refused_and_the_first_goes_on", || {
        let mut rig = Rig::start(AMS_FIRST);
        let probes = Probes::start(&rig.client, SERVICE_V4, 2);
        probes.wait_for_site("ams");
        let out = rig.nearhop(&["run", "/run/rig/r1.toml"]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(3), "{text}");
        let wanted = format!(
            "another router (process {}) already listens on /run/rig/r1.sock",
            rig.router.id()
        );
        assert!(text.contains(&wanted), "{text}");
        probes.wait_for_site("ams");
        assert_eq!(probes.finish().1, 0);

        rig.nearhop(&["drain", "ams"]);
        assert_eq!(rig.terminate(), Some(0));
        assert!(!rig.dir.join("r1.sock").exists(), "the socket stays behind");
        let mut links = LinkSetup::open(&rig.client).unwrap();
        assert_eq!(links.find("nh-client").unwrap(), None, "the device stays behind");

        // After a kill, the next router takes over the stale socket; the drain was kept.
        rig.restart(AMS_FIRST);
        rig.connect();
        rig.wait_up_after_restart();
        rig.router.kill().unwrap();
        rig.router.wait().unwrap();
        assert!(rig.dir.join("r1.sock").exists());
        rig.restart(AMS_FIRST);
        rig.connect();
        rig.wait_up_after_restart();
    });
}

impl Rig {
    /// Every leg is up, with ams drained as before.
    fn wait_up_after_restart(&self) {
        support::wait_for("every leg up or drained", || {
            let items = self.show("services");
            let state = |site: &str| {
                let of = |item: &&serde_json::Value| item["site"] == site;
                items.iter().filter(of).map(|item| item["state"].clone()).collect::<Vec<_>>()
            };
            (state("ams") == ["drained"; 2] && state("fra") == ["up"; 2]).then_some(())
        });
    }
}

#[test]
fn what_keeps_a_router_from_starting_is_said_with_what_to_type() {
    in_namespaces("what_keeps_a_router_from_starting_is_said_with_what_to_type", || {
        fs::write("/run/r1.toml", daemon_support::config(AMS_FIRST)).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_nearhop"))
            .args(["run", "/run/r1.toml", "--socket", "/run/r1.sock"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(3), "{text}");
        assert!(text.contains("port \"client\"") && text.contains("/run/netns/client"), "{text}");
        assert!(!std::path::Path::new("/run/r1.sock").exists(), "the socket stays behind");
    });
}

#[test]
fn a_flood_at_the_router_is_dropped_and_counted_and_others_lose_nothing() {
    in_namespaces("a_flood_at_the_router_is_dropped_and_counted_and_others_lose_nothing", || {
        let rig = Rig::start(AMS_FIRST);
        // The lane for local packets is not read while the host thread is stopped.
        let tracer = Tracer::stop_named(&rig, "nh-host");
        let probes = Probes::start(&rig.client, SERVICE_V4, 2);
        let socket = rig.client.within(|| UdpSocket::bind("10.0.0.2:0")).unwrap().unwrap();
        for chunk in 0..40 {
            for _ in 0..100 {
                let _ = socket.send_to(&[0; 32], "10.0.0.1:9");
            }
            // Paced by the probes, so that the device's queue of 500 does not drop any.
            assert!(!probes.sites_now().is_empty(), "chunk {chunk}");
        }
        drop(tracer);
        assert_eq!(probes.finish().1, 0, "a flood at the router cost others packets");
        let dropped = support::wait_for("the drops to be reported", || {
            Some(rig.dropped("punt-full")).filter(|&count| count >= 2_000)
        });
        assert!(dropped <= 4_000, "{dropped}");
    });
}

#[test]
fn forwarding_and_failover_go_on_while_the_control_thread_stands_still() {
    in_namespaces("forwarding_and_failover_go_on_while_the_control_thread_stands_still", || {
        let rig = Rig::start(AMS_FIRST);
        let probes = Probes::start(&rig.client, SERVICE_V4, 8);
        probes.wait_for_site("ams");
        let tracer = Tracer::stop(&rig);
        let until = nearhop::time::Nanos::now() + Duration::from_secs(1);
        while nearhop::time::Nanos::now() < until {
            assert_eq!(probes.sites_now(), vec!["ams"; 8]);
        }
        assert!(tracer.is_stopped(&rig), "the control thread ran");
        let (sent, lost, gap) = probes.finish();
        assert!(sent > 300 && lost == 0, "{lost} of {sent} lost");
        assert!(gap < Duration::from_millis(300), "a gap of {gap:?}");

        // Still stopped: setting a link down moves the flows nevertheless.
        let probes = Probes::start(&rig.client, SERVICE_V4, 4);
        probes.wait_for_site("ams");
        LinkSetup::open(rig.site_netns("ams")).unwrap().set_up("nh-ams", false).unwrap();
        probes.wait_for_site("fra");
        assert!(tracer.is_stopped(&rig), "the control thread ran");
        drop(tracer);
        probes.finish();
        support::wait_for("the control thread to report it", || {
            let items = rig.show("services");
            items.iter().any(|i| i["site"] == "ams" && i["state"] == "down").then_some(())
        });
    });
}
