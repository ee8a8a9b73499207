use super::*;
use crate::config;
use crate::config::model::PlaybookStep;
use crate::control::LeaveCause;
use crate::control::bgp::announce::standing::Health;

const PREFIX: &str = "198.51.100.53/32";

/// A decision about the service `dns`, with these keys of it and of the neighbour.
struct Case {
    config: config::Config,
    standing: Standing,
    state: State,
    families: PerFamily<bool>,
    next_hop: Option<BgpNextHop>,
    leave: Leave,
    playbooks: Vec<Arc<Playbook>>,
}

impl Case {
    fn new(service: &str, neighbor: &str) -> Self {
        let text = format!(
            "[router]\nname = \"r1\"\nid = \"10.9.0.1\"\nhash-seed = 7\n\
             [[port]]\nname = \"up\"\ntun = \"t1\"\naddresses = [\"10.9.0.1/24\"]\n\
             [[service]]\nname = \"dns\"\nprefixes = [\"{PREFIX}\"]\n{service}\n\
             [[service.site]]\nname = \"ams\"\nvia = \"up\"\n\
             [[service.site]]\nname = \"fra\"\nvia = \"up\"\n\
             [bgp]\nas = 65001\n\
             [[bgp.neighbor]]\naddress = \"10.9.0.2\"\nimport = \"none\"\n{neighbor}\n"
        );
        let config = config::parse("r1.toml", &text).unwrap_or_else(|e| panic!("{e}")).0;
        let mut case = Self {
            config,
            standing: Standing::default(),
            state: State::Established,
            families: PerFamily::BOTH,
            next_hop: Some(BgpNextHop::new([10, 9, 0, 1].into())),
            leave: Leave::No,
            playbooks: Vec::new(),
        };
        case.well(2);
        case
    }

    fn external() -> Self {
        Self::new("", "as = 65002\nexport = [\"dns\"]")
    }

    fn well(&mut self, well: usize) -> Decision {
        let health = Health { well, weight: well as u64, is_served: well > 0 };
        let rules = self.config.services[0].announce;
        self.standing.update(NOW, &rules, health);
        self.decide()
    }

    fn decide(&self) -> Decision {
        let neighbor = &self.config.bgp.as_ref().unwrap().neighbors[0];
        let (prefix, service) = (PREFIX.parse().unwrap(), &self.config.services[0]);
        let subject = Subject::of_service(prefix, service, (&self.standing, None));
        let audience = Audience {
            config: neighbor,
            state: self.state,
            families: self.families,
            next_hops: PerFamily::with(|_| self.next_hop),
            port: None,
            several_paths: PerFamily::NONE,
            id: NeighborId(1),
            is_internal: neighbor.asn == 65_001,
            asn: 65_001,
        };
        decide(&subject, &audience, &Scene { leave: self.leave, playbooks: &self.playbooks })
    }
}

/// State and reason.
fn said(decision: &Decision) -> (&'static str, String) {
    (decision.label(), decision.text(NOW))
}

const NOW: Nanos = Nanos(1_000_000_000_000);

#[test]
fn what_is_well_is_announced_as_configured() {
    let decision = Case::external().decide();
    assert_eq!(said(&decision), ("announced", "2 sites are well, 1 needed".into()));
    let attributes = decision.announce.unwrap();
    assert_eq!(attributes.as_path.to_string(), "65001");
    assert_eq!((attributes.med, attributes.local_pref), (None, None));
    assert_eq!(attributes.next_hop, BgpNextHop::new([10, 9, 0, 1].into()));

    let internal = Case::new("", "as = 65001\nexport = \"services\"").decide().announce.unwrap();
    assert!(internal.as_path.is_empty());
    assert_eq!(internal.local_pref, Some(100));
}

#[test]
fn whatever_keeps_it_from_a_neighbour_is_said_before_what_becomes_of_it() {
    let case = Case::external;
    for (decision, why) in [
        (Case { state: State::Active, ..case() }.decide(), "no session (Active)"),
        (
            Case::new("", "as = 65002\nexport = \"none\"").decide(),
            "export of the neighbour does not have it",
        ),
        (
            Case { families: PerFamily::only(Family::Ipv6), ..case() }.decide(),
            "the family was not negotiated",
        ),
        (
            Case { next_hop: None, ..case() }.decide(),
            "no next hop: the router has no address of the family on the neighbour's port",
        ),
    ] {
        assert_eq!(said(&decision), ("withheld", why.into()));
        assert_eq!(decision.announce, None);
    }
}

#[test]
fn with_too_few_sites_it_is_withdrawn_and_waits_before_it_comes_back() {
    let mut case = Case::new("min-sites = 2", "as = 65002\nexport = [\"dns\"]");
    assert_eq!(said(&case.well(0)), ("withdrawn", "no site is well, 2 needed".into()));
    assert_eq!(said(&case.well(1)), ("withdrawn", "1 site is well, 2 needed".into()));
    let decision = case.well(2);
    assert_eq!(said(&decision), ("withdrawn", "delayed for another 10 s".into()));
    assert_eq!(
        decision.text(NOW + std::time::Duration::from_millis(3500)),
        "delayed for another 7 s"
    );
}

/// By everything that a neighbour may compare, as it need not know GRACEFUL_SHUTDOWN.
#[test]
fn what_is_deprioritised_loses_against_any_other_path() {
    let low = "min-sites = 2\nbelow-min = \"deprioritise\"";
    let mut case = Case::new(low, "as = 65002\nexport = [\"dns\"]");
    let decision = case.well(1);
    let why = "deprioritised: 1 site is well, 2 needed";
    assert_eq!(said(&decision), ("announced", why.into()));
    let external = decision.announce.unwrap();
    assert_eq!(*external.communities, [Community::GRACEFUL_SHUTDOWN]);
    assert_eq!(external.as_path.to_string(), "65001 65001 65001 65001");
    assert_eq!(external.med, Some(u32::MAX));
    assert_eq!(said(&case.well(2)), ("announced", "deprioritised for another 10 s".into()));

    let internal = Case::new(low, "as = 65001\nexport = [\"dns\"]").well(1).announce.unwrap();
    assert!(internal.as_path.is_empty(), "its own AS in the path would be a loop");
    assert_eq!((internal.local_pref, internal.med), (Some(0), Some(u32::MAX)));
    // Not even that where nobody takes its packets.
    assert_eq!(said(&case.well(0)), ("withdrawn", "no site is well, 2 needed".into()));
}

#[test]
fn a_router_that_leaves_warns_and_withdraws() {
    let mut case = Case::external();
    let until = NOW + std::time::Duration::from_secs(7);
    case.leave = Leave::Warned { until, why: LeaveCause::Drained };
    let decision = case.decide();
    let why = "the router is drained: withdrawn in 7 s";
    assert_eq!(said(&decision), ("announced", why.into()));
    let attributes = decision.announce.unwrap();
    assert!(attributes.has_community(Community::GRACEFUL_SHUTDOWN));
    assert_eq!((attributes.as_path.len(), attributes.med), (4, Some(u32::MAX)));
    assert_eq!(said(&case.well(0)), ("withdrawn", "no site is well, 1 needed".into()));
    for (cause, why) in
        [(LeaveCause::Drained, "the router is drained"), (LeaveCause::Exit, "the router ends")]
    {
        case.leave = Leave::Gone(cause);
        assert_eq!(said(&case.decide()), ("withdrawn", why.into()));
    }
}

#[test]
fn a_playbook_changes_what_it_names_and_nothing_else() {
    let additions = |communities: &[Community], prepend, med| Additions {
        communities: communities.to_vec(),
        prepend,
        med,
        ..Additions::default()
    };
    let step = |neighbors: &[&str], services: &[&str], additions, withdraw| PlaybookStep {
        neighbors: neighbors.iter().map(|name| (*name).to_owned()).collect(),
        services: services.iter().map(|name| (*name).to_owned()).collect(),
        additions,
        withdraw,
        ..PlaybookStep::default()
    };
    let play = |step: PlaybookStep| {
        let mut case = Case::new("med = 7", "as = 65002\nexport = [\"dns\"]\nprepend = 1");
        case.playbooks = vec![Arc::new(Playbook { name: "away".into(), steps: vec![step] })];
        case.decide()
    };
    let more = || additions(&[Community::NO_EXPORT], 2, Some(9));
    let changed = play(step(&["10.9.0.2"], &["dns"], more(), false));
    let why = "2 sites are well, 1 needed; changed by playbook away";
    assert_eq!(said(&changed), ("announced", why.into()));
    let attributes = changed.announce.unwrap();
    assert_eq!(attributes.as_path.to_string(), "65001 65001 65001 65001");
    assert_eq!((attributes.med, &*attributes.communities), (Some(9), &[Community::NO_EXPORT][..]));
    for other in [step(&["10.9.0.3"], &[], more(), false), step(&[], &["web"], more(), false)] {
        let unchanged = play(other).announce.unwrap();
        assert_eq!((unchanged.as_path.len(), unchanged.med), (2, Some(7)));
    }
    let of_prefix = PlaybookStep {
        prefixes: vec![PREFIX.parse().unwrap()],
        ..step(&[], &[], additions(&[], 0, None), true)
    };
    let withdrawn = play(of_prefix);
    assert_eq!(said(&withdrawn), ("withdrawn", "playbook away withdraws it".into()));
}

/// RFC 9234, section 5.
#[test]
fn what_a_customer_or_peer_gets_is_marked_only_to_customer() {
    for (role, want) in [("provider", Some(65_001)), ("peer", Some(65_001)), ("customer", None)] {
        let keys = format!("as = 65002\nexport = [\"dns\"]\nrole = \"{role}\"");
        let attributes = Case::new("", &keys).decide().announce.unwrap();
        assert_eq!(attributes.only_to_customer(), want, "{role}");
    }
}

#[test]
fn an_export_policy_changes_what_is_announced_or_refuses_it() {
    let case = |rule: &str| {
        let policy = format!(
            "as = 65002\nexport = [\"dns\"]\nexport-policy = \"out\"\n\
             [[bgp.policy]]\nname = \"out\"\n[[bgp.policy.rule]]\nname = \"r\"\n{rule}"
        );
        Case::new("", &policy).decide()
    };
    let changed = case("med = 7\nthen = \"accept\"");
    assert_eq!(said(&changed), ("announced", "2 sites are well, 1 needed".into()));
    assert_eq!(changed.announce.unwrap().med, Some(7));
    let refused = case("then = \"refuse\"");
    assert_eq!(said(&refused), ("withheld", "rule \"r\" of policy \"out\" refuses it".into()));
    assert_eq!(refused.announce, None);
    let unmet = case("prefixes = [\"192.0.2.0/24\"]\nthen = \"accept\"");
    assert_eq!(said(&unmet), ("withheld", "no rule of policy \"out\" accepts it".into()));
}

#[test]
fn what_is_configured_is_said_of_what_is_announced() {
    let service = "communities = [\"65001:100\", \"no-export\"]\nmed = 7\nprepend = 1";
    let neighbor = "as = 65002\nexport = [\"dns\"]\ncommunities = [\"65002:1\", \"65001:100\"]\n\
                    large-communities = [\"65001:1:2\"]\nmed = 9\nprepend = 2";
    let attributes = Case::new(service, neighbor).decide().announce.unwrap();
    let communities: Vec<_> = attributes.communities.iter().map(ToString::to_string).collect();
    assert_eq!(communities, ["65001:100", "no-export", "65002:1"]);
    assert_eq!(attributes.large()[0].to_string(), "65001:1:2");
    assert_eq!(attributes.med, Some(7), "the service's own");
    assert_eq!(attributes.as_path.to_string(), "65001 65001 65001 65001");
    assert_eq!(attributes.link_bandwidth(), None);

    let internal = "as = 65001\nexport = [\"dns\"]\nlocal-pref = 50";
    let attributes = Case::new(service, internal).decide().announce.unwrap();
    assert!(attributes.as_path.is_empty());
    assert_eq!(attributes.local_pref, Some(50));
}

/// A community that must not leave an AS is not sent to another one, unless it is asked for.
#[test]
fn the_weight_of_sites_is_announced_in_the_form_that_fits_the_neighbour() {
    for (asn, word, form) in [
        (65_001, "auto", Some(false)),
        (65_002, "auto", Some(true)),
        (65_001, "transitive", Some(true)),
        (65_002, "non-transitive", Some(false)),
        (65_002, "off", None),
    ] {
        let keys = format!("as = {asn}\nexport = [\"dns\"]\nlink-bandwidth = \"{word}\"");
        let mut case = Case::new("", &keys);
        let attributes = case.decide().announce.unwrap();
        let is_transitive = attributes.extended().first().map(|one| one.is_transitive());
        assert_eq!(is_transitive, form, "{asn} {word}");
        if form.is_some() {
            assert_eq!(attributes.link_bandwidth(), Some((65_001, 250_000.0)), "two sites");
            let attributes = case.well(1).announce.unwrap();
            assert_eq!(attributes.link_bandwidth(), Some((65_001, 125_000.0)), "one site");
        }
    }
}
