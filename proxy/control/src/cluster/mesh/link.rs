//! One connection between two members, from its handshake to its end.
//!
//! Both ends say who they are, then whether they want each other; then both read and
//! write until one of them ends it, falls silent or is too slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::counters::{Counters, Reason};
use super::framing::{Inbox, LinkError, flush, write};
use super::hub::{Hub, Question};
use super::outbox::{Next, Outbox};
use super::party::{Greeted, Joined, Rank};
use super::wire::{Frame, Hello, LARGEST_BODY, Malformed, Refusal};

/// Questions of one member that are answered at the same time.
const QUESTIONS: usize = 64;

/// Longest time for an answer, whatever the asker says.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// How long last words may take when the mesh ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection stays whose place another one has taken.
const LINGER: Duration = Duration::from_secs(1);

/// What became of a connection.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It led to this member itself.
    Itself,
    /// There is one with the same member already.
    Linked(Arc<str>),
    /// It was one, and has ended.
    Ended,
    /// It did not come about.
    Failed,
}

/// Speaks over a connection whose TLS is done until it ends. `admission` is dropped
/// when the handshakes are over.
pub(super) async fn run<S, A>(
    hub: &Arc<Hub>,
    stream: S,
    peer: SocketAddr,
    is_dialled: bool,
    admission: A,
) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut inbox = Inbox::new(read);
    let greeting = greet(hub, &mut inbox, &mut write, is_dialled);
    let greeted = timeout(hub.pace.handshake, greeting).await;
    let greeted = match greeted.unwrap_or(Err(Unwanted::Failed(LinkError::Slow))) {
        Ok(greeted) => greeted,
        // Silence before a greeting is no member's that is gone.
        Err(Unwanted::Failed(LinkError::Silent)) => {
            let slow = Unwanted::Failed(LinkError::Slow);
            return slow.outcome(hub, peer, is_dialled);
        }
        Err(unwanted) => return unwanted.outcome(hub, peer, is_dialled),
    };
    let joined = hub.join(&greeted, peer);
    let hello = &greeted.hello;
    drop(admission);
    let error = speak(hub, hello, &joined, &mut inbox, &mut write).await;
    if matches!(error, LinkError::Silent | LinkError::Slow) {
        Counters::add(&hub.counters.links_lost, 1);
    }
    if let Some(reason) = reason(&error) {
        let error = error.to_string();
        hub.counters.refuse(reason, peer.ip(), &error);
    }
    hub.part(&hello.name, joined.id, &error.to_string());
    Outcome::Ended
}

/// Why two do not come together.
enum Unwanted {
    /// This end does not want it.
    Ours(Refusal, Arc<str>),
    /// The other end does not want it.
    Theirs(Refusal, Arc<str>),
    /// Something went wrong.
    Failed(LinkError),
}

impl<E: Into<LinkError>> From<E> for Unwanted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Unwanted {
    fn outcome(self, hub: &Hub, peer: SocketAddr, is_dialled: bool) -> Outcome {
        let refuse = |reason, error: &str| hub.counters.refuse(reason, peer.ip(), error);
        match self {
            Self::Ours(Refusal::Itself, _) | Self::Theirs(Refusal::Itself, _) => {
                return Outcome::Itself;
            }
            Self::Ours(Refusal::Linked, name) | Self::Theirs(Refusal::Linked, name) => {
                return Outcome::Linked(name);
            }
            Self::Ours(Refusal::NameTaken, name) | Self::Theirs(Refusal::NameTaken, name) => {
                let error = format!("two members have the same name, {name} or {}", hub.me);
                refuse(Reason::NameTaken, &error);
            }
            Self::Ours(Refusal::Full, _) | Self::Theirs(Refusal::Full, _) => {
                refuse(Reason::Busy, "there are too many members");
            }
            Self::Failed(error) => match reason(&error) {
                Some(reason) => refuse(reason, &error.to_string()),
                None if is_dialled => {
                    tracing::debug!(server.addr = %peer, %error, "A peer refused to talk");
                }
                None => {
                    tracing::debug!(client.addr = %peer, %error, "A peer gave up");
                }
            },
        }
        Outcome::Failed
    }
}

/// What is to be counted about an error, if anything.
fn reason(error: &LinkError) -> Option<Reason> {
    match error {
        LinkError::Malformed(Malformed::Version(_)) => Some(Reason::Protocol),
        LinkError::Malformed(_) | LinkError::TooLarge(_) | LinkError::Misplaced => {
            Some(Reason::Garbage)
        }
        LinkError::Slow => Some(Reason::Slow),
        LinkError::Io(_) | LinkError::Closed | LinkError::Silent => None,
    }
}

/// Finds out who the other end is and whether both want to talk.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Hub,
    inbox: &mut Inbox<ReadHalf<S>>,
    to: &mut WriteHalf<S>,
    is_dialled: bool,
) -> Result<Greeted, Unwanted> {
    let (pace, counters) = (&hub.pace, &hub.counters);
    let ours = hub.hello();
    write(to, &Frame::Hello(ours.clone()), pace, counters).await?;
    flush(to, pace).await?;
    let Frame::Hello(hello) = inbox.next(pace, counters).await? else {
        return Err(LinkError::Misplaced.into());
    };
    let rank = Rank::new(&ours, &hello, is_dialled);
    let judgement = hub.judge(&hello, rank);
    let frame = match judgement {
        Ok(floor) => Frame::Welcome { floor },
        Err(refusal) => Frame::Refused(refusal),
    };
    write(to, &frame, pace, counters).await?;
    flush(to, pace).await?;
    if let Err(refusal) = judgement {
        let _it_ends_anyway = to.shutdown().await;
        // To close it with something unread would take the refusal back.
        while inbox.next(pace, counters).await.is_ok() {}
        return Err(Unwanted::Ours(refusal, hello.name));
    }
    match inbox.next(pace, counters).await? {
        Frame::Welcome { floor } => Ok(Greeted { hello, floor, rank }),
        Frame::Refused(refusal) => Err(Unwanted::Theirs(refusal, hello.name)),
        _ => Err(LinkError::Misplaced.into()),
    }
}

/// Reads and writes until one of them ends.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Arc<Hub>,
    hello: &Hello,
    joined: &Joined,
    inbox: &mut Inbox<ReadHalf<S>>,
    to: &mut WriteHalf<S>,
) -> LinkError {
    let hear = hear(hub, hello, joined, inbox);
    let say = say(hub, &joined.outbox, to);
    tokio::select! {
        Err(error) = hear => error,
        Err(error) = say => error,
        () = linger(joined) => LinkError::Closed,
        () = farewell(hub) => LinkError::Closed,
        else => LinkError::Closed,
    }
}

/// Resolves when another connection has taken this one's place for a while. The other
/// end may not know that one yet, and would take the member for gone.
async fn linger(joined: &Joined) {
    joined.stop.cancelled().await;
    sleep(LINGER).await;
}

/// Resolves when the mesh has ended and its last words have had their time.
async fn farewell(hub: &Hub) {
    hub.stop.cancelled().await;
    sleep(FAREWELL).await;
}

async fn hear<R: AsyncRead + Unpin>(
    hub: &Arc<Hub>,
    hello: &Hello,
    joined: &Joined,
    inbox: &mut Inbox<R>,
) -> Result<(), LinkError> {
    let questions = Arc::new(Semaphore::new(QUESTIONS));
    loop {
        let frame = inbox.next(&hub.pace, &hub.counters).await?;
        let is_last = matches!(frame, Frame::Bye);
        if let Some(question) = hub.take(hello, frame) {
            answer(hub, &questions, &joined.outbox, question);
        }
        if is_last {
            return Err(LinkError::Closed);
        }
        if joined.outbox.has_overflown() {
            return Err(LinkError::Slow);
        }
    }
}

/// Has a question answered beside everything else.
fn answer(hub: &Arc<Hub>, questions: &Arc<Semaphore>, outbox: &Arc<Outbox>, question: Question) {
    let (id, empty) = (question.id, Bytes::new());
    let Ok(permit) = Arc::clone(questions).try_acquire_owned() else {
        Counters::add(&hub.counters.questions_refused, 1);
        outbox.send(Frame::Answer { id, body: empty });
        return;
    };
    let (outbox, stop) = (Arc::clone(outbox), hub.stop.clone());
    hub.tasks.spawn(async move {
        let patience = question.patience.min(LONGEST_ANSWER);
        let answering = timeout(patience, question.with.answer(question.body));
        let answer = stop.run_until_cancelled(answering).await;
        let body = answer.and_then(Result::ok).unwrap_or_default();
        let body = if body.len() > LARGEST_BODY {
            empty
        } else {
            body
        };
        outbox.send(Frame::Answer { id, body });
        drop(permit);
    });
}

async fn say<W: AsyncWrite + Unpin>(
    hub: &Hub,
    outbox: &Outbox,
    to: &mut W,
) -> Result<(), LinkError> {
    let (pace, counters) = (&hub.pace, &hub.counters);
    let mut ping = interval(pace.ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while let Some(next) = outbox.try_next() {
            let frame = match next {
                Next::Frame(frame) => frame,
                Next::Digest => hub.digest(),
                Next::Word(member, topic) => match hub.word(&member, &topic) {
                    Some(word) => word,
                    None => continue,
                },
                Next::End => {
                    to.shutdown().await?;
                    // The other end closes it. To do so first, with something unread,
                    // would take the last words back.
                    return std::future::pending().await;
                }
            };
            write(to, &frame, pace, counters).await?;
        }
        flush(to, pace).await?;
        tokio::select! {
            () = outbox.woken() => {}
            _ = ping.tick() => outbox.send(Frame::Ping),
        }
    }
}
