//! The election's orders and the operator's commands.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::pass::Control;
use super::{settle_sync, tuning};
use crate::desired::Serving;
use crate::ipvs::Kernel;
use crate::model::{Family, VirtualAddress};
use crate::plan::Change;
use crate::view::Command;

/// How often an order tries when the kernel does not answer.
const TRIALS: u32 = 3;

impl<K: Kernel> Control<K> {
    /// Puts the virtual servers of a family into the kernel, or takes them out. The answer
    /// is for the election: whether they are in, or out, now.
    pub(super) async fn serve(&mut self, family: Family, is_serving: bool) -> Result<(), String> {
        if self.is_torn_down && is_serving {
            return Err("everything was taken out by the operator".to_owned());
        }
        let (serving, decision) = match is_serving {
            true => (Serving::Yes, "serves the virtual addresses"),
            false => (Serving::No, "is a standby"),
        };
        if self.serving.set(family, serving) {
            let journal = &self.out.journal;
            journal.record("table", &family, decision, "by order of the election");
        }
        if self.serving.is_standby()
            && let Some(tuning) = &mut self.tuning
        {
            // What can't be set is said by the next look at all settings.
            let _ = tuning::keep_stranded(&mut **tuning);
        }
        for _ in 0..TRIALS {
            self.pass().await;
            if self.general.is_none() {
                break;
            }
        }
        self.publish();
        self.outcome()
    }

    /// Did the last pass bring what an order asks for? A real server that the
    /// kernel refuses does not keep the others from serving.
    fn outcome(&self) -> Result<(), String> {
        if let Some(error) = &self.general {
            return Err(error.clone());
        }
        let mut failures = self.last.failures.iter();
        let failed = failures.find(|it| {
            let is_virtual = matches!(it.change, Change::AddVirtual(..) | Change::RemoveVirtual(_));
            is_virtual && it.change.address().ip().is_some()
        });
        match failed {
            None => Ok(()),
            Some(failure) => Err(match &failure.error {
                Some(error) => error.to_string(),
                None => format!("held back: {}", failure.change),
            }),
        }
    }

    /// Does what the operator asks for, and says what was done or why not.
    pub(super) async fn command(&mut self, command: Command) -> Result<String, String> {
        match command {
            Command::Drain(node) => self.drain(node).await,
            Command::Undrain(node) => self.undrain(node).await,
            Command::Teardown => self.tear_down().await,
            Command::Failover => Err("a failover is the election's business".to_owned()),
        }
    }

    async fn drain(&mut self, node: IpAddr) -> Result<String, String> {
        let known = self.known();
        if !known.contains(&node) {
            return Err(unknown(node, &known));
        }
        if !self.drained.insert(node) {
            return Ok(format!("{node} was drained before"));
        }
        let journal = &self.out.journal;
        journal.record("table", &node, "drains it", "by order of the operator");
        self.force().await?;
        Ok(format!(
            "{node} takes no new connections; those it has go on"
        ))
    }

    async fn undrain(&mut self, node: IpAddr) -> Result<String, String> {
        if !self.drained.remove(&node) {
            let known = self.known();
            return match known.contains(&node) {
                true => Ok(format!("{node} was not drained")),
                false => Err(unknown(node, &known)),
            };
        }
        let journal = &self.out.journal;
        journal.record(
            "table",
            &node,
            "no longer drains it",
            "by order of the operator",
        );
        self.force().await?;
        Ok(format!("{node} takes connections again, if it is well"))
    }

    /// A pass for a command: it is done, or the operator hears why not. What
    /// was decided is kept either way.
    async fn force(&mut self) -> Result<(), String> {
        self.pass().await;
        self.publish();
        let later = |error| format!("it is noted, but can't be done yet: {error}");
        self.general
            .clone()
            .map_or(Ok(()), |error| Err(later(error)))
    }

    /// The nodes that there are.
    fn known(&self) -> BTreeSet<IpAddr> {
        let listed = self.roster.nodes.keys().copied();
        let registered = self.registered.values();
        let reals = registered.flat_map(|it| it.real_servers.keys());
        let left = self.drained.iter().copied();
        listed.chain(reals.map(|it| it.ip())).chain(left).collect()
    }

    /// The end: what a standby has in the kernel was for its own checks. A table
    /// that serves stays, for the next director to take over.
    pub(super) async fn leave(&mut self) {
        if !self.serving.is_standby() || self.is_torn_down {
            return;
        }
        self.out.marks.send_replace(std::sync::Arc::default());
        let mut removed: usize = 0;
        for (node, mark) in std::mem::take(&mut self.state.marks) {
            let address = VirtualAddress::FirewallMark(Family::of(node), mark);
            // What stays is harmless, and the next director's.
            removed += usize::from(self.kernel.remove_virtual(address).await.is_ok());
        }
        if removed > 0 {
            let decision = format!("took out {removed} virtual servers of its checks");
            let journal = &self.out.journal;
            journal.record("table", &"kernel", decision, "the director ends");
        }
    }

    /// Takes everything of ours out, and changes nothing from then on.
    async fn tear_down(&mut self) -> Result<String, String> {
        self.is_torn_down = true;
        self.pass().await;
        self.publish();
        self.outcome()?;
        let stopped = match self.settings.kernel.sync {
            true => settle_sync(&*self.kernel, &[]).await.map(drop),
            false => Ok(()),
        };
        stopped.map_err(|error| error.to_string())?;
        if let Some(tuning) = &mut self.tuning {
            let wrong = tuning.restore();
            if !wrong.is_empty() {
                return Err(wrong.join("; "));
            }
        }
        Ok(
            "the table, the sync daemons and the kernel's settings are as without a director"
                .to_owned(),
        )
    }
}

fn unknown(node: IpAddr, known: &BTreeSet<IpAddr>) -> String {
    if known.is_empty() {
        return format!("there is no node {node}: no node is known at all");
    }
    let names: Vec<_> = known.iter().map(ToString::to_string).collect();
    format!("there is no node {node}; there are {}", names.join(", "))
}
