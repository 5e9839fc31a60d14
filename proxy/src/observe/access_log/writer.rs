//! The thread that writes the access log.
//!
//! Entries come through a bounded queue. The first one wakes the thread, which lets
//! some milliseconds of others come after it: nobody has to be woken for those, and
//! they are written in one go. When nothing is left it sleeps. `reopen` and `close`
//! are flags; a wake-up goes through the queue, and where that is full the
//! thread is awake anyway.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::entry::Entry;
use super::format::Formatter;
use super::sink::Sink;

/// Bytes that are written in one go.
const BATCH: usize = 64 * 1024;

/// How long the first line waits for others, where this many may wait. In a queue that
/// holds less the time is less in proportion, or it would fill.
const GATHER: (Duration, u32) = (Duration::from_millis(5), 4096);

/// Shorter sleeps cost more than they save.
const SHORTEST: Duration = Duration::from_micros(100);

/// The near end of the queue.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<Infallible>>,
}

#[derive(Debug)]
enum Message {
    Entry(Box<Entry>),
    WakeUp,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: Arc<AtomicU64>,
    must_reopen: AtomicBool,
    is_closing: AtomicBool,
}

impl Writer {
    pub(super) fn start(formatter: Formatter, sink: Sink, capacity: usize) -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(capacity);
        let (alive, ended) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut thread = Thread {
            entries,
            shared: Arc::clone(&shared),
            formatter,
            sink,
            gather: gather(capacity),
            buffer: Vec::new(),
            lines: 0,
            is_failing: false,
            _alive: alive,
        };
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self {
            queue,
            shared,
            ended: Mutex::new(ended),
        })
    }

    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.dropped)
    }

    pub(super) fn submit(&self, entry: Entry) {
        if self
            .queue
            .try_send(Message::Entry(Box::new(entry)))
            .is_err()
        {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn reopen(&self) {
        self.shared.must_reopen.store(true, Ordering::Release);
        self.wake_up();
    }

    pub(super) fn close(&self, limit: Duration) -> bool {
        self.shared.is_closing.store(true, Ordering::Release);
        self.wake_up();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(
            ended.recv_timeout(limit),
            Err(RecvTimeoutError::Disconnected)
        )
    }

    fn wake_up(&self) {
        let _ = self.queue.try_send(Message::WakeUp);
    }
}

/// What the thread owns.
struct Thread {
    entries: Receiver<Message>,
    shared: Arc<Shared>,
    formatter: Formatter,
    sink: Sink,
    /// How long lines wait for others.
    gather: Duration,
    buffer: Vec<u8>,
    /// Lines in the buffer.
    lines: u64,
    is_failing: bool,
    _alive: mpsc::Sender<Infallible>,
}

impl Thread {
    fn run(&mut self) {
        while let Ok(message) = self.entries.recv() {
            self.take(message);
            if !self.gather.is_zero() && !self.is_closing() {
                thread::sleep(self.gather);
            }
            self.drain();
            if self.is_closing() {
                return self.drain();
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.shared.is_closing.load(Ordering::Acquire)
    }

    /// Writes all that is there, also what comes while a batch is written.
    fn drain(&mut self) {
        loop {
            let is_all = self.fill();
            if self.shared.must_reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            self.flush();
            if is_all {
                return;
            }
        }
    }

    /// Takes what is there, up to a batch. Tells whether nothing is left.
    fn fill(&mut self) -> bool {
        while self.buffer.len() < BATCH {
            match self.entries.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return true,
            }
        }
        false
    }

    fn take(&mut self, message: Message) {
        if let Message::Entry(entry) = message {
            self.formatter.write(&mut self.buffer, &entry);
            self.lines += 1;
        }
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => info!("Access log was opened again"),
            Err(error) => warn!(%error, "Access log can't be opened again"),
        }
    }

    /// Writes the buffer. Lines that can't be written are lost and counted; a
    /// log on a full disk must not take the proxy with it.
    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = self.sink.write(&self.buffer);
        if let Err(error) = &written {
            self.shared.dropped.fetch_add(self.lines, Ordering::Relaxed);
            if !self.is_failing {
                warn!(%error, "Access log can't be written");
            }
        }
        self.is_failing = written.is_err();
        self.lines = 0;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BATCH);
    }
}

/// How long lines wait for others in a queue that holds so many.
fn gather(capacity: usize) -> Duration {
    let (longest, full) = GATHER;
    let capacity = u32::try_from(capacity).unwrap_or(full).min(full);
    let time = longest * capacity / full;
    if time < SHORTEST {
        Duration::ZERO
    } else {
        time
    }
}
