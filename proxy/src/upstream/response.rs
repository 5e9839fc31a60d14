//! A response on its way back: what both protocols have in common, and the way
//! of one that came over HTTP/2.
//!
//! Checks what hyper leaves to others, and keeps the stream until the body has
//! been read. A body that is dropped early resets its stream.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ::http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use ::http::{Method, StatusCode, Version};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::http2::Stream;
use super::request::Sending;
use crate::http::{Body, BodyError, ErrorKind, Exchange, ProxyError, Response};

/// The response that came over an HTTP/2 connection.
pub(super) fn from_http2(
    mut response: ::http::Response<Incoming>,
    stream: Stream,
    method: &Method,
    sending: &Sending,
) -> Result<Response, ProxyError> {
    check(&mut response, method)?;
    // The client's side speaks its own version.
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|incoming| {
        if incoming.is_end_stream() {
            return Body::empty();
        }
        Body::new(Receiving {
            incoming,
            stream: Some(stream),
            exchange: Rc::clone(sending.exchange()),
        })
    }))
}

/// Refuses what nobody should have to read, and makes the rest unmistakable.
fn check(response: &mut ::http::Response<Incoming>, method: &Method) -> Result<(), ProxyError> {
    let status = response.status();
    let is_bodiless = *method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    let is_empty = response.body().is_end_stream();
    let headers = response.headers_mut();
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
    }
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    if is_chunked && !is_bodiless && !is_only_chunked(headers) {
        return Err(bad("a transfer coding other than chunked"));
    }
    if is_chunked && headers.remove(CONTENT_LENGTH).is_some() {
        return Ok(());
    }
    let length = content_length(headers)?;
    if !is_bodiless && is_empty && length.is_some_and(|length| length != 0) {
        return Err(bad("an announced body did not come"));
    }
    Ok(())
}

pub(super) fn bad(reason: &'static str) -> ProxyError {
    ProxyError::new(ErrorKind::BadResponse).because(reason)
}

pub(super) fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    values.next().is_some_and(is_chunked) && values.next().is_none()
}

/// The announced length. Repeated but equal lengths are made one.
pub(super) fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, ProxyError> {
    let mut length = None;
    let mut count = 0;
    for value in &headers.get_all(CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let parsed = parse_length(part.trim_ascii())
                .ok_or_else(|| bad("a Content-Length that is no number"))?;
            if length.is_some_and(|known| known != parsed) {
                return Err(bad("two different Content-Lengths"));
            }
            length = Some(parsed);
            count += 1;
        }
    }
    if let Some(length) = length
        && count > 1
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(length)
}

pub(super) fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A body as it comes over HTTP/2.
struct Receiving {
    incoming: Incoming,
    stream: Option<Stream>,
    exchange: Rc<Exchange>,
}

impl Receiving {
    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        let is_over = match frame {
            None | Some(Err(_)) => true,
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => {
                    let sum = &self.exchange.origin_bytes;
                    sum.set(sum.get().saturating_add(data.len() as u64));
                    self.incoming.is_end_stream()
                }
                None => frame.is_trailers(),
            },
        };
        if is_over {
            self.stream = None;
        }
    }
}

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        self.note(frame.as_ref());
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderName;

    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let pairs = values
            .iter()
            .map(|value| (name.clone(), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn lengths_are_one_or_refused() {
        let table: [(&[&str], Option<Option<u64>>); 8] = [
            (&[], Some(None)),
            (&["5"], Some(Some(5))),
            (&["5", "5"], Some(Some(5))),
            (&["5, 5"], Some(Some(5))),
            (&["5", "6"], None),
            (&["+5"], None),
            (&[""], None),
            (&["99999999999999999999"], None),
        ];
        for (values, expected) in table {
            let mut headers = headers(&CONTENT_LENGTH, values);
            assert_eq!(content_length(&mut headers).ok(), expected, "{values:?}");
            if expected.is_some() {
                let left = headers.get_all(CONTENT_LENGTH).iter().count();
                assert_eq!(left, values.len().min(1), "{values:?}");
            }
        }
    }

    #[test]
    fn only_chunked_is_understood() {
        let table: [(&[&str], bool); 5] = [
            (&["chunked"], true),
            (&["Chunked"], true),
            (&["gzip, chunked"], false),
            (&["chunked", "chunked"], false),
            (&["identity"], false),
        ];
        for (values, expected) in table {
            let headers = headers(&TRANSFER_ENCODING, values);
            assert_eq!(is_only_chunked(&headers), expected, "{values:?}");
        }
    }
}
