//! When a record counts as being there.
//!
//! As in Traefik: every server of the zone must have it (unless those checks are off),
//! and every recursive resolver if that is asked for. The zone's servers are asked
//! first: a resolver that is asked too early remembers for a while that there is nothing.

use std::time::Duration;

use futures_util::future::{select_ok, try_join_all};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::lookup::{Lookup, Server, lookup_error, words};
use super::{DnsError, Pace};
use crate::config::startup::DnsChallenge;

/// Which checks there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checks {
    servers: bool,
    resolvers: bool,
    delay: Duration,
}

impl Checks {
    /// From the settings, v2's names included.
    pub(super) fn new(settings: &DnsChallenge) -> Self {
        let given = settings.propagation.unwrap_or_default();
        let none = given.disable_checks || settings.disable_propagation_check;
        let delay = given
            .delay_before_checks
            .0
            .max(settings.delay_before_check.0);
        Self {
            servers: !none && !given.disable_ans_checks,
            resolvers: !none && given.require_all_rns,
            delay,
        }
    }

    /// Returns when `value` is among the TXT records of `name` wherever it must be.
    pub(super) async fn wait(
        self,
        lookup: &Lookup,
        name: &Name,
        value: &str,
        pace: Pace,
    ) -> Result<(), DnsError> {
        sleep(self.delay).await;
        if !self.servers && !self.resolvers {
            return Ok(());
        }
        let deadline = Instant::now() + pace.timeout;
        let mut servers = None;
        loop {
            // Servers that do not answer must not hold us for much longer than the deadline.
            let check = self.once(lookup, name, value, &mut servers);
            let Err(error) = timeout_at(deadline + lookup.client.timeout, check)
                .await
                .unwrap_or_else(|_| Err(too_slow()))
            else {
                return Ok(());
            };
            debug!(%name, %error, "A challenge's record is not seen yet");
            if Instant::now() + pace.interval > deadline {
                return Err(DnsError::NotSeen {
                    name: name.to_ascii(),
                    seconds: pace.timeout.as_secs(),
                    last: error.to_string(),
                });
            }
            sleep(pace.interval).await;
        }
    }

    async fn once(
        self,
        lookup: &Lookup,
        name: &Name,
        value: &str,
        known: &mut Option<(Name, Vec<Server>)>,
    ) -> Result<(), DnsError> {
        if self.servers {
            let (target, servers) = match known {
                Some(found) => found,
                None => known.insert(find(lookup, name).await?),
            };
            let target = &*target;
            let each = servers.iter().map(|s| at_server(lookup, s, target, value));
            try_join_all(each).await?;
        }
        if self.resolvers {
            let resolvers = lookup.resolvers().iter();
            let each = resolvers.map(|at| at_resolver(lookup, at, name, value));
            try_join_all(each).await?;
        }
        Ok(())
    }
}

/// The name behind the aliases, and the servers of its zone.
async fn find(lookup: &Lookup, name: &Name) -> Result<(Name, Vec<Server>), DnsError> {
    let target = lookup.follow(name).await?;
    let zone = lookup.zone(&target).await?;
    let servers = lookup.servers(&zone).await?;
    Ok((target, servers))
}

/// One server of the zone, at whichever of its addresses answers first.
async fn at_server(
    lookup: &Lookup,
    server: &Server,
    name: &Name,
    value: &str,
) -> Result<(), DnsError> {
    let client = lookup.client;
    let asked = server
        .addresses
        .iter()
        .map(|address| Box::pin(client.ask(*address, name, RecordType::TXT, false)));
    let asked: Vec<_> = asked.collect();
    if asked.is_empty() {
        return Err(DnsError::Lookup(format!("{} has no address", server.name)));
    }
    let (answer, _) = select_ok(asked)
        .await
        .map_err(|error| lookup_error(&error))?;
    has(&answer, value, &server.name.to_ascii())
}

fn too_slow() -> DnsError {
    DnsError::Lookup("the servers take too long to answer".to_owned())
}

async fn at_resolver(
    lookup: &Lookup,
    resolver: &str,
    name: &Name,
    value: &str,
) -> Result<(), DnsError> {
    let answer = lookup.ask_one(resolver, name, RecordType::TXT).await?;
    has(&answer, value, resolver)
}

/// Whether the answer holds the value.
fn has(answer: &Message, value: &str, who: &str) -> Result<(), DnsError> {
    let code = answer.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(DnsError::Lookup(format!("{who}: {}", words(code))));
    }
    let is_it = |data: &RData| match data {
        RData::TXT(text) => text.txt_data.concat() == value.as_bytes(),
        _ => false,
    };
    if answer.answers.iter().any(|record| is_it(&record.data)) {
        return Ok(());
    }
    Err(DnsError::Lookup(format!("{who} does not have the record")))
}

#[cfg(test)]
mod tests;
