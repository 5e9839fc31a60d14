//! Asks back ends on the network: a connection, or an HTTP answer's status.
//!
//! Nothing of a body is read and no redirect is followed. `health::probe` is for
//! the director's own nodes; GORB's pulses choose the request's method, too.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::monitor::{Ask, Question};
use super::pulse::PulseKind;

/// Asks over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prober;

impl Ask for Prober {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            let limit = question.pulse.timeout();
            match tokio::time::timeout(limit, ask(&question)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {limit:?}")),
            }
        })
    }
}

async fn ask(question: &Question) -> Result<(), String> {
    if question.pulse.kind == PulseKind::None {
        return Ok(());
    }
    let address = target(question).await?;
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| format!("can't connect to {address}: {error}"))?;
    // Ends by a reset: nobody keeps anything of it. What cannot be set is no harm.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    match &question.pulse.kind {
        PulseKind::None | PulseKind::Tcp => Ok(()),
        PulseKind::Http {
            method,
            path,
            expect,
        } => {
            let host = question.pulse.host.clone();
            let host = host.map_or_else(|| address.to_string(), |it| authority(&it, address));
            let request = http::Request::builder()
                .method(method)
                .uri(path)
                .header(HOST, host)
                .header(USER_AGENT, "tidegate-director")
                .header(CONNECTION, "close")
                .body(Empty::<Bytes>::new());
            let request = request.map_err(|error| error.to_string())?;
            let status = status(stream, request).await?;
            match status == *expect {
                true => Ok(()),
                false => Err(format!("{address} answered {status} and not {expect}")),
            }
        }
    }
}

async fn status(stream: TcpStream, request: http::Request<Empty<Bytes>>) -> Result<u16, String> {
    let wrong = |error: hyper::Error| format!("no HTTP answer: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(100)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(wrong)?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer.map_err(wrong)?.status().as_u16()),
        _ = &mut connection => Ok(answer.await.map_err(wrong)?.status().as_u16()),
    }
}

/// Where to ask: the back end, unless the pulse names another.
async fn target(question: &Question) -> Result<SocketAddr, String> {
    let pulse = &question.pulse;
    let port = pulse.port.unwrap_or_else(|| question.address.port());
    let address = match &pulse.host {
        None => question.address.ip(),
        Some(host) => resolve(host, question.address.is_ipv4()).await?,
    };
    Ok(SocketAddr::new(address, port))
}

/// The address of a name or an address, of this family if it has one. An error
/// is told in words.
pub async fn resolve(host: &str, is_v4: bool) -> Result<IpAddr, String> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(address.to_canonical());
    }
    let found = tokio::net::lookup_host((host, 0)).await;
    let found = found.map_err(|error| format!("{host:?} can't be looked up: {error}"))?;
    let found: Vec<IpAddr> = found.map(|it| it.ip().to_canonical()).collect();
    let fitting = found.iter().find(|it| it.is_ipv4() == is_v4);
    let fitting = fitting.or_else(|| found.first()).copied();
    fitting.ok_or_else(|| format!("{host:?} has no address"))
}

/// The Host line for a host that was named.
fn authority(host: &str, address: SocketAddr) -> String {
    match host.parse::<IpAddr>() {
        Ok(_) => address.to_string(),
        Err(_) if address.port() == 80 => host.to_owned(),
        Err(_) => format!("{host}:{}", address.port()),
    }
}

#[cfg(test)]
mod tests;
