//! Requests to rtnetlink and their answers.
//!
//! Owns one socket without multicast groups, opened again when it died, and
//! puts answers together. An answer counts only with the kernel's word that it
//! is whole: a socket that dies in between is an error, never an empty answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::sync::Mutex;

use super::error::{Deed, NetworkError};

/// How long the kernel may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a reading that others disturbed is repeated.
const TORN_READINGS: usize = 5;

/// A socket that is opened again when it is needed.
#[derive(Clone)]
pub(super) struct Connection(Arc<Mutex<Option<Handle>>>);

/// What the kernel said.
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    /// Something changed while it was read: entries may be missing or doubled.
    is_torn: bool,
}

/// Why there is no answer.
enum Failure {
    /// The socket is of no use any more.
    Dead,
    Refused(Errno),
}

impl Connection {
    /// Opens the socket, so that trouble is known at once.
    pub(super) fn open() -> Result<Self, NetworkError> {
        Ok(Self(Arc::new(Mutex::new(Some(handle()?)))))
    }

    /// Asks for a change. Asked again on a new socket when the first one died:
    /// every change must bear being made twice.
    pub(super) async fn change(
        &self,
        deed: Deed,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetworkError> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.ask(deed, message, flags).await.map(drop)
    }

    /// Reads all of a kind.
    pub(super) async fn read(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetworkError> {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        for _ in 1..TORN_READINGS {
            let answer = self.ask(Deed::Read, message.clone(), flags).await?;
            if !answer.is_torn {
                return Ok(answer.messages);
            }
        }
        // Whatever disturbs it makes messages: it will be read again.
        Ok(self.ask(Deed::Read, message, flags).await?.messages)
    }

    async fn ask(
        &self,
        deed: Deed,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answer, NetworkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let mut socket = self.0.lock().await;
        for _ in 0..2 {
            let mut open = match socket.take() {
                Some(open) => open,
                None => handle()?,
            };
            match exchange(&mut open, request.clone()).await {
                Ok(answer) => {
                    *socket = Some(open);
                    return Ok(answer);
                }
                Err(Failure::Refused(errno)) => {
                    *socket = Some(open);
                    return Err(NetworkError::refusal(deed, errno));
                }
                Err(Failure::Dead) => {}
            }
        }
        Err(NetworkError::Silent)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection(..)")
    }
}

fn handle() -> Result<Handle, NetworkError> {
    let (mut connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Open)?;
    connection.set_forward_ack(true);
    connection.set_forward_done(true);
    // Ends with the last handle.
    tokio::spawn(connection);
    Ok(handle)
}

async fn exchange(
    handle: &mut Handle,
    request: NetlinkMessage<RouteNetlinkMessage>,
) -> Result<Answer, Failure> {
    let mut replies = handle.request(request).map_err(|_| Failure::Dead)?;
    let mut answer = Answer {
        messages: Vec::new(),
        is_torn: false,
    };
    let whole = async {
        while let Some(reply) = replies.next().await {
            answer.is_torn |= reply.header.flags & NLM_F_DUMP_INTR != 0;
            match reply.payload {
                NetlinkPayload::InnerMessage(message) => answer.messages.push(message),
                NetlinkPayload::Error(error) => return verdict(error.raw_code()),
                NetlinkPayload::Done(done) => return verdict(done.code),
                NetlinkPayload::Overrun(_) => return Err(Failure::Dead),
                _ => {}
            }
        }
        Err(Failure::Dead)
    };
    match tokio::time::timeout(PATIENCE, whole).await {
        Ok(end) => end.map(|()| answer),
        Err(_) => Err(Failure::Dead),
    }
}

/// Out of a number that is 0 or a negative errno.
fn verdict(code: i32) -> Result<(), Failure> {
    match code {
        0.. => Ok(()),
        code => Err(Failure::Refused(Errno::from_raw(code.saturating_neg()))),
    }
}
