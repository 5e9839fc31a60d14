//! What the demo server says at each of its paths.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use serde_json::json;

use super::Site;
use super::body::Answer;
use super::tally::Entry;

/// Answers one request. Readings (`/peak`, `/health`) are not work and count nowhere.
pub(super) async fn answer(
    site: &Arc<Site>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Answer> {
    let mut response = match request.uri().path() {
        "/peak" => peak(site, &request),
        "/health" => health(site),
        _ => work(site, peer, request).await,
    };
    if let Ok(name) = HeaderValue::from_str(&site.options.name) {
        response.headers_mut().insert("x-demo-name", name);
    }
    response
}

fn peak(site: &Site, request: &Request<Incoming>) -> Response<Answer> {
    let reading = site.tally.read(&site.options.name);
    if parameter(request, "reset").is_some() {
        site.tally.reset();
    }
    let text = serde_json::to_string(&reading).unwrap_or_default();
    plain(StatusCode::OK, text, "application/json", None)
}

fn health(site: &Site) -> Response<Answer> {
    if *site.stopping.borrow() {
        return plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping\n".to_owned(),
            TEXT,
            None,
        );
    }
    plain(StatusCode::OK, "healthy\n".to_owned(), TEXT, None)
}

async fn work(site: &Arc<Site>, peer: SocketAddr, request: Request<Incoming>) -> Response<Answer> {
    let (entry, within) = site.tally.enter(site.options.limit);
    let asked = match request.uri().path() {
        "/delay" => Duration::from_millis(number(&request, "ms").unwrap_or(0)),
        _ => Duration::ZERO,
    };
    let delay = site.options.delay + asked;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let name = &site.options.name;
    let entry = Some(entry);
    if !within {
        let text = format!("{name} has more requests than it may have\n");
        return plain(StatusCode::SERVICE_UNAVAILABLE, text, TEXT, entry);
    }
    match request.uri().path() {
        "/whoami" => plain(StatusCode::OK, whoami(name, peer, &request), TEXT, entry),
        "/json" => plain(
            StatusCode::OK,
            described(name, peer, &request),
            "application/json",
            entry,
        ),
        "/bytes" => Response::new(Answer::fill(number(&request, "n").unwrap_or(0), entry)),
        "/status" => {
            let code = number(&request, "code").and_then(|code| u16::try_from(code).ok());
            let status = code.and_then(|code| StatusCode::from_u16(code).ok());
            // A final answer below 200 cannot be sent: 101 and 1xx are interim.
            let status = status.filter(|status| status.as_u16() >= 200);
            let status = status.unwrap_or(StatusCode::BAD_REQUEST);
            plain(status, format!("{name} answers {status}\n"), TEXT, entry)
        }
        "/echo" => Response::new(Answer::echo(request.into_body(), entry)),
        _ => plain(StatusCode::OK, format!("Hello from {name}\n"), TEXT, entry),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn plain(
    status: StatusCode,
    text: String,
    kind: &'static str,
    entry: Option<Entry>,
) -> Response<Answer> {
    let mut response = Response::new(Answer::text(text, entry));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The request as it arrived, one header a line, for people.
fn whoami(name: &str, peer: SocketAddr, request: &Request<Incoming>) -> String {
    let mut text = format!("Name: {name}\nPeer: {peer}\n\n");
    let line = (request.method(), request.uri(), request.version());
    let _ = writeln!(text, "{} {} {:?}", line.0, line.1, line.2);
    for (key, value) in request.headers() {
        let _ = writeln!(text, "{key}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}

/// The same for programs.
fn described(name: &str, peer: SocketAddr, request: &Request<Incoming>) -> String {
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(key, value)| json!([key.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let version = match request.version() {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    };
    json!({
        "name": name,
        "peer": peer.to_string(),
        "method": request.method().as_str(),
        "uri": request.uri().to_string(),
        "version": version,
        "headers": headers,
    })
    .to_string()
}

fn number(request: &Request<Incoming>, key: &str) -> Option<u64> {
    parameter(request, key)?.parse().ok()
}

/// The value of `key` in the query; numbers and flags need no decoding.
fn parameter<'r>(request: &'r Request<Incoming>, key: &str) -> Option<&'r str> {
    let query = request.uri().query()?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|pair| pair.0 == key)
        .map(|pair| pair.1)
}
