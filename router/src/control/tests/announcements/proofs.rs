//! What is announced once packets by a neighbour's port reach a site.

use super::*;
use crate::liveness::proof::{ProofId, ProofOrder, ProofSpec};

/// What the liveness engine is to prove now; what it is to forget, too.
fn proofs(speaking: &mut Speaking) -> (Vec<ProofSpec>, Vec<ProofId>) {
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for order in speaking.rig.control.take_proof_orders() {
        match order {
            ProofOrder::Begin(spec) => begun.push(spec),
            ProofOrder::End(id) => ended.push(id),
        }
    }
    (begun, ended)
}

fn proof_events(speaking: &mut Speaking) -> Vec<(String, bool, u64)> {
    let events = std::iter::from_fn(|| speaking.rig.control.poll_event());
    let proofs = events.filter_map(|(_, kind)| match kind {
        EventKind::Proof { port, proven, waited_ms, .. } => Some((port, proven, waited_ms)),
        _ => None,
    });
    proofs.collect()
}

/// The reasons that are shown for the only prefix.
fn reason(speaking: &Speaking) -> String {
    let control = &speaking.rig.control;
    let advertised = control.bgp_advertised(None).next().unwrap();
    advertised.decisions[0].decision.text(speaking.now)
}

#[test]
fn a_service_is_announced_once_packets_by_the_neighbors_port_reach_a_site() {
    let mut speaking = speaking("announce = \"proven\"\nprove-timeout = \"2s\"");
    assert!(speaking.lines().is_empty(), "nothing is proven");
    let (begun, _) = proofs(&mut speaking);
    let client = speaking.rig.control.ports.get("client").unwrap().id;
    let [spec] = begun[..] else { panic!("{begun:?}") };
    let ends = ("10.0.0.1".parse().unwrap(), SERVICE.parse().unwrap());
    assert_eq!((spec.port, (spec.source, spec.target)), (client, ends));
    assert!(reason(&speaking).starts_with("unproven: "), "{}", reason(&speaking));
    speaking.pass(Duration::from_millis(30));
    speaking.rig.control.handle_proof(speaking.now, spec.id);
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    assert_eq!(proof_events(&mut speaking), [("client".into(), true, 30)]);

    // It dies and comes back: proven again.
    for up in [false, true] {
        for site in ["ams", "fra"] {
            speaking.rig.set(site, site, up);
        }
        let lines = speaking.lines();
        assert_eq!(lines, if up { &[][..] } else { &["-198.51.100.53/32"] });
    }
    speaking.pass(Duration::from_secs(10));
    assert!(speaking.lines().is_empty());
    let (begun, ended) = proofs(&mut speaking);
    assert_eq!((begun.len(), ended.len()), (1, 0));
    speaking.rig.control.handle_proof(speaking.now, spec.id);
    assert!(speaking.lines().is_empty(), "that was the last one's");

    // In any case at last, and said so.
    let due = speaking.rig.control.bgp_timeout().unwrap();
    assert_eq!(due.since(speaking.now), Duration::from_secs(2));
    speaking.pass(Duration::from_secs(2));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    assert_eq!(proof_events(&mut speaking), [("client".into(), false, 2000)]);
    assert_eq!(proofs(&mut speaking).1, [begun[0].id]);
}

/// A step asks for some of them, and all are asked for in the end.
#[test]
fn many_proofs_are_many_steps() {
    let prefixes: Vec<String> =
        (0..1000).map(|n| format!("\"198.18.{}.{}/32\"", n / 256, n % 256)).collect();
    let text = speaking_text("announce = \"proven\"\nannounce-delay = \"0s\"", "");
    let text = text.replace("\"198.51.100.53/32\"", &prefixes.join(", "));
    let mut speaking = Speaking::new(&text);
    assert_eq!(proofs(&mut speaking).0.len(), 1000, "in any number of steps");
    for site in ["ams", "fra"] {
        speaking.rig.set(site, site, false);
    }
    assert!(speaking.told().is_empty());
    assert_eq!(proofs(&mut speaking).1.len(), 1000, "nobody needs them now");
    speaking.rig.set("ams", "ams", true);
    let mut asked = Vec::new();
    while asked.is_empty() || speaking.rig.control.is_announcing() {
        assert!(speaking.rig.control.poll_bgp(speaking.now).is_empty());
        let (begun, _) = proofs(&mut speaking);
        assert!(begun.len() <= 64, "{} in a step", begun.len());
        asked.extend(begun);
    }
    for spec in &asked {
        speaking.rig.control.handle_proof(speaking.now, spec.id);
    }
    assert_eq!((asked.len(), speaking.told().len()), (1000, 1000));
}

#[test]
fn a_reload_proves_what_is_new_and_takes_nothing_back() {
    let mut speaking = speaking("");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    let text = |announce: &str, prefixes: &str| {
        let text = speaking_text(announce, "");
        text.replace("\"198.51.100.53/32\"", prefixes)
    };
    let both = "\"198.51.100.53/32\", \"198.51.100.54/32\"";
    speaking.rig.apply(&text("announce = \"proven\"", both)).unwrap();
    assert!(speaking.lines().is_empty(), "one is announced, the other has to be proven");
    let (begun, _) = proofs(&mut speaking);
    assert_eq!(begun.len(), 2, "also of what is announced, for when it is withdrawn");
    let new = begun.iter().find(|spec| spec.target.to_string() == "198.51.100.54").unwrap();
    speaking.rig.control.handle_proof(speaking.now, new.id);
    assert_eq!(speaking.lines(), ["+198.51.100.54/32 65001"]);
    // Nobody waits for proofs of what is not to be proven any more.
    speaking.rig.apply(&text("", both)).unwrap();
    assert!(speaking.lines().is_empty());
    assert_eq!(proofs(&mut speaking).1.len(), 1);
    speaking.pass(Duration::from_mins(1));
    assert!(speaking.lines().is_empty() && proof_events(&mut speaking).len() == 1);
}

#[test]
fn what_is_always_announced_asks_for_no_site() {
    let mut speaking = speaking("announce = \"always\"");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    for site in ["ams", "fra"] {
        speaking.rig.set(site, site, false);
    }
    assert!(speaking.lines().is_empty());
    assert_eq!(reason(&speaking), "always; no site is well");
}
