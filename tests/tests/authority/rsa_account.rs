//! An account as Traefik makes them: with a key of RSA, kept as PKCS#1.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use scenarios::client;
use scenarios::pebble::Pebble;
use serde_json::json;
use tidegate_proxy::acme::store::Account;

/// A new key of so many bits, DER.
pub(crate) fn key(bits: usize) -> anyhow::Result<Vec<u8>> {
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits)?;
    Ok(key.to_pkcs1_der()?.as_bytes().to_vec())
}

/// Makes an account by hand (RFC 8555 §7.3), with a key of so many bits.
pub(crate) async fn register(pebble: &Pebble, bits: usize) -> anyhow::Result<Account> {
    let der = key(bits)?;
    let key = RsaKeyPair::from_der(&der)?;
    let origin = pebble.directory().trim_end_matches("/dir").to_owned();
    let head = ask(pebble, Request::head("/nonce-plz").body(Full::default())?).await?;
    let nonce = head.headers().get("replay-nonce").context("no nonce")?;
    let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
    let protected = json!({
        "alg": "RS256",
        "nonce": nonce.to_str()?,
        "url": format!("{origin}/sign-me-up"),
        "jwk": {"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e)},
    });
    let protected = URL_SAFE_NO_PAD.encode(protected.to_string());
    let payload = URL_SAFE_NO_PAD.encode(json!({"termsOfServiceAgreed": true}).to_string());
    let mut signature = vec![0; key.public().modulus_len()];
    let signed = format!("{protected}.{payload}");
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .ok()
    .context("not signed")?;
    let signature = URL_SAFE_NO_PAD.encode(signature);
    let body = json!({"protected": protected, "payload": payload, "signature": signature});
    let request = Request::post("/sign-me-up").header("content-type", "application/jose+json");
    let answer = ask(pebble, request.body(Full::from(body.to_string()))?).await?;
    let uri = answer.headers().get("location");
    let uri = uri.with_context(|| String::from_utf8_lossy(answer.body()).into_owned())?;
    Ok(Account {
        email: "me@example.com".to_owned(),
        uri: uri.to_str()?.to_owned(),
        contact: Vec::new(),
        status: "valid".to_owned(),
        private_key: der,
        key_type: bits.to_string(),
    })
}

async fn ask(
    pebble: &Pebble,
    mut request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Bytes>> {
    let directory: http::Uri = pebble.directory().parse()?;
    let authority = directory.authority().context("no authority")?;
    let address = ([127, 0, 0, 1], authority.port_u16().context("no port")?);
    let stream = client::tls(address.into(), "localhost", b"http/1.1").await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    request
        .headers_mut()
        .insert("host", authority.as_str().parse()?);
    request
        .headers_mut()
        .insert("user-agent", "scenarios".parse()?);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(
        parts,
        body.collect().await?.to_bytes(),
    ))
}
