//! Password hashes as Apache's `htpasswd` writes them: bcrypt, `{SHA}` and the
//! iterated MD5 of `$apr1$` and `$1$`. Comparisons take the same time wherever
//! the first difference is.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// How many bcrypt hashes are computed at once, so that guessing passwords
/// can't take all processors from the requests of others.
static HASHERS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new((processors / 2).max(1))
});

/// The alphabet of crypt(3).
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// One user's hash.
#[derive(Clone)]
pub(super) enum Hash {
    /// Slow on purpose.
    Bcrypt(Box<str>),
    /// `$apr1$SALT$...` or `$1$SALT$...`
    Md5 {
        magic: &'static str,
        salt: Box<str>,
        text: Box<str>,
    },
    /// The base64 of an unsalted SHA-1.
    Sha1(Box<str>),
    /// Anything else, a clear password for one. Nothing matches it.
    Unknown,
}

impl Hash {
    /// Reads what follows the user's name and colon.
    pub(super) fn parse(text: &str) -> Self {
        if let Some(sum) = text.strip_prefix("{SHA}") {
            return Self::Sha1(sum.into());
        }
        if text.parse::<bcrypt::HashParts>().is_ok() {
            return Self::Bcrypt(text.into());
        }
        for magic in ["$apr1$", "$1$"] {
            let rest = text.strip_prefix(magic);
            if let Some((salt, _)) = rest.and_then(|rest| rest.split_once('$')) {
                return Self::Md5 {
                    magic,
                    salt: salt.into(),
                    text: text.into(),
                };
            }
        }
        Self::Unknown
    }

    /// How long a comparison takes, for ordering only.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Sha1(_) => 1,
            Self::Md5 { .. } => 2,
            Self::Bcrypt(text) => text
                .parse()
                .map_or(3, |parts: bcrypt::HashParts| 3 + parts.get_cost()),
        }
    }

    /// Whether this is the hash of a password. A slow comparison happens on
    /// another thread; giving up the future does not stop it, but the number of
    /// such threads at work stays bounded.
    pub(super) async fn matches(self: &Arc<Self>, password: &[u8]) -> bool {
        if !matches!(**self, Self::Bcrypt(_)) {
            return self.compare(password);
        }
        let Ok(permit) = HASHERS.acquire().await else {
            return false;
        };
        let (hash, password) = (Arc::clone(self), password.to_vec());
        let comparison = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            hash.compare(&password)
        });
        comparison.await.unwrap_or(false)
    }

    fn compare(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Md5 { magic, salt, text } => {
                let computed = md5_crypt(password, magic, salt);
                computed.as_bytes().ct_eq(text.as_bytes()).into()
            }
            Self::Sha1(text) => {
                let computed = STANDARD.encode(Sha1::digest(password));
                computed.as_bytes().ct_eq(text.as_bytes()).into()
            }
            Self::Unknown => false,
        }
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt(_) => "Hash(bcrypt)",
            Self::Md5 { .. } => "Hash(MD5)",
            Self::Sha1(_) => "Hash(SHA-1)",
            Self::Unknown => "Hash(unknown)",
        })
    }
}

/// Poul-Henning Kamp's password hash of 1994, which Apache took over under a
/// magic string of its own.
fn md5_crypt(password: &[u8], magic: &str, salt: &str) -> String {
    let salt = salt.as_bytes();
    let inner = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let mut outer = Md5::new()
        .chain_update(password)
        .chain_update(magic)
        .chain_update(salt);
    let mixin: Vec<u8> = inner.iter().copied().cycle().take(password.len()).collect();
    outer.update(mixin);
    let mut bits = password.len();
    while bits > 0 {
        let zero_or_first = if bits & 1 == 1 {
            Some(&0)
        } else {
            password.first()
        };
        outer.update([*zero_or_first.unwrap_or(&0)]);
        bits >>= 1;
    }
    let mut sum: [u8; 16] = outer.finalize().into();
    for round in 0..1000 {
        sum = stretch(round, sum, password, salt);
    }
    let encoded = encode(sum);
    format!("{magic}{}${encoded}", String::from_utf8_lossy(salt))
}

fn stretch(round: u32, sum: [u8; 16], password: &[u8], salt: &[u8]) -> [u8; 16] {
    let is_odd = round % 2 == 1;
    let (first, last) = if is_odd {
        (password, sum.as_slice())
    } else {
        (sum.as_slice(), password)
    };
    let mut md5 = Md5::new().chain_update(first);
    if !round.is_multiple_of(3) {
        md5.update(salt);
    }
    if !round.is_multiple_of(7) {
        md5.update(password);
    }
    md5.chain_update(last).finalize().into()
}

/// Three bytes at a time, taken crosswise, make four letters, low bits first.
fn encode(sum: [u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = sum;
    let mut text = String::with_capacity(22);
    for [low, middle, high] in [[m, g, a], [n, h, b], [o, i, c], [p, j, d], [f, k, e]] {
        push_letters(&mut text, u32::from_be_bytes([0, high, middle, low]), 4);
    }
    push_letters(&mut text, u32::from(l), 2);
    text
}

fn push_letters(text: &mut String, mut bits: u32, letters: usize) {
    for _ in 0..letters {
        let letter = ALPHABET.get((bits & 63) as usize).copied();
        text.push(char::from(letter.unwrap_or(b'.')));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_password(hash: &str, password: &str) -> bool {
        Arc::new(Hash::parse(hash))
            .matches(password.as_bytes())
            .await
    }

    #[tokio::test]
    async fn hashes_of_other_tools_match() {
        // Made with `openssl passwd` and `openssl sha1`.
        let cases = [
            ("$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/", "test"),
            ("$apr1$abcdefgh$L.PT565ESX4Tp2bqNs7Ie.", ""),
            ("$apr1$ab$lsS8Q7BiSGXU9OxFqC.9u.", "exactly16bytes!!"),
            (
                "$1$saltsalt$okdX384.qE5r9pUglttNs1",
                "pässword longer than sixteen bytes",
            ),
            ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "test"),
        ];
        for (hash, password) in cases {
            assert!(is_password(hash, password).await, "{hash}");
            assert!(!is_password(hash, "wrong").await, "{hash}");
        }
    }

    #[tokio::test]
    async fn bcrypt_matches_under_all_its_names() {
        let made = bcrypt::hash("test", 4).unwrap();
        for version in ["2a", "2b", "2x", "2y"] {
            let hash = made.replacen("2b", version, 1);
            assert!(is_password(&hash, "test").await, "{version}");
            assert!(!is_password(&hash, "Test").await, "{version}");
            assert!(!is_password(&hash, "te\0st").await, "{version}");
        }
    }

    #[tokio::test]
    async fn nothing_matches_what_is_no_hash() {
        for text in [
            "",
            "test",
            "$2y$",
            "$apr1$",
            "$apr1$salt",
            "$5$salt$x",
            "{SHA}",
            "{SSHA}x",
        ] {
            assert!(!is_password(text, text).await, "{text}");
            assert!(!is_password(text, "").await, "{text}");
        }
    }

    #[test]
    fn bcrypt_costs_most() {
        let hash = Hash::parse(&bcrypt::hash("test", 4).unwrap());
        assert_eq!(hash.cost(), 7);
        assert!(hash.cost() > Hash::parse("$apr1$a$b").cost());
        assert!(!format!("{hash:?}").contains('$'));
    }
}
