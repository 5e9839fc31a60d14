//! Signs requests to an authority with an account's own key (RFC 7515, RFC 8555 §6.2).
//!
//! The ACME library signs with P-256 only. Accounts have keys of RSA, those that Traefik
//! made and ours, which Traefik is to understand too: what the library signed is signed
//! anew here. Also signs the few requests that the library has no words for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The key can't be used, or what is to be signed is no request.
#[derive(Debug, Error)]
pub(super) enum SignerError {
    /// Nothing that we know.
    #[error("the key is none of RSA up to 4096 bits, P-256 or P-384")]
    Key,
    /// The cryptography failed.
    #[error("the request can't be signed")]
    Sign,
    /// Not what the library makes.
    #[error("the request to sign is damaged")]
    Request,
}

/// An account's key.
pub(super) struct Signer {
    key: Key,
    jwk: Value,
    thumbprint: String,
}

enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A signed request (RFC 7515 §7.2.2).
#[derive(Serialize, Deserialize)]
struct Signed {
    protected: String,
    payload: String,
    signature: String,
}

impl Signer {
    /// Reads a key as stores keep it: PKCS#1 or PKCS#8, DER.
    pub(super) fn new(der: &[u8]) -> Result<Self, SignerError> {
        let key = Key::read(der)?;
        let (jwk, canonical) = key.public();
        Ok(Self {
            jwk,
            thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)),
            key,
        })
    }

    /// Whether the ACME library can sign with it.
    pub(super) fn is_native(&self) -> bool {
        matches!(self.key, Key::P256(_))
    }

    /// A challenge's token with our mark (RFC 8555 §8.1).
    pub(super) fn key_authorization(&self, token: &str) -> String {
        format!("{token}.{}", self.thumbprint)
    }

    /// Signs a request of the library anew; with this key, if it binds the account to an
    /// external one.
    pub(super) fn sign_again(
        &self,
        body: &[u8],
        external: Option<&hmac::Key>,
    ) -> Result<Vec<u8>, SignerError> {
        let mut signed: Signed = serde_json::from_slice(body).map_err(|_| SignerError::Request)?;
        let mut header = object(&signed.protected)?;
        if let Some(jwk) = header.get_mut("jwk") {
            *jwk = self.jwk.clone();
        }
        if let Some(external) = external {
            self.bind_again(&mut signed.payload, external)?;
        }
        self.sign(header, signed.payload)
    }

    /// Binds to the external account this key in place of the library's (RFC 8555 §7.3.4).
    fn bind_again(&self, payload: &mut String, external: &hmac::Key) -> Result<(), SignerError> {
        if payload.is_empty() {
            return Ok(());
        }
        let mut request = object(payload)?;
        let Some(binding) = request.get_mut("externalAccountBinding") else {
            return Ok(());
        };
        let bound = Signed::deserialize(&*binding).map_err(|_| SignerError::Request)?;
        let jwk = URL_SAFE_NO_PAD.encode(self.jwk.to_string());
        let signature = hmac::sign(external, format!("{}.{jwk}", bound.protected).as_bytes());
        *binding = json!({
            "protected": bound.protected,
            "payload": jwk,
            "signature": URL_SAFE_NO_PAD.encode(signature),
        });
        *payload = URL_SAFE_NO_PAD.encode(Value::Object(request).to_string());
        Ok(())
    }

    /// A request that only reads (RFC 8555 §6.3).
    pub(super) fn read(
        &self,
        account: &str,
        nonce: &str,
        url: &str,
    ) -> Result<Vec<u8>, SignerError> {
        let header = [("kid", account), ("nonce", nonce), ("url", url)];
        let header = header.map(|(name, value)| (name.to_owned(), Value::from(value)));
        self.sign(Map::from_iter(header), String::new())
    }

    fn sign(
        &self,
        mut header: Map<String, Value>,
        payload: String,
    ) -> Result<Vec<u8>, SignerError> {
        header.insert("alg".to_owned(), Value::from(self.key.algorithm()));
        let protected = URL_SAFE_NO_PAD.encode(Value::Object(header).to_string());
        let signature = self.key.sign(format!("{protected}.{payload}").as_bytes())?;
        let signed = Signed {
            protected,
            payload,
            signature: URL_SAFE_NO_PAD.encode(signature),
        };
        serde_json::to_vec(&signed).map_err(|_| SignerError::Sign)
    }
}

impl Key {
    fn read(der: &[u8]) -> Result<Self, SignerError> {
        let random = SystemRandom::new();
        let ec = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der, &random);
        if let Ok(key) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING) {
            return Ok(Self::P256(key));
        }
        if let Ok(key) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING) {
            return Ok(Self::P384(key));
        }
        RsaKeyPair::from_der(der)
            .or_else(|_| RsaKeyPair::from_pkcs8(der))
            .map(Self::Rsa)
            .map_err(|_| SignerError::Key)
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The public half, and its text for the thumbprint (RFC 7638 §3).
    fn public(&self) -> (Value, String) {
        match self {
            Self::P256(key) => point("P-256", key),
            Self::P384(key) => point("P-384", key),
            Self::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                let n = URL_SAFE_NO_PAD.encode(public.n);
                let e = URL_SAFE_NO_PAD.encode(public.e);
                let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
                (json!({"kty": "RSA", "n": n, "e": e}), canonical)
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) | Self::P384(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignerError::Sign),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| SignerError::Sign)?;
                Ok(signature)
            }
        }
    }
}

/// An object inside of a request.
fn object(encoded: &str) -> Result<Map<String, Value>, SignerError> {
    let text = URL_SAFE_NO_PAD.decode(encoded);
    let text = text.map_err(|_| SignerError::Request)?;
    serde_json::from_slice(&text).map_err(|_| SignerError::Request)
}

fn point(curve: &str, key: &EcdsaKeyPair) -> (Value, String) {
    // Uncompressed (SEC 1 §2.3.3): 4, then both halves.
    let halves = key.public_key().as_ref().get(1..).unwrap_or_default();
    let (x, y) = halves.split_at(halves.len() / 2);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let canonical = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#);
    (
        json!({"kty": "EC", "crv": curve, "x": x, "y": y}),
        canonical,
    )
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("algorithm", &self.key.algorithm())
            .finish_non_exhaustive()
    }
}
