//! A site: the process that serves the shared addresses.
//!
//! It serves DNS, HTTP and the probes' echo on every address it is given. Each address is bound
//! separately, never the wildcard: an answer must come from the anycast address that was asked. It
//! is a separate process, so that it can be killed abruptly, like a server that crashes.
#![forbid(unsafe_code)]

mod dns;
mod echo;
mod web;

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use hickory_server::Server;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::traffic::buffers::deepen;
use crate::traffic::wire::SITE_NAME_MAX;

pub use dns::{SiteHandler, ZONE};

/// Options of `nearlab site`.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct SiteOptions {
    /// The site's name, included in its answers.
    #[arg(long, value_parser = site_name)]
    pub name: String,
    /// An address to serve; may be repeated.
    #[arg(long = "address", value_name = "ADDRESS", required = true)]
    pub addresses: Vec<IpAddr>,
    /// Port of DNS, over UDP and TCP.
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    pub dns_port: u16,
    /// Port of the web page.
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub http_port: u16,
    /// Port of the probes' echo, over UDP.
    #[arg(long, value_name = "PORT", default_value_t = 7)]
    pub echo_port: u16,
    /// File to create after every socket is bound.
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// Why a site could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A socket could not be bound.
    #[error("site {site}: cannot bind {service} to {address}: {source}{}", hint(source, address))]
    Bind {
        /// The site.
        site: String,
        /// The service, such as DNS over UDP.
        service: Service,
        /// The address and port.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The zone or the site's identity could not be put into DNS records.
    #[error("site {site}: its DNS zone cannot be built: {reason}")]
    Zone {
        /// The site.
        site: String,
        /// The reason.
        reason: String,
    },
    /// The site could not report that it is ready.
    #[error("site {site}: cannot report that it is ready ({what}): {source}")]
    Ready {
        /// The site.
        site: String,
        /// The file, or standard output.
        what: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// A server ended while the site was running.
    #[error("site {site}: {service} ended: {reason}")]
    Ended {
        /// The site.
        site: String,
        /// The server.
        service: Service,
        /// Its error.
        reason: String,
    },
    /// The runtime could not be created.
    #[error("site {site}: cannot start its runtime: {source}")]
    Runtime {
        /// The site.
        site: String,
        /// The kernel's error.
        source: io::Error,
    },
}

/// A service of a site.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// DNS over UDP.
    DnsUdp,
    /// DNS over TCP.
    DnsTcp,
    /// The web page.
    Http,
    /// The probes' echo.
    Echo,
}

/// Serves until SIGTERM or SIGINT. Once every socket is bound, reports readiness by a line `ready`
/// on standard output and by the ready file; any earlier failure ends it.
pub fn run(options: &SiteOptions) -> Result<(), SiteError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SiteError::Runtime { site: options.name.clone(), source })?;
    runtime.block_on(serve(options))
}

/// Parses a site's name: 1 to 32 letters, digits, `-`, `_` or `.`.
pub fn site_name(text: &str) -> Result<String, String> {
    let fits = (1..=SITE_NAME_MAX).contains(&text.len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if fits && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("expected 1 to {SITE_NAME_MAX} letters, digits, '-', '_', '.'; try 'fra'"))
}

async fn serve(options: &SiteOptions) -> Result<(), SiteError> {
    let handler = SiteHandler::new(&options.name, &options.addresses)
        .map_err(|reason| SiteError::Zone { site: options.name.clone(), reason })?;
    let sockets = Sockets::bind(options).await?;

    let mut dns = Server::new(handler);
    for socket in sockets.dns_udp {
        deepen(&socket);
        dns.register_socket(socket);
    }
    for listener in sockets.dns_tcp {
        dns.register_listener(listener, TCP_IDLE, TCP_BUFFER);
    }
    let mut web = tokio::task::JoinSet::new();
    for listener in sockets.http {
        web.spawn(web::serve(listener, options.name.clone()));
    }
    for socket in sockets.echo {
        echo::spawn(socket, options.name.clone()).map_err(|source| options.runtime(source))?;
    }
    let mut term = signal(SignalKind::terminate()).map_err(|source| options.runtime(source))?;
    options.tell_ready()?;

    tokio::select! {
        end = dns.block_until_done() => Err(options.ended(Service::DnsUdp, &end)),
        Some(end) = web.join_next() => Err(options.ended(Service::Http, &end)),
        _ = term.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

impl SiteOptions {
    /// The arguments that make `nearlab` run this site: `site --name fra --address ...`.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec!["site".to_owned(), "--name".to_owned(), self.name.clone()];
        for address in &self.addresses {
            args.extend(["--address".to_owned(), address.to_string()]);
        }
        for (flag, port) in [
            ("--dns-port", self.dns_port),
            ("--http-port", self.http_port),
            ("--echo-port", self.echo_port),
        ] {
            args.extend([flag.to_owned(), port.to_string()]);
        }
        if let Some(path) = &self.ready_file {
            args.extend(["--ready-file".to_owned(), path.display().to_string()]);
        }
        args
    }

    fn tell_ready(&self) -> Result<(), SiteError> {
        let failed =
            |what: String| move |source| SiteError::Ready { site: self.name.clone(), what, source };
        if let Some(path) = &self.ready_file {
            std::fs::write(path, b"ready\n").map_err(failed(path.display().to_string()))?;
        }
        let mut out = io::stdout().lock();
        match out.write_all(b"ready\n").and_then(|()| out.flush()) {
            // Nobody has to read standard output.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(failed("standard output".to_owned())(error))
            }
            _ => Ok(()),
        }
    }

    fn runtime(&self, source: io::Error) -> SiteError {
        SiteError::Runtime { site: self.name.clone(), source }
    }

    fn ended(&self, service: Service, end: &dyn fmt::Debug) -> SiteError {
        SiteError::Ended { site: self.name.clone(), service, reason: format!("{end:?}") }
    }
}

/// All bound sockets of a site.
#[derive(Default)]
struct Sockets {
    dns_udp: Vec<tokio::net::UdpSocket>,
    dns_tcp: Vec<TcpListener>,
    http: Vec<TcpListener>,
    echo: Vec<UdpSocket>,
}

impl Sockets {
    async fn bind(options: &SiteOptions) -> Result<Self, SiteError> {
        let failed = |service, address| {
            move |source| SiteError::Bind { site: options.name.clone(), service, address, source }
        };
        let mut sockets = Self::default();
        for ip in &options.addresses {
            let dns = SocketAddr::new(*ip, options.dns_port);
            let udp = tokio::net::UdpSocket::bind(dns).await;
            sockets.dns_udp.push(udp.map_err(failed(Service::DnsUdp, dns))?);
            let tcp = TcpListener::bind(dns).await.map_err(failed(Service::DnsTcp, dns))?;
            sockets.dns_tcp.push(tcp);
            let http = SocketAddr::new(*ip, options.http_port);
            let tcp = TcpListener::bind(http).await.map_err(failed(Service::Http, http))?;
            sockets.http.push(tcp);
            let echo = SocketAddr::new(*ip, options.echo_port);
            sockets.echo.push(UdpSocket::bind(echo).map_err(failed(Service::Echo, echo))?);
        }
        Ok(sockets)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DnsUdp => "DNS over UDP",
            Self::DnsTcp => "DNS over TCP",
            Self::Http => "HTTP",
            Self::Echo => "the probe echo over UDP",
        })
    }
}

fn hint(error: &io::Error, address: &SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "; another process uses it: see 'ss -lnp sport = :{port}', or give another port"
            )
        }
        io::ErrorKind::AddrNotAvailable if ip.is_ipv6() => format!(
            "; no interface here has the address, or duplicate detection still holds it back: \
             try 'ip address add {ip}/128 dev lo nodad'"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("; no interface has the address: try 'ip address add {ip}/32 dev lo'")
        }
        io::ErrorKind::PermissionDenied => format!(
            "; port {port} needs CAP_NET_BIND_SERVICE in this namespace: run it inside the lab \
             ('nearlab shell'), or give a port from 1024 on"
        ),
        _ => String::new(),
    }
}

const TCP_IDLE: Duration = Duration::from_secs(10);
const TCP_BUFFER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_fit_an_echo_or_a_page_are_refused() {
        for good in ["fra", "a", "ams-2", &"x".repeat(SITE_NAME_MAX)] {
            assert!(site_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "<fra>", "frankfürt", &"x".repeat(SITE_NAME_MAX + 1)] {
            assert!(site_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bind_error_says_where_and_what_to_type() {
        let address: SocketAddr = "198.51.100.53:53".parse().unwrap();
        let cases = [
            (io::ErrorKind::AddrInUse, "ss -lnp sport = :53"),
            (io::ErrorKind::AddrNotAvailable, "ip address add 198.51.100.53/32 dev lo"),
            (io::ErrorKind::PermissionDenied, "nearlab shell"),
        ];
        for (kind, expected) in cases {
            let text = SiteError::Bind {
                site: "fra".into(),
                service: Service::DnsUdp,
                address,
                source: kind.into(),
            }
            .to_string();
            assert!(text.contains("198.51.100.53:53") && text.contains(expected), "{text}");
        }
    }
}
