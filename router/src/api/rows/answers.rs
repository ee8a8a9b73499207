//! Rows of what is not shown by `show`: explanations, rates, and what commands answer.

use super::routing::MemberPart;
use crate::api::column::Text;
use crate::api::column::Unit::{self, BitRate, Flag, List, Mark, PacketRate, TextOr};
use crate::api::row::rows;

rows! {
    /// What becomes of packets to an address.
    pub struct ExplainHead {
        /// The address.
        address: Text = "address" Unit::Text,
        /// What becomes of a packet, whoever sends it: sent, punted or dropped, and what its sender hears.
        outcome: Text = "outcome" Unit::Text,
        /// The label of the verdict that counts it.
        verdict: Text = "verdict" Unit::Text,
        /// The longest prefix that covers the address.
        prefix: Option<Text> = "prefix" Unit::Text,
        /// What the prefix leads to; absent without one.
        #[serde(flatten)]
        group: Option<ExplainedGroup>,
    }

    /// The group that an address leads to.
    pub struct ExplainedGroup {
        /// Where its route comes from.
        source: Option<Text> = "source" Unit::Text,
        /// What is done with packets: `forward`, `local`, `blackhole`, `unreachable` or `prohibit`.
        kind: Text = "kind" Unit::Text,
        /// The group's name: its service and family, or else what it leads to, such as `via fra`.
        group: Text = "group" Unit::Text,
        /// The groups that packets follow one after the other because no site of the service takes them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        led_on_to: Vec<Text> = "led on to" List,
        /// What becomes of this flow: its site and port, or why it is dropped; `null` without `from`.
        selected: Option<Text> = "selected" Unit::Text,
    }

    /// A member of the group that an address leads to.
    pub struct ExplainRow {
        /// Whether this flow goes there; absent without `from`.
        #[serde(skip_serializing_if = "Option::is_none")]
        chosen: Option<bool> = "FLOW" Mark,
        /// The member.
        #[serde(flatten)]
        member: MemberPart,
    }

    /// Rates of a port, a verdict, a service or a site.
    pub struct TopRow {
        /// `port`, `verdict`, `service` or `site`.
        of: Text = "OF" Unit::Text,
        /// What it is called.
        name: Text = "NAME" Unit::Text,
        /// The port; absent for others.
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<Text> = "PORT" Unit::Text,
        /// The verdict's label; absent for others.
        #[serde(skip_serializing_if = "Option::is_none")]
        verdict: Option<Text> = "VERDICT" Unit::Text,
        /// The service or site; absent for others.
        #[serde(flatten)]
        of_service: Option<TopOfService>,
        /// Packets of a verdict, a service or a site, per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        packets_per_s: Option<u64> = "PKT/S" PacketRate,
        /// Bytes of a service or a site, per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes_per_s: Option<u64> = "BIT/S" BitRate,
        /// Packets that came in by a port, per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        rx_packets_per_s: Option<u64> = "RX PKT/S" PacketRate,
        /// Bytes that came in by a port, per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        rx_bytes_per_s: Option<u64> = "RX BIT/S" BitRate => 2,
        /// Packets that went out by a port, per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        tx_packets_per_s: Option<u64> = "TX PKT/S" PacketRate,
        /// Bytes that went out by a port, per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        tx_bytes_per_s: Option<u64> = "TX BIT/S" BitRate => 3,
        /// Packets that a port's device did not take, per second.
        #[serde(skip_serializing_if = "Option::is_none")]
        dropped_per_s: Option<u64> = "DROP/S" PacketRate => 1,
    }

    /// What rates of a service or a site are about.
    pub struct TopOfService {
        /// The service's name.
        service: Text = "SERVICE" Unit::Text,
        /// `ipv4` or `ipv6`.
        family: Text = "FAMILY" Unit::Text,
        /// The site's name; `null` for the sum of all sites.
        site: Option<Text> = "SITE" TextOr("(all)"),
    }

    /// What a command does to a site's flows.
    pub struct OverrideHead {
        /// What becomes of flows, in a sentence.
        effect: Text = "effect" Unit::Text,
    }

    /// A service, in one family, of a site that was taken out or back in, and who serves it from now on.
    pub struct OverrideRow {
        /// The site's name.
        site: Text = "SITE" Unit::Text,
        /// Whether it is drained now.
        drained: bool = "DRAINED" Flag => 1,
        /// Whether it is disabled now.
        disabled: bool = "DISABLED" Flag => 2,
        /// A service that has it.
        service: Text = "SERVICE" Unit::Text,
        /// `ipv4` or `ipv6`.
        family: Text = "FAMILY" Unit::Text,
        /// The sites that packets go to.
        serving: Vec<Text> = "SERVED BY" List,
        /// How many sites of the service are up, and neither drained nor disabled.
        sites_left: u64 = "SITES LEFT" Unit::Number,
        /// Why these serve although none of them is up and not drained; `null` if one is.
        resort: Option<Text> = "WHY" Unit::Text,
    }

    /// What a reload changed.
    #[derive(Deserialize)]
    #[serde(default)]
    pub struct ReloadRow {
        /// The change, as text.
        change: Text = "CHANGE" Unit::Text,
    }
}
