//! One run of the sequence through one proxy.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::draw::mean;
use super::fleet::{order, told};
use crate::client::Client;

/// No answer is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The proxy.
    pub address: SocketAddr,
    /// Clients in a closed loop.
    pub clients: usize,
    /// Workers of all servers together.
    pub workers: usize,
    /// The service times in milliseconds, by request.
    pub times: &'a [f64],
}

/// What came of it. Times are in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests answered in a second, as long as there were requests to send.
    pub rate: f64,
    /// What clients and workers would make of it if nobody ever waited without need.
    pub ideal: f64,
    /// How long the requests that find no worker have to wait on average.
    pub queue: f64,
    /// The longest service time.
    pub longest_service: f64,
    /// How long each request took that was answered well, shortest first.
    pub latencies: Vec<f64>,
    /// Answers other than 2xx.
    pub refused: u64,
    /// What else went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
    /// The greatest number of connections or requests at one server.
    pub most: u64,
}

impl Figures {
    /// The rate as a share of the ideal.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.rate / self.ideal
    }

    /// The mean of all good answers.
    #[must_use]
    pub fn mean(&self) -> f64 {
        mean(&self.latencies)
    }

    /// The time in which this share of all good answers came.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into thousands of entries"
    )]
    pub fn quantile(&self, share: f64) -> f64 {
        let index = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        let found = self.latencies.get(index.min(last));
        found.copied().unwrap_or_default()
    }

    /// The longest good answer.
    #[must_use]
    pub fn longest(&self) -> f64 {
        self.quantile(1.0)
    }

    /// By how much that is longer than any service time.
    #[must_use]
    pub fn excess(&self) -> f64 {
        self.longest() - self.longest_service
    }

    /// Requests without a whole answer, or with somebody else's.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Requests that were not answered well.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.refused + self.broken()
    }
}

/// What all clients of a run share; they are on one thread.
#[derive(Debug, Default)]
struct Board {
    next: Cell<usize>,
    answered: Cell<u64>,
    /// Set when the first client finds nothing more to do: until then all were busy.
    ended: Cell<Option<(Duration, u64)>>,
    figures: RefCell<Figures>,
}

impl Trial<'_> {
    /// Sends all requests.
    ///
    /// # Errors
    /// A client died.
    pub async fn run(&self) -> anyhow::Result<Figures> {
        let board = Rc::new(Board::default());
        let times: Rc<[f64]> = self.times.into();
        let start = Instant::now();
        let local = LocalSet::new();
        let clients: Vec<_> = (0..self.clients)
            .map(|_| {
                let client = Client::new(self.address, PATIENCE);
                local.spawn_local(work(client, Rc::clone(&times), Rc::clone(&board), start))
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
        let mut figures = board.figures.take();
        self.complete(&mut figures, board.ended.get());
        Ok(figures)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn complete(&self, figures: &mut Figures, ended: Option<(Duration, u64)>) {
        let (time, answered) = ended.unwrap_or_default();
        figures.rate = answered as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = self.clients.min(self.workers) as f64;
        figures.ideal = busy * 1000.0 / mean(self.times);
        figures.queue = self.clients.saturating_sub(self.workers) as f64 * 1000.0 / figures.ideal;
        figures.longest_service = self.times.iter().copied().fold(0.0, f64::max);
        figures.latencies.sort_by(f64::total_cmp);
    }
}

async fn work(mut client: Client, times: Rc<[f64]>, board: Rc<Board>, start: Instant) {
    loop {
        let id = board.next.get();
        let Some(time) = times.get(id) else {
            if board.ended.get().is_none() {
                board
                    .ended
                    .set(Some((start.elapsed(), board.answered.get())));
            }
            return;
        };
        board.next.set(id + 1);
        let request = order(id, *time);
        let sent = Instant::now();
        let outcome = client.send(&request).await;
        let took = sent.elapsed().as_secs_f64() * 1000.0;
        let mut figures = board.figures.borrow_mut();
        match outcome {
            Ok(answer) if !(200..300).contains(&answer.status) => figures.refused += 1,
            Ok(answer) => match told(&answer.body) {
                Some(told) if usize::try_from(told.id) == Ok(id) => {
                    board.answered.set(board.answered.get() + 1);
                    figures.latencies.push(took);
                    figures.most = figures.most.max(told.here);
                }
                _ => *figures.errors.entry("wrong answer".to_owned()).or_insert(0) += 1,
            },
            Err(failure) => *figures.errors.entry(failure.to_string()).or_insert(0) += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_worked_out() {
        let times = [10.0, 30.0];
        let trial = Trial {
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            clients: 240,
            workers: 24,
            times: &times,
        };
        let mut figures = Figures {
            latencies: vec![35.0, 12.0],
            refused: 1,
            ..Figures::default()
        };
        trial.complete(&mut figures, Some((Duration::from_secs(2), 1200)));
        assert!((figures.share() - 0.5).abs() < 1e-9, "{figures:?}");
        assert!((figures.queue - 180.0).abs() < 1e-9, "{figures:?}");
        assert!((figures.excess() - 5.0).abs() < 1e-9, "{figures:?}");
        assert!((figures.mean() - 23.5).abs() < 1e-9, "{figures:?}");
        assert_eq!(figures.failed(), 1);
    }
}
