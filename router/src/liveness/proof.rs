//! Proofs that packets which come in by a neighbour's port reach a site: each worker forwards an echo request to
//! the service's address as if it had come in there, until each of them was answered.
//!
//! The answer is for the router itself, and comes back by whatever port leads to it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::ids::PortId;
use crate::packet::build::Echo;
use crate::packet::{Meta, icmp, icmpv6, protocol};
use crate::secret::SecretRng;
use crate::time::Nanos;

/// Names a proof; not used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProofId(pub u64);

/// What is to be proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProofSpec {
    /// Its name.
    pub id: ProofId,
    /// The port by which packets seem to come in.
    pub port: PortId,
    /// The router's own address that answers are for.
    pub source: IpAddr,
    /// The service's address, of the same family.
    pub target: IpAddr,
}

/// What others ask of the prover.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProofOrder {
    /// Begin a proof.
    Begin(ProofSpec),
    /// Forget one.
    End(ProofId),
}

/// A packet that a worker is to forward as if it had come in by a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Injection {
    /// The worker's number.
    pub worker: usize,
    /// The port.
    pub port: PortId,
    /// The IP packet.
    pub packet: Box<[u8]>,
}

/// All proofs that are under way.
pub struct Prover {
    proofs: BTreeMap<ProofId, Proof>,
    /// When each asks again, in order.
    due: VecDeque<(Nanos, ProofId)>,
    injections: VecDeque<Injection>,
    proven: VecDeque<ProofId>,
    workers: usize,
    rng: SecretRng,
}

struct Proof {
    spec: ProofSpec,
    /// Nobody who sees no packet of it knows it.
    secret: u64,
    /// The workers whose request was not answered yet.
    left: Vec<usize>,
    seq: u16,
}

impl Prover {
    /// None is under way. `seed` is kept secret.
    pub fn new(workers: usize, seed: u64) -> Self {
        Self {
            proofs: BTreeMap::new(),
            due: VecDeque::new(),
            injections: VecDeque::new(),
            proven: VecDeque::new(),
            workers,
            rng: SecretRng::new(seed),
        }
    }

    /// Does what others ask.
    pub fn handle_order(&mut self, now: Nanos, order: ProofOrder) {
        match order {
            ProofOrder::Begin(spec) => {
                let (secret, left) = (self.rng.next_u64(), (0..self.workers).collect());
                self.proofs.insert(spec.id, Proof { spec, secret, left, seq: 0 });
                // Before all that ask again: these were asked already.
                self.due.push_front((now, spec.id));
            }
            ProofOrder::End(id) => {
                self.proofs.remove(&id);
            }
        }
    }

    /// A packet to one of the router's addresses; `true` if it is an answer to one of the requests.
    pub fn handle_packet(&mut self, packet: &[u8]) -> bool {
        let Some(answer) = Answer::read(packet) else { return false };
        let Some(proof) = self.proofs.get_mut(&answer.id) else { return false };
        let spec = proof.spec;
        let ends = (answer.src, answer.dst) == (spec.target, spec.source);
        if !ends || answer.secret != proof.secret {
            return false;
        }
        proof.left.retain(|&worker| worker != answer.worker);
        if proof.left.is_empty() {
            self.proofs.remove(&spec.id);
            self.proven.push_back(spec.id);
        }
        true
    }

    /// Makes the requests that are due, of 64 proofs at most; the rest keep
    /// [`Self::poll_timeout`] in the past.
    pub fn handle_timeout(&mut self, now: Nanos) {
        for _ in 0..PROOFS_PER_CALL {
            let Some((_, id)) = self.due.pop_front_if(|(at, _)| *at <= now) else { break };
            let Some(proof) = self.proofs.get_mut(&id) else { continue };
            proof.seq = proof.seq.wrapping_add(1);
            let requests = proof.left.iter().filter_map(|&worker| {
                let packet = proof.request(worker)?;
                Some(Injection { worker, port: proof.spec.port, packet })
            });
            self.injections.extend(requests);
            self.due.push_back((now + AGAIN_AFTER, id));
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.due.front().map(|&(at, _)| at)
    }

    /// Takes the oldest request.
    pub fn poll_injection(&mut self) -> Option<Injection> {
        self.injections.pop_front()
    }

    /// Takes a proof that every worker has.
    pub fn poll_proven(&mut self) -> Option<ProofId> {
        self.proven.pop_front()
    }
}

impl Proof {
    fn request(&self, worker: usize) -> Option<Box<[u8]>> {
        let mut data = [0; DATA_LEN];
        data[..8].copy_from_slice(&self.spec.id.0.to_be_bytes());
        data[8..16].copy_from_slice(&self.secret.to_be_bytes());
        data[16..].copy_from_slice(&(worker as u64).to_be_bytes());
        let request = Echo {
            src: self.spec.source,
            dst: self.spec.target,
            ttl: TTL,
            reply: false,
            ident: self.secret as u16,
            seq: self.seq,
            data: &data,
        };
        let mut packet = [0; HEADERS_MAX + DATA_LEN];
        let len = request.write(&mut packet)?;
        Some(packet[..len].into())
    }
}

/// An echo reply that may be one.
struct Answer {
    src: IpAddr,
    dst: IpAddr,
    id: ProofId,
    secret: u64,
    worker: usize,
}

impl Answer {
    fn read(packet: &[u8]) -> Option<Self> {
        let meta = Meta::parse(packet).ok()?;
        let reply = match meta.flow.protocol {
            protocol::ICMP => icmp::ECHO_REPLY,
            protocol::ICMPV6 => icmpv6::ECHO_REPLY,
            _ => return None,
        };
        let message = packet.get(meta.header_len..meta.len)?;
        let data: &[u8; DATA_LEN] = message.get(8..)?.try_into().ok()?;
        let (words, _) = data.as_chunks::<8>();
        let [id, secret, worker] = words else { return None };
        (message[0] == reply).then_some(Self {
            src: meta.src,
            dst: meta.dst,
            id: ProofId(u64::from_be_bytes(*id)),
            secret: u64::from_be_bytes(*secret),
            worker: usize::try_from(u64::from_be_bytes(*worker)).ok()?,
        })
    }
}

/// How long an answer is waited for before another request.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Proofs whose requests are made at once.
const PROOFS_PER_CALL: usize = 64;

const DATA_LEN: usize = 24;

/// IPv6 and ICMPv6.
const HEADERS_MAX: usize = 48;

const TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::build::Echo;

    const NOW: Nanos = Nanos(1_000_000_000);

    fn spec(id: u64) -> ProofSpec {
        let (source, target) = ("10.0.0.1".parse().unwrap(), "198.51.100.53".parse().unwrap());
        ProofSpec { id: ProofId(id), port: PortId(3), source, target }
    }

    fn requests(prover: &mut Prover, now: Nanos) -> Vec<Injection> {
        prover.handle_timeout(now);
        std::iter::from_fn(|| prover.poll_injection()).collect()
    }

    /// What a host says to a request.
    fn answer(request: &Injection, change: impl FnOnce(&mut Echo<'_>, &mut [u8])) -> Vec<u8> {
        let meta = Meta::parse(&request.packet).unwrap();
        let message = &request.packet[meta.header_len..];
        let mut data = message[8..].to_vec();
        let numbers = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        let (ident, seq) = (numbers(4), numbers(6));
        let (src, dst) = (meta.dst, meta.src);
        let mut echo = Echo { src, dst, ttl: 60, reply: true, ident, seq, data: &[] };
        change(&mut echo, &mut data);
        let echo = Echo { data: &data, ..echo };
        let mut packet = vec![0; 200];
        let len = echo.write(&mut packet).unwrap();
        packet.truncate(len);
        packet
    }

    #[test]
    fn it_is_proven_once_every_worker_was_answered() {
        let mut prover = Prover::new(2, 7);
        prover.handle_order(NOW, ProofOrder::Begin(spec(1)));
        assert_eq!(prover.poll_timeout(), Some(NOW));
        let first = requests(&mut prover, NOW);
        let to: Vec<(usize, PortId)> = first.iter().map(|one| (one.worker, one.port)).collect();
        assert_eq!(to, [(0, PortId(3)), (1, PortId(3))]);
        assert!(prover.handle_packet(&answer(&first[1], |_, _| ())));
        assert!(prover.handle_packet(&answer(&first[1], |_, _| ())), "a copy proves nothing more");
        assert_eq!(prover.poll_proven(), None);

        // The other is asked again, and only it.
        assert!(requests(&mut prover, NOW + AGAIN_AFTER / 2).is_empty());
        let again = requests(&mut prover, NOW + AGAIN_AFTER);
        assert_eq!(again.iter().map(|one| one.worker).collect::<Vec<_>>(), [0]);
        assert!(prover.handle_packet(&answer(&first[0], |_, _| ())), "late is as good");
        assert_eq!((prover.poll_proven(), prover.poll_proven()), (Some(ProofId(1)), None));
        assert!(requests(&mut prover, NOW + AGAIN_AFTER * 3).is_empty());
        assert_eq!(prover.poll_timeout(), None);
    }

    /// Whoever does not see the request cannot answer it.
    #[test]
    fn what_is_no_answer_proves_nothing() {
        let mut prover = Prover::new(1, 7);
        prover.handle_order(NOW, ProofOrder::Begin(spec(1)));
        let request = requests(&mut prover, NOW).remove(0);
        let elsewhere: IpAddr = "10.0.0.9".parse().unwrap();
        for wrong in [
            answer(&request, |_, data| data[8] ^= 1),
            answer(&request, |_, data| data[7] ^= 2),
            answer(&request, |echo, _| echo.src = elsewhere),
            answer(&request, |echo, _| echo.dst = elsewhere),
            answer(&request, |echo, _| echo.reply = false),
            request.packet.to_vec(),
            vec![0x45, 0, 0],
            vec![],
        ] {
            assert!(!prover.handle_packet(&wrong));
        }
        assert!(prover.handle_packet(&answer(&request, |_, data| data[23] = 9)), "of no worker");
        assert_eq!(prover.poll_proven(), None);
        prover.handle_order(NOW, ProofOrder::End(ProofId(1)));
        assert!(!prover.handle_packet(&answer(&request, |_, _| ())), "it is forgotten");
        assert!(requests(&mut prover, NOW + AGAIN_AFTER).is_empty());
    }

    #[test]
    fn many_take_turns() {
        let mut prover = Prover::new(1, 7);
        let count = PROOFS_PER_CALL * 3;
        for id in 0..count as u64 {
            prover.handle_order(NOW, ProofOrder::Begin(spec(id)));
        }
        let mut asked: Vec<usize> = Vec::new();
        while prover.poll_timeout().is_some_and(|due| due <= NOW) {
            asked.push(requests(&mut prover, NOW).len());
        }
        assert_eq!(asked, [PROOFS_PER_CALL; 3]);
        assert_eq!(prover.poll_timeout(), Some(NOW + AGAIN_AFTER));
    }
}
