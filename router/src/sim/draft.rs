//! Builds configurations of simulated routers, as TOML text that goes through the real parser.
#![forbid(unsafe_code)]

use std::fmt::Write as _; // writing to a String cannot fail

use crate::config::{self, Config, ConfigErrors};

/// The service that every simulated site offers: one address per family, with the port of its echo
/// server.
pub const SERVICES: [&str; 2] = ["198.51.100.53:7", "[2001:db8:53::53]:7"];

/// A router's configuration under construction.
///
/// ```
/// let mut draft = nearhop::sim::Draft::new("r1");
/// draft.port("ams", "10.1.0.1/24", "fd00:1::1/64").site("ams", "ams", 10, "");
/// assert_eq!(draft.config().unwrap().ports.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Draft {
    name: String,
    ports: String,
    routes: String,
    service: String,
    sites: String,
}

impl Draft {
    /// A router without ports, whose one service has no sites.
    pub fn new(name: &str) -> Self {
        let [ports, routes, service, sites] = [const { String::new() }; 4];
        Self { name: name.to_owned(), ports, routes, service, sites }
    }

    /// Adds a port with an address of each family, `ADDRESS/LENGTH`.
    pub fn port(&mut self, name: &str, v4: &str, v6: &str) -> &mut Self {
        let addresses = format!("addresses = [\"{v4}\", \"{v6}\"]");
        let _ =
            writeln!(self.ports, "[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\n{addresses}");
        self
    }

    /// Adds a route by a port.
    pub fn route(&mut self, prefix: &str, via: &str) -> &mut Self {
        let _ = writeln!(self.routes, "[[route]]\nprefix = \"{prefix}\"\nvia = \"{via}\"");
        self
    }

    /// Turns `latency-unit` off, so latency does not add to costs.
    pub fn without_latency(&mut self) -> &mut Self {
        "latency-unit = \"off\"\n".clone_into(&mut self.service);
        self
    }

    /// Adds a site of the service; `more` is appended to the site's table, such as `health`.
    pub fn site(&mut self, name: &str, via: &str, cost: u32, more: &str) -> &mut Self {
        let _ = writeln!(
            self.sites,
            "[[service.site]]\nname = \"{name}\"\nvia = \"{via}\"\ncost = {cost}\n{more}"
        );
        self
    }

    /// Parses the text.
    ///
    /// # Errors
    /// Every mistake in the configuration.
    pub fn config(&self) -> Result<Config, ConfigErrors> {
        let Self { name, ports, routes, service, sites } = self;
        let text = format!(
            "[router]\nname = \"{name}\"\n{ports}{routes}[[service]]\nname = \"www\"\n\
             prefixes = [\"198.51.100.53/32\", \"2001:db8:53::53/128\"]\n{service}{sites}",
        );
        config::parse(name, &text).map(|(config, _)| config)
    }
}
