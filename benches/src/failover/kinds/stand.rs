//! A router under test between a client and two sites that announce the same prefixes.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::time::Duration;

use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::silence::Silencer;
use nearlab::lab::{Namespace, wait_for};

use super::super::traffic::{capture, pass};
use super::config::{self, Place, Setup};
use super::figure::{Evidence, Trial};
use super::probe::{Client, Sink, look};
use super::router::{self, Kind, Router};
use super::stall::{Watch, touches};
use crate::program::{self, Bird};
use crate::report::BenchError;
use crate::sys::Capture;

/// What happens to the best site's path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The router's end of the link is set down.
    NearDown,
    /// The site's end is.
    FarDown,
    /// The link loses all packets in both directions, and nobody is notified.
    Silent,
    /// The site withdraws what it announces.
    Withdraw,
    /// The site's daemon is killed; its kernel still answers.
    Killed,
}

/// A router under test, running, and all around it.
pub struct Stand {
    pub kind: Kind,
    pub setup: Setup,
    lab: String,
    // Before the namespaces, so that the router ends first.
    pub router: Box<dyn Router>,
    sites: Vec<Site>,
    near: Option<LinkSetup>,
    silencer: Silencer,
    client: Client,
    _namespaces: Vec<Namespace>,
}

/// A site.
struct Site {
    place: Place,
    netns: NetNs,
    bird: Option<Bird>,
    sink: Sink,
    capture: Capture,
    links: LinkSetup,
}

impl Stand {
    /// Builds everything and waits until both sites' prefixes are in use.
    ///
    /// # Errors
    /// Something of it cannot be started, or sessions do not come up.
    pub fn build(kind: Kind, lab: &str, setup: Setup, loader: bool) -> Result<Self, BenchError> {
        let names: Vec<String> = ["c", "a", "b", "r"].map(|end| format!("{lab}-{end}")).into();
        let namespaces: Result<Vec<_>, _> =
            names.iter().map(|name| Namespace::make(name)).collect();
        let namespaces = namespaces.map_err(BenchError::environment)?;
        let router = kind.start(lab, setup, loader)?;
        let netns = |end: &str| NetNs::named(&format!("{lab}-{end}"));
        let near = match kind {
            Kind::Nearhop => None,
            _ => Some(LinkSetup::open(&netns("r")).map_err(BenchError::environment)?),
        };
        let device = kind.device("a");
        let mut links = LinkSetup::open(&netns("a")).map_err(BenchError::environment)?;
        let index = links.status(&device).map_err(BenchError::environment)?.ifindex;
        let silencer =
            Silencer::new(&netns("a"), &device, index).map_err(BenchError::environment)?;
        let many = setup.prefixes > 1;
        let (flows, every) = if many { (FLOWS, EVERY_OF_MANY) } else { (1, EVERY) };
        let client = Client::open(&netns("c"), &setup.destinations(flows), every)?;
        let sites = [Place::B, Place::A].map(|place| Site::open(kind, lab, place));
        let sites = sites.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut stand = Self {
            kind,
            setup,
            lab: lab.to_owned(),
            router,
            sites,
            near,
            silencer,
            client,
            _namespaces: namespaces,
        };
        stand.announce()?;
        Ok(stand)
    }

    /// The next best first, so that it is known to be in use before the best takes its place.
    fn announce(&mut self) -> Result<(), BenchError> {
        if self.kind == Kind::Kernel {
            return self.wait_up();
        }
        for index in 0..self.sites.len() {
            self.sites[index].start(&self.lab, self.setup)?;
            self.wait_all_at(index)?;
        }
        self.wait_up()
    }

    /// One failure and its end; `None` if the whole machine stood still meanwhile, if traffic was not at the best
    /// site before, or if BFD was slower than wished there.
    ///
    /// # Errors
    /// It cannot be made, or what it broke does not come back.
    pub fn trial(&mut self, fault: Fault, round: u32) -> Result<Option<Trial>, BenchError> {
        self.wait_up()?;
        if fault == Fault::Silent {
            self.wait_for_pace()?;
        }
        for site in &mut self.sites {
            site.sink.take();
            look(&mut site.capture)?;
        }
        let watch = Watch::begin();
        let sending = self.client.begin();
        pass(LEAD + Duration::from_micros(u64::from(round) * 1_618_033 % 10_000));
        if fault == Fault::Silent && !self.has_pace(BEST)? {
            sending.end()?;
            watch.end();
            return Ok(None);
        }
        let before = Nanos::now();
        let act = self.act(fault, true);
        let moved = act.map(|()| self.wait_moved(before));
        let sent = sending.end()?;
        let stalls = watch.end();
        moved?;
        pass(IN_FLIGHT);
        let mut seen = Vec::new();
        for site in &mut self.sites {
            seen.push((site.sink.take(), look(&mut site.capture)?));
        }
        self.act(fault, false)?;
        self.router.forgive()?;
        let (Some(at_a), Some(at_b)) = (seen.pop(), seen.pop()) else {
            return Err(BenchError::environment("a stand has two sites"));
        };
        let by_update = fault == Fault::Withdraw;
        let every = self.client.every();
        let trial = Trial::measure(&Evidence { sent, every, before, at_a, at_b, by_update })?;
        let Some(trial) = trial else { return Ok(None) };
        let (from, to) = trial.window;
        let stood = touches(&stalls, from, to);
        eprintln!(
            "{} {fault:?}: {trial}{}",
            self.kind.name(),
            if stood { "; a stall" } else { "" }
        );
        Ok((!stood).then_some(trial))
    }

    /// Makes the failure, or ends it.
    fn act(&mut self, fault: Fault, fail: bool) -> Result<(), BenchError> {
        let device = self.kind.device("a");
        let site = &mut self.sites[BEST];
        match fault {
            Fault::NearDown => {
                let near = self.near.as_mut().ok_or_else(|| {
                    BenchError::environment("a TUN port has no near end but the daemon itself")
                })?;
                near.set_up("a", !fail).map_err(BenchError::environment)
            }
            Fault::FarDown => site.links.set_up(&device, !fail).map_err(BenchError::environment),
            Fault::Silent => self.silencer.set(fail).map_err(BenchError::environment),
            Fault::Withdraw => {
                let command = if fail { "disable s4" } else { "enable s4" };
                site.ask(command).map(drop).map_err(BenchError::environment)
            }
            Fault::Killed if fail => {
                if let Some(bird) = &mut site.bird {
                    bird.kill();
                }
                Ok(())
            }
            Fault::Killed => site.start(&self.lab, self.setup),
        }
    }

    /// Waits until everything comes to `b`, or gives up: then it never did.
    fn wait_moved(&self, before: Nanos) {
        let sink = &self.sites[NEXT_BEST].sink;
        let steady = self.client.flows() * 2 + 50;
        let within = if self.setup.prefixes > 1 { MANY_MOVED_WITHIN } else { MOVED_WITHIN };
        let until = before + within;
        while Nanos::now() < until {
            let next = sink.next();
            let all = next >= steady && sink.count(next - steady..next) == steady;
            if all {
                // What comes out of order or is lost later is to be seen too.
                return pass(AFTERWARDS);
            }
            pass(Duration::from_millis(2));
        }
    }

    /// Waits until sessions are up with the intervals wished, and every flow ends at `a`.
    pub fn wait_healed(&mut self) -> Result<(), BenchError> {
        self.wait_up()?;
        for index in [NEXT_BEST, BEST] {
            wait_for("BFD as fast as configured", HEALED_WITHIN, || {
                let fast = self.has_pace(index).map_err(|error| error.to_string())?;
                if fast { Ok(()) } else { Err("slower".to_owned()) }
            })
            .map_err(BenchError::environment)?;
        }
        self.wait_all_at(BEST)
    }

    /// Waits until sessions are up, and every flow ends at `a`. BFD may be slower than configured, as nearhop makes
    /// it for a while when it was late.
    fn wait_up(&mut self) -> Result<(), BenchError> {
        if self.kind != Kind::Kernel {
            for site in &self.sites {
                wait_for("sessions of BGP and BFD", HEALED_WITHIN, || {
                    let bgp = site.ask("show protocols r1")?;
                    let bfd = site.ask("show bfd sessions")?;
                    let is_up = bgp.contains("Established") && bfd.contains("Up");
                    if is_up { Ok(()) } else { Err(bgp + &bfd) }
                })
                .map_err(BenchError::environment)?;
            }
        }
        self.wait_all_at(BEST)
    }

    /// Sees that BFD to the best site is as fast as configured. A session that is slower for a while is begun again:
    /// waiting for it takes minutes, and one more late packet makes it longer.
    fn wait_for_pace(&mut self) -> Result<(), BenchError> {
        for _ in 0..SESSIONS {
            if self.has_pace(BEST)? {
                return Ok(());
            }
            eprintln!("{}: BFD is slower than configured; it begins again", self.kind.name());
            self.sites[BEST].ask("restart r1").map_err(BenchError::environment)?;
            self.router.forgive()?;
            self.wait_up()?;
        }
        let what = format!("BFD was slower than configured in each of {SESSIONS} sessions");
        Err(BenchError::environment(what))
    }

    /// Whether BFD's intervals with a site are as configured.
    fn has_pace(&self, index: usize) -> Result<bool, BenchError> {
        let detection = format!("{:.3}", f64::from(self.setup.bfd_ms) * 3e-3);
        let bfd = self.sites[index].ask("show bfd sessions").map_err(BenchError::environment)?;
        Ok(bfd.lines().any(|line| line.contains("Up") && line.contains(&detection)))
    }

    /// Sends round after round until one ends at that site whole.
    fn wait_all_at(&mut self, index: usize) -> Result<(), BenchError> {
        wait_for("every flow at a site", HEALED_WITHIN, || {
            for site in &self.sites {
                site.sink.take();
            }
            let round = self.client.every() * self.client.flows() as u32;
            let sending = self.client.begin();
            pass(round * 2 + LEAD);
            let sent = sending.end().map_err(|error| error.to_string())?.len();
            pass(IN_FLIGHT);
            let there = self.sites[index].sink.take().len();
            if there == sent { Ok(()) } else { Err(format!("{there} of {sent}")) }
        })
        .map_err(BenchError::environment)
    }

    /// How often BIRD at either site has called its BFD session down.
    pub fn bfd_downs(&self) -> usize {
        let said = self.sites.iter().filter_map(|site| site.bird.as_ref()).map(Bird::said);
        said.map(|text| text.matches("BFD session down").count()).sum()
    }

    /// The client's namespace.
    pub fn client_netns(&self) -> NetNs {
        NetNs::named(&format!("{}-c", self.lab))
    }

    /// The namespace of the next best site, and its device.
    pub fn next_best(&self) -> (NetNs, String) {
        (self.sites[NEXT_BEST].netns.clone(), self.kind.device("b"))
    }
}

impl Site {
    fn open(kind: Kind, lab: &str, place: Place) -> Result<Self, BenchError> {
        let netns = NetNs::named(&format!("{lab}-{}", place.name()));
        let device = kind.device(place.name());
        // All that is announced is the host's own address: 11.0.0.0 to 19.255.255.255.
        let own = ["11.0.0.0/8", "12.0.0.0/6", "16.0.0.0/6"];
        let own = own.map(|prefix| format!("route add local {prefix} dev lo\n")).concat();
        router::ip(&netns, &format!("link set lo up\n{own}"))?;
        for file in ["conf/all/rp_filter".to_owned(), format!("conf/{device}/rp_filter")] {
            router::set(&netns, &file, "0")?;
        }
        Ok(Self {
            place,
            sink: Sink::open(&netns)?,
            capture: capture(&netns, &device)?,
            links: LinkSetup::open(&netns).map_err(BenchError::environment)?,
            netns,
            bird: None,
        })
    }

    fn start(&mut self, lab: &str, setup: Setup) -> Result<(), BenchError> {
        // One that was killed, or its socket would be taken.
        self.bird = None;
        let name = format!("{lab}-site-{}", self.place.name());
        let config = program::LOG.to_owned() + &config::site(setup, self.place);
        self.bird = Some(Bird::start(&self.netns, &name, &config, setup.in_real_time())?);
        Ok(())
    }

    fn ask(&self, command: &str) -> Result<String, String> {
        self.bird.as_ref().ok_or("no BIRD at this site")?.ask(command)
    }
}

/// The router's address on the link of the best site.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// Places in `sites`.
const NEXT_BEST: usize = 0;
const BEST: usize = 1;

/// Between two datagrams of one flow.
const EVERY: Duration = Duration::from_micros(200);
/// Flows that sample many prefixes, the first and the last of them included.
const FLOWS: usize = 40;
/// Between two datagrams of those: each flow is looked at once in 2 ms.
const EVERY_OF_MANY: Duration = Duration::from_micros(50);

/// Sent before a failure.
const LEAD: Duration = Duration::from_millis(100);
const AFTERWARDS: Duration = Duration::from_millis(20);
const IN_FLIGHT: Duration = Duration::from_millis(20);
const MOVED_WITHIN: Duration = Duration::from_secs(3);
const MANY_MOVED_WITHIN: Duration = Duration::from_secs(30);
/// Sessions that are begun until one is as fast as configured.
const SESSIONS: u32 = 30;
const HEALED_WITHIN: Duration = Duration::from_secs(90);
