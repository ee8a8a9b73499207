//! The how-to pages of `docs/`, command by command, as they are printed there.
//!
//! Every ```sh block is typed into one shell, in the order of the page. A ```text block right below it is
//! what it prints, apart from times and ages; such a block is typed again until it prints that, as a
//! person would.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing it did not expect")]

#[path = "../../router/tests/support/skip.rs"]
mod skip;

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nearhop::time::Nanos;
use skip::skip;

#[test]
fn dns_anycast_with_bgp_on_three_hosts() {
    let test = "dns_anycast_with_bgp_on_three_hosts";
    let Some(_shell) = follow(test, &page("dns-anycast.md"), (20, 10)) else { return };
}

/// With other intervals than the page's: a neighbour that a busy machine does not let run for 3 ms is no failure of the
/// page, and one that is called silent for a moment only comes back before the next look.
#[test]
fn a_dead_neighbor_in_3_ms() {
    let text = page("detect-in-3-ms.md");
    let mut slower = text.clone();
    for (fast, slow) in
        [("interval = \"1ms\"", "interval = \"300ms\""), ("interval 1 ms", "interval 300 ms")]
    {
        assert!(text.contains(fast), "{fast}");
        slower = slower.replace(fast, slow);
    }
    let Some(mut shell) = follow("a_dead_neighbor_in_3_ms", &slower, (10, 4)) else { return };
    // Times are compared with no page: these are what was agreed, or longer, where packets were late.
    let (shown, _) = shell.run("nearhop show bfd --json");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let agreed = |row: &serde_json::Value| row["detection_us"].as_u64() >= Some(3 * 300_000);
    assert!(shown["items"].as_array().unwrap().iter().all(agreed), "{shown}");
}

/// Types what a page says, of which there are so many blocks, and so many of them that print something; the shell in
/// which that was. `None` if this machine cannot.
fn follow(test: &str, page: &str, (typed, printed): (usize, usize)) -> Option<Shell> {
    let steps = steps(page);
    assert!(steps.len() >= typed, "{}", steps.len());
    let outputs = steps.iter().filter(|step| step.prints.is_some()).count();
    assert!(outputs >= printed, "most of it is looked at: {outputs}");
    if let Some(why) = cannot_run(&steps[0].typed) {
        skip(test, &why);
        return None;
    }
    let programs = programs();
    let mut shell = Shell::start(&steps[0].typed, programs);
    for step in &steps[1..] {
        shell.take(step);
    }
    Some(shell)
}

/// What the page says to type at once.
struct Step {
    typed: String,
    /// What it prints, if the page says.
    prints: Option<String>,
}

/// The blocks of a page. Output stands right below what prints it.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for rest in page.split("```sh\n").skip(1) {
        let (typed, below) = rest.split_once("\n```\n").unwrap();
        let prints = below.strip_prefix("\n```text\n");
        let prints = prints.map(|text| text.split_once("\n```").unwrap().0.to_owned());
        steps.push(Step { typed: typed.to_owned(), prints });
    }
    steps
}

/// Whether what was printed is what the page says, word by word; one time is as good as another.
fn is_as_said(said: &str, printed: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let plain = |word: &str| if is_time(word) { "TIME".to_owned() } else { word.to_owned() };
        text.split_whitespace().map(plain).collect()
    };
    words(said) == words(printed)
}

/// An age such as `4.0s` or `1m2s`, or a time of day such as `11:13:04.861]`.
fn is_time(word: &str) -> bool {
    let word = word.trim_end_matches(']');
    let is_of = |units: &str| {
        let fits = |c: char| c.is_ascii_digit() || c == '.' || units.contains(c);
        word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(fits)
    };
    is_of(":") && word.matches(':').count() == 2
        || is_of("hms") && word.ends_with(|c: char| "hms".contains(c))
}

#[test]
fn output_is_compared_word_by_word_but_for_times() {
    for (said, printed, same) in [
        ("a  4.0s b\nc", "a 1m2s  b c", true),
        ("x [ams 11:13:04.861] *", "x [ams 01:02:03.004] *", true),
        ("\"ams\"", "\"fra\"", false),
        ("10.0.1.1", "10.0.1.2", false),
        ("a", "a a", false),
        ("2001:db8:53::53/128", "2001:db8:54::53/128", false),
        ("", "", true),
    ] {
        assert_eq!(is_as_said(said, printed), same, "{said:?} {printed:?}");
    }
}

/// A shell that commands are typed into.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _programs: tempfile::TempDir,
}

impl Shell {
    /// The one that this command starts.
    fn start(command: &str, programs: tempfile::TempDir) -> Self {
        let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        shell.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output, _programs: programs }
    }

    /// Types a command, and returns what it printed and its exit status.
    fn run(&mut self, command: &str) -> (String, String) {
        // In braces, so that the shell has read all of it before any command could read on.
        writeln!(self.input, "{{ {command}\n}}\necho \"\n{END} $?\"").unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "the shell ended: {command}\n{printed}");
            match line.strip_prefix(END) {
                Some(status) => return (printed, status.trim().to_owned()),
                None => printed.push_str(&line),
            }
        }
    }

    fn take(&mut self, step: &Step) {
        let Some(said) = &step.prints else {
            let (printed, status) = self.run(&step.typed);
            assert_eq!(status, "0", "{}\n{printed}", step.typed);
            return;
        };
        let begin = Nanos::now();
        loop {
            let (printed, _) = self.run(&step.typed);
            if is_as_said(said, &printed) {
                return;
            }
            let waited = Nanos::now().since(begin);
            let typed = &step.typed;
            assert!(
                waited < BUDGET,
                "{typed}\nthe page says:\n{said}\nit prints, after {waited:?}:\n{printed}\n{}",
                self.logs()
            );
            std::thread::park_timeout(ASK_EVERY);
        }
    }

    fn logs(&mut self) -> String {
        self.run("tail -n 30 /run/*.log").0
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Its namespaces, and all that runs there, end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `nearhop` and `nearlab` as this build has them.
fn programs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let this = env!("CARGO_BIN_EXE_nearlab");
    for (name, command) in [("nearlab", this.to_owned()), ("nearhop", format!("{this} router"))] {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\nexec {command} \"$@\"\n")).unwrap();
        Command::new("chmod").arg("+x").arg(&path).status().unwrap();
    }
    folder
}

/// What this machine lacks for the page; `unshare` is the command that it begins with.
fn cannot_run(unshare: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    let needs =
        [("bird", "bird2"), ("birdc", "bird2"), ("dig", "bind9-dnsutils"), ("ip", "iproute2")];
    for (program, package) in needs {
        if !path.split(':').any(|folder| Path::new(folder).join(program).exists()) {
            return Some(format!("{program} is not there (package {package})"));
        }
    }
    let tried = Command::new("sh").args(["-c", &format!("{unshare} -c true")]).output().unwrap();
    (!tried.status.success()).then(|| String::from_utf8_lossy(&tried.stderr).into_owned())
}

fn page(name: &str) -> String {
    let repository: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    fs::read_to_string(repository.join("docs").join(name)).unwrap()
}

/// The line after what a command printed.
const END: &str = "END-OF-COMMAND";

/// For what the page says to come about; the longest that it takes is the 10 s before a service is
/// announced again.
const BUDGET: Duration = Duration::from_mins(1);
const ASK_EVERY: Duration = Duration::from_millis(100);
