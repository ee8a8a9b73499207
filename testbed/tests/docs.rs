//! The pages of `docs/` against what they describe: tables, examples, commands.
//!
//! `NEARHOP_BLESS=1 cargo test -p nearlab --test docs` writes `docs/verdicts.md` and `docs/documents.md` again.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing it did not expect")]

mod docs_support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nearhop::config::{self, Style};
use nearhop::event::{Event, EventKind, MoveCause, Resort};
use nearhop::ids::Family;
use nearhop::verdict::{Outcome, Verdict};
use nearlab::report::{LAB_SCHEMA, LabEventKind};
use nearlab::scenario::{self, Scenario};
use serde_json::Value;

#[test]
fn verdicts_are_those_of_the_table() {
    is_made_from_its_table("verdicts.md", &verdicts());
}

#[test]
fn documents_are_those_of_the_table() {
    is_made_from_its_table("documents.md", &docs_support::documents());
}

/// Compares a page with what it is made from, or writes it.
fn is_made_from_its_table(name: &str, wanted: &str) {
    let path = repository().join("docs").join(name);
    if std::env::var_os("NEARHOP_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "write it again with NEARHOP_BLESS=1");
}

fn verdicts() -> String {
    let mut page = String::from(
        "# Verdicts\n\nEvery way a packet can end. A label is what `nearhop show drops` prints, never \
         renamed. This page is made\nfrom the table in `router/src/verdict.rs`; a test fails when they \
         differ. Its sections are the outcomes, in the\nwords of `nearhop show verdicts`, of `nearhop \
         explain` and of metrics.\n",
    );
    for outcome in Outcome::ALL {
        let (title, about) = (outcome.label(), outcome.text());
        write!(page, "\n## {title}\n\n{about}\n\n| label | a packet that is |\n|---|---|\n")
            .unwrap();
        for verdict in Verdict::ALL.iter().filter(|verdict| verdict.outcome() == outcome) {
            writeln!(page, "| `{}` | {} |", verdict.label(), verdict.text()).unwrap();
        }
    }
    page
}

#[test]
fn every_event_is_reported_of_field_by_field() {
    let page = page("events.md");
    let examples: Vec<Value> = blocks(&page, "json")
        .iter()
        .map(|line| {
            let event: Event = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert_eq!(
                serde_json::to_string(&event).unwrap(),
                *line,
                "an example as it is written"
            );
            serde_json::from_str(line).unwrap()
        })
        .collect();
    let kind = |value: &Value| value["kind"].as_str().unwrap().to_owned();
    let reported: BTreeSet<_> = examples.iter().map(kind).collect();
    let all: BTreeSet<_> =
        one_of_each().iter().map(|event| kind(&serde_json::to_value(event).unwrap())).collect();
    assert_eq!(reported, all);
    let names: BTreeSet<_> = EventKind::NAMES.map(str::to_owned).into();
    assert_eq!(names, all, "what `nearhop watch --kind` takes");
    for example in &examples {
        let kind = kind(example);
        let section = section(&page, &format!("## {kind}"));
        let own = example.as_object().unwrap().keys();
        for field in
            own.filter(|key| !["schema", "t_ns", "seq", "node", "kind"].contains(&key.as_str()))
        {
            assert!(section.contains(&format!("| `{field}` |")), "{kind}: {field}");
        }
    }
}

/// One event of each kind. A new kind does not compile until it has its arm, and its page fails
/// until it has its section.
fn one_of_each() -> Vec<EventKind> {
    let (service, site, port) = ("dns".to_owned(), "fra".to_owned(), "fra".to_owned());
    let (family, member, reason) = (Family::Ipv4, site.clone(), "x".to_owned());
    let all = vec![
        EventKind::Bfd {
            neighbor: String::new(),
            port: Some(port.clone()),
            up: true,
            state: String::new(),
            reason: reason.clone(),
            stored_ns: 0,
        },
        EventKind::BfdPace { neighbor: String::new(), port: None, factor: 2, late_us: 1 },
        EventKind::Bgp { neighbor: String::new(), up: true, reason: reason.clone() },
        EventKind::Block { by: String::new(), prefix: String::new(), blocked: true },
        EventKind::Carrier { port: port.clone(), up: true },
        EventKind::Damped { service: service.clone(), site: site.clone(), family, hold_ms: 1 },
        EventKind::Device { port: port.clone(), ok: false, reason: reason.clone() },
        EventKind::Disable { by: String::new(), site: site.clone(), disabled: true },
        EventKind::Doubted {
            service: service.clone(),
            site: site.clone(),
            family,
            port: port.clone(),
            doubted: true,
            hold_ms: 1,
        },
        EventKind::Drain { by: String::new(), site: site.clone(), drained: true },
        EventKind::Engine {
            port: port.clone(),
            worker: 0,
            engine: "epoll".into(),
            reason: reason.clone(),
        },
        EventKind::FirstPacket { service: service.clone(), site: site.clone(), family, worker: 0 },
        EventKind::Lease { neighbor: String::new(), held: true, reason: reason.clone() },
        EventKind::Playbook { by: String::new(), playbook: String::new(), applied: true },
        EventKind::Proof { prefix: String::new(), port: port.clone(), proven: false, waited_ms: 1 },
        EventKind::Publish { groups: 0, prefixes: 0, refused: 0, took_us: 0 },
        EventKind::ReaderStalled { worker: 0, stalled_ms: 0 },
        EventKind::Ready,
        EventKind::Reload { by: String::new(), changes: vec![] },
        EventKind::RouterDrain { by: String::new(), drained: true },
        EventKind::Select {
            service: service.clone(),
            family,
            from: vec![],
            to: vec![],
            resort: Some(Resort::Damped),
            cause: MoveCause::Operator,
            member,
        },
        EventKind::Site { service, site, family, port, up: true, reason, stored_ns: 0 },
    ];
    all.iter().for_each(is_listed);
    all
}

/// Does not compile while a kind is missing here, as a reminder to add it above.
fn is_listed(event: &EventKind) {
    match event {
        EventKind::Bfd { .. }
        | EventKind::BfdPace { .. }
        | EventKind::Bgp { .. }
        | EventKind::Block { .. }
        | EventKind::Carrier { .. }
        | EventKind::Damped { .. }
        | EventKind::Device { .. }
        | EventKind::Disable { .. }
        | EventKind::Doubted { .. }
        | EventKind::Drain { .. }
        | EventKind::Engine { .. }
        | EventKind::FirstPacket { .. }
        | EventKind::Lease { .. }
        | EventKind::Playbook { .. }
        | EventKind::Proof { .. }
        | EventKind::Publish { .. }
        | EventKind::ReaderStalled { .. }
        | EventKind::Ready
        | EventKind::Reload { .. }
        | EventKind::RouterDrain { .. }
        | EventKind::Select { .. }
        | EventKind::Site { .. } => {}
    }
}

/// The reasons in the page are those that the router has, no more and no fewer.
#[test]
fn reasons_of_legs_are_those_of_the_code() {
    let page = page("events.md");
    let table = page.split("| `reason` | what decided it |\n|---|---|\n").nth(1).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let words = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let named: BTreeSet<String> = words.map(str::to_owned).collect();
    let made: BTreeSet<String> = nearhop::liveness::event::reasons().into_iter().collect();
    assert_eq!(named, made);
}

#[test]
fn every_event_of_the_lab_is_reported_of() {
    let page = page("events.md");
    let section = section(&page, "# Events of the lab");
    assert!(section.contains(LAB_SCHEMA));
    for kind in [
        LabEventKind::Fault {
            how: nearlab::measure::KillKind::Site,
            site: String::new(),
            family: None,
        },
        LabEventKind::Heal { how: nearlab::measure::KillKind::Site, site: String::new() },
        LabEventKind::Change { what: String::new() },
        LabEventKind::Note { text: String::new() },
    ] {
        let json = serde_json::to_value(&kind).unwrap();
        let own = json.as_object().unwrap();
        assert!(section.contains(&format!("`{}`", own["kind"].as_str().unwrap())), "{json}");
        for field in own.keys().filter(|key| *key != "kind") {
            assert!(section.contains(&format!("`{field}`")), "{json}: {field}");
        }
    }
}

#[test]
fn examples_of_the_configuration_are_taken() {
    let page = page("configuration.md");
    let examples = blocks(&page, "toml");
    assert!(examples.len() >= 6);
    for example in examples {
        let checked = config::parse("docs/configuration.md", &example);
        checked.unwrap_or_else(|errors| panic!("{example}\n{}", errors.render(Style::PLAIN)));
    }
}

/// A reader copies the example, and it works.
#[test]
fn the_example_of_the_readme_is_a_whole_file() {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let [example] = &blocks(&text, "toml")[..] else { panic!("one example") };
    let checked = config::parse("README.md", example);
    let (config, warnings) = checked.unwrap_or_else(|e| panic!("{}", e.render(Style::PLAIN)));
    let warned: Vec<_> = warnings.iter().map(config::Finding::message).collect();
    assert_eq!(warned, [""; 0]);
    assert!(!config.services.is_empty() && config.ports.len() >= 2);
}

/// The parser itself says which keys it knows: it lists them when asked for one it does not.
#[test]
fn every_key_of_the_configuration_has_its_row() {
    let page = page("configuration.md");
    let check = "[[service]]\n[[service.site]]\n[[service.site.health]]";
    for (table, title, known_at_least) in [
        ("[router]", "## [router]", 7),
        ("[[port]]", "## [[port]]", 9),
        ("[[route]]", "## [[route]]", 2),
        ("[[service]]", "## [[service]]", 6),
        ("[[service]]\n[[service.site]]", "## [[service.site]]", 8),
        (check, "## health", 9),
        ("[api]", "## [api]", 2),
    ] {
        let errors = config::parse("t", &format!("{table}\nzzzzzz = 1\n")).unwrap_err();
        let drawn = errors.render(Style { color: false, width: 1_000 });
        let keys = drawn.split("known keys: ").nth(1).unwrap().lines().next().unwrap();
        assert!(!keys.contains(" more"), "{keys}");
        let keys: Vec<_> = keys.split(", ").map(str::trim).collect();
        assert!(keys.len() >= known_at_least, "{title}: {keys:?}");
        let section = section(&page, title);
        for key in keys {
            assert!(section.contains(&format!("| `{key}` |")), "{title}: {key}");
        }
    }
}

#[test]
fn every_test_that_forwarding_names_is_there() {
    let page = page("forwarding.md");
    let rows: Vec<_> = page.lines().filter(|line| line.contains(".rs`: `")).collect();
    assert!(rows.len() >= 30);
    for row in rows {
        let (before, test) = row.rsplit_once("`: `").unwrap();
        let (file, test) = (before.rsplit_once('`').unwrap().1, test.split('`').next().unwrap());
        let code =
            fs::read_to_string(repository().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let at = code.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("{file}: {test}"));
        let before = code[..at].trim_end().lines().last().unwrap();
        assert!(before.contains("#[test]"), "{file}: {test} is no test: {before}");
    }
}

/// Each row of each table ends with tests that there are.
#[test]
fn every_test_that_failures_name_is_there() {
    let page = page("failures.md");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| fault |"))
        .collect();
    assert!(rows.len() >= 25);
    let mut code = String::new();
    for folder in ["router/src", "router/tests", "testbed/tests", "testbed/src"] {
        read_code(&repository().join(folder), &mut code);
    }
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            let at = code.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("{row}"));
            let before = code[..at].trim_end().lines().last().unwrap();
            assert!(before.contains("#[test]"), "{test} is no test: {before}");
        }
    }
}

fn read_code(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_code(&path, code);
        } else if path.extension().is_some_and(|end| end == "rs") {
            code.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_request_of_the_control_socket_is_reported_of() {
    let page = page("control-socket.md");
    let code = fs::read_to_string(repository().join("router/src/api/mod.rs")).unwrap();
    let routes: Vec<_> = code.split(".route(\"").skip(1).collect();
    assert!(routes.len() >= 7);
    for route in routes {
        let (path, rest) = route.split_once("\", ").unwrap();
        let verb = if rest.starts_with("get") { "GET" } else { "POST" };
        let path = path.replace("/{site}", "/SITE").replace("/{neighbor}", "/NEIGHBOR");
        let path = path.replace("/{noun}", "/");
        assert!(page.contains(&format!("`{verb} {path}")), "{verb} {path}");
    }
}

#[test]
fn files_of_the_lab_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let labs = repository().join("testbed/labs/three-sites.toml");
    fs::copy(labs, folder.path().join("three-sites.toml")).unwrap();
    let page = page("lab.md");
    let examples = blocks(&page, "toml");
    assert_eq!(examples.len(), 3);
    for (example, kind) in examples.iter().zip(["topology", "topology", "scenario"]) {
        let file = folder.path().join("example.toml");
        fs::write(&file, example).unwrap();
        let reported = scenario::validate(&file)
            .unwrap_or_else(|errors| panic!("{}", errors.render(Style::PLAIN)));
        assert!(reported.starts_with(kind), "{reported}");
    }
    for file in ["bgp-anycast.toml", "failover.toml", "flap.toml"] {
        Scenario::load(&repository().join("testbed/labs").join(file)).unwrap();
    }
}

/// As [`every_key_of_the_configuration_has_its_row`], for the lab's files.
#[test]
fn every_key_of_the_lab_is_reported_of() {
    let page = page("lab.md");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("asked.toml");
    for text in [
        "zzzzzz = 1\n",
        "[[node]]\nzzzzzz = 1\n",
        "[[link]]\nzzzzzz = 1\n",
        "[[service]]\nzzzzzz = 1\n",
        "[[service]]\nhealth = { zzzzzz = 1 }\n",
        "[[service]]\nsites = [{ zzzzzz = 1 }]\n",
        "[[service]]\nsites = [{ announce = { zzzzzz = 1 } }]\n",
        "seed = 1\nzzzzzz = 1\n",
        "[topology]\nzzzzzz = 1\n",
        "[[flow]]\nzzzzzz = 1\n",
        "[[step]]\nzzzzzz = 1\n",
        "[[step]]\nflap = { zzzzzz = 1 }\n",
        "[[step]]\nexpect = { zzzzzz = 1 }\n",
        "[expect]\nzzzzzz = 1\n",
    ] {
        fs::write(&file, text).unwrap();
        let errors = scenario::validate(&file).unwrap_err();
        let drawn = errors.render(Style { color: false, width: 1_000 });
        let keys = drawn.split("known keys: ").nth(1).unwrap_or_else(|| panic!("{text}: {drawn}"));
        for key in keys.lines().next().unwrap().split(", ").map(str::trim) {
            let reported =
                [format!("`{key}"), format!("[{key}]"), format!(" {key}"), format!("{{ {key}")];
            assert!(reported.iter().any(|reported| page.contains(reported)), "{text}: {key}");
        }
    }
}

/// Commands in ```sh blocks need no namespace; the rest is ```text.
#[test]
fn commands_of_the_pages_run() {
    let folder = tempfile::tempdir().unwrap();
    let this = env!("CARGO_BIN_EXE_nearlab");
    let programs = [
        ("nearlab", format!("exec {this} \"$@\"")),
        ("nearhop", format!("exec {this} router \"$@\"")),
    ];
    for (name, script) in programs {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        Command::new("chmod").arg("+x").arg(&path).status().unwrap();
    }
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut ran = 0;
    for page_name in ["tutorial.md", "lab.md"] {
        for block in blocks(&page(page_name), "sh") {
            let mut shell = Command::new("sh");
            shell.args(["-ec", &block]).current_dir(repository()).env("PATH", &path);
            let output = shell.stdin(Stdio::null()).output().unwrap();
            // A machine that cannot build labs is reported so by doctor, and that is its answer.
            let can = output.status.success()
                || (block.contains("doctor") && output.status.code() == Some(3));
            assert!(can, "{page_name}: {block}: {output:?}");
            ran += 1;
        }
    }
    assert!(ran >= 4);
}

#[test]
fn links_between_pages_lead_somewhere() {
    for file in fs::read_dir(repository().join("docs")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            let there = target.starts_with("http") || path.parent().unwrap().join(target).exists();
            assert!(there, "{}: {link}", path.display());
        }
    }
}

/// What stands in the fenced blocks of that language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    page.split(&start).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

/// From a title to the next of any level.
fn section<'p>(page: &'p str, title: &str) -> &'p str {
    let at = page.find(&format!("{title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    let body = &page[at + title.len()..];
    &body[..body.find("\n#").unwrap_or(body.len())]
}

fn page(name: &str) -> String {
    fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
