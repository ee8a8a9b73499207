use std::io::Read;

use nearhop::event::Event;
use nearhop::ids::Family;

use super::*;
use crate::measure::testing::{site_down, trace};
use crate::measure::{
    Arrival, Conditions, Heal, HealResult, KillKind, KillResult, Probe, Standard, Wanted, Window,
    measure_heal, measure_kill,
};
use crate::utc::Utc;

const MS: u64 = 1_000_000;
const SITES: [&str; 3] = ["fra", "ams", "par"];
/// Time from one kill to the next.
const ROUND_NS: u64 = 1_200 * MS;
const HEAL_NS: u64 = 600 * MS;
const FAULT_NS: u64 = 200 * MS;
const FLOWS: u64 = 8;

/// A synthetic run: every kind and family, `repeats` times each, with realistic times.
fn synthetic(repeats: u64) -> Run {
    let mut dice = Dice(7);
    let rounds: Vec<Round> = (0..repeats)
        .flat_map(|repeat| {
            KillKind::ALL.into_iter().flat_map(move |kind| {
                [Family::Ipv4, Family::Ipv6].map(|family| (repeat, kind, family))
            })
        })
        .zip(0..)
        .map(|((repeat, kind, family), number)| {
            Round::new(kind, family, (repeat % 3) as u16, number, &mut dice)
        })
        .collect();
    let traces: Vec<Trace> = (0..FLOWS).map(|flow| flow_trace(flow, &rounds, &mut dice)).collect();
    let events: Vec<Event> = rounds.iter().map(Round::event).collect();
    let kills: Vec<ReportedKill> = rounds
        .iter()
        .map(|round| ReportedKill {
            kill: round.kill(),
            measured: measure_kill(&round.kill(), &traces, &events),
        })
        .collect();
    let results: Vec<KillResult> =
        kills.iter().filter_map(|k| k.measured.as_ref().ok()).map(|m| m.result.clone()).collect();
    let heals: Vec<HealResult> =
        rounds.iter().map(|round| measure_heal(&round.heal(), &traces)).collect();
    let wanted = Wanted { kinds: KillKind::ALL.to_vec(), repeats };
    Run {
        started: "2026-11-23T18:53:20Z".into(),
        command: "cargo run --release --bin nearlab -- demo --seed 7".into(),
        seed: 7,
        machine: Machine::this(),
        method: vec![("spacing".into(), "1 ms, 0.2 ms round a kill".into())],
        sites: SITES.map(String::from).to_vec(),
        marks: rounds.iter().flat_map(Round::marks).collect(),
        summary: Summary::new(&results, &heals, &standard(), &wanted, vec![]),
        traces,
        kills,
        played: None,
    }
}

fn standard() -> Standard {
    Standard::Machine(KillKind::ALL.into_iter().zip([0.0, 32.0, 32.0, 32.0]).collect())
}

/// One kill and its heal.
struct Round {
    kind: KillKind,
    family: Family,
    site: u16,
    start_ns: u64,
    /// Time after the fault.
    event_ns: u64,
    stored_ns: u64,
}

impl Round {
    fn new(kind: KillKind, family: Family, site: u16, number: u64, dice: &mut Dice) -> Self {
        let detect_us = match kind {
            KillKind::Announced | KillKind::Daemon => 90 + dice.roll(120),
            KillKind::Silent | KillKind::Site => 24_000 + dice.roll(7_000),
            KillKind::Server => 21_000 + dice.roll(11_000),
        };
        let event_ns = detect_us * 1_000;
        let stored_ns = event_ns + 3_000 + dice.roll(9_000);
        Self { kind, family, site, start_ns: 5_000 * MS + number * ROUND_NS, event_ns, stored_ns }
    }

    fn fault_ns(&self) -> u64 {
        self.start_ns + FAULT_NS
    }

    fn heal_ns(&self) -> u64 {
        self.start_ns + HEAL_NS
    }

    fn kill(&self) -> Kill {
        Kill {
            kind: self.kind,
            family: self.family,
            site: SITES[usize::from(self.site)].into(),
            service: None,
            window: Window {
                start_ns: self.start_ns + 100 * MS,
                fault_ns: self.fault_ns(),
                end_ns: self.start_ns + 500 * MS,
            },
            // Call and wake-up times of a quiet machine.
            conditions: Conditions { call_ns: 300_000, wake_ns: 150_000 },
            causes: vec![],
        }
    }

    fn heal(&self) -> Heal {
        Heal {
            kind: self.kind,
            family: self.family,
            site: SITES[usize::from(self.site)].into(),
            window: Window {
                start_ns: self.start_ns + 550 * MS,
                fault_ns: self.heal_ns(),
                end_ns: self.start_ns + ROUND_NS,
            },
            causes: vec![],
        }
    }

    fn event(&self) -> Event {
        let mut event = site_down(SITES[usize::from(self.site)], self.family, 0, 0);
        event.t_ns = self.fault_ns() + self.event_ns;
        if let nearhop::event::EventKind::Site { stored_ns, .. } = &mut event.kind {
            *stored_ns = self.fault_ns() + self.stored_ns;
        }
        event
    }

    fn marks(&self) -> Vec<Mark> {
        let site = SITES[usize::from(self.site)];
        let mark = |t_ns, kind, label| Mark { t_ns, kind, label };
        vec![
            mark(self.start_ns, MarkKind::Change, format!("{site} made the cheapest")),
            mark(self.fault_ns(), MarkKind::Fault, format!("{} kill of {site}", self.kind)),
            mark(self.heal_ns(), MarkKind::Heal, format!("{site} healed")),
        ]
    }

    /// The site that answers a probe sent at that time: the killed site except between fault and
    /// heal, none until the news is stored.
    fn answers(&self, family: Family, sent_ns: u64) -> Option<u16> {
        let after = sent_ns.checked_sub(self.fault_ns()).filter(|_| family == self.family);
        match after {
            Some(after) if after < self.stored_ns => None,
            Some(_) if sent_ns < self.heal_ns() + 150 * MS => Some((self.site + 1) % 3),
            _ => Some(self.site),
        }
    }
}

fn flow_trace(flow: u64, rounds: &[Round], dice: &mut Dice) -> Trace {
    let family = if flow < FLOWS / 2 { Family::Ipv4 } else { Family::Ipv6 };
    let mut probes = Vec::new();
    for round in rounds {
        let mut sent_ns = round.start_ns + flow * 2_000;
        while sent_ns < round.start_ns + ROUND_NS {
            let arrival = round.answers(family, sent_ns).map(|site| {
                let server_ns = sent_ns + 60_000 + dice.roll(40_000);
                Arrival { server_ns, client_ns: server_ns + 60_000 + dice.roll(40_000), site }
            });
            probes.push(Probe { seq: probes.len() as u64, sent_ns, arrival, duplicates: 0 });
            let fine = sent_ns.abs_diff(round.fault_ns()) < 100 * MS;
            sent_ns += if fine { 200_000 } else { MS };
        }
    }
    let mut trace = trace(family, probes);
    trace.flow.id = flow as u16;
    trace.flow.source_port += flow as u16;
    trace
}

/// Multiplicative generator with the factor of Knuth's MMIX; good enough for jitter.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn the_page_is_whole_and_stands_alone() {
    let run = synthetic(1);
    assert!(run.summary.ok, "{:?}", run.summary.failures);
    let page = page(&run);
    for part in ["every expectation held", "announced kill of fra, ipv4", "repair", "seed 7"] {
        assert!(page.contains(part), "{part} is missing");
    }
    for alien in ["<script", "http://", "https://", "url(", "@import", "NaN", "inf\""] {
        assert!(!page.contains(alien), "{alien} is in the page");
    }
    for tag in ["svg", "details", "section", "table", "div", "text", "title", "g", "span", "p"] {
        let open =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        let close = page.matches(&format!("</{tag}>")).count();
        assert_eq!(open, close, "<{tag}>");
    }
    assert_eq!(page.matches("<details open>").count(), 8);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    if let Ok(path) = std::env::var("NEARLAB_REPORT_SAMPLE") {
        std::fs::write(path, super::page(&synthetic(5))).unwrap();
    }
}

#[test]
fn what_fails_is_said_and_what_is_hostile_is_escaped() {
    let mut run = synthetic(1);
    let hostile = "<img src=x onerror=\"alert(1)\">'&";
    run.command = hostile.into();
    run.marks[0].label = hostile.into();
    run.traces[0].flow.client = hostile.into();
    for trace in &mut run.traces {
        trace.sites[1] = hostile.into();
    }
    run.sites[1] = hostile.into();
    run.method.push((hostile.into(), hostile.into()));
    let kill = &mut run.kills[0];
    kill.measured = Err(KillError::NoFlowHit {
        kind: KillKind::Announced,
        family: Family::Ipv4,
        site: hostile.into(),
        found: hostile.into(),
    });
    run.summary.ok = false;
    run.summary.failures = vec![hostile.into()];
    run.summary.kills[0].takeovers[0].to_site = hostile.into();
    run.summary.kills[0].why = hostile.into();
    let page = page(&run);
    assert!(!page.contains("<img") && !page.contains("onerror=\""), "not escaped");
    assert!(page.contains("not every expectation held") && page.contains("it hit no flow"));
}

#[test]
fn a_run_without_anything_still_makes_a_page() {
    let mut run = synthetic(1);
    (run.traces, run.kills, run.marks) = (vec![], vec![], vec![]);
    let wanted = Wanted { kinds: vec![KillKind::Site], repeats: 1 };
    run.summary = Summary::new(&[], &[], &standard(), &wanted, vec![]);
    assert!(page(&run).contains("site kill, ipv4: 0 of 1 repeats were measured"));
}

#[test]
fn a_folder_holds_everything_and_no_two_runs_share_one() {
    let root = tempfile::tempdir().unwrap();
    let now = Utc::from_unix(1_795_460_000);
    let folders: Vec<RunFolder> =
        (0..2).map(|_| RunFolder::create(&root.path().join("runs"), now).unwrap()).collect();
    let names: Vec<_> =
        folders.iter().map(|f| f.path().file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["2026-11-23-1", "2026-11-23-2"]);

    let run = synthetic(1);
    let folder = &folders[0];
    folder.write_report(&run).unwrap();
    let summary = std::fs::read_to_string(folder.write_summary(&run.summary).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Summary>(&summary).unwrap(), run.summary);

    let gz = std::fs::File::open(folder.write_records(&run.traces).unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(gz).read_to_string(&mut text).unwrap();
    let probes: usize = run.traces.iter().map(|trace| trace.probes.len()).sum();
    assert_eq!(text.lines().count(), probes + 1);
    let columns = text.lines().next().unwrap().split(',').count();
    assert!(text.lines().all(|line| line.split(',').count() == columns));
    assert!(text.contains("oslo,0,ipv4,40000,198.51.100.53:7,0,5000000000,"));

    let error = RunFolder::create(std::path::Path::new("/dev/null/x"), now).unwrap_err();
    assert!(error.to_string().contains("/dev/null/x"), "{error}");
}

#[test]
fn events_are_on_disk_at_once_and_by_time_in_the_end() {
    let root = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(root.path(), Utc::from_unix(0)).unwrap();
    let log = folder.events().unwrap();
    let path = folder.path().join("events.jsonl");
    let down = site_down("fra", Family::Ipv4, 30, 31);
    log.router(down.clone()).unwrap();
    let site = "fra".to_owned();
    let fault = LabEventKind::Fault {
        how: KillKind::Silent,
        site: site.clone(),
        family: Some(Family::Ipv4),
    };
    log.lab(20_000, fault).unwrap();
    log.lab(40_000, LabEventKind::Heal { how: KillKind::Silent, site }).unwrap();
    let read = || -> Vec<Line> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(read(), log.lines());
    assert_eq!(log.router_events(30_000), [down]);
    assert!(log.router_events(30_001).is_empty() && !log.reported(30_001, |_| true));
    let labels: Vec<_> = log.marks().into_iter().map(|mark| mark.label).collect();
    assert_eq!(labels, ["silent kill of fra, ipv4", "fra healed after silent kill"]);
    let lines = log.finish().unwrap();
    assert_eq!(read(), lines);
    assert_eq!(lines.iter().map(Line::t_ns).collect::<Vec<_>>(), [20_000, 30_000, 40_000]);
    let first = serde_json::to_string(&lines[0]).unwrap();
    assert_eq!(
        first,
        r#"{"schema":"nearlab.event.v1","t_ns":20000,"kind":"fault","how":"silent","site":"fra","family":"ipv4"}"#
    );
    // A lab that is kept emits more events.
    log.lab(50_000, LabEventKind::Note { text: "later".into() }).unwrap();
    assert_eq!(read().iter().map(Line::t_ns).collect::<Vec<_>>(), [20_000, 30_000, 40_000, 50_000]);
}

/// The page of a scenario has its steps with their outages, and its expectations, held or failed; nothing of
/// the demo's.
#[test]
fn the_page_of_a_scenario_has_its_steps_and_its_expectations() {
    let step = |at_ms, what: &str, outage_ms| PlayedStep {
        at_ms,
        what: what.into(),
        outage_ms,
        lost: 31,
        sent: 1_000,
        moves: 8,
        served_by: vec!["fra".into(), "par".into()],
    };
    let expected = |key: &str, found: &str, held| Expected {
        key: key.into(),
        wanted: "60ms at most".into(),
        found: found.into(),
        held,
    };
    let played = Played {
        scenario: "fail<over".into(),
        steps: vec![step(1_000.0, "kill ams (silent)", 23.5), step(2_000.0, "drain fra", 0.0)],
        expectations: vec![
            expected("outage-max", "23.50 ms", true),
            expected("lost-max", "31 probes were lost", false),
        ],
    };
    let run = Run { kills: Vec::new(), played: Some(played), ..synthetic(1) };
    let page = page(&run);
    for part in [
        "<h1>fail&lt;over</h1>",
        "<title>nearlab fail&lt;over, ",
        " · 2 steps · 3 sites · ",
        "1.000<th>kill ams (silent)<td class=\"n strong\">23.5",
        "2.000<th>drain fra<td",
        "<td>fra, par</tr>",
        "<tr><th>outage-max<td>60ms at most<td class=\"why\">23.50 ms<td class=\"strong good\">held</tr>",
        "<tr><th>lost-max<td>60ms at most<td class=\"why\">31 probes were lost<td class=\"strong bad\">failed</tr>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("kills") && !page.contains("nearlab demo"), "{page}");
}
