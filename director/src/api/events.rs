//! The decisions: as a list, or as a stream of server-sent events.
//!
//! A stream begins with what is kept and goes on with what comes, without a gap
//! and without repeats; who reads too slowly gets what the journal still keeps.
//! It ends when the director does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast;

use super::answer::Context;
use super::reply::{Response, error, json, with_body};
use super::types::{Event, Events};
use super::words;
use crate::journal::{Entry, Journal};

/// How often a line is sent although nothing happened, so that a connection that
/// is gone is noticed.
const BEAT: Duration = Duration::from_secs(15);

/// What a stream of server-sent events is called.
const STREAM: &str = "text/event-stream";

/// Where to begin, and whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Query {
    after: Option<u64>,
    follow: bool,
}

/// A stream of events.
struct Follow {
    journal: Journal,
    news: broadcast::Receiver<Entry>,
    backlog: VecDeque<Entry>,
    last: u64,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

/// Answers with the list or the stream. `after=N` leaves out what came up to
/// then; a browser that comes back says so in `Last-Event-ID`.
pub(super) fn answer(context: &Context, query: Option<&str>, headers: &HeaderMap) -> Response {
    let query = match parse(query.unwrap_or_default()) {
        Ok(query) => query,
        Err(words) => return error(StatusCode::BAD_REQUEST, words),
    };
    let resumed = headers.get("last-event-id").and_then(|it| it.to_str().ok());
    let resumed = resumed.and_then(|it| it.parse().ok());
    let after = query.after.or(resumed).unwrap_or_default();
    let journal = context.observed.journal.clone();
    if !query.follow {
        let events = journal.after(after).iter().map(event).collect();
        return json(StatusCode::OK, &Events { events });
    }
    let Ok(place) = Arc::clone(&context.followers).try_acquire_owned() else {
        let words = "too many follow the events already";
        return error(StatusCode::SERVICE_UNAVAILABLE, words);
    };
    // Listening begins before the past is read: nothing is lost in between.
    let follow = Follow {
        news: journal.listen(),
        backlog: journal.after(after).into(),
        journal,
        last: after,
        shutdown: context.shutdown.clone(),
        _place: place,
    };
    let frames = stream::unfold(follow, |mut follow| async move {
        let text = follow.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(text)), follow))
    });
    let body = StreamBody::new(frames).boxed_unsync();
    with_body(StatusCode::OK, STREAM, body)
}

/// Does this answer go on for as long as somebody listens?
pub(super) fn is_stream(answer: &Response) -> bool {
    let content = answer.headers().get(CONTENT_TYPE);
    content.is_some_and(|it| it.as_bytes() == STREAM.as_bytes())
}

impl Follow {
    /// The next piece of text.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            while let Some(entry) = self.backlog.pop_front() {
                if entry.number > self.last {
                    self.last = entry.number;
                    return Some(spell(&entry));
                }
            }
            tokio::select! {
                () = self.shutdown.reached(Stage::Draining) => return None,
                news = self.news.recv() => match news {
                    Ok(entry) => self.backlog.push_back(entry),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.backlog = self.journal.after(self.last).into();
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = tokio::time::sleep(BEAT) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

fn spell(entry: &Entry) -> Bytes {
    // JSON has no line breaks of its own: one line of data is the whole.
    let data = serde_json::to_string(&event(entry)).unwrap_or_default();
    format!("id: {}\ndata: {data}\n\n", entry.number).into()
}

fn event(entry: &Entry) -> Event {
    Event {
        number: entry.number,
        at: words::moment(entry.at),
        part: entry.part.to_owned(),
        subject: entry.subject.clone(),
        decision: entry.decision.clone(),
        cause: entry.cause.clone(),
    }
}

fn parse(text: &str) -> Result<Query, String> {
    let mut query = Query {
        after: None,
        follow: true,
    };
    for pair in text.split('&').filter(|it| !it.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key, value) {
            ("after", number) => {
                let number = number.parse();
                let number = number.map_err(|_| "after must be an event's number".to_owned());
                query.after = Some(number?);
            }
            ("follow", "true" | "") => query.follow = true,
            ("follow", "false") => query.follow = false,
            ("follow", _) => return Err("follow must be true or false".to_owned()),
            (other, _) => {
                return Err(format!("{other:?} is not asked here: after and follow are"));
            }
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_or_refused() {
        let query = |after, follow| Ok(Query { after, follow });
        let rows = [
            ("", query(None, true)),
            ("follow=false", query(None, false)),
            ("after=7&follow=true", query(Some(7), true)),
            ("after=", Err("after must be an event's number")),
            ("after=-1", Err("after must be an event's number")),
            ("follow=no", Err("follow must be true or false")),
            (
                "befor=1",
                Err("\"befor\" is not asked here: after and follow are"),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
