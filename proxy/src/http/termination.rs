//! How requests end, and why they were sent again, in the manner of HAProxy's
//! log. What is decided elsewhere gets its letters here.

use std::fmt;

use super::ErrorKind;

/// Who ended a request and in which phase, in two letters as HAProxy writes them.
///
/// The first one: `C` the client, `S` the server, `P` the proxy, `c` and `s` a
/// time-out of theirs. The second one: `R` while the request was read, `Q` in the
/// queue, `C` while a server was connected to, `H` before the head of the
/// response, `D` in its body. `--` is the normal end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination([u8; 2]);

impl Termination {
    /// Nobody broke it off.
    pub const NORMAL: Self = Self(*b"--");
    /// The client left the queue.
    pub const CLIENT_IN_QUEUE: Self = Self(*b"CQ");
    /// The client left before there was an answer.
    pub const CLIENT_BEFORE_HEAD: Self = Self(*b"CH");
    /// The client did not take the whole response.
    pub const CLIENT_IN_DATA: Self = Self(*b"CD");
    /// The server did not send the whole response.
    pub const SERVER_IN_DATA: Self = Self(*b"SD");

    /// The end of a request that failed.
    pub const fn of(kind: ErrorKind) -> Self {
        Self(*match kind {
            ErrorKind::BadRequest
            | ErrorKind::Misdirected
            | ErrorKind::NotImplemented
            | ErrorKind::HeadTooLarge
            | ErrorKind::NoRouter => b"PR",
            ErrorKind::ClientGone => b"CH",
            ErrorKind::ClientTimeout => b"cH",
            ErrorKind::QueueFull => b"SQ",
            ErrorKind::QueueTimeout => b"sQ",
            ErrorKind::NoServer | ErrorKind::Connect => b"SC",
            ErrorKind::ConnectTimeout => b"sC",
            ErrorKind::ConnectionLost => b"SH",
            ErrorKind::ResponseTimeout => b"sH",
            ErrorKind::BadResponse | ErrorKind::Internal => b"PH",
        })
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Default for Termination {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// No server got anything of it.
    Connect,
    /// The connection was gone before a byte of the answer.
    Lost,
    /// The answer was not HTTP, or broke off in its head.
    Junk,
    /// The answer took too long.
    Timeout,
    /// The answer had a status that is tried again.
    Status,
}

impl RetryCause {
    /// Every cause, in order.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Lost,
        Self::Junk,
        Self::Timeout,
        Self::Status,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Lost => "lost",
            Self::Junk => "junk",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_haproxys_letters() {
        let letters = ErrorKind::ALL.map(|kind| Termination::of(kind).to_string());
        let expected = [
            "PR", "PR", "PR", "PR", "CH", "cH", "PR", "SC", "SQ", "sQ", "SC", "sC", "SH", "sH",
            "PH", "PH",
        ];
        assert_eq!(letters, expected);
        assert_eq!(Termination::default().as_str(), "--");
    }

    #[test]
    fn causes_are_counted_by_their_place() {
        for (place, cause) in RetryCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place, "{}", cause.name());
        }
    }
}
