//! Responses that are read faster than their clients take them.
//!
//! A server with a limit is to be busy only as long as it sends, however slow the
//! client is. So what it sends is taken from it up to a bound, by a task of its
//! own, and the slot goes back when the server has sent all. Called by the load
//! balancer; frames keep their order, and an error its place behind them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::{AbortHandle, spawn_local};

use crate::http::{Body, BodyError};

/// What a frame counts besides its bytes, so that many small ones find an end too.
const FRAME: usize = 128;

/// A body whose `guard` goes when its source has sent all, or with the body. Up
/// to about `limit` bytes are read ahead; nothing is if that is 0.
pub(super) fn read_ahead<G: 'static>(body: Body, guard: G, limit: usize) -> Body {
    if body.is_at_hand() {
        return body;
    }
    if limit == 0 {
        return body.hold(guard);
    }
    let mut pump = Pump::new(body, Box::new(guard), limit);
    // Most of what servers send is there together with the head.
    let first = pump.poll(&mut Context::from_waker(Waker::noop()));
    let pump = Rc::new(RefCell::new(pump));
    let task = first.is_pending().then(|| {
        let pump = Rc::clone(&pump);
        spawn_local(poll_fn(move |cx| pump.borrow_mut().poll(cx))).abort_handle()
    });
    Body::new(ReadAhead { pump, task })
}

/// The client's end.
struct ReadAhead {
    pump: Rc<RefCell<Pump>>,
    task: Option<AbortHandle>,
}

/// What is between the server and the client.
struct Pump {
    source: Option<Source>,
    queue: VecDeque<Frame<Bytes>>,
    held: usize,
    limit: usize,
    /// Why the server sent no more.
    fault: Option<BodyError>,
    /// Bytes that the client has still to take, if that is known.
    left: Option<u64>,
    /// Who waits for a frame.
    reader: Option<Waker>,
    /// Who waits for room.
    writer: Option<Waker>,
}

struct Source {
    body: Body,
    #[expect(dead_code, reason = "held for its drop")]
    guard: Box<dyn Any>,
}

impl Pump {
    fn new(body: Body, guard: Box<dyn Any>, limit: usize) -> Self {
        Self {
            left: body.size_hint().exact(),
            source: Some(Source { body, guard }),
            queue: VecDeque::new(),
            held: 0,
            limit,
            fault: None,
            reader: None,
            writer: None,
        }
    }

    /// Takes what the server has sent, as long as there is room. Ready when it has
    /// sent all.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(source) = &mut self.source {
            if self.held >= self.limit {
                self.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let frame = ready!(Pin::new(&mut source.body).poll_frame(cx));
            let is_over = !matches!(frame, Some(Ok(_))) || source.body.is_end_stream();
            if is_over {
                self.source = None;
            }
            match frame {
                Some(Ok(frame)) => {
                    self.held += cost(&frame);
                    self.queue.push_back(frame);
                }
                Some(Err(error)) => self.fault = Some(error),
                None => {}
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(frame) = self.queue.pop_front() else {
            if self.source.is_none() {
                return Poll::Ready(self.fault.take().map(Err));
            }
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.held -= cost(&frame);
        if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
            *left = left.saturating_sub(data.len() as u64);
        }
        if self.held < self.limit
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

fn cost(frame: &Frame<Bytes>) -> usize {
    FRAME + frame.data_ref().map_or(0, Bytes::len)
}

impl http_body::Body for ReadAhead {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.pump.borrow_mut().take(cx)
    }

    fn is_end_stream(&self) -> bool {
        let pump = self.pump.borrow();
        pump.queue.is_empty() && pump.source.is_none() && pump.fault.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.pump.borrow().left;
        left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        // Now, not when the task's turn comes.
        let source = self.pump.borrow_mut().source.take();
        drop(source);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;
    use tokio::task::{LocalSet, yield_now};

    use super::*;

    type Item = Result<Frame<Bytes>, BodyError>;

    /// A body that the test sends piece by piece.
    struct Server(mpsc::Receiver<Item>);

    impl http_body::Body for Server {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.0.poll_recv(cx)
        }
    }

    struct Stage {
        server: Option<mpsc::Sender<Item>>,
        client: Option<Body>,
        guard: Rc<()>,
    }

    impl Stage {
        fn new(limit: usize) -> Self {
            let (server, receiver) = mpsc::channel(64);
            let guard = Rc::new(());
            let body = Body::new(Server(receiver));
            let client = read_ahead(body, Rc::clone(&guard), limit);
            Self {
                server: Some(server),
                client: Some(client),
                guard,
            }
        }

        /// Whether the slot would be taken.
        fn is_held(&self) -> bool {
            Rc::strong_count(&self.guard) > 1
        }

        async fn send(&mut self, item: Item) {
            let server = self.server.as_ref().unwrap();
            server.send(item).await.unwrap();
            self.settle().await;
        }

        /// Lets the task take what there is.
        async fn settle(&mut self) {
            for _ in 0..5 {
                yield_now().await;
            }
        }

        async fn end(&mut self) {
            self.server = None;
            self.settle().await;
        }

        async fn read(&mut self) -> Option<Item> {
            self.client.as_mut().unwrap().frame().await
        }

        /// Pieces that the server has got rid of and the client not taken.
        fn unread(&self) -> usize {
            let server = self.server.as_ref().unwrap();
            server.max_capacity() - server.capacity()
        }
    }

    fn data(length: usize) -> Item {
        Ok(Frame::data(Bytes::from(vec![b'x'; length])))
    }

    async fn local(test: impl Future<Output = ()>) {
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn the_slot_is_free_when_the_server_has_sent_all() {
        local(async {
            let mut stage = Stage::new(64 * 1024);
            for _ in 0..3 {
                stage.send(data(1000)).await;
            }
            assert!(stage.is_held());
            stage.end().await;
            assert!(!stage.is_held());
            for _ in 0..3 {
                let frame = stage.read().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap().len(), 1000);
            }
            assert!(stage.read().await.is_none());
        })
        .await;
    }

    #[tokio::test]
    async fn more_than_the_bound_waits_at_the_server() {
        local(async {
            let mut stage = Stage::new(2500);
            for _ in 0..10 {
                stage.send(data(1000)).await;
            }
            assert_eq!(stage.unread(), 7);
            stage.read().await.unwrap().unwrap();
            stage.settle().await;
            assert_eq!(stage.unread(), 6);
            stage.end().await;
            assert!(stage.is_held());
            for _ in 0..7 {
                stage.read().await.unwrap().unwrap();
            }
            stage.settle().await;
            assert!(!stage.is_held());
        })
        .await;
    }

    #[tokio::test]
    async fn small_pieces_find_an_end_too() {
        local(async {
            let mut stage = Stage::new(FRAME * 8);
            for _ in 0..64 {
                stage.send(data(0)).await;
            }
            assert_eq!(stage.unread(), 64 - 8);
        })
        .await;
    }

    #[tokio::test]
    async fn errors_and_trailers_keep_their_place() {
        local(async {
            let mut stage = Stage::new(64 * 1024);
            stage.send(data(10)).await;
            stage.send(Err("broken".into())).await;
            assert!(!stage.is_held());
            assert!(stage.read().await.unwrap().is_ok());
            assert!(stage.read().await.unwrap().is_err());

            let mut stage = Stage::new(64 * 1024);
            stage.send(data(10)).await;
            let trailers = [("a".parse().unwrap(), "b".parse().unwrap())];
            let trailers = Frame::trailers(trailers.into_iter().collect());
            stage.send(Ok(trailers)).await;
            stage.end().await;
            let collected = stage.client.take().unwrap().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["a"], "b");
            assert_eq!(collected.to_bytes().len(), 10);
        })
        .await;
    }

    #[tokio::test]
    async fn a_client_that_leaves_drops_all_at_once() {
        local(async {
            let mut stage = Stage::new(64 * 1024);
            stage.send(data(10)).await;
            drop(stage.client.take());
            assert!(!stage.is_held());
            assert!(stage.server.as_ref().unwrap().is_closed());
        })
        .await;
    }

    #[tokio::test]
    async fn a_reader_is_woken() {
        local(async {
            let mut stage = Stage::new(64 * 1024);
            let server = stage.server.take().unwrap();
            let send = async {
                yield_now().await;
                server.send(data(7)).await.unwrap();
                drop(server);
            };
            let mut client = stage.client.take().unwrap();
            let (frame, ()) = tokio::join!(client.frame(), send);
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap().len(), 7);
            assert!(client.frame().await.is_none());
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_there_at_once_needs_no_task() {
        let guard = Rc::new(());
        let body = read_ahead(Body::full("x"), Rc::clone(&guard), 1);
        assert_eq!(Rc::strong_count(&guard), 1);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "x");
        let (server, receiver) = mpsc::channel(4);
        server.send(data(5)).await.unwrap();
        drop(server);
        let body = read_ahead(Body::new(Server(receiver)), Rc::clone(&guard), 1000);
        assert_eq!(Rc::strong_count(&guard), 1);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "xxxxx");
    }

    #[tokio::test]
    async fn nothing_is_read_ahead_with_a_bound_of_none() {
        local(async {
            let mut stage = Stage::new(0);
            stage.send(data(5)).await;
            assert_eq!(stage.unread(), 1);
            assert!(stage.is_held());
        })
        .await;
    }
}
