//! What is sent again: HAProxy's `retry-on`, as a set.

use smallvec::SmallVec;
use thiserror::Error;

/// Statuses that can be asked for.
const STATUSES: [u16; 12] = [401, 403, 404, 408, 421, 425, 429, 500, 501, 502, 503, 504];

/// What `all-retryable-errors` stands for among them.
const RETRYABLE: [u16; 4] = [500, 502, 503, 504];

/// Failures and statuses after which a request is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// Nothing was sent, because there was no connection.
    pub(super) conn_failure: bool,
    /// The connection ended before a byte of the answer.
    pub(super) empty_response: bool,
    /// What came was not a whole head of a response.
    pub(super) junk_response: bool,
    /// The answer took too long.
    pub(super) response_timeout: bool,
    /// A lost connection is made good at least where that can't hurt. This is no
    /// word of HAProxy's; only `none` turns it off.
    pub(super) lost_race: bool,
    statuses: SmallVec<[u16; 12]>,
}

/// A list that can't be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RetryOnError {
    /// HAProxy doesn't know it either.
    #[error("`{0}` is nothing that can be tried again")]
    Unknown(String),
    /// It would contradict the rest of the list.
    #[error("`none` goes with nothing else")]
    NoneAndMore,
}

impl Default for RetryOn {
    fn default() -> Self {
        let mut on = Self::none();
        on.conn_failure = true;
        on.lost_race = true;
        on
    }
}

impl RetryOn {
    fn none() -> Self {
        Self {
            conn_failure: false,
            empty_response: false,
            junk_response: false,
            response_timeout: false,
            lost_race: false,
            statuses: SmallVec::new(),
        }
    }

    /// Reads HAProxy's words. No words are `conn-failure`, as there.
    ///
    /// # Errors
    /// A word is unknown, or `none` is not alone.
    pub fn parse(words: &[String]) -> Result<Self, RetryOnError> {
        if words.is_empty() {
            return Ok(Self::default());
        }
        let mut on = Self::none();
        if words.iter().any(|word| word == "none") {
            let is_alone = words.len() == 1;
            return is_alone.then_some(on).ok_or(RetryOnError::NoneAndMore);
        }
        on.lost_race = true;
        for word in words {
            on.add(word)?;
        }
        Ok(on)
    }

    fn add(&mut self, word: &str) -> Result<(), RetryOnError> {
        match word {
            "conn-failure" => self.conn_failure = true,
            "empty-response" => self.empty_response = true,
            "junk-response" => self.junk_response = true,
            "response-timeout" => self.response_timeout = true,
            // No request is sent to a server before the handshake is over.
            "0rtt-rejected" => {}
            "all-retryable-errors" => {
                self.conn_failure = true;
                self.empty_response = true;
                self.junk_response = true;
                self.response_timeout = true;
                self.statuses.extend(RETRYABLE);
            }
            status => {
                let known = status.parse().ok().filter(|code| STATUSES.contains(code));
                let code = known.ok_or_else(|| RetryOnError::Unknown(status.to_owned()))?;
                self.statuses.push(code);
            }
        }
        Ok(())
    }

    /// Whether a response with this status is not good enough.
    pub(super) fn takes_status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// Whether a request may be sent again that a server has acted upon, so that
    /// more of it has to be kept.
    pub(super) fn reaches_servers(&self) -> bool {
        self.empty_response
            || self.junk_response
            || self.response_timeout
            || !self.statuses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<RetryOn, RetryOnError> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        RetryOn::parse(&words)
    }

    #[test]
    fn lists_are_haproxys() {
        assert_eq!(parse(&[]), Ok(RetryOn::default()));
        assert_eq!(parse(&["conn-failure"]), Ok(RetryOn::default()));
        assert_eq!(parse(&["none"]), Ok(RetryOn::none()));
        assert!(
            !parse(&["conn-failure", "0rtt-rejected"])
                .unwrap()
                .reaches_servers()
        );
        let all = parse(&["all-retryable-errors", "404"]).unwrap();
        assert!(all.conn_failure && all.junk_response && all.response_timeout);
        for (status, expected) in [(404, true), (500, true), (501, false), (200, false)] {
            assert_eq!(all.takes_status(status), expected, "{status}");
        }
        let empty = parse(&["empty-response"]).unwrap();
        assert!(empty.reaches_servers() && empty.lost_race && !empty.conn_failure);
    }

    #[test]
    fn other_lists_are_refused() {
        assert_eq!(
            parse(&["none", "503"]).unwrap_err(),
            RetryOnError::NoneAndMore
        );
        for word in ["5xx", "505", "200", "", "Conn-Failure"] {
            let unknown = RetryOnError::Unknown(word.to_owned());
            assert_eq!(parse(&[word]).unwrap_err(), unknown);
        }
    }
}
