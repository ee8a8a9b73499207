//! Tests on real devices, each in its own namespaces.
//!
//! [`in_namespaces`] runs the test's body in a child: the same test binary under `unshare`, with
//! new user, network and mount namespaces. So tests need no root, run in parallel, may use the same
//! names, and leave nothing behind however they end.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(dead_code)] // each test binary uses its own part
#![allow(unsafe_code)] // unshare(2) and the ioctls of TUN

pub mod kernel;
pub mod skip;
pub mod trace;
pub mod wire;

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nearhop::batch::Batch;
use nearhop::kernel::netns::NetNs;
use nearhop::port::Port;
use nearhop::time::Nanos;
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, UdpPacket, UdpRepr};

/// Like [`in_namespaces`], but skips the test where the kernel lacks what it needs.
pub fn in_namespaces_with(needs: &[kernel::Need], test: &str, body: impl FnOnce()) {
    match kernel::missing(needs) {
        Some(why) => skip::skip(test, &why),
        None => in_namespaces(test, body),
    }
}

/// Runs `body` in fresh namespaces with an empty `/run/netns`. `test` is the test's own name, as
/// `cargo test` prints it. Where namespaces cannot be made the test is skipped, and says so; with
/// `NEARHOP_REQUIRE_ALL=1` it fails.
pub fn in_namespaces(test: &str, body: impl FnOnce()) {
    in_namespaces_by(&["-Urnm", "-nm"], test, body);
}

/// Like [`in_namespaces`], for programs that change their user: as root, without a user namespace.
pub fn in_namespaces_as_root(test: &str, body: impl FnOnce()) {
    in_namespaces_by(&["-nm"], test, body);
}

fn in_namespaces_by(ways: &[&str], test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        end_with_parent();
        mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).expect("mount over /run");
        fs::create_dir("/run/netns").expect("make /run/netns");
        return body();
    }
    let mut unshare = match unshare_that_works(ways) {
        Ok(command) => command,
        Err(reason) => return skip::skip(test, &reason),
    };
    let child = unshare
        .arg(env::current_exe().expect("this test's binary"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, test)
        .stdin(Stdio::piped()) // closed when this process ends
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run unshare");
    let output = child.wait_with_output_keeping_stdin();
    print!("{}", output.0);
    eprint!("{}", output.1);
    assert!(output.2, "{test} failed inside its namespaces, see above");
    assert!(output.0.contains("1 passed"), "{test} is not the name of this test");
}

/// Creates a network namespace at `/run/netns/NAME`, with its loopback device up.
pub fn netns(name: &str) -> NetNs {
    let path = Path::new("/run/netns").join(name);
    File::create_new(&path).expect("make the file to mount on");
    thread::scope(|scope| {
        let maker = scope.spawn(|| {
            // SAFETY: only the network namespace changes, and only this thread's; nothing in
            // memory or among the descriptors rests on it.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("make a network namespace");
            mount_bind("/proc/thread-self/ns/net", &path).expect("bind the namespace");
        });
        maker.join().expect("the maker of the namespace");
    });
    let netns = NetNs::named(name);
    let mut links = nearhop::kernel::link::LinkSetup::open(&netns).expect("netlink");
    links.set_up("lo", true).expect("loopback");
    netns
}

/// Removes a namespace's name, like `ip netns del`; processes in it stay there.
pub fn hide_netns(name: &str) {
    let path = Path::new("/run/netns").join(name);
    rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).expect("unmount it");
    fs::remove_file(path).expect("remove the file it was mounted on");
}

/// Runs a command that must succeed, such as `ip`.
pub fn run(command_line: &str) -> String {
    let mut words = command_line.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{command_line}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command_line}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Attaches to a persistent TUN device with `vnet_hdr`, lets the kernel leave checksums to the
/// reader, and detaches: the device keeps that setting.
pub fn leave_checksums_to_the_reader(name: &str) {
    let file = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
    // SAFETY: all zeros is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes the one `ifreq`.
    let attached = unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) };
    // SAFETY: the descriptor is open, and TUNSETOFFLOAD takes its argument by value.
    let set = unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, libc::TUN_F_CSUM) };
    assert_eq!((attached, set), (0, 0), "{}", io::Error::last_os_error());
}

/// Sets UDP_SEGMENT: the kernel splits what this socket sends into datagrams of `size` bytes, as
/// late as possible.
pub fn set_udp_segment(socket: &impl std::os::fd::AsFd, size: libc::c_int) {
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    let len = size_of_val(&size) as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and `len` is the size of `size`.
    let set = unsafe {
        libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), len)
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Polls until `ask` returns a value. Panics with `what` after a generous time.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Nanos::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Nanos::now().since(start) < PATIENCE, "no {what} within {PATIENCE:?}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// A UDP socket in a namespace, with a read timeout.
pub fn udp_socket(netns: &NetNs, address: impl Into<IpAddr> + Send) -> UdpSocket {
    let address = SocketAddr::new(address.into(), 0);
    let socket = netns.within(|| UdpSocket::bind(address)).expect("enter the namespace");
    let socket = socket.unwrap_or_else(|error| panic!("cannot bind to {address}: {error}"));
    socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    socket
}

/// An IP packet with a UDP datagram, made by smoltcp.
pub fn udp_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let (source, destination) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
    let len = udp.header_len() + payload.len();
    let ip = IpRepr::new(source, destination, IpProtocol::Udp, len, 64);
    let checksums = ChecksumCapabilities::default();
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet, &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut packet[ip.header_len()..]),
        &source,
        &destination,
        payload.len(),
        |buffer| buffer.copy_from_slice(payload),
        &checksums,
    );
    packet
}

/// Destination and payload of a packet with a UDP datagram, read and checked by smoltcp.
pub fn udp_payload(packet: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let (source, destination, protocol, payload): (IpAddress, IpAddress, _, _) = if let Ok(ip) =
        Ipv4Packet::new_checked(packet)
        && ip.version() == 4
    {
        assert!(ip.verify_checksum());
        (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload())
    } else {
        let ip = Ipv6Packet::new_checked(packet).expect("an IP packet");
        (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload())
    };
    if protocol != IpProtocol::Udp {
        return None;
    }
    let udp = UdpPacket::new_checked(payload).expect("a UDP datagram");
    assert!(udp.verify_checksum(&source, &destination));
    let to = SocketAddr::new(destination.into(), udp.dst_port());
    Some((to, udp.payload().to_vec()))
}

/// Reads all queues of `port` once. Ignores everything but UDP, such as the kernel's multicast
/// reports.
pub fn udp_received(port: &dyn Port) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    let mut batch = Batch::new();
    for queue in 0..port.queues() {
        loop {
            batch.clear();
            if port.rx(queue, &mut batch).expect("rx") == 0 {
                break;
            }
            all.extend((0..batch.len()).filter_map(|index| udp_payload(batch.packet(index).1)));
        }
    }
    all
}

/// Address `host` of the test network: `10.0.0.host`.
pub fn v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

/// Address `host` of the test network: `2001:db8::host`.
pub fn v6(host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into()
}

/// `unshare` with new user, network and mount namespaces; as root, without a user namespace if the
/// machine allows only that. The error says why none of the ways works.
fn unshare_that_works(ways: &[&str]) -> Result<Command, String> {
    let mut reasons = Vec::new();
    for &flags in ways {
        let mut command = Command::new("unshare");
        command.arg(flags);
        let output = Command::new("unshare").args([flags, "true"]).stdin(Stdio::null()).output();
        match output {
            Err(error) => return Err(format!("no `unshare` (package util-linux): {error}")),
            Ok(output) if output.status.success() => return Ok(command),
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                reasons.push(format!("`unshare {flags}`: {}", stderr.trim()));
            }
        }
    }
    Err(reasons.join("; "))
}

/// Ends this process when its parent ends, or after a time limit.
fn end_with_parent() {
    thread::spawn(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            // The parent writes nothing: this returns when its end of the pipe is closed.
            let _ = io::stdin().read(&mut [0]);
            let _ = sender.send(());
        });
        let timed_out = receiver.recv_timeout(LONGEST_TEST).is_err();
        if timed_out {
            eprintln!("the test took more than {LONGEST_TEST:?}");
        }
        std::process::exit(1);
    });
}

/// Waits for a child without closing its standard input first.
trait KeepingStdin {
    /// What it printed to standard output and standard error, and whether it succeeded.
    fn wait_with_output_keeping_stdin(self) -> (String, String, bool);
}

impl KeepingStdin for std::process::Child {
    fn wait_with_output_keeping_stdin(mut self) -> (String, String, bool) {
        let stdin = self.stdin.take();
        let output = self.wait_with_output().expect("wait for the test's child");
        drop(stdin);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.success())
    }
}

/// Environment variable: the test's name, set in the child.
const INSIDE: &str = "NEARHOP_TEST_IN_NS";

/// Time limit for what should take a millisecond.
const PATIENCE: Duration = Duration::from_secs(20);

const LONGEST_TEST: Duration = Duration::from_mins(2);
