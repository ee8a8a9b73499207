//! Every message of ExaBGP's own tests (`testdata/bgp/exabgp.txt.gz`) read as the text beside it says: the
//! JSON that ExaBGP makes of it where there is one, else the command that made ExaBGP send it. What is about
//! other families than IPv4 and IPv6 unicast must be no route and no error.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use nearhop::bgp::{
    AttributeStore, Attributes, Capability, Frame, MESSAGE_MAX, Message, Nlri, PerFamily, Update,
    UpdateContext,
};
use serde_json::Value;

#[test]
fn every_message_is_read_as_its_text_says() {
    let mut text = String::new();
    GzDecoder::new(CORPUS).read_to_string(&mut text).unwrap();
    let (mut kinds, mut wrong) = ([0; 3], Vec::new());
    for case in cases(&text) {
        let place = format!("{}: {}", case.file, case.command);
        let Some(bytes) = bytes_of(&case.raw) else { continue };
        let context = context_of(&case);
        let frame = Frame::first(&bytes, MESSAGE_MAX).expect(&place).expect(&place);
        assert_eq!(frame.message.len(), bytes.len(), "{place}");
        let message = Message::decode(frame, &context, &mut AttributeStore::default());
        if case.command.contains("ipv6 unicast") && case.command.contains("next-hop 170.170") {
            // An IPv4 next hop of IPv6 prefixes is in no RFC: section 7.11 of RFC 7606.
            let error = message.expect_err(&place);
            assert_eq!((error.notification.code, error.notification.subcode), (3, 9), "{place}");
            kinds[2] += 1;
            continue;
        }
        match message.unwrap_or_else(|error| panic!("{place}: {error}")) {
            Message::Update(update) => {
                let expected = case.expected();
                let said = said(&update);
                if said != expected {
                    wrong.push(format!("{place}\n  said {said:?}\n  text {expected:?}"));
                }
                kinds[usize::from(!expected.is_empty())] += 1;
            }
            Message::Open(open) => {
                opens(&case, &open);
                kinds[2] += 1;
            }
            Message::Notification(notification) => {
                assert_eq!((case.file, notification.code), ("unknown-message.ci", 1));
                kinds[2] += 1;
            }
            other => panic!("{place}: {other:?}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Updates about other families or with nothing to compare, updates compared, and the rest.
    assert_eq!(kinds, [78, 97, 6], "no message is left out");
}

/// A message, and what is said of it.
#[derive(Debug, Default)]
struct Case<'a> {
    file: &'a str,
    command: &'a str,
    raw: String,
    json: Option<&'a str>,
}

fn cases(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    let (mut file, mut command) = ("", "");
    for line in text.lines().filter(|line| line.starts_with("## ") || !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("## ") {
            (file, command) = (name, "");
            continue;
        }
        let mut parts = line.splitn(3, ':');
        let (_, kind, rest) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        match kind {
            Some("cmd") => command = rest,
            Some("raw") => {
                let raw = rest.chars().filter(char::is_ascii_hexdigit).collect();
                cases.push(Case { file, command, raw, json: None });
                command = "";
            }
            Some("json") => cases.last_mut().expect("a message before its text").json = Some(rest),
            _ => {}
        }
    }
    cases
}

/// `None` if it is only a part of a message, as that of some other families is.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    hex.starts_with(&"F".repeat(32)).then(|| (0..hex.len()).step_by(2).filter_map(pair).collect())
}

/// What the sessions of ExaBGP's tests agreed on.
fn context_of(case: &Case<'_>) -> UpdateContext {
    let path_ids = case.command.contains("path-information") || case.file == "conf-addpath.ci";
    UpdateContext {
        four_octet_as: case.file != "conf-no-asn4.ci",
        internal: true,
        first_as: None,
        families: PerFamily::BOTH,
        path_ids: PerFamily::with(|_| path_ids),
        extended_next_hop: true,
        link_local_next_hop: true,
    }
}

impl Case<'_> {
    /// One line for each fact.
    fn expected(&self) -> BTreeSet<String> {
        match self.json {
            Some(json) => of_json(&serde_json::from_str(json).expect("JSON")),
            None => of_command(self.command),
        }
    }
}

fn of_json(json: &Value) -> BTreeSet<String> {
    let update = &json["neighbor"]["message"]["update"];
    let mut facts = BTreeSet::new();
    let mut unicast = false;
    let hops = |family: &str| update["announce"][family].as_object().into_iter().flatten();
    // Flags that make an unknown attribute a well-known one: RFC 4271, section 6.3.
    let flags = ["attribute-0x99-0x60", "attribute-0x99-0x70"];
    let is_withdrawn = flags.iter().any(|name| update["attribute"].get(name).is_some());
    let mut ipv4 = hops("ipv4 unicast");
    if let Some((_, nlri)) = ipv4.find(|(next_hop, _)| is_withdrawn || is_unusable(next_hop)) {
        let nlri = nlri.as_array().into_iter().flatten();
        return nlri.map(|nlri| format!("withdraw {}", of_nlri(nlri))).collect();
    }
    for family in ["ipv4 unicast", "ipv6 unicast"] {
        for (next_hop, nlri) in hops(family) {
            for nlri in nlri.as_array().into_iter().flatten() {
                let next_hop = next_hop.parse::<std::net::IpAddr>().expect("a next hop");
                facts.insert(format!("announce {} {next_hop}", of_nlri(nlri)));
                unicast = true;
            }
        }
        for nlri in update["withdraw"][family].as_array().into_iter().flatten() {
            facts.insert(format!("withdraw {}", of_nlri(nlri)));
        }
    }
    if !unicast {
        return facts;
    }
    for (name, value) in update["attribute"].as_object().into_iter().flatten() {
        let list = || value.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let joined = |parts: &Value| {
            let parts = parts.as_array().expect("numbers").iter().map(ToString::to_string);
            parts.collect::<Vec<_>>().join(":")
        };
        let text = match name.as_str() {
            "community" | "large-community" => list().map(joined).collect::<Vec<_>>().join(" "),
            "extended-community" => {
                list().map(|one| one["value"].to_string()).collect::<Vec<_>>().join(" ")
            }
            "as-path" => value["0"]["value"]
                .as_array()
                .expect("a path")
                .iter()
                .map(Value::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            "cluster-list" => {
                list().map(|id| id.as_str().expect("an id")).collect::<Vec<_>>().join(" ")
            }
            _ => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        };
        facts.insert(format!("{name} {text}"));
    }
    facts
}

fn of_nlri(nlri: &Value) -> String {
    let id = nlri["path-information"].as_str().map(|id| format!(" path {id}"));
    format!("{}{}", nlri["nlri"].as_str().expect("a prefix"), id.unwrap_or_default())
}

/// The commands of ExaBGP that are in the corpus without JSON.
fn of_command(command: &str) -> BTreeSet<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|other| *other == word)?;
        let rest = &words[at + 1..];
        let is_list = rest.first()?.starts_with('[');
        let end = if is_list { rest.iter().position(|other| other.ends_with(']'))? } else { 0 };
        let text = rest[..=end].join(" ");
        Some(text.trim_matches(['[', ']']).to_owned())
    };
    let mut facts = BTreeSet::new();
    let prefix = match words[..] {
        ["announce", "eor", family @ ("ipv4" | "ipv6"), "unicast"] => {
            facts.insert(format!("end-of-rib {family}"));
            return facts;
        }
        ["announce", "route", prefix, ..] | ["announce", "ipv6", "unicast", prefix, ..] => prefix,
        _ => return facts,
    };
    let next_hop = after("next-hop").expect("a next hop");
    if is_unusable(&next_hop) {
        facts.insert(format!("withdraw {prefix}"));
        return facts;
    }
    facts.insert(format!("announce {prefix} {next_hop}"));
    let names = ["origin", "as-path", "med", "community", "aggregator"];
    for name in names.into_iter().chain(["local-preference", "extended-community"]) {
        let text = match (name, after(name)) {
            (_, None) => continue,
            ("extended-community", Some(text)) => match text.as_str() {
                "target:72:1" => 0x0002_0048_0000_0001_u64.to_string(),
                other => panic!("{other}"),
            },
            (_, Some(text)) => text,
        };
        facts.insert(format!("{name} {text}"));
    }
    if words.contains(&"atomic-aggregate") {
        facts.insert("atomic-aggregate true".into());
    }
    facts
}

/// What we read, in the same words.
fn said(update: &Update) -> BTreeSet<String> {
    let mut facts: BTreeSet<String> = BTreeSet::new();
    for announced in &update.announced {
        for nlri in &announced.nlri {
            let next_hop = announced.attributes.next_hop.addr;
            facts.insert(format!("announce {} {next_hop}", nlri_text(*nlri)));
        }
        facts.extend(attribute_facts(&announced.attributes));
    }
    facts.extend(update.withdrawn.iter().map(|nlri| format!("withdraw {}", nlri_text(*nlri))));
    facts.extend(update.end_of_rib.map(|family| format!("end-of-rib {}", family.label())));
    facts.extend(update.faults.iter().filter(|fault| !is_expected(fault)).map(ToString::to_string));
    facts
}

/// ExaBGP's tests have next hops that no packet can be sent to. RFC 7606 makes withdrawals of them.
fn is_unusable(next_hop: &str) -> bool {
    matches!(next_hop, "::1" | "127.0.0.1" | "255.255.255.255")
}

fn is_expected(fault: &nearhop::bgp::Fault) -> bool {
    ["cannot be used here", "is no address of a host", "is unknown and not optional"]
        .iter()
        .any(|why| fault.why.ends_with(why))
}

fn nlri_text(nlri: Nlri) -> String {
    match nlri.path_id {
        0 => nlri.prefix.to_string(),
        id => format!("{} path {}", nlri.prefix, std::net::Ipv4Addr::from(id)),
    }
}

fn attribute_facts(attributes: &Attributes) -> Vec<String> {
    fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
        values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
    }
    let mut facts = vec![format!("origin {}", attributes.origin.label())];
    let mut add = |name: &str, text: String| {
        if !text.is_empty() {
            facts.push(format!("{name} {text}"));
        }
    };
    add("as-path", attributes.as_path.to_string());
    add("med", list(attributes.med));
    add("local-preference", list(attributes.local_pref));
    let numbers = |community: &nearhop::bgp::Community| {
        let (high, low) = community.halves();
        format!("{high}:{low}")
    };
    add("community", list(attributes.communities.iter().map(numbers)));
    add("large-community", list(attributes.large()));
    add("extended-community", list(attributes.extended().iter().map(|community| community.0)));
    add("originator-id", list(attributes.originator_id()));
    add("cluster-list", list(attributes.cluster_list()));
    let aggregator = attributes.aggregator().map(|by| format!("{}:{}", by.asn, by.router_id));
    add("aggregator", list(aggregator));
    add("atomic-aggregate", list(attributes.atomic_aggregate.then_some("true")));
    for unknown in attributes.unknown() {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
        let digits = |octet: &u8| [digit(octet >> 4), digit(octet & 15)];
        let hex: String = unknown.value.iter().flat_map(digits).flatten().collect();
        add(
            &format!("attribute-{:#04x}-{:#04x}", unknown.code, unknown.flags | 0x20),
            format!("0x{hex}"),
        );
    }
    facts
}

fn opens(case: &Case<'_>, open: &nearhop::bgp::Open) {
    assert_eq!((open.as_field, open.hold_time_s), (65_533, 180), "{}", case.file);
    assert!(open.capabilities.contains(&Capability::FourOctetAs(65_533)), "{}", case.file);
    let expected = match case.file {
        "conf-cap-link-local-nexthop.ci" => Capability::LinkLocalNextHop.code(),
        "conf-hostname.ci" => 73,
        _ => 75,
    };
    assert!(open.capabilities.iter().any(|one| one.code() == expected), "{}: {open:?}", case.file);
}

static CORPUS: &[u8] = include_bytes!("../testdata/bgp/exabgp.txt.gz");
