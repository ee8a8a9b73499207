//! From TOML to a scenario: every mistake of the file at once, each with its place.
#![forbid(unsafe_code)]

mod step;

use std::fs;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nearhop::config::reader::{
    self, ConfigErrors, Finding, Report, Table, ValueError, boolean, did_you_mean, duration_in,
    integer, list_of, parsed, text,
};
use toml::Spanned;
use toml::de::DeTable;

use self::step::{check_order, step};
use super::{Expect, FileErrors, FlowSpec, Scenario};
use crate::topology::{NodeKind, Topology};

/// Reads the file and the topology it names.
pub(super) fn load(path: &Path) -> Result<Scenario, FileErrors> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| FileErrors(vec![ConfigErrors::unreadable(&name, &error)]))?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut of_topology = None;
    let read = reader::read(&name, &text, |root| {
        let folder = path.parent().unwrap_or(Path::new("."));
        scenario(root, stem.unwrap_or_default(), folder, &mut of_topology)
    });
    match (read, of_topology) {
        (Ok(Some(scenario)), None) => Ok(scenario),
        (read, of_topology) => Err(FileErrors(read.err().into_iter().chain(of_topology).collect())),
    }
}

/// Whether the file has a key that only scenarios have.
pub(super) fn is_scenario(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let (document, _) = DeTable::parse_recoverable(&text);
    let keys = ["step", "flow", "expect", "topology", "seed", "lasts"];
    keys.iter().any(|key| document.get_ref().contains_key(*key))
}

/// `None` only where that has been reported, by the report or in `of_topology`.
fn scenario(
    root: &mut Table<'_>,
    name: String,
    folder: &Path,
    of_topology: &mut Option<ConfigErrors>,
) -> Option<Scenario> {
    let seed = value_or(root.get("seed", integer(0..=u64::MAX)), SEED);
    let topology = topology(root, folder, of_topology);
    let names = Names::of(topology.as_ref());
    let flows: Vec<_> = root.tables("flow", "[[flow]]").into_iter().collect();
    let flows: Vec<_> = flows.into_iter().map(|table| flow(table, &names)).collect();
    let steps: Vec<_> = root.tables("step", "[[step]]").into_iter().collect();
    let given = steps.len();
    let steps: Vec<_> = steps.into_iter().filter_map(|table| step(table, &names)).collect();
    // Whatever follows a step that was refused would be about its consequences.
    if steps.len() == given {
        check_order(root.report(), &steps);
    }
    let last = steps.iter().map(|step| step.get_ref().end()).max().unwrap_or_default();
    let lasts = lasts(root, last);
    let expect = root.table("expect", "[expect]").map(|table| expect(table, &names));
    let flows = if flows.is_empty() { default_flows(topology.as_ref()) } else { flows };
    check_memory(root, &flows, lasts);
    Some(Scenario {
        name,
        seed,
        topology: topology?,
        flows,
        steps: steps.into_iter().map(Spanned::into_inner).collect(),
        lasts,
        expect: expect.unwrap_or_default(),
    })
}

fn topology(
    root: &mut Table<'_>,
    folder: &Path,
    of_topology: &mut Option<ConfigErrors>,
) -> Option<Topology> {
    let Some(mut table) = root.table("topology", "[topology]") else {
        return (!root.has("topology")).then(Topology::three_sites);
    };
    let report = table.report();
    let file = table.need("file", "file = \"three-sites.toml\"", text("a path", path));
    table.finish();
    let (span, path) = file.map(|file| (file.span(), folder.join(file.get_ref())))?;
    let name = path.display().to_string();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let finding = Finding::mistake(format!("cannot read {name}: {error}"));
            report.add(finding.at(span, "looked for from this file's folder"));
            return None;
        }
    };
    match Topology::parse(&name, &text) {
        Ok(topology) => {
            check_topology(report, span, &topology);
            Some(topology)
        }
        Err(errors) => {
            *of_topology = Some(errors);
            None
        }
    }
}

fn path(text: &str) -> Result<PathBuf, ValueError> {
    let good = !text.is_empty() && !text.contains('\0');
    good.then(|| PathBuf::from(text)).ok_or_else(|| ValueError::new("expected the path of a file"))
}

fn check_topology(report: &Report, span: Range<usize>, topology: &Topology) {
    let count = |kind| topology.nodes_of(kind).count();
    let needs = [
        (count(NodeKind::Router) == 1, "exactly one router"),
        (count(NodeKind::Client) > 0, "a client"),
        (!topology.services.is_empty(), "a service"),
    ];
    for (_, what) in needs.iter().filter(|(met, _)| !met) {
        let finding = Finding::mistake(format!("a scenario needs {what} in its lab"));
        report.add(finding.at(span.clone(), "this topology has another number of them"));
    }
}

/// What may be named; `None` while the topology is not known.
struct Names {
    clients: Option<Vec<String>>,
    sites: Option<Vec<String>>,
    announcing: Option<Vec<String>>,
    addresses: Option<Vec<IpAddr>>,
}

impl Names {
    fn of(topology: Option<&Topology>) -> Self {
        let names = |topology: &Topology, kind| -> Vec<String> {
            topology.nodes_of(kind).map(|node| node.name.clone()).collect()
        };
        let addresses = |topology: &Topology| -> Vec<IpAddr> {
            topology.services.iter().flat_map(|service| service.addresses.clone()).collect()
        };
        Self {
            clients: topology.map(|topology| names(topology, NodeKind::Client)),
            sites: topology.map(|topology| names(topology, NodeKind::Site)),
            announcing: topology
                .map(|topology| topology.announcing().map(|(site, _)| site.to_owned()).collect()),
            addresses: topology.map(addresses),
        }
    }

    /// Reads the name of a site that is there.
    fn site(&self) -> impl Fn(&str) -> Result<String, ValueError> {
        |text| known(text, "site", self.sites.as_deref())
    }

    /// Reads the name of a site that announces by BGP.
    fn announcing_site(&self) -> impl Fn(&str) -> Result<String, ValueError> {
        |text| {
            let site = known(text, "site", self.sites.as_deref())?;
            if self.sites.is_none() || self.announces(&site) {
                return Ok(site);
            }
            Err(ValueError::new("expected a site with announce = { … } in the topology")
                .because(format!("\"{site}\" announces nothing")))
        }
    }

    fn announces(&self, site: &str) -> bool {
        self.announcing.iter().flatten().any(|one| one == site)
    }

    fn client(&self) -> impl Fn(&str) -> Result<String, ValueError> {
        |text| known(text, "client", self.clients.as_deref())
    }

    fn address(&self) -> impl Fn(&str) -> Result<IpAddr, ValueError> {
        |text| {
            let address = parsed::<IpAddr>("expected an address such as \"198.51.100.53\"")(text)?;
            match &self.addresses {
                Some(all) if !all.contains(&address) => {
                    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                    let all: Vec<_> = all.iter().map(String::as_str).collect();
                    Err(ValueError::new(list_of("there are", &all))
                        .because(format!("no service has the address {address}")))
                }
                _ => Ok(address),
            }
        }
    }
}

fn known(name: &str, what: &str, names: Option<&[String]>) -> Result<String, ValueError> {
    let Some(names) = names else { return Ok(name.to_owned()) };
    if names.iter().any(|known| known == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let fault = ValueError::new(list_of("there are", &names))
        .because(format!("no {what} is called \"{name}\""));
    Err(match did_you_mean(name, &names) {
        Some(best) => fault.help(format!("did you mean \"{best}\"?")),
        None => fault,
    })
}

fn flow(mut table: Table<'_>, names: &Names) -> FlowSpec {
    let every = duration_in(Duration::from_micros(100)..=Duration::from_secs(10));
    let from = table.need("from", "from = \"client\"", text("a client's name", names.client()));
    let address = text("an address", names.address());
    let to = if table.node("to").is_some_and(|node| node.get_ref().is_array()) {
        table.list("to", address)
    } else {
        table.need("to", "to = \"198.51.100.53\"", address).into_iter().collect()
    };
    let flow = FlowSpec {
        from: from.map(Spanned::into_inner).unwrap_or_default(),
        to: to.into_iter().map(Spanned::into_inner).collect(),
        every: value_or(table.get("every", text("a span of time", every)), EVERY),
        count: value_or(table.get("count", integer(1..=256)), COUNT),
    };
    table.finish();
    flow
}

/// Every client to every address.
fn default_flows(topology: Option<&Topology>) -> Vec<FlowSpec> {
    let Some(topology) = topology else { return Vec::new() };
    let to: Vec<_> = topology.services.iter().flat_map(|one| one.addresses.clone()).collect();
    let flow =
        |from: &str| FlowSpec { from: from.to_owned(), to: to.clone(), every: EVERY, count: COUNT };
    topology.nodes_of(NodeKind::Client).map(|client| flow(&client.name)).collect()
}

fn lasts(root: &mut Table<'_>, last: Duration) -> Duration {
    let least = duration_in(Duration::from_millis(100)..=LONGEST);
    let Some(lasts) = root.get("lasts", text("a span of time", least)) else { return last + REST };
    if *lasts.get_ref() <= last {
        let finding = Finding::mistake("it ends before its last step has been seen")
            .at(lasts.span(), format!("the last step ends at {last:?}"));
        root.report().add(finding);
    }
    lasts.into_inner()
}

/// A prober remembers so many probes of a flow.
fn check_memory(root: &Table<'_>, flows: &[FlowSpec], lasts: Duration) {
    for flow in flows.iter().filter(|flow| lasts > flow.every * PROBES_KEPT) {
        let message = format!("{:?} at a probe every {:?} is too long", lasts, flow.every);
        let most = flow.every * PROBES_KEPT;
        let finding = Finding::mistake(message)
            .at(root.span_of("lasts"), format!("a prober remembers {most:?} of such a flow"));
        root.report().add(finding.help("let it last shorter, or send fewer probes"));
    }
}

fn expect(mut table: Table<'_>, names: &Names) -> Expect {
    let count = || integer(0..=u64::MAX);
    let time = text("a span of time", duration_in(Duration::ZERO..=LONGEST));
    let inner = |value: Option<Spanned<u64>>| value.map(Spanned::into_inner);
    let site = || text("a site's name", names.site());
    let expect = Expect {
        outage_max: table.get("outage-max", time).map(Spanned::into_inner),
        lost_max: inner(table.get("lost-max", count())),
        reordered_max: inner(table.get("reordered-max", count())),
        duplicated_max: inner(table.get("duplicated-max", count())),
        moves_max: inner(table.get("moves-max", count())),
        unexplained_moves: value_or(table.get("unexplained-moves", count()), 0),
        every_client_served: value_or(table.get("every-client-served", boolean), true),
        served_by: table.list("served-by", site()).into_iter().map(Spanned::into_inner).collect(),
        damped: table.list("damped", site()).into_iter().map(Spanned::into_inner).collect(),
    };
    table.finish();
    expect
}

fn value_or<T>(value: Option<Spanned<T>>, default: T) -> T {
    value.map_or(default, Spanned::into_inner)
}

const SEED: u64 = 7;
const EVERY: Duration = Duration::from_millis(1);
const COUNT: u16 = 4;
/// After the last step, if nothing is said.
const REST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_hours(1);
/// Less than a prober's ring holds.
const PROBES_KEPT: u32 = 120_000;
