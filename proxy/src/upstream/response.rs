//! A response on its way back.
//!
//! Checks what hyper leaves to others (framing that two readers could read
//! differently), and wraps the body so that the connection runs while the body
//! is read, and goes back to the pool with its last frame. A body that is
//! dropped early takes its connection with it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use ::http::{Method, StatusCode, Version};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::AbortHandle;

use super::http1::Connection;
use super::http2::Stream;
use super::pool;
use super::request::Sending;
use crate::http::{Body, BodyError, ErrorKind, Exchange, ProxyError, Response};

/// Part of the time that a server says it keeps a connection for which it is
/// used, in percent: its clock started before ours.
const TRUSTED_PERCENT: u32 = 80;

/// What a response's body hangs on.
enum Link {
    /// A connection that runs while the body is read, and is used again after.
    Reusable(Box<Connection>),
    /// One that is closed after the response.
    Last(Box<Connection>),
    /// One that runs by itself, because the request's body is still on its way.
    Detached(#[expect(dead_code, reason = "held for its drop")] Option<AbortOnDrop>),
    /// A stream on a connection that others share.
    Stream(#[expect(dead_code, reason = "held for its drop")] Stream),
    Closed,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The response that came over an HTTP/1.1 connection.
pub(super) fn from_http1(
    mut response: ::http::Response<Incoming>,
    mut connection: Connection,
    method: &Method,
    sending: &Sending,
) -> Result<Response, ProxyError> {
    let is_clear = check(&mut response, method)?;
    // hyper would speak HTTP/1.0 from now on, which knows no chunked requests.
    let is_current = response.version() == Version::HTTP_11;
    if let Some(limit) = keep_alive(response.headers()) {
        let kept = connection.keep_for.map_or(limit, |known| known.min(limit));
        connection.keep_for = Some(kept);
    }
    let link = if !sending.is_done() {
        sending.give_up_hold();
        Link::Detached(connection.detach().map(AbortOnDrop))
    } else if is_clear && is_current {
        Link::Reusable(Box::new(connection))
    } else {
        Link::Last(Box::new(connection))
    };
    Ok(receive(response, link, sending.exchange()))
}

/// The response that came over an HTTP/2 connection.
pub(super) fn from_http2(
    mut response: ::http::Response<Incoming>,
    stream: Stream,
    method: &Method,
    sending: &Sending,
) -> Result<Response, ProxyError> {
    check(&mut response, method)?;
    Ok(receive(response, Link::Stream(stream), sending.exchange()))
}

fn receive(
    mut response: ::http::Response<Incoming>,
    mut link: Link,
    exchange: &Rc<Exchange>,
) -> Response {
    // The client's side speaks its own version.
    *response.version_mut() = Version::HTTP_11;
    response.map(|incoming| {
        if incoming.is_end_stream() {
            link.finish();
            return Body::empty();
        }
        Body::new(Receiving {
            incoming,
            link,
            exchange: Rc::clone(exchange),
        })
    })
}

/// Refuses what nobody should have to read, makes the rest unmistakable, and
/// tells whether the connection can be trusted with another response.
fn check(response: &mut ::http::Response<Incoming>, method: &Method) -> Result<bool, ProxyError> {
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
        // Chunked rules (RFC 9112 §6.3), but one of its authors is confused.
        return Ok(false);
    }
    let length = content_length(headers)?;
    if !is_bodiless && is_empty && length.is_some_and(|length| length != 0) {
        return Err(bad("an announced body did not come"));
    }
    Ok(true)
}

fn bad(reason: &'static str) -> ProxyError {
    ProxyError::new(ErrorKind::BadResponse).because(reason)
}

fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    values.next().is_some_and(is_chunked) && values.next().is_none()
}

/// The announced length. Repeated but equal lengths are made one.
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, ProxyError> {
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

fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// How long the server says that it keeps the connection, less a margin.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| value.trim().trim_matches('"').parse::<u32>().ok())?
    })?;
    Some(Duration::from_secs(seconds.into()) * TRUSTED_PERCENT / 100)
}

impl Link {
    /// The response has ended well.
    fn finish(&mut self) {
        if let Self::Reusable(connection) = std::mem::replace(self, Self::Closed)
            && connection.is_reusable()
        {
            pool::put(*connection);
        }
    }
}

/// A body as it comes from a server.
struct Receiving {
    incoming: Incoming,
    link: Link,
    exchange: Rc<Exchange>,
}

impl Receiving {
    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        let (Link::Reusable(connection) | Link::Last(connection)) = &mut self.link else {
            return frame;
        };
        if frame.is_ready() {
            return frame;
        }
        connection.drive(cx);
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        let is_over = match frame {
            None => true,
            Some(Err(_)) => {
                self.link = Link::Closed;
                false
            }
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
            self.link.finish();
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
        let frame = std::task::ready!(self.poll_incoming(cx));
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

    #[test]
    fn the_servers_patience_is_learned() {
        let table = [
            ("timeout=5, max=100", Some(4000)),
            ("max=1, Timeout = \"10\"", Some(8000)),
            ("timeout=0", Some(0)),
            ("timeout=-1", None),
            ("max=5", None),
        ];
        for (value, expected) in table {
            let headers = headers(&HeaderName::from_static("keep-alive"), &[value]);
            assert_eq!(
                keep_alive(&headers),
                expected.map(Duration::from_millis),
                "{value}"
            );
        }
    }
}
