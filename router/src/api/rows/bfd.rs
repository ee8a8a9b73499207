//! Rows of BFD sessions.

use crate::api::column::Scale::{Ms, Us};
use crate::api::column::Text;
use crate::api::column::Unit::{self, Age, Count, Duration, Number};
use crate::api::row::rows;

rows! {
    /// A BFD session.
    pub struct BfdRow {
        /// The neighbour's address.
        neighbor: Text = "NEIGHBOR" Unit::Text,
        /// The router's end.
        local_address: Text = "LOCAL" Unit::Text => 6,
        /// The port of its link; `null` over several hops.
        port: Option<Text> = "PORT" Unit::Text,
        /// Its state: `up`, `init`, `down` or `admin-down`.
        state: Text = "STATE" Unit::State,
        /// State of the neighbour's end, as it said last.
        remote_state: Text = "REMOTE" Unit::Text,
        /// How long it is in its state, in milliseconds.
        age_ms: u64 = "AGE" Age(Ms) => 3,
        /// Whether packets may go there: `no` once it failed; `unknown` (they may) before it is up, and in `admin-down`.
        path: Text = "PATH" Unit::Text => 4,
        /// The BGP neighbours that it is with.
        bgp_neighbors: Vec<Text> = "BGP" Unit::List => 5,
        /// In which interval it sends, in microseconds; `null` if the neighbour wants nothing.
        interval_us: Option<u64> = "INTERVAL" Duration(Us),
        /// How long the neighbour may be silent, in microseconds.
        detection_us: u64 = "DETECTION" Duration(Us),
        /// So many packets that the neighbour misses in a row are a failure.
        multiplier: u64 = "MULTIPLIER" Number => 8,
        /// So many packets of the neighbour's that are missed.
        remote_multiplier: u64 = "REMOTE MULTIPLIER" Number => 9,
        /// So many times longer than configured its intervals are, as its packets went out late.
        pace: u64 = "PACE" Number => 7,
        /// How late its latest packet was sent while it was up, in microseconds.
        late_us: u64 = "LATE" Duration(Us) => 10,
        /// Packets that were used.
        received: u64 = "RECEIVED" Count,
        /// Packets that were sent.
        sent: u64 = "SENT" Count,
        /// Packets that were for it and not used.
        discarded: u64 = "DISCARDED" Count => 2,
        /// Why it left `up` last.
        diagnostic: Text = "DIAGNOSTIC" Unit::Text => 1,
        /// Why the neighbour's end did, as it says.
        remote_diagnostic: Text = "REMOTE DIAGNOSTIC" Unit::Text => 11,
    }

    /// BFD packets that no session used, although workers let them pass.
    pub struct BfdDropRow {
        /// Why, such as `auth-hash`.
        reason: Text = "REASON" Unit::Text,
        /// How many packets.
        packets: u64 = "PACKETS" Count,
    }
}
