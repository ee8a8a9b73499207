use nearhop::event::{Event, EventKind, SCHEMA};
use nearhop::ids::Family;

use super::judge::{Done, Record};
use super::*;
use crate::measure::Trace;
use crate::measure::testing::{answered, failover, trace};

/// Reads a scenario that lies in a folder with the shipped topologies.
fn load(text: &str) -> Result<Scenario, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, topology) in [
        ("three-sites.toml", include_str!("../../labs/three-sites.toml")),
        ("bgp-sites.toml", include_str!("../../labs/bgp-sites.toml")),
        ("broken.toml", "name = \"x\"\n[[node]]\nname = \"ams\"\nkind = \"siet\"\n"),
        ("two-routers.toml", TWO_ROUTERS),
    ] {
        std::fs::write(folder.path().join(name), topology).unwrap();
    }
    let path = folder.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    Scenario::load(&path).map_err(|errors| errors.render(Style::PLAIN))
}

#[test]
fn a_scenario_reads_as_it_looks() {
    let scenario = load(
        "lasts = \"5s\"\n[topology]\nfile = \"three-sites.toml\"\n\
         [[flow]]\nfrom = \"client\"\nto = \"198.51.100.53\"\nevery = \"2ms\"\ncount = 3\n\
         [[step]]\nat = \"1s\"\nkill = { site = \"ams\", how = \"silent\" }\n\
         [[step]]\nat = \"2s\"\nheal = { site = \"ams\" }\n\
         [[step]]\nat = \"3s\"\nflap = { site = \"fra\", every = \"50ms\", lasts = \"1s\" }\n\
         [[step]]\nat = \"4s\"\nreorder = [\"par\"]\n\
         [[step]]\nat = \"4s\"\nundamp = true\n\
         [expect]\noutage-max = \"80ms\"\ndamped = [\"fra\"]\n",
    )
    .unwrap();
    assert_eq!((scenario.name.as_str(), scenario.seed), ("test", 7));
    assert_eq!(scenario.flows[0].to.len(), 1);
    let deeds: Vec<_> = scenario.steps.iter().map(|step| step.deed.to_string()).collect();
    assert_eq!(
        deeds,
        [
            "kill ams (silent)",
            "heal ams",
            "flap fra (announced) every 50ms for 1s",
            "reorder par",
            "undamp"
        ]
    );
    let expect = Expect {
        outage_max: Some(Duration::from_millis(80)),
        damped: vec!["fra".into()],
        ..Expect::default()
    };
    assert_eq!(scenario.expect, expect);
}

#[test]
fn what_is_left_out_has_a_default() {
    let scenario = load("[[step]]\nat = \"1s\"\ndrain = \"ams\"\n").unwrap();
    assert_eq!(scenario.topology, Topology::three_sites());
    assert_eq!(scenario.lasts, Duration::from_secs(3));
    assert_eq!((scenario.flows[0].to.len(), scenario.flows[0].count), (2, 4));
    assert!(scenario.expect.every_client_served && scenario.expect.unexplained_moves == 0);
}

#[test]
fn each_mistake_is_reported_with_its_place_and_what_was_found() {
    let table = [
        ("lasts = \"100h\"", "1:9", "out of range"),
        ("[topology]\nfile = \"nope.toml\"", "2:8", "cannot read"),
        ("[topology]\nfile = \"broken.toml\"", "4:8", "did you mean \"site\"?"),
        ("[topology]\nfile = \"two-routers.toml\"", "2:8", "exactly one router"),
        ("[[flow]]\nfrom = \"clint\"\nto = \"198.51.100.53\"", "2:8", "did you mean \"client\"?"),
        ("[[flow]]\nfrom = \"client\"\nto = \"192.0.2.1\"", "3:6", "no service has the address"),
        ("[[step]]\nat = \"1\"\nundamp = true", "2:6", "did you mean \"1ms\"?"),
        ("[[step]]\nat = \"1s\"", "1:1", "this does 0"),
        ("[[step]]\nat = \"1s\"\nundamp = true\ndrain = \"ams\"", "1:1", "this does 2"),
        ("[[step]]\nat = \"1s\"\nkil = { site = \"ams\" }", "3:1", "did you mean kill?"),
        (
            "[[step]]\nat = \"1s\"\nkill = { site = \"ams\", how = \"loud\" }",
            "3:30",
            "announced, silent",
        ),
        ("[[step]]\nat = \"1s\"\nundamp = false", "3:10", "expected true"),
        ("[[step]]\nat = \"1s\"\nreorder = []", "3:1", "reorder is empty"),
        ("[[step]]\nat = \"1s\"\nheal = { site = \"ams\" }", "1:1", "\"ams\" is not dead"),
        (
            "[[step]]\nat = \"1s\"\nundamp = true\n[[step]]\nat = \"500ms\"\nundamp = true",
            "4:1",
            "steps come in the order of time",
        ),
        (
            "[[step]]\nat = \"1s\"\nflap = { site = \"ams\", every = \"5ms\", down = \"5ms\", lasts = \"1s\" }",
            "3:46",
            "down is shorter than every",
        ),
        ("lasts = \"1s\"\n[[step]]\nat = \"1s\"\nundamp = true", "1:9", "before its last step"),
        ("lasts = \"10min\"", "1:1", "a prober remembers 120s"),
        ("[expect]\nlost_max = 1", "2:1", "did you mean lost-max?"),
    ];
    for (text, place, expected) in table {
        let reported = load(text).unwrap_err();
        assert!(reported.contains(expected), "{text}\n{reported}");
        assert!(reported.contains(&format!("toml:{place}\n")), "{text}\n{place}\n{reported}");
    }
}

#[test]
fn all_mistakes_of_both_files_are_reported_at_once() {
    let reported =
        load("seed = -1\n[topology]\nfile = \"broken.toml\"\n[expect]\nlost-max = \"a\"\n");
    let reported = reported.unwrap_err();
    for expected in ["seed is not valid", "lost-max is not valid", "\"siet\" is not known"] {
        assert!(reported.contains(expected), "{reported}");
    }
}

#[test]
fn steps_of_bgp_need_a_site_that_announces_and_an_order_that_can_be() {
    let with = |steps: &str| load(&format!("[topology]\nfile = \"bgp-sites.toml\"\n{steps}"));
    let step = |deed: &str| format!("[[step]]\nat = \"1s\"\n{deed}\n");
    let (withdraw, announce) = (step("withdraw = \"ams\""), step("announce = \"ams\""));
    let (drain, daemon) =
        (step("drain = \"ams\""), step("kill = { site = \"par\", how = \"daemon\" }"));
    let good = with(&[&drain, &withdraw, &announce, &daemon].map(String::as_str).concat()).unwrap();
    let deeds: Vec<_> = good.steps.iter().map(|step| step.deed.to_string()).collect();
    assert_eq!(deeds, ["drain ams", "withdraw ams", "announce ams", "kill par (daemon)"]);
    for (steps, expected) in [
        (withdraw.repeat(2), "\"ams\" is withdrawn already"),
        (announce.clone(), "\"ams\" is not withdrawn"),
        (withdraw.clone() + &drain, "\"ams\" is withdrawn"),
        (step("reorder = [\"ams\"]"), "\"ams\" has no cost to reorder"),
        (step("undamp = true\nexpect = { served = 1 }"), "known keys: served-by, lost-max"),
    ] {
        let reported = with(&steps).unwrap_err();
        assert!(reported.contains(expected), "{steps}: {reported}");
    }
    for (steps, expected) in
        [(&withdraw, "\"ams\" announces nothing"), (&daemon, "\"par\" has no BGP daemon")]
    {
        let reported = load(steps).unwrap_err();
        assert!(reported.contains(expected), "{steps}: {reported}");
    }
}

/// 2 s of a probe every 1 ms; fra (site 0) falls silent after 1 s, ams (1) takes over 30 ms later.
#[test]
fn each_step_has_expectations_of_its_own() {
    let first = "[[step]]\nat = \"500ms\"\nundrain = \"fra\"\n";
    let second = "[[step]]\nat = \"1s\"\nkill = { site = \"fra\", how = \"silent\" }\n";
    for (of_first, of_second, failed) in [
        ("served-by = [\"fra\"], lost-max = 0, moves-max = 0", "served-by = [\"ams\"]", vec![]),
        ("served-by = [\"ams\"]", "lost-max = 30", vec![("step 1 served-by", 1_000)]),
        (
            "",
            "served-by = [\"fra\", \"par\"], lost-max = 29, moves-max = 0",
            vec![
                ("step 2 served-by", 2_000),
                ("step 2 lost-max", 1_000),
                ("step 2 moves-max", 1_000),
            ],
        ),
    ] {
        let expect = |keys: &str| format!("expect = {{ {keys} }}\n");
        let text = [first, &expect(of_first), second, &expect(of_second)].concat();
        let done =
            [done(Deed::Undrain("fra".into()), 500), Done { step: 1, ..done(kill("fra"), 1_000) }];
        let record = Record {
            begin_ns: 0,
            end_ns: 2_000 * MS,
            traces: &one_failover(),
            done: &done,
            events: &[],
        };
        let outcome = Outcome::of(&load(&text).unwrap(), &record);
        let found: Vec<_> =
            outcome.failures.iter().map(|one| (one.expect.as_str(), one.t_ns / MS)).collect();
        assert_eq!(found, failed, "{text}");
        let served: Vec<_> = outcome.steps.iter().map(|step| step.served_by.join(",")).collect();
        assert_eq!(served, ["fra", "ams"]);
        let listed = outcome.expectations.iter().filter(|one| one.expect.starts_with("step "));
        assert_eq!(listed.filter(|one| !one.held).count(), failed.len());
    }
}

#[test]
fn a_flow_that_nobody_answers_is_served_by_nobody() {
    let half: Vec<_> = (0..1_000).map(|seq| answered(seq, seq * 1_000, 0)).collect();
    let lost = (1_000..2_000).map(|seq| crate::measure::testing::lost(seq, seq * 1_000));
    let traces = [trace(Family::Ipv6, half.into_iter().chain(lost).collect())];
    let scenario = load("[[step]]\nat = \"500ms\"\nundamp = true\n").unwrap();
    let done = [done(Deed::Undamp, 500)];
    let record =
        Record { begin_ns: 0, end_ns: 2_000 * MS, traces: &traces, done: &done, events: &[] };
    assert_eq!(Outcome::of(&scenario, &record).steps[0].served_by, ["nobody"]);
}

fn done(deed: Deed, from_ms: u64) -> Done {
    Done { step: 0, deed, from_ns: from_ms * MS, to_ns: from_ms * MS + 1 }
}

fn kill(site: &str) -> Deed {
    Deed::Kill { site: site.into(), how: KillKind::Silent }
}

fn judged(expect: &str, traces: &[Trace], done: &[Done], events: &[Event]) -> Outcome {
    let scenario = load(&format!("[expect]\n{expect}\n")).unwrap();
    let (begin_ns, end_ns) = (0, 2_000 * MS);
    Outcome::of(&scenario, &Record { begin_ns, end_ns, traces, done, events })
}

/// 2 s of a probe every 1 ms; fra (site 0) falls silent after 1 s, ams (1) takes over 30 ms later.
fn one_failover() -> Vec<Trace> {
    vec![trace(Family::Ipv4, failover(2_000, 1_000, 1_000_000, 1_030_000))]
}

#[test]
fn expectations_hold_or_are_reported_with_their_moment() {
    let kills = [done(kill("fra"), 1_000)];
    let table = [
        ("outage-max = \"31ms\"", None),
        ("outage-max = \"29ms\"", Some(("outage-max", 999))),
        ("lost-max = 30", None),
        ("lost-max = 29", Some(("lost-max", 1_000))),
        ("moves-max = 1", None),
        ("moves-max = 0", Some(("moves-max", 1_030))),
        ("served-by = [\"ams\"]", None),
        ("served-by = [\"par\"]", Some(("served-by", 1_999))),
        ("damped = [\"fra\"]", Some(("damped", 2_000))),
        ("every-client-served = true", None),
    ];
    for (expect, wanted) in table {
        let outcome = judged(expect, &one_failover(), &kills, &[]);
        let found: Vec<_> =
            outcome.failures.iter().map(|one| (one.expect.as_str(), one.t_ns / MS)).collect();
        assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "{expect}");
        assert_eq!(outcome.ok, wanted.is_none());
        let failed = outcome.expectations.iter().filter(|one| !one.held);
        let failed: Vec<_> = failed.map(|one| one.expect.as_str()).collect();
        assert_eq!(failed, wanted.map(|(key, _)| key).into_iter().collect::<Vec<_>>(), "{expect}");
        let key = expect.split(' ').next();
        assert!(
            outcome.expectations.iter().any(|one| Some(one.expect.as_str()) == key),
            "{expect}"
        );
    }
}

#[test]
fn what_held_is_listed_too_with_what_was_found() {
    let kills = [done(kill("fra"), 1_000)];
    let outcome = judged("outage-max = \"31ms\"\nlost-max = 29", &one_failover(), &kills, &[]);
    let listed: Vec<_> = outcome
        .expectations
        .iter()
        .map(|one| (one.expect.as_str(), one.wanted.as_str(), one.found.as_str(), one.held))
        .collect();
    assert_eq!(
        listed,
        [
            ("outage-max", "31ms at most", "30.00 ms", true),
            ("lost-max", "29 at most", "30 probes were lost, expected 29 at most", false),
            ("unexplained-moves", "0 at most", "0", true),
            ("every-client-served", "every flow answered at the end", "all are", true),
        ]
    );
}

/// Two steps, the second at 1 s.
fn two_steps(first: Deed, second: Deed, probes: Vec<crate::measure::Probe>) -> [(u64, u64); 2] {
    let steps = "[[step]]\nat = \"500ms\"\nundrain = \"fra\"\n\
                 [[step]]\nat = \"1s\"\nkill = { site = \"fra\", how = \"server\" }\n";
    let scenario = load(steps).unwrap();
    let done = [done(first, 500), Done { step: 1, ..done(second, 1_000) }];
    let record = Record {
        begin_ns: 0,
        end_ns: 2_000 * MS,
        traces: &[trace(Family::Ipv4, probes)],
        done: &done,
        events: &[],
    };
    let outcome = Outcome::of(&scenario, &record);
    [0, 1].map(|step| (outcome.steps[step].sent, outcome.steps[step].lost))
}

#[test]
fn what_was_on_its_way_to_a_site_that_is_killed_is_lost_to_the_kill() {
    let heal = || Deed::Heal { site: "fra".into() };
    // fra (0) answers what leaves before `from`, ams (1) what leaves from `to` on.
    let gap = |from: u64, to: u64| failover(2_000, 1_000, from * 1_000, to * 1_000);
    let lost_alone = |ms: u64| {
        let mut probes = gap(1_000, 1_030);
        probes[ms as usize].arrival = None;
        probes
    };
    // The last one before the kill lies in the router until it goes to ams.
    let mut put_off = gap(995, 999);
    put_off[999].arrival.as_mut().unwrap().server_ns = 1_020 * MS;
    for (case, deed, probes, expected) in [
        ("nothing is on its way", kill("fra"), gap(1_000, 1_030), [(500, 0), (1_000, 30)]),
        ("three are", kill("fra"), gap(997, 1_030), [(497, 0), (1_003, 33)]),
        ("four, and one put off", kill("fra"), put_off, [(495, 0), (1_005, 4)]),
        ("served until now", kill("fra"), gap(750, 1_030), [(250, 0), (1_250, 280)]),
        ("not served any more", kill("fra"), gap(749, 1_030), [(500, 251), (1_000, 30)]),
        ("a later one came", kill("fra"), lost_alone(998), [(500, 1), (1_000, 30)]),
        ("lost with another", kill("par"), gap(997, 1_030), [(500, 3), (1_000, 30)]),
        ("no death takes them", heal(), gap(997, 1_030), [(500, 3), (1_000, 30)]),
    ] {
        assert_eq!(two_steps(heal(), deed, probes), expected, "{case}");
    }
}

#[test]
fn a_move_needs_a_reason_that_names_its_site() {
    for (deeds, unexplained) in [
        (vec![done(kill("fra"), 1_000)], 0),
        (vec![done(Deed::Drain("fra".into()), 500)], 0),
        (vec![done(Deed::Reorder(vec!["ams".into()]), 1_010)], 0),
        (vec![done(kill("par"), 1_000)], 1),
        (vec![done(Deed::Drain("par".into()), 1_000)], 1),
        (vec![done(kill("fra"), 1_100)], 1),
        (vec![], 1),
    ] {
        let outcome = judged("", &one_failover(), &deeds, &[]);
        assert_eq!(outcome.unexplained_moves, unexplained, "{deeds:?}");
        assert_eq!(outcome.ok, unexplained == 0);
    }
}

#[test]
fn a_site_that_was_healed_may_be_entered_until_it_dies_again() {
    let heal = |at| done(Deed::Heal { site: "ams".into() }, at);
    let deeds = [done(kill("ams"), 50), heal(100)];
    assert_eq!(judged("", &one_failover(), &deeds, &[]).unexplained_moves, 0);
    // Dead, and a second too late for the heal before: this move has no reason.
    let deeds = [done(kill("ams"), 1), heal(2), done(kill("ams"), 20)];
    assert_eq!(judged("", &one_failover(), &deeds, &[]).unexplained_moves, 1);
}

#[test]
fn a_flow_without_answers_at_the_end_is_not_served() {
    let half: Vec<_> = (0..1_000).map(|seq| answered(seq, seq * 1_000, 0)).collect();
    let lost = (1_000..2_000).map(|seq| crate::measure::testing::lost(seq, seq * 1_000));
    let traces = [trace(Family::Ipv6, half.into_iter().chain(lost).collect())];
    let outcome = judged("", &traces, &[], &[]);
    assert_eq!(outcome.failures[0].expect, "every-client-served");
    assert!(judged("every-client-served = false", &traces, &[], &[]).ok);
}

#[test]
fn damping_is_known_by_its_event() {
    let kind = EventKind::Damped {
        service: "anycast".into(),
        site: "fra".into(),
        family: Family::Ipv4,
        hold_ms: 100,
    };
    let event = Event { schema: SCHEMA.into(), t_ns: 1_500 * MS, seq: 1, node: "r1".into(), kind };
    let kills = [done(kill("fra"), 1_000)];
    assert!(judged("damped = [\"fra\"]", &one_failover(), &kills, &[event]).ok);
}

const MS: u64 = 1_000_000;

const TWO_ROUTERS: &str = "
name = \"x\"
[[node]]
name = \"r1\"
kind = \"router\"
[[node]]
name = \"r2\"
kind = \"router\"
[[node]]
name = \"client\"
kind = \"client\"
[[link]]
ends = [\"client\", \"r1\"]
[[service]]
name = \"s\"
router = \"r1\"
addresses = [\"198.51.100.53\"]
sites = []
";
