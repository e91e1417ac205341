//! Messages in, messages out: what is ours is answered from the zone, all else
//! is passed on.

use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use knarr_api::time::SharedRandom;
use parking_lot::RwLock;

use super::answer::{Authority, Reply};
use super::forward::{self, Forwarder, Transport};
use super::zone::Zone;

/// What a datagram may carry without fragments on any sane path.
const UDP_PAYLOAD: u16 = 1232;
const MIN_UDP_PAYLOAD: u16 = 512;
/// ExternalNames that point to ExternalNames.
const MAX_FOLLOWED: usize = 8;
const HEADER: usize = 12;

/// Answers questions.
pub struct Server {
    authority: Authority,
    zone: Arc<RwLock<Zone>>,
    forwarder: Forwarder,
    random: SharedRandom,
}

/// What to do with a message: the cheap part of answering it.
pub enum Outcome {
    Reply(Vec<u8>),
    /// Somebody else must be asked: see [`Server::ask_others`].
    Forward(Box<Pending>),
    /// It was no question.
    Ignore,
}

/// A question that others must answer, in whole or in part.
pub struct Pending {
    request: Message,
    /// What is known of the answer: the part before an ExternalName.
    so_far: Option<Reply>,
    transport: Transport,
}

impl Server {
    pub fn new(
        authority: Authority,
        zone: Arc<RwLock<Zone>>,
        forwarder: Forwarder,
        random: SharedRandom,
    ) -> Self {
        Self { authority, zone, forwarder, random }
    }

    /// Handles a message without waiting.
    pub fn handle(&self, bytes: &[u8], transport: Transport) -> Outcome {
        let request = match Message::from_vec(bytes) {
            Ok(request) => request,
            Err(_) => return malformed(bytes),
        };
        if request.metadata.message_type == MessageType::Response {
            return Outcome::Ignore;
        }
        let refuse = |code| self.encode(&request, Reply::default(), code, transport);
        if request.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let [query] = request.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return refuse(ResponseCode::BADVERS);
        }
        let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || is_transfer {
            return refuse(ResponseCode::Refused);
        }
        let reply = self.resolve(query.name(), query.query_type());
        match reply {
            Some(reply) if reply.follow.is_none() => {
                let code = reply.response_code();
                self.encode(&request, reply, code, transport)
            }
            so_far => Outcome::Forward(Box::new(Pending { request, so_far, transport })),
        }
    }

    /// Completes an answer with the help of the machine's resolvers.
    pub async fn ask_others(&self, pending: Pending) -> Option<Vec<u8>> {
        let Pending { mut request, so_far, transport } = pending;
        let asked = request.queries.first()?.clone();
        let target = so_far.as_ref().and_then(|reply| reply.follow.clone());
        if let Some(target) = &target {
            request.queries = vec![Query::query(target.clone(), asked.query_type())];
        }
        let encoded = request.to_vec().ok()?;
        let answer = self.forwarder.ask(&encoded, transport).await;
        request.queries = vec![asked];
        let reply = match (answer, so_far) {
            (Ok(bytes), None) => return Some(bytes),
            (Ok(bytes), Some(mut reply)) => {
                if let Ok(message) = Message::from_vec(&bytes) {
                    reply.answers.extend(message.answers);
                }
                let code = reply.response_code();
                self.encode(&request, reply, code, transport)
            }
            // The alias is true even if nobody knows what it points to.
            (Err(_), Some(reply)) => self.encode(&request, reply, ResponseCode::NoError, transport),
            (Err(error), None) => {
                tracing::debug!(%error, "question not answered");
                let code = match error {
                    forward::Error::NoResolvers { .. } | forward::Error::Busy => ResponseCode::Refused,
                    forward::Error::Unanswered(_) => ResponseCode::ServFail,
                };
                self.encode(&request, Reply::default(), code, transport)
            }
        };
        match reply {
            Outcome::Reply(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The answer from the zone, following ExternalNames that stay inside it.
    fn resolve(&self, name: &Name, kind: RecordType) -> Option<Reply> {
        let zone = self.zone.read();
        let mut reply = self.authority.answer(&zone, name, kind)?;
        if kind == RecordType::CNAME {
            reply.follow = None;
        }
        for _ in 0..MAX_FOLLOWED {
            let Some(target) = &reply.follow else { break };
            let Some(next) = self.authority.answer(&zone, target, kind) else { break };
            reply.answers.extend(next.answers);
            reply.follow = next.follow;
        }
        Some(reply)
    }

    fn encode(
        &self,
        request: &Message,
        mut reply: Reply,
        code: ResponseCode,
        transport: Transport,
    ) -> Outcome {
        // Clients mostly take the first; let each be first at times.
        let answers = &mut reply.answers;
        if answers.len() > 1 && answers.iter().all(|record| record.record_type().is_ip_addr()) {
            let shift = self.random.below(answers.len() as u64) as usize;
            answers.rotate_left(shift);
        }
        let is_ours = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        let mut message = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        message.metadata = Metadata::response_from_request(&request.metadata);
        message.metadata.response_code = code;
        message.metadata.authoritative = is_ours;
        message.metadata.recursion_available = true;
        message.queries = request.queries.clone();
        if let Some(query) = request.queries.first().filter(|_| is_ours && reply.answers.is_empty()) {
            message.authorities.push(self.authority.soa(query.name()));
        }
        message.answers = reply.answers;
        message.additionals = reply.additionals;
        if let Some(edns) = &request.edns {
            let mut ours = Edns::new();
            ours.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(edns.flags().dnssec_ok);
            message.edns = Some(ours);
        }
        let room = match transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => usize::from(
                request
                    .edns
                    .as_ref()
                    .map_or(MIN_UDP_PAYLOAD, |e| e.max_payload().clamp(MIN_UDP_PAYLOAD, UDP_PAYLOAD)),
            ),
        };
        match fit(message, room) {
            Some(bytes) => Outcome::Reply(bytes),
            None => Outcome::Ignore,
        }
    }
}

/// Encodes a message into at most `room` bytes: without additional records if
/// need be, then with as many answers as fit and the mark that some are missing.
fn fit(mut message: Message, room: usize) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    message.additionals.clear();
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= room {
        return Some(bytes);
    }
    message.metadata.truncation = true;
    let all = std::mem::take(&mut message.answers);
    let (mut fits, mut too_many) = (0, all.len());
    while fits + 1 < too_many {
        let middle = fits.midpoint(too_many);
        message.answers = all[..middle].to_vec();
        if message.to_vec().ok()?.len() <= room { fits = middle } else { too_many = middle }
    }
    message.answers = all[..fits].to_vec();
    message.to_vec().ok()
}

/// Something that cannot be read as a message, but has a header.
fn malformed(bytes: &[u8]) -> Outcome {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Outcome::Ignore };
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return Outcome::Ignore;
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec();
    reply.map_or(Outcome::Ignore, Outcome::Reply)
}
