//! The prober against real sites: who answers, what is lost, and how exactly time is taken.
#![allow(clippy::unwrap_used, reason = "the lint does not know helpers beside tests as tests")]

mod traffic_support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use nearhop::ids::Family;
use nearhop::time::Nanos;
use nearlab::measure::{Window, measure_flow};
use nearlab::traffic::protocol::FlowNow;
use nearlab::traffic::{Awaited, Patience, ProbeOptions, Prober};
use traffic_support::{Site, V4, V6, in_namespace, nearlab};

fn probe_options() -> ProbeOptions {
    ProbeOptions {
        client: "oslo".into(),
        to: vec![V4.parse().unwrap(), V6.parse().unwrap()],
        flows: 2,
        source_port: 40_000,
        echo_port: 7,
        dns_port: 53,
        spacing_us: 1_000,
        dns_every_ms: 10,
    }
}

fn spawn() -> Prober {
    let mut command = nearlab();
    command.args(probe_options().to_args());
    Prober::spawn(command).unwrap()
}

fn wait_for(prober: &mut Prober, site: &str) {
    prober
        .wait_until(Duration::from_secs(20), |flows| {
            flows.iter().all(|flow| flow.site.as_deref() == Some(site))
        })
        .unwrap()
        .unwrap_or_else(|flows| panic!("{site} does not answer all flows: {flows:?}"));
}

#[test]
fn a_killed_site_is_a_gap_between_two_names() {
    in_namespace("a_killed_site_is_a_gap_between_two_names", || {
        let mut fra = Site::start("fra");
        let mut prober = spawn();
        let families: Vec<_> = prober.flows().iter().map(|f| (f.family, f.source_port)).collect();
        let (v4, v6) = (Family::Ipv4, Family::Ipv6);
        assert_eq!(families, [(v4, 40_000), (v4, 40_001), (v6, 40_002), (v6, 40_003)]);
        assert_eq!(prober.stamps(), "kernel");
        wait_for(&mut prober, "fra");

        let fine = Duration::from_micros(200);
        let start = prober.set_spacing(fine).unwrap();
        prober.take_records(start..start + Duration::from_millis(50), AT_ONCE).unwrap();
        let fault = Nanos::now();
        fra.kill();
        let dead = Nanos::now();
        let sent: Vec<u64> = prober.latest().unwrap().iter().map(|flow| flow.sent).collect();
        let more = |flow: &FlowNow| flow.sent > sent[usize::from(flow.flow)] + 20;
        let waited = prober.wait_until(Duration::from_secs(20), |flows| flows.iter().all(more));
        waited.unwrap().expect("probes go on");
        let before_next = Nanos::now();
        let _ams = Site::start("ams");
        wait_for(&mut prober, "ams");
        let end = Nanos::now();
        let taken = prober.take_records(start..end, AFTER_A_DEATH).unwrap();
        assert!(taken.head.complete, "{:?}", taken.head);
        assert_eq!((taken.head.strays, taken.head.user_stamps), (0, 0));
        println!("pace: {:?}", taken.head.pace);

        let window = Window { start_ns: start.0, fault_ns: fault.0, end_ns: end.0 };
        for (index, trace) in taken.traces.iter().enumerate() {
            assert!(trace.probes.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
            for (probe, arrival) in trace.probes.iter().filter_map(|p| Some((p, p.arrival?))) {
                // A stamp is converted from another clock; 0.5 ms covers a bad reading of it.
                assert!(arrival.server_ns + 500_000 >= probe.sent_ns);
                assert!(arrival.client_ns + 500_000 >= arrival.server_ns);
            }
            let result = measure_flow(index, trace, window);
            let sites = (result.site_before.as_deref(), result.site_after.as_deref());
            assert_eq!(sites, (Some("fra"), Some("ams")), "flow {index}");
            assert_eq!(result.changes.len(), 1);
            assert!(!result.is_open());
            let outage = result.outage();
            println!("flow {index}: {outage:?} lost {} of {}", result.lost, result.sent);
            // Nobody was there from `dead` to `before_next`: so long at least the gap is, but for
            // the stamps' conversion, and the outage but for what the resolution allows.
            let nobody_ns = before_next.0 - dead.0 - 1_000_000;
            assert!(outage.to_ns - outage.from_ns >= nobody_ns, "{outage:?}");
            assert!(outage.length_ns + 2 * outage.resolution_ns >= nobody_ns, "{outage:?}");
            assert!(outage.length_ns <= end.0 - start.0);
            assert!(result.lost >= 20 && result.lost < result.sent);
        }
        let moves: Vec<_> = prober.moves().try_iter().collect();
        assert_eq!(moves.len(), 4, "{moves:?}");
        assert!(moves.iter().all(|m| m.from == "fra" && m.to == "ams" && m.t_ns > fault.0));
        prober.stop().unwrap();
    });
}

#[test]
fn spacing_changes_at_run_time_and_nothing_is_lost_on_a_quiet_path() {
    in_namespace("spacing_changes_at_run_time_and_nothing_is_lost_on_a_quiet_path", || {
        let _site = Site::start("fra");
        let mut prober = spawn();
        wait_for(&mut prober, "fra");
        let mut counts = Vec::new();
        for us in [1_000, 200] {
            let since = prober.set_spacing(Duration::from_micros(us)).unwrap();
            let range = since..since + Duration::from_millis(300);
            let taken = prober.take_records(range, LOSSLESS).unwrap();
            for trace in &taken.traces {
                assert!(trace.probes.iter().all(|p| p.arrival.is_some() && p.duplicates == 0));
                let gaps: Vec<_> =
                    trace.probes.windows(2).map(|p| p[1].sent_ns - p[0].sent_ns).collect();
                let (longest, count) = (gaps.iter().max().unwrap(), trace.probes.len());
                println!("{us} us: {count} probes, longest send interval {longest} ns");
            }
            assert_eq!(taken.head.send_errors, 0);
            counts.push(taken.traces[0].probes.len());
        }
        // 300 and 1500 on a quiet machine; a loaded one skips some, and says so.
        assert!(counts[0] >= 100 && counts[0] <= 302, "{counts:?}");
        assert!(counts[1] > counts[0], "{counts:?}");
        let nothing = prober.take_records(Nanos(1)..Nanos(2), AT_ONCE).unwrap();
        assert!(nothing.traces.iter().all(|trace| trace.probes.is_empty()));
    });
}

#[test]
fn dns_queries_name_who_answered_them() {
    in_namespace("dns_queries_name_who_answered_them", || {
        let _site = Site::start("fra");
        let mut prober = spawn();
        let start = Nanos::now();
        let range = start..start + Duration::from_millis(300);
        prober.take_records(range.clone(), AT_ONCE).unwrap();
        let queries = traffic_support::eventually("an answer to every query", || {
            let queries = prober.take_dns(range.clone()).unwrap();
            queries.iter().all(|query| query.answer.is_some()).then_some(queries)
        });
        for family in [Family::Ipv4, Family::Ipv6] {
            for (question, data) in [("id.server. CH TXT", "fra"), ("www.example. IN A", V4)] {
                let answers: Vec<_> = queries
                    .iter()
                    .filter(|query| query.family == family && query.question == question)
                    .map(|query| query.answer.as_ref().expect("answered"))
                    .collect();
                assert!(answers.len() >= 3, "{family:?} {question}: {}", answers.len());
                for answer in answers {
                    assert_eq!(answer.site.as_deref(), Some("fra"));
                    assert_eq!((answer.rcode, answer.data.as_deref()), (0, Some(data)));
                }
            }
        }
    });
}

#[test]
fn nonsense_is_refused_and_the_end_of_input_ends_it() {
    in_namespace("nonsense_is_refused_and_the_end_of_input_ends_it", || {
        let mut child = nearlab()
            .args(probe_options().to_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        assert!(line().starts_with(r#"{"reply":"ready""#));
        let mut stdin = child.stdin.take().unwrap();
        for (said, answer) in [
            ("hello", r#"{"reply":"refused","reason":"not a command"#),
            (r#"{"do":"spacing","us":500}"#, r#"{"reply":"spacing""#),
            (r#"{"do":"dns","from_ns":0,"to_ns":1}"#, r#"{"reply":"dns","queries":[]}"#),
        ] {
            writeln!(stdin, "{said}").unwrap();
            let found = line();
            assert!(found.starts_with(answer), "{said}: {found}");
        }

        // A second one in the same namespace wants the same source ports.
        let output = nearlab().args(probe_options().to_args()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3));
        assert!(text.contains("40000") && text.contains("--source-port"), "{text}");

        drop(stdin);
        assert!(child.wait().unwrap().success());
    });
}

/// Long only where echoes are missing.
const LOSSLESS: Patience = Patience { awaited: Awaited::Every, settle_ms: 30, give_up_ms: 5_000 };
const AFTER_A_DEATH: Patience = Patience { awaited: Awaited::Last, ..LOSSLESS };
const AT_ONCE: Patience = Patience { awaited: Awaited::Last, settle_ms: 0, give_up_ms: 0 };
