//! The one place where an error becomes a status and a body.
//!
//! Statuses and bodies are Traefik's, so that monitoring and error pages that
//! were made for it keep working.

use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use ::http::{Response as HttpResponse, StatusCode};

use super::{Body, Declined, ErrorKind, ProxyError, Response, Retry};

/// nginx's code for a client that went away, which Traefik uses too.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The status that a client sees, and the log for one that is gone.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
        ErrorKind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorKind::ClientGone => StatusCode::from_u16(CLIENT_CLOSED_REQUEST)
            .expect("499 lies in the range of status codes"),
        ErrorKind::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::NoRouter => StatusCode::NOT_FOUND,
        ErrorKind::NoServer | ErrorKind::QueueFull | ErrorKind::QueueTimeout => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::Connect | ErrorKind::ConnectionLost => StatusCode::BAD_GATEWAY,
        ErrorKind::ConnectTimeout | ErrorKind::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::BadResponse | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a request that failed. It carries the [`ErrorKind`] as an
/// extension, for middlewares that treat failures apart, and
/// [`Retry::Always`] if that is what the error says.
pub fn error(error: &ProxyError) -> Response {
    let mut response = match error.declined {
        Some(declined) => decline(declined),
        None => plain_error(error.kind),
    };
    let extensions = response.extensions_mut();
    extensions.insert(error.kind);
    if error.retry == Retry::Always {
        extensions.insert(error.retry);
    }
    response
}

fn decline(declined: Declined) -> Response {
    let mut response = status_text(declined.status);
    if let Some(seconds) = declined.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn plain_error(kind: ErrorKind) -> Response {
    match kind {
        ErrorKind::NoRouter => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        ErrorKind::NoServer => plain(StatusCode::SERVICE_UNAVAILABLE, "no available server\n"),
        ErrorKind::Misdirected => plain(StatusCode::MISDIRECTED_REQUEST, "Misdirected Request\n"),
        kind => status_text(status(kind)),
    }
}

/// A status with its own name as the body, and no Content-Type, as Traefik
/// answers for most refusals.
pub fn status_text(status: StatusCode) -> Response {
    let mut response = HttpResponse::new(Body::full(name(status)));
    *response.status_mut() = status;
    response
}

/// The name of a status as Go's `http.StatusText` has it: some are older than
/// those of RFC 9110. Empty for one without a name.
pub fn name(status: StatusCode) -> &'static str {
    match status.as_u16() {
        203 => "Non-Authoritative Information",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        416 => "Requested Range Not Satisfiable",
        CLIENT_CLOSED_REQUEST => "Client Closed Request",
        _ => status.canonical_reason().unwrap_or_default(),
    }
}

/// A status without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A status with a line of plain text that no browser should guess about.
pub fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = HttpResponse::new(Body::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_traefiks_status() {
        let statuses = ErrorKind::ALL.map(|kind| status(kind).as_u16());
        let expected = [
            400, 421, 501, 431, 499, 408, 404, 503, 503, 503, 502, 504, 502, 504, 500, 500,
        ];
        assert_eq!(statuses, expected);
    }

    #[test]
    fn names_are_gos() {
        for (code, expected) in [
            (203, "Non-Authoritative Information"),
            (413, "Request Entity Too Large"),
            (414, "Request URI Too Long"),
            (416, "Requested Range Not Satisfiable"),
            (418, "I'm a teapot"),
            (499, "Client Closed Request"),
            (505, "HTTP Version Not Supported"),
            (299, ""),
        ] {
            assert_eq!(
                name(StatusCode::from_u16(code).unwrap()),
                expected,
                "{code}"
            );
        }
    }

    #[test]
    fn who_is_declined_may_be_told_when_to_come_back() {
        for (status, retry_after, expected) in [(503, None, None), (429, Some(2), Some("2"))] {
            let declined = Declined {
                status: StatusCode::from_u16(status).unwrap(),
                retry_after,
            };
            let response = error(&ProxyError::new(ErrorKind::QueueFull).decline(declined));
            assert_eq!(response.status(), status);
            let told = response.headers().get(RETRY_AFTER);
            assert_eq!(told.map(|value| value.to_str().unwrap()), expected);
            let kind = response.extensions().get::<ErrorKind>();
            assert_eq!(kind, Some(&ErrorKind::QueueFull));
        }
    }

    #[test]
    fn answers_tell_what_failed() {
        let response = error(&ErrorKind::NoServer.into());
        assert_eq!(
            response.extensions().get::<ErrorKind>(),
            Some(&ErrorKind::NoServer)
        );
        let response = error(&ErrorKind::Misdirected.into());
        assert_eq!(response.status(), 421);
        assert!(response.headers().contains_key(CONTENT_TYPE));
    }
}
