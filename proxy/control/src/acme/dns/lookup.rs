//! What has to be found out in the DNS before a record is put there: where a name's
//! CNAMEs lead, which zone it is in, who serves that zone.
//!
//! Asks the recursive resolvers of the settings, else those of this machine. What they
//! say is hostile: every walk is bounded, circles are seen.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::lookup_host;
use tracing::{debug, info};

use super::DnsError;
use super::client::{AskError, Client};

/// Where this machine's resolvers are written.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Who is asked when a machine has none, as in lego.
const PUBLIC: [&str; 4] = [
    "1.1.1.1:53",
    "1.0.0.1:53",
    "[2606:4700:4700::1111]:53",
    "[2606:4700:4700::1001]:53",
];

/// How many CNAMEs are followed, as in lego.
const MOST_ALIASES: usize = 50;

/// How many servers of a zone are asked, and addresses of each.
const MOST_SERVERS: usize = 16;

/// The port of DNS servers.
pub(super) const PORT: u16 = 53;

/// Finds things out, by way of recursive resolvers.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) client: Client,
    /// `HOST:PORT` each.
    resolvers: Vec<String>,
    /// Where the servers of zones listen; only tests have another.
    pub(super) server_port: u16,
}

/// A zone's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: Name,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Lookup {
    /// Asks `resolvers` (`HOST` or `HOST:PORT`), or this machine's if there are none.
    pub(super) fn new(client: Client, resolvers: &[String]) -> Self {
        let resolvers: Vec<String> = resolvers.iter().map(|text| with_port(text)).collect();
        let of_machine = || {
            let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
            Some(nameservers(&text)).filter(|servers| !servers.is_empty())
        };
        let public = || PUBLIC.map(str::to_owned).to_vec();
        Self {
            client,
            resolvers: Some(resolvers)
                .filter(|given| !given.is_empty())
                .or_else(of_machine)
                .unwrap_or_else(public),
            server_port: PORT,
        }
    }

    /// The same, asking only `server`, by `client`.
    pub(super) fn only(&self, server: String, client: Client) -> Self {
        Self {
            client,
            resolvers: vec![server],
            server_port: self.server_port,
        }
    }

    /// The resolvers, each with its addresses.
    pub(super) fn resolvers(&self) -> &[String] {
        &self.resolvers
    }

    /// Where the CNAMEs of `name` lead in the end; `name` itself if there are none or the
    /// resolvers do not answer.
    pub(super) async fn follow(&self, name: &Name) -> Result<Name, DnsError> {
        let mut seen = vec![name.clone()];
        let mut current = name.clone();
        for _ in 0..MOST_ALIASES {
            let answer = match self.ask(&current, RecordType::CNAME).await {
                Ok(answer) if answer.metadata.response_code == ResponseCode::NoError => answer,
                Ok(_) => return Ok(current),
                Err(error) => {
                    debug!(name = %current, %error, "It can't be seen whether a challenge's name is an alias");
                    return Ok(current);
                }
            };
            let Some(target) = alias(&answer, &current) else {
                return Ok(current);
            };
            if seen.contains(&target) {
                break;
            }
            info!(name = %current, alias = %target, "A challenge's name is an alias");
            seen.push(target.clone());
            current = target;
        }
        let message = format!("the CNAMEs of {name} lead in a circle, or are too many");
        Err(DnsError::Lookup(message))
    }

    /// The zone that `name` is in: the nearest name above that has an SOA record.
    pub(super) async fn zone(&self, name: &Name) -> Result<Name, DnsError> {
        let mut current = name.clone();
        let mut last = None;
        while !current.is_root() {
            match self.ask(&current, RecordType::SOA).await {
                Ok(answer) => {
                    let code = answer.metadata.response_code;
                    if ![ResponseCode::NoError, ResponseCode::NXDomain].contains(&code) {
                        let who = self.resolvers.join(", ");
                        let message = format!("{who}: the zone of {name}: {}", words(code));
                        return Err(DnsError::Lookup(message));
                    }
                    if let Some(zone) = apex(&answer, &current) {
                        return Ok(zone);
                    }
                }
                Err(error) => last = Some(error),
            }
            current = current.base_name();
        }
        Err(last.unwrap_or_else(|| DnsError::Lookup(format!("no zone is found that {name} is in"))))
    }

    /// The servers of a zone, with their addresses.
    pub(super) async fn servers(&self, zone: &Name) -> Result<Vec<Server>, DnsError> {
        let answer = self.ask(zone, RecordType::NS).await?;
        let names = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(server) => Some(server.0.clone()),
                _ => None,
            });
        let mut servers = Vec::new();
        for name in names.take(MOST_SERVERS) {
            let addresses = self.addresses(&name).await?;
            servers.push(Server { name, addresses });
        }
        if servers.is_empty() {
            let message = format!("no servers of the zone {zone} are found");
            return Err(DnsError::Lookup(message));
        }
        Ok(servers)
    }

    async fn addresses(&self, name: &Name) -> Result<Vec<SocketAddr>, DnsError> {
        let mut addresses = Vec::new();
        let mut last = None;
        for kind in [RecordType::A, RecordType::AAAA] {
            // One family is enough.
            let answer = match self.ask(name, kind).await {
                Ok(answer) => answer,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            addresses.extend(answer.answers.iter().filter_map(|record| {
                let ip: IpAddr = match &record.data {
                    RData::A(address) => address.0.into(),
                    RData::AAAA(address) => address.0.into(),
                    _ => return None,
                };
                Some(SocketAddr::new(ip, self.server_port))
            }));
        }
        addresses.truncate(MOST_SERVERS);
        if addresses.is_empty() {
            let none = || DnsError::Lookup(format!("{name} has no address"));
            return Err(last.unwrap_or_else(none));
        }
        Ok(addresses)
    }

    /// The first resolver's answer that has records, else the last one's.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
        let mut last = None;
        for resolver in &self.resolvers {
            let answer = self.ask_one(resolver, name, kind).await;
            if matches!(&answer, Ok(answer) if !answer.answers.is_empty()) {
                return answer;
            }
            // An answer without records is still better than none.
            if answer.is_ok() || last.is_none() {
                last = Some(answer);
            }
        }
        last.unwrap_or_else(|| Err(DnsError::Lookup("there is no resolver to ask".to_owned())))
    }

    /// One resolver's answer.
    pub(super) async fn ask_one(
        &self,
        resolver: &str,
        name: &Name,
        kind: RecordType,
    ) -> Result<Message, DnsError> {
        let server = address(resolver).await?;
        let answer = self.client.ask(server, name, kind, true).await;
        answer.map_err(|error| lookup_error(&error))
    }
}

/// With the reason behind it, as it is the whole message that a user sees.
pub(super) fn lookup_error(error: &AskError) -> DnsError {
    let cause = std::error::Error::source(error);
    DnsError::Lookup(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
}

/// The first address of `HOST:PORT`.
pub(super) async fn address(server: &str) -> Result<SocketAddr, DnsError> {
    let unusable = |why: String| DnsError::Lookup(format!("{server} has no address: {why}"));
    let mut found = lookup_host(server)
        .await
        .map_err(|error: io::Error| unusable(error.to_string()))?;
    found
        .next()
        .ok_or_else(|| unusable("nothing found".to_owned()))
}

/// `HOST` or `HOST:PORT`, an IPv6 address with or without brackets, as `HOST:PORT`.
pub(super) fn with_port(text: &str) -> String {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(ip) = IpAddr::from_str(bare) {
        return SocketAddr::new(ip, PORT).to_string();
    }
    if text.contains(':') {
        return text.to_owned();
    }
    format!("{text}:{PORT}")
}

/// The resolvers that a resolv.conf names.
fn nameservers(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::split_whitespace);
    lines
        .filter_map(|mut words| {
            let is_server = words.next() == Some("nameserver");
            let ip: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
            Some(SocketAddr::new(ip, PORT).to_string())
        })
        .collect()
}

/// What `name` is an alias of.
fn alias(answer: &Message, name: &Name) -> Option<Name> {
    answer.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some(target.0.clone()),
        _ => None,
    })
}

/// The owner of the SOA record in an answer about `asked`. An alias can't be the top
/// of a zone; what it points to is another name's zone.
fn apex(answer: &Message, asked: &Name) -> Option<Name> {
    let is_alias = |data: &RData| matches!(data, RData::CNAME(_));
    if answer.answers.iter().any(|record| is_alias(&record.data)) {
        return None;
    }
    let soa = answer
        .answers
        .iter()
        .find(|record| matches!(record.data, RData::SOA(_)))?;
    (soa.name == *asked).then(|| asked.clone())
}

/// A response code in words.
pub(super) fn words(code: ResponseCode) -> String {
    let meaning = match code {
        ResponseCode::NoError => "done",
        ResponseCode::FormErr => "the server can't read the message",
        ResponseCode::ServFail => "the server fails",
        ResponseCode::NXDomain => "the name does not exist",
        ResponseCode::NotImp => "the server can't do this",
        ResponseCode::Refused => "the server refuses",
        ResponseCode::NotAuth => "the server has no authority for the zone, or the key is wrong",
        ResponseCode::NotZone => "the name is not in the zone",
        other => return format!("the server says {other} ({})", u16::from(other)),
    };
    format!("{meaning} ({code})")
}

#[cfg(test)]
mod tests;
