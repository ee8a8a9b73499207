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
    /// `id` of the router.
    id: String,
    bgp: String,
    ports: String,
    routes: String,
    services: Vec<ServiceDraft>,
}

/// A service under construction: its own keys, and the tables of its sites.
#[derive(Clone, Debug)]
struct ServiceDraft {
    keys: String,
    sites: String,
}

impl Draft {
    /// A router without ports, whose one service has no sites.
    pub fn new(name: &str) -> Self {
        let mut draft = Self::without_services(name);
        draft.service("www", ["198.51.100.53/32", "2001:db8:53::53/128"]);
        draft
    }

    /// A router without ports and services.
    pub fn without_services(name: &str) -> Self {
        let [id, bgp, ports, routes] = [const { String::new() }; 4];
        Self { name: name.to_owned(), id, bgp, ports, routes, services: Vec::new() }
    }

    /// Begins a service with these prefixes. What is said of services and sites from now on is said of it.
    pub fn service<'p>(
        &mut self,
        name: &str,
        prefixes: impl IntoIterator<Item = &'p str>,
    ) -> &mut Self {
        let prefixes: Vec<String> =
            prefixes.into_iter().map(|prefix| format!("\"{prefix}\"")).collect();
        let keys = format!("name = \"{name}\"\nprefixes = [{}]\n", prefixes.join(", "));
        self.services.push(ServiceDraft { keys, sites: String::new() });
        self
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

    /// Makes it a router of an AS, with this BGP identifier.
    pub fn bgp(&mut self, asn: u32, id: &str) -> &mut Self {
        self.id = format!("id = \"{id}\"\n");
        self.bgp = format!("[bgp]\nas = {asn}\n");
        self
    }

    /// Adds a route by addresses, which are watched as `bfd` says.
    pub fn watched_route(&mut self, prefix: &str, via: &[&str], bfd: &str) -> &mut Self {
        let _ = writeln!(self.routes, "[[route]]\nprefix = \"{prefix}\"\nvia = {via:?}\n{bfd}");
        self
    }

    /// Adds a neighbour of [`Self::bgp`]; `more` is appended to its table, such as `import`.
    pub fn neighbor(&mut self, name: &str, address: &str, asn: u32, more: &str) -> &mut Self {
        let _ = writeln!(
            self.bgp,
            "[[bgp.neighbor]]\nname = \"{name}\"\naddress = \"{address}\"\nas = {asn}\n{more}"
        );
        self
    }

    /// Adds keys to the service, as TOML.
    pub fn service_keys(&mut self, keys: &str) -> &mut Self {
        if let Some(service) = self.services.last_mut() {
            service.keys.push_str(keys);
        }
        self
    }

    /// Turns `latency-unit` off, so latency does not add to costs.
    pub fn without_latency(&mut self) -> &mut Self {
        self.service_keys("latency-unit = \"off\"\n")
    }

    /// Adds a site of the service; `more` is appended to the site's table, such as `health`.
    pub fn site(&mut self, name: &str, via: &str, cost: u32, more: &str) -> &mut Self {
        if let Some(service) = self.services.last_mut() {
            let _ = writeln!(
                service.sites,
                "[[service.site]]\nname = \"{name}\"\nvia = \"{via}\"\ncost = {cost}\n{more}"
            );
        }
        self
    }

    /// Parses the text.
    ///
    /// # Errors
    /// Every mistake in the configuration.
    pub fn config(&self) -> Result<Config, ConfigErrors> {
        let Self { name, id, bgp, ports, routes, services } = self;
        let mut text = format!("[router]\nname = \"{name}\"\n{id}{ports}{routes}{bgp}");
        for ServiceDraft { keys, sites } in services {
            let _ = write!(text, "[[service]]\n{keys}{sites}");
        }
        config::parse(name, &text).map(|(config, _)| config)
    }
}
