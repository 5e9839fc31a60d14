//! Clients that keep connections and pause as long as servers are patient.
//!
//! A round of a client is a burst with short thoughts between requests, a
//! meeting of all clients, one request of each at the same time, which leaves as
//! many connections idle at once, and a pause that ends within milliseconds of
//! the servers' time-out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Barrier;
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::server::Idle;
use crate::client::{Client, get, post};

/// Clients with a connection each.
pub const CLIENTS: usize = 64;

/// No answer is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pauses miss the servers' time-out by so much at most.
const SPREAD: Duration = Duration::from_millis(20);

/// The longest thought between two requests of a burst.
const THOUGHT: Duration = Duration::from_millis(20);

/// The length of a large body.
const LARGE: usize = 100 * 1024;

/// Whether the request with that number is a POST: every other one.
pub(super) fn is_post(id: usize) -> bool {
    id % 2 == 1
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    idle: Idle,
    burst: usize,
    /// By each client.
    each: usize,
    seed: u64,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// All requests.
    pub(super) requests: u64,
    /// By number: whether it was answered well.
    pub(super) answered: Vec<bool>,
    /// By status or kind.
    pub(super) get_errors: BTreeMap<String, u64>,
    /// The same of POSTs.
    pub(super) post_errors: BTreeMap<String, u64>,
}

impl Sent {
    /// Requests that were not answered well.
    pub(super) fn errors(&self) -> u64 {
        let all = self.get_errors.values().chain(self.post_errors.values());
        all.sum()
    }

    fn note(&mut self, id: usize, error: Option<String>) {
        self.requests += 1;
        let Some(error) = error else {
            if let Some(answered) = self.answered.get_mut(id) {
                *answered = true;
            }
            return;
        };
        let errors = if is_post(id) {
            &mut self.post_errors
        } else {
            &mut self.get_errors
        };
        *errors.entry(error).or_insert(0) += 1;
    }
}

impl Load {
    /// About so many requests to servers of that kind.
    pub(super) fn new(idle: Idle, burst: usize, requests: usize, seed: u64) -> Self {
        Self {
            idle,
            burst,
            each: requests.div_ceil(CLIENTS),
            seed,
        }
    }

    /// All requests: the same number of each client.
    pub(super) fn requests(&self) -> usize {
        self.each * CLIENTS
    }

    /// Sends them all.
    pub(super) async fn run(&self, address: SocketAddr) -> anyhow::Result<Sent> {
        let sent = Rc::new(RefCell::new(Sent {
            answered: vec![false; self.requests()],
            ..Sent::default()
        }));
        let meeting = Rc::new(Barrier::new(CLIENTS));
        let local = LocalSet::new();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let worker = Worker {
                    load: *self,
                    number,
                    client: Client::new(address, PATIENCE),
                    rng: Rng::with_seed(self.seed.wrapping_mul(1000) + number as u64),
                    sent: Rc::clone(&sent),
                };
                local.spawn_local(worker.run(Rc::clone(&meeting)))
            })
            .collect();
        local
            .run_until(async {
                for client in clients {
                    client.await?;
                }
                anyhow::Ok(())
            })
            .await?;
        Ok(sent.take())
    }
}

struct Worker {
    load: Load,
    number: usize,
    client: Client,
    rng: Rng,
    sent: Rc<RefCell<Sent>>,
}

impl Worker {
    async fn run(mut self, meeting: Rc<Barrier>) {
        for turn in 0..self.load.each {
            let in_round = turn % self.load.burst;
            if in_round == 0 && turn > 0 {
                sleep(self.pause()).await;
            } else if in_round + 1 == self.load.burst {
                meeting.wait().await;
            } else if self.rng.bool() {
                sleep(THOUGHT.mul_f64(self.rng.f64())).await;
            }
            self.one(turn * CLIENTS + self.number).await;
        }
    }

    /// A pause about as long as servers are patient.
    fn pause(&mut self) -> Duration {
        match self.load.idle {
            Idle::After(time) => {
                let spread = SPREAD.min(time);
                time - spread + spread.mul_f64(2.0 * self.rng.f64())
            }
            Idle::Within(most) => most.mul_f64(self.rng.f64()),
        }
    }

    async fn one(&mut self, id: usize) {
        let request = self.request(id);
        let error = match self.client.send(&request).await {
            Ok(answer) if answer.status != 200 => Some(answer.status.to_string()),
            Ok(answer) if answer.body != id.to_string().as_bytes() => {
                Some("somebody else's answer".to_owned())
            }
            Ok(_) => None,
            Err(failure) => Some(failure.to_string()),
        };
        self.sent.borrow_mut().note(id, error);
    }

    /// Every other request is a POST, and one POST in ten is large.
    fn request(&mut self, id: usize) -> Vec<u8> {
        let path = format!("/{id}");
        if !is_post(id) {
            return get(&path);
        }
        let length = match self.rng.u8(..10) {
            0 => LARGE,
            _ => self.rng.usize(10..200),
        };
        post(&path, &vec![b'x'; length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_noted() {
        let load = Load::new(Idle::Within(SPREAD), 4, 100, 1);
        assert_eq!(load.requests(), 128);
        let mut sent = Sent {
            answered: vec![false; 4],
            ..Sent::default()
        };
        sent.note(0, None);
        sent.note(1, Some("502".to_owned()));
        sent.note(3, Some("502".to_owned()));
        assert_eq!((sent.requests, sent.errors()), (3, 2));
        assert_eq!(sent.post_errors["502"], 2);
        assert_eq!(sent.answered, [true, false, false, false]);
    }
}
