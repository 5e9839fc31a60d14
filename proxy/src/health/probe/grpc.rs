//! The gRPC check: `grpc.health.v1.Health/Check` for the whole server, as the
//! protocol's own specification has it. The message is small enough to be read
//! by hand.

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use ::http::uri::PathAndQuery;
use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};

use super::link::{MAX_BODY, over_http2};
use super::place::Place;
use super::web::absolute;
use super::{Clock, Trouble};
use crate::health::plan::Manners;
use crate::upstream::{Scheme, Transport};

const METHOD: &str = "/grpc.health.v1.Health/Check";

/// An empty message, not compressed: the empty service name.
const REQUEST: [u8; 5] = [0; 5];

/// The code of a method that a server doesn't have.
const UNIMPLEMENTED: u32 = 12;

/// `SERVING` in a `HealthCheckResponse`.
const SERVING: u64 = 1;

pub(super) async fn ask(
    manners: &Manners,
    place: &Place,
    transport: &Transport,
    clock: &Clock,
) -> Result<(), Trouble> {
    let (stream, is_http2) = clock.connect(place, transport).await?;
    // In the clear nothing is agreed upon: gRPC is always HTTP/2.
    if place.scheme == Scheme::Https && !is_http2 {
        return Err(Trouble::Protocol("it speaks no HTTP/2"));
    }
    let request = request(manners, place)?;
    clock
        .wait(async {
            let answer = over_http2(stream, request).await?;
            let (head, body) = answer.response.into_parts();
            if head.status != StatusCode::OK {
                return Err(Trouble::Status(head.status));
            }
            code(&head.headers)?;
            let body = Limited::new(body, MAX_BODY).collect().await;
            let body = body.map_err(|_| Trouble::Protocol("its answer broke off"))?;
            match body.trailers().map(code) {
                Some(Ok(true)) => judge(&body.to_bytes()),
                Some(Err(trouble)) => Err(trouble),
                _ => Err(Trouble::Protocol("its answer has no gRPC status")),
            }
        })
        .await
}

fn request(manners: &Manners, place: &Place) -> Result<Request<Full<Bytes>>, Trouble> {
    let host = match &manners.host {
        Some(host) => host.clone(),
        None => place.authority()?,
    };
    let mut request = Request::new(Full::new(Bytes::from_static(&REQUEST)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = absolute(place.scheme, host, PathAndQuery::from_static(METHOD))?;
    *request.headers_mut() = manners.headers.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

/// Whether there is a status; an error unless it is 0.
fn code(headers: &HeaderMap) -> Result<bool, Trouble> {
    let Some(value) = headers.get("grpc-status") else {
        return Ok(false);
    };
    let code = value.to_str().ok().and_then(|text| text.parse().ok());
    match code {
        Some(0) => Ok(true),
        Some(UNIMPLEMENTED) => Err(Trouble::Protocol(
            "it does not implement the gRPC health protocol",
        )),
        Some(code) => Err(Trouble::Grpc(code)),
        None => Err(Trouble::Protocol("its gRPC status is no number")),
    }
}

fn judge(body: &[u8]) -> Result<(), Trouble> {
    match status(body) {
        None => Err(Trouble::Protocol("its answer is no health message")),
        Some(SERVING) => Ok(()),
        Some(2) => Err(Trouble::Protocol("it answered NOT_SERVING")),
        Some(_) => Err(Trouble::Protocol(
            "it answered neither SERVING nor NOT_SERVING",
        )),
    }
}

/// Field 1 of the one message in a body; absent means 0.
fn status(body: &[u8]) -> Option<u64> {
    let (prefix, mut message) = body.split_at_checked(5)?;
    let [0, a, b, c, d] = *prefix else {
        return None;
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    if message.len() != length {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_protobuf() {
        let table: [(&[u8], Option<u64>); 10] = [
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // Two values: the last one counts. Unknown fields are passed over.
            (&[0, 0, 0, 0, 4, 8, 1, 8, 2], Some(2)),
            (
                &[0, 0, 0, 0, 9, 0x12, 2, 7, 7, 0x18, 0x80, 1, 8, 1],
                Some(1),
            ),
            (&[0, 0, 0, 0, 7, 0x25, 1, 2, 3, 4, 8, 1], Some(1)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0, 0, 0, 2, 0x12, 9], None),
            (&[0, 0], None),
        ];
        for (body, expected) in table {
            assert_eq!(status(body), expected, "{body:?}");
        }
    }

    #[test]
    fn codes_other_than_0_are_failures() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(
                ::http::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static(value),
            )])
        };
        assert!(!code(&HeaderMap::new()).unwrap());
        assert!(code(&with("0")).unwrap());
        for (value, expected) in [
            ("12", "it does not implement the gRPC health protocol"),
            ("14", "the call failed with gRPC status 14"),
            ("x", "its gRPC status is no number"),
        ] {
            assert_eq!(code(&with(value)).unwrap_err().to_string(), expected);
        }
    }
}
