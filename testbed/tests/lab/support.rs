//! What the cases share: starting themselves in a sandbox, and small programs to run in labs.

#[path = "../../../router/tests/support/skip.rs"]
pub mod skip;

use std::ffi::OsString;
use std::net::UdpSocket;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nearhop::kernel::link::{LinkSetup, LinkStatus};
use nearhop::kernel::netns::NetNs;
use nearlab::lab::process::Program;
use nearlab::lab::{Lab, ProcessRole, wait_until};
use nearlab::topology::Topology;
use tun_tap::{Iface, Mode};

/// One test, run by its name.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(),
}

/// Environment: the case that a process started by this program is to run.
pub const CASE: &str = "NEARLAB_TEST_CASE";
/// Generous: it only bounds a test that fails.
pub const SOON: Duration = Duration::from_secs(20);
/// What the sites share.
pub const SERVICE: [&str; 2] = ["198.51.100.53", "2001:db8:53::53"];

/// This program, to run a case in a sandbox.
pub fn sandboxed(case: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CASE, case).stdin(Stdio::null());
    command
}

/// Runs a case in a sandbox; its output is the error if it fails.
pub fn in_sandbox(case: &str) -> Result<(), String> {
    let output = sandboxed(case).output().map_err(|error| error.to_string())?;
    let reported = [output.stdout, output.stderr].concat();
    let reported = String::from_utf8_lossy(&reported);
    if output.status.success() {
        eprint!("{reported}");
        return Ok(());
    }
    Err(format!("{}\n{reported}", output.status))
}

/// Why sandboxes cannot be had here, if they cannot; required ones are tried regardless.
pub fn unavailable() -> Option<String> {
    if skip::all_required() {
        return None;
    }
    in_sandbox("fit").err()
}

/// A lab with a cable from the client to one site instead of a router, and an echo server there.
pub fn cabled(topology: Topology, site: &str) -> Lab {
    let lab = Lab::build(topology, 7).unwrap();
    lay_cable(&lab, site);
    start_echo(&lab, site);
    for address in SERVICE {
        wait_until("the echo server", SOON, || answered(&client(address))).unwrap();
    }
    lab
}

pub fn lay_cable(lab: &Lab, site: &str) {
    let mut ends = vec!["__cable".to_owned()];
    // Every host gets its NIC; the cable joins the first two.
    let others = ["ams", "fra", "par"].into_iter().filter(|other| *other != site);
    for host in ["client", site].into_iter().chain(others) {
        let plan = lab.topology().plan_of(host).unwrap();
        ends.push(format!("{}@{}", plan.device, plan.router_device_netns));
    }
    let role = ProcessRole::Router;
    lab.start(Program { role, ..Program::own("cable", "r1", ends) }).unwrap();
    lab.connect(SOON).unwrap();
}

fn start_echo(lab: &Lab, site: &str) {
    let bind = SERVICE.map(|address| socket_address(address, 7));
    let args = ["__echo".to_owned()].into_iter().chain(bind);
    let role = ProcessRole::Server;
    lab.start(Program { role, ..Program::own("echo", site, args) }).unwrap();
}

/// A socket of the client, connected to the echo port of the service.
pub fn client(address: &str) -> UdpSocket {
    udp("client", address, 7)
}

/// A socket of a node, connected to that address.
pub fn udp(node: &str, address: &str, port: u16) -> UdpSocket {
    let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let open = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(socket_address(address, port))?;
        std::io::Result::Ok(socket)
    };
    let socket = NetNs::named(node).within(open).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Is a packet sent now answered within 200 ms?
pub fn answered(socket: &UdpSocket) -> bool {
    // What answered an earlier question does not count.
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 2048]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    socket.send(b"there?").is_ok() && socket.recv(&mut [0; 2048]).is_ok()
}

pub fn device(netns: &str, name: &str) -> Option<LinkStatus> {
    LinkSetup::open(&NetNs::named(netns)).unwrap().find(name).unwrap()
}

fn socket_address(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The small programs: `__echo ADDRESS…`, `__cable DEVICE@NETNS DEVICE@NETNS…`.
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let (command, args) = args.split_first()?;
    let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect();
    match command.to_str()? {
        "__echo" => echo(&args),
        "__cable" => cable(&args),
        "__shell" => return Some(shell(&args)),
        _ => return None,
    }
    Some(ExitCode::FAILURE)
}

/// `__shell LAB NODE COMMAND…`: what `nearlab shell` does.
fn shell(args: &[String]) -> ExitCode {
    let command: Vec<_> = args[2..].iter().map(OsString::from).collect();
    match nearlab::sandbox::join::shell(Some(&args[0]), &args[1], &command) {
        Ok(status) => ExitCode::from(status.code().unwrap_or(1) as u8),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

/// A UDP server that sends everything back.
fn echo(addresses: &[String]) {
    let serve = |address: &String| {
        let socket = UdpSocket::bind(address).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                // An answer that cannot be sent is a lost one.
                let _ = socket.send_to(&buffer[..length], from);
            }
        })
    };
    let echoes: Vec<_> = addresses.iter().map(serve).collect();
    for echo in echoes {
        drop(echo.join());
    }
}

/// Makes the TUN devices, as a router does, and carries packets between the first two.
fn cable(ends: &[String]) {
    let open = |end: &String| {
        let (device, netns) = end.split_once('@').unwrap();
        let netns = NetNs::named(netns);
        let tun = netns.within(|| Iface::without_packet_info(device, Mode::Tun)).unwrap().unwrap();
        LinkSetup::open(&netns).unwrap().set_up(device, true).unwrap();
        Arc::new(tun)
    };
    let ends: Vec<_> = ends.iter().map(open).collect();
    let carry = |from: usize, to: usize| {
        let (from, to) = (Arc::clone(&ends[from]), Arc::clone(&ends[to]));
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                let length = from.recv(&mut buffer).unwrap();
                // The other end may be down.
                let _ = to.send(&buffer[..length]);
            }
        })
    };
    let ways = [carry(0, 1), carry(1, 0)];
    for way in ways {
        drop(way.join());
    }
}
