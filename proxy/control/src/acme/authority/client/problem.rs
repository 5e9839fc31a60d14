//! What an authority's refusals mean to us (RFC 8555 §6.7).
//!
//! Everything that goes wrong while talking to one ends here as an [`OrderError`],
//! sorted by what its caller can do about it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use instant_acme::{Error, Problem};
use thiserror::Error as ThisError;
use tidegate_shared::report::Chain;

use super::super::OrderError;
use super::signer::SignerError;

/// Before the names of the problems that ACME defines.
const NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// How much of an answer that is no problem document is shown.
const MOST_SHOWN: usize = 200;

/// How much of an authority's words is kept, characters: they end in logs, stores and the API.
const LONGEST_WORDS: usize = 1000;

/// The longest time that an authority may ask us to wait; more is taken as this.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An answer that is not what was asked for.
#[derive(Debug, ThisError)]
#[error("{}", self.words())]
pub(super) struct Refusal {
    status: StatusCode,
    problem: Problem,
    retry_after: Option<Duration>,
}

/// What was being asked when it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The account.
    Enroll,
    /// Anything about an order.
    Order,
}

impl Refusal {
    /// Reads an answer whose status says that it is one.
    pub(super) fn of(response: &Response<Bytes>, now: SystemTime) -> Self {
        let status = response.status();
        let problem = serde_json::from_slice(response.body());
        Self {
            status,
            problem: problem.unwrap_or_else(|_| no_problem(response.body())),
            retry_after: retry_after(response, now),
        }
    }

    /// Whether the nonce was the trouble, and nothing was looked at.
    pub(super) fn is_bad_nonce(&self) -> bool {
        kind(&self.problem) == "badNonce"
    }

    pub(super) fn is(&self, wanted: &str) -> bool {
        kind(&self.problem) == wanted
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    fn words(&self) -> String {
        let words = words(&self.problem);
        if words.is_empty() {
            return format!("HTTP status {}", self.status);
        }
        words
    }

    fn sorted(&self, step: Step) -> OrderError {
        let is_limit = kind(&self.problem) == "rateLimited"
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || (self.status == StatusCode::SERVICE_UNAVAILABLE && self.retry_after.is_some());
        if is_limit {
            return OrderError::RateLimited {
                message: self.words(),
                retry_after: self.retry_after,
            };
        }
        if self.status.is_server_error() {
            return OrderError::Unreachable(self.words());
        }
        sorted(&self.problem, self.words(), step)
    }
}

/// The kind of a problem, for those that ACME defines.
pub(super) fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.strip_prefix(NAMESPACE).unwrap_or_default()
}

/// A problem in one line: its kind, what it says, and what it says of single names.
pub(super) fn words(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let kind = kind.strip_prefix(NAMESPACE).unwrap_or(kind);
    let mut words = match problem.detail.as_deref() {
        Some(detail) if kind.is_empty() => detail.to_owned(),
        Some(detail) => format!("{detail} ({kind})"),
        None => kind.to_owned(),
    };
    for part in &problem.subproblems {
        let name = part.identifier.as_ref();
        let name = name.map_or_else(String::new, |name| name.authorized(false).to_string());
        let detail = part.detail.as_deref().unwrap_or_default();
        words.push_str(&format!("; {name}: {detail}"));
    }
    if let Some((end, _)) = words.char_indices().nth(LONGEST_WORDS) {
        words.truncate(end);
        words.push_str(" ..");
    }
    words
}

/// Sorts whatever went wrong.
pub(super) fn order_error(error: Error, step: Step) -> OrderError {
    match error {
        Error::Api(problem) => sorted(&problem, words(&problem), step),
        Error::Other(inner) => match inner.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.sorted(step),
            None => foreign(inner.as_ref()),
        },
        Error::Json(error) => OrderError::Unreachable(format!("its answer is no JSON: {error}")),
        Error::Timeout(_) => OrderError::Unreachable("it did not finish in time".to_owned()),
        Error::Crypto | Error::KeyRejected => {
            OrderError::Account("its key can't be used".to_owned())
        }
        Error::Unsupported(what) => OrderError::Refused(format!("it does not offer {what}")),
        other => OrderError::Unreachable(other.to_string()),
    }
}

fn foreign(error: &(dyn std::error::Error + Send + Sync + 'static)) -> OrderError {
    if error.is::<SignerError>() {
        return OrderError::Account(error.to_string());
    }
    OrderError::Unreachable(Chain(error).to_string())
}

fn sorted(problem: &Problem, words: String, step: Step) -> OrderError {
    match kind(problem) {
        "rateLimited" => OrderError::RateLimited {
            message: words,
            retry_after: None,
        },
        // A nonce that is bad again and again is the authority's trouble, and an order
        // that is not ready yet will be.
        "badNonce" | "serverInternal" | "orderNotReady" => OrderError::Unreachable(words),
        "accountDoesNotExist"
        | "userActionRequired"
        | "externalAccountRequired"
        | "invalidContact"
        | "unsupportedContact"
        | "badPublicKey"
        | "badSignatureAlgorithm"
        // Of a name's control we are told in a challenge, which does not come here.
        | "unauthorized" => OrderError::Account(words),
        _ if step == Step::Enroll => OrderError::Account(words),
        _ => OrderError::Refused(words),
    }
}

/// Whether a nonce was refused even after the library's own tries.
pub(super) fn is_bad_nonce(error: &Error) -> bool {
    match error {
        Error::Api(problem) => kind(problem) == "badNonce",
        Error::Other(inner) => inner
            .downcast_ref::<Refusal>()
            .is_some_and(Refusal::is_bad_nonce),
        _ => false,
    }
}

/// The refusal inside, if the authority did refuse.
pub(super) fn refusal(error: &Error) -> Option<&Refusal> {
    match error {
        Error::Other(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// What stands in for a problem document where there is none: the start of the text.
fn no_problem(body: &[u8]) -> Problem {
    let text = String::from_utf8_lossy(body);
    let shown = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = shown.chars().take(MOST_SHOWN).collect();
    Problem {
        r#type: None,
        detail: Some(shown).filter(|shown| !shown.is_empty()),
        status: None,
        subproblems: Vec::new(),
    }
}

/// How long an answer asks us to wait (RFC 9110 §10.2.3).
pub(super) fn retry_after(response: &Response<Bytes>, now: SystemTime) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let when = httpdate::parse_http_date(value).ok()?;
            when.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}
