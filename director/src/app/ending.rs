//! The parts while they run, and their end.
//!
//! Each part has an end of its own, for they need each other: the election
//! hands the addresses over while the table still serves, the table goes when
//! the addresses have gone, and the receiver takes what is sent to this machine
//! until nobody sends it any more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::docker::{ClientSettings, DockerEngine};
use tidegate_shared::shutdown::{self, Shutdown, Stage, Trigger};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Failure;
use super::asks::{self, Answer};
use super::ground::{Ground, Table};
use super::masters;
use super::wiring::{Ends, Wires};
use crate::config::Settings;
use crate::controller::{self, Feeds, Outlets, Tuning};
use crate::docker_link::{self, Hosts};
use crate::health::{self, Checking, Watched};
use crate::network::sysctl::Sysctl;
use crate::receiver::{self, Receiver};
use crate::registry::{self, Prober, Registry};
use crate::view::{Ask, Command};
use crate::{election, source};

/// How long a teardown of the table may take.
const WITHDRAWAL: Duration = Duration::from_secs(3);

/// How long the engine may think about one question.
const ENGINE: Duration = Duration::from_secs(5);

/// Parts that run.
pub(super) struct Running {
    settings: Arc<Settings>,
    links: crate::network::Links,
    to_control: mpsc::Sender<Ask>,
    to_election: mpsc::Sender<Ask>,
    election: Option<Part>,
    control: Option<Part>,
    receiver: Option<Part>,
    reporter: Option<Part>,
    /// Those that nobody waits for: sources, checks, registered services.
    others: Vec<Part>,
}

/// A part, and how to end it.
struct Part {
    end: Trigger,
    task: JoinHandle<Result<(), Failure>>,
}

impl Part {
    fn start<F>(make: impl FnOnce(Shutdown) -> F) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (end, shutdown) = shutdown::channel();
        let task = tokio::spawn(make(shutdown));
        Self { end, task }
    }

    /// Asks for its end and waits for it.
    async fn end(self) -> Result<(), Failure> {
        self.end.advance(Stage::Draining);
        self.task
            .await
            .unwrap_or_else(|error| Err(panicked(&error)))
    }
}

fn panicked(error: &tokio::task::JoinError) -> Failure {
    Failure::Part(format!("a part ended unexpectedly: {error}"))
}

impl Running {
    /// Starts everything that the roles ask for.
    pub(super) fn start(
        settings: &Arc<Settings>,
        ground: &Ground,
        wires: &Wires,
        ends: Ends,
        registry: Registry,
    ) -> Self {
        let mut running = Self {
            settings: Arc::clone(settings),
            links: ground.links.clone(),
            to_control: wires.to_control.clone(),
            to_election: wires.to_election.clone(),
            election: None,
            control: None,
            receiver: None,
            reporter: None,
            others: Vec::new(),
        };
        if settings.roles.receiver && !settings.dry_run {
            running.receive(ground, wires, ends.receiver);
        }
        if let Some(table) = &ground.kernel {
            running.find_and_check(wires, ends.roster, ends.health);
            running.keep_registry(wires, registry);
            let feeds = Feeds {
                roster: wires.observed.roster.clone(),
                health: wires.observed.health.clone(),
                registered: wires.registered.subscribe(),
                network: wires.observed.network.clone(),
                orders: ends.orders,
                asks: ends.control_asks,
            };
            let outlets = Outlets {
                state: ends.control,
                marks: ends.marks,
                journal: wires.observed.journal.clone(),
            };
            running.control = Some(control(settings, table, feeds, outlets));
            running.elect(wires, ends.vrrp, ends.election_asks);
        }
        running
    }

    fn receive(
        &mut self,
        ground: &Ground,
        wires: &Wires,
        state: watch::Sender<Arc<receiver::ReceiverState>>,
    ) {
        let settings = &self.settings;
        let receiver = Receiver {
            settings: settings.receiver.clone(),
            vips: settings.vips.clone(),
            interface: settings.interface.clone(),
            links: ground.links.clone(),
            network: ground.network.clone(),
            state,
            journal: wires.observed.journal.clone(),
        };
        self.receiver = Some(Part::start(|shutdown| async {
            receiver::run(receiver, shutdown).await;
            Ok(())
        }));
        let (settings, observed) = (Arc::clone(settings), wires.observed.clone());
        self.reporter = Some(Part::start(|shutdown| async {
            let (receiver, network) = (observed.receiver, observed.network);
            source::heartbeat::report(settings, receiver, network, shutdown).await;
            Ok(())
        }));
    }

    fn find_and_check(
        &mut self,
        wires: &Wires,
        roster: watch::Sender<Arc<source::Roster>>,
        health: watch::Sender<Arc<health::Health>>,
    ) {
        let observed = wires.observed.clone();
        let (network, journal) = (observed.network.clone(), observed.journal.clone());
        let settings = Arc::clone(&self.settings);
        self.others.push(Part::start(|shutdown| async {
            source::run(settings, network, roster, journal, shutdown).await;
            Ok(())
        }));
        let checking = Checking::from(&*self.settings);
        let (found, masters) = watch::channel(Arc::default());
        let vrrp = observed.vrrp;
        self.others.push(Part::start(|shutdown| async {
            masters::follow(vrrp, found, shutdown).await;
            Ok(())
        }));
        let watched = Watched {
            roster: observed.roster,
            marks: wires.marks.clone(),
            network: observed.network,
            masters,
        };
        let journal = observed.journal;
        self.others.push(Part::start(|shutdown| async {
            health::run(checking, watched, health, journal, shutdown).await;
            Ok(())
        }));
    }

    fn keep_registry(&mut self, wires: &Wires, registry: Registry) {
        let kept = registry.clone();
        self.others.push(Part::start(|shutdown| async {
            registry::run(kept, Arc::new(Prober), shutdown).await;
            Ok(())
        }));
        let Some(link) = &self.settings.sources.docker_link else {
            return;
        };
        let client = ClientSettings {
            endpoint: link.endpoint.clone(),
            timeout: ENGINE,
            ..ClientSettings::default()
        };
        let engine = match DockerEngine::new(&client) {
            Ok(engine) => Arc::new(engine),
            Err(error) => {
                warn!(%error, "Containers can't be followed");
                return;
            }
        };
        let (hosts, network) = (Hosts::of(&self.settings), wires.observed.network.clone());
        self.others.push(Part::start(|shutdown| async {
            docker_link::run(engine, hosts, network, registry, shutdown).await;
            Ok(())
        }));
    }

    fn elect(
        &mut self,
        wires: &Wires,
        state: watch::Sender<Arc<crate::view::VrrpState>>,
        asks: mpsc::Receiver<Ask>,
    ) {
        let observed = wires.observed.clone();
        let (settings, links) = (Arc::clone(&self.settings), self.links.clone());
        let orders = wires.orders.clone();
        self.election = Some(Part::start(move |shutdown| async move {
            let parts = election::Parts {
                settings,
                links,
                network: observed.network,
                roster: observed.roster,
                control: observed.control,
                orders,
                asks,
                state,
                journal: observed.journal,
                shutdown,
            };
            election::run(parts).await.map_err(Failure::Election)
        }));
    }

    /// Waits for the end, by a signal, an operator or a part that fails, and
    /// brings it about.
    pub(super) async fn until_the_end(
        mut self,
        mut inbox: mpsc::Receiver<Ask>,
        mut shutdown: Shutdown,
    ) -> Result<(), Failure> {
        let mut answer = None;
        let (to_control, to_election) = (self.to_control.clone(), self.to_election.clone());
        let failed = tokio::select! {
            () = shutdown.reached(Stage::Draining) => None,
            failure = self.failure() => Some(failure),
            asked = asks::until_teardown(&mut inbox, &to_control, &to_election) => {
                answer = Some(asked);
                None
            }
        };
        let ended = self.end(shutdown, answer).await;
        failed.map_or(ended, Err)
    }

    /// Why a part that must not end has ended.
    async fn failure(&mut self) -> Failure {
        let parts = [&mut self.election, &mut self.control, &mut self.receiver];
        let tasks = parts
            .into_iter()
            .flatten()
            .map(|part| Pin::new(&mut part.task));
        let tasks: Vec<_> = tasks.collect();
        if tasks.is_empty() {
            return std::future::pending().await;
        }
        match futures_util::future::select_all(tasks).await.0 {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) => Failure::Part("a part ended although nobody asked it to".to_owned()),
            Err(error) => panicked(&error),
        }
    }

    async fn end(mut self, shutdown: Shutdown, answer: Option<Answer>) -> Result<(), Failure> {
        let is_teardown = answer.is_some();
        if let Some(election) = self.election.take() {
            give_way(election, shutdown).await?;
        }
        let table = match is_teardown {
            true => self.clear_table().await,
            false => Ok(()),
        };
        // What stays in place needs no farewell.
        if let Some(reporter) = self.reporter.take().filter(|_| !self.stays(is_teardown)) {
            reporter.end().await?;
        }
        for part in self.control.take().into_iter().chain(self.others.drain(..)) {
            part.end().await?;
        }
        if let Some(receiver) = self.receiver.take() {
            receiver.end().await?;
        }
        let mut result = table;
        if is_teardown {
            let (settings, links) = (&self.settings, &self.links);
            let swept = receiver::teardown(&settings.receiver, &settings.vips, links).await;
            result = result.and(swept);
        }
        if let Err(error) = &result {
            warn!(%error, "Not everything could be taken out");
        }
        if let Some(answer) = answer {
            let done =
                result.map(|()| "everything of Tidegate's is out of this machine".to_owned());
            // Whoever asked may be gone.
            let _ = answer.send(done);
        }
        info!("Stopped");
        Ok(())
    }

    fn stays(&self, is_teardown: bool) -> bool {
        self.settings.receiver.keep && !is_teardown
    }

    /// Takes everything of ours out of the kernel.
    async fn clear_table(&mut self) -> Result<(), String> {
        if self.control.is_none() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let ask = (Command::Teardown, done);
        if self.to_control.send(ask).await.is_err() {
            return Err("the table's keeper has ended".to_owned());
        }
        match timeout(WITHDRAWAL, answer).await {
            Ok(Ok(done)) => done.map(drop),
            _ => Err(format!("the table was not cleared within {WITHDRAWAL:?}")),
        }
    }
}

/// Ends the election: it gives the addresses away in peace, or at once if the
/// second signal comes.
async fn give_way(election: Part, mut shutdown: Shutdown) -> Result<(), Failure> {
    let Part { end, mut task } = election;
    end.advance(Stage::Draining);
    let ended = tokio::select! {
        ended = &mut task => ended,
        () = shutdown.reached(Stage::Immediate) => {
            end.advance(Stage::Immediate);
            task.await
        }
    };
    ended.unwrap_or_else(|error| Err(panicked(&error)))
}

/// The table's keeper, for the kernel's or for one in memory.
fn control(settings: &Arc<Settings>, table: &Table, feeds: Feeds, outlets: Outlets) -> Part {
    let settings = Arc::clone(settings);
    match table {
        Table::Kernel(kernel) => {
            let kernel = Arc::clone(kernel);
            let proc_sys = settings.receiver.proc_sys.clone();
            let tuning = settings.kernel.tune.then(|| {
                let sysctl: Box<dyn Tuning> = Box::new(Sysctl::new(proc_sys.as_deref()));
                sysctl
            });
            Part::start(move |shutdown| async move {
                controller::run(kernel, tuning, settings, feeds, outlets, shutdown).await;
                Ok(())
            })
        }
        Table::Dry(kernel) => {
            let kernel = Arc::clone(kernel);
            Part::start(move |shutdown| async move {
                controller::run(kernel, None, settings, feeds, outlets, shutdown).await;
                Ok(())
            })
        }
    }
}
