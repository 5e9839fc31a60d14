//! The challenges of one order: chosen, made answerable, and taken away again.
//!
//! What was presented is withdrawn in every case: in the open when the order is over,
//! behind its back when the order's future is dropped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use instant_acme::{AuthorizationState, ChallengeType};
use tokio::runtime::Handle;
use tracing::warn;

use super::super::OrderError;
use super::signer::Signer;
use super::{Shared, Ways};
use crate::acme::challenge::{Challenge, ChallengeKind};
use crate::acme::dns::Proof;

/// How long an authority may look after it was told to, at the longest.
pub(super) const LOOKING: Duration = Duration::from_secs(180);

/// How long proxies know a challenge if nobody takes it away: longer than an authority
/// looks, as the clocks of other machines may be ahead.
const KNOWN: Duration = Duration::from_secs(3600);

/// Longest token; RFC 8555 §8.1 asks for 128 bits at least, authorities use 256.
const LONGEST_TOKEN: usize = 256;

/// What answers one authorization's challenge.
#[derive(Debug)]
pub(super) struct Answer {
    /// The authorization's address, which identifies it.
    pub(super) url: String,
    /// The name, with `*.` if it has that.
    pub(super) name: String,
    /// Which of the challenges it is.
    pub(super) way: ChallengeType,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Everywhere(Challenge),
    InDns { name: String, proof: Proof },
}

impl Ways {
    /// What is used of what the authority offers, in lego's order.
    pub(super) fn choose(&self, offered: &AuthorizationState) -> Option<ChallengeType> {
        let ways = [
            (self.tls.is_some(), ChallengeType::TlsAlpn01),
            (self.http.is_some(), ChallengeType::Http01),
            (self.dns.is_some(), ChallengeType::Dns01),
        ];
        let wanted = ways.into_iter().filter(|(is_set, _)| *is_set);
        let mut wanted = wanted.map(|(_, way)| way);
        wanted.find(|way| offered.challenges.iter().any(|one| one.r#type == *way))
    }

    fn delay(&self, way: &ChallengeType) -> Duration {
        let delay = match way {
            ChallengeType::TlsAlpn01 => self.tls,
            ChallengeType::Http01 => self.http,
            _ => None,
        };
        delay.unwrap_or_default()
    }

    fn words(&self) -> String {
        let ways = [
            (self.tls.is_some(), "tlsChallenge"),
            (self.http.is_some(), "httpChallenge"),
            (self.dns.is_some(), "dnsChallenge"),
        ];
        let set = ways.into_iter().filter(|(is_set, _)| *is_set);
        set.map(|(_, name)| name).collect::<Vec<_>>().join(" and ")
    }
}

impl Answer {
    /// What answers this authorization.
    pub(super) fn to(
        offered: &AuthorizationState,
        url: &str,
        ways: &Ways,
        signer: &Signer,
    ) -> Result<Self, OrderError> {
        let name = offered.identifier().to_string();
        let Some(way) = ways.choose(offered) else {
            return Err(not_offered(name, offered, ways));
        };
        let token = offered.challenges.iter().find(|one| one.r#type == way);
        let token = token.map(|one| one.token.as_str()).unwrap_or_default();
        if !is_token(token) {
            let message = format!("the token for {name} is none");
            return Err(OrderError::Unreachable(message));
        }
        let key_authorization = signer.key_authorization(token);
        let bare = name.strip_prefix("*.").unwrap_or(&name).to_owned();
        let shown = match challenge_kind(&way) {
            None => Shown::InDns {
                name: bare,
                proof: Proof::new(key_authorization),
            },
            Some(kind) => Shown::Everywhere(Challenge {
                kind,
                name: bare,
                token: token.to_owned(),
                key_authorization,
                expires: SystemTime::now() + ways.delay(&way) + KNOWN,
            }),
        };
        Ok(Self {
            url: url.to_owned(),
            name,
            way,
            shown,
        })
    }

    async fn present(&self, shared: &Shared) -> Result<(), OrderError> {
        let presented = match &self.shown {
            Shown::Everywhere(challenge) => shared
                .announce
                .present(challenge)
                .await
                .map_err(|error| error.to_string()),
            Shown::InDns { name, proof } => match &shared.ways.dns {
                Some(dns) => dns.present(name, proof).await.map_err(|error| {
                    format!("the challenge for {} can't be answered: {error}", self.name)
                }),
                None => Ok(()),
            },
        };
        presented.map_err(OrderError::Local)
    }

    async fn withdraw(&self, shared: &Shared) {
        match &self.shown {
            Shown::Everywhere(challenge) => shared.announce.withdraw(challenge).await,
            Shown::InDns { name, proof } => {
                let Some(dns) = &shared.ways.dns else { return };
                if let Err(error) = dns.cleanup(name, proof).await {
                    warn!(name = self.name, %error, "A challenge's record stays in the DNS");
                }
            }
        }
    }
}

/// All answers of an order. Dropping them takes them away in a task of its own.
#[derive(Debug)]
pub(super) struct Answers {
    shared: Arc<Shared>,
    answers: Vec<Answer>,
}

impl Answers {
    pub(super) fn new(shared: &Arc<Shared>, answers: Vec<Answer>) -> Self {
        Self {
            shared: Arc::clone(shared),
            answers,
        }
    }

    pub(super) fn all(&self) -> &[Answer] {
        &self.answers
    }

    /// Makes all of them answerable, at the same time, and waits as long as the settings ask.
    pub(super) async fn present(&self) -> Result<(), OrderError> {
        let presented = self.answers.iter().map(|one| one.present(&self.shared));
        let presented = join_all(presented).await;
        presented.into_iter().collect::<Result<(), _>>()?;
        let delays = self
            .answers
            .iter()
            .map(|one| self.shared.ways.delay(&one.way));
        tokio::time::sleep(delays.max().unwrap_or_default()).await;
        Ok(())
    }

    /// Takes all of them away.
    pub(super) async fn withdraw(mut self) {
        withdraw(&self.shared, &self.answers).await;
        self.answers.clear();
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        let shared = Arc::clone(&self.shared);
        if answers.is_empty() {
            return;
        }
        // Without a runtime the process ends; what is left expires by itself.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { withdraw(&shared, &answers).await });
        }
    }
}

async fn withdraw(shared: &Shared, answers: &[Answer]) {
    join_all(answers.iter().map(|one| one.withdraw(shared))).await;
}

/// What all proxies answer; nothing for the DNS.
fn challenge_kind(way: &ChallengeType) -> Option<ChallengeKind> {
    match way {
        ChallengeType::Http01 => Some(ChallengeKind::Http01),
        ChallengeType::TlsAlpn01 => Some(ChallengeKind::TlsAlpn01),
        _ => None,
    }
}

/// Whether it is base64url and no more (RFC 8555 §8.1): it becomes part of a path.
fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= LONGEST_TOKEN && text.bytes().all(is_allowed)
}

fn not_offered(name: String, offered: &AuthorizationState, ways: &Ways) -> OrderError {
    let kinds = offered.challenges.iter().map(|one| match &one.r#type {
        ChallengeType::Http01 => "http-01",
        ChallengeType::Dns01 => "dns-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        ChallengeType::Unknown(kind) => kind,
        _ => "others",
    });
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    OrderError::NotValidated {
        name,
        message: format!(
            "the authority offers {kinds}, the resolver has {}",
            ways.words()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_harmless_in_a_path() {
        for good in ["a", "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA"] {
            assert!(is_token(good), "{good}");
        }
        let long = "a".repeat(LONGEST_TOKEN + 1);
        for bad in ["", "..", "a/b", "a.b", "a b", "\u{e4}", &long] {
            assert!(!is_token(bad), "{bad}");
        }
    }
}
