//! Carries the ACME library's requests, and turns refusals into [`Refusal`]s, which
//! keep what the library would drop: the status and `Retry-After`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use ring::hmac;

use super::ExternalKey;
use super::account::Directory;
use super::problem::{LONGEST_WAIT, Refusal};
use super::signer::Signer;
use crate::acme::https::Https;

/// What signed requests are called (RFC 8555 §6.2).
pub(super) const SIGNED: &str = "application/jose+json";

/// Speaks HTTP for the ACME library.
#[derive(Clone, Debug)]
pub(super) struct Courier {
    https: Arc<Https>,
    /// Signs in place of the library, which does not know the account's key.
    signer: Option<Arc<Signer>>,
    /// What binds a new account to an external one.
    external: Option<hmac::Key>,
}

impl Courier {
    pub(super) fn new(https: Arc<Https>, signer: Option<Arc<Signer>>) -> Self {
        Self {
            https,
            signer,
            external: None,
        }
    }

    /// The same for a new account that is bound to an external one.
    pub(super) fn binding(self, external: Option<&ExternalKey>) -> Self {
        let external = external.map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key.key));
        Self { external, ..self }
    }

    async fn carry(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let mut body = body.to_bytes();
        let is_signed = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind == SIGNED);
        if let Some(signer) = self.signer.as_ref().filter(|_| is_signed) {
            body = signer
                .sign_again(&body, self.external.as_ref())
                .map_err(other)?
                .into();
        }
        let request = Request::from_parts(parts, Full::new(body));
        let response = self.https.send(request).await.map_err(other)?;
        deliver(harmless(response)?)
    }
}

/// Sends a request that the library has no words for.
pub(super) async fn send(
    https: &Https,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Error> {
    let response = https.send(request).await.map_err(other)?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(other(Refusal::of(&response, SystemTime::now())))
}

/// Reads something that anybody may read.
pub(super) async fn fetch(
    https: &Https,
    url: &str,
    method: Method,
) -> Result<Response<Bytes>, Error> {
    let request = Request::builder().method(method).uri(url);
    send(https, request.body(Full::default())?).await
}

/// Takes out what the library does not expect and would panic on: a time to wait that
/// no clock can hold, and an address for nonces that is none.
fn harmless(mut response: Response<Bytes>) -> Result<Response<Bytes>, Error> {
    let headers = response.headers_mut();
    let after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let after = after.and_then(|value| value.trim().parse::<u64>().ok());
    if after.is_some_and(|seconds| seconds > LONGEST_WAIT.as_secs()) {
        headers.insert(RETRY_AFTER, LONGEST_WAIT.as_secs().into());
    }
    let directory = serde_json::from_slice::<Directory>(response.body());
    let is_harmless = directory.map_or(true, |directory| {
        let uri = directory.new_nonce.parse::<Uri>();
        uri.is_ok_and(|uri| uri.scheme().is_some())
    });
    if is_harmless {
        return Ok(response);
    }
    Err(Error::Str("the address of new nonces"))
}

fn deliver(response: Response<Bytes>) -> Result<BytesResponse, Error> {
    if !response.status().is_success() {
        let refusal = Refusal::of(&response, SystemTime::now());
        // The library tries again by itself, with the nonce that came along.
        let is_its_own = response.status() == StatusCode::BAD_REQUEST && refusal.is_bad_nonce();
        if !is_its_own {
            return Err(other(refusal));
        }
    }
    let (parts, body) = response.into_parts();
    Ok(BytesResponse {
        parts,
        body: Box::new(body),
    })
}

pub(super) fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

impl HttpClient for Courier {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let courier = self.clone();
        Box::pin(async move { courier.carry(request).await })
    }
}
