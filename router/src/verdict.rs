//! One table of every way a packet can end. A row becomes the enum variant, the counter, the metric
//! label, the text in traces and the row of `docs/verdicts.md`, so none of them can be forgotten.
#![forbid(unsafe_code)]

/// What the worker has to do with a packet that ended so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Send it out of a port.
    Tx,
    /// Hand it to the router itself: host stack or prober.
    Punt,
    /// Forget it; the counter is all that remains.
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

            /// The metric label, also what `show drops` prints: kebab-case, never renamed.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// One sentence for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

verdicts! {
    Forward Tx "forwarded" "sent to the member that the group chose";
    Originate Tx "originated" "made by this router: an ICMP error, a probe, or the host stack's own";
    FragmentSent Tx "fragment-sent" "one of the fragments of a packet larger than the MTU (DF clear)";
    Joined Tx "joined" "sent in a superframe of its flow, behind a packet that counts as forwarded";
    Local Punt "local" "addressed to this router; handed to the host stack";
    ProbeAnswer Punt "probe-answer" "addressed to this router; handed to the prober";
    Fragmented Drop "fragmented" "replaced by its fragments, each counted as fragment-sent";

    Truncated Drop "truncated" "shorter than its headers say";
    NotIp Drop "not-ip" "the version nibble is neither 4 nor 6";
    BadHeaderLength Drop "bad-header-length" "an IPv4 or TCP header length below 20 bytes";
    BadTotalLength Drop "bad-total-length" "a total or payload length below the header's, or above the packet";
    BadHeaderChecksum Drop "bad-header-checksum" "the IPv4 header checksum does not fit";
    BadOption Drop "bad-option" "an IP option or extension header that overruns its header, or stands where it must not";
    BadFragment Drop "bad-fragment" "a fragment that would end beyond 65,535 bytes, an IPv6 fragment of a length not divisible by 8, or one in another";
    SourceRoute Drop "source-route" "asks for source routing, which is refused (RFC 7126, RFC 5095)";
    TooManyExtensions Drop "too-many-extensions" "a longer chain of IPv6 extension headers than is followed";
    BadOffload Drop "bad-offload" "what its vnet_hdr says of checksum and segments does not fit the packet";
    Jumbogram Drop "jumbogram" "an IPv6 jumbogram (RFC 2675), which no port here can carry";

    MartianSource Drop "martian-source" "a source address that no packet may have";
    MartianDestination Drop "martian-destination" "a destination address that is never forwarded";
    Multicast Drop "multicast" "to a multicast group that this router did not join";
    Broadcast Drop "broadcast" "to the limited or a directed broadcast address";
    LinkLocal Drop "link-local" "a link-local address, which is never forwarded";
    ReversePath Drop "reverse-path" "came in by a port that is not a way back to its source (RFC 3704)";

    TtlExpired Drop "ttl-expired" "its TTL or hop limit reached zero; answered with time-exceeded";
    NoRoute Drop "no-route" "no prefix covers the destination; answered with unreachable";
    Blackhole Drop "blackhole" "a blackhole route, silently";
    Unreachable Drop "unreachable" "an unreachable route; answered with unreachable";
    Prohibit Drop "prohibit" "a prohibit route; answered with administratively prohibited";
    AllDead Drop "all-dead" "every member of the group is down; answered as the service's when-all-dead says";
    UTurn Drop "u-turn" "the members left lead back out of the port it came in by; answered as when-all-dead says";
    TooBig Drop "too-big" "larger than the MTU of the way out; answered with frag-needed or packet-too-big";
    CoveringLoop Drop "covering-loop" "covering routes refer to each other more often than is followed";

    PuntFull Drop "punt-full" "addressed to this router, whose punt channel was full";
    NotLocalProtocol Drop "not-local-protocol" "addressed to this router, with a protocol it does not speak";
    NoBuffer Drop "no-buffer" "the batch had no buffer left for what this packet would become";
    TxFull Drop "tx-full" "the device's queue was full";
    TxDown Drop "tx-down" "the device was down or gone when it was sent";
    TxRefused Drop "tx-refused" "the device refused the packet";
    NoPort Drop "no-port" "the chosen adjacency's port is not there any more";
}

impl Verdict {
    /// How many verdicts there are: the length of an array of counters.
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
