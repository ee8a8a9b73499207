//! Which BFD packets reach the liveness engine. Workers decide it, so that forged ones cost that engine no
//! turn.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::bfd::machine::{Ends, PORT, PORT_MULTIHOP};
use crate::ids::PortId;
use crate::packet::udp::Udp;
use crate::packet::{Fragment, Meta, protocol};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// The sessions that workers know. The liveness engine publishes them; readers take no lock.
#[derive(Debug, Default)]
pub struct BfdGate(ArcSwap<HashMap<Ends, Arc<KnownSession>>>);

/// A session as workers know it.
#[derive(Debug)]
pub struct KnownSession {
    /// The router's number for it, which its packets bear once the neighbour knows it.
    pub discriminator: u32,
    /// How many packets a second the neighbour may send at most.
    pub rate: u32,
    /// Those that do not name the session yet.
    first: Policer,
    /// All others. They have a policer of their own: whoever forges the first kind does not crowd these out.
    others: Policer,
}

/// A BFD packet to the router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BfdPacket<'a> {
    /// Between whom it is.
    pub ends: Ends,
    /// Its TTL or hop limit.
    pub ttl: u8,
    /// What the UDP datagram carries.
    pub payload: &'a [u8],
    /// Whether the datagram's checksum is right.
    pub is_intact: bool,
}

/// A token bucket that several workers take from.
#[derive(Debug)]
struct Policer {
    per_token_ns: u64,
    burst_ns: u64,
    /// When it is full, unless more is taken.
    full_at: AtomicU64,
}

impl BfdGate {
    /// These are the sessions from now on.
    pub fn publish(&self, sessions: HashMap<Ends, Arc<KnownSession>>) {
        self.0.store(Arc::new(sessions));
    }

    /// The sessions in force.
    pub fn sessions(&self) -> Arc<HashMap<Ends, Arc<KnownSession>>> {
        self.0.load_full()
    }

    /// Whether a packet that came in by `port` is to be delivered.
    ///
    /// # Errors
    /// The verdict that counts it.
    pub fn admit(&self, now: Nanos, port: PortId, packet: &[u8]) -> Result<(), Verdict> {
        let packet = BfdPacket::parse(port, packet).ok_or(Verdict::BfdNoSession)?;
        if packet.ends.link.is_some() && packet.ttl != u8::MAX {
            return Err(Verdict::BfdTtl);
        }
        let sessions = self.0.load();
        let session = sessions.get(&packet.ends).ok_or(Verdict::BfdNoSession)?;
        let named = packet.payload.get(YOUR_DISCRIMINATOR..YOUR_DISCRIMINATOR + 4);
        let named = named.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        let policer = match named {
            0 => &session.first,
            named if named == session.discriminator => &session.others,
            _ => return Err(Verdict::BfdDiscriminator),
        };
        if policer.take(now) { Ok(()) } else { Err(Verdict::BfdPoliced) }
    }
}

impl KnownSession {
    /// A session whose neighbour sends `rate` packets a second at most.
    pub fn new(discriminator: u32, rate: u32) -> Self {
        Self {
            discriminator,
            rate,
            first: Policer::new(FIRST_RATE, FIRST_BURST),
            // What waited for a worker comes at once, and a poll has an answer besides.
            others: Policer::new(rate.saturating_mul(2), rate.max(OTHERS_BURST_MIN)),
        }
    }
}

impl<'a> BfdPacket<'a> {
    /// `None` for what is no BFD packet.
    pub fn parse(port: PortId, packet: &'a [u8]) -> Option<Self> {
        let meta = Meta::parse(packet).ok()?;
        if meta.protocol != protocol::UDP || meta.fragment != Fragment::Whole {
            return None;
        }
        let udp = Udp::parse(packet.get(meta.header_len..meta.len)?).ok()?;
        let link = match udp.dst_port() {
            PORT => Some(port),
            PORT_MULTIHOP => None,
            _ => return None,
        };
        let ends = Ends { local: meta.dst, remote: meta.src, link };
        Some(Self {
            ends,
            ttl: meta.ttl,
            payload: udp.payload(),
            is_intact: udp.is_valid(meta.src, meta.dst),
        })
    }
}

impl Policer {
    fn new(rate: u32, burst: u32) -> Self {
        let per_token = Duration::from_secs(1) / rate.max(1);
        let per_token_ns = u64::try_from(per_token.as_nanos()).unwrap_or(u64::MAX).max(1);
        let burst_ns = per_token_ns.saturating_mul(u64::from(burst.max(1)));
        Self { per_token_ns, burst_ns, full_at: AtomicU64::new(0) }
    }

    fn take(&self, now: Nanos) -> bool {
        let after = |full_at: u64| {
            let next = full_at.max(now.0).saturating_add(self.per_token_ns);
            (next - now.0 <= self.burst_ns).then_some(next)
        };
        // The count alone matters: nothing else is published by it.
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).is_ok()
    }
}

/// Where the receiver's number stands in a control packet (RFC 5880, section 4.1).
const YOUR_DISCRIMINATOR: usize = 8;

/// A neighbour that does not know the session yet sends each second; some more for changes of its state.
const FIRST_RATE: u32 = 5;
const FIRST_BURST: u32 = 10;

const OTHERS_BURST_MIN: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bfd::packet::{CONTROL_LEN, Control};
    use crate::packet::build::Datagram;

    const LINK: PortId = PortId(3);
    const NUMBER: u32 = 0x1234_5678;

    #[derive(Clone, Copy)]
    struct Sent {
        src: &'static str,
        dst_port: u16,
        ttl: u8,
        named: u32,
    }

    const GOOD: Sent = Sent { src: "10.0.0.2", dst_port: PORT, ttl: 255, named: NUMBER };

    fn packet(sent: &Sent) -> Vec<u8> {
        let control = Control {
            multiplier: 3,
            my_discriminator: 7,
            your_discriminator: sent.named,
            ..Control::default()
        };
        let mut payload = Vec::new();
        control.write(0, &mut payload);
        assert_eq!(payload.len(), CONTROL_LEN);
        let src = format!("{}:49152", sent.src).parse().unwrap();
        let own = if sent.src.starts_with('[') { "[fd00::1]" } else { "10.0.0.1" };
        let dst = format!("{own}:{}", sent.dst_port).parse().unwrap();
        let mut out = vec![0; 200];
        let datagram = Datagram { src, dst, ttl: sent.ttl, payload: &payload };
        let len = datagram.write(&mut out).unwrap();
        out.truncate(len);
        out
    }

    fn gate() -> BfdGate {
        let ends = |host: &str, link| Ends {
            local: format!("{host}1").parse().unwrap(),
            remote: format!("{host}2").parse().unwrap(),
            link,
        };
        let gate = BfdGate::default();
        let known = |host, link| (ends(host, link), Arc::new(KnownSession::new(NUMBER, 100)));
        let [v4, v6] = ["10.0.0.", "fd00::"];
        gate.publish([known(v4, Some(LINK)), known(v4, None), known(v6, Some(LINK))].into());
        gate
    }

    #[test]
    fn what_is_forged_ends_here_and_each_fault_has_its_own_verdict() {
        let gate = gate();
        let now = Nanos(1_000_000_000);
        let ask = |sent: Sent, port| gate.admit(now, port, &packet(&sent));
        assert_eq!(ask(GOOD, LINK), Ok(()));
        assert_eq!(ask(Sent { named: 0, ..GOOD }, LINK), Ok(()));
        assert_eq!(ask(Sent { ttl: 254, ..GOOD }, LINK), Err(Verdict::BfdTtl));
        assert_eq!(ask(Sent { src: "10.0.0.3", ..GOOD }, LINK), Err(Verdict::BfdNoSession));
        assert_eq!(ask(GOOD, PortId(4)), Err(Verdict::BfdNoSession), "another link");
        let other = Sent { named: NUMBER + 1, ..GOOD };
        assert_eq!(ask(other, LINK), Err(Verdict::BfdDiscriminator));
        // IPv6 has a hop limit instead.
        let v6 = Sent { src: "[fd00::2]", ..GOOD };
        assert_eq!(ask(v6, LINK), Ok(()));
        assert_eq!(ask(Sent { ttl: 254, ..v6 }, LINK), Err(Verdict::BfdTtl));
        // Over several hops the TTL says nothing, and any link may be the way.
        let far = Sent { dst_port: PORT_MULTIHOP, ttl: 3, ..GOOD };
        assert_eq!(ask(far, PortId(9)), Ok(()));
        gate.publish(HashMap::new());
        assert_eq!(ask(GOOD, LINK), Err(Verdict::BfdNoSession), "it is removed");
        assert_eq!(gate.admit(now, LINK, &packet(&GOOD)[..20]), Err(Verdict::BfdNoSession));
    }

    #[test]
    fn a_flood_that_names_no_session_is_policed_and_crowds_nothing_else_out() {
        let gate = gate();
        let now = Nanos(1_000_000_000);
        let first = packet(&Sent { named: 0, ..GOOD });
        let admitted = (0..100_000).filter(|_| gate.admit(now, LINK, &first).is_ok()).count();
        assert_eq!(admitted, FIRST_BURST as usize);
        assert_eq!(gate.admit(now, LINK, &first), Err(Verdict::BfdPoliced));
        assert_eq!(gate.admit(now, LINK, &packet(&GOOD)), Ok(()));
        let second = now + Duration::from_secs(1);
        let later = (0..1000).filter(|_| gate.admit(second, LINK, &first).is_ok()).count();
        assert_eq!(later, FIRST_RATE as usize);
        // Also what names the session has a limit, above what the neighbour may send.
        let good = packet(&GOOD);
        let admitted = (0..100_000).filter(|_| gate.admit(second, LINK, &good).is_ok()).count();
        assert_eq!(admitted, 100);
    }

    #[test]
    fn a_packet_is_read_with_its_ends() {
        let bytes = packet(&GOOD);
        let read = BfdPacket::parse(LINK, &bytes).unwrap();
        assert_eq!((read.ttl, read.payload.len(), read.is_intact), (255, CONTROL_LEN, true));
        assert_eq!(read.ends.link, Some(LINK));
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(!BfdPacket::parse(LINK, &damaged).unwrap().is_intact);
        assert!(BfdPacket::parse(LINK, &packet(&Sent { dst_port: 3785, ..GOOD })).is_none());
    }
}
