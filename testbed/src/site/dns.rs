//! The DNS server of a site: its identity (RFC 4892, RFC 5001) and an ordinary zone.
//!
//! hickory-server carries the protocol: both transports, EDNS sizes, truncation, the question
//! returned byte for byte (so that 0x20 resolvers see their own capitals). Here is only what this
//! server answers: class CH by ourselves, class IN by hickory's catalogue with one zone in memory.
#![forbid(unsafe_code)]

use std::iter;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{
    AxfrPolicy, Catalog, MessageResponseBuilder, ZoneHandler, ZoneType,
};
use log::debug;

/// The zone every site serves.
pub const ZONE: &str = "example.";

/// Answers queries as one site.
pub struct SiteHandler {
    catalog: Catalog,
    nsid: NSIDPayload,
    /// The names of RFC 4892 (and the older ones it replaces), each with its TXT record.
    identity: Vec<Record>,
}

impl SiteHandler {
    /// A server that calls itself `site`; `addresses` are those of `www.example.` and its name
    /// server. The error is what hickory refused, in words.
    pub fn new(site: &str, addresses: &[IpAddr]) -> Result<Self, String> {
        let nsid = NSIDPayload::new(site.as_bytes()).map_err(|error| error.to_string())?;
        let mut catalog = Catalog::new();
        let zone = zone(site, addresses)?;
        catalog.upsert(zone.origin().clone(), vec![Arc::new(zone)]);
        catalog.set_nsid(Some(nsid.clone()));
        let identity = IDENTITY_NAMES.iter().map(|owner| identity(owner, site));
        Ok(Self { catalog, nsid, identity: identity.collect::<Result<_, _>>()? })
    }

    /// Answers class CH, and refuses classes nobody here serves.
    async fn other_class<R: ResponseHandler>(
        &self,
        request: &Request,
        class: DNSClass,
        mut respond: R,
    ) -> Result<ResponseInfo, NetError> {
        let edns = request.edns.as_ref().map(|asked| self.response_edns(asked));
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let query = request.queries.queries().first();
        let owner = query.filter(|_| class == DNSClass::CH).and_then(|query| {
            let same = |record: &&Record| *query.name() == (&record.name).into();
            Some((self.identity.iter().find(same)?, query.query_type()))
        });
        let answer = owner
            .filter(|(_, kind)| matches!(kind, RecordType::TXT | RecordType::ANY))
            .map(|(record, _)| record);
        metadata.authoritative = owner.is_some();
        if owner.is_none() {
            metadata.response_code = ResponseCode::Refused;
        }
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            answer,
            iter::empty(),
            iter::empty(),
            iter::empty(),
        );
        respond.send_response(response).await
    }

    /// RFC 6891: version 0, and the asker's size; RFC 5001: an identifier only for who asks.
    fn response_edns(&self, asked: &Edns) -> Edns {
        let mut edns = Edns::new();
        edns.set_version(0);
        edns.set_max_payload(asked.max_payload().max(512));
        if asked.option(EdnsCode::NSID).is_some() {
            edns.options_mut().insert(EdnsOption::NSID(self.nsid.clone()));
        }
        edns
    }
}

#[async_trait]
impl RequestHandler for SiteHandler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        respond: R,
    ) -> ResponseInfo {
        let plain = request.metadata.message_type == MessageType::Query
            && request.metadata.op_code == OpCode::Query
            && request.version() == 0;
        let class = match request.queries.queries() {
            [query] if plain => query.query_class(),
            // Whatever is wrong with it, the catalogue has the answer RFCs ask for.
            _ => DNSClass::IN,
        };
        if matches!(class, DNSClass::IN | DNSClass::ANY) {
            return self.catalog.handle_request::<R, T>(request, respond).await;
        }
        self.other_class(request, class, respond).await.unwrap_or_else(|error| {
            debug!("no answer to {}: {error}", request.src());
            let mut metadata = Metadata::response_from_request(&request.metadata);
            metadata.response_code = ResponseCode::ServFail;
            Header { metadata, counts: HeaderCounts::default() }.into()
        })
    }
}

/// `example.`: what a resolver asks for, and `big.example.`, which does not fit 512 bytes.
fn zone(site: &str, addresses: &[IpAddr]) -> Result<InMemoryZoneHandler, String> {
    let origin = name(ZONE)?;
    let server = name("ns.example.")?;
    let soa = SOA::new(server.clone(), name("hostmaster.example.")?, 1, 3600, 600, 86_400, 60);
    let mut records = vec![
        (origin.clone(), RData::SOA(soa)),
        (origin.clone(), RData::NS(NS(server.clone()))),
        (name("site.example.")?, RData::TXT(TXT::new(vec![site.to_owned()]))),
        (name("big.example.")?, RData::TXT(TXT::new(vec!["0123456789".repeat(20); 5]))),
    ];
    for owner in [server, name("www.example.")?] {
        records.extend(addresses.iter().map(|address| (owner.clone(), host(*address))));
    }
    let mut zone = InMemoryZoneHandler::empty(origin, ZoneType::Primary, AxfrPolicy::Deny);
    for (owner, data) in records {
        let record = Record::from_rdata(owner, TTL_S, data);
        if !zone.upsert_mut(record.clone(), 1) {
            return Err(format!("the record '{record}' was refused"));
        }
    }
    Ok(zone)
}

fn identity(owner: &str, site: &str) -> Result<Record, String> {
    let text = RData::TXT(TXT::new(vec![site.to_owned()]));
    let mut record = Record::from_rdata(name(owner)?, 0, text);
    record.dns_class = DNSClass::CH;
    Ok(record)
}

fn host(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::from_str(text).map_err(|error| format!("the name '{text}': {error}"))
}

const IDENTITY_NAMES: [&str; 3] = ["id.server.", "hostname.bind.", "version.bind."];
const TTL_S: u32 = 60;
