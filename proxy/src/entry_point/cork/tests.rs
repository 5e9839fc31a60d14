use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;

use super::super::state::{Limits, Ticket};
use super::*;

/// What arrived, in how many writes; takes `room` bytes, then blocks.
#[derive(Debug)]
struct Sink {
    arrived: Vec<u8>,
    writes: usize,
    flushed: usize,
    room: usize,
    waker: Option<Waker>,
    is_shut: bool,
}

#[derive(Clone, Debug)]
struct Toy(Rc<RefCell<Sink>>);

impl Toy {
    fn new(room: usize) -> Self {
        Self(Rc::new(RefCell::new(Sink {
            arrived: Vec::new(),
            writes: 0,
            flushed: 0,
            room,
            waker: None,
            is_shut: false,
        })))
    }

    fn give_room(&self, more: usize) {
        let mut sink = self.0.borrow_mut();
        sink.room = sink.room.saturating_add(more);
        if let Some(waker) = sink.waker.take() {
            waker.wake();
        }
    }
}

impl AsyncWrite for Toy {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut sink = self.0.borrow_mut();
        if sink.room == 0 {
            sink.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        sink.writes += 1;
        let mut count = 0;
        for slice in slices {
            let some = slice.len().min(sink.room);
            sink.arrived.extend_from_slice(&slice[..some]);
            sink.room -= some;
            count += some;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sink = self.0.borrow_mut();
        sink.flushed = sink.arrived.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().is_shut = true;
        Poll::Ready(Ok(()))
    }
}

/// Stands for h2: a connection that writes what its streams have queued.
struct Writer {
    cork: Cork<Toy>,
    queue: Queue,
}

type Queue = Rc<RefCell<(Vec<u8>, Option<Waker>)>>;

impl Future for Writer {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let queue = Rc::clone(&self.queue);
        let mut queue = queue.borrow_mut();
        queue.1 = Some(cx.waker().clone());
        while !queue.0.is_empty() {
            let written = Pin::new(&mut self.cork).poll_write(cx, &queue.0);
            let Poll::Ready(written) = written else {
                return Poll::Pending;
            };
            queue.0.drain(..written.unwrap());
        }
        let flushed = Pin::new(&mut self.cork).poll_flush(cx);
        assert!(
            flushed.is_ready(),
            "h2 sends nothing while it waits for a flush"
        );
        Poll::Pending
    }
}

/// A connection in a task of its own.
struct Stage {
    toy: Toy,
    queue: Queue,
    state: Rc<State>,
}

impl Stage {
    fn new(room: usize) -> Self {
        let limits = Limits {
            read: None,
            write: None,
            idle: None,
        };
        let state = Rc::new(State::new(Instant::now(), limits));
        let (toy, queue) = (Toy::new(room), Queue::default());
        let cork = Cork::new(toy.clone());
        let writer = Box::pin(Writer {
            cork: cork.clone(),
            queue: Rc::clone(&queue),
        });
        spawn_local(Corked::new(writer, cork, Rc::clone(&state)));
        Self { toy, queue, state }
    }

    fn stream(&self) -> Ticket {
        self.state.begin_request()
    }

    fn answer(&self, bytes: &[u8]) {
        let mut queue = self.queue.borrow_mut();
        queue.0.extend_from_slice(bytes);
        if let Some(waker) = queue.1.take() {
            waker.wake();
        }
    }

    /// Lets the event loop turn until nothing more is going to happen.
    async fn settle(&self) {
        for _ in 0..8 {
            yield_now().await;
        }
    }
}

#[tokio::test]
async fn streams_that_are_answered_in_one_turn_make_one_write() {
    let work = async {
        let stage = Stage::new(usize::MAX);
        let tickets: Vec<_> = (0..32).map(|_| stage.stream()).collect();
        stage.settle().await;
        let stage = Rc::new(stage);
        for ticket in tickets {
            let stage = Rc::clone(&stage);
            spawn_local(async move {
                stage.answer(&[b'x'; 100]);
                // Some are ready before the connection had its turn, some after.
                yield_to_others().await;
                drop(ticket);
            });
        }
        stage.settle().await;
        let sink = stage.toy.0.borrow();
        assert_eq!((sink.arrived.len(), sink.flushed), (3200, 3200));
        assert_eq!(sink.writes, 1);
    };
    LocalSet::new().run_until(work).await;
}

/// Goes to the end of the queue, without a turn of the event loop.
async fn yield_to_others() {
    let mut is_first = true;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut is_first, false) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn without_open_streams_nothing_waits_for_the_end_of_the_turn() {
    let work = async {
        let stage = Stage::new(usize::MAX);
        stage.settle().await;
        stage.answer(b"settings");
        yield_to_others().await;
        yield_to_others().await;
        assert_eq!(stage.toy.0.borrow().flushed, 8);
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn long_writes_go_out_in_whole_records() {
    let (toy, bytes) = (Toy::new(usize::MAX), vec![7; 3 * CAPACITY]);
    let mut cork = Cork::new(toy.clone());
    assert_eq!(cork.write(&bytes[..9]).await.unwrap(), 9);
    assert_eq!(toy.0.borrow().writes, 0);
    // The nine bytes and the rest of a record leave together.
    assert_eq!(cork.write(&bytes[..CAPACITY]).await.unwrap(), CAPACITY - 9);
    assert_eq!(
        (toy.0.borrow().writes, toy.0.borrow().arrived.len()),
        (1, CAPACITY)
    );
    assert_eq!(cork.write(&bytes[..9]).await.unwrap(), 9);
    assert_eq!(cork.write(&bytes).await.unwrap(), 3 * CAPACITY - 9);
    assert_eq!(
        (toy.0.borrow().writes, toy.0.borrow().arrived.len()),
        (2, 4 * CAPACITY)
    );
    assert!(!cork.is_empty(), "the stream below was not flushed");
}

#[tokio::test]
async fn a_shutdown_drains_first() {
    let toy = Toy::new(3);
    let mut cork = Cork::new(toy.clone());
    assert_eq!(cork.write(b"farewell").await.unwrap(), 8);
    let giver = toy.clone();
    let (end, ()) = tokio::join!(cork.shutdown(), async move {
        yield_now().await;
        assert!(!giver.0.borrow().is_shut);
        giver.give_room(100);
    });
    end.unwrap();
    let sink = toy.0.borrow();
    assert_eq!((&*sink.arrived, sink.is_shut), (&b"farewell"[..], true));
}

#[tokio::test]
async fn what_is_corked_when_the_connection_is_cut_is_sent_still() {
    let toy = Toy::new(usize::MAX);
    let mut cork = Cork::new(toy.clone());
    assert_eq!(cork.write(b"reset").await.unwrap(), 5);
    let limits = Limits {
        read: None,
        write: None,
        idle: None,
    };
    let state = Rc::new(State::new(Instant::now(), limits));
    drop(Corked::new(
        Box::pin(std::future::pending::<()>()),
        cork,
        state,
    ));
    assert_eq!(toy.0.borrow().arrived, b"reset");
}

/// Whatever order streams, sockets and turns come in, every byte arrives, in
/// order, without anything that would wake the connection afterwards.
#[tokio::test(start_paused = true)]
async fn nothing_is_ever_left_behind() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let work = async {
            let stage = Stage::new(random.usize(..5000));
            let (mut sent, mut tickets) = (Vec::new(), Vec::new());
            for _ in 0..random.usize(1..60) {
                match random.u8(..6) {
                    0 => tickets.push(stage.stream()),
                    1 => drop(tickets.pop()),
                    2 => stage.toy.give_room(random.usize(..20_000)),
                    3 => yield_now().await,
                    4 => yield_to_others().await,
                    _ => {
                        let most = [50, 2000, 40_000][random.usize(..3)];
                        let bytes = vec![random.u8(..); random.usize(..most)];
                        stage.answer(&bytes);
                        sent.extend(bytes);
                    }
                }
            }
            stage.toy.give_room(usize::MAX / 2);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let sink = stage.toy.0.borrow();
            assert!(sink.arrived == sent, "seed {seed}");
            assert_eq!(sink.flushed, sent.len(), "seed {seed}");
        };
        LocalSet::new().run_until(work).await;
    }
}
