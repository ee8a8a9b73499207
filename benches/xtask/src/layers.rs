//! The order of the router's modules: nothing uses what stands above it, and modules that stand side by
//! side do not use each other in a circle.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{repository_files, root};
use crate::report::Outcome;

/// From the bottom up. ARCHITECTURE.md says what each is.
const LAYERS: &[&[&str]] = &[
    &[
        "address_text",
        "ids",
        "time",
        "limit",
        "printable",
        "utc",
        "verdict",
        "policy",
        "put_back",
        "random",
        "regular_file",
        "timers",
    ],
    &["bgp", "event", "rib", "route_file"],
    &["packet"],
    &["batch", "kernel", "port", "secret"],
    &["bfd", "neighbor"],
    &["config"],
    &["forward"],
    &["probe", "host"],
    &["liveness"],
    &["control"],
    &["engine"],
    &["worker"],
    &["api", "client"],
    &["logging"],
    &["run", "sim"],
    &["cli"],
];

/// Reads every file of the router's library.
pub fn check() -> Outcome {
    let Some(files) = repository_files() else {
        return Outcome::Lacking("git cannot list the files of this checkout".into());
    };
    let sources = files.iter().filter_map(|path| {
        let module = module_of(path)?;
        Some((path.clone(), module, fs::read_to_string(root().join(path)).ok()?))
    });
    let found = faults(sources);
    if found.is_empty() { Outcome::Passed } else { Outcome::Failed(found.join("\n")) }
}

/// The module at the top of the library that a file belongs to; `None` for others and for tests.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("router/src").ok()?;
    let is_test = |part: &str| matches!(part, "tests" | "tests.rs");
    let mut parts = inside.iter().map(|part| part.to_string_lossy());
    let is_rust = inside.extension().is_some_and(|extension| extension == "rs");
    if !is_rust || parts.clone().any(|part| is_test(&part)) {
        return None;
    }
    let first = parts.next()?;
    let module = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
    (!matches!(module.as_str(), "lib" | "bin")).then_some(module)
}

/// What is wrong with these files, a line each.
fn faults(sources: impl Iterator<Item = (PathBuf, String, String)>) -> Vec<String> {
    let mut found = Vec::new();
    let mut beside: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, module, text) in sources {
        let Some(own) = rank(&module) else {
            found.push(format!("{}: {module} has no place in LAYERS", path.display()));
            continue;
        };
        for (line, used) in uses(&text).filter(|(_, used)| *used != module) {
            match rank(&used) {
                None => {
                    found.push(format!("{}:{line}: {used} has no place in LAYERS", path.display()));
                }
                Some(other) if other > own => found.push(format!(
                    "{}:{line}: {module} uses {used}, which stands above it",
                    path.display()
                )),
                Some(other) if other == own => {
                    beside.entry(module.clone()).or_default().insert(used);
                }
                Some(_) => {}
            }
        }
    }
    found.extend(circles(&beside));
    found
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Each `crate::NAME` outside comments and outside the tests at the end of the file, with its line.
fn uses(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().zip(1..);
    let code = lines.filter(|(line, _)| !line.trim_start().starts_with("//"));
    code.flat_map(|(line, number)| {
        let names = line.split("crate::").skip(1);
        // `crate::{a, b::c}` is written as one line for each module here.
        let name = |rest: &str| {
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        names.map(move |rest| (number, name(rest)))
    })
}

/// Modules that use each other, directly or by way of others of their layer.
fn circles(beside: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reachable = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for used in beside.get(module).into_iter().flatten() {
                if seen.insert(used) {
                    next.push(used);
                }
            }
        }
        seen
    };
    let in_circle = |module: &&String| reachable(module).contains(*module);
    let members: Vec<&str> = beside.keys().filter(in_circle).map(String::as_str).collect();
    match members.as_slice() {
        [] => Vec::new(),
        members => vec![format!("these use each other in a circle: {}", members.join(", "))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        faults(files.iter().filter_map(|(path, text)| {
            let path = PathBuf::from(path);
            Some((path.clone(), module_of(&path)?, (*text).to_owned()))
        }))
    }

    #[test]
    fn a_line_that_reaches_up_is_found_with_its_place() {
        let text = "use std::fmt;\nuse crate::time::Nanos;\nuse crate::worker::{Lane, Wake};\n";
        let up = ["router/src/probe/mod.rs:3: probe uses worker, which stands above it"];
        assert_eq!(found(&[("router/src/probe/mod.rs", text)]), up);
        assert_eq!(found(&[("router/src/run/mod.rs", text)]), [""; 0]);
        let inline = "fn f() { crate::cli::main() }\n// crate::cli\n";
        let up = ["router/src/event.rs:1: event uses cli, which stands above it"];
        assert_eq!(found(&[("router/src/event.rs", inline)]), up);
    }

    #[test]
    fn modules_beside_each_other_make_no_circle() {
        let port = ("router/src/port/mod.rs", "use crate::batch::Batch;\n");
        let batch = ("router/src/batch/mod.rs", "use crate::port::Port;\n");
        assert_eq!(found(&[port]), [""; 0]);
        assert_eq!(found(&[port, batch]), ["these use each other in a circle: batch, port"]);
        // Also by way of a third.
        let batch = ("router/src/batch/mod.rs", "use crate::kernel::link;\n");
        let kernel = ("router/src/kernel/mod.rs", "use crate::port::Port;\n");
        let all = ["these use each other in a circle: batch, kernel, port"];
        assert_eq!(found(&[port, batch, kernel]), all);
    }

    #[test]
    fn tests_may_use_anything_and_new_modules_need_a_place() {
        let test = "#[cfg(test)]\nmod tests {\n    use crate::cli::main;\n}\n";
        assert_eq!(found(&[("router/src/time.rs", test)]), [""; 0]);
        assert_eq!(found(&[("router/src/time/tests.rs", "use crate::cli::main;\n")]), [""; 0]);
        let new = ["router/src/frobnicate.rs: frobnicate has no place in LAYERS"];
        assert_eq!(found(&[("router/src/frobnicate.rs", "")]), new);
        let used = ["router/src/time.rs:1: frobnicate has no place in LAYERS"];
        assert_eq!(found(&[("router/src/time.rs", "use crate::frobnicate::X;\n")]), used);
    }
}
