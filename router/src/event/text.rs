//! One line for an operator about each event: the subject first, then what happened.

use std::fmt;

use super::{EventKind, MoveCause, Resort};

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bfd { .. }
            | Self::BfdPace { .. }
            | Self::Bgp { .. }
            | Self::Lease { .. }
            | Self::Proof { .. } => self.of_neighbor(f),
            Self::Carrier { port, up } => {
                write!(f, "port {port}: carrier {}", if *up { "up" } else { "down" })
            }
            Self::Damped { .. }
            | Self::Doubted { .. }
            | Self::FirstPacket { .. }
            | Self::Site { .. } => self.of_leg(f),
            Self::Device { port, reason, .. } => write!(f, "port {port}: {reason}"),
            Self::Block { .. }
            | Self::Disable { .. }
            | Self::Drain { .. }
            | Self::Playbook { .. }
            | Self::RouterDrain { .. } => self.command(f),
            Self::Engine { port, worker, engine, reason } => {
                write!(f, "port {port}: worker {worker} falls back to {engine} ({reason})")
            }
            Self::Publish { groups, prefixes, refused, took_us } => {
                write!(f, "published: {groups} groups, {prefixes} prefixes ({took_us} us)")?;
                match refused {
                    0 => Ok(()),
                    _ => write!(f, "; {refused} prefixes are not installed: no room"),
                }
            }
            Self::ReaderStalled { worker, stalled_ms } => {
                write!(f, "worker {worker}: stalled for {stalled_ms} ms, updates are held back")
            }
            Self::Ready => f.write_str("ready"),
            Self::Reload { by, changes } if changes.is_empty() => {
                write!(f, "reloaded by {by}: no change")
            }
            Self::Reload { by, changes } => write!(f, "reloaded by {by}: {}", changes.join("; ")),
            Self::Select { service, family, from, to, resort, cause, member } => {
                write!(f, "{service}/{}: {} (", family.label(), moved(from, to))?;
                let joined = from.iter().all(|site| to.contains(site));
                match (cause, resort) {
                    // Nobody is better: they are left.
                    (MoveCause::CheaperUp, Some(resort)) => f.write_str(resort.text()),
                    (MoveCause::CheaperUp, _) if from.is_empty() => write!(f, "{member} is up"),
                    (MoveCause::CheaperUp, _) if joined => write!(f, "{member} is as good"),
                    (MoveCause::CheaperUp, _) => write!(f, "{member} is better"),
                    (MoveCause::Configuration, _) => write!(f, "configuration: {member}"),
                    // It has other links, or was passed by because the lost one was its nearest.
                    (MoveCause::MemberDied, _) if to.contains(member) => {
                        write!(f, "{member} lost a link")
                    }
                    (MoveCause::MemberDied, _) => write!(f, "{member} went down"),
                    (MoveCause::Operator, _) => write!(f, "operator: {member}"),
                }?;
                match resort.filter(|_| *cause != MoveCause::CheaperUp) {
                    Some(resort) => write!(f, "; {})", resort.text()),
                    None => f.write_str(")"),
                }
            }
        }
    }
}

impl EventKind {
    /// What became of a leg; nothing for what is of none.
    fn of_leg(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damped { service, site, family, hold_ms } => {
                let family = family.label();
                write!(f, "{service}/{family}: {site} is held down (flapped, hold {hold_ms} ms)")
            }
            Self::Doubted { service, site, family, port, doubted, hold_ms } => {
                write!(f, "{service}/{}: {site} by {port} ", family.label())?;
                match doubted {
                    true => write!(
                        f,
                        "is used on for {hold_ms} ms (checks fail at too many sites at once)"
                    ),
                    false => f.write_str("is not doubted any more"),
                }
            }
            Self::FirstPacket { service, site, family, worker } => {
                let family = family.label();
                write!(f, "{service}/{family}: first packet to {site} (worker {worker})")
            }
            Self::Site { service, site, family, port, up, reason, .. } => {
                let (family, state) = (family.label(), if *up { "up" } else { "down" });
                write!(f, "{service}/{family}: {site} ")?;
                // Most sites have one link, by a port of the same name.
                if port != site {
                    write!(f, "by {port} ")?;
                }
                write!(f, "is {state} ({reason})")
            }
            _ => Ok(()),
        }
    }

    /// What became of sessions and announcements; nothing for anything else.
    fn of_neighbor(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bfd { neighbor, state, reason, .. } => {
                write!(f, "bfd {neighbor}: {state} ({reason})")
            }
            Self::BfdPace { neighbor, factor: 1, .. } => {
                write!(f, "bfd {neighbor}: intervals are as configured again")
            }
            Self::BfdPace { neighbor, factor, late_us, .. } => {
                write!(f, "bfd {neighbor}: a packet was {late_us} us late, intervals are ")?;
                write!(f, "{factor} times longer")
            }
            Self::Bgp { neighbor, up: true, .. } => write!(f, "bgp {neighbor}: established"),
            Self::Bgp { neighbor, reason, .. } => write!(f, "bgp {neighbor}: down ({reason})"),
            Self::Lease { neighbor, reason, .. } => write!(f, "bgp {neighbor}: {reason}"),
            Self::Proof { prefix, port, proven: true, waited_ms } => {
                write!(f, "{prefix}: proven by port {port} (after {waited_ms} ms)")
            }
            Self::Proof { prefix, port, waited_ms, .. } => write!(
                f,
                "{prefix}: announced by port {port} although no site answered from there (waited \
                 {waited_ms} ms)"
            ),
            _ => Ok(()),
        }
    }

    /// What an operator did; nothing for what is no command.
    fn command(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { by, prefix, blocked } => {
                let done = if *blocked { "blocked" } else { "unblocked" };
                write!(f, "{prefix}: {done} by {by}")
            }
            Self::Drain { by, site, drained: true } => write!(f, "site {site}: drained by {by}"),
            Self::Drain { by, site, .. } => write!(f, "site {site}: undrained by {by}"),
            Self::Disable { by, site, disabled } => {
                let done = if *disabled { "disabled" } else { "enabled" };
                write!(f, "site {site}: {done} by {by}")
            }
            Self::Playbook { by, playbook, applied } => {
                let done = if *applied { "applied" } else { "undone" };
                write!(f, "playbook {playbook}: {done} by {by}")
            }
            Self::RouterDrain { by, drained: true } => {
                write!(f, "router: drained by {by}, announcements are taken back")
            }
            Self::RouterDrain { by, .. } => write!(f, "router: undrained by {by}"),
            _ => Ok(()),
        }
    }
}

impl Resort {
    /// For people: what is left.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Damped => "only damped sites are left",
            Self::Covering => "no site is left: what covers the prefix is used",
            Self::Drained => "only drained sites are left",
            Self::NextRoute => "no site is left: the next best route to the prefix is used",
        }
    }
}

/// What became of the sites that serve: each of them is named once.
fn moved(from: &[String], to: &[String]) -> String {
    let only = |these: &[String], others: &[String]| {
        let these = these.iter().filter(|site| !others.contains(site));
        these.cloned().collect::<Vec<_>>().join(", ")
    };
    let (gone, come) = (only(from, to), only(to, from));
    let stay: Vec<String> = to.iter().filter(|site| from.contains(site)).cloned().collect();
    let stay = stay.join(", ");
    match (gone.is_empty(), come.is_empty(), stay.is_empty()) {
        (true, true, true) => "still no site serves".to_owned(),
        (true, true, false) => format!("{stay} serves on"),
        (true, false, true) => format!("served by {come}"),
        (false, true, true) => format!("no site serves, {gone} did"),
        (false, false, true) => format!("moved {gone} -> {come}"),
        (true, false, false) => format!("{come} serves beside {stay}"),
        (false, true, false) => format!("{gone} serves no longer, {stay} does"),
        (false, false, false) => format!("moved {gone} -> {come}, beside {stay}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Family;

    #[test]
    fn a_message_names_its_subject_first() {
        let (service, site) = ("dns".to_owned(), "fra".to_owned());
        let family = Family::Ipv4;
        let leg = |port: &str, up, reason: &str| EventKind::Site {
            service: "dns".into(),
            site: "fra".into(),
            family,
            port: port.into(),
            up,
            reason: reason.into(),
            stored_ns: 0,
        };
        for (kind, want) in [
            (EventKind::Carrier { port: "fra".into(), up: false }, "port fra: carrier down"),
            (
                EventKind::Damped {
                    service: service.clone(),
                    site: site.clone(),
                    family,
                    hold_ms: 9,
                },
                "dns/ipv4: fra is held down (flapped, hold 9 ms)",
            ),
            (
                EventKind::Drain { by: "uid 0".into(), site: site.clone(), drained: false },
                "site fra: undrained by uid 0",
            ),
            (
                EventKind::Block { by: "uid 0".into(), prefix: "::/0".into(), blocked: true },
                "::/0: blocked by uid 0",
            ),
            (
                EventKind::Playbook { by: "uid 0".into(), playbook: "away".into(), applied: false },
                "playbook away: undone by uid 0",
            ),
            (
                EventKind::Proof {
                    prefix: "::/0".into(),
                    port: "up".into(),
                    proven: false,
                    waited_ms: 9,
                },
                "::/0: announced by port up although no site answered from there (waited 9 ms)",
            ),
            (
                EventKind::RouterDrain { by: "uid 0".into(), drained: false },
                "router: undrained by uid 0",
            ),
            (
                EventKind::Engine {
                    port: "fra".into(),
                    worker: 1,
                    engine: "epoll".into(),
                    reason: "io_uring failed".into(),
                },
                "port fra: worker 1 falls back to epoll (io_uring failed)",
            ),
            (
                EventKind::FirstPacket { service, site, family, worker: 1 },
                "dns/ipv4: first packet to fra (worker 1)",
            ),
            (leg("fra", false, "probe silent"), "dns/ipv4: fra is down (probe silent)"),
            (leg("uplink", true, "ready"), "dns/ipv4: fra by uplink is up (ready)"),
        ] {
            assert_eq!(kind.to_string(), want);
        }
    }

    /// Each site is named once, and what is said of the member is so.
    #[test]
    fn a_move_says_who_serves_and_the_reason_that_holds() {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let (cheaper, died, damped) =
            (MoveCause::CheaperUp, MoveCause::MemberDied, Some(Resort::Damped));
        for (from, to, cause, member, resort, want) in [
            ("ams", "fra", cheaper, "fra", None, "moved ams -> fra (fra is better)"),
            ("", "ams fra", cheaper, "fra", None, "served by ams, fra (fra is up)"),
            ("fra", "", died, "fra", None, "no site serves, fra did (fra went down)"),
            ("ams", "ams fra", cheaper, "fra", None, "fra serves beside ams (fra is as good)"),
            (
                "ams fra",
                "fra",
                cheaper,
                "fra",
                None,
                "ams serves no longer, fra does (fra is better)",
            ),
            (
                "ams fra",
                "fra par",
                died,
                "ams",
                None,
                "moved ams -> par, beside fra (ams went down)",
            ),
            ("ams", "ams fra", died, "ams", None, "fra serves beside ams (ams lost a link)"),
            ("", "fra", cheaper, "fra", damped, "served by fra (only damped sites are left)"),
            (
                "ams",
                "fra",
                died,
                "ams",
                damped,
                "moved ams -> fra (ams went down; only damped sites are left)",
            ),
            ("fra", "fra", cheaper, "fra", damped, "fra serves on (only damped sites are left)"),
        ] {
            let kind = EventKind::Select {
                service: "dns".into(),
                family: Family::Ipv4,
                from: names(from),
                to: names(to),
                resort,
                cause,
                member: member.into(),
            };
            assert_eq!(kind.to_string(), format!("dns/ipv4: {want}"));
        }
    }
}
