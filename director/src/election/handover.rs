//! The operator's wish that another machine be master.
//!
//! Owns the answer: it is given once every virtual router that was master here
//! has found a successor, or has not. The rest of the commands is not for the
//! election.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::shell::Shell;
use crate::view::{Ask, Command};
use crate::vrrp::{Cause, Event, Key, State};

/// A handover that is under way.
#[derive(Debug)]
pub(super) struct Handover {
    answer: oneshot::Sender<Result<String, String>>,
    waiting: BTreeSet<Key>,
    successors: BTreeSet<String>,
    failure: Option<String>,
}

impl Shell {
    pub(super) async fn ask(&mut self, (command, answer): Ask) {
        let held: BTreeSet<_> = self.seats.keys().copied().collect();
        let masters = held
            .into_iter()
            .filter(|key| self.state(*key) == State::Master);
        let waiting: BTreeSet<_> = masters.collect();
        let refusal = if !matches!(command, Command::Failover) {
            Some("the election hands over the addresses and nothing else")
        } else if !self.parts.settings.vrrp.enabled {
            Some("there is no election on this machine, so nobody can take over")
        } else if self.handover.is_some() {
            Some("the addresses are already being handed over")
        } else if waiting.is_empty() {
            Some("this machine is not the master")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // Whoever asked may be gone.
            let _ = answer.send(Err(refusal.to_owned()));
            return;
        }
        self.handover = Some(Handover {
            answer,
            waiting: waiting.clone(),
            successors: BTreeSet::new(),
            failure: None,
        });
        for key in waiting {
            self.tell(key, Event::Yield).await;
        }
    }

    /// Answers when the last one has come to its end.
    pub(super) fn note_handover(&mut self, key: Key, state: State, cause: Cause) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        if state == State::Leaving || !handover.waiting.remove(&key) {
            return;
        }
        if let Cause::HandedOver(to) = cause {
            handover.successors.insert(to.to_string());
        } else {
            handover.failure = Some(super::words::cause(cause));
        }
        if !handover.waiting.is_empty() {
            return;
        }
        let Some(Handover {
            answer,
            successors,
            failure,
            ..
        }) = self.handover.take()
        else {
            return;
        };
        let successors: Vec<_> = successors.into_iter().collect();
        let result = match failure {
            Some(reason) => Err(format!("the addresses were not handed over: {reason}")),
            None => Ok(format!(
                "handed the addresses over to {}",
                successors.join(", ")
            )),
        };
        let _ = answer.send(result);
    }
}
