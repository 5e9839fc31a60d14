//! Signs messages with a shared secret and checks the answers' signatures (RFC 8945).
//!
//! Of our own because lego's default algorithm, `hmac-sha1`, is one that hickory-proto
//! does not compute; its types carry the record. One request, one answer: chains of
//! signed messages (zone transfers) are not needed.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError, make_tsig_record, message_tbs};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use ring::hmac;
use sha2::{Digest as _, Sha224};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// How far the clocks of both sides may differ, seconds.
const FUDGE: u16 = 300;

/// A name and secret that a server knows too.
#[derive(Clone)]
pub(super) struct Key {
    name: Name,
    algorithm: TsigAlgorithm,
    secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name.to_ascii())
            .finish_non_exhaustive()
    }
}

/// A key that can't be used.
#[derive(Debug, Error)]
pub(super) enum KeyError {
    #[error("{0:?} is not a key's name")]
    Name(String),
    #[error("the key's secret is not base64")]
    Secret,
    #[error("the algorithm {0:?} is not one of hmac-sha1, -sha224, -sha256, -sha384, -sha512")]
    Algorithm(String),
}

/// An answer whose signature does not hold.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum SignatureError {
    #[error("the answer is not signed")]
    Missing,
    #[error("the server does not know the key {key} (or not with that algorithm)")]
    UnknownKey { key: String },
    #[error("the server knows another secret for the key {key}")]
    OtherSecret { key: String },
    #[error("the server's clock and ours differ by more than {FUDGE} s")]
    Time,
    #[error("the answer's signature is wrong")]
    Wrong,
}

/// What an answer is checked with.
#[derive(Debug)]
pub(super) struct Signed {
    key: Key,
    id: u16,
    mac: Vec<u8>,
}

impl Key {
    /// From lego's variables: the secret is base64, the algorithm's last dot optional.
    pub(super) fn new(name: &str, algorithm: &str, secret: &str) -> Result<Self, KeyError> {
        let unusable = || KeyError::Name(name.to_owned());
        let mut key_name = Name::from_ascii(name).map_err(|_| unusable())?;
        if key_name.is_root() {
            return Err(unusable());
        }
        key_name.set_fqdn(true);
        Ok(Self {
            name: key_name.to_lowercase(),
            algorithm: algorithm_named(algorithm)?,
            secret: STANDARD
                .decode(secret.trim())
                .map_err(|_| KeyError::Secret)?,
        })
    }

    /// Signs a message that nobody changes any more.
    pub(super) fn sign(&self, message: &mut Message, now: SystemTime) -> Result<Signed, String> {
        let id = message.metadata.id;
        let unsigned = self.record(id, seconds(now), Vec::new());
        let bytes = message_tbs(message, &unsigned, &self.name).map_err(|e| e.to_string())?;
        let mac = self.mac(&bytes);
        let record = self.record(id, seconds(now), mac.clone());
        message.set_signature(Box::new(make_tsig_record(self.name.clone(), record)));
        let key = self.clone();
        Ok(Signed { key, id, mac })
    }

    fn record(&self, id: u16, time: u64, mac: Vec<u8>) -> TSIG {
        let algorithm = self.algorithm.clone();
        TSIG::new(algorithm, time, FUDGE, mac, id, None, Vec::new())
    }

    fn mac(&self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self.algorithm {
            TsigAlgorithm::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            TsigAlgorithm::HmacSha224 => return hmac_sha224(&self.secret, bytes),
            TsigAlgorithm::HmacSha384 => hmac::HMAC_SHA384,
            TsigAlgorithm::HmacSha512 => hmac::HMAC_SHA512,
            // `algorithm_named` lets no other through.
            _ => hmac::HMAC_SHA256,
        };
        let key = hmac::Key::new(algorithm, &self.secret);
        hmac::sign(&key, bytes).as_ref().to_vec()
    }
}

impl Signed {
    /// Whether the answer is the server's, unchanged, and to our request.
    pub(super) fn check(
        &self,
        answer: &Message,
        bytes: &[u8],
        now: SystemTime,
    ) -> Result<(), SignatureError> {
        let record = answer.signature().ok_or(SignatureError::Missing)?;
        let tsig = &record.data;
        let key = || self.key.name.to_ascii();
        match tsig.error {
            Some(TsigError::BadKey) => return Err(SignatureError::UnknownKey { key: key() }),
            Some(TsigError::BadSig) => return Err(SignatureError::OtherSecret { key: key() }),
            Some(TsigError::BadTime) => return Err(SignatureError::Time),
            _ => {}
        }
        if record.name != self.key.name || tsig.algorithm != self.key.algorithm {
            return Err(SignatureError::Wrong);
        }
        let expected = self.expected(tsig, bytes).ok_or(SignatureError::Wrong)?;
        if !bool::from(expected.ct_eq(&tsig.mac)) {
            return Err(SignatureError::Wrong);
        }
        let near = tsig.time.abs_diff(seconds(now)) <= u64::from(FUDGE);
        near.then_some(()).ok_or(SignatureError::Time)
    }

    /// The digest over our own, the answer without its signature, and the signature's
    /// variables (RFC 8945 §5.3).
    fn expected(&self, tsig: &TSIG, bytes: &[u8]) -> Option<Vec<u8>> {
        let start = signature_start(bytes)?;
        let count = u16::from_be_bytes([*bytes.get(10)?, *bytes.get(11)?]).checked_sub(1)?;
        let mut signed = u16::try_from(self.mac.len()).ok()?.to_be_bytes().to_vec();
        signed.extend_from_slice(&self.mac);
        signed.extend_from_slice(&self.id.to_be_bytes());
        signed.extend_from_slice(bytes.get(2..10)?);
        signed.extend_from_slice(&count.to_be_bytes());
        signed.extend_from_slice(bytes.get(12..start)?);
        let mut variables = Vec::new();
        let mut encoder = BinEncoder::new(&mut variables);
        tsig.emit_tsig_for_mac(&mut encoder, &self.key.name).ok()?;
        signed.append(&mut variables);
        Some(self.key.mac(&signed))
    }
}

/// Where the last record starts, which must be the signature.
fn signature_start(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let mut at = 12;
    for _ in 0..number(4)? {
        at = name_end(bytes, at)? + 4;
    }
    let records = u32::from(number(6)?) + u32::from(number(8)?) + u32::from(number(10)?);
    for _ in 1..records {
        let end = name_end(bytes, at)?;
        at = end + 10 + usize::from(number(end + 8)?);
    }
    let kind = number(name_end(bytes, at)?)?;
    (records > 0 && kind == u16::from(RecordType::TSIG)).then_some(at)
}

/// Where the name that starts at `at` ends; a pointer ends it.
fn name_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length < 64 => at += 1 + usize::from(length),
            length if length >= 192 => return Some(at + 2),
            _ => return None,
        }
    }
}

fn algorithm_named(text: &str) -> Result<TsigAlgorithm, KeyError> {
    match text.trim_end_matches('.').to_ascii_lowercase().as_str() {
        "hmac-sha1" => Ok(TsigAlgorithm::HmacSha1),
        "hmac-sha224" => Ok(TsigAlgorithm::HmacSha224),
        "hmac-sha256" => Ok(TsigAlgorithm::HmacSha256),
        "hmac-sha384" => Ok(TsigAlgorithm::HmacSha384),
        "hmac-sha512" => Ok(TsigAlgorithm::HmacSha512),
        _ => Err(KeyError::Algorithm(text.to_owned())),
    }
}

/// RFC 2104 over the one digest that ring does not have.
fn hmac_sha224(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut padded = if key.len() > BLOCK {
        Sha224::digest(key).to_vec()
    } else {
        key.to_vec()
    };
    padded.resize(BLOCK, 0);
    let masked = |mask: u8| padded.iter().map(|byte| byte ^ mask).collect::<Vec<_>>();
    let inner = Sha224::new().chain_update(masked(0x36)).chain_update(bytes);
    let outer = Sha224::new().chain_update(masked(0x5c));
    outer.chain_update(inner.finalize()).finalize().to_vec()
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
