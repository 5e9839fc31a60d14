//! Sealing with a key of the cluster's secret: what lies where others can read it.
//!
//! The form: one byte of version, eight that tell the secret ([`Secret::identity`]),
//! a random nonce of twelve, then ChaCha20-Poly1305 (RFC 8439), which needs no help
//! of the processor. The head and the caller's context are authenticated with it, so
//! that a sealed value can't be put in another one's place. Opens what the previous
//! secret sealed, never seals with it. Used by the stores and the mesh's state file.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::secret::{Purpose, Secret, Secrets};
use crate::acme::store::{Opened, SealError, Sealer};

/// The only version there is.
const VERSION: u8 = 1;

/// Version and secret.
const HEAD: usize = 1 + 8;

/// What sealing adds.
pub const OVERHEAD: usize = HEAD + NONCE_LEN + 16;

/// The most that is sealed or opened.
pub const LARGEST: usize = 64 << 20;

/// Seals with the current secret, opens with the previous one as well.
#[derive(Debug)]
pub struct Seal {
    current: SealKey,
    previous: Option<SealKey>,
    random: SystemRandom,
}

#[derive(Debug)]
struct SealKey {
    head: [u8; HEAD],
    key: LessSafeKey,
}

impl Seal {
    /// Derives the keys.
    pub fn new(secrets: &Secrets) -> Self {
        Self {
            current: SealKey::new(&secrets.current),
            previous: secrets.previous.as_ref().map(SealKey::new),
            random: SystemRandom::new(),
        }
    }
}

impl SealKey {
    fn new(secret: &Secret) -> Self {
        let mut head = [VERSION; HEAD];
        for (to, from) in head.iter_mut().skip(1).zip(secret.identity()) {
            *to = from;
        }
        let key = secret.key(Purpose::Seal);
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.bytes())
            .expect("a derived key has the cipher's length");
        Self {
            head,
            key: LessSafeKey::new(key),
        }
    }

    /// What is authenticated beside the value.
    fn bound(&self, context: &str) -> Aad<Vec<u8>> {
        Aad::from([&self.head, context.as_bytes()].concat())
    }
}

impl Sealer for Seal {
    fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        if plain.len() > LARGEST {
            return Err(SealError::TooLarge(LARGEST));
        }
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| SealError::NoRandomness)?;
        let SealKey { head, key } = &self.current;
        let mut body = plain.to_vec();
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.current.bound(context),
                &mut body,
            )
            .map_err(|_| SealError::TooLarge(LARGEST))?;
        Ok([&head[..], &nonce, &body, tag.as_ref()].concat())
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Opened, SealError> {
        if sealed.len() > LARGEST + OVERHEAD {
            return Err(SealError::TooLarge(LARGEST));
        }
        let (head, rest) = sealed
            .split_first_chunk::<HEAD>()
            .filter(|(head, _)| head.first() == Some(&VERSION))
            .ok_or(SealError::Foreign)?;
        let (nonce, body) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealError::Foreign)?;
        let is_current = *head == self.current.head;
        let key = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|key| key.head == *head)
            .ok_or(SealError::OtherSecret)?;
        let mut plain = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key
            .key
            .open_in_place(nonce, key.bound(context), &mut plain)
            .map_err(|_| SealError::Broken)?
            .len();
        plain.truncate(length);
        Ok(Opened { plain, is_current })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(current: u8, previous: Option<u8>) -> Seal {
        let secret = |byte| Secret::parse(&[byte; 32]).unwrap();
        Seal::new(&Secrets {
            current: secret(current),
            previous: previous.map(secret),
        })
    }

    #[test]
    fn opens_what_it_sealed() {
        let seal = seal(1, None);
        for plain in [&b""[..], b"x", &[7; 100_000]] {
            let sealed = seal.seal("here", plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            let opened = seal.open("here", &sealed).unwrap();
            assert_eq!((&opened.plain[..], opened.is_current), (plain, true));
            assert_ne!(sealed, seal.seal("here", plain).unwrap(), "nonces differ");
        }
    }

    #[test]
    fn a_secret_is_replaced_without_a_gap() {
        let (before, between, after) = (seal(1, None), seal(2, Some(1)), seal(2, None));
        let old = before.seal("here", b"old").unwrap();
        let new = between.seal("here", b"new").unwrap();
        assert!(!between.open("here", &old).unwrap().is_current);
        assert!(between.open("here", &new).unwrap().is_current);
        assert!(after.open("here", &new).unwrap().is_current);
        assert_eq!(after.open("here", &old), Err(SealError::OtherSecret));
        assert_eq!(before.open("here", &new), Err(SealError::OtherSecret));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let seal = seal(1, Some(2));
        let sealed = seal.seal("here", b"value").unwrap();
        assert_eq!(seal.open("there", &sealed), Err(SealError::Broken));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.open("here", &changed).is_err(), "byte {at}");
            assert!(seal.open("here", &sealed[..at]).is_err(), "cut at {at}");
        }
        let longer = [&sealed[..], b"x"].concat();
        assert_eq!(seal.open("here", &longer), Err(SealError::Broken));
    }
}
