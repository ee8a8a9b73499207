use super::*;
use crate::topology::ServiceSite;

/// The lab that comes with the project: ams by BIRD, fra by FRR, par by ExaBGP.
fn lab() -> Topology {
    Topology::parse("bgp-sites.toml", include_str!("../../labs/bgp-sites.toml")).unwrap()
}

fn peering(site: &str) -> Peering {
    let lab = lab();
    let mut announcing = lab.announcing();
    let announce = announcing.find(|(name, _)| *name == site).unwrap().1.clone();
    Announcer::new(&lab.plan_of(site).unwrap(), announce).peering
}

#[test]
fn configurations_while_announced() {
    insta::assert_snapshot!("bird", bird::config(&peering("ams"), Stance::Announced));
    insta::assert_snapshot!("frr", frr::config(&peering("fra"), Stance::Announced));
    insta::assert_snapshot!("exabgp", exabgp::config(&peering("par"), Stance::Announced));
}

/// Beyond its name and its addresses, the daemon alone decides what a configuration looks like.
#[test]
fn each_daemon_can_prepend_drain_and_withdraw() {
    let mut peering = peering("ams");
    peering.announce.prepend = 2;
    let texts = |stance| {
        let make = [bird::config, frr::config, exabgp::config];
        make.map(|make| make(&peering, stance))
    };
    let drained = texts(Stance::Drained);
    for (text, expected) in drained.iter().zip([
        ["prepend(65001);\n    bgp_path.prepend(65001)", "bgp_community.add((65535, 0))"],
        ["set as-path prepend 65001 65001", "bgp graceful-shutdown"],
        ["as-path [ 65001 65001 65001 ]", "community [ 65535:0 ]"],
    ]) {
        assert!(expected.iter().all(|part| text.contains(part)), "{expected:?}: {text}");
    }
    for text in texts(Stance::Announced) {
        let words = ["65535", "graceful-shutdown", "disabled"];
        assert!(words.iter().all(|word| !text.contains(word)), "{text}");
    }
    let [bird, frr, exabgp] = texts(Stance::Withdrawn);
    assert_eq!(bird.matches("    disabled;\n").count(), 2, "{bird}");
    assert!(!frr.contains("  network") && !exabgp.contains("198.51.100.53"), "{frr}{exabgp}");
}

#[test]
fn frr_is_asked_for_the_difference_alone() {
    use Stance::{Announced, Drained, Withdrawn};
    let asked = |before, after| {
        let words = frr::commands(&peering("fra"), before, after);
        assert_eq!(words[..5], ["vtysh", "-c", "configure terminal", "-c", "router bgp 65001"]);
        words[5..].iter().filter(|word| *word != "-c").cloned().collect::<Vec<_>>().join("; ")
    };
    assert_eq!(asked(Announced, Drained), "bgp graceful-shutdown");
    assert_eq!(asked(Drained, Announced), "no bgp graceful-shutdown");
    assert_eq!(
        asked(Drained, Withdrawn),
        "no bgp graceful-shutdown; \
         address-family ipv4 unicast; no network 198.51.100.53/32; exit-address-family; \
         address-family ipv6 unicast; no network 2001:db8:53::53/128; exit-address-family"
    );
    assert!(asked(Withdrawn, Announced).contains("; network 2001:db8:53::53/128;"));
}

#[test]
fn what_is_missing_is_named_with_its_package_and_what_to_type() {
    let lab = lab();
    let without = |absent: &[&str]| programs::missing_with(&lab, |one| !absent.contains(&one));
    assert_eq!(without(&[]), None);
    let said = without(&["frr/bgpd", "vtysh", "exabgpcli"]).unwrap();
    assert_eq!(
        said,
        "the lab's BGP daemons are not all here: missing frr/bgpd and vtysh of fra (package frr), \
         exabgpcli of par (package exabgp); type: sudo apt-get install --no-install-recommends frr \
         exabgp (Debian's names)"
    );
    // Nobody announces: nobody is missed.
    assert_eq!(programs::missing_with(&Topology::three_sites(), |_| false), None);
}

#[test]
fn nobody_reads_a_pipe_before_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("in");
    exabgp::make_pipe(&pipe).unwrap();
    exabgp::make_pipe(&pipe).unwrap();
    assert!(!exabgp::say(&pipe, "x\n").unwrap());
    // Both ends, so that opening it waits for nobody.
    let mut reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    assert!(exabgp::say(&pipe, "x\n").unwrap());
    let mut read = [0; 2];
    io::Read::read_exact(&mut reader, &mut read).unwrap();
    assert_eq!(read, *b"x\n");
}

#[test]
fn the_nearest_by_bgp_is_the_shortest_path_then_the_lowest_med_of_an_as() {
    let mut lab = lab();
    assert_eq!(lab.services[0].nearest(), ["ams"]);
    let order: Vec<_> = lab.services[0].sites.iter().map(ServiceSite::rank).collect();
    assert!(order.is_sorted(), "{order:?}");
    let crate::topology::KnownBy::Bgp(fra) = &mut lab.services[0].sites[1].known_by else {
        panic!("it announces");
    };
    fra.asn = 65_002;
    assert_eq!(lab.services[0].nearest(), ["ams", "fra"], "MEDs of two ASes are not compared");
}
