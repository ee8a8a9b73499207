//! The client's verbs against a small server that answers like a router.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

/// The requests that the server got, in order.
type Asked = Arc<Mutex<Vec<String>>>;

/// A server on its own socket. Dropping it closes every connection.
struct Server {
    dir: tempfile::TempDir,
    asked: Asked,
    _end: oneshot::Sender<()>,
}

impl Server {
    fn start() -> Self {
        Self::answering(Router::new().fallback(answer))
    }

    fn answering(app: Router<Asked>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked = Asked::default();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("r1.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let app = app.with_state(Arc::clone(&asked));
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = axum::serve(listener, app).into_future() => {}
                    _ = ended => {}
                }
            });
        });
        Self { dir, asked, _end: end }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("r1.sock")
    }

    fn run(&self, args: &[&str]) -> (String, String, i32) {
        run(nearhop(args).env("NEARHOP_SOCKET", self.socket()))
    }

    /// Runs a command on a new terminal that `stty` set up so; its standard error is there too.
    fn run_on_terminal(&self, stty: &str, args: &[&str]) -> (String, String, i32) {
        let words: Vec<_> = args.iter().map(|word| format!("'{word}'")).collect();
        let nearhop = env!("CARGO_BIN_EXE_nearhop");
        let command = format!("stty {stty}; exec {nearhop} {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("NEARHOP_SOCKET", self.socket());
        script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(script.env_remove("COLUMNS"))
    }
}

/// What [`events`] remembers: three events, the first of them the second of a router.
const EVENTS: &str = r#"{"schema":"nearhop.event.v1","t_ns":5,"seq":1,"node":"r1","kind":"carrier","port":"fra","up":false}
{"schema":"nearhop.event.v1","t_ns":6,"seq":2,"node":"r1","kind":"carrier","port":"fra","up":true}
{"schema":"nearhop.event.v1","t_ns":7,"seq":3,"node":"r1","kind":"ready"}
"#;

/// A router that ends at once.
async fn events(State(asked): State<Asked>, method: Method, uri: Uri) -> Response {
    asked.lock().unwrap().push(format!("{method} {uri}"));
    EVENTS.into_response()
}

async fn answer(State(asked): State<Asked>, method: Method, uri: Uri) -> Response {
    asked.lock().unwrap().push(format!("{method} {uri}"));
    match uri.path() {
        "/v1/show/services" => axum::Json(json!({
            "schema": "nearhop.services.v1",
            "items": [
                { "service": "dns", "family": "ipv4", "best": true, "site": "fra", "cost": 10, "age_ms": 4_100 },
                { "service": "dns", "family": "ipv4", "best": false, "site": "par", "cost": 120, "age_ms": null },
            ],
        }))
        .into_response(),
        "/v1/show/groups" => {
            axum::Json(json!({ "schema": "nearhop.groups.v1", "items": [] })).into_response()
        }
        "/v1/show/adjacencies" => axum::Json(json!({
            "schema": "nearhop.adjacencies.v1",
            "items": [{ "adjacency": 1, "port": "uplink-of-the-far-east", "state": "down",
                        "reasons": ["carrier"], "mtu": 1400, "packets": 12, "bytes": 1200 }],
        }))
        .into_response(),
        "/v1/show/bgp" if uri.query().is_none() => axum::Json(json!({
            "schema": "nearhop.bgp.v1", "items": [{ "neighbor": "uplink", "state": "Established" }],
        }))
        .into_response(),
        "/v1/show/blocks" => axum::Json(json!({
            "schema": "nearhop.blocks.v1", "items": [{ "prefix": "203.0.113.7/32", "announced_to": [] }],
        }))
        .into_response(),
        "/v1/show/playbooks" => axum::Json(json!({
            "schema": "nearhop.playbooks.v1",
            "items": [{ "playbook": "away" }, { "playbook": "away" }, { "playbook": "quiet" }],
        }))
        .into_response(),
        "/v1/show/bgp" | "/v1/show/bgp-neighbor" | "/v1/show/bgp-transcript" => {
            axum::Json(json!({ "schema": "nearhop.bgp.v1", "items": [] })).into_response()
        }
        "/v1/show/checks" => {
            axum::Json(json!({ "schema": "nearhop.checks.v1", "items": [] })).into_response()
        }
        "/v1/show/drops" => "not JSON".into_response(),
        "/v1/show/ports" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "/v1/show/steps" => Body::from_stream(futures_util::stream::iter([
            Ok("{\"schema\":\"nearhop.steps.v1\",\"items\":[{\"step\":\"reload\"},"),
            Err(std::io::Error::other("the router ends")),
        ]))
        .into_response(),
        "/v1/explain" => axum::Json(json!({
            "schema": "nearhop.explain.v1", "prefix": "198.51.100.53/32",
            "items": [{ "site": "fra", "chosen": true, "why": "lowest cost" }],
        }))
        .into_response(),
        "/v1/drain/fra" => {
            axum::Json(json!({ "schema": "nearhop.override.v1", "items": [{ "site": "fra", "drained": true }] }))
                .into_response()
        }
        "/v1/reload" => axum::Json(json!({
            "schema": "nearhop.reload.v1",
            "items": [{ "change": "router: workers 1 -> 2" }, { "change": "- port ams: tun nh-ams" }],
        }))
        .into_response(),
        "/v1/watch" => Body::new(Endless::default()).into_response(),
        _ => {
            let error = json!({ "error": "no site is called \"frs\"", "help": "did you mean \"fra\"?" });
            (StatusCode::NOT_FOUND, axum::Json(error)).into_response()
        }
    }
}

/// A router with twelve ports, whose counters grow with each request.
async fn count(State(asked): State<Asked>, uri: Uri) -> Response {
    let mut asked = asked.lock().unwrap();
    asked.push(uri.path().to_owned());
    let packets = asked.len() * 1_000_000;
    let items: Vec<_> = match uri.path() {
        "/v1/show/ports" => (0..12)
            .map(|number| json!({ "port": format!("port-{number}"), "rx_packets": packets }))
            .collect(),
        "/v1/show/verdicts" => vec![json!({ "verdict": "forwarded", "packets": packets })],
        _ => ["ipv4", "ipv6"]
            .map(|family| json!({ "service": "dns", "family": family, "site": "fra", "packets": packets }))
            .to_vec(),
    };
    axum::Json(json!({ "schema": "nearhop.some.v1", "items": items })).into_response()
}

/// Two events, then silence.
#[derive(Default)]
struct Endless(u8);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        if self.0 == 2 {
            return std::task::Poll::Pending;
        }
        self.0 += 1;
        let line = format!("{{\"schema\":\"nearhop.event.v1\",\"seq\":{}}}\n", self.0);
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(line.into()))))
    }
}

fn nearhop(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearhop"));
    command.args(args).env_remove("NEARHOP_SOCKET").env_remove("RUNTIME_DIRECTORY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn documents_are_tables_for_people_and_themselves_for_scripts() {
    let server = Server::start();
    let (table, err, status) = server.run(&["show", "services"]);
    assert_eq!((err.as_str(), status), ("", 0));
    insta::assert_snapshot!(table);
    let (document, _, _) = server.run(&["show", "services", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["items"][1]["cost"], 120);
    let (out, err, status) = server.run(&["show", "checks"]);
    assert_eq!((out.as_str(), err.as_str(), status), ("", "nothing to show\n", 0));
}

#[test]
fn verbs_ask_what_they_were_reported() {
    let server = Server::start();
    assert_eq!(server.run(&["drain", "fra"]).0, "SITE  DRAINED\nfra   yes\n");
    let (out, _, _) = server.run(&["reload"]);
    assert_eq!(out, "router: workers 1 -> 2\n- port ams: tun nh-ams\n");
    let flow = ["--from", "2001:db8::7", "--proto", "udp", "--sport", "5353", "--dport", "53"];
    let (out, _, _) = server.run(&[&["explain", "2001:db8:53::53"][..], &flow].concat());
    assert_eq!(
        out,
        "prefix: 198.51.100.53/32\nFLOW  SITE  WHY\n>     fra   lowest cost\n> packets go there now\n"
    );
    server.run(&["explain", "198.51.100.53"]);
    server.run(&["undrain", "a/b?c"]);
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "POST /v1/drain/fra",
            "POST /v1/reload",
            "GET /v1/explain?address=2001:db8:53::53&from=2001:db8::7&proto=17&sport=5353&dport=53",
            "GET /v1/explain?address=198.51.100.53",
            "POST /v1/undrain/a%2Fb%3Fc",
        ]
    );
}

#[test]
fn what_the_router_refuses_is_said_in_its_words() {
    let server = Server::start();
    let want = "error: no site is called \"frs\"\n  help: did you mean \"fra\"?\n";
    assert_eq!(server.run(&["drain", "frs"]), (String::new(), want.into(), 2));
    let (_, err, status) = server.run(&["show", "ports"]);
    assert_eq!(
        (err.as_str(), status),
        ("error: the router answered 500 Internal Server Error\n", 3)
    );
    let (_, err, status) = server.run(&["show", "drops"]);
    assert_eq!((err.contains("is not JSON"), status), (true, 3), "{err}");
    // Half a document is no table, and the connection is what failed.
    let (out, err, status) = server.run(&["show", "steps"]);
    assert_eq!((&*out, err.contains("closed the connection"), status), ("", true, 3), "{err}");
}

#[test]
fn top_has_every_rate_where_there_is_no_terminal_and_no_more_than_fits_where_there_is() {
    let server = Server::answering(Router::new().fallback(count));
    let top = ["top", "--count", "1", "--interval", "0.1"];
    let (whole, err, status) = server.run(&top);
    assert_eq!((err.as_str(), status), ("", 0));
    let rows =
        |text: &str, start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((rows(&whole, "port-"), rows(&whole, "dns "), rows(&whole, "\x1b")), (12, 4, 0));
    assert!(whole.contains("dns      ipv6    (all)"), "{whole}");

    let (drawn, err, status) = server.run_on_terminal("rows 10 cols 80", &top);
    assert_eq!((err.as_str(), status), ("", 0), "{drawn}");
    let frame = drawn.split_once("\x1b[2J").unwrap_or_else(|| panic!("no frame: {drawn:?}")).1;
    let lines: Vec<_> = frame.lines().collect();
    assert_eq!(lines.len(), 9, "one line is the cursor's: {lines:#?}");
    assert!(lines[0].starts_with("PORT "), "{lines:#?}");
    assert!(lines.contains(&"… 10 more"), "{lines:#?}");
}

#[test]
fn watch_gives_each_event_at_once_and_ends_with_its_reader() {
    let server = Server::start();
    let mut child =
        nearhop(&["watch", "--socket", server.socket().to_str().unwrap()]).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    for seq in 1..3 {
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{{\"schema\":\"nearhop.event.v1\",\"seq\":{seq}}}\n"));
    }
    // The server is silent now: only the closed pipe can end the client, which then says nothing.
    drop(events);
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), &*String::from_utf8_lossy(&ended.stderr)), (Some(0), ""));
}

#[test]
fn watch_says_when_the_router_ends() {
    let server = Server::start();
    let mut child =
        nearhop(&["watch", "--socket", server.socket().to_str().unwrap()]).spawn().unwrap();
    let mut first = String::new();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    events.read_line(&mut first).unwrap();
    drop(server);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((&*said, ended.status.code()), ("the router has ended\n", Some(4)));
}

#[test]
fn a_table_fits_the_terminal_and_a_pipe_gets_every_column() {
    let server = Server::start();
    let show = ["show", "adjacencies"];
    let whole = server.run(&show).0;
    assert!(
        whole
            .starts_with("ADJACENCY  PORT                    STATE  REASONS   MTU  PACKETS  BYTES")
    );
    let (fitted, _, status) = server.run_on_terminal("rows 24 cols 60", &show);
    let fitted = fitted.replace('\r', "");
    assert_eq!(
        (&*fitted, status),
        (
            "ADJACENCY  PORT                    STATE  REASONS  PACKETS\n        \
             1  uplink-of-the-far-east  down   carrier       12\n\
             2 columns more by --wide: mtu, bytes\n",
            0
        )
    );
    let wide = server.run_on_terminal("rows 24 cols 60", &["show", "adjacencies", "--wide"]).0;
    assert_eq!(wide.replace('\r', ""), whole);
    let socket = server.socket();
    let mut command = nearhop(&show);
    command.env("NEARHOP_SOCKET", &socket).env("COLUMNS", "60");
    assert_eq!(run(&mut command).0, fitted, "COLUMNS counts where there is no terminal");
    assert_eq!(run(command.arg("--wide")).0, whole);
}

#[test]
fn a_word_that_no_row_has_is_answered_with_the_name_like_it() {
    let server = Server::start();
    let none = "nothing to show: no service, site or port is named";
    let (_, err, status) = server.run(&["show", "checks", "frs"]);
    assert_eq!((err, status), (format!("{none} \"frs\"; did you mean the site \"fra\"?\n"), 1));
    let (_, err, status) = server.run(&["show", "checks", "dms"]);
    assert_eq!((err, status), (format!("{none} \"dms\"; did you mean the service \"dns\"?\n"), 1));
    let (_, err, status) = server.run(&["show", "checks", "london"]);
    assert_eq!((err, status), (format!("{none} \"london\"\n"), 1));
    // It is there, and has no check.
    let (_, err, status) = server.run(&["show", "checks", "fra"]);
    assert_eq!((&*err, status), ("nothing to show: no row has \"fra\"\n", 1));
    for words in
        [&["bgp", "uplnk"][..], &["bgp", "neighbor", "uplnk"], &["bgp", "transcript", "uplnk"]]
    {
        let (_, err, status) = server.run(&[&["show"], words].concat());
        let wanted = "nothing to show: no BGP neighbour is named \"uplnk\"; did you mean the BGP neighbour \"uplink\"?\n";
        assert_eq!((&*err, status), (wanted, 1), "{words:?}");
    }
    let (out, err, status) = server.run(&["show", "checks", "frs", "--json"]);
    assert!(
        out.contains("\"items\":[]") && err.contains("did you mean") && status == 1,
        "{out}{err}"
    );
    // Without a word it is no expectation.
    let (_, err, status) = server.run(&["show", "checks"]);
    assert_eq!((&*err, status), ("nothing to show\n", 0));
    assert_eq!(server.run(&["show", "checks", "--json"]).2, 0);
}

#[test]
fn routes_are_asked_for_by_what_became_of_them_and_by_neighbour() {
    let server = Server::start();
    let asked = |args: &[&str]| {
        let (_, err, _) = server.run(&[&["show"], args].concat());
        server.asked.lock().unwrap().pop().unwrap_or(err)
    };
    for (args, path) in [
        (&["routes", "--refused"][..], "routes?of=refused"),
        (
            &["routes", "--received", "--neighbor", "uplink", "10.0.0.0/8"],
            "routes?only=10.0.0.0%2F8&of=received&neighbor=uplink",
        ),
        (&["routes", "--neighbor=uplink"], "routes?neighbor=uplink"),
        (&["bgp", "neighbor"], "bgp-neighbor"),
    ] {
        assert_eq!(asked(args), format!("GET /v1/show/{path}"), "{args:?}");
    }
    let (_, err, status) = server.run(&["show", "routes", "--refused", "--best"]);
    assert!(status == 2 && err.contains("cannot be used with"), "{err}");
    let (_, err, status) = server.run(&["show", "fib", "--refused"]);
    assert!(status == 2 && err.contains("--refused"), "{err}");
}

#[test]
fn names_are_completed_from_the_router_and_there_are_none_without_one() {
    let server = Server::start();
    let names = |words: &[&str]| server.run(&[&["__complete"][..], words].concat());
    assert_eq!(names(&["drain", ""]), ("fra\npar\n".into(), String::new(), 0));
    assert_eq!(names(&["show", "services", ""]).0, "dns\nfra\npar\n", "no row has a port");
    assert_eq!(names(&["playbook", "apply", ""]).0, "away\nquiet\n");
    assert_eq!(names(&["unblock", ""]).0, "203.0.113.7/32\n");
    assert_eq!(names(&["reload", ""]).0, "");
    let gone = ["__complete", "drain", "--socket", "/nonexistent.sock", ""];
    assert_eq!(run(&mut nearhop(&gone)), (String::new(), String::new(), 0));
}

/// The routers' names reach the shells by the scripts that are made for them.
#[test]
fn shells_complete_names() {
    let server = Server::start();
    let dir = Path::new(env!("CARGO_BIN_EXE_nearhop")).parent().unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let complete = |shell: &str, args: &[&str], program: &str| {
        let mut command = Command::new(shell);
        command.args(args).arg(program).env("PATH", &path).env("NEARHOP_SOCKET", server.socket());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(&mut command)
    };
    let bash = "source <(nearhop completions bash)\n\
        ask() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); \
        _nearhop_with_names nearhop \"${@: -1}\" \"${@: -2:1}\"; echo \"${COMPREPLY[@]}\"; }\n\
        ask nearhop drain ''; ask nearhop drain f; ask nearhop show services d; ask nearhop watch --ki; \
        ask nearhop playbook undo a; ask nearhop unblock ''";
    let (out, err, _) = complete("bash", &["--norc", "-c"], bash);
    assert_eq!((&*out, &*err), ("fra par\nfra\ndns\n--kind\naway\n203.0.113.7/32\n", ""));
    if has("fish") {
        let fish = "nearhop completions fish | source\n\
            complete -C 'nearhop drain '; complete -C 'nearhop show services d'; \
            complete -C 'nearhop playbook apply a'; complete -C 'nearhop unblock 2'";
        let names = "fra\npar\ndns\naway\n203.0.113.7/32\n";
        assert_eq!(complete("fish", &["--no-config", "-c"], fish).0, names);
    }
    if has("zsh") {
        // What adds to the list of a line editor shows it here.
        let zsh = "autoload -U compinit; compinit -u -D; eval \"$(nearhop completions zsh)\"\n\
            compadd() { shift; print -r -- \"$@\" }; nearhop_words=(show services d); _nearhop_names\n\
            nearhop_words=(playbook apply a); _nearhop_names; nearhop_words=(unblock 2); _nearhop_names\n\
            functions _nearhop | grep -c 'Name of the site:_nearhop_names'; \
            functions _nearhop | grep -c 'Name of the playbook:_nearhop_names'; \
            functions _nearhop | grep -c 'The blocked prefix, or an address:_nearhop_names'";
        let names = "dns fra par\naway quiet\n203.0.113.7/32\n4\n2\n1\n";
        assert_eq!(complete("zsh", &["-f", "-c"], zsh).0, names);
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn watch_is_for_people_on_a_terminal_and_json_elsewhere() {
    let server = Server::answering(Router::new().fallback(events));
    let watch = |args: &[&str]| server.run(&[&["watch"][..], args].concat());
    let lines: Vec<_> = EVENTS.lines().collect();
    let (out, err, status) = watch(&["--since", "2"]);
    assert_eq!(
        (&*out, &*err),
        (&*format!("{}\n{}\n", lines[1], lines[2]), "the router has ended\n")
    );
    assert_eq!(status, 4, "the server ends its answer, as a router does");
    let (out, ..) = watch(&["--kind", "ready", "--kind", "site", "--since", "1"]);
    assert_eq!(out, format!("{}\n", lines[2]));
    let (_, err, _) = watch(&["--since", "1000000h"]);
    assert!(err.starts_with("the router remembers events from seq 1 on"), "{err}");
    assert_eq!(
        *server.asked.lock().unwrap(),
        ["GET /v1/watch?since=2", "GET /v1/watch?since=1", "GET /v1/watch?since=0"]
    );
    let (text, _, status) = server.run_on_terminal("rows 24 cols 80", &["watch", "--since", "1"]);
    let shown: Vec<_> = text.lines().collect();
    assert_eq!((shown.len(), status), (5, 4), "{text}");
    assert!(shown[1].ends_with("  carrier         port fra: carrier down"), "{text}");
    assert!(shown[3].ends_with("  ready           ready"), "{text}");
    let (text, ..) =
        server.run_on_terminal("rows 24 cols 80", &["watch", "--json", "--since", "3"]);
    assert_eq!(text.lines().next(), Some(lines[2]));
}

#[test]
fn watch_says_what_it_could_be_asked_for() {
    let (_, err, status) = run(&mut nearhop(&["watch", "--kind", "first-packet"]));
    assert_eq!(
        (err.contains("tip: a similar value exists: 'first_packet'"), status),
        (true, 2),
        "{err}"
    );
    let (_, err, status) = run(&mut nearhop(&["watch", "--since", "yesterday"]));
    assert_eq!((err.contains("10m") && err.contains("4711"), status), (true, 2), "{err}");
}

#[test]
fn no_router_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let reported =
        |path: &Path| run(&mut nearhop(&["show", "fib", "--socket", path.to_str().unwrap()]));
    let (_, err, status) = reported(&dir.path().join("absent.sock"));
    assert_eq!((err.contains("no such socket"), status), (true, 3), "{err}");
    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let (_, err, status) = reported(&dead);
    assert_eq!(
        (err.contains("stale socket"), err.contains("nearhop run FILE"), status),
        (true, true, 3),
        "{err}"
    );
}

#[test]
fn the_only_router_of_the_runtime_directory_is_found() {
    let server = Server::start();
    let mut command = nearhop(&["show", "services"]);
    let (out, err, status) = run(command.env("RUNTIME_DIRECTORY", server.dir.path()));
    assert_eq!((out.contains("fra"), err.as_str(), status), (true, "", 0));
}
