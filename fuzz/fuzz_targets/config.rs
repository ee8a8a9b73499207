//! Bytes to a configuration, or to every mistake in them: never a panic, and each mistake lies
//! within the text and can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhop::config::{self, Finding, Style};

fuzz_target!(|bytes: &[u8]| {
    match config::parse_bytes(NAME, bytes) {
        Ok((parsed, warnings)) => {
            assert_eq!(config::diff(&parsed, &parsed), Vec::<String>::new());
            shown(&warnings, bytes, true);
        }
        Err(errors) => {
            assert!(!errors.mistakes.is_empty(), "refused without a reason");
            shown(&errors.mistakes, bytes, false);
            shown(&errors.warnings, bytes, true);
            assert!(!errors.render(Style::PLAIN).is_empty());
        }
    }
});

fn shown(findings: &[Finding], bytes: &[u8], warning: bool) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for finding in findings {
        assert_eq!(finding.is_warning(), warning, "{finding}");
        assert!(!finding.message().is_empty());
        assert!(!finding.render(Style::PLAIN).is_empty(), "{finding}");
        if let Some((line, column)) = finding.position() {
            assert!((1..=lines).contains(&line), "{finding}: there are {lines} lines");
            assert!(column >= 1 && column <= bytes.len() + 1, "{finding}");
        }
    }
}

const NAME: &str = "fuzz.toml";
