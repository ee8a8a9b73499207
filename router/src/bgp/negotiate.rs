//! What both sides of a session agree on, from their OPENs.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::time::Duration;

use super::family::FAMILIES;
use super::frame::{EXTENDED_MAX, MESSAGE_MAX};
use super::session::SessionConfig;
use super::{
    AddPath, Capability, MessageError, Notification, Open, Packing, PerFamily, Role, UpdateContext,
    codes,
};
use crate::ids::Family;

/// What both sides of a session agreed on.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub struct Negotiated {
    /// The neighbour's AS.
    pub remote_as: u32,
    /// The neighbour's BGP identifier.
    pub remote_id: Ipv4Addr,
    /// Both are in one AS.
    pub internal: bool,
    /// Silence for so long ends the session; zero is never.
    pub hold_time: Duration,
    /// AS numbers have four octets.
    pub four_octet_as: bool,
    /// Families that are exchanged.
    pub families: PerFamily<bool>,
    /// Directions in which several paths to a prefix go, from our point of view.
    pub add_path: PerFamily<AddPath>,
    /// IPv4 prefixes may have IPv6 next hops.
    pub extended_next_hop: bool,
    /// Next hops may be only link-local.
    pub link_local_next_hop: bool,
    /// Octets of the longest message that may come.
    pub receive_max: usize,
    /// Octets of the longest message that may be sent.
    pub send_max: usize,
    /// The neighbour takes ROUTE-REFRESH.
    pub route_refresh: bool,
    /// Both mark where refreshes begin and end (RFC 7313).
    pub enhanced_refresh: bool,
    /// The neighbour will say when it has sent all of its routes (RFC 4724).
    pub sends_end_of_rib: bool,
    /// What the neighbour is to us, as configured here or as it says (RFC 9234).
    pub remote_role: Option<Role>,
}

/// The OPEN that we send. `bare` is without capabilities, for neighbours that do not know them
/// (RFC 5492, section 3).
pub fn own_open(config: &SessionConfig, bare: bool) -> Open {
    let mut capabilities = Vec::new();
    if !bare {
        capabilities.extend(config.families.set().map(Capability::Multiprotocol));
        capabilities.push(Capability::RouteRefresh);
        if config.extended_next_hop && config.families.ipv4 {
            capabilities.push(Capability::ExtendedNextHop);
        }
        if config.extended_message {
            capabilities.push(Capability::ExtendedMessage);
        }
        if !is_internal_only(config) {
            capabilities.extend(config.role.map(Capability::Role));
        }
        capabilities.push(Capability::FourOctetAs(config.local_as));
        let add_path: Vec<_> = offered_paths(config).collect();
        if !add_path.is_empty() {
            capabilities.push(Capability::AddPath(add_path));
        }
        capabilities.push(Capability::EnhancedRouteRefresh);
        if config.link_local_next_hop {
            capabilities.push(Capability::LinkLocalNextHop);
        }
    }
    Open {
        as_field: u16::try_from(config.local_as).unwrap_or(AS_TRANS),
        hold_time_s: config.hold_time_s,
        router_id: config.router_id,
        capabilities,
    }
}

/// What follows from the neighbour's OPEN, ours having been `bare` or not; or why there is no session (RFC
/// 4271, section 6.2; RFC 5492; RFC 6286; RFC 9234, section 4.2).
pub fn negotiate(
    config: &SessionConfig,
    bare: bool,
    theirs: &Open,
) -> Result<Negotiated, MessageError> {
    let remote_as = theirs.asn();
    check_fixed_part(config, theirs, remote_as)?;
    let internal = remote_as == config.local_as;
    let remote_role = match config.role.filter(|_| !internal && !bare) {
        Some(role) => Some(role_of_neighbour(role, config.strict_role, theirs)?),
        None => None,
    };
    let says = |capability: &Capability| !bare && theirs.capabilities.contains(capability);
    let families = common_families(config, bare, theirs)?;
    let add_path = PerFamily::with(|family| {
        let ours = if bare { AddPath::default() } else { *config.add_path.of(family) };
        let theirs = their_paths(theirs, family);
        let is_spoken = *families.of(family);
        AddPath {
            send: is_spoken && ours.send && theirs.receive,
            receive: is_spoken && ours.receive && theirs.send,
        }
    });
    let is_four = |capability: &Capability| matches!(capability, Capability::FourOctetAs(_));
    let is_restart = |one: &Capability| matches!(one, Capability::GracefulRestart { .. });
    let extended = says(&Capability::ExtendedMessage) && config.extended_message;
    let max = if extended { EXTENDED_MAX } else { MESSAGE_MAX };
    Ok(Negotiated {
        remote_as,
        remote_id: theirs.router_id,
        internal,
        hold_time: Duration::from_secs(config.hold_time_s.min(theirs.hold_time_s).into()),
        four_octet_as: !bare && theirs.capabilities.iter().any(is_four),
        families,
        add_path,
        extended_next_hop: says(&Capability::ExtendedNextHop) && config.extended_next_hop,
        link_local_next_hop: says(&Capability::LinkLocalNextHop) && config.link_local_next_hop,
        // Whoever offers it has to be ready at once.
        receive_max: if config.extended_message && !bare { EXTENDED_MAX } else { MESSAGE_MAX },
        send_max: max,
        route_refresh: says(&Capability::RouteRefresh),
        enhanced_refresh: says(&Capability::EnhancedRouteRefresh),
        sends_end_of_rib: theirs.capabilities.iter().any(is_restart),
        remote_role,
    })
}

impl Negotiated {
    /// With a neighbour in another AS, by the usual capabilities.
    #[cfg(test)]
    pub(crate) fn for_tests(remote_as: u32, remote_id: Ipv4Addr) -> Self {
        Self {
            remote_as,
            remote_id,
            internal: false,
            hold_time: Duration::from_secs(90),
            four_octet_as: true,
            families: PerFamily::BOTH,
            add_path: PerFamily::with(|_| AddPath::default()),
            extended_next_hop: false,
            link_local_next_hop: false,
            receive_max: MESSAGE_MAX,
            send_max: MESSAGE_MAX,
            route_refresh: true,
            enhanced_refresh: false,
            sends_end_of_rib: true,
            remote_role: None,
        }
    }

    /// How UPDATEs from the neighbour are read.
    pub fn update_context(&self, config: &SessionConfig) -> UpdateContext {
        UpdateContext {
            four_octet_as: self.four_octet_as,
            internal: self.internal,
            first_as: (config.enforce_first_as && !self.internal).then_some(self.remote_as),
            families: self.families,
            path_ids: PerFamily::with(|family| self.add_path.of(family).receive),
            extended_next_hop: self.extended_next_hop,
            link_local_next_hop: self.link_local_next_hop || config.link_scoped,
        }
    }

    /// How UPDATEs to the neighbour are written.
    pub fn packing(&self) -> Packing {
        Packing {
            four_octet_as: self.four_octet_as,
            path_ids: PerFamily::with(|family| self.add_path.of(family).send),
            link_local_next_hop: self.link_local_next_hop,
            max_len: self.send_max,
        }
    }
}

fn check_fixed_part(
    config: &SessionConfig,
    theirs: &Open,
    remote_as: u32,
) -> Result<(), MessageError> {
    let refuse =
        |kind, why: String| Err(MessageError { notification: Notification::new(kind), why });
    let is_none = remote_as == 0 || remote_as == u32::from(AS_TRANS);
    if is_none || !config.remote_as.allows(remote_as, config.local_as) {
        let why =
            format!("the neighbour is in AS {remote_as}; configured is {:?}", config.remote_as);
        return refuse(codes::BAD_PEER_AS, why);
    }
    let id = theirs.router_id;
    // Between ASes two may have the same (RFC 6286).
    if id.is_unspecified() || id == config.router_id && remote_as == config.local_as {
        return refuse(codes::BAD_IDENTIFIER, format!("BGP identifier {id} of the neighbour"));
    }
    if matches!(theirs.hold_time_s, 1 | 2) {
        let why = format!("hold time of {} s; 0, or at least 3 is allowed", theirs.hold_time_s);
        return refuse(codes::BAD_HOLD_TIME, why);
    }
    Ok(())
}

/// Families that both offer. Whoever offers none speaks IPv4 (RFC 4760, section 8).
fn common_families(
    config: &SessionConfig,
    bare: bool,
    theirs: &Open,
) -> Result<PerFamily<bool>, MessageError> {
    let offers_any = theirs.capabilities.iter().any(|one| one.code() == MULTIPROTOCOL);
    let ours = if bare { config.bare_families() } else { config.families };
    let common = PerFamily::with(|family| {
        let offered = if offers_any && !bare {
            theirs.capabilities.contains(&Capability::Multiprotocol(family))
        } else {
            family == Family::Ipv4
        };
        offered && *ours.of(family)
    });
    if common.set().next().is_some() {
        return Ok(common);
    }
    // The data is the list of what is missing (RFC 5492, section 5).
    let mut data = Vec::new();
    for family in config.families.set() {
        let value = Capability::Multiprotocol(family).value();
        data.extend_from_slice(&[MULTIPROTOCOL, value.len() as u8]);
        data.extend_from_slice(&value);
    }
    Err(MessageError {
        notification: Notification::with(codes::UNSUPPORTED_CAPABILITY, data),
        why: "the neighbour speaks none of the families that are configured".into(),
    })
}

/// RFC 9234, section 4.2.
fn role_of_neighbour(ours: Role, strict: bool, theirs: &Open) -> Result<Role, MessageError> {
    let refuse = |why: String| {
        Err(MessageError { notification: Notification::new(codes::ROLE_MISMATCH), why })
    };
    let mut said = theirs.capabilities.iter().filter(|one| one.code() == ROLE);
    let Some(first) = said.next() else {
        if strict {
            return refuse("the neighbour does not say its role, and has to".into());
        }
        return Ok(ours.counterpart());
    };
    if said.any(|other| other != first) {
        return refuse("the neighbour says several roles".into());
    }
    match first {
        Capability::Role(role) if *role == ours.counterpart() => Ok(*role),
        Capability::Role(role) => refuse(format!(
            "the neighbour says it is our {role}; to a {ours} it can only be a {}",
            ours.counterpart()
        )),
        other => refuse(format!("role {:?} is unknown", other.value())),
    }
}

fn is_internal_only(config: &SessionConfig) -> bool {
    use super::session::RemoteAs;
    match config.remote_as {
        RemoteAs::Internal => true,
        RemoteAs::Exactly(asn) => asn == config.local_as,
        RemoteAs::Any | RemoteAs::External | RemoteAs::OneOf(_) => false,
    }
}

fn offered_paths(config: &SessionConfig) -> impl Iterator<Item = (Family, AddPath)> {
    let offered = |family| (family, *config.add_path.of(family));
    let spoken = FAMILIES.into_iter().filter(|family| *config.families.of(*family));
    spoken.map(offered).filter(|(_, add_path)| add_path.send || add_path.receive)
}

/// The last mention of a family counts (RFC 7911, section 4).
fn their_paths(theirs: &Open, family: Family) -> AddPath {
    let lists = theirs.capabilities.iter().filter_map(|capability| match capability {
        Capability::AddPath(list) => Some(list),
        _ => None,
    });
    let mut backwards = lists.flatten().rev();
    let last = backwards.find(|(other, _)| *other == family);
    last.map(|(_, add_path)| *add_path).unwrap_or_default()
}

/// In place of an AS number that needs four octets (RFC 6793).
const AS_TRANS: u16 = 23_456;

/// Codes of capabilities.
const MULTIPROTOCOL: u8 = 1;
const ROLE: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::session::RemoteAs;

    fn config() -> SessionConfig {
        SessionConfig::new(65_001, Ipv4Addr::new(10, 0, 0, 1), RemoteAs::Exactly(65_002))
    }

    fn other() -> SessionConfig {
        SessionConfig::new(65_002, Ipv4Addr::new(10, 0, 0, 2), RemoteAs::Exactly(65_001))
    }

    fn theirs(change: impl FnOnce(&mut SessionConfig)) -> Open {
        let mut other = other();
        change(&mut other);
        own_open(&other, false)
    }

    #[test]
    fn what_both_offer_is_agreed_on() {
        let agreed = negotiate(&config(), false, &theirs(|_| {})).unwrap();
        assert_eq!((agreed.remote_as, agreed.remote_id.octets()[3]), (65_002, 2));
        assert!(agreed.four_octet_as && agreed.route_refresh && agreed.enhanced_refresh);
        assert_eq!((agreed.send_max, agreed.receive_max), (EXTENDED_MAX, EXTENDED_MAX));
        assert_eq!(agreed.families, PerFamily::BOTH);
        assert_eq!(agreed.hold_time, Duration::from_secs(90));
        assert!(!agreed.extended_next_hop && !agreed.link_local_next_hop);
        let shorter = theirs(|other| other.hold_time_s = 9);
        let hold_time = negotiate(&config(), false, &shorter).unwrap().hold_time;
        assert_eq!(hold_time, Duration::from_secs(9));
        let none = theirs(|other| other.hold_time_s = 0);
        assert_eq!(negotiate(&config(), false, &none).unwrap().hold_time, Duration::ZERO);
    }

    #[test]
    fn what_one_does_not_offer_is_not() {
        let short = theirs(|other| other.extended_message = false);
        let agreed = negotiate(&config(), false, &short).unwrap();
        assert_eq!((agreed.send_max, agreed.receive_max), (MESSAGE_MAX, EXTENDED_MAX));
        let ipv6 = theirs(|other| other.families = PerFamily::only(Family::Ipv6));
        let agreed = negotiate(&config(), false, &ipv6).unwrap();
        assert_eq!(agreed.families, PerFamily::only(Family::Ipv6));
        let bare = own_open(&other(), true);
        let agreed = negotiate(&config(), false, &bare).unwrap();
        assert_eq!(agreed.families, PerFamily::only(Family::Ipv4));
        assert!(!agreed.four_octet_as && !agreed.route_refresh);
        let agreed = negotiate(&config(), true, &theirs(|_| {})).unwrap();
        assert_eq!(agreed.families, PerFamily::only(Family::Ipv4), "we said nothing of others");
        assert!(!agreed.four_octet_as);
    }

    #[test]
    fn several_paths_go_where_one_sends_and_the_other_takes_them() {
        let paths =
            |send, receive| PerFamily { ipv4: AddPath { send, receive }, ipv6: AddPath::default() };
        for (ours, others, expected) in [
            ((true, true), (true, true), (true, true)),
            ((true, false), (false, true), (true, false)),
            ((true, false), (true, false), (false, false)),
            ((false, true), (true, true), (false, true)),
            ((false, false), (true, true), (false, false)),
        ] {
            let mut config = config();
            config.add_path = paths(ours.0, ours.1);
            let theirs = theirs(|other| other.add_path = paths(others.0, others.1));
            let agreed = negotiate(&config, false, &theirs).unwrap();
            assert_eq!(agreed.add_path, paths(expected.0, expected.1), "{ours:?} {others:?}");
        }
    }

    #[test]
    fn an_as_of_four_octets_is_in_the_capability() {
        let big = theirs(|other| other.local_as = 4_200_000_000);
        assert_eq!((big.as_field, big.asn()), (23_456, 4_200_000_000));
        let mut config = config();
        config.remote_as = RemoteAs::Exactly(4_200_000_000);
        assert_eq!(negotiate(&config, false, &big).unwrap().remote_as, 4_200_000_000);
    }

    #[test]
    fn an_open_that_is_not_acceptable_is_answered_as_the_rfcs_say() {
        let refused = |theirs: &Open| {
            let notification = negotiate(&config(), false, theirs).unwrap_err().notification;
            (notification.code, notification.subcode)
        };
        let table = [
            ("another AS", theirs(|other| other.local_as = 65_003), codes::BAD_PEER_AS),
            (
                "id 0",
                theirs(|other| other.router_id = Ipv4Addr::UNSPECIFIED),
                codes::BAD_IDENTIFIER,
            ),
            ("hold time 1", theirs(|other| other.hold_time_s = 1), codes::BAD_HOLD_TIME),
            ("hold time 2", theirs(|other| other.hold_time_s = 2), codes::BAD_HOLD_TIME),
        ];
        for (case, theirs, expected) in table {
            assert_eq!(refused(&theirs), expected, "{case}");
        }
        let own_id = theirs(|other| other.router_id = config().router_id);
        assert!(negotiate(&config(), false, &own_id).is_ok(), "RFC 6286: another AS");
        let mut internal = config();
        internal.remote_as = RemoteAs::Internal;
        let same = own_open(&internal, false);
        let notification = negotiate(&internal, false, &same).unwrap_err().notification;
        assert_eq!((notification.code, notification.subcode), codes::BAD_IDENTIFIER);
        let mut as_zero = config();
        as_zero.remote_as = RemoteAs::Any;
        for nobody in [0, 23_456] {
            let zero = theirs(|other| other.local_as = nobody);
            let notification = negotiate(&as_zero, false, &zero).unwrap_err().notification;
            let said = (notification.code, notification.subcode);
            assert_eq!(said, codes::BAD_PEER_AS, "RFC 7607, RFC 6793: {nobody}");
        }
    }

    #[test]
    fn without_a_common_family_the_data_says_what_is_missing() {
        let mut config = config();
        config.families = PerFamily::only(Family::Ipv6);
        let ipv4 = theirs(|other| other.families = PerFamily::only(Family::Ipv4));
        let error = negotiate(&config, false, &ipv4).unwrap_err();
        let data = [1, 4, 0, 2, 0, 1];
        assert_eq!(error.notification, Notification::with(codes::UNSUPPORTED_CAPABILITY, data));
    }

    #[test]
    fn roles_follow_rfc_9234_4_2() {
        use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
        let agree = |ours: Role, theirs_role: Option<Role>, strict| {
            let mut config = config();
            (config.role, config.strict_role) = (Some(ours), strict);
            let theirs = theirs(|other| other.role = theirs_role);
            let result = negotiate(&config, false, &theirs);
            result.map(|agreed| agreed.remote_role).map_err(|error| error.notification.subcode)
        };
        let all = [Provider, Customer, Peer, RouteServer, RouteServerClient];
        for ours in all {
            for their_role in all {
                let good = their_role == ours.counterpart();
                let expected = if good { Ok(Some(their_role)) } else { Err(11) };
                assert_eq!(agree(ours, Some(their_role), false), expected, "{ours} {their_role}");
            }
            assert_eq!(agree(ours, None, false), Ok(Some(ours.counterpart())));
            assert_eq!(agree(ours, None, true), Err(11), "strict");
        }
        let mut config = config();
        config.role = Some(Customer);
        let mut several = theirs(|other| other.role = Some(Provider));
        several.capabilities.push(Capability::Role(Provider));
        assert!(negotiate(&config, false, &several).is_ok(), "the same twice");
        several.capabilities.push(Capability::Role(Peer));
        assert_eq!(negotiate(&config, false, &several).unwrap_err().notification.subcode, 11);
        let mut unknown = theirs(|_| {});
        unknown.capabilities.push(Capability::Other { code: 9, value: vec![9] });
        assert_eq!(negotiate(&config, false, &unknown).unwrap_err().notification.subcode, 11);
    }
}
