//! The bodies that the demo server sends, each carrying its place in the tally.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::tally::Entry;

const PIECE: usize = 16 * 1024;
static FILL: [u8; PIECE] = [b'x'; PIECE];

/// What is still to be sent.
#[derive(Debug)]
enum Rest {
    Text(Option<Bytes>),
    Fill(u64),
    Echo(Incoming),
}

/// An answer's body; it leaves the tally as its last frame is handed over.
#[derive(Debug)]
pub(super) struct Answer {
    rest: Rest,
    entry: Option<Entry>,
}

impl Answer {
    /// A text known in full.
    pub(super) fn text(text: impl Into<Bytes>, entry: Option<Entry>) -> Self {
        let text = Some(text.into()).filter(|text: &Bytes| !text.is_empty());
        Self::new(Rest::Text(text), entry)
    }

    /// So many bytes of filling.
    pub(super) fn fill(length: u64, entry: Option<Entry>) -> Self {
        Self::new(Rest::Fill(length), entry)
    }

    /// The request's body sent back, trailers included, as it arrives.
    pub(super) fn echo(body: Incoming, entry: Option<Entry>) -> Self {
        Self::new(Rest::Echo(body), entry)
    }

    fn new(rest: Rest, entry: Option<Entry>) -> Self {
        let mut answer = Self { rest, entry };
        if answer.is_end_stream() {
            answer.entry = None;
        }
        answer
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = match &mut this.rest {
            Rest::Text(text) => text.take().map(|text| Ok(Frame::data(text))),
            Rest::Fill(0) => None,
            Rest::Fill(left) => {
                let length = usize::try_from(*left).map_or(PIECE, |left| left.min(PIECE));
                *left -= length as u64;
                let piece = FILL.get(..length).unwrap_or(&FILL);
                Some(Ok(Frame::data(Bytes::from_static(piece))))
            }
            Rest::Echo(body) => ready!(Pin::new(body).poll_frame(context)),
        };
        if frame.is_none() || this.is_end_stream() {
            this.entry = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.rest {
            Rest::Text(text) => text.is_none(),
            Rest::Fill(left) => *left == 0,
            Rest::Echo(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Rest::Fill(left) => SizeHint::with_exact(*left),
            Rest::Echo(body) => body.size_hint(),
        }
    }
}
