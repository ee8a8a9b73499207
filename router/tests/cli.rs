//! The command line of the real binary: output, output stream, and exit status.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nearhop_fib::IpPrefix;

/// Standard output, standard error, exit status.
type Ran = (String, String, i32);

fn nearhop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearhop"));
    command.args(args).env_remove("NEARHOP_SOCKET").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Ran {
    ended(nearhop(args).spawn().unwrap(), &[])
}

fn run_with(args: &[&str], stdin: &[u8]) -> Ran {
    ended(nearhop(args).stdin(Stdio::piped()).spawn().unwrap(), stdin)
}

fn ended(mut child: Child, stdin: &[u8]) -> Ran {
    let input = child.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that refuses its arguments does not read standard input.
            let _ = input.map(|mut input| input.write_all(stdin));
        });
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code().unwrap())
    })
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config").join(name)
}

fn written(dir: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

const ROUTES: &str = "# a comment\r
0.0.0.0/0 default-4\r
\r
10.0.0.0/8\tten # and a remark\r
  10.1.0.0/16   ten-one\r
10.0.0.0/8 TEN\r
2001:DB8:0::/32 doc\r
::/0 default-6\r
2001:db8::53/128 host";

#[test]
fn lookup_answers_in_the_order_asked() {
    let dir = tempfile::tempdir().unwrap();
    let routes = written(&dir, "routes.txt", ROUTES);
    let asked = ["10.1.2.3", "10.2.0.0", "9.9.9.9", "2001:0DB8::53", "2001:db8::1", "::"];
    let want = "10.1.2.3 10.1.0.0/16 ten-one\n10.2.0.0 10.0.0.0/8 TEN\n\
        9.9.9.9 0.0.0.0/0 default-4\n2001:0DB8::53 2001:db8::53/128 host\n\
        2001:db8::1 2001:db8::/32 doc\n:: ::/0 default-6\n";
    let by_arguments = run(&[&["lookup", "--routes", &routes][..], &asked].concat());
    assert_eq!(by_arguments, (want.to_owned(), String::new(), 0));
    let lines = asked.join("\r\n");
    let by_stdin = run_with(&["lookup", "--routes", &routes], lines.as_bytes());
    assert_eq!(by_stdin, (want.to_owned(), String::new(), 0));
    let routes_by_stdin =
        run_with(&[&["lookup", "--routes", "-"][..], &asked].concat(), ROUTES.as_bytes());
    assert_eq!(routes_by_stdin, (want.to_owned(), String::new(), 0));
}

#[test]
fn lookup_without_a_match_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let routes = written(&dir, "routes.txt", "10.0.0.0/8 a\n");
    let ran = run(&["lookup", "--routes", &routes, "11.0.0.0", "::ffff:10.0.0.1"]);
    assert_eq!(ran, ("11.0.0.0 - -\n::ffff:10.0.0.1 - -\n".into(), String::new(), 0));
    let empty = written(&dir, "empty.txt", "");
    assert_eq!(run(&["lookup", "--routes", &empty, "::"]), (":: - -\n".into(), String::new(), 0));
}

#[test]
fn lookup_says_bad_addresses_and_answers_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let routes = written(&dir, "routes.txt", "10.0.0.0/8 a\n");
    let (out, err, status) =
        run_with(&["lookup", "--routes", &routes], b"10.0.0.1\nfra\n\n10.0.0/8\n10.0.0.2\n");
    assert_eq!(out, "10.0.0.1 10.0.0.0/8 a\n10.0.0.2 10.0.0.0/8 a\n");
    assert_eq!(
        err,
        "fra ! not an IP address: expected an address such as 192.0.2.1 or 2001:db8::1\n\
         10.0.0/8 ! not an IP address: expected 4 numbers with dots between them, found 3\n"
    );
    assert_eq!(status, 2);
}

#[test]
fn lookup_refuses_a_file_with_a_wrong_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, "r.txt", "10.0.0.0/8 a\n10.0.0.1/8 b\nx y\n");
    let (out, err, status) = run(&["lookup", "--routes", &path, "10.0.0.1"]);
    assert_eq!((out.as_str(), status), ("", 2));
    assert!(err.contains("r.txt:2: \"10.0.0.1/8\" is not a prefix: host bits are set"), "{err}");
    assert!(err.contains("r.txt:3: \"x\" is not a prefix"), "{err}");
    let (_, err, status) = run(&["lookup", "--routes", "/nonexistent", "::"]);
    assert_eq!((err.starts_with("error: cannot read /nonexistent: "), status), (true, 2));
    let (_, err, status) = run(&["lookup", "--routes", dir.path().to_str().unwrap(), "::"]);
    assert_eq!((err.contains("Is a directory"), status), (true, 2), "{err}");
    let (_, err, status) = run(&["lookup", "--routes", "-"]);
    assert_eq!((err.contains("cannot hold both"), status), (true, 2));
    assert_eq!(run(&["lookup", "::"]).2, 2);
}

#[test]
fn lookup_reads_compressed_files_whatever_they_are_called() {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(ROUTES.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = compress_to_vec(ROUTES.as_bytes(), CompressionLevel::Fastest);
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("r.gz", &gzip), ("r.zst", &zstd), ("r", &gzip)] {
        let path = written(&dir, name, bytes);
        let ran = run(&["lookup", "--routes", &path, "10.1.2.3"]);
        assert_eq!(ran, ("10.1.2.3 10.1.0.0/16 ten-one\n".into(), String::new(), 0), "{name}");
        let ran = run_with(&["lookup", "--routes", "-", "10.1.2.3"], bytes);
        assert_eq!(ran.2, 0, "{name}");
    }
    let cut = written(&dir, "cut.gz", &gzip[..gzip.len() - 4]);
    let (out, err, status) = run(&["lookup", "--routes", &cut, "10.1.2.3"]);
    assert_eq!((out.as_str(), err.contains("cut.gz:"), status), ("", true, 2), "{err}");
}

#[test]
fn lookup_answers_one_address_before_it_waits_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let routes = written(&dir, "routes.txt", "10.0.0.0/8 a\n");
    let mut child =
        nearhop(&["lookup", "--routes", &routes]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for n in 1..4 {
        writeln!(input, "10.0.0.{n}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("10.0.0.{n} 10.0.0.0/8 a\n"));
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// Compares with a model: of all prefixes that contain the address, the longest.
#[test]
fn lookup_agrees_with_a_slow_search() {
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut addr = |v6: bool| -> IpAddr {
        // Few bits vary, so that prefixes nest and addresses hit them.
        if v6 {
            let bits = u128::from(random() & 0xff) << 120 | u128::from(random() & 0xffff);
            Ipv6Addr::from_bits(bits).into()
        } else {
            Ipv4Addr::from_bits(((random() & 0xff) << 24 | (random() & 0xff)) as u32).into()
        }
    };
    let mut routes = Vec::new();
    let mut text = String::new();
    for n in 0..2_000_usize {
        let v6 = n % 2 == 1;
        let len = (n * 7 % if v6 { 129 } else { 33 }) as u8;
        let prefix = IpPrefix::around(addr(v6), len).unwrap();
        routes.retain(|(known, _)| *known != prefix);
        routes.push((prefix, n));
        writeln!(text, "{prefix} nh{n}").unwrap();
    }
    let asked: Vec<IpAddr> = (0..5_000).map(|n| addr(n % 2 == 1)).collect();
    let mut want = String::new();
    for addr in &asked {
        let covering = routes.iter().filter(|(prefix, _)| prefix.contains(*addr));
        match covering.max_by_key(|(prefix, _)| prefix.len()) {
            Some((prefix, n)) => writeln!(want, "{addr} {prefix} nh{n}").unwrap(),
            None => writeln!(want, "{addr} - -").unwrap(),
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, "routes.txt", text);
    let lines = asked.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let (out, err, status) = run_with(&["lookup", "--routes", &path], lines.as_bytes());
    assert!(out == want, "the answers differ");
    assert_eq!((err.as_str(), status), ("", 0));
}

#[test]
fn a_reader_that_leaves_early_ends_the_command_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let routes = written(&dir, "routes.txt", "10.0.0.0/8 a\n");
    let many = "10.0.0.1\n".repeat(100_000);
    for (args, stdin) in [
        (&["lookup", "--routes", &routes][..], many.as_bytes()),
        (&["man"], b""),
        (&["completions", "bash"], b""),
        (&["--help"], b""),
        (&["check", testdata("full.toml").to_str().unwrap()], b""),
    ] {
        let mut child = nearhop(args).stdin(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let (_, err, status) = ended(child, stdin);
        assert_eq!((err.as_str(), status), ("", 0), "{args:?}");
    }
}

#[test]
fn check_answers_a_good_file_in_one_line() {
    let full = testdata("full.toml");
    let (out, err, status) = run(&["check", full.to_str().unwrap()]);
    assert!(out.ends_with("full.toml: ok (4 ports, 7 routes, 4 services, 6 sites, 0 warnings)\n"));
    assert_eq!((err.as_str(), status), ("", 0));
    let text = std::fs::read(full).unwrap();
    assert_eq!(run_with(&["check", "-"], &text).2, 0);
}

#[test]
fn check_warns_on_standard_error_and_still_accepts() {
    let (out, err, status) = run(&["check", testdata("warnings.toml").to_str().unwrap()]);
    assert!(out.contains("ok (3 ports"), "{out}");
    assert_eq!((err.matches("warning: ").count(), status), (16, 0), "{err}");
}

#[test]
fn check_shows_every_mistake_without_colour_and_exits_2() {
    let (out, err, status) = run(&["check", testdata("broken.toml").to_str().unwrap()]);
    assert_eq!((out.as_str(), status), ("", 2));
    assert!(err.contains("broken.toml:35:7\n") && err.contains("did you mean \"fra\"?"), "{err}");
    assert!(err.ends_with(" errors\n") && !err.contains('\u{1b}'), "{err}");
    let (_, err, status) = run(&["check", "/nonexistent/r1.toml"]);
    assert_eq!((err.contains("No such file"), status), (true, 2), "{err}");
}

#[test]
fn check_has_the_same_findings_as_json() {
    let (out, err, status) = run(&["check", "--json", testdata("broken.toml").to_str().unwrap()]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((err.as_str(), status), ("", 2));
    assert_eq!(document["schema"], "nearhop.check.v1");
    let first = &document["items"][0];
    assert_eq!(
        (&first["severity"], &first["line"], &first["column"]),
        (&"error".into(), &2.into(), &8.into())
    );
    let keys: HashSet<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, HashSet::from(["severity", "file", "line", "column", "message", "help"]));
}

#[test]
fn check_judges_each_of_several_files() {
    let [good, bad] = ["full.toml", "broken.toml"].map(|name| testdata(name).display().to_string());
    let (good_says, _, status) = run(&["check", &good]);
    assert_eq!(status, 0, "{good_says}");
    let (_, bad_says, status) = run(&["check", &bad]);
    assert_eq!(status, 2, "{bad_says}");
    let (out, err, status) = run(&["check", &bad, &good, &bad]);
    assert_eq!((out, err, status), (good_says, format!("{bad_says}{bad_says}"), 2));
    let (out, err, status) = run(&["check", "--json", &good, &bad]);
    assert_eq!((&*err, status), ("", 2));
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let files = serde_json::json!([{ "file": good, "ok": true }, { "file": bad, "ok": false }]);
    assert_eq!(document["files"], files);
    assert_eq!(document["items"][0]["file"], bad);
    let (_, err, status) = run(&["check", "-", "-"]);
    assert_eq!((err.contains("standard input can be read once"), status), (true, 2), "{err}");
}

#[test]
fn lookup_has_a_line_of_json_for_each_address() {
    let dir = tempfile::tempdir().unwrap();
    let routes = written(&dir, "routes.txt", "10.0.0.0/8 ams\n");
    let ran = run(&["lookup", "--json", "--routes", &routes, "10.0.0.1", "11.0.0.1", "fra"]);
    let line = |rest| format!("{{\"schema\":\"nearhop.lookup.v1\",{rest}}}\n");
    let want = [
        r#""address":"10.0.0.1","prefix":"10.0.0.0/8","next_hop":"ams""#,
        r#""address":"11.0.0.1","prefix":null,"next_hop":null"#,
        r#""address":"fra","prefix":null,"next_hop":null,"error":"not an IP address: expected an address such as 192.0.2.1 or 2001:db8::1""#,
    ];
    assert_eq!(ran, (want.map(line).concat(), String::new(), 2));
}

#[test]
fn help_and_version_are_commands_too() {
    let (version, _, status) = run(&["version"]);
    assert_eq!((run(&["--version"]).0, status), (version, 0));
    let (help, _, status) = run(&["help"]);
    assert_eq!((run(&["--help"]).0, status), (help.clone(), 0));
    assert!(!help.contains("__complete"), "{help}");
    assert_eq!(run(&["help", "drain"]).0, run(&["drain", "--help"]).0);
    assert_eq!(run(&["help", "show", "ports"]).0, run(&["show", "ports", "--help"]).0);
}

#[test]
fn a_noun_or_command_that_is_none_is_answered_with_those_like_it() {
    for (args, tip) in [(["show", "servces"], "'services'"), (["drian", "fra"], "'drain'")] {
        let (_, err, status) = run(&args);
        assert_eq!((err.contains("similar") && err.contains(tip), status), (true, 2), "{err}");
    }
}

#[test]
fn manual_pages_and_completions_cover_every_command() {
    let commands = [
        "run", "check", "show", "explain", "watch", "drain", "undrain", "disable", "enable",
        "reload", "lookup",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (out, err, status) = run(&["completions", shell]);
        assert_eq!((err.as_str(), status), ("", 0), "{shell}");
        assert!(commands.iter().all(|command| out.contains(command)), "{shell}");
    }
    let (page, _, status) = run(&["man"]);
    assert!(status == 0 && page.contains(".TH nearhop 1"), "{page}");
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let (_, err, status) = run(&["man", pages.to_str().unwrap()]);
    assert_eq!((err.as_str(), status), ("", 0));
    for command in commands {
        let page = std::fs::read_to_string(pages.join(format!("nearhop-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    let (_, err, status) = run(&["man", "/proc/nonexistent"]);
    assert_eq!((err.contains("cannot write manual pages"), status), (true, 3), "{err}");
}

#[test]
fn wrong_usage_exits_2_and_help_0() {
    assert_eq!(run(&[]).2, 2);
    assert_eq!(run(&["frobnicate"]).2, 2);
    assert_eq!(run(&["--version"]).2, 0);
    let (out, _, status) = run(&["show", "--help"]);
    assert!(status == 0 && out.contains("checks"), "{out}");
}

/// What a terminal would act on is in the arguments that are quoted.
#[test]
fn wrong_usage_is_quoted_without_what_a_terminal_acts_on() {
    for wrong in ["\u{9b}2J", "\u{202e}x", "\u{1b}[2J"] {
        let (_, err, status) = run(&["explain", wrong]);
        let acts = err.chars().find(|&c| c != '\n' && nearhop::printable::is_unprintable(c));
        assert_eq!((acts, status), (None, 2), "{err:?}");
        assert!(err.contains("invalid IP address"), "{err}");
    }
}

#[test]
fn run_refuses_a_broken_file_before_anything_else() {
    let (out, err, status) = run(&["run", testdata("broken.toml").to_str().unwrap()]);
    assert_eq!((out.as_str(), err.ends_with(" errors\n"), status), ("", true, 2));
}

#[test]
fn a_closed_standard_error_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let routes = written(&dir, "routes.txt", "10.0.0.0/8 a\n");
    let mut child = nearhop(&["lookup", "--routes", &routes, "x", "10.0.0.1"]).spawn().unwrap();
    drop(child.stderr.take());
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "10.0.0.1 10.0.0.0/8 a\n");
    assert_eq!(child.wait().unwrap().code(), Some(2));
}
