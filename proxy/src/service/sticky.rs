//! Sticky sessions: a cookie that names a client's server.
//!
//! Reads the cookie of a request and writes that of a response; names, values
//! and attributes are Traefik's, so that sessions outlive a change from one to
//! the other. It knows the servers that a configuration has, and never decides
//! whether one takes requests: that is the balancer's business. The load
//! balancer calls it, with whatever a client may send.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use ::http::header::{COOKIE, HeaderMap, HeaderValue};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::Server;
use crate::balance::ServerKey;
use crate::config::dynamic::StickyCookie;

/// What stands in front of a service's name where a cookie's name is made of it.
const NAME_SALT: &str = "_TRAEFIK_BACKEND_";

/// Digits of such a cookie's name, behind an underscore.
const NAME_DIGITS: usize = 5;

/// Digits of a cookie's value.
const VALUE_DIGITS: usize = 16;

/// Most bytes of a label in a host name.
const MAX_LABEL: usize = 63;

/// Most bytes of a host name.
const MAX_HOST: usize = 255;

/// The sticky cookie of one service.
#[derive(Debug)]
pub struct Sticky {
    name: Box<[u8]>,
    /// What follows the value: path, domain, and so on.
    attributes: String,
    servers: HashMap<Box<[u8]>, Bound>,
    lines: HashMap<ServerKey, HeaderValue>,
    longest: usize,
}

/// The server that a request's cookie names.
#[derive(Debug)]
pub struct Bound {
    server: Arc<Server>,
    /// Whether the cookie is written as one would be today.
    is_current: bool,
}

impl Bound {
    /// The server, which may take no requests any more.
    pub const fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Sticky {
    /// The cookie of `service`, by its full name, for these servers.
    pub fn new(service: &str, config: &StickyCookie, servers: &[Arc<Server>]) -> Self {
        let name = if config.name.is_empty() {
            made_name(service)
        } else {
            config.name.chars().map(in_token).collect()
        };
        let mut sticky = Self {
            attributes: attributes(service, config),
            name: name.into_bytes().into(),
            servers: HashMap::new(),
            lines: HashMap::new(),
            longest: 0,
        };
        for server in servers {
            sticky.add(server);
        }
        sticky
    }

    fn add(&mut self, server: &Arc<Server>) {
        let target = server.target();
        let url = &*target.url;
        self.lines.insert(server.key(), self.line(url));
        // The other three were written by older Traefiks.
        let hashed = fnv(url);
        let forms = [
            (url.to_owned(), false),
            (fnv(&hashed), false),
            (hashed, false),
            (value(url), true),
        ];
        for (value, is_current) in forms {
            self.longest = self.longest.max(value.len());
            let bound = Bound {
                server: Arc::clone(server),
                is_current,
            };
            self.servers.insert(value.into_bytes().into(), bound);
        }
    }

    /// The server that a request with these headers belongs to. Of several cookies
    /// of the name the first counts that names a server. Allocates nothing.
    pub fn bound(&self, headers: &HeaderMap) -> Option<&Bound> {
        let lines = headers.get_all(COOKIE).into_iter();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        pairs
            .filter_map(|pair| self.value_of(pair))
            .find_map(|value| self.servers.get(value))
    }

    /// The value of a cookie, if it is ours and could name a server.
    fn value_of<'a>(&self, pair: &'a [u8]) -> Option<&'a [u8]> {
        let rest = pair.trim_ascii().strip_prefix(&*self.name)?;
        let value = rest.trim_ascii_start().strip_prefix(b"=")?;
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        let value = quoted.unwrap_or(value);
        (value.len() <= self.longest).then_some(value)
    }

    /// The cookie that binds a client to `server`, unless its request was `bound` to
    /// that one by a cookie of today's form.
    pub fn cookie(&self, server: &Server, bound: Option<&Bound>) -> Option<HeaderValue> {
        if bound.is_some_and(|bound| bound.is_current && bound.server.key() == server.key()) {
            return None;
        }
        let known = self.lines.get(&server.key()).cloned();
        // Only a configuration that is newer than this one has others.
        Some(known.unwrap_or_else(|| self.line(&server.target().url)))
    }

    fn line(&self, url: &str) -> HeaderValue {
        let mut line = self.name.to_vec();
        line.push(b'=');
        line.extend_from_slice(value(url).as_bytes());
        line.extend_from_slice(self.attributes.as_bytes());
        HeaderValue::from_bytes(&line).expect("only visible characters and blanks were put in")
    }
}

/// The name of a cookie that nobody named.
fn made_name(service: &str) -> String {
    let hash = Sha1::digest(format!("{NAME_SALT}{service}"));
    format!("_{}", hexadecimal(&hash, NAME_DIGITS))
}

/// A cookie's name consists of RFC 9110's token characters.
const fn in_token(character: char) -> char {
    match character {
        '!'
        | '#'
        | '$'
        | '%'
        | '&'
        | '\''
        | '*'
        | '+'
        | '-'
        | '.'
        | '^'
        | '`'
        | '|'
        | '~'
        | 'a'..='z'
        | 'A'..='Z'
        | '0'..='9' => character,
        _ => '_',
    }
}

/// What stands for a server in a cookie, so that it tells nobody its address.
fn value(url: &str) -> String {
    hexadecimal(&Sha256::digest(url), VALUE_DIGITS)
}

/// The first `digits` of a hash.
fn hexadecimal(hash: &[u8], digits: usize) -> String {
    let mut text = String::with_capacity(digits + 1);
    for byte in hash.iter().take(digits.div_ceil(2)) {
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(digits);
    text
}

/// FNV-1 of 64 bits, without leading zeros.
fn fnv(text: &str) -> String {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = text.bytes().fold(BASIS, |hash, byte| {
        hash.wrapping_mul(PRIME) ^ u64::from(byte)
    });
    format!("{hash:x}")
}

/// The attributes in Go's order and spelling (RFC 6265, section 4.1).
fn attributes(service: &str, config: &StickyCookie) -> String {
    let mut text = String::new();
    let path: String = config.path.chars().filter(is_in_path).collect();
    if !path.is_empty() {
        text.push_str("; Path=");
        text.push_str(&path);
    }
    if is_host(&config.domain) {
        text.push_str("; Domain=");
        text.push_str(config.domain.trim_start_matches('.'));
    } else if !config.domain.is_empty() {
        warn!(service, domain = %config.domain, "A sticky cookie's domain is no host name and left out");
    }
    if config.max_age != 0 {
        let _ = write!(text, "; Max-Age={}", config.max_age.max(0));
    }
    if config.http_only {
        text.push_str("; HttpOnly");
    }
    if config.secure {
        text.push_str("; Secure");
    }
    text.push_str(same_site(&config.same_site));
    text
}

/// A word that is unknown says nothing, as in Traefik.
fn same_site(word: &str) -> &'static str {
    match word.to_ascii_lowercase().as_str() {
        "none" => "; SameSite=None",
        "lax" => "; SameSite=Lax",
        "strict" => "; SameSite=Strict",
        _ => "",
    }
}

fn is_in_path(character: &char) -> bool {
    matches!(character, ' '..='~') && *character != ';'
}

/// Whether a text is a host name or an IPv4 address, perhaps with a dot before it.
fn is_host(text: &str) -> bool {
    let host = text.strip_prefix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(is_part)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= MAX_HOST && host.split('.').all(is_label)
}

#[cfg(test)]
#[path = "sticky_tests.rs"]
mod tests;
