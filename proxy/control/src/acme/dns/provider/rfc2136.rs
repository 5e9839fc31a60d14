//! Dynamic updates (RFC 2136), signed with TSIG (RFC 8945): lego's `rfc2136`, which it
//! also calls `dnsupdate`.
//!
//! Unlike lego's it leaves other values of the name alone, so that a name and its
//! wildcard can be validated at the same time.

use std::time::{Duration, SystemTime};

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record as DnsRecord, RecordType};

use super::super::client::Client;
use super::super::lookup::{Lookup, address, lookup_error, with_port, words};
use super::super::solver::{Pace, Provider, Record};
use super::super::tsig::{Key, SignatureError};
use super::super::variables::Variables;
use super::{DnsError, failed};

const CODE: &str = "rfc2136";

/// lego's algorithm where none is named.
const ALGORITHM: &str = "hmac-sha1";

/// The largest key file.
const LARGEST_KEY_FILE: u64 = 64 * 1024;

/// A server that takes updates.
#[derive(Debug)]
pub(super) struct Rfc2136 {
    /// `HOST:PORT`.
    server: String,
    key: Option<Key>,
    ttl: u32,
    pace: Pace,
    client: Client,
    /// Asks the same server, for zones.
    lookup: Lookup,
    /// Zones that need not be looked for, longest first.
    zones: Vec<Name>,
}

/// What is done to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
}

impl Rfc2136 {
    /// From `DNSUPDATE_..` or `RFC2136_..`.
    pub(super) fn new(variables: Variables<'_>, lookup: &Lookup) -> Result<Self, DnsError> {
        let server =
            with_port(&variables.required(&["DNSUPDATE_NAMESERVER", "RFC2136_NAMESERVER"])?);
        let timeout = variables.seconds(&["DNSUPDATE_DNS_TIMEOUT", "RFC2136_DNS_TIMEOUT"], 10);
        let client = Client {
            timeout: timeout.max(Duration::from_secs(1)),
            ..lookup.client
        };
        Ok(Self {
            key: key(variables)?,
            ttl: variables.number(&["DNSUPDATE_TTL", "RFC2136_TTL"], 120),
            pace: pace(variables),
            zones: zones(variables)?,
            client,
            lookup: lookup.only(server.clone(), client),
            server,
        })
    }

    /// The pause between two records that the settings ask for.
    pub(super) fn sequence(variables: Variables<'_>) -> Option<Duration> {
        variables.seconds_if_set(&["DNSUPDATE_SEQUENCE_INTERVAL", "RFC2136_SEQUENCE_INTERVAL"])
    }

    async fn change(&self, change: Change, record: &Record) -> Result<(), DnsError> {
        let zone = self.zone(&record.name).await?;
        let mut update = update(&zone, self.change_record(change, record));
        let now = SystemTime::now();
        let signed = match &self.key {
            Some(key) => Some(key.sign(&mut update, now).map_err(|e| failed(CODE, &e))?),
            None => None,
        };
        let server = address(&self.server).await?;
        let answer = self.client.exchange(server, &update).await;
        let answer = answer.map_err(|error| failed(CODE, &lookup_error(&error)))?;
        let checked =
            signed.map(|signed| signed.check(&answer.message, &answer.bytes, SystemTime::now()));
        self.outcome(answer.message.metadata.response_code, checked, &zone)
    }

    async fn zone(&self, name: &Name) -> Result<Name, DnsError> {
        if self.zones.is_empty() {
            let zone = self.lookup.zone(name).await;
            return zone.map_err(|error| failed(CODE, &error));
        }
        let zone = self.zones.iter().find(|zone| zone.zone_of(name));
        let message = || format!("{name} is in none of the zones of RFC2136_ZONES");
        zone.cloned().ok_or_else(|| failed(CODE, &message()))
    }

    /// A record to add, or one of class NONE for the one to delete (RFC 2136 §2.5.4).
    fn change_record(&self, change: Change, record: &Record) -> DnsRecord {
        let data = RData::TXT(TXT::new(vec![record.proof.value().to_owned()]));
        let mut changed = DnsRecord::from_rdata(record.name.clone(), self.ttl, data);
        if change == Change::Remove {
            changed.ttl = 0;
            changed.dns_class = DNSClass::NONE;
        }
        changed
    }

    fn outcome(
        &self,
        code: ResponseCode,
        checked: Option<Result<(), SignatureError>>,
        zone: &Name,
    ) -> Result<(), DnsError> {
        let server = &self.server;
        match (code, checked) {
            (ResponseCode::NoError, None | Some(Ok(()))) => Ok(()),
            (ResponseCode::NoError, Some(Err(error))) => Err(failed(
                CODE,
                &format!("{server} may have changed {zone}, but {error}"),
            )),
            // What is wrong with the key says more than the code does.
            (_, Some(Err(error))) if error != SignatureError::Missing => Err(failed(
                CODE,
                &format!("{server} did not change {zone}: {error}"),
            )),
            (code, _) => {
                let words = words(code);
                Err(failed(
                    CODE,
                    &format!("{server} did not change {zone}: {words}"),
                ))
            }
        }
    }
}

impl Provider for Rfc2136 {
    fn code(&self) -> &'static str {
        CODE
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    async fn add(&self, record: &Record) -> Result<(), DnsError> {
        self.change(Change::Add, record).await
    }

    async fn remove(&self, record: &Record) -> Result<(), DnsError> {
        self.change(Change::Remove, record).await
    }
}

fn update(zone: &Name, changed: DnsRecord) -> Message {
    let mut update = Message::query();
    update.metadata.op_code = OpCode::Update;
    update.metadata.recursion_desired = false;
    update.add_query(Query::query(zone.clone(), RecordType::SOA));
    update.add_authority(changed);
    update
}

fn pace(variables: Variables<'_>) -> Pace {
    let timeout = [
        "DNSUPDATE_PROPAGATION_TIMEOUT",
        "RFC2136_PROPAGATION_TIMEOUT",
        "DNSUPDATE_TIMEOUT",
        "RFC2136_TIMEOUT",
    ];
    let interval = ["DNSUPDATE_POLLING_INTERVAL", "RFC2136_POLLING_INTERVAL"];
    Pace {
        timeout: variables.seconds(&timeout, 60),
        interval: variables.seconds(&interval, 2),
    }
}

/// Without a name or a secret updates are not signed, as in lego.
fn key(variables: Variables<'_>) -> Result<Option<Key>, DnsError> {
    let algorithm = variables.text(&["DNSUPDATE_TSIG_ALGORITHM", "RFC2136_TSIG_ALGORITHM"]);
    let parts = match variables.text(&["DNSUPDATE_TSIG_FILE", "RFC2136_TSIG_FILE"]) {
        Some(path) => KeyParts::read(&path)?,
        None => KeyParts {
            name: variables.text(&["DNSUPDATE_TSIG_KEY", "RFC2136_TSIG_KEY"]),
            secret: variables.text(&["DNSUPDATE_TSIG_SECRET", "RFC2136_TSIG_SECRET"]),
            algorithm,
        },
    };
    let (Some(name), Some(secret)) = (parts.name, parts.secret) else {
        return Ok(None);
    };
    let algorithm = parts.algorithm.as_deref().unwrap_or(ALGORITHM);
    let key = Key::new(&name, algorithm, &secret);
    key.map(Some)
        .map_err(|error| DnsError::Settings(format!("{CODE}: {error}")))
}

/// `RFC2136_ZONES`, separated by commas.
fn zones(variables: Variables<'_>) -> Result<Vec<Name>, DnsError> {
    let text = variables.text(&["DNSUPDATE_ZONES", "RFC2136_ZONES"]);
    let text = text.unwrap_or_default();
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let mut zones = Vec::new();
    for text in names {
        let unusable = |error| DnsError::Settings(format!("{CODE}: zone {text:?}: {error}"));
        let mut zone = Name::from_ascii(text).map_err(unusable)?;
        zone.set_fqdn(true);
        zones.push(zone);
    }
    zones.sort_by_key(|zone| std::cmp::Reverse(zone.num_labels()));
    Ok(zones)
}

/// What a file of `tsig-keygen` says.
#[derive(Default)]
struct KeyParts {
    name: Option<String>,
    algorithm: Option<String>,
    secret: Option<String>,
}

impl KeyParts {
    fn read(path: &str) -> Result<Self, DnsError> {
        use std::io::Read as _;
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(LARGEST_KEY_FILE).read_to_string(&mut text))
            .map_err(|error| DnsError::Settings(format!("{CODE}: key file {path:?}: {error}")))?;
        let parts = Self::parse(&text);
        if parts.name.is_none() || parts.secret.is_none() {
            let message = format!("{CODE}: {path:?} is no file of tsig-keygen");
            return Err(DnsError::Settings(message));
        }
        Ok(parts)
    }

    /// The first key: `key "NAME" { algorithm A; secret "S"; };`.
    fn parse(text: &str) -> Self {
        let spaced = text.replace(['{', '}', ';', '"'], " ");
        let mut words = spaced.split_whitespace();
        let mut parts = Self::default();
        while let Some(word) = words.next() {
            let place = match word {
                "key" if parts.name.is_some() => break,
                "key" => &mut parts.name,
                "algorithm" => &mut parts.algorithm,
                "secret" => &mut parts.secret,
                _ => continue,
            };
            *place = words.next().map(str::to_owned);
        }
        parts
    }
}

#[cfg(test)]
mod tests;
