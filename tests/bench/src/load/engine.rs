//! The event loop: opens the load's connections, serves the back end's between,
//! and asks the plan's `Run` what to send.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::bail;
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use super::client::Client;
use super::run::{AT_ONCE, Run};
use super::transport::{Buffers, Transport};
use super::{Pace, Plan, Tally};
use crate::back_end::h2c::Calls;
use crate::back_end::{Served, Speech};

/// After so many errors a run is given up.
const MOST_ERRORS: u64 = 1000;

/// Longest time to wait for the first answer that counts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest time to open all connections that are to stay.
const OPENING: Duration = Duration::from_secs(120);

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
        self.close_clients(); // of a plan that broke down
        let (warm_up, window) = (plan.warm_up, plan.window);
        let mut run = Run::new(plan);
        if run.plan.pace == Pace::Once {
            let before = sample()?;
            self.open_all(&mut run, start)?;
            self.turn_until(&mut run, Instant::now() + window)?;
            let after = sample()?;
            run.end();
            self.close_clients();
            return Ok((run.tally, before, after));
        }
        for _ in 0..run.plan.connections {
            self.open(&mut run)?;
        }
        self.turn_until(&mut run, start + warm_up)?;
        run.restart();
        let (counted, before) = (Instant::now(), sample()?);
        self.turn_until(&mut run, counted + window)?;
        while run.tally.requests == 0 && run.tally.errors == 0 && counted.elapsed() < PATIENCE {
            self.turn_until(&mut run, Instant::now())?;
        }
        let after = sample()?;
        run.tally.elapsed = counted.elapsed();
        run.end();
        self.close_clients();
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

    fn close_clients(&mut self) {
        for at in 0..self.slots.len() {
            if let Some(Slot::Client(client)) = self.slots.get_mut(at) {
                client.transport.close();
                self.release(at);
            }
        }
    }
}
