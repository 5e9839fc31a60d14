//! The real kernel, by generic netlink.
//!
//! One call at a time, each answer read to its end; changes go together, as
//! many as their answers have room in the socket. A socket that failed, or a
//! call that was given up half way, costs the socket: what the kernel did is
//! then unknown, and the next call opens another. Encoding is `wire`'s; nothing
//! is decided here.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use neli::consts::nl::NlmF;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::errno;
use super::glance::Glance;
use super::listing::Listing;
use super::socket::{Content, Requests, Socket};
use super::wire::{self, Command, Request, WireError};
use super::{Information, IpvsError, Kernel, Operation, RealEntry, VirtualEntry};
use crate::model::{
    Change, RealServer, Scheduling, SyncDaemon, SyncRole, Timeouts, VirtualAddress,
};

/// How long the kernel may take, unless told otherwise: loading a scheduler's
/// module takes a while on a small board.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many changes are sent together. Should all fail, their answers take some
/// 80 KiB of the 208 KiB that a socket may hold.
const TOGETHER: usize = 64;

/// IPVS of the network namespace that the process is in.
pub struct Netlink {
    session: Mutex<Option<Session>>,
    listing: Arc<std::sync::Mutex<Listing>>,
    patience: Duration,
}

struct Session {
    socket: Socket,
    family: u16,
}

/// What goes wrong on the way, before it is known what was asked.
enum Trouble {
    Absent,
    Errno(i32),
    Socket(String),
}

impl Netlink {
    /// Opens a socket and looks for IPVS, which loads its module where the
    /// kernel can. Needs a tokio runtime with I/O and time.
    pub async fn connect() -> Result<Self, IpvsError> {
        let netlink = Self::unconnected();
        netlink.information().await?;
        Ok(netlink)
    }

    /// The same, but the first call opens the socket: for whoever goes on trying
    /// until there is an IPVS.
    pub fn unconnected() -> Self {
        Self {
            session: Mutex::new(None),
            listing: Arc::default(),
            patience: PATIENCE,
        }
    }

    /// The same, with another limit for every answer.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks, and decodes every message of the answer.
    async fn ask<T>(
        &self,
        operation: Operation,
        request: Result<Request, WireError>,
        flags: NlmF,
        decode: impl Fn(&[u8]) -> Result<T, WireError>,
    ) -> Result<Vec<T>, IpvsError> {
        let request = match request {
            Ok(request) => request,
            Err(cause) => return Err(IpvsError::Message { operation, cause }),
        };
        let mut place = self.session.lock().await;
        // Taken out: a call that is dropped on the way takes the socket along.
        let session = place.take();
        let conversation = converse(session, request, flags, decode);
        let Ok(outcome) = timeout(self.patience, conversation).await else {
            let within = self.patience;
            return Err(IpvsError::Silent { operation, within });
        };
        match outcome {
            Ok((session, answer)) => {
                if !matches!(answer, Err(Fault::Errno(number)) if may_be_stale(number)) {
                    *place = Some(session);
                }
                answer.map_err(|fault| fault.explain(operation))
            }
            Err(trouble) => Err(trouble.explain(operation)),
        }
    }

    async fn read<T>(
        &self,
        command: Command,
        flags: NlmF,
        decode: impl Fn(&[u8]) -> Result<T, WireError>,
    ) -> Result<Vec<T>, IpvsError> {
        let request = Ok(wire::whole(command));
        self.ask(Operation::Read, request, flags, decode).await
    }

    /// Makes changes that go together. An error is one of all of them.
    async fn make(&self, changes: &[Change]) -> Result<Vec<Result<(), IpvsError>>, IpvsError> {
        let mut place = self.session.lock().await;
        let session = place.take();
        let operation = || changes.first().map_or(Operation::Read, operation_of);
        let Ok(outcome) = timeout(self.patience, carry(session, changes)).await else {
            let (operation, within) = (operation(), self.patience);
            return Err(IpvsError::Silent { operation, within });
        };
        let (session, answers) = outcome.map_err(|trouble| trouble.explain(operation()))?;
        let is_stale = |it: &Result<(), Fault>| matches!(it, Err(Fault::Errno(number)) if may_be_stale(*number));
        if !answers.iter().any(is_stale) {
            *place = Some(session);
        }
        let explained = changes.iter().zip(answers);
        let explained =
            explained.map(|(it, answer)| answer.map_err(|fault| fault.explain(operation_of(it))));
        Ok(explained.collect())
    }

    async fn change(
        &self,
        operation: Operation,
        request: Result<Request, WireError>,
    ) -> Result<(), IpvsError> {
        let nothing = |_: &[u8]| Ok(());
        self.ask(operation, request, NlmF::ACK, nothing).await?;
        Ok(())
    }
}

/// What the kernel answers when the socket is sound.
enum Fault {
    Errno(i32),
    Message(WireError),
}

impl Fault {
    fn explain(self, operation: Operation) -> IpvsError {
        match self {
            Self::Errno(number) => operation.refused(number),
            Self::Message(cause) => IpvsError::Message { operation, cause },
        }
    }
}

impl Trouble {
    fn explain(self, operation: Operation) -> IpvsError {
        match self {
            Self::Absent => IpvsError::Absent,
            Self::Errno(number) => operation.refused(number),
            Self::Socket(cause) => IpvsError::Socket { operation, cause },
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.to_string())
    }
}

impl Session {
    async fn open() -> Result<Self, Trouble> {
        let mut socket = Socket::open()?;
        let request = wire::find_family(wire::FAMILY);
        let found = one(
            &mut socket,
            wire::CONTROL,
            NlmF::ACK,
            &request,
            wire::family_number,
        );
        match found.await? {
            Ok(numbers) => match numbers.first() {
                Some(family) => Ok(Self {
                    socket,
                    family: *family,
                }),
                None => Err(Trouble::Absent),
            },
            Err(Fault::Errno(errno::ENOENT)) => Err(Trouble::Absent),
            Err(Fault::Errno(number)) => Err(Trouble::Errno(number)),
            Err(Fault::Message(cause)) => Err(Trouble::Socket(cause.to_string())),
        }
    }

    async fn or_open(session: Option<Self>) -> Result<Self, Trouble> {
        match session {
            Some(session) => Ok(session),
            None => Self::open().await,
        }
    }
}

/// One request and the whole of its answer. An error is one of the socket's.
async fn converse<T>(
    session: Option<Session>,
    request: Request,
    flags: NlmF,
    decode: impl Fn(&[u8]) -> Result<T, WireError>,
) -> Result<(Session, Result<Vec<T>, Fault>), Trouble> {
    let mut session = Session::or_open(session).await?;
    let family = session.family;
    let answer = one(&mut session.socket, family, flags, &request, decode).await?;
    Ok((session, answer))
}

async fn one<T>(
    socket: &mut Socket,
    family: u16,
    flags: NlmF,
    request: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, WireError>,
) -> Result<Result<Vec<T>, Fault>, Trouble> {
    let sequence = socket.next_sequence();
    let mut requests = Requests::default();
    requests.push(family, flags, sequence, request);
    socket.send(&requests).await?;
    let mut decoded = Ok(Vec::new());
    loop {
        for message in socket.receive().await? {
            let message = message?;
            if message.sequence != sequence {
                continue;
            }
            // The first error stands, and the answer is read on to its end.
            match (&mut decoded, message.content) {
                (_, Content::End(0)) | (Err(_), Content::End(_)) => return Ok(decoded),
                (Ok(_), Content::End(number)) => return Ok(Err(Fault::Errno(number))),
                (Ok(all), Content::Payload(kind, bytes)) if kind == family => match decode(bytes) {
                    Ok(entry) => all.push(entry),
                    Err(cause) => decoded = Err(Fault::Message(cause)),
                },
                (_, Content::Payload(..)) => {}
            }
        }
    }
}

/// Changes that go together, and what became of each. Only the last one asks
/// for an answer in any case: of the others the kernel answers those that fail.
async fn carry(
    session: Option<Session>,
    changes: &[Change],
) -> Result<(Session, Vec<Result<(), Fault>>), Trouble> {
    let mut session = Session::or_open(session).await?;
    let family = session.family;
    let socket = &mut session.socket;
    let mut answers = Vec::with_capacity(changes.len());
    let (mut requests, mut places) = (Requests::default(), BTreeMap::new());
    let written: Vec<_> = changes.iter().map(request_of).collect();
    let last = written.iter().rposition(Result::is_ok);
    for (place, request) in written.into_iter().enumerate() {
        answers.push(request.map_err(Fault::Message).map(|request| {
            let flags = if Some(place) == last {
                NlmF::ACK
            } else {
                NlmF::empty()
            };
            let sequence = socket.next_sequence();
            requests.push(family, flags, sequence, &request);
            places.insert(sequence, place);
        }));
    }
    let Some(last) = last else {
        return Ok((session, answers));
    };
    socket.send(&requests).await?;
    loop {
        for message in socket.receive().await? {
            let message = message?;
            let (Some(place), Content::End(number)) =
                (places.get(&message.sequence), message.content)
            else {
                continue;
            };
            if let Some(answer) = answers.get_mut(*place).filter(|_| number != 0) {
                *answer = Err(Fault::Errno(number));
            }
            if *place == last {
                return Ok((session, answers));
            }
        }
    }
}

fn request_of(change: &Change) -> Result<Request, WireError> {
    match change {
        Change::AddVirtual(address, it) => wire::add_virtual(Command::NewService, *address, it),
        Change::SetVirtual(address, it) => wire::add_virtual(Command::SetService, *address, it),
        Change::AddReal(address, real, it) => {
            wire::change_real(Command::NewDest, *address, *real, it)
        }
        Change::SetReal(address, real, it) => {
            wire::change_real(Command::SetDest, *address, *real, it)
        }
        Change::RemoveReal(address, real) => Ok(wire::remove_real(*address, *real)),
        Change::RemoveVirtual(address) => Ok(wire::key(Command::DelService, *address)),
    }
}

fn operation_of(change: &Change) -> Operation {
    match change {
        Change::AddVirtual(address, it) => Operation::AddVirtual(*address, it.scheduler.clone()),
        Change::SetVirtual(address, it) => Operation::SetVirtual(*address, it.scheduler.clone()),
        Change::AddReal(address, real, _) => Operation::AddReal(*address, *real),
        Change::SetReal(address, real, _) => Operation::SetReal(*address, *real),
        Change::RemoveReal(address, real) => Operation::RemoveReal(*address, *real),
        Change::RemoveVirtual(address) => Operation::RemoveVirtual(*address),
    }
}

/// Could this answer come from another or no family, because the module was
/// loaded again and has another number? A new socket looks for it anew.
fn may_be_stale(number: i32) -> bool {
    matches!(
        number,
        errno::ENOENT | errno::EOPNOTSUPP | errno::ENOPROTOOPT
    )
}

/// The one entry of an answer.
fn single<T>(mut answer: Vec<T>, operation: &Operation) -> Result<T, IpvsError> {
    answer.pop().ok_or_else(|| IpvsError::Message {
        operation: operation.clone(),
        cause: WireError::Missing("an answer"),
    })
}

impl Kernel for Netlink {
    async fn information(&self) -> Result<Information, IpvsError> {
        let answer = self
            .read(Command::GetInfo, NlmF::ACK, wire::information)
            .await?;
        single(answer, &Operation::Read)
    }

    async fn virtual_servers(&self) -> Result<Vec<VirtualEntry>, IpvsError> {
        // What cannot be read is not ours: all that the model can say, it can read.
        let decode = |bytes: &[u8]| match wire::virtual_entry(bytes) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) => {
                tracing::debug!(%error, "left out a virtual server that cannot be read");
                Ok(None)
            }
        };
        let entries = self.read(Command::GetService, NlmF::DUMP, decode).await?;
        Ok(entries.into_iter().flatten().collect())
    }

    async fn virtual_server(&self, address: VirtualAddress) -> Result<VirtualEntry, IpvsError> {
        let operation = Operation::ReadVirtual(address);
        let request = Ok(wire::key(Command::GetService, address));
        let asked = self.ask(operation.clone(), request, NlmF::ACK, wire::virtual_entry);
        single(asked.await?, &operation)
    }

    async fn real_servers(&self, address: VirtualAddress) -> Result<Vec<RealEntry>, IpvsError> {
        let operation = Operation::ReadVirtual(address);
        let request = Ok(wire::key(Command::GetDest, address));
        let decode = |bytes: &[u8]| wire::real_entry(bytes, address.family());
        self.ask(operation, request, NlmF::DUMP, decode).await
    }

    async fn glance(&self, pieces: usize) -> Option<Glance> {
        let listing = Arc::clone(&self.listing);
        let reading = tokio::task::spawn_blocking(move || {
            let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
            listing.next(pieces)
        });
        reading.await.ok().flatten()
    }

    async fn add_virtual(
        &self,
        address: VirtualAddress,
        scheduling: &Scheduling,
    ) -> Result<(), IpvsError> {
        let operation = Operation::AddVirtual(address, scheduling.scheduler.clone());
        let request = wire::add_virtual(Command::NewService, address, scheduling);
        self.change(operation, request).await
    }

    async fn set_virtual(
        &self,
        address: VirtualAddress,
        scheduling: &Scheduling,
    ) -> Result<(), IpvsError> {
        let operation = Operation::SetVirtual(address, scheduling.scheduler.clone());
        let request = wire::add_virtual(Command::SetService, address, scheduling);
        self.change(operation, request).await
    }

    async fn remove_virtual(&self, address: VirtualAddress) -> Result<(), IpvsError> {
        let request = Ok(wire::key(Command::DelService, address));
        self.change(Operation::RemoveVirtual(address), request)
            .await
    }

    async fn add_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
        server: &RealServer,
    ) -> Result<(), IpvsError> {
        let request = wire::change_real(Command::NewDest, address, real, server);
        self.change(Operation::AddReal(address, real), request)
            .await
    }

    async fn set_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
        server: &RealServer,
    ) -> Result<(), IpvsError> {
        let request = wire::change_real(Command::SetDest, address, real, server);
        self.change(Operation::SetReal(address, real), request)
            .await
    }

    async fn remove_real(
        &self,
        address: VirtualAddress,
        real: SocketAddr,
    ) -> Result<(), IpvsError> {
        let request = Ok(wire::remove_real(address, real));
        self.change(Operation::RemoveReal(address, real), request)
            .await
    }

    async fn change_all(&self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        let mut answers = Vec::with_capacity(changes.len());
        for together in changes.chunks(TOGETHER) {
            match self.make(together).await {
                Ok(made) => answers.extend(made),
                Err(error) => {
                    answers.resize(changes.len(), Err(error));
                    break;
                }
            }
        }
        answers
    }

    async fn timeouts(&self) -> Result<Timeouts, IpvsError> {
        let answer = self
            .read(Command::GetConfig, NlmF::ACK, wire::configuration)
            .await?;
        single(answer, &Operation::Read)
    }

    async fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), IpvsError> {
        let request = wire::set_timeouts(timeouts);
        self.change(Operation::SetTimeouts, request).await
    }

    async fn sync_daemons(&self) -> Result<Vec<SyncDaemon>, IpvsError> {
        self.read(Command::GetDaemon, NlmF::DUMP, wire::daemon)
            .await
    }

    async fn start_sync(&self, daemon: &SyncDaemon) -> Result<(), IpvsError> {
        let operation = Operation::StartSync(daemon.role, daemon.interface.clone());
        self.change(operation, Ok(wire::start_sync(daemon))).await
    }

    async fn stop_sync(&self, role: SyncRole) -> Result<(), IpvsError> {
        self.change(Operation::StopSync(role), Ok(wire::stop_sync(role)))
            .await
    }
}

impl Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever kernel this runs on: there is an IPVS, or an error that says why not.
    #[tokio::test]
    async fn a_kernel_without_ipvs_is_an_error_in_words() {
        match Netlink::connect().await {
            Ok(netlink) => assert_eq!(netlink.information().await.unwrap().version.0, 1),
            Err(IpvsError::Absent) => {}
            Err(IpvsError::Refused { refusal, .. }) => {
                assert_eq!(refusal, super::super::Refusal::NotPermitted);
            }
            Err(IpvsError::Socket { cause, .. }) => assert!(!cause.is_empty()),
            Err(other) => panic!("{other}"),
        }
    }
}
