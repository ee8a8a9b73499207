//! The table of verdicts: every way a packet can end. A row becomes an enum variant, a counter, a
//! metric label, the text in traces and a row of `docs/verdicts.md`, so that none of them can be
//! missing.
#![forbid(unsafe_code)]

/// What a verdict means for the packet. Its words are those of `show verdicts`, `explain`, metrics and
/// documents.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It leaves by a port.
    Sent,
    /// It is handed to the router itself: to the host stack, the checks or BFD.
    Punted,
    /// Others were made of it, which have verdicts of their own.
    Replaced,
    /// It is gone; only the counter remains.
    Dropped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Punted, Self::Replaced, Self::Dropped];

    /// One word, never changed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Punted => "punted",
            Self::Replaced => "replaced",
            Self::Dropped => "dropped",
        }
    }

    /// A sentence about the packet.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Sent => "It leaves by a port.",
            Self::Punted => {
                "It is handed to the router itself: to the host stack, the checks or BFD."
            }
            Self::Replaced => "Others were made of it, which have verdicts of their own.",
            Self::Dropped => "It is gone; only the counter remains.",
        }
    }
}

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident $outcome:ident $label:literal $text:literal;)+) => {
        /// How a packet ended.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Verdict {
            $(#[doc = $text] $(#[$doc])* $variant,)+
        }

        impl Verdict {
            /// Every verdict, in the order of its counter.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What it means for the packet.
            pub const fn outcome(self) -> Outcome {
                match self {
                    $(Self::$variant => Outcome::$outcome,)+
                }
            }

            /// The metric label, which `show drops` prints too: kebab-case, never renamed.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// A short description for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

verdicts! {
    Forward Sent "forwarded" "sent to the member that the group selected";
    Originate Sent "originated" "made by this router: an ICMP error, a copy of one, a probe, or a packet of the host stack";
    FragmentSent Sent "fragment-sent" "one of the fragments of a packet larger than the MTU (DF clear)";
    Joined Sent "joined" "sent in a superframe of its flow, behind a packet that counts as forwarded";
    Local Punted "local" "addressed to this router; delivered to the host stack";
    ProbeAnswer Punted "probe-answer" "addressed to this router; delivered to the prober";
    Bfd Punted "bfd" "addressed to this router; a BFD packet of one of its sessions, delivered to it";
    Fragmented Replaced "fragmented" "replaced by its fragments, each counted as fragment-sent";

    Truncated Dropped "truncated" "shorter than its headers claim";
    NotIp Dropped "not-ip" "the version nibble is neither 4 nor 6";
    BadHeaderLength Dropped "bad-header-length" "an IPv4 or TCP header length below 20 bytes";
    BadTotalLength Dropped "bad-total-length" "a total or payload length below the header's, or above the packet";
    BadHeaderChecksum Dropped "bad-header-checksum" "the IPv4 header checksum is wrong";
    BadOption Dropped "bad-option" "an IP option or extension header that overruns its header or is in a forbidden position";
    BadFragment Dropped "bad-fragment" "a fragment that ends beyond 65,535 bytes, an IPv6 fragment of a length not divisible by 8, or nested fragments";
    SourceRoute Dropped "source-route" "requests source routing, which is refused (RFC 7126, RFC 5095)";
    TooManyExtensions Dropped "too-many-extensions" "more IPv6 extension headers than nearhop follows";
    BadOffload Dropped "bad-offload" "checksum or segment fields of its vnet_hdr contradict the packet";
    Jumbogram Dropped "jumbogram" "an IPv6 jumbogram (RFC 2675), which no port can carry";

    MartianSource Dropped "martian-source" "a source address that is never valid, or the router's own";
    ServiceSource Dropped "service-source" "from a service's address, by a port that faces clients and leads to none of its sites";
    MartianDestination Dropped "martian-destination" "a destination address that is never forwarded";
    Multicast Dropped "multicast" "to a multicast group that this router has not joined";
    Broadcast Dropped "broadcast" "to the limited or a directed broadcast address";
    LinkLocal Dropped "link-local" "a link-local address, which is never forwarded";
    ReversePath Dropped "reverse-path" "came in by a port that does not lead back to its source (RFC 3704)";

    TtlExpired Dropped "ttl-expired" "its TTL or hop limit reached zero; answered with time-exceeded";
    NoRoute Dropped "no-route" "no prefix covers the destination; answered with unreachable";
    Blackhole Dropped "blackhole" "a blackhole route; not answered";
    Unreachable Dropped "unreachable" "an unreachable route; answered with unreachable";
    Prohibit Dropped "prohibit" "a prohibit route; answered with administratively prohibited";
    AllDead Dropped "all-dead" "every member of the group is down; answered according to the service's when-all-dead";
    UTurn Dropped "u-turn" "its destination is on the link that it came in by, or the remaining members lead back there, which is answered according to when-all-dead";
    TooBig Dropped "too-big" "larger than the MTU of the adjacency; answered with frag-needed or packet-too-big";
    CoveringLoop Dropped "covering-loop" "covering routes refer to each other more deeply than nearhop follows";

    ToSelf Dropped "to-self" "made by this router for one of its own addresses, to which no port leads";
    PuntFull Dropped "punt-full" "addressed to this router, but the lane was full";
    BfdTtl Dropped "bfd-ttl" "a BFD packet over one hop whose TTL is not 255: it came from further away (RFC 5881 section 5)";
    BfdNoSession Dropped "bfd-no-session" "a BFD packet of no session of this router, or by another port than its session's";
    BfdDiscriminator Dropped "bfd-discriminator" "a BFD packet whose your-discriminator is not the session's";
    BfdPoliced Dropped "bfd-policed" "more BFD packets of a session than its neighbor may send";
    NotLocalProtocol Dropped "not-local-protocol" "addressed to this router, with a protocol it does not support";
    NoBuffer Dropped "no-buffer" "the batch had no room left for the packets to be made from it";
    TxFull Dropped "tx-full" "the device's queue was full";
    TxDown Dropped "tx-down" "the device was down or deleted when it was sent";
    TxRefused Dropped "tx-refused" "the device refused the packet";
    NoPort Dropped "no-port" "the port of the selected adjacency was removed";
}

impl Verdict {
    /// Number of verdicts: the length of an array of counters.
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_unique_and_kebab_case() {
        let labels: HashSet<_> = Verdict::ALL.iter().map(|v| v.label()).collect();
        assert_eq!(labels.len(), Verdict::COUNT);
        for label in labels {
            assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{label}");
        }
    }

    #[test]
    fn the_order_of_all_is_the_order_of_the_counters() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
        }
    }
}
