//! Whom an operator's command is for.

use tokio::sync::{mpsc, oneshot};

use crate::view::{Ask, Command};

/// What an operator wants to hear.
pub(super) type Answer = oneshot::Sender<Result<String, String>>;

/// Hands commands on until one asks for the end; that one is left to the caller,
/// with its answer. Never, if nobody can ask any more.
pub(super) async fn until_teardown(
    inbox: &mut mpsc::Receiver<Ask>,
    control: &mpsc::Sender<Ask>,
    election: &mpsc::Sender<Ask>,
) -> Answer {
    while let Some((command, answer)) = inbox.recv().await {
        let (part, absent) = match command {
            Command::Teardown => return answer,
            Command::Failover => (
                election,
                "there is no election here: a dry run, or not a director",
            ),
            Command::Drain(_) | Command::Undrain(_) => (control, "this machine is not a director"),
        };
        if let Err(error) = part.try_send((command, answer)) {
            let (_, answer) = error.into_inner();
            // Whoever asked may be gone.
            let _ = answer.send(Err(absent.to_owned()));
        }
    }
    std::future::pending().await
}
