//! How a request ended, in two letters, in the manner of HAProxy's log.
//!
//! The first letter tells who ended it: `C` the client, `S` the server, `P` the
//! proxy's own rules, `I` a fault of the proxy, `L` an answer of the proxy's own;
//! lower case means that the one ran out of time. The second tells what was going
//! on: `R` the request came in, `Q` it waited for a slot, `C` a connection was made,
//! `H` the response's head was awaited, `D` the response's body passed through.
//! `--` is a request that went well. Called once for each request that is logged.

use ::http::{Method, StatusCode};

use crate::http::{Ending, ErrorKind, Exchange};

/// The state of `exchange` at its end.
pub(super) fn termination(exchange: &Exchange) -> &'static str {
    if let Some(failure) = exchange.failure.get() {
        return failed(failure);
    }
    let Some(status) = exchange.status.get() else {
        return given_up(exchange);
    };
    if exchange.service.borrow().is_none() {
        return "LR";
    }
    match exchange.ending.get() {
        Ending::Broken => "SD",
        Ending::Open if !is_whole(exchange, status) => "CD",
        Ending::Open | Ending::Whole => "--",
    }
}

const fn failed(failure: ErrorKind) -> &'static str {
    match failure {
        ErrorKind::ClientGone => "CR",
        ErrorKind::ClientTimeout => "cR",
        ErrorKind::BadRequest
        | ErrorKind::Misdirected
        | ErrorKind::NotImplemented
        | ErrorKind::HeadTooLarge
        | ErrorKind::NoRouter => "PR",
        ErrorKind::QueueFull => "SQ",
        ErrorKind::QueueTimeout => "sQ",
        ErrorKind::NoServer | ErrorKind::Connect => "SC",
        ErrorKind::ConnectTimeout => "sC",
        ErrorKind::ConnectionLost => "SH",
        ErrorKind::ResponseTimeout => "sH",
        ErrorKind::BadResponse => "PH",
        ErrorKind::Internal => "IH",
    }
}

/// There was no response at all.
fn given_up(exchange: &Exchange) -> &'static str {
    if std::thread::panicking() {
        "IH"
    } else if exchange.queued_since.get().is_some() {
        "CQ"
    } else if exchange.server.borrow().is_some() {
        "CH"
    } else {
        "CR"
    }
}

/// Whether nothing was left to send of a body whose end nobody took.
fn is_whole(exchange: &Exchange, status: StatusCode) -> bool {
    let has_none = matches!(
        status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    has_none
        || exchange.method == Method::HEAD
        || exchange.response_length.get() == Some(exchange.response_bytes.get())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Instant;

    use super::*;
    use crate::http::testing;

    fn exchange(method: &str) -> Rc<Exchange> {
        let exchange = testing::request(method, "/").exchange;
        *exchange.service.borrow_mut() = Some("s".into());
        *exchange.server.borrow_mut() = Some("http://10.0.0.1".into());
        exchange
    }

    #[test]
    fn every_failure_has_haproxys_letters() {
        let states = ErrorKind::ALL.map(|failure| {
            let exchange = exchange("GET");
            exchange.status.set(Some(StatusCode::BAD_GATEWAY));
            exchange.failure.set(Some(failure));
            termination(&exchange)
        });
        assert_eq!(
            states,
            [
                "PR", "PR", "PR", "PR", "CR", "cR", "PR", "SC", "SQ", "sQ", "SC", "sC", "SH", "sH",
                "PH", "IH"
            ]
        );
    }

    #[test]
    fn a_client_that_leaves_is_seen_where_it_was() {
        let waiting = exchange("GET");
        waiting.queued_since.set(Some(Instant::now()));
        assert_eq!(termination(&waiting), "CQ");
        assert_eq!(termination(&exchange("GET")), "CH");
        assert_eq!(termination(&testing::request("GET", "/").exchange), "CR");
    }

    #[test]
    fn bodies_end_well_or_on_one_side() {
        let rows = [
            ("GET", 200, Ending::Whole, None, "--"),
            ("GET", 500, Ending::Whole, None, "--"),
            ("GET", 200, Ending::Broken, Some(9), "SD"),
            ("GET", 200, Ending::Open, None, "CD"),
            ("GET", 200, Ending::Open, Some(9), "CD"),
            // All of it was sent, and nobody asked for the end.
            ("GET", 200, Ending::Open, Some(5), "--"),
            ("HEAD", 200, Ending::Open, Some(9), "--"),
            ("GET", 304, Ending::Open, Some(9), "--"),
            ("GET", 101, Ending::Open, None, "--"),
        ];
        for (method, status, ending, length, expected) in rows {
            let exchange = exchange(method);
            exchange.status.set(StatusCode::from_u16(status).ok());
            exchange.ending.set(ending);
            exchange.response_length.set(length);
            exchange.response_bytes.set(5);
            assert_eq!(
                termination(&exchange),
                expected,
                "{method} {status} {ending:?}"
            );
        }
    }

    #[test]
    fn an_answer_of_our_own_is_no_servers() {
        let exchange = testing::request("GET", "/").exchange;
        exchange.status.set(Some(StatusCode::FOUND));
        assert_eq!(termination(&exchange), "LR");
    }
}
