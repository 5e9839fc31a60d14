//! The lines of responses that a worker has read before.
//!
//! Owns one [`Memo`] for each worker, which knows no cookies.

use std::cell::RefCell;

use ::http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use bytes::Bytes;

use crate::http::memo::Memo;

thread_local! {
    static KNOWN: RefCell<Memo> = const { RefCell::new(Memo::new(|name| *name != SET_COOKIE)) };
}

/// Reads the fields of `bytes` behind `from` as they stand there. Calls `take` with
/// the name, the value and the whole line of each, which gives up by saying
/// nothing. Where they end, or nothing unless all is plain.
pub(super) fn lines(
    bytes: &[u8],
    from: usize,
    most: usize,
    take: impl FnMut(&HeaderName, &[u8], &[u8]) -> Option<()>,
) -> Option<usize> {
    let fields = bytes.get(from..)?;
    KNOWN
        .with_borrow_mut(|known| known.lines(fields, most, take))
        .map(|length| from + length)
}

/// Reads the fields of `bytes` behind `from`, `most` at most, up to the empty
/// line. Calls `note` for each of them, which tells whether it is to be kept.
/// Where they end, or nothing unless all is plain.
pub(super) fn fields(
    bytes: &[u8],
    from: usize,
    most: usize,
    headers: &mut HeaderMap,
    mut note: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) -> Option<usize> {
    let take = |name, value| {
        if note(&name, &value) {
            headers.append(name, value);
        }
        Some(())
    };
    let fields = bytes.get(from..)?;
    KNOWN
        .with_borrow_mut(|known| known.fields(fields, most, Bytes::copy_from_slice, take))
        .map(|length| from + length)
}
