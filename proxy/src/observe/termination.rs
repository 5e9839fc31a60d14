//! How a request ended, in two letters, in the manner of HAProxy's log.
//!
//! [`Termination`] holds what was noted on the way; this adds what only the end
//! tells. `LR`: the proxy answered without a service (a redirect, a refusal of a
//! middleware, the API). `CR`: the client left before a service was reached. `IH`:
//! a panic. A body of known length that was sent to its last byte is whole, though
//! nobody asked for its end. Called once for each request that is logged.

use ::http::{Method, StatusCode};

use crate::http::{Exchange, Termination};

/// The two letters of `exchange` at its end. `length` is that of the response's
/// body, if it was known before.
pub(super) fn termination(exchange: &Exchange, length: Option<u64>) -> [u8; 2] {
    let noted = exchange.termination.get();
    let is_served = exchange.is_served.get();
    match exchange.status.get() {
        _ if exchange.failure.get().is_some() => letters(noted),
        None if std::thread::panicking() => *b"IH",
        None if !is_served => *b"CR",
        None if noted == Termination::NORMAL => letters(Termination::CLIENT_BEFORE_HEAD),
        Some(_) if !is_served => *b"LR",
        Some(status)
            if noted == Termination::CLIENT_IN_DATA && is_whole(exchange, status, length) =>
        {
            letters(Termination::NORMAL)
        }
        _ => letters(noted),
    }
}

fn letters(termination: Termination) -> [u8; 2] {
    let text = termination.as_str().as_bytes();
    text.try_into().unwrap_or(*b"--")
}

/// Whether nothing was left to send of a body whose end nobody took.
fn is_whole(exchange: &Exchange, status: StatusCode, length: Option<u64>) -> bool {
    let has_none = matches!(
        status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    has_none || exchange.method == Method::HEAD || length == Some(exchange.response_bytes.get())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::http::{ErrorKind, testing};

    fn exchange(method: &str) -> Rc<Exchange> {
        let exchange = testing::request(method, "/").exchange;
        exchange.is_served.set(true);
        *exchange.server.borrow_mut() = Some("http://10.0.0.1".into());
        exchange
    }

    fn state(exchange: &Exchange, length: Option<u64>) -> String {
        String::from_utf8(termination(exchange, length).to_vec()).unwrap()
    }

    #[test]
    fn a_failure_is_what_it_was() {
        let rows = [
            (ErrorKind::QueueTimeout, "sQ"),
            (ErrorKind::QueueFull, "SQ"),
            (ErrorKind::NoServer, "SC"),
            (ErrorKind::ConnectTimeout, "sC"),
            (ErrorKind::ConnectionLost, "SH"),
            (ErrorKind::ResponseTimeout, "sH"),
            (ErrorKind::BadResponse, "PH"),
            (ErrorKind::NoRouter, "PR"),
        ];
        for (failure, expected) in rows {
            let exchange = exchange("GET");
            exchange.status.set(Some(StatusCode::BAD_GATEWAY));
            exchange.failure.set(Some(failure));
            exchange.termination.set(Termination::of(failure));
            assert_eq!(state(&exchange, None), expected);
        }
    }

    #[test]
    fn a_client_that_leaves_is_seen_where_it_was() {
        let waiting = exchange("GET");
        waiting.enter_queue();
        assert_eq!(state(&waiting, None), "CQ");
        waiting.leave_queue();
        assert_eq!(state(&waiting, None), "CH");
        assert_eq!(state(&exchange("GET"), None), "CH");
        let early = testing::request("GET", "/").exchange;
        assert_eq!(state(&early, None), "CR");
    }

    #[test]
    fn bodies_end_well_or_on_one_side() {
        const CUT: Termination = Termination::CLIENT_IN_DATA;
        let rows = [
            ("GET", 200, Termination::NORMAL, None, "--"),
            ("GET", 200, Termination::SERVER_IN_DATA, Some(9), "SD"),
            ("GET", 200, CUT, None, "CD"),
            ("GET", 200, CUT, Some(9), "CD"),
            ("GET", 200, CUT, Some(5), "--"),
            ("HEAD", 200, CUT, Some(9), "--"),
            ("GET", 304, CUT, Some(9), "--"),
            ("GET", 101, CUT, None, "--"),
        ];
        for (method, status, noted, length, expected) in rows {
            let exchange = exchange(method);
            exchange.status.set(StatusCode::from_u16(status).ok());
            exchange.termination.set(noted);
            exchange.response_bytes.set(5);
            let state = state(&exchange, length);
            assert_eq!(state, expected, "{method} {status} {noted}");
        }
    }

    #[test]
    fn an_answer_of_our_own_is_no_servers() {
        let exchange = testing::request("GET", "/").exchange;
        exchange.status.set(Some(StatusCode::FOUND));
        assert_eq!(state(&exchange, None), "LR");
    }
}
