//! The table of verdicts: every way a packet can end. A row becomes an enum variant, a counter, a
//! metric label, the text in traces and a row of `docs/verdicts.md`, so that none of them can be
//! missing.
#![forbid(unsafe_code)]

/// What the worker does with a packet that has this verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Send it by a port.
    Tx,
    /// Deliver it to the router itself: to the host stack or the checks.
    Punt,
    /// Drop it; only the counter remains.
    Drop,
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

            /// What the worker does with the packet.
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
    Forward Tx "forwarded" "sent to the member that the group selected";
    Originate Tx "originated" "made by this router: an ICMP error, a probe, or a packet of the host stack";
    FragmentSent Tx "fragment-sent" "one of the fragments of a packet larger than the MTU (DF clear)";
    Joined Tx "joined" "sent in a superframe of its flow, behind a packet that counts as forwarded";
    Local Punt "local" "addressed to this router; delivered to the host stack";
    ProbeAnswer Punt "probe-answer" "addressed to this router; delivered to the prober";
    Fragmented Drop "fragmented" "replaced by its fragments, each counted as fragment-sent";

    Truncated Drop "truncated" "shorter than its headers claim";
    NotIp Drop "not-ip" "the version nibble is neither 4 nor 6";
    BadHeaderLength Drop "bad-header-length" "an IPv4 or TCP header length below 20 bytes";
    BadTotalLength Drop "bad-total-length" "a total or payload length below the header's, or above the packet";
    BadHeaderChecksum Drop "bad-header-checksum" "the IPv4 header checksum is wrong";
    BadOption Drop "bad-option" "an IP option or extension header that overruns its header or is in a forbidden position";
    BadFragment Drop "bad-fragment" "a fragment that ends beyond 65,535 bytes, an IPv6 fragment of a length not divisible by 8, or nested fragments";
    SourceRoute Drop "source-route" "requests source routing, which is refused (RFC 7126, RFC 5095)";
    TooManyExtensions Drop "too-many-extensions" "more IPv6 extension headers than nearhop follows";
    BadOffload Drop "bad-offload" "checksum or segment fields of its vnet_hdr contradict the packet";
    Jumbogram Drop "jumbogram" "an IPv6 jumbogram (RFC 2675), which no port can carry";

    MartianSource Drop "martian-source" "a source address that is never valid";
    MartianDestination Drop "martian-destination" "a destination address that is never forwarded";
    Multicast Drop "multicast" "to a multicast group that this router has not joined";
    Broadcast Drop "broadcast" "to the limited or a directed broadcast address";
    LinkLocal Drop "link-local" "a link-local address, which is never forwarded";
    ReversePath Drop "reverse-path" "came in by a port that does not lead back to its source (RFC 3704)";

    TtlExpired Drop "ttl-expired" "its TTL or hop limit reached zero; answered with time-exceeded";
    NoRoute Drop "no-route" "no prefix covers the destination; answered with unreachable";
    Blackhole Drop "blackhole" "a blackhole route; not answered";
    Unreachable Drop "unreachable" "an unreachable route; answered with unreachable";
    Prohibit Drop "prohibit" "a prohibit route; answered with administratively prohibited";
    AllDead Drop "all-dead" "every member of the group is down; answered according to the service's when-all-dead";
    UTurn Drop "u-turn" "the remaining members lead back out of the port it came in by; answered according to when-all-dead";
    TooBig Drop "too-big" "larger than the MTU of the adjacency; answered with frag-needed or packet-too-big";
    CoveringLoop Drop "covering-loop" "covering routes refer to each other more deeply than nearhop follows";

    PuntFull Drop "punt-full" "addressed to this router, but the lane was full";
    NotLocalProtocol Drop "not-local-protocol" "addressed to this router, with a protocol it does not support";
    NoBuffer Drop "no-buffer" "the batch had no room left for the packets to be made from it";
    TxFull Drop "tx-full" "the device's queue was full";
    TxDown Drop "tx-down" "the device was down or deleted when it was sent";
    TxRefused Drop "tx-refused" "the device refused the packet";
    NoPort Drop "no-port" "the port of the selected adjacency was removed";
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
