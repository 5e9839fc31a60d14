//! Bodies of requests that can be sent a second time.
//!
//! Owns what is kept of a body while it passes through: handles on its frames up
//! to a limit, beyond which everything is let go and the body is an ordinary one.
//! Whoever sends a request again rewinds its body, or asks for another body with
//! the same content. It decides nothing about when that is right.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use smallvec::SmallVec;

use super::{Body, BodyError};

/// Smaller parts are copied together, all but the first of a body: a handle on a
/// few bytes keeps the whole buffer that they were read into.
const SMALL: usize = 8 * 1024;

/// A body that keeps what passes through it. Another one of the same content may
/// take its place; then this one is at its end.
#[derive(Debug)]
pub(super) struct Replay {
    tape: Rc<RefCell<Tape>>,
    generation: u32,
}

/// Gives out bodies of the same content, one after the other.
#[derive(Debug)]
pub struct Replays(Option<Rc<RefCell<Tape>>>);

#[derive(Debug)]
struct Tape {
    source: Body,
    /// The whole length, if it was announced.
    length: Option<u64>,
    limit: usize,
    kept: SmallVec<[Bytes; 1]>,
    /// The last small parts. They were handed out.
    tail: BytesMut,
    trailers: Option<HeaderMap>,
    size: usize,
    is_whole: bool,
    /// Whether the source has nothing more.
    is_over: bool,
    /// How many of the kept parts were handed out since the last rewind, how
    /// many bytes, and whether the trailers were.
    next: usize,
    handed_out: u64,
    is_trailed: bool,
    /// Which body may read.
    generation: u32,
}

impl Replay {
    /// Keeps up to `limit` bytes of `source`.
    pub(super) fn new(source: Body, limit: usize) -> Self {
        let tape = Tape {
            length: source.size_hint().exact(),
            source,
            limit,
            kept: SmallVec::new(),
            tail: BytesMut::new(),
            trailers: None,
            size: 0,
            is_whole: true,
            is_over: false,
            next: 0,
            handed_out: 0,
            is_trailed: false,
            generation: 0,
        };
        Self {
            tape: Rc::new(RefCell::new(tape)),
            generation: 0,
        }
    }

    /// Begins again. False if something is gone.
    pub(super) fn rewind(&self) -> bool {
        let mut tape = self.tape.borrow_mut();
        tape.generation == self.generation && tape.rewind()
    }

    /// Whether it is known that nothing will be gone.
    pub(super) fn is_sure(&self) -> bool {
        let tape = self.tape.borrow();
        let fits = |length| usize::try_from(length).is_ok_and(|length| length <= tape.limit);
        tape.is_whole && tape.length.is_some_and(fits)
    }

    /// Keeps nothing from now on.
    pub(super) fn forget(&self) {
        self.tape.borrow_mut().forget();
    }

    pub(super) fn replays(&self) -> Replays {
        Replays(Some(Rc::clone(&self.tape)))
    }

    pub(super) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut tape = self.tape.borrow_mut();
        if tape.generation == self.generation {
            return tape.poll_frame(cx);
        }
        let taken = io::Error::other("the body is being sent again");
        Poll::Ready(Some(Err(taken.into())))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.tape.borrow().is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.tape.borrow().size_hint()
    }
}

impl Replays {
    /// Of a body without content.
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// A body that begins again, unless something of it is gone. The one before
    /// breaks off.
    pub fn again(&self) -> Option<Body> {
        let Some(tape) = &self.0 else {
            return Some(Body::empty());
        };
        let mut state = tape.borrow_mut();
        if !state.rewind() {
            return None;
        }
        state.generation = state.generation.wrapping_add(1);
        Some(Body::of_replay(Replay {
            tape: Rc::clone(tape),
            generation: state.generation,
        }))
    }
}

impl Tape {
    fn rewind(&mut self) -> bool {
        if !self.is_whole {
            return false;
        }
        self.gather();
        self.next = 0;
        self.handed_out = 0;
        self.is_trailed = false;
        true
    }

    /// Makes a part of the last small ones.
    fn gather(&mut self) {
        if !self.tail.is_empty() {
            self.kept.push(self.tail.split().freeze());
            self.next += 1;
        }
    }

    fn forget(&mut self) {
        self.is_whole = false;
        // What was rewound and not handed out again is needed.
        self.kept.drain(..self.next.min(self.kept.len()));
        self.next = 0;
        self.tail = BytesMut::new();
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(part) = self.kept.get(self.next) {
            let part = part.clone();
            self.next += 1;
            self.handed_out += part.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if let Some(trailers) = self.trailers.as_ref().filter(|_| !self.is_trailed) {
            self.is_trailed = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        self.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match frame {
            None => self.is_over = true,
            Some(Err(_)) => {
                self.is_over = true;
                self.forget();
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.handed_out += data.len() as u64;
                    self.keep(data);
                } else {
                    self.is_over = true;
                    self.is_trailed = true;
                    self.trailers = frame.trailers_ref().cloned();
                }
            }
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if !self.is_whole {
            return;
        }
        self.size = self.size.saturating_add(data.len());
        if self.size > self.limit {
            self.forget();
        } else if self.kept.is_empty() || data.len() >= SMALL {
            self.gather();
            self.kept.push(data.clone());
            self.next += 1;
        } else {
            self.tail.extend_from_slice(data);
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_more = self.next < self.kept.len() || (self.trailers.is_some() && !self.is_trailed);
        !has_more && (self.is_over || self.source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.handed_out)),
            None => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::BodyExt;

    use super::*;

    /// A source of certain frames.
    #[derive(Debug)]
    struct Parts(VecDeque<Frame<Bytes>>);

    impl http_body::Body for Parts {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn body(sizes: &[usize], trailers: Option<HeaderMap>) -> (Body, Vec<u8>) {
        let mut whole = Vec::new();
        let mut frames = VecDeque::new();
        for (byte, size) in (b'a'..).zip(sizes) {
            let part = vec![byte; *size];
            whole.extend_from_slice(&part);
            frames.push_back(Frame::data(Bytes::from(part)));
        }
        frames.extend(trailers.map(Frame::trailers));
        (Body::new(Parts(frames)), whole)
    }

    async fn read(body: &mut Body) -> (Vec<u8>, Option<HeaderMap>) {
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        (collected.to_bytes().to_vec(), trailers)
    }

    #[tokio::test]
    async fn what_fits_comes_again_from_wherever_it_was_left() {
        let cases: [&[usize]; 6] = [
            &[3],
            &[1; 40],
            &[100, 9000, 5, 5, 9000, 1],
            &[0, 0, 7],
            &[20_000, 20_000, 20_000],
            &[],
        ];
        let trailers: HeaderMap = [("x".parse().unwrap(), "y".parse().unwrap())]
            .into_iter()
            .collect();
        for sizes in cases {
            for trailers in [None, Some(trailers.clone())] {
                let (mut kept, whole) = body(sizes, trailers.clone());
                kept.keep(64 * 1024);
                for taken in 0..=sizes.len() {
                    for _ in 0..taken {
                        kept.frame().await.transpose().unwrap();
                    }
                    assert!(kept.rewind(), "{sizes:?} after {taken}");
                }
                assert_eq!(read(&mut kept).await, (whole.clone(), trailers.clone()));
                assert!(kept.is_end_stream());
                assert!(kept.rewind());
                assert_eq!(kept.is_end_stream(), whole.is_empty() && trailers.is_none());
                assert_eq!(read(&mut kept).await, (whole, trailers));
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_passes_through_once() {
        let (mut kept, whole) = body(&[10, 10, 9000], None);
        kept.keep(9019);
        assert!(!kept.is_replayable(), "its length is not known");
        kept.frame().await;
        assert!(kept.rewind());
        assert_eq!(read(&mut kept).await.0, whole);
        assert!(!kept.rewind());
    }

    #[tokio::test]
    async fn what_is_forgotten_on_the_way_still_comes_once() {
        let (mut kept, whole) = body(&[10, 10, 9000, 3], None);
        kept.keep(64 * 1024);
        for _ in 0..3 {
            kept.frame().await;
        }
        assert!(kept.rewind());
        let first = kept.frame().await.unwrap().unwrap().into_data().unwrap();
        kept.forget();
        let rest = read(&mut kept).await.0;
        assert_eq!([&first[..], &rest[..]].concat(), whole);
        assert!(!kept.rewind());
    }

    #[tokio::test]
    async fn lengths_count_from_the_last_beginning() {
        let mut kept = Body::full("hello");
        kept.keep(5);
        assert!(kept.is_replayable());
        for _ in 0..3 {
            assert_eq!(kept.size_hint().exact(), Some(5));
            kept.frame().await.unwrap().unwrap();
            assert_eq!(kept.size_hint().exact(), Some(0));
            assert!(kept.is_end_stream());
            assert!(kept.rewind());
        }
    }

    #[tokio::test]
    async fn a_later_body_takes_over() {
        let mut first = Body::full("hello");
        let replays = first.replays(100);
        assert_eq!(read(&mut first).await.0, b"hello");
        let mut second = replays.again().unwrap();
        assert!(first.frame().await.unwrap().is_err());
        assert!(!first.rewind());
        assert_eq!(read(&mut second).await.0, b"hello");
        assert!(Body::empty().replays(0).again().unwrap().is_end_stream());
    }
}
