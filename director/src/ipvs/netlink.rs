//! The real kernel, by generic netlink.
//!
//! One request at a time, each answer read to its end: the socket's reader
//! serves all requests of a socket and would wait for a full one forever. A
//! socket that failed, or a request that was given up half way, costs the
//! socket: what the kernel did is then unknown, and the next call opens
//! another. Encoding is `wire`'s; nothing is decided here.

use std::fmt::{self, Debug};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use neli::consts::nl::NlmF;
use neli::consts::socket::NlFamily;
use neli::err::RouterError;
use neli::nl::NlPayload;
use neli::router::asynchronous::NlRouter;
use neli::types::Buffer;
use neli::utils::Groups;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::errno;
use super::glance::{self, Glance};
use super::wire::{self, Command, Request, WireError};
use super::{Information, IpvsError, Kernel, Operation, RealEntry, VirtualEntry};
use crate::model::{RealServer, Scheduling, SyncDaemon, SyncRole, Timeouts, VirtualAddress};

/// How long the kernel may take, unless told otherwise: loading a scheduler's
/// module takes a while on a small board.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel's listing of the whole table of this network namespace.
const LISTING: &str = "/proc/thread-self/net/ip_vs";

/// The longest listing that is looked at: of some hundred thousand real servers.
const LONGEST: u64 = 64 << 20;

/// IPVS of the network namespace that the process is in.
pub struct Netlink {
    session: Mutex<Option<Session>>,
    patience: Duration,
}

struct Session {
    router: NlRouter,
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

impl<T: Debug, P: Debug> From<RouterError<T, P>> for Trouble {
    fn from(error: RouterError<T, P>) -> Self {
        match error {
            RouterError::Nlmsgerr(refused) => Self::Errno(refused.error().saturating_neg()),
            other => Self::Socket(other.to_string()),
        }
    }
}

impl Session {
    async fn open() -> Result<Self, Trouble> {
        let groups = Groups::empty();
        let (router, _none) = NlRouter::connect(NlFamily::Generic, None, groups).await?;
        match router.resolve_genl_family(wire::FAMILY).await {
            Ok(family) => Ok(Self { router, family }),
            Err(error) => match Trouble::from(error) {
                Trouble::Errno(errno::ENOENT) => Err(Trouble::Absent),
                other => Err(other),
            },
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
    let session = match session {
        Some(session) => session,
        None => Session::open().await?,
    };
    let payload = NlPayload::Payload(request);
    let send = session
        .router
        .send::<_, _, u16, Buffer>(session.family, flags, payload);
    let mut answers = send.await?;
    let mut decoded = Ok(Vec::new());
    while let Some(answer) = answers.next::<u16, Buffer>().await {
        let found = match answer.map_err(Trouble::from) {
            Err(Trouble::Errno(number)) => Err(Fault::Errno(number)),
            Err(other) => return Err(other),
            Ok(message) => match message.nl_payload() {
                NlPayload::Payload(bytes) if *message.nl_type() == session.family => {
                    decode(bytes.as_ref()).map(Some).map_err(Fault::Message)
                }
                NlPayload::DumpExtAck(end) if *end.error() != 0 => {
                    Err(Fault::Errno(end.error().saturating_neg()))
                }
                _ => Ok(None),
            },
        };
        // The first error stands, and the answer is read on to its end.
        match (&mut decoded, found) {
            (Ok(all), Ok(entry)) => all.extend(entry),
            (Ok(_), Err(fault)) => decoded = Err(fault),
            (Err(_), _) => {}
        }
    }
    Ok((session, decoded))
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

    async fn glance(&self) -> Option<Glance> {
        let reading = tokio::task::spawn_blocking(|| {
            let mut listing = Vec::new();
            let file = File::open(LISTING).ok()?;
            file.take(LONGEST).read_to_end(&mut listing).ok()?;
            let is_whole = u64::try_from(listing.len()).ok()? < LONGEST;
            is_whole.then(|| glance::read(&String::from_utf8_lossy(&listing)))
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
