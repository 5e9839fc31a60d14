//! The load: an event loop that makes requests in a closed circle, on fresh
//! connections, or at a fixed rate, and serves the back end's connections
//! between. Latency at a rate counts from when a request was due, not from when
//! it could be sent (so a stall shows in every request that it delays).

pub mod client;
pub mod h1;
pub mod h2;
pub mod socket;
pub mod tls;
pub mod transport;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use rustls::HandshakeKind;

use crate::back_end::h2c::Calls;
use crate::back_end::{Served, Speech};
use crate::histogram::Histogram;
use client::{Client, Work};
use transport::{Buffers, Target, Transport};

/// After so many errors a run is given up.
const MOST_ERRORS: u64 = 1000;

/// Connections that are opened side by side where many are to stay.
const AT_ONCE: usize = 64;

/// Longest time to open all connections that are to stay.
const OPENING: Duration = Duration::from_secs(120);

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one when one has been answered.
    Circle,
    /// As `Circle`, each on a new connection.
    Fresh,
    /// So many each second, whether or not others have been answered.
    Rate(f64),
    /// One on each connection, which then stays; the window begins when all have been answered.
    Once,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// Connections at once.
    pub connections: usize,
    /// What is asked for.
    pub work: Work,
    /// When.
    pub pace: Pace,
    /// Time before counting begins.
    pub warm_up: Duration,
    /// Time that is counted.
    pub window: Duration,
}

/// What came of it, in the counted time; errors are those of the whole run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests answered as they should be.
    pub requests: u64,
    /// All else.
    pub errors: u64,
    /// What the first error was.
    pub first_error: Option<String>,
    /// TLS handshakes.
    pub handshakes: u64,
    /// Those that resumed a session.
    pub resumed: u64,
    /// Times to answer.
    pub latency: Histogram,
    /// How long it was counted.
    pub elapsed: Duration,
}

impl Tally {
    fn fault(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Free,
    Listener(TcpListener, fn() -> Speech),
    Served(Box<Served>),
    Client(Box<Client>),
}

/// The event loop with the back end's listeners; serves one plan after another.
#[derive(Debug)]
pub struct Engine {
    poll: Poll,
    slots: Vec<Slot>,
    free: Vec<usize>,
    buffers: Buffers,
    /// Where the back end speaks HTTP/1.1.
    pub http1: SocketAddr,
    /// Where it speaks gRPC.
    pub calls: SocketAddr,
}

/// What belongs to one plan.
struct Run {
    plan: Plan,
    tally: Tally,
    turn: usize,
    opened: usize,
    due: VecDeque<Instant>,
    ready: Vec<usize>,
    done: Vec<Instant>,
}

impl Engine {
    /// Opens the back end's ports.
    ///
    /// # Errors
    /// Sockets are not to be had.
    pub fn new() -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let http1 = TcpListener::bind(any)?;
        let calls = TcpListener::bind(any)?;
        let mut engine = Self {
            poll: Poll::new()?,
            slots: Vec::new(),
            free: Vec::new(),
            buffers: Buffers::default(),
            http1: http1.local_addr()?,
            calls: calls.local_addr()?,
        };
        let listeners: [(TcpListener, fn() -> Speech); 2] = [
            (http1, || Speech::Http1(false)),
            (calls, || Speech::Calls(Calls::default())),
        ];
        for (mut listener, speech) in listeners {
            let token = Token(engine.slots.len());
            let registry = engine.poll.registry();
            registry.register(&mut listener, token, Interest::READABLE)?;
            engine.slots.push(Slot::Listener(listener, speech));
        }
        Ok(engine)
    }

    /// Carries out a plan. `sample` is called when the counted time begins and
    /// when it ends, and its results are returned.
    ///
    /// # Errors
    /// No connection can be made at all, `sample` fails, or errors abound.
    pub fn run<T>(
        &mut self,
        plan: Plan,
        mut sample: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<(Tally, T, T)> {
        let start = Instant::now();
        let (warm_up, window) = (plan.warm_up, plan.window);
        let mut run = Run::new(plan);
        if run.plan.pace == Pace::Once {
            let before = sample()?;
            self.open_all(&mut run, start)?;
            self.turn_until(&mut run, Instant::now() + window)?;
            let after = sample()?;
            self.end(&mut run);
            return Ok((run.tally, before, after));
        }
        for _ in 0..run.plan.connections {
            self.open(&mut run)?;
        }
        self.turn_until(&mut run, start + warm_up)?;
        run.restart();
        let (counted, before) = (Instant::now(), sample()?);
        self.turn_until(&mut run, counted + window)?;
        let after = sample()?;
        run.tally.elapsed = counted.elapsed();
        self.end(&mut run);
        Ok((run.tally, before, after))
    }

    fn open_all(&mut self, run: &mut Run, start: Instant) -> anyhow::Result<()> {
        let all = u64::try_from(run.plan.connections)?;
        for _ in 0..run.plan.connections.min(AT_ONCE) {
            self.open(run)?;
        }
        while run.tally.requests < all {
            if start.elapsed() > OPENING || run.tally.errors > 0 {
                let error = run.tally.first_error.clone().unwrap_or_default();
                bail!(
                    "{} of {all} connections opened: {error}",
                    run.tally.requests
                );
            }
            self.turn_until(run, Instant::now())?;
        }
        Ok(())
    }

    /// Serves events until then, and at least once.
    fn turn_until(&mut self, run: &mut Run, end: Instant) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let begin = Instant::now();
        let mut planned = 0;
        loop {
            let mut timeout = Duration::from_millis(20);
            if let Pace::Rate(rate) = run.plan.pace {
                planned = self.send_due(run, begin, rate, planned);
                timeout = Duration::ZERO; // sleeping would be too coarse
            }
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
            for event in &events {
                self.on_event(event, run)?;
            }
            if run.tally.errors > MOST_ERRORS {
                bail!(
                    "given up: {}",
                    run.tally.first_error.take().unwrap_or_default()
                );
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// Hands requests that have become due to connections with room.
    fn send_due(&mut self, run: &mut Run, begin: Instant, rate: f64, planned: u32) -> u32 {
        let now = Instant::now();
        let mut planned = planned;
        loop {
            let due = begin + Duration::from_secs_f64(f64::from(planned) / rate);
            if due > now {
                break;
            }
            run.due.push_back(due);
            planned += 1;
        }
        while !run.due.is_empty()
            && let Some(at) = run.ready.pop()
        {
            if let Some(slot) = self.slots.get_mut(at)
                && let Slot::Client(client) = slot
            {
                client.is_ready = false;
                run.pump(client, at);
                if let Err(error) = client.transport.flush() {
                    run.tally.fault(&error.into());
                }
            }
        }
        planned
    }

    fn on_event(&mut self, event: &Event, run: &mut Run) -> anyhow::Result<()> {
        let at = event.token().0;
        let Some(slot) = self.slots.get_mut(at) else {
            return Ok(());
        };
        let may_read = event.is_readable() || event.is_read_closed() || event.is_error();
        match slot {
            Slot::Free => {}
            Slot::Listener(..) => self.accept(at)?,
            Slot::Served(served) => {
                let gone = match served.turn(&mut self.buffers.wire) {
                    Ok(lives) => !lives,
                    Err(error) => {
                        if error.downcast_ref::<std::io::Error>().is_none() {
                            run.tally.fault(&error.context("back end"));
                        }
                        true
                    }
                };
                if gone {
                    self.release(at);
                }
            }
            Slot::Client(client) => {
                if !run.drive(client, at, may_read, &mut self.buffers) {
                    self.release(at);
                    self.open(run)?;
                } else if run.wants_more() {
                    self.open(run)?;
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, at: usize) -> anyhow::Result<()> {
        while let Some(Slot::Listener(listener, speech)) = self.slots.get(at) {
            let Ok((socket, _)) = listener.accept() else {
                break;
            };
            let served = Served::new(socket, speech());
            let at = self.take_slot();
            let mut served = Box::new(served);
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut served.socket, Token(at), interest)?;
            self.put(at, Slot::Served(served));
        }
        Ok(())
    }

    fn open(&mut self, run: &mut Run) -> anyhow::Result<()> {
        let transport = Transport::open(&run.plan.target)?;
        let mut client = Box::new(Client::new(transport, &run.plan.work));
        let at = self.take_slot();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut client.transport.socket, Token(at), interest)?;
        self.put(at, Slot::Client(client));
        run.opened += 1;
        Ok(())
    }

    fn take_slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        })
    }

    fn put(&mut self, at: usize, content: Slot) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = content;
        }
    }

    /// Closes what is there.
    fn release(&mut self, at: usize) {
        self.put(at, Slot::Free);
        self.free.push(at);
    }

    /// Closes the plan's connections and counts what was never sent.
    fn end(&mut self, run: &mut Run) {
        let now = Instant::now();
        for due in run.due.drain(..) {
            run.tally.latency.add(now - due);
        }
        for at in 0..self.slots.len() {
            if let Some(Slot::Client(client)) = self.slots.get_mut(at) {
                client.transport.close();
                self.release(at);
            }
        }
    }
}

impl Run {
    fn new(plan: Plan) -> Self {
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
    fn restart(&mut self) {
        let Tally {
            errors,
            first_error,
            ..
        } = std::mem::take(&mut self.tally);
        self.tally.errors = errors;
        self.tally.first_error = first_error;
        self.due.clear();
    }

    /// Whether a connection that is to stay is still to be opened.
    fn wants_more(&self) -> bool {
        let answered = usize::try_from(self.tally.requests).unwrap_or(usize::MAX);
        self.plan.pace == Pace::Once
            && self.opened < self.plan.connections
            && self.opened < answered.saturating_add(AT_ONCE)
    }

    /// Reads, counts, sends. Returns false when the connection is to be replaced.
    fn drive(
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
    fn pump(&mut self, client: &mut Client, at: usize) {
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
