//! Message bodies: passed through, never collected unless somebody asks.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::Finish;

/// Why a body ended early. What has been sent of a message by then must never
/// look whole to its receiver.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// A request's or response's body.
///
/// It may hold a guard (a server's slot) and the record of its request, which
/// are dropped when its last frame is taken, or with the body when nobody wants
/// the rest.
pub struct Body {
    kind: Kind,
    guard: Option<Box<dyn Any>>,
    finish: Option<Finish>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>),
}

impl Body {
    /// No bytes at all.
    pub const fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    const fn of(kind: Kind) -> Self {
        Self {
            kind,
            guard: None,
            finish: None,
        }
    }

    /// Bytes that are all here.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self::of(Kind::Full(bytes))
        }
    }

    /// Any other body.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BodyError> + 'static,
    {
        Self::of(Kind::Boxed(Box::pin(body)))
    }

    /// The same body, which keeps `guard` until its last frame was taken or it is dropped.
    pub fn hold<G: 'static>(mut self, guard: G) -> Self {
        if self.is_end_stream() {
            drop(guard);
            return self;
        }
        if self.guard.is_some() {
            self = Self::new(self);
        }
        self.guard = Some(Box::new(guard));
        self
    }

    /// Keeps a request's record as a guard is kept, and counts its bytes.
    pub(super) fn finish(&mut self, finish: Finish) {
        if !self.is_end_stream() {
            self.finish = Some(finish);
        }
    }

    /// Looks at what was taken of a body that somebody waits for the end of.
    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        if let (Some(finish), Some(Ok(frame))) = (&self.finish, frame) {
            finish.count(frame.data_ref().map_or(0, Bytes::len));
        }
        if !matches!(frame, Some(Ok(_))) || self.kind.is_end_stream() {
            self.guard = None;
            if let Some(finish) = self.finish.take() {
                finish.end(matches!(frame, Some(Err(_))));
            }
        }
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Self::of(Kind::Incoming(body))
    }
}

impl Kind {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Incoming(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.kind.poll_frame(cx));
        if self.finish.is_some() || self.guard.is_some() {
            self.note(frame.as_ref());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Incoming(_) => "Body(incoming)",
            Kind::Boxed(_) => "Body(boxed)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_guard_goes_with_the_last_frame() {
        let guard = Rc::new(());
        let mut body = Body::full("x").hold(Rc::clone(&guard));
        assert_eq!(Rc::strong_count(&guard), 2);
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "x");
        assert_eq!(Rc::strong_count(&guard), 1);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_empty_body_keeps_nothing_and_any_other_all_of_its_guards() {
        let guard = Rc::new(());
        let _empty = Body::empty().hold(Rc::clone(&guard));
        assert_eq!(Rc::strong_count(&guard), 1);
        let body = Body::full("x")
            .hold(Rc::clone(&guard))
            .hold(Rc::clone(&guard));
        assert_eq!(Rc::strong_count(&guard), 3);
        body.collect().await.unwrap();
        assert_eq!(Rc::strong_count(&guard), 1);
    }

    #[tokio::test]
    async fn a_guard_goes_with_a_dropped_body() {
        let guard = Rc::new(());
        drop(Body::full("x").hold(Rc::clone(&guard)));
        assert_eq!(Rc::strong_count(&guard), 1);
    }
}
