//! A small DNS client (RFC 1035): one question or update to one server, and its answer.
//!
//! UDP first, TCP when the answer is cut short. An answer counts only if it comes from
//! the server that was asked, has the question's random id and repeats the question;
//! all else is passed over until time is up, so that nonsense can't end a wait early.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query};
use hickory_proto::rr::{Name, RecordType};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How much we take over UDP (what survives nearly every path unfragmented).
const LARGEST_DATAGRAM: u16 = 1232;

/// How often a datagram is sent, as some get lost.
const ATTEMPTS: u32 = 3;

/// No answer that can be used.
#[derive(Debug, Error)]
pub(super) enum AskError {
    /// The server can't be reached.
    #[error("{server} can't be asked")]
    Unreachable {
        server: SocketAddr,
        source: io::Error,
    },
    /// Nothing came that answers the question.
    #[error("{server} does not answer in {seconds} s")]
    Silent { server: SocketAddr, seconds: u64 },
    /// What came over TCP is no answer to the question.
    #[error("{server} answers with something that is no answer to the question")]
    Nonsense { server: SocketAddr },
    /// The question can't be put into a message.
    #[error("the question can't be written: {0}")]
    Unwritable(String),
}

/// Asks servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// How long a server may take, all attempts together.
    pub(super) timeout: Duration,
    /// Whether UDP is left out.
    pub(super) only_tcp: bool,
}

/// An answer, and the bytes that it came in.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Message,
    pub(super) bytes: Vec<u8>,
}

impl Client {
    /// Asks `server` for records.
    pub(super) async fn ask(
        &self,
        server: SocketAddr,
        name: &Name,
        kind: RecordType,
        recursive: bool,
    ) -> Result<Message, AskError> {
        let mut question = Message::query();
        question.add_query(Query::query(name.clone(), kind));
        question.metadata.recursion_desired = recursive;
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM);
        question.set_edns(edns);
        Ok(self.exchange(server, &question).await?.message)
    }

    /// Sends a message, signed or not, and returns the answer to it.
    pub(super) async fn exchange(
        &self,
        server: SocketAddr,
        question: &Message,
    ) -> Result<Answer, AskError> {
        let bytes = question
            .to_vec()
            .map_err(|error| AskError::Unwritable(error.to_string()))?;
        if !self.only_tcp {
            let answer = self.over_udp(server, question, &bytes).await?;
            if !answer.message.metadata.truncation {
                return Ok(answer);
            }
        }
        self.over_tcp(server, question, &bytes).await
    }

    async fn over_udp(
        &self,
        server: SocketAddr,
        question: &Message,
        bytes: &[u8],
    ) -> Result<Answer, AskError> {
        let unreachable = |source| AskError::Unreachable { server, source };
        let socket = connect(server).await.map_err(unreachable)?;
        for _ in 0..ATTEMPTS {
            socket.send(bytes).await.map_err(unreachable)?;
            let waiting = receive(&socket, question);
            if let Ok(received) = timeout(self.timeout / ATTEMPTS, waiting).await {
                return received.map_err(unreachable);
            }
        }
        Err(self.silent(server))
    }

    async fn over_tcp(
        &self,
        server: SocketAddr,
        question: &Message,
        bytes: &[u8],
    ) -> Result<Answer, AskError> {
        let received = timeout(self.timeout, talk(server, bytes)).await;
        let received = received
            .map_err(|_| self.silent(server))?
            .map_err(|source| AskError::Unreachable { server, source })?;
        accept(question, received).ok_or(AskError::Nonsense { server })
    }

    fn silent(&self, server: SocketAddr) -> AskError {
        AskError::Silent {
            server,
            seconds: self.timeout.as_secs(),
        }
    }
}

/// A socket of its own for each question: the kernel picks its port at random, and
/// drops what does not come from the server.
async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// The first datagram that answers the question.
async fn receive(socket: &UdpSocket, question: &Message) -> io::Result<Answer> {
    let mut buffer = vec![0; 4 * usize::from(LARGEST_DATAGRAM)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let received = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = accept(question, received.to_vec()) {
            return Ok(answer);
        }
    }
}

/// Length, message; length, message (RFC 1035 §4.2.2).
async fn talk(server: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The answer in these bytes, if they are one to this question.
fn accept(question: &Message, bytes: Vec<u8>) -> Option<Answer> {
    // The id first: nothing else of a stranger's message is looked at.
    if bytes.get(..2)? != question.metadata.id.to_be_bytes() {
        return None;
    }
    let message = Message::from_vec(&bytes).ok()?;
    let fits = message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == question.metadata.op_code
        && repeats(question, &message);
    fits.then_some(Answer { message, bytes })
}

/// Whether an answer is about what was asked. A server that could not read a message
/// or won't take it may leave the question out.
fn repeats(question: &Message, answer: &Message) -> bool {
    use hickory_proto::op::ResponseCode::{FormErr, NotImp, Refused};
    if answer.queries.is_empty() {
        let code = answer.metadata.response_code;
        return question.metadata.op_code == hickory_proto::op::OpCode::Update
            || [FormErr, NotImp, Refused].contains(&code);
    }
    answer.queries == question.queries
}

#[cfg(test)]
mod tests;
