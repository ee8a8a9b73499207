//! Every shell script of the repository, and shellcheck's opinion of it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::command::{exists, program, repository_files, root, run};
use crate::report::Outcome;

/// Runs shellcheck on all of them at once.
pub fn check() -> Outcome {
    let Some(files) = repository_files() else {
        return Outcome::Lacking("git cannot list the files of this checkout".into());
    };
    let scripts: Vec<PathBuf> = files.into_iter().filter(|path| is_script(path)).collect();
    if scripts.is_empty() {
        return Outcome::Failed("no shell script found, and there should be some".into());
    }
    if !exists("shellcheck") {
        return Outcome::Lacking("shellcheck is not installed".into());
    }
    run(program("shellcheck").arg("--external-sources").args(scripts))
}

/// By its name, or by its first line.
fn is_script(path: &Path) -> bool {
    if path.extension().is_some_and(|extension| extension == "sh") {
        return true;
    }
    let mut start = [0; 64];
    let read = File::open(root().join(path)).and_then(|mut file| file.read(&mut start));
    let read = read.unwrap_or(0);
    starts_a_shell(&start[..read])
}

fn starts_a_shell(start: &[u8]) -> bool {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(interpreter) = line.strip_prefix(b"#!") else { return false };
    let interpreter = String::from_utf8_lossy(interpreter);
    let mut words = interpreter.split_whitespace().filter_map(|word| word.rsplit('/').next());
    words.any(|word| matches!(word, "sh" | "bash" | "dash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_first_line() {
        let cases: [(&[u8], bool); 6] = [
            (b"#!/bin/sh\n", true),
            (b"#!/usr/bin/env bash\nset -e", true),
            (b"#! /bin/bash -e\n", true),
            (b"#!/usr/bin/python3\n", false),
            (b"// #!/bin/sh", false),
            (b"", false),
        ];
        for (start, expected) in cases {
            assert_eq!(starts_a_shell(start), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn the_script_that_the_tests_begin_with_is_found() {
        assert!(is_script(Path::new(".ci/packages")));
        assert!(!is_script(Path::new("Cargo.toml")));
    }
}
