//! The HTTP check: a request, redirects if they are followed, a status.

use ::http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
};
use ::http::uri::Authority;
use ::http::{Method, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::Full;

use super::link::{Answer, over_http1, over_http2};
use super::place::Place;
use super::{Clock, Trouble};
use crate::health::plan::Question;
use crate::upstream::{Scheme, Transport};

/// Go's number of redirects.
const MAX_REDIRECTS: usize = 10;

/// A request on its way.
struct Step {
    method: Method,
    place: Place,
    /// The host to ask for, if not the place's own.
    host: Option<Authority>,
    headers: HeaderMap,
}

pub(super) async fn ask(
    question: &Question,
    server: Place,
    transport: &Transport,
    clock: &Clock,
) -> Result<(), Trouble> {
    let mut step = Step {
        method: question.method.clone(),
        place: server.resolve(&question.path)?,
        host: question.manners.host.clone(),
        headers: question.manners.headers.clone(),
    };
    for _ in 0..=MAX_REDIRECTS {
        let answer = step.send(transport, clock).await?;
        let status = answer.response.status();
        let location = answer.response.headers().get(LOCATION).cloned();
        answer.drain(clock.left()).await;
        match location {
            Some(location) if question.follows_redirects && redirects(status) => {
                step = step.redirected(status, &location)?;
            }
            _ if is_good(status, question.status) => return Ok(()),
            _ => return Err(Trouble::Status(status)),
        }
    }
    Err(Trouble::Redirects)
}

fn is_good(status: StatusCode, expected: Option<StatusCode>) -> bool {
    match expected {
        Some(expected) => status == expected,
        None => (200..400).contains(&status.as_u16()),
    }
}

fn redirects(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

impl Step {
    async fn send(&self, transport: &Transport, clock: &Clock) -> Result<Answer, Trouble> {
        let (stream, is_http2) = clock.connect(&self.place, transport).await?;
        let request = self.request(is_http2)?;
        clock
            .wait(async {
                if is_http2 {
                    over_http2(stream, request).await
                } else {
                    over_http1(stream, request).await
                }
            })
            .await
    }

    fn request(&self, is_http2: bool) -> Result<Request<Full<Bytes>>, Trouble> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let host = match &self.host {
            Some(host) => host.clone(),
            None => self.place.authority()?,
        };
        let target = self.place.target()?;
        if is_http2 {
            *request.uri_mut() = absolute(self.place.scheme, host, target)?;
            return Ok(request);
        }
        let value = HeaderValue::from_str(host.as_str())
            .map_err(|_| Trouble::Location(host.to_string()))?;
        request.headers_mut().insert(HOST, value);
        // The server's worker is free again at once.
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(CONNECTION, close);
        *request.uri_mut() = Uri::from(target);
        Ok(request)
    }

    /// The request that follows a redirect, by the rules of Go's client.
    fn redirected(mut self, status: StatusCode, location: &HeaderValue) -> Result<Self, Trouble> {
        let text = location
            .to_str()
            .map_err(|_| Trouble::Location(format!("{location:?}")))?;
        let place = self.place.resolve(text)?;
        let keeps_method = matches!(status.as_u16(), 307 | 308)
            || matches!(self.method, Method::GET | Method::HEAD);
        if !keeps_method {
            self.method = Method::GET;
        }
        if !place.is_at_host_of(&self.place) {
            self.host = None;
            for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                self.headers.remove(secret);
            }
        }
        self.place = place;
        Ok(self)
    }
}

/// The URI of an HTTP/2 request.
pub(super) fn absolute(
    scheme: Scheme,
    host: Authority,
    target: ::http::uri::PathAndQuery,
) -> Result<Uri, Trouble> {
    let scheme = match scheme {
        Scheme::Https => "https",
        Scheme::Http | Scheme::H2c => "http",
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(target);
    uri.build()
        .map_err(|error| Trouble::Location(error.to_string()))
}
