//! Those who should not be there, and members that misbehave.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::scene::{Node, introduce, pace, secrets, within};
use crate::cluster::Mesh as _;
use crate::cluster::mesh::counters::Reason;
use crate::cluster::mesh::framing::{Inbox, LinkError, flush, write};
use crate::cluster::mesh::hub::Hub;
use crate::cluster::mesh::identity::Identity;
use crate::cluster::mesh::ledger::{Bounds, Ledger};
use crate::cluster::mesh::outbox::Next;
use crate::cluster::mesh::party::{Greeted, Joined, Rank};
use crate::cluster::mesh::wire::{Frame, Hello, Refusal, Summary, Word};
use crate::cluster::mesh::{Counters, Pace};
use tokio_util::sync::CancellationToken;

/// Waits until a counter has reached a value.
async fn reaches(node: &Node, count: impl Fn(&Counters) -> u64, value: u64) {
    let waiting = async {
        while count(node.mesh.counters()) < value {
            tokio::task::yield_now().await;
        }
    };
    within(waiting).await;
}

async fn refused(node: &Node, reason: Reason, count: u64) {
    reaches(node, |counters| counters.refused(reason), count).await;
}

/// Reads to the end; what came.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _reset = within(stream.read_to_end(&mut bytes)).await;
    bytes
}

/// Somebody who has the secret and speaks as it likes.
struct Raw {
    inbox: Inbox<ReadHalf<TlsStream<TcpStream>>>,
    to: WriteHalf<TlsStream<TcpStream>>,
}

impl Raw {
    async fn connect(node: &Node, secret: u8) -> std::io::Result<Self> {
        let identity = Identity::new(&secrets(secret, None)).unwrap();
        let stream = TcpStream::connect(node.address()).await?;
        let connector = TlsConnector::from(identity.client);
        let stream = connector.connect(Identity::server_name(), stream).await?;
        let (read, to) = split(stream);
        let inbox = Inbox::new(read);
        Ok(Self { inbox, to })
    }

    async fn send(&mut self, frame: Frame) {
        let counters = Counters::default();
        write(&mut self.to, &frame, &Pace::default(), &counters)
            .await
            .unwrap();
        flush(&mut self.to, &Pace::default()).await.unwrap();
    }

    async fn next(&mut self) -> Result<Frame, LinkError> {
        let (pace, counters) = (Pace::default(), Counters::default());
        self.inbox.next(&pace, &counters).await
    }

    /// Waits for a frame of a kind.
    async fn find<T>(&mut self, mut find: impl FnMut(Frame) -> Option<T>) -> T {
        let finding = async {
            loop {
                if let Some(found) = find(self.next().await.unwrap()) {
                    return found;
                }
            }
        };
        within(finding).await
    }

    /// Says hello; what the node knows of its name.
    async fn greet(&mut self, name: &str, life: u64) -> Result<u64, Refusal> {
        self.send(Frame::Hello(Hello {
            name: name.into(),
            instance: fastrand::u64(..),
            life,
            port: 1,
            nonce: 1,
        }))
        .await;
        self.send(Frame::Welcome { floor: 0 }).await;
        self.find(|frame| match frame {
            Frame::Welcome { floor } => Some(Ok(floor)),
            Frame::Refused(refusal) => Some(Err(refusal)),
            _ => None,
        })
        .await
    }
}

fn word(member: &str, version: u64, body: &'static [u8]) -> Frame {
    Frame::Word(Word {
        member: member.into(),
        topic: "t".into(),
        version,
        body: Bytes::from_static(body),
    })
}

#[tokio::test]
async fn without_the_secret_nothing_is_answered() {
    let node = Node::start("a", &secrets(2, Some(1)));
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    let crypto = crate::tls::provider();
    let config = ClientConfig::builder_with_provider(crypto.into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = Identity::server_name();
    let mut hello = Vec::new();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    stream.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut stream).await, b"", "not a byte");
    refused(&node, Reason::Stranger, 1).await;

    assert!(Raw::connect(&node, 9).await.is_err());
    refused(&node, Reason::OtherSecret, 1).await;
    assert!(
        Raw::connect(&node, 1).await.is_ok(),
        "the previous one is good"
    );

    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    rest(&mut stream).await;
    refused(&node, Reason::Garbage, 1).await;
    assert_eq!(node.mesh.live(), 0);
}

#[tokio::test]
async fn who_has_another_secret_is_told_by_its_own_counter() {
    let nodes = [1, 9].map(|secret| Node::start("a", &secrets(secret, None)));
    nodes[1].knows(&[nodes[0].address()]);
    refused(&nodes[0], Reason::OtherSecret, 1).await;
    let dials = |counters: &Counters| counters.dials_refused.load(Relaxed);
    reaches(&nodes[1], dials, 1).await;
}

/// Somebody overheard the authority's name, which is sent in the clear.
#[tokio::test]
async fn the_name_of_the_authority_is_not_enough() {
    let node = Node::start("a", &secrets(1, None));
    let identity = Identity::new(&secrets(1, None)).unwrap();
    let other = Identity::new(&secrets(9, None)).unwrap();
    let mut bare = (*identity.client).clone();
    bare.client_auth_cert_resolver = std::sync::Arc::clone(&other.client.client_auth_cert_resolver);
    let stream = TcpStream::connect(node.address()).await.unwrap();
    let connector = TlsConnector::from(std::sync::Arc::new(bare));
    let connected = connector.connect(Identity::server_name(), stream).await;
    if let Ok(mut stream) = connected {
        let mut bytes = Vec::new();
        assert!(within(stream.read_to_end(&mut bytes)).await.is_err());
        assert_eq!(bytes, b"");
    }
    refused(&node, Reason::Certificate, 1).await;
}

#[tokio::test]
async fn who_dawdles_is_dropped() {
    let pace = Pace {
        handshake: Duration::from_millis(500),
        ..pace()
    };
    let node = Node::start_at("a", &secrets(1, None), None, pace);
    let mut silent = TcpStream::connect(node.address()).await.unwrap();
    let mut slow = TcpStream::connect(node.address()).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    rest(&mut silent).await;
    rest(&mut slow).await;
    let mut mute = within(Raw::connect(&node, 1)).await.unwrap();
    while mute.next().await.is_ok() {}
    refused(&node, Reason::Slow, 3).await;
}

#[tokio::test]
async fn members_that_send_nonsense_are_dropped() {
    let node = Node::start("a", &secrets(1, None));
    let nonsense: [(&[u8], Reason); 4] = [
        (&[0xff, 0xff, 0xff, 0xff], Reason::Garbage),
        (&[0, 0, 0, 1, 99], Reason::Garbage),
        (&[0, 0, 0, 1, 4], Reason::Garbage),
        (&[0, 0, 0, 3, 1, 77, 1], Reason::Protocol),
    ];
    for (bytes, reason) in nonsense {
        let mut raw = Raw::connect(&node, 1).await.unwrap();
        raw.to.write_all(bytes).await.unwrap();
        raw.to.flush().await.unwrap();
        while within(raw.next()).await.is_ok() {}
        let known = |(_, other): &&(&[u8], Reason)| *other == reason;
        let sent = nonsense.iter().take_while(|(one, _)| *one != bytes);
        refused(&node, reason, sent.filter(known).count() as u64 + 1).await;
    }
    let mut raw = Raw::connect(&node, 1).await.unwrap();
    raw.greet("raw", 5).await.unwrap();
    raw.to.write_all(&[0, 0, 0, 2, 4, 4]).await.unwrap();
    raw.to.flush().await.unwrap();
    while within(raw.next()).await.is_ok() {}
    refused(&node, Reason::Garbage, 4).await;
}

#[tokio::test]
async fn what_was_said_before_is_not_taken_again() {
    let node = Node::start("a", &secrets(1, None));
    let mut raw = Raw::connect(&node, 1).await.unwrap();
    raw.greet("raw", 100).await.unwrap();
    raw.send(word("raw", 101, b"new")).await;
    node.hears("t", "raw", "new", true).await;
    raw.send(word("raw", 100, b"old")).await;
    raw.send(word("a", 1 << 40, b"yours")).await;
    let old = |counters: &Counters| counters.facts_old.load(Relaxed);
    reaches(&node, old, 2).await;
    drop(raw);
    node.hears("t", "raw", "new", false).await;

    let mut raw = Raw::connect(&node, 1).await.unwrap();
    assert_eq!(raw.greet("raw", 200).await, Ok(101));
    raw.send(word("raw", 150, b"of an earlier life")).await;
    reaches(&node, old, 3).await;
    raw.send(word("raw", 201, b"newest")).await;
    node.hears("t", "raw", "newest", true).await;
}

#[tokio::test]
async fn a_clock_that_is_behind_does_not_silence_a_member() {
    let nodes = ["a", "b"].map(|name| Node::start(name, &secrets(1, None)));
    let [a, b] = &nodes;
    let future = 1 << 61;
    let mut raw = Raw::connect(a, 1).await.unwrap();
    raw.greet("raw", 5).await.unwrap();
    raw.send(Frame::Digest(vec![Summary {
        member: "b".into(),
        life: future,
        is_linked: false,
        has_left: false,
        silence: Duration::from_millis(5),
        words: Vec::new(),
    }]))
    .await;
    raw.send(word("b", future, b"of the future")).await;
    a.hears("t", "b", "of the future", false).await;
    b.mesh.publish("t", Bytes::from_static(b"now"));
    introduce(&nodes);
    a.hears("t", "b", "now", true).await;
    assert!(a.mesh.facts("t").borrow()[0].version > future);
}

#[tokio::test]
async fn two_of_one_name_are_told_apart() {
    let nodes = ["a", "b", "b"].map(|name| Node::start(name, &secrets(1, None)));
    nodes[0].knows(&[nodes[1].address()]);
    nodes[0].sees(&nodes[..2]).await;
    nodes[2].knows(&[nodes[0].address(), nodes[1].address()]);
    refused(&nodes[0], Reason::NameTaken, 1).await;
    refused(&nodes[2], Reason::NameTaken, 1).await;
    assert_eq!(nodes[0].mesh.live(), 1);
}

#[tokio::test]
async fn a_member_that_does_not_read_does_not_hold_up_others() {
    let nodes = ["a", "b"].map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    let [a, b] = &nodes;
    a.sees(&nodes).await;
    let mut raw = Raw::connect(a, 1).await.unwrap();
    raw.greet("raw", 5).await.unwrap();
    let patience = Duration::from_millis(200);
    let body = Bytes::from(vec![b'x'; 6 << 20]);
    let mut heard = a.mesh.publish_confirmed("t", body.clone(), patience).await;
    while heard.by != ["b".into()] {
        heard = a
            .mesh
            .publish_confirmed("t", body.clone(), patience * 10)
            .await;
    }
    assert!(
        heard.missed.is_empty() || heard.missed == ["raw".into()],
        "{heard:?}"
    );
    assert_eq!(b.mesh.facts("t").borrow().len(), 1);
    let live = |mesh: &crate::cluster::mesh::NetworkMesh| mesh.live();
    let mut members = a.mesh.members();
    let gone = members.wait_for(|members| {
        members
            .iter()
            .any(|one| &*one.name == "raw" && !one.is_live)
    });
    within(gone).await.unwrap();
    assert_eq!(live(&a.mesh), 1);
}

/// Who asks for handshakes and goes away gets few of them.
#[tokio::test]
async fn a_flood_of_handshakes_is_held_back() {
    let node = Node::start("a", &secrets(1, None));
    let identity = Identity::new(&secrets(1, None)).unwrap();
    let flood = async {
        while node.mesh.counters().refused(Reason::Busy) == 0 {
            let config = std::sync::Arc::clone(&identity.client);
            let name = Identity::server_name();
            let mut client = rustls::ClientConnection::new(config, name).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            let mut stream = TcpStream::connect(node.address()).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            let _answered_or_not = stream.read_u8().await;
        }
    };
    within(flood).await;
    let other = Node::start("b", &secrets(1, None));
    let nodes = [node, other];
    introduce(&nodes);
    nodes[1].meets(&nodes).await;
}

/// Who has the secret may invent members and words, and gets no more room for them
/// than there is.
#[tokio::test]
async fn made_up_members_and_words_take_no_room() {
    let node = Node::start("a", &secrets(1, None));
    let mut raw = Raw::connect(&node, 1).await.unwrap();
    raw.greet("raw", 5).await.unwrap();
    let made_up = |number: u32| Summary {
        member: format!("made up {number}").into(),
        life: 1,
        is_linked: true,
        has_left: false,
        silence: Duration::ZERO,
        words: Vec::new(),
    };
    raw.send(Frame::Digest((0..10_000).map(made_up).collect()))
        .await;
    let mut members = node.mesh.members();
    within(members.wait_for(|members| members.len() > 200))
        .await
        .unwrap();
    let body = Bytes::from_static(b"x");
    let heard = node
        .mesh
        .publish_confirmed("t", body, Duration::from_millis(100));
    let heard = heard.await;
    assert!(heard.missed.len() < 256, "{}", heard.missed.len());
}

/// A hub that is called "a".
fn hub() -> Hub {
    let now = tokio::time::Instant::now();
    let ledger = Ledger::new("a".into(), 1, Bounds::default(), now);
    Hub::new(ledger, "a".into(), 1, pace(), CancellationToken::new())
}

/// A member of this name that has come in.
fn join(hub: &Hub, name: &str) -> (Hello, Joined) {
    let hello = Hello {
        name: name.into(),
        instance: 1,
        life: 1,
        port: 1,
        nonce: 1,
    };
    let greeted = Greeted {
        rank: Rank::new(&hub.hello(), &hello, true),
        hello: hello.clone(),
        floor: 0,
    };
    let joined = hub.join(&greeted, ([127, 0, 0, 1], 1).into());
    (hello, joined)
}

#[tokio::test]
async fn only_words_that_are_known_are_sent() {
    let hub = hub();
    let (hello, joined) = join(&hub, "b");
    let name: std::sync::Arc<str> = "a".into();
    hub.publish("t", Bytes::from_static(b"x"));
    let wanted = |number: u32| (std::sync::Arc::clone(&name), format!("{number}").into());
    let mut words: Vec<_> = (0..10_000).map(wanted).collect();
    words.push(("a".into(), "t".into()));
    hub.take(&hello, Frame::Want(words));
    let sent = std::iter::from_fn(|| joined.outbox.try_next());
    let words: Vec<Next> = sent.filter(|it| matches!(it, Next::Word(..))).collect();
    assert_eq!(words, [Next::Word("a".into(), "t".into())]);
}

#[tokio::test]
async fn what_is_asked_for_is_bounded() {
    let hub = hub();
    let (hello, joined) = join(&hub, "b");
    let summary = Summary {
        member: "c".into(),
        life: 1,
        is_linked: false,
        has_left: false,
        silence: Duration::ZERO,
        words: (0..50_000).map(|it| (format!("{it}").into(), 2)).collect(),
    };
    for _ in 0..100 {
        hub.take(&hello, Frame::Digest(vec![summary.clone()]));
    }
    assert!(joined.outbox.has_overflown());
}
