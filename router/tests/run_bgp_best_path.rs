//! The same UPDATEs, in another order for each, to nearhop's table, to BIRD, FRR and GoBGP, whose tie-breaks are
//! set alike: all have to choose the same path to every prefix, or differ by a rule that has a name here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bgp_support::bird::Bird;
use bgp_support::frr::Frr;
use bgp_support::gobgp::GoBgp;
use bgp_support::missing;
use bgp_support::speaker::{Ends, Speaker, as_path, attribute, nlri, update};
use nearhop::bgp::table::{Paths, Sender};
use nearhop::bgp::{
    AttributeStore, Attributes, ChoiceRule, ChoiceRules, Frame, Import, LoopRules, MESSAGE_MAX,
    Message, Nlri, Path, PathSource, PerFamily, UpdateContext, choose, compare,
};
use nearhop::ids::NeighborId;
use nearhop::kernel::link::LinkSetup;
use support::skip::skip;
use support::{in_namespaces, wait_for};

#[test]
fn all_choose_the_same_paths_when_med_counts_within_an_as() {
    agree("all_choose_the_same_paths_when_med_counts_within_an_as", false);
}

#[test]
fn all_choose_the_same_paths_when_med_always_counts() {
    agree("all_choose_the_same_paths_when_med_always_counts", true);
}

/// Of two paths that lose by no other rule, the identifier of the path decides only between paths of one
/// neighbour, which has one here; and every next hop costs the same.
#[test]
fn every_rule_decides_somewhere_in_what_is_said() {
    let mut rules = BTreeSet::new();
    for (prefix, paths) in generate(SEED) {
        let decoded = decoded(&paths, &prefix);
        let compared: Vec<Path<'_>> = decoded.iter().map(Decoded::path).collect();
        let choice = choose(&compared, ChoiceRules::default()).unwrap();
        rules.extend(choice.losses.iter().flatten().map(|loss| loss.rule));
    }
    let expected = [
        ChoiceRule::LocalPref,
        ChoiceRule::PathLength,
        ChoiceRule::Origin,
        ChoiceRule::Med,
        ChoiceRule::External,
    ];
    let rest = [ChoiceRule::RouterId, ChoiceRule::ClusterList, ChoiceRule::Address];
    assert_eq!(rules, expected.into_iter().chain(rest).collect());
}

/// The neighbours: last octet of the address, AS, identifier. Neither order follows another. Identifiers are
/// alike in different ASes alone (RFC 6286).
const NEIGHBORS: [(u8, u32, [u8; 4]); 6] = [
    (11, 65_101, [9, 9, 9, 5]),
    (12, 65_101, [9, 9, 9, 2]),
    (13, 65_102, [9, 9, 9, 4]),
    (14, 65_103, [9, 9, 9, 4]),
    (15, OWN_AS, [9, 9, 9, 6]),
    (16, OWN_AS, [9, 9, 9, 3]),
];

/// An announcement: which neighbour says it, and its attributes as they are sent.
type Announced = (usize, Vec<u8>);

/// Who judges differently, and by which rule.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Difference {
    /// BIRD 2.0.12 with "deterministic med": where a path was replaced by one of another neighbouring AS, what
    /// was compared before decides. The same paths without a replacement lead to the choice of all others.
    BirdMedAfterReplacement,
    /// GoBGP compares the path that came with the best so far, also by MED: among three or more paths the order
    /// of arrival decides. It has no "deterministic MED".
    GoBgpMedInOrderOfArrival,
    /// GoBGP knows the neighbour's identifier alone, and no ORIGINATOR_ID or CLUSTER_LIST (RFC 4456, section 9).
    GoBgpKnowsNoOriginator,
}

fn agree(test: &str, always: bool) {
    let programs = [("bird", "bird2"), ("vtysh", "frr"), ("gobgpd", "gobgpd")];
    if let Some(why) = programs.into_iter().find_map(|(program, package)| missing(program, package))
    {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let table = generate(SEED);
        let mut judges = Judges::start(always);
        let chosen = choices(&table, always);
        let mut differences = BTreeMap::new();
        for round in 0..ROUNDS {
            let found = judges.judge(&table, SEED + round);
            for Found { judge, best, replaced } in found {
                for (prefix, paths) in &table {
                    let (ours, theirs) = (chosen[prefix], best.get(prefix).copied());
                    if theirs == Some(ours) {
                        continue;
                    }
                    let why = theirs.and_then(|theirs| match judge {
                        "BIRD" => (!always && replaced.contains(prefix))
                            .then_some(Difference::BirdMedAfterReplacement),
                        "GoBGP" => explain(paths, ours, theirs, always),
                        _ => None,
                    });
                    let Some(why) = why else {
                        panic!("{prefix}: nearhop {ours}, {judge} {theirs:?}: {}", text(paths));
                    };
                    *differences.entry(why).or_insert(0) += 1;
                }
            }
        }
        eprintln!("{} prefixes in {ROUNDS} orders; differences: {differences:?}", table.len());
        let all = ROUNDS * table.len() as u64;
        assert!(differences.values().sum::<u64>() < all / 10, "{differences:?}: they are rare");
    });
}

/// Who announces what, by prefix: combinations in which each rule decides somewhere.
fn generate(seed: u64) -> BTreeMap<String, Vec<Announced>> {
    let mut rng = Rng(seed);
    let mut table = BTreeMap::new();
    for index in 0..PREFIXES {
        let mut paths: Vec<Announced> = Vec::new();
        // Few differ in much: else the first rules decide everything.
        let differs = rng.below(6);
        for neighbor in 0..NEIGHBORS.len() {
            if rng.below(4) > 0 {
                paths.push((neighbor, draw(&mut rng, neighbor, differs)));
            }
        }
        if !paths.is_empty() {
            table.insert(format!("5.{}.{}.0/24", index / 256, index % 256), paths);
        }
    }
    table
}

fn draw(rng: &mut Rng, neighbor: usize, differs: u64) -> Vec<u8> {
    let (last, asn, _) = NEIGHBORS[neighbor];
    let is_internal = asn == OWN_AS;
    let mut path = Vec::new();
    if !is_internal {
        path.push(asn);
    } else if rng.below(3) > 0 {
        path.push([65_101, 65_102, 65_103][rng.below(3) as usize]);
    }
    let longer = if differs == 0 { rng.below(3) } else { 1 };
    for _ in 0..longer {
        path.push(64_900 + rng.below(3) as u32);
    }
    let origin = if differs <= 1 { rng.below(3) as u8 } else { 0 };
    let mut all = vec![attribute(0x40, 1, &[origin]), as_path(&path)];
    all.push(attribute(0x40, 3, &[192, 0, 2, last]));
    if differs <= 4 && rng.below(4) > 0 {
        all.push(attribute(0x80, 4, &(5 * rng.below(3) as u32).to_be_bytes()));
    }
    if is_internal {
        let local_pref = if differs == 2 { 90 + 10 * rng.below(3) as u32 } else { 100 };
        all.push(attribute(0x40, 5, &local_pref.to_be_bytes()));
        if rng.below(2) == 0 {
            all.push(attribute(0x80, 9, &[9, 9, 9, 1 + rng.below(4) as u8]));
            let clusters = [1, 1, 1, 1].repeat(rng.below(3) as usize);
            if !clusters.is_empty() {
                all.push(attribute(0x80, 10, &clusters));
            }
        }
    }
    all.concat()
}

/// What nearhop's table chooses, in any order of arrival: the last octet of the neighbour's address.
fn choices(table: &BTreeMap<String, Vec<Announced>>, always: bool) -> BTreeMap<String, u8> {
    let mut all: Vec<(&String, &Announced)> = table
        .iter()
        .flat_map(|(prefix, paths)| paths.iter().map(move |path| (prefix, path)))
        .collect();
    let mut first = None;
    for round in 0..ROUNDS {
        Rng(SEED + round).shuffle(&mut all);
        let mut paths = Paths::default();
        for (index, &(last, asn, id)) in NEIGHBORS.iter().enumerate() {
            paths.begin(NeighborId(index as u32), sender(last, asn, id));
        }
        for (prefix, (neighbor, attributes)) in &all {
            let decoded = decode(*neighbor, attributes, prefix);
            paths.announce(
                NeighborId(*neighbor as u32),
                Nlri::new(prefix.parse().unwrap()),
                &decoded,
            );
        }
        let of = |prefix: &String| {
            let best = paths.best(prefix.parse().unwrap()).unwrap();
            NEIGHBORS[best.neighbor.0 as usize].0
        };
        let chosen: BTreeMap<String, u8> =
            table.keys().map(|prefix| (prefix.clone(), of(prefix))).collect();
        assert!(first.replace(chosen.clone()).is_none_or(|before| before == chosen), "{round}");
    }
    let mut chosen = first.unwrap();
    if always {
        // The table's own rules are fixed.
        for (prefix, paths) in table {
            let decoded = decoded(paths, prefix);
            let compared: Vec<Path<'_>> = decoded.iter().map(Decoded::path).collect();
            let best = choose(&compared, ChoiceRules { always_compare_med: true }).unwrap().best;
            chosen.insert(prefix.clone(), NEIGHBORS[paths[best].0].0);
        }
    }
    chosen
}

/// The rule by which GoBGP's choice differs; `None` if there is no such rule.
fn explain(paths: &[Announced], ours: u8, theirs: u8, always: bool) -> Option<Difference> {
    let decoded = decoded(paths, "5.0.0.0/24");
    let at = |last: u8| paths.iter().position(|(index, _)| NEIGHBORS[*index].0 == last).unwrap();
    let (ours, theirs) = (at(ours), at(theirs));
    let plain: Vec<Decoded> = decoded.iter().map(Decoded::without_reflectors).collect();
    let best_of = |paths: &[Decoded]| {
        let compared: Vec<Path<'_>> = paths.iter().map(Decoded::path).collect();
        choose(&compared, ChoiceRules { always_compare_med: always }).unwrap().best
    };
    if best_of(&plain) == theirs {
        return Some(Difference::GoBgpKnowsNoOriginator);
    }
    if always {
        return None;
    }
    // Some order of comparing neighbours leads there.
    let beats = |one: usize, other: usize| {
        let same = plain[one].attributes.as_path.first() == plain[other].attributes.as_path.first();
        compare(&plain[one].path(), &plain[other].path(), same).0.is_lt()
    };
    let reachable = |from: usize| {
        let mut seen = BTreeSet::from([from]);
        loop {
            let more = (0..plain.len()).filter(|one| seen.iter().any(|to| beats(*to, *one)));
            let more: Vec<usize> = more.filter(|one| !seen.contains(one)).collect();
            if more.is_empty() {
                return seen;
            }
            seen.extend(more);
        }
    };
    reachable(theirs).contains(&ours).then_some(Difference::GoBgpMedInOrderOfArrival)
}

/// A path as nearhop reads it.
struct Decoded {
    attributes: Arc<Attributes>,
    from: PathSource,
}

impl Decoded {
    fn path(&self) -> Path<'_> {
        Path { attributes: &self.attributes, from: self.from }
    }

    fn without_reflectors(&self) -> Self {
        let mut attributes = (*self.attributes).clone();
        attributes.change_rare(|rare| {
            rare.originator_id = None;
            rare.cluster_list = [].into();
        });
        Self { attributes: Arc::new(attributes), from: self.from }
    }
}

fn decoded(paths: &[Announced], prefix: &str) -> Vec<Decoded> {
    let each = |(neighbor, attributes): &Announced| {
        let (last, asn, id) = NEIGHBORS[*neighbor];
        let Sender { internal, router_id, address, .. } = sender(last, asn, id);
        let from =
            PathSource { external: !internal, router_id, address, path_id: 0, next_hop_cost: 0 };
        Decoded { attributes: decode(*neighbor, attributes, prefix), from }
    };
    paths.iter().map(each).collect()
}

fn decode(neighbor: usize, attributes: &[u8], prefix: &str) -> Arc<Attributes> {
    let (_, asn, _) = NEIGHBORS[neighbor];
    let internal = asn == OWN_AS;
    let context = UpdateContext {
        four_octet_as: true,
        internal,
        first_as: (!internal).then_some(asn),
        families: PerFamily::BOTH,
        path_ids: PerFamily::with(|_| false),
        extended_next_hop: false,
        link_local_next_hop: false,
    };
    let bytes = update(&[], attributes, &nlri(prefix));
    let frame = Frame::first(&bytes, MESSAGE_MAX).unwrap().unwrap();
    let message = Message::decode(frame, &context, &mut AttributeStore::default()).unwrap();
    let Message::Update(update) = message else { panic!("{message:?}") };
    assert!(update.faults.is_empty(), "{:?}", update.faults);
    Arc::clone(&update.announced[0].attributes)
}

fn sender(last: u8, asn: u32, id: [u8; 4]) -> Sender {
    Sender {
        asn,
        internal: asn == OWN_AS,
        router_id: id.into(),
        address: Ipv4Addr::new(192, 0, 2, last).into(),
        role: None,
        loops: LoopRules { local_as: OWN_AS, own_as_max: 0, router_id: OWN_ID, cluster_id: None },
        import: Import::All,
        refuses_bogons: false,
    }
}

/// The paths to a prefix, for people.
fn text(paths: &[Announced]) -> String {
    let mut text = String::new();
    for ((neighbor, _), decoded) in paths.iter().zip(decoded(paths, "5.0.0.0/24")) {
        let _ = write!(text, "\n{:?} {:?}", NEIGHBORS[*neighbor], decoded.attributes);
    }
    text
}

/// What a router chose.
struct Found {
    judge: &'static str,
    /// By prefix: the last octet of the neighbour's address.
    best: BTreeMap<String, u8>,
    /// Prefixes to which a neighbour said another path first.
    replaced: BTreeSet<String>,
}

/// Routers that nobody here wrote, each in a namespace of its own.
struct Judges {
    bird: Bird,
    frr: Frr,
    gobgp: GoBgp,
    /// Their names, and the neighbours of each.
    places: [(&'static str, Vec<Speaker>); 3],
}

impl Judges {
    fn start(always: bool) -> Self {
        let place = |name: &'static str| {
            let netns = support::netns(name);
            let mut links = LinkSetup::open(&netns).unwrap();
            for last in NEIGHBORS.iter().map(|(last, ..)| *last).chain([1]) {
                links.replace_address("lo", format!("192.0.2.{last}/32").parse().unwrap()).unwrap();
            }
            netns
        };
        let names = ["BIRD", "FRR", "GoBGP"];
        let places = names.map(place);
        let [bird, frr, gobgp] = [bird(always), frr(always), gobgp(always)];
        let bird = Bird::start(&places[0], "best", &bird);
        let frr = Frr::start(&places[1], "best", &frr);
        let gobgp = GoBgp::start(&places[2], "best", &gobgp);
        let places = [0, 1, 2].map(|place| {
            let open = |neighbor| Speaker::open(&places[place], ends(neighbor));
            (names[place], (0..NEIGHBORS.len()).map(open).collect())
        });
        Self { bird, frr, gobgp, places }
    }

    /// Says all of it to each in an order that follows from the seed, each in another, and returns what
    /// they choose. What was said before is withdrawn first.
    fn judge(&mut self, table: &BTreeMap<String, Vec<Announced>>, seed: u64) -> Vec<Found> {
        let mut replaced = [const { BTreeSet::new() }; 3];
        let mut all: Vec<(&String, &Announced)> = table
            .iter()
            .flat_map(|(prefix, paths)| paths.iter().map(move |path| (prefix, path)))
            .collect();
        for (place, (_, speakers)) in self.places.iter_mut().enumerate() {
            for (prefix, (neighbor, _)) in &all {
                speakers[*neighbor].update(&nlri(prefix), &[], &[]);
            }
            let mut rng = Rng(seed ^ ((place as u64 + 1) << 32));
            rng.shuffle(&mut all);
            for (prefix, (neighbor, attributes)) in &all {
                let speaker = &mut speakers[*neighbor];
                if rng.below(4) == 0 {
                    let other = draw(&mut rng, *neighbor, 0);
                    speaker.update(&[], &other, &nlri(prefix));
                    replaced[place].insert((*prefix).clone());
                }
                speaker.update(&[], attributes, &nlri(prefix));
            }
            for (neighbor, speaker) in speakers.iter_mut().enumerate() {
                let last = nlri(&last_of(neighbor, seed));
                speaker.update(&[], &draw(&mut rng, neighbor, 5), &last);
            }
        }
        let found = self.places.iter().zip(replaced).map(|((judge, _), replaced)| {
            let best = wait_for("the last prefix of each neighbour", || {
                let best = self.best(judge);
                let is_there = |one| best.contains_key(&last_of(one, seed));
                (0..NEIGHBORS.len()).all(is_there).then_some(best)
            });
            Found { judge, best, replaced }
        });
        found.collect()
    }

    /// The neighbour that each prefix is reached by.
    fn best(&self, judge: &str) -> BTreeMap<String, u8> {
        let last = |address: &str| address.rsplit('.').next().unwrap().parse::<u8>().unwrap();
        match judge {
            "BIRD" => {
                let text = self.bird.ask("show route primary");
                let of = |line: &str| {
                    let prefix = line.split_whitespace().next()?;
                    let at = line.split_once("[p")?.1.split_whitespace().next()?;
                    prefix.contains('/').then(|| Some((prefix.to_owned(), at.parse().ok()?)))?
                };
                text.lines().filter_map(of).collect()
            }
            "FRR" => {
                let routes = self.frr.ask("show bgp ipv4 unicast json")["routes"].clone();
                let routes = routes.as_object().cloned().unwrap_or_default();
                let of = |(prefix, paths): (String, serde_json::Value)| {
                    let best =
                        paths.as_array()?.iter().find(|path| path["bestpath"] == true)?.clone();
                    Some((prefix, last(best["peerId"].as_str()?)))
                };
                routes.into_iter().filter_map(of).collect()
            }
            _ => {
                let routes = self.gobgp.ask(&["global", "rib"]);
                let routes = routes.as_object().cloned().unwrap_or_default();
                let of = |(prefix, paths): (String, serde_json::Value)| {
                    let best = paths.as_array()?.iter().find(|path| path["best"] == true)?.clone();
                    Some((prefix, last(best["neighbor-ip"].as_str()?)))
                };
                routes.into_iter().filter_map(of).collect()
            }
        }
    }
}

fn ends(neighbor: usize) -> Ends {
    let (last, asn, id) = NEIGHBORS[neighbor];
    let from = Ipv4Addr::new(192, 0, 2, last);
    Ends { from, to: Ipv4Addr::new(192, 0, 2, 1), asn, id: id.into(), hold_s: HOLD_S }
}

/// The prefix that a neighbour announces last, and nobody else.
fn last_of(neighbor: usize, seed: u64) -> String {
    format!("6.{neighbor}.{seed}.0/24")
}

fn bird(always: bool) -> String {
    let mut text = format!("router id {OWN_ID};\nprotocol device {{}}\n");
    let med = if always { "med metric on" } else { "deterministic med on" };
    for (last, asn, _) in NEIGHBORS {
        let _ = writeln!(
            text,
            "protocol bgp p{last} {{ local 192.0.2.1 as {OWN_AS}; neighbor 192.0.2.{last} as {asn}; \
             multihop; passive; hold time {HOLD_S}; {med}; prefer older off; \
             ipv4 {{ import all; export none; }}; }}"
        );
    }
    text
}

fn frr(always: bool) -> String {
    let mut text = format!(
        "router bgp {OWN_AS}\n bgp router-id {OWN_ID}\n no bgp ebgp-requires-policy\n \
         bgp bestpath compare-routerid\n bgp deterministic-med\n"
    );
    if always {
        text.push_str(" bgp always-compare-med\n");
    }
    for (last, asn, _) in NEIGHBORS {
        let _ = writeln!(text, " neighbor 192.0.2.{last} remote-as {asn}");
        let _ = writeln!(text, " neighbor 192.0.2.{last} passive");
        let _ = writeln!(text, " neighbor 192.0.2.{last} timers {} {HOLD_S}", HOLD_S / 3);
        if asn != OWN_AS {
            let _ = writeln!(text, " neighbor 192.0.2.{last} ebgp-multihop 255");
            let _ = writeln!(text, " neighbor 192.0.2.{last} disable-connected-check");
        }
    }
    text
}

fn gobgp(always: bool) -> String {
    let mut text = format!(
        "[global.config]\nas = {OWN_AS}\nrouter-id = \"{OWN_ID}\"\nlocal-address-list = [\"192.0.2.1\"]\n\
         [global.route-selection-options.config]\nexternal-compare-router-id = true\n\
         always-compare-med = {always}\n"
    );
    for (last, asn, _) in NEIGHBORS {
        let _ = write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"192.0.2.{last}\"\npeer-as = {asn}\n\
             [neighbors.transport.config]\npassive-mode = true\nlocal-address = \"192.0.2.1\"\n\
             [neighbors.timers.config]\nhold-time = {HOLD_S}\nkeepalive-interval = {}\n\
             [neighbors.ebgp-multihop.config]\nenabled = {}\nmultihop-ttl = 255\n\
             [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n",
            HOLD_S / 3,
            asn != OWN_AS
        );
    }
    text
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

const OWN_AS: u32 = 65_000;

/// Longer than the test. Without any, GoBGP takes each write for one that comes too late.
const HOLD_S: u16 = 3600;

const OWN_ID: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

/// Of the table, and of the first order.
const SEED: u64 = 17;

const ROUNDS: u64 = 3;

const PREFIXES: usize = 600;
