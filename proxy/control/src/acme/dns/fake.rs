//! A DNS server for tests that says whatever a function wants it to say.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

/// Makes of a question the datagrams, or the TCP messages, that answer it.
pub(super) type Answering = Arc<dyn Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Udp,
    Tcp,
}

/// Starts it on a free port of both protocols; it ends with the runtime.
pub(super) async fn start(
    answering: impl Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    let answering: Answering = Arc::new(answering);
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let address = tcp.local_addr().unwrap();
    tokio::spawn(datagrams(udp, Arc::clone(&answering)));
    tokio::spawn(streams(tcp, answering));
    address
}

async fn datagrams(socket: UdpSocket, answering: Answering) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let question = Message::from_vec(&buffer[..length]).unwrap();
        for answer in answering(&question, Over::Udp) {
            socket.send_to(&answer, client).await.unwrap();
        }
    }
}

async fn streams(listener: TcpListener, answering: Answering) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let length = stream.read_u16().await.unwrap();
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.unwrap();
        let question = Message::from_vec(&bytes).unwrap();
        for answer in answering(&question, Over::Tcp) {
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

/// An honest answer with these records.
pub(super) fn answer(question: &Message, records: Vec<Record>) -> Message {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.edns = None;
    answer.signature = None;
    answer.authorities.clear();
    answer.answers = records;
    answer
}

pub(super) fn record(name: &str, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), 60, data)
}
