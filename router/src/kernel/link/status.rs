//! What a link message says about a device, as far as nearhop and its lab want to know.
#![forbid(unsafe_code)]

use super::super::netlink::{Attributes, Message, number, text};
use super::requests::IFINFOMSG_LEN;

/// A device as the kernel described it when asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LinkStatus {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// What kind of device, if it is a virtual one: `tun`, `veth`.
    pub kind: Option<String>,
    /// Set up by the administrator.
    pub admin_up: bool,
    /// The layer below carries packets (IFF_LOWER_UP). A device that is set down has none.
    pub carrier: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Counters since the device was made.
    pub stats: LinkStats,
    /// More about a TUN or TAP device.
    pub tun: Option<TunStatus>,
}

/// Counters of a device, from the kernel's side: what a TUN's holder reads, the kernel sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkStats {
    /// Packets received by the kernel.
    pub rx_packets: u64,
    /// Packets sent by the kernel.
    pub tx_packets: u64,
    /// Bytes received by the kernel.
    pub rx_bytes: u64,
    /// Bytes sent by the kernel.
    pub tx_bytes: u64,
    /// Packets dropped on their way in.
    pub rx_dropped: u64,
    /// Packets dropped on their way out, as by a TUN whose holder does not read fast enough.
    pub tx_dropped: u64,
}

/// The mode of a TUN or TAP device.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of the kernel's")]
pub struct TunStatus {
    /// Carries Ethernet frames.
    pub tap: bool,
    /// Each packet follows a `struct tun_pi`.
    pub packet_info: bool,
    /// Each packet follows a `struct virtio_net_hdr`.
    pub vnet_hdr: bool,
    /// Stays when nobody holds it.
    pub persist: bool,
    /// May be opened more than once.
    pub multi_queue: bool,
    /// How many queues are open; 0 for a single-queue device, whose kernel does not say.
    pub open_queues: u32,
}

impl LinkStatus {
    /// Whether packets can pass: set up, and the layer below is there.
    pub fn up(&self) -> bool {
        self.admin_up && self.carrier
    }

    /// Reads RTM_NEWLINK and RTM_DELLINK; `None` for any other message, and for those that report
    /// a device's membership in a bridge rather than of the device.
    pub(in super::super) fn parse(message: Message<'_>) -> Option<Self> {
        if message.kind != libc::RTM_NEWLINK && message.kind != libc::RTM_DELLINK {
            return None;
        }
        let (header, attributes) = message.parts(IFINFOMSG_LEN)?;
        if i32::from(header[0]) != libc::AF_UNSPEC {
            return None;
        }
        let flags = number(&header[8..])?.cast_signed();
        let mut status = Self {
            ifindex: number(&header[4..])?,
            admin_up: flags & libc::IFF_UP != 0,
            carrier: flags & libc::IFF_LOWER_UP != 0,
            ..Self::default()
        };
        for (kind, value) in attributes.iter() {
            status.take(kind, value);
        }
        Some(status)
    }

    fn take(&mut self, kind: u16, value: &[u8]) {
        match kind {
            libc::IFLA_IFNAME => self.name = text(value),
            libc::IFLA_MTU => self.mtu = number(value).unwrap_or(0),
            libc::IFLA_STATS64 => self.stats = LinkStats::parse(value),
            libc::IFLA_LINKINFO => {
                let info = Attributes(value);
                self.kind = info.get(libc::IFLA_INFO_KIND).map(text);
                if self.kind.as_deref() == Some("tun") {
                    self.tun = info.get(libc::IFLA_INFO_DATA).map(TunStatus::parse);
                }
            }
            _ => {}
        }
    }
}

impl LinkStats {
    /// `struct rtnl_link_stats64`; what an older kernel lacks is 0.
    fn parse(value: &[u8]) -> Self {
        let field = |index: usize| {
            let bytes = value.get(index * 8..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        Self {
            rx_packets: field(0),
            tx_packets: field(1),
            rx_bytes: field(2),
            tx_bytes: field(3),
            rx_dropped: field(6),
            tx_dropped: field(7),
        }
    }
}

impl TunStatus {
    fn parse(value: &[u8]) -> Self {
        let attributes = Attributes(value);
        let byte = |kind| attributes.get(kind).and_then(|value| value.first().copied());
        let is_set = |kind| byte(kind).is_some_and(|value| value != 0);
        let count = |kind| attributes.get(kind).and_then(number).unwrap_or(0);
        Self {
            tap: byte(IFLA_TUN_TYPE).map(i32::from) == Some(libc::IFF_TAP),
            packet_info: is_set(IFLA_TUN_PI),
            vnet_hdr: is_set(IFLA_TUN_VNET_HDR),
            persist: is_set(IFLA_TUN_PERSIST),
            multi_queue: is_set(IFLA_TUN_MULTI_QUEUE),
            open_queues: count(IFLA_TUN_NUM_QUEUES) + count(IFLA_TUN_NUM_DISABLED_QUEUES),
        }
    }
}

// <linux/if_link.h>
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PI: u16 = 4;
const IFLA_TUN_VNET_HDR: u16 = 5;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
const IFLA_TUN_NUM_QUEUES: u16 = 8;
const IFLA_TUN_NUM_DISABLED_QUEUES: u16 = 9;
