//! What an operator asks for: finds the node that is meant, hands the command
//! on, and answers in the words that come back.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::answer::Context;
use super::reply::{Response, error, json};
use super::types::Done;
use crate::view::Command;

/// How long a command may take before the answer is that nobody knows.
const PATIENCE: Duration = Duration::from_secs(15);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Drain,
    Undrain,
    Failover,
    Teardown,
}

/// Why nothing is asked: the status, and the words.
type Refusal = (StatusCode, String);

/// Has it done, and says what came of it.
pub(super) async fn answer(context: &Context, order: Order, node: &str) -> Response {
    let command = match order {
        Order::Failover => Command::Failover,
        Order::Teardown => Command::Teardown,
        Order::Drain | Order::Undrain => match find(context, node) {
            Ok(node) if order == Order::Drain => Command::Drain(node),
            Ok(node) => Command::Undrain(node),
            Err((status, words)) => return error(status, words),
        },
    };
    hand_on(context, command).await
}

async fn hand_on(context: &Context, command: Command) -> Response {
    let (answer, answered) = oneshot::channel();
    let unavailable = |words: &str| error(StatusCode::SERVICE_UNAVAILABLE, words);
    match context.asks.try_send((command, answer)) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            return unavailable("too much is being asked for at once: try again");
        }
        Err(TrySendError::Closed(_)) => return unavailable("the director is about to end"),
    }
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(Ok(done))) => json(StatusCode::OK, &Done { done }),
        Ok(Ok(Err(why))) => error(StatusCode::CONFLICT, why),
        Ok(Err(_)) => unavailable("the part that was asked ended before it answered"),
        Err(_) => unavailable("no answer came in 15 s; it may still be done: look at the status"),
    }
}

/// The node that is meant, by its address or by its name.
fn find(context: &Context, text: &str) -> Result<IpAddr, Refusal> {
    let text = decode(text);
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match bare.unwrap_or(text).parse() {
        Ok(address) => known(context, address),
        Err(_) => named(context, text),
    }
}

fn known(context: &Context, address: IpAddr) -> Result<IpAddr, Refusal> {
    let observed = &context.observed;
    let is_known = observed.roster.borrow().nodes.contains_key(&address)
        || observed.health.borrow().nodes.contains_key(&address)
        || observed.control.borrow().drained.contains(&address);
    if is_known {
        return Ok(address);
    }
    let words = format!("there is no node {address}: the status lists those there are");
    Err((StatusCode::NOT_FOUND, words))
}

fn named(context: &Context, name: &str) -> Result<IpAddr, Refusal> {
    let roster = context.observed.roster.borrow();
    let nodes = roster.nodes.iter();
    let named = nodes.filter(|(_, node)| {
        let mut sightings = node.sightings.values();
        sightings.any(|it| it.name.as_deref() == Some(name))
    });
    let named: Vec<_> = named.map(|(address, _)| *address).collect();
    match named.as_slice() {
        [address] => Ok(*address),
        [] => {
            let words = format!("there is no node {name:?}: the status lists those there are");
            Err((StatusCode::NOT_FOUND, words))
        }
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            let several = several.join(" and ");
            let words = format!("{name:?} is the name of {several}: say which by its address");
            Err((StatusCode::CONFLICT, words))
        }
    }
}

/// Takes the percent signs out of a part of a path (RFC 3986 section 2.1).
/// What is no text then becomes replacement characters, and names no node.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let digits = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let digits = digits.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        let byte = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn percent_signs_are_read_or_left() {
        let rows = [
            ("pi-1", "pi-1"),
            ("pi%201", "pi 1"),
            ("fd00%3a%3A1", "fd00::1"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%+1x", "%+1x"),
            ("%zz", "%zz"),
            ("%ff", "\u{fffd}"),
        ];
        for (text, expected) in rows {
            assert_eq!(decode(text), expected);
        }
    }
}
