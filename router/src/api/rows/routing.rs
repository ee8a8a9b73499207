//! Rows of services, prefixes, groups and checks.

use crate::api::column::Scale::{Ms, Us};
use crate::api::column::Text;
use crate::api::column::Unit::{
    self, Age, Cost, Count, Duration, Flag, List, Mark, Number, Percent, State,
};
use crate::api::row::rows;

rows! {
    /// A leg of a service.
    #[derive(Deserialize)]
    #[serde(default)]
    pub struct ServiceRow {
        /// The service's name.
        service: Text = "SERVICE" Unit::Text,
        /// `ipv4` or `ipv6`.
        family: Text = "FAMILY" Unit::Text,
        /// The service's prefixes of this family.
        prefix: Vec<Text> = "PREFIX" List => 5,
        /// Whether packets go there now.
        best: bool = "" Mark,
        /// The site's name.
        site: Text = "SITE" Unit::Text,
        /// The port that leads to the site.
        port: Text = "PORT" Unit::Text => 6,
        /// `waiting`, `up`, `down`, `doubted` (used though checks fail), `damped` (well, but it flapped), `drained` or `disabled`.
        state: Text = "STATE" State,
        /// 0 is best; a later tier is used when no earlier one takes the flow.
        tier: u64 = "TIER" Number => 8,
        /// How far away the site is.
        #[serde(flatten)]
        distance: Distance,
        /// Packets sent there since the router started, or since the leg is configured.
        packets: u64 = "PACKETS" Count => 3,
        /// Bytes of these, as IP packets.
        bytes: u64 = "BYTES" Unit::Bytes => 7,
        /// How long the leg has been up or down, in milliseconds.
        age_ms: u64 = "AGE" Age(Ms) => 2,
        /// Why packets go there, or why not.
        why: Text = "WHY" Unit::Text,
    }

    /// How far away a site is.
    #[derive(Deserialize)]
    #[serde(default)]
    pub struct Distance {
        /// What the site costs: as configured, plus measured latency where the service counts it.
        cost: Option<u64> = "COST" Cost,
        /// Smoothed round-trip time of its checks, in microseconds.
        latency_us: Option<u64> = "LATENCY" Duration(Us) => 1,
        /// The share of new flows that it takes.
        accept: Option<f64> = "ACCEPT" Percent => 4,
    }

    /// A member of the group that a prefix leads to; one that leads to no member has one row.
    pub struct FibRow {
        /// The prefix.
        prefix: Text = "PREFIX" Unit::Text,
        /// The source of the route in use: `local`, `connected`, `static`, `service`, or `file` and its name.
        source: Option<Text> = "SOURCE" Unit::Text => 5,
        /// What is done with packets: `forward`, `local`, `blackhole`, `unreachable` or `prohibit`.
        kind: Text = "KIND" Unit::Text => 1,
        /// The group's name: its service and family, or else what it leads to, such as `via fra`.
        group: Text = "GROUP" Unit::Text => 9,
        /// The member; absent where packets are not forwarded.
        #[serde(flatten)]
        member: Option<MemberPart>,
    }

    /// A member of a group.
    pub struct MemberPart {
        /// Whether packets go there now.
        best: bool = "" Mark,
        /// The site's name; absent for members that are no leg of a service.
        #[serde(skip_serializing_if = "Option::is_none")]
        site: Option<Text> = "SITE" Unit::Text,
        /// The port that leads there.
        port: Text = "PORT" Unit::Text,
        /// 0 is best; a later tier is used when no earlier one takes the flow.
        tier: u64 = "TIER" Number => 8,
        /// Its share of flows is its weight, divided by the sum of its tier's.
        weight: u64 = "WEIGHT" Number => 7,
        /// `up` or `down`; of a leg also `waiting`, `doubted`, `damped`, `drained` or `disabled`.
        state: Text = "STATE" State,
        /// Why it is down: `carrier`, `probe`, `tcp`, and so on.
        reasons: Vec<Text> = "REASONS" List => 5,
        /// The leg; absent for members that are none.
        #[serde(flatten)]
        leg: Option<LegPart>,
        /// Why packets go there, or why not; absent where there is nothing to say.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<Text> = "WHY" Unit::Text,
    }

    /// What a member that is a leg of a service has.
    pub struct LegPart {
        /// How far away the site is.
        #[serde(flatten)]
        distance: Distance,
        /// The service's name.
        service: Text = "SERVICE" Unit::Text => 3,
        /// `ipv4` or `ipv6`.
        family: Text = "FAMILY" Unit::Text => 10,
        /// How long the leg has been up or down, in milliseconds.
        age_ms: u64 = "AGE" Age(Ms) => 2,
    }

    /// A route of one source.
    pub struct RouteRow {
        /// The prefix.
        prefix: Text = "PREFIX" Unit::Text,
        /// Whether it is the route in use: the best source's that leads somewhere.
        best: bool = "" Mark,
        /// Where it comes from: `local`, `connected`, `static`, `service`, or `file` and its name.
        source: Text = "SOURCE" Unit::Text,
        /// What is done with packets: `forward`, `local`, `blackhole`, `unreachable` or `prohibit`.
        kind: Text = "KIND" Unit::Text => 1,
        /// Its next hops as configured: ports or addresses; of a service, the ports of its sites.
        via: Vec<Text> = "VIA" List,
        /// `up`, `down` (no member is up), `unused`, `refused` or `advertised`.
        state: Text = "STATE" State,
        /// The path; absent for routes that are none of a BGP neighbour.
        #[serde(flatten)]
        path: Option<PathPart>,
        /// Why it is not used, or leads its packets on; `null` if it is used, and does not.
        why: Option<Text> = "WHY" Unit::Text,
    }

    /// What a path of a BGP neighbour says of itself.
    pub struct PathPart {
        /// The neighbour that announces it, or to which it is announced.
        neighbor: Text = "NEIGHBOR" Unit::Text,
        /// Which of the neighbour's paths to the prefix (RFC 7911); 0 where it has one.
        path_id: u64 = "PATH ID" Number => 8,
        /// The ASes that it passed, the latest first; sets in braces.
        as_path: Text = "AS PATH" Unit::Text => 2,
        /// `igp`, `egp` or `incomplete`.
        origin: Text = "ORIGIN" Unit::Text => 7,
        /// Local preference; `null` is 100.
        local_pref: Option<u64> = "LOCAL PREF" Number => 4,
        /// MED.
        med: Option<u64> = "MED" Number => 6,
        /// Communities, large and extended ones too.
        communities: Vec<Text> = "COMMUNITIES" List => 5,
        /// What accepted or refused it: `POLICY/RULE`, or the label of a reason that is no policy's.
        rule: Option<Text> = "RULE" Unit::Text => 3,
    }

    /// A group of the FIB.
    pub struct GroupRow {
        /// The group's name: its service and family, or else what it leads to, such as `via fra`.
        group: Text = "GROUP" Unit::Text,
        /// What is done with packets: `forward`, `local`, `blackhole`, `unreachable` or `prohibit`.
        kind: Text = "KIND" Unit::Text,
        /// The service that it belongs to, if any.
        service: Option<Text> = "SERVICE" Unit::Text,
        /// The service's family, `ipv4` or `ipv6`.
        family: Option<Text> = "FAMILY" Unit::Text => 1,
        /// The ports of its members.
        via: Vec<Text> = "VIA" List,
        /// How many prefixes lead to it.
        prefixes: u64 = "PREFIXES" Count,
        /// How many members it has.
        members: u64 = "MEMBERS" Number => 2,
        /// How many of them are up.
        alive: u64 = "ALIVE" Number,
        /// What chooses among equal members: `flow` or `packet`.
        spread: Option<Text> = "SPREAD" Unit::Text => 3,
        /// What becomes of packets when no member is up.
        when_all_dead: Option<Text> = "WHEN ALL DEAD" Unit::Text => 4,
    }

    /// A check of a leg.
    pub struct CheckRow {
        /// The address, or address and port, that it asks.
        target: Text = "TARGET" Unit::Text,
        /// The site's name.
        site: Text = "SITE" Unit::Text,
        /// The service's name.
        service: Text = "SERVICE" Unit::Text => 3,
        /// The port by which it asks.
        port: Text = "PORT" Unit::Text => 5,
        /// Its place among the checks of its leg, from 0.
        check: u64 = "CHECK" Number => 9,
        /// `icmp`, `udp`, `dns` or `tcp`.
        kind: Text = "KIND" Unit::Text,
        /// `waiting` (no result yet), `up` or `down`; `null` if the liveness thread did not answer in time.
        state: Option<Text> = "STATE" State,
        /// Smoothed round-trip time, in microseconds.
        latency_us: Option<u64> = "LATENCY" Duration(Us) => 1,
        /// Requests sent.
        sent: Option<u64> = "SENT" Count => 6,
        /// Requests that were answered well.
        answered: Option<u64> = "ANSWERED" Count => 7,
        /// Requests without an answer in time.
        lost: Option<u64> = "LOST" Count => 2,
        /// How long it has been up or down, in milliseconds.
        age_ms: Option<u64> = "AGE" Age(Ms) => 4,
        /// ICMP errors ignored: the destination is unreachable, but that is no refusal by it.
        ignored_unreachable: Option<u64> = "UNREACHABLE" Count => 10,
        /// ICMP errors ignored: time exceeded, packet too big, parameter problem and the like.
        ignored_transit: Option<u64> = "TRANSIT" Count => 11,
        /// ICMP errors ignored: they quote something else than was sent, or a request sent long ago.
        ignored_mismatch: Option<u64> = "MISMATCH" Count => 12,
        /// ICMP errors ignored: they quote too little to prove anything.
        ignored_short_quote: Option<u64> = "SHORT QUOTE" Count => 13,
        /// Packets ignored: by another port than the check's.
        ignored_other_port: Option<u64> = "OTHER PORT" Count => 14,
        /// Refusals ignored: of requests that were answered already.
        ignored_stale: Option<u64> = "STALE" Count => 15,
        /// Answers and resets ignored: they fit no request.
        ignored_answer: Option<u64> = "ANSWER IGNORED" Count => 16,
        /// Type, code and sender of the latest ICMP error that did quote a request.
        last_error: Option<Text> = "LAST ERROR" Unit::Text => 8,
    }

    /// A BGP neighbour.
    pub struct BgpRow {
        /// The neighbour's name.
        neighbor: Text = "NEIGHBOR" Unit::Text,
        /// Its address.
        address: Text = "ADDRESS" Unit::Text => 4,
        /// Its AS.
        remote_as: u64 = "AS" Number,
        /// The router's end of the session.
        local_address: Text = "LOCAL" Unit::Text => 6,
        /// State of the session, as RFC 4271 names it; routes are exchanged in `Established`.
        state: Text = "STATE" Unit::Text,
        /// How long ago the session began, or the last one ended, in milliseconds.
        age_ms: u64 = "AGE" Age(Ms) => 3,
        /// Paths to IPv4 prefixes that it announces, used or not.
        received_ipv4: u64 = "IPV4" Number,
        /// Paths to IPv6 prefixes that it announces, used or not.
        received_ipv6: u64 = "IPV6" Number,
        /// Paths among these that may not be used.
        refused: u64 = "REFUSED" Number => 2,
        /// Prefixes of services, aggregates and blocks that are announced to it.
        announced: Vec<Text> = "ANNOUNCED" List => 5,
        /// How many paths are announced to it, those of other neighbours too.
        advertised: u64 = "ADVERTISED" Number => 7,
        /// Whether routes are exchanged.
        up: bool = "UP" Flag => 8,
        /// Times that the session came to exchange routes.
        sessions: u64 = "SESSIONS" Count => 9,
        /// Messages that it sent.
        received_messages: u64 = "MSG IN" Count => 10,
        /// Messages that were sent to it.
        sent_messages: u64 = "MSG OUT" Count => 11,
        /// UPDATEs among those that it sent.
        received_updates: u64 = "UPDATES IN" Count => 12,
        /// UPDATEs among those that were sent to it.
        sent_updates: u64 = "UPDATES OUT" Count => 13,
        /// Bytes of the messages that it sent.
        received_bytes: u64 = "BYTES IN" Unit::Bytes => 14,
        /// Bytes of the messages that were sent to it.
        sent_bytes: u64 = "BYTES OUT" Unit::Bytes => 15,
        /// Why its last session ended, or could not begin.
        why: Option<Text> = "WHY" Unit::Text => 1,
        /// The range that it came from, by its name; `null` for one that is configured by itself.
        range: Option<Text> = "RANGE" Unit::Text => 16,
    }

    /// Something that is known of a BGP neighbour.
    pub struct BgpNeighborRow {
        /// The neighbour's name.
        neighbor: Text = "NEIGHBOR" Unit::Text => 1,
        /// `session`, `configured`, `agreed` (while routes are exchanged), `messages`, `prefixes` or `refused`.
        topic: Text = "TOPIC" Unit::Text,
        /// What it is about; of `refused` the reason, or `POLICY/RULE`.
        what: Text = "WHAT" Unit::Text,
        /// What is known.
        value: Text = "VALUE" Unit::Text,
    }

    /// Paths of a BGP neighbour that are refused for one reason.
    pub struct BgpRefusalRow {
        /// The neighbour's name.
        neighbor: Text = "NEIGHBOR" Unit::Text,
        /// Why: the reason, or `POLICY/RULE`.
        reason: Text = "REASON" Unit::Text,
        /// How many paths are.
        paths: u64 = "PATHS" Number,
    }

    /// A message of a BGP session.
    pub struct BgpMessageRow {
        /// The neighbour's name.
        neighbor: Text = "NEIGHBOR" Unit::Text => 3,
        /// When it was read, or put into what is to be sent: as `t_ns` of events.
        t: u64 = "T" Number => 2,
        /// How long ago, in milliseconds.
        age_ms: u64 = "AGE" Age(Ms),
        /// `received` or `sent`.
        direction: Text = "DIRECTION" Unit::Text,
        /// Its type, such as `UPDATE`; `?` for what is no message.
        message: Text = "MESSAGE" Unit::Text,
        /// How many octets it has.
        length: u64 = "LENGTH" Number,
        /// Its octets in hexadecimal digits, header included; fewer than `length` where it did not fit.
        hex: Text = "HEX" Unit::Text => 1,
    }
}
