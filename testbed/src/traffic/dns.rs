//! Sends real DNS queries at a steady pace, and records who answers and when.
//!
//! Queries alternate between `id.server. CH TXT` (RFC 4892) and `www.example. IN A`. Each requests
//! the server's identity (NSID, RFC 5001) and writes its name in a different mix of capitals. An
//! answer counts only if it repeats the question byte for byte.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use nearhop::time::Nanos;

use super::batch_io::{RxBatch, enable_timestamps, sharpen_timers};
use super::buffers::deepen;
use super::pace::Pacer;
use super::probe::{ProbeError, ProbeOptions, SharedLog, any_of, family_of, sleep_until};
use super::protocol::{DnsAnswer, DnsRecord};

/// Sends queries, on a thread of its own after [`DnsClient::start`].
pub struct DnsClient {
    servers: Vec<Server>,
    every: Duration,
    log: SharedLog,
}

/// The latest queries, at most `LOG_QUERIES` per server.
#[derive(Default)]
pub struct DnsLog(Mutex<VecDeque<Entry>>);

struct Server {
    address: SocketAddr,
    socket: UdpSocket,
    asked: u16,
}

struct Entry {
    server: SocketAddr,
    id: u16,
    /// The question section as it was sent.
    question: Vec<u8>,
    record: DnsRecord,
}

impl DnsClient {
    /// Opens a socket per address; `None` if no queries are wanted.
    pub fn open(options: &ProbeOptions) -> Result<Option<Self>, ProbeError> {
        if options.dns_every_ms == 0 {
            return Ok(None);
        }
        let open = |address: &std::net::IpAddr| {
            let destination = SocketAddr::new(*address, options.dns_port);
            let socket = UdpSocket::bind((any_of(*address), 0)).map_err(|source| {
                let client = options.client.clone();
                ProbeError::Socket { client, destination, source_port: 0, source }
            })?;
            deepen(&socket);
            // Without kernel timestamps the time of reading is used.
            let _ = enable_timestamps(&socket);
            Ok(Server { address: destination, socket, asked: 0 })
        };
        let servers = options.to.iter().map(open).collect::<Result<_, _>>()?;
        let every = Duration::from_millis(options.dns_every_ms);
        Ok(Some(Self { servers, every, log: Arc::default() }))
    }

    /// Starts to send queries, until the process ends.
    pub fn start(self) -> io::Result<SharedLog> {
        let log = Arc::clone(&self.log);
        thread::Builder::new().name("dns".into()).spawn(move || self.run()).map(|_| log)
    }

    fn run(mut self) {
        sharpen_timers();
        let mut batch = RxBatch::new(RX_BATCH);
        let mut pacer = Pacer::new(Nanos::now(), self.every);
        loop {
            sleep_until(pacer.deadline());
            // After a pause one query is enough, because queries are not probes.
            let due = pacer.due(Nanos::now()) > 0;
            for server in &mut self.servers {
                server.read(&mut batch, &self.log);
                if due {
                    server.ask(&self.log);
                }
            }
        }
    }
}

impl Server {
    fn ask(&mut self, log: &DnsLog) {
        self.asked = self.asked.wrapping_add(1);
        let id = self.asked;
        let Some((question, bytes)) = encode_query(id) else { return };
        let record = DnsRecord {
            family: family_of(self.address.ip()),
            question: QUESTIONS[usize::from(id) % QUESTIONS.len()].label.to_owned(),
            sent_ns: Nanos::now().0,
            answer: None,
        };
        // A query that cannot be sent counts as unanswered.
        let _ = self.socket.send_to(&bytes, self.address);
        log.asked(Entry { server: self.address, id, question, record });
    }

    fn read(&self, batch: &mut RxBatch, log: &DnsLog) {
        while let Ok(1..) = batch.receive(&self.socket, false) {
            for datagram in batch.datagrams() {
                if datagram.from == self.address {
                    log.answered(self.address, datagram.bytes, datagram.at_ns);
                }
            }
        }
    }
}

impl DnsLog {
    /// The queries sent at or after `from_ns` and before `to_ns`, in order of sending.
    pub fn take(&self, from_ns: u64, to_ns: u64) -> Vec<DnsRecord> {
        let entries = self.lock();
        let wanted = entries.iter().filter(|e| (from_ns..to_ns).contains(&e.record.sent_ns));
        wanted.map(|entry| entry.record.clone()).collect()
    }

    fn asked(&self, entry: Entry) {
        let mut entries = self.lock();
        if entries.len() >= LOG_QUERIES {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// Finds the query that `bytes` answers, searching from the latest, and records the answer.
    fn answered(&self, server: SocketAddr, bytes: &[u8], t_ns: u64) {
        let Some(id) = bytes.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
        let mut entries = self.lock();
        let asked = entries.iter_mut().rev().find(|e| e.server == server && e.id == id);
        if let Some(entry) = asked.filter(|entry| entry.record.answer.is_none()) {
            entry.record.answer = decode_answer(bytes, &entry.question, t_ns);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The question section and the whole message of query `id`.
fn encode_query(id: u16) -> Option<(Vec<u8>, Vec<u8>)> {
    let question = &QUESTIONS[usize::from(id) % QUESTIONS.len()];
    let mut query =
        Query::query(Name::from_ascii(mixed_case(question.name, id)).ok()?, question.kind);
    query.set_query_class(question.class);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(query);
    let mut edns = Edns::new();
    edns.set_max_payload(EDNS_PAYLOAD);
    edns.options_mut().insert(EdnsOption::NSID(NSIDPayload::new(Vec::new()).ok()?));
    message.set_edns(edns);
    let bytes = message.to_vec().ok()?;
    let end = HEADER_LEN + question.name.len() + 1 + 4;
    Some((bytes.get(HEADER_LEN..end)?.to_vec(), bytes))
}

/// `name` with a capital wherever `seed` has a bit set.
fn mixed_case(name: &str, seed: u16) -> String {
    let letter = |(at, letter): (usize, char)| {
        if seed >> (at % 16) & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
    };
    name.chars().enumerate().map(letter).collect()
}

/// Decodes an answer; `None` if it is not one, or repeats another question.
fn decode_answer(bytes: &[u8], question: &[u8], t_ns: u64) -> Option<DnsAnswer> {
    let returned = bytes.get(HEADER_LEN..HEADER_LEN + question.len())?;
    let message = Message::from_vec(bytes).ok()?;
    if returned != question || message.metadata.message_type != MessageType::Response {
        return None;
    }
    let nsid = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::NSID));
    let site = match nsid {
        Some(EdnsOption::NSID(name)) => Some(String::from_utf8_lossy(name.as_ref()).into_owned()),
        _ => None,
    };
    let data = message.answers.first().map(|record| match &record.data {
        RData::TXT(text) => {
            text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()
        }
        other => other.to_string(),
    });
    Some(DnsAnswer { t_ns, site, rcode: message.metadata.response_code.into(), data })
}

/// One of the alternating questions.
struct Question {
    name: &'static str,
    class: DNSClass,
    kind: RecordType,
    label: &'static str,
}

const QUESTIONS: [Question; 2] = [
    Question {
        name: "id.server.",
        class: DNSClass::CH,
        kind: RecordType::TXT,
        label: "id.server. CH TXT",
    },
    Question {
        name: "www.example.",
        class: DNSClass::IN,
        kind: RecordType::A,
        label: "www.example. IN A",
    },
];
const HEADER_LEN: usize = 12;
/// Fits every path unfragmented (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1_232;
/// Ten minutes for two servers at 10 ms.
const LOG_QUERIES: usize = 120_000;
const RX_BATCH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_section_is_cut_out_whole() {
        for id in [0, 1, 0xffff] {
            let (question, bytes) = encode_query(id).unwrap();
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!(message.metadata.id, id);
            assert_eq!(bytes[HEADER_LEN..][..question.len()], question);
            // The last four bytes are type and class.
            let class = if id % 2 == 0 { [0, 16, 0, 3] } else { [0, 1, 0, 1] };
            assert_eq!(question[question.len() - 4..], class);
        }
    }

    #[test]
    fn an_answer_to_a_question_in_other_capitals_does_not_count() {
        let (question, bytes) = encode_query(0x5a5a).unwrap();
        let answer = Message::from_vec(&bytes).unwrap().into_response().to_vec().unwrap();
        assert!(decode_answer(&answer, &question, 9).is_some());
        let (other, _) = encode_query(0x00fe).unwrap();
        assert!(other.eq_ignore_ascii_case(&question) && other != question);
        assert_eq!(decode_answer(&answer, &other, 9), None);
        assert_eq!(decode_answer(&bytes, &question, 9), None, "a query is no answer");
        for cut in 0..answer.len() {
            let _ = decode_answer(&answer[..cut], &question, 9);
        }
    }
}
