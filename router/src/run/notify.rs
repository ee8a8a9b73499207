//! What the service manager is told (sd_notify(3)): datagrams to the socket that it names.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::printable;

/// A service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// As it was sent last.
    status: String,
    /// It was said that a reload is under way.
    reloading: bool,
}

impl Manager {
    /// The one that this process's environment names.
    pub(super) fn from_environment() -> Self {
        Self::new(|name| env::var_os(name)).unwrap_or_else(|error| {
            log::warn!("the service manager (NOTIFY_SOCKET) cannot be told anything: {error}");
            Self::default()
        })
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let Some(path) = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Ok(Self::default());
        };
        let address = address(&path)?;
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold the router up.
        socket.set_nonblocking(true)?;
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_meant =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&usec| is_meant && usec > 0);
        let watchdog = watchdog.map(Duration::from_micros);
        Ok(Self { socket: Some((socket, address)), watchdog, ..Self::default() })
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// How often [`Self::feed`] may be due, if at all: a quarter of the time after which the manager ends
    /// the router.
    pub(super) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|within| (within / 4).max(INTERVAL_MIN))
    }

    /// The router is ready.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// A configuration is being read.
    pub(super) fn reloading(&mut self) {
        if !std::mem::replace(&mut self.reloading, true) {
            let now = clock_gettime(ClockId::Monotonic);
            let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
        }
    }

    /// No configuration is being read any more.
    pub(super) fn reloaded(&mut self) {
        if std::mem::take(&mut self.reloading) {
            self.ready();
        }
    }

    /// The router is about to end.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// What the router is at, in words, if that has changed.
    pub(super) fn status(&mut self, text: String) {
        if self.status != text {
            self.send(&format!("STATUS={}", printable::line(&text)));
            self.status = text;
        }
    }

    /// Every thread works.
    pub(super) fn feed(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            let what = message.lines().next().unwrap_or_default();
            log::warn!("cannot send {what} to the service manager: {error}");
        }
    }
}

/// A path, or after `@` the name of an abstract socket.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(path),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("expected a path or @NAME, found {}", path.display()),
        )),
    }
}

/// The watchdog is not looked at more often.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(pairs: &[(&str, &str)]) -> io::Result<Manager> {
        Manager::new(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, it)| it.into()))
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 256];
        let next = || socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec());
        std::iter::from_fn(next).map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn messages_arrive_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("nearhop-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, named) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}")),
        ] {
            let mut manager = manager(&[("NOTIFY_SOCKET", &named)]).unwrap();
            manager.status("a\nb".into());
            manager.status("a\nb".into());
            manager.ready();
            manager.reloading();
            manager.reloading();
            manager.reloaded();
            manager.reloaded();
            manager.feed();
            manager.stopping();
            let mut messages = received(&socket);
            let reloading = messages.remove(2);
            assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
            let wanted = ["STATUS=a\\u{a}b", "READY=1", "READY=1", "WATCHDOG=1", "STOPPING=1"];
            assert_eq!(messages, wanted);
        }
    }

    #[test]
    fn a_watchdog_is_of_this_process_and_looked_at_four_times() {
        let (socket, own) = (("NOTIFY_SOCKET", "/run/no-such"), std::process::id().to_string());
        let interval = |pairs: &[(&str, &str)]| manager(pairs).unwrap().watchdog_interval();
        let second = ("WATCHDOG_USEC", "1000000");
        assert_eq!(interval(&[socket, second]), Some(Duration::from_millis(250)));
        assert_eq!(
            interval(&[socket, second, ("WATCHDOG_PID", &own)]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(interval(&[socket, second, ("WATCHDOG_PID", "1")]), None);
        assert_eq!(interval(&[socket]), None);
        assert_eq!(interval(&[second]), None);
        assert!(manager(&[("NOTIFY_SOCKET", "vsock:2:1")]).is_err());
    }
}
