//! One plan under way: what was sent, what came back, what is due. Knows
//! nothing of the event loop.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::anyhow;
use rustls::HandshakeKind;

use super::client::Client;
use super::transport::Buffers;
use super::{Pace, Plan, Tally};

/// Connections that are opened side by side where many are to stay.
pub(super) const AT_ONCE: usize = 64;

/// What belongs to one plan.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) tally: Tally,
    pub(super) turn: usize,
    pub(super) opened: usize,
    pub(super) due: VecDeque<Instant>,
    pub(super) ready: Vec<usize>,
    pub(super) done: Vec<Instant>,
}

impl Run {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            tally: Tally::default(),
            turn: 0,
            opened: 0,
            due: VecDeque::new(),
            ready: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Begins to count; errors stay.
    pub(super) fn restart(&mut self) {
        let Tally {
            errors,
            first_error,
            ..
        } = std::mem::take(&mut self.tally);
        self.tally.errors = errors;
        self.tally.first_error = first_error;
        self.due.clear();
    }

    /// Counts what was due and never sent.
    pub(super) fn end(&mut self) {
        let now = Instant::now();
        for due in self.due.drain(..) {
            self.tally.latency.add(now.saturating_duration_since(due));
        }
    }

    /// Whether a connection that is to stay is still to be opened.
    pub(super) fn wants_more(&self) -> bool {
        let answered = usize::try_from(self.tally.requests).unwrap_or(usize::MAX);
        self.plan.pace == Pace::Once
            && self.opened < self.plan.connections
            && self.opened < answered.saturating_add(AT_ONCE)
    }

    /// Reads, counts, sends. Returns false when the connection is to be replaced.
    pub(super) fn drive(
        &mut self,
        client: &mut Client,
        at: usize,
        may_read: bool,
        buffers: &mut Buffers,
    ) -> bool {
        let read = if may_read {
            client.read(&self.plan.work, buffers, &mut self.done)
        } else {
            Ok(true)
        };
        self.count_handshake(client);
        let answered = !self.done.is_empty();
        if answered {
            let now = Instant::now();
            for due in self.done.drain(..) {
                self.tally.requests += 1;
                self.tally.latency.add(now.saturating_duration_since(due));
            }
        }
        match read {
            Ok(true) => {}
            Ok(false) => {
                if client.under_way() > 0 || self.plan.pace != Pace::Circle {
                    self.tally
                        .fault(&anyhow!("the proxy has closed the connection"));
                }
                return false;
            }
            Err(error) => {
                self.tally.fault(&error);
                return false;
            }
        }
        if answered && self.plan.pace == Pace::Fresh {
            client.transport.close();
            return false;
        }
        self.pump(client, at);
        if let Err(error) = client.transport.flush() {
            self.tally.fault(&error.into());
            return false;
        }
        true
    }

    fn count_handshake(&mut self, client: &mut Client) {
        if client.is_counted {
            return;
        }
        if let Some(kind) = client.transport.handshake() {
            client.is_counted = true;
            self.tally.handshakes += 1;
            self.tally.resumed += u64::from(kind == HandshakeKind::Resumed);
        }
    }

    /// Prepares what may be sent now.
    pub(super) fn pump(&mut self, client: &mut Client, at: usize) {
        while client.has_room(&self.plan.work) {
            let due = match self.plan.pace {
                Pace::Circle => Instant::now(),
                Pace::Fresh | Pace::Once if client.sent == 0 => client.opened,
                Pace::Fresh | Pace::Once => return,
                Pace::Rate(_) => match self.due.pop_front() {
                    Some(due) => due,
                    None => {
                        if !client.is_ready {
                            client.is_ready = true;
                            self.ready.push(at);
                        }
                        return;
                    }
                },
            };
            client.send(&self.plan.work, self.turn, due);
            self.turn = self.turn.wrapping_add(1);
        }
    }
}
