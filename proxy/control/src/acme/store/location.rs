//! Where a store is, as `certificatesResolvers.NAME.acme.storage` says it.
//!
//! Reads the text and opens nothing. A path is Traefik's own meaning; the rest is
//! Tidegate's: `swarm:PREFIX`, `etcd://HOST:PORT,../PREFIX`, `etcds://` for TLS.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// What the objects of a store are called by when the location does not say it.
const DEFAULT_PREFIX: &str = "tidegate";

/// The longest prefix of Docker configs: their names have 64 characters at most.
const LONGEST_SWARM_PREFIX: usize = 20;

/// The longest prefix of etcd's keys.
const LONGEST_ETCD_PREFIX: usize = 200;

/// etcd's port for clients.
const ETCD_PORT: u16 = 2379;

/// What is expected, for every error.
const EXPECTED: &str = "a file's path, swarm:[PREFIX], etcd://HOST:PORT[,HOST:PORT..]/[PREFIX], \
                        or etcds:// with ?ca=FILE&cert=FILE&key=FILE";

/// A place for a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A file in Traefik's format.
    File(PathBuf),
    /// Configs of the Swarm that the provider is asked about.
    Swarm {
        /// What their names begin with.
        prefix: String,
    },
    /// etcd.
    Etcd(EtcdLocation),
}

/// Where etcd is and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EtcdLocation {
    /// The members to ask, in turn.
    pub endpoints: Vec<EtcdEndpoint>,
    /// What all keys begin with; ends with a slash.
    pub prefix: String,
    /// TLS; nothing means none.
    pub tls: Option<EtcdTls>,
    /// Whom to be there.
    pub login: Option<EtcdLogin>,
}

/// One member of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EtcdEndpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// TLS towards etcd, by files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EtcdTls {
    /// The authorities to trust; empty means the usual ones.
    pub ca: String,
    /// The certificate to show.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EtcdLogin {
    /// The name.
    pub user: String,
    /// The file with the password; one newline at its end is not part of it.
    pub password_file: String,
}

/// `storage` says no place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("storage {text:?}: {message}; expected is {EXPECTED}")]
pub struct LocationError {
    /// As it is written, without what may be a password.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

impl Location {
    /// Reads `storage`.
    ///
    /// # Errors
    /// When it is none of the forms above.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let wrong = |message: String| LocationError {
            text: harmless(text),
            message,
        };
        if text.trim().is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "etcd" => etcd(rest, false).map(Self::Etcd).map_err(wrong),
                "etcds" => etcd(rest, true).map(Self::Etcd).map_err(wrong),
                "file" => Err(wrong("a file is written without file://".to_owned())),
                _ => Err(wrong(format!("there is no store {scheme:?}"))),
            };
        }
        match text.strip_prefix("swarm:") {
            Some(prefix) => swarm(prefix).map_err(wrong),
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

/// Without options, and without what stands before an `@`: somebody may have written
/// a password there.
fn harmless(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("..@{rest}"),
        None => text.to_owned(),
    }
}

fn swarm(prefix: &str) -> Result<Location, String> {
    let prefix = if prefix.is_empty() {
        DEFAULT_PREFIX
    } else {
        prefix
    };
    let is_name = prefix.starts_with(|first: char| first.is_ascii_alphanumeric())
        && prefix.bytes().all(is_name_byte)
        && prefix.len() <= LONGEST_SWARM_PREFIX;
    if !is_name {
        return Err(format!(
            "the prefix of Docker configs is up to {LONGEST_SWARM_PREFIX} letters, digits, \
             '-', '_' and '.', the first a letter or digit"
        ));
    }
    Ok(Location::Swarm {
        prefix: prefix.to_owned(),
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

fn etcd(rest: &str, is_secure: bool) -> Result<EtcdLocation, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if hosts.contains('@') {
        return Err("a user is named by ?user=NAME&passwordFile=FILE".to_owned());
    }
    let endpoints = hosts
        .split(',')
        .map(|host| endpoint(host).ok_or_else(|| format!("{host:?} is no HOST:PORT")))
        .collect::<Result<_, _>>()?;
    let options = Options::read(query)?;
    let has_tls = options.tls != EtcdTls::default();
    if has_tls && !is_secure {
        return Err("ca, cert and key belong to etcds://".to_owned());
    }
    if options.tls.cert.is_empty() != options.tls.key.is_empty() {
        return Err("cert and key go together".to_owned());
    }
    let login = match (options.user.is_empty(), options.password_file.is_empty()) {
        (true, true) => None,
        (false, false) => Some(EtcdLogin {
            user: options.user,
            password_file: options.password_file,
        }),
        _ => return Err("user and passwordFile go together".to_owned()),
    };
    Ok(EtcdLocation {
        endpoints,
        prefix: etcd_prefix(prefix)?,
        tls: is_secure.then_some(options.tls),
        login,
    })
}

fn etcd_prefix(prefix: &str) -> Result<String, String> {
    let prefix = prefix.trim_matches('/');
    let prefix = if prefix.is_empty() {
        DEFAULT_PREFIX
    } else {
        prefix
    };
    let is_path = prefix.len() <= LONGEST_ETCD_PREFIX
        && prefix
            .bytes()
            .all(|byte| is_name_byte(byte) || byte == b'/');
    if !is_path {
        return Err(format!(
            "the prefix is up to {LONGEST_ETCD_PREFIX} letters, digits, '-', '_', '.' and '/'"
        ));
    }
    Ok(format!("{prefix}/"))
}

fn endpoint(text: &str) -> Option<EtcdEndpoint> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |byte: u8| is_name_byte(byte) || byte == b':';
    if host.is_empty() || !host.bytes().all(is_host) {
        return None;
    }
    let port = match port {
        None => ETCD_PORT,
        Some(port) => port.parse().ok().filter(|&port| port != 0)?,
    };
    Some(EtcdEndpoint {
        host: host.to_owned(),
        port,
    })
}

/// What stands behind the question mark.
#[derive(Default)]
struct Options {
    tls: EtcdTls,
    user: String,
    password_file: String,
}

impl Options {
    fn read(query: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .ok()
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("{name} has no value"))?;
            *options.place(name)? = value.into_owned();
        }
        Ok(options)
    }

    fn place(&mut self, name: &str) -> Result<&mut String, String> {
        match name {
            "ca" => Ok(&mut self.tls.ca),
            "cert" => Ok(&mut self.tls.cert),
            "key" => Ok(&mut self.tls.key),
            "user" => Ok(&mut self.user),
            "passwordFile" => Ok(&mut self.password_file),
            other => Err(format!(
                "there is no option {other:?}, only ca, cert, key, user and passwordFile"
            )),
        }
    }
}

impl fmt::Display for EtcdEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(hosts: &[(&str, u16)], prefix: &str) -> EtcdLocation {
        EtcdLocation {
            endpoints: hosts
                .iter()
                .map(|&(host, port)| EtcdEndpoint {
                    host: host.to_owned(),
                    port,
                })
                .collect(),
            prefix: prefix.to_owned(),
            tls: None,
            login: None,
        }
    }

    #[test]
    fn reads_every_kind_of_place() {
        let swarm = |prefix: &str| Location::Swarm {
            prefix: prefix.to_owned(),
        };
        let secure = EtcdLocation {
            tls: Some(EtcdTls {
                ca: "/run/ca.pem".to_owned(),
                cert: "/run/a b.pem".to_owned(),
                key: "/run/key".to_owned(),
            }),
            login: Some(EtcdLogin {
                user: "me".to_owned(),
                password_file: "/run/pw".to_owned(),
            }),
            ..etcd(&[("e", 2379)], "a/b/")
        };
        for (text, expected) in [
            ("acme.json", Location::File("acme.json".into())),
            (
                "/etc/x/acme.json",
                Location::File("/etc/x/acme.json".into()),
            ),
            ("swarm", Location::File("swarm".into())),
            ("swarm:", swarm("tidegate")),
            ("swarm:acme.prod", swarm("acme.prod")),
            (
                "etcd://one:2379,[fd00::1]:1,10.0.0.1/",
                Location::Etcd(etcd(
                    &[("one", 2379), ("fd00::1", 1), ("10.0.0.1", 2379)],
                    "tidegate/",
                )),
            ),
            (
                "ETCD://e",
                Location::Etcd(etcd(&[("e", 2379)], "tidegate/")),
            ),
            (
                "etcds://e/a/b/?ca=/run/ca.pem&cert=/run/a%20b.pem&key=/run/key\
                 &user=me&passwordFile=/run/pw",
                Location::Etcd(secure),
            ),
        ] {
            assert_eq!(Location::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_what_is_expected() {
        for (text, part) in [
            ("", "it is empty"),
            (" ", "it is empty"),
            ("consul://x", "no store \"consul\""),
            ("file:///etc/acme.json", "without file://"),
            ("swarm:a b", "up to 20 letters"),
            ("swarm:.a", "first a letter"),
            ("swarm:abcdefghijklmnopqrstu", "up to 20 letters"),
            ("etcd://", "\"\" is no HOST:PORT"),
            ("etcd://a,,b", "\"\" is no HOST:PORT"),
            ("etcd://a:0", "\"a:0\" is no HOST:PORT"),
            ("etcd://a:b:c", "is no HOST:PORT"),
            ("etcd://[::1", "is no HOST:PORT"),
            ("etcd://me:secret@a:1", "\"..@a:1\": a user is named by"),
            ("etcd://a/b?ca=/x", "belong to etcds://"),
            ("etcds://a?cert=/x", "cert and key go together"),
            ("etcds://a?ca=", "ca has no value"),
            ("etcd://a?user=x", "user and passwordFile go together"),
            ("etcd://a?password=x", "no option \"password\""),
            ("etcd://a/b c", "the prefix is up to"),
        ] {
            let error = Location::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
            assert!(error.contains("expected is a file's path"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
