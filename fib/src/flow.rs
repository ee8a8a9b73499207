//! What makes a flow a flow, for choosing its site and its link.

/// The fields a site is chosen by. An IPv4 address is right-aligned in its 128 bits.
///
/// Every fragment, the first included, has ports 0, so that all of a datagram goes one way; an ICMP
/// error has the fields of the packet it quotes, reversed, so that it reaches the site that has
/// the flow (RFC 7690).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FlowKey {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// IP protocol number of the upper layer.
    pub protocol: u8,
    /// Source port; 0 where the protocol has none (an ICMP echo has its identifier here).
    pub src_port: u16,
    /// Destination port; 0 where the protocol has none.
    pub dst_port: u16,
    /// IPv6 flow label, 0 for IPv4. Only the link inside a site may depend on it: Linux changes
    /// it when TCP retransmits.
    pub label: u32,
}
