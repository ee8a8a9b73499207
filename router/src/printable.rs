//! Text from outside, made fit for terminals and logs: names of devices, words of files, what others said.
//!
//! A terminal acts on control characters, and hides or reorders text by some others. All of them are
//! written as escapes, so that what is shown is what there is.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line: control characters, line ends included, as `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unprintable, |c, out| out.extend(c.escape_unicode()))
}

/// As [`line()`], with the line ends that there are.
pub fn lines(text: &str) -> Cow<'_, str> {
    let is_escaped = |c| c != '\n' && is_unprintable(c);
    escaped(text, is_escaped, |c, out| out.extend(c.escape_unicode()))
}

/// A JSON text whose strings have such characters as JSON's own escapes: it means the same.
pub fn json(text: &str) -> Cow<'_, str> {
    // Outside of strings JSON has no other characters than these.
    let is_escaped = |c| !matches!(c, '\n' | '\r' | '\t') && is_unprintable(c);
    escaped(text, is_escaped, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// As [`json`] of a text that comes in parts: what may be cut in the middle of a character waits in
/// `pending` for the next one. What is no text becomes U+FFFD.
pub fn json_part(pending: &mut Vec<u8>, part: &[u8]) -> String {
    pending.extend_from_slice(part);
    // Only what lacks its end is kept, at most three bytes.
    let tail = pending.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_cut = str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
    let rest = pending.split_off(pending.len() - if is_cut { tail.len() } else { 0 });
    let whole = std::mem::replace(pending, rest);
    json(&String::from_utf8_lossy(&whole)).into_owned()
}

/// A word of any bytes, as text if it is text.
pub fn bytes(word: &[u8]) -> Cow<'_, [u8]> {
    match str::from_utf8(word) {
        Ok(text) => match line(text) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        Err(_) => Cow::Owned(word.escape_ascii().collect()),
    }
}

fn escaped(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Control characters (C0, DEL, C1), line ends of Unicode, and what changes the direction of text.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped_and_the_rest_is_as_it_was() {
        for (text, wanted) in [
            ("nh-ams", "nh-ams"),
            ("zürich→1", "zürich→1"),
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\u{9b}31mb", "a\\u{9b}31mb"),
            ("a\nb\tc\r\x7f", "a\\u{a}b\\u{9}c\\u{d}\\u{7f}"),
            ("a\u{202e}b\u{2028}", "a\\u{202e}b\\u{2028}"),
        ] {
            assert_eq!(line(text), wanted);
        }
        assert_eq!(lines("a\nb\x1b"), "a\nb\\u{1b}");
        assert_eq!(bytes(b"a\x1b"), b"a\\u{1b}".as_slice());
        assert_eq!(bytes(b"a\xff\x9b"), b"a\\xff\\x9b".as_slice());
    }

    #[test]
    fn a_character_that_is_cut_between_two_parts_is_escaped_as_a_whole_one() {
        let text = "[\"a\u{9b}b\u{202e}ü\"]".as_bytes();
        for at in 0..=text.len() {
            let mut pending = Vec::new();
            let (one, other) = text.split_at(at);
            let parts = [one, other].map(|part| json_part(&mut pending, part));
            assert_eq!(parts.concat(), "[\"a\\u009bb\\u202eü\"]", "cut at {at}");
            assert!(pending.is_empty());
        }
        assert_eq!(json_part(&mut Vec::new(), b"a\xffb"), "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_has_nothing_unprintable(text in "\\PC*|[\u{0}-\u{9f}\u{2028}-\u{202e}]*") {
            let written = serde_json::json!({ &text[..]: [text] });
            let shown = written.to_string();
            let shown = json(&shown);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), written);
            prop_assert!(!shown.contains(is_unprintable));
        }
    }
}
