//! How a hostile request is sent and judged; the tables are in [`super::framing`]
//! and [`super::heads`].

use std::fmt::Write as _;

use scenarios::raw::{Broken, Message, Scripted, Seen, Talk};
use scenarios::site::{Routes, Site};

/// What must become of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// Answered with one of these, or with nothing but the end of the
    /// connection; the server hears nothing.
    Refused(&'static [u16]),
    /// Answered so; the server hears nothing of it. What follows on the
    /// connection is served, for nobody doubts where it begins.
    Denied(u16),
    /// Answered so or cut; the server may have heard the beginning, never a
    /// whole request.
    Cut(&'static [u16]),
    /// Passed on as one request with this body.
    Served(&'static str),
    /// Refused, or passed on as one request with this body, after which the
    /// connection ends: nobody can be sure where the next one begins.
    RefusedOrLast(&'static str),
    /// Either refused, or passed on as one request that means one thing.
    RefusedOr(&'static str),
}

/// A name for people, the bytes, the fate.
pub(super) type Case = (&'static str, String, Fate);

pub(super) const BAD: Fate = Fate::Refused(&[400]);

/// What follows each hostile request on its connection: a request that nobody
/// may execute if the first was refused.
const LAST: &str = "GET /after HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// Runs all cases against one proxy and fails with all that went wrong.
pub(super) async fn judge(cases: &[Case], arguments: &[&str]) {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), arguments)
        .await
        .unwrap();
    // The first request opens what stays open: log, connections to the server.
    let warm = scenarios::raw::exchange(site.web, LAST).await.unwrap();
    assert_eq!(warm.status(), 200);
    server.take();
    let before = site.descriptors().unwrap();

    let mut failures = String::new();
    for (name, bytes, fate) in cases {
        if let Err(what) = run(&site, &server, bytes, *fate).await {
            let _ = writeln!(failures, "- {name}: {what}");
        }
        if !site.serves().await {
            let _ = writeln!(failures, "- {name}: no longer serves");
            break;
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{failures}", cases.len());
    super::crowd::settles(&site, before).await;
}

async fn run(site: &Site, server: &Scripted, bytes: &str, fate: Fate) -> Result<(), String> {
    let sent = send(site, bytes).await;
    // What was executed late shows up before this does.
    let barrier = scenarios::raw::exchange(
        site.web,
        "GET /barrier HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    );
    barrier.await.map_err(|error| format!("barrier: {error}"))?;
    let mut seen = server.take();
    seen.retain(|seen| !matches!(&seen.request, Ok(request) if request.target() == "/barrier"));
    let (answers, end) = sent?;
    let found = match fate {
        Fate::Denied(code) => denied(code, &answers, &seen),
        Fate::Refused(codes) => refused(codes, &answers).and_then(|()| none(&seen)),
        Fate::Cut(codes) => refused(codes, &answers).and_then(|()| none_whole(&seen)),
        Fate::Served(body) => served(body, &answers, &seen),
        Fate::RefusedOrLast(body) => refused(&[400, 501], &answers)
            .and_then(|()| none(&seen))
            .or_else(|_| served(body, &answers, &seen))
            .and_then(|()| none(seen.get(1..).unwrap_or_default())),
        Fate::RefusedOr(body) => refused(&[400, 501, 505], &answers)
            .and_then(|()| none(&seen))
            .or_else(|why| served(body, &answers, &seen).map_err(|also| format!("{why}; {also}"))),
    };
    found.map_err(|what| format!("{what}\n    answers {}, then {end}", summary(&answers)))
}

/// Sends the case and what follows it, and reads to the end of the connection.
async fn send(site: &Site, bytes: &str) -> Result<(Vec<Message>, Broken), String> {
    let mut talk = Talk::open(site.web)
        .await
        .map_err(|error| error.to_string())?;
    // Latin-1, so that a table can hold any byte.
    let mut all: Vec<u8> = bytes.chars().map(|c| u8::try_from(c).unwrap()).collect();
    all.extend(LAST.as_bytes());
    // A server that has refused need not read the rest.
    let _ = talk.say(&all).await;
    let mut answers = Vec::new();
    loop {
        match talk.final_response().await {
            Ok(answer) => answers.push(answer),
            Err(Broken::Silence) => return Err(format!("silence after {}", summary(&answers))),
            Err(end) => return Ok((answers, end)),
        }
    }
}

fn refused(codes: &[u16], answers: &[Message]) -> Result<(), String> {
    match answers {
        [] => Ok(()),
        [answer] if codes.contains(&answer.status()) => Ok(()),
        _ => Err(format!("not refused with one of {codes:?}")),
    }
}

fn denied(code: u16, answers: &[Message], seen: &[Seen]) -> Result<(), String> {
    let is_after =
        |seen: &Seen| matches!(&seen.request, Ok(request) if request.target() == "/after");
    if answers
        .first()
        .is_some_and(|answer| answer.status() == code)
        && seen.iter().all(is_after)
    {
        return Ok(());
    }
    Err(format!("not denied with {code}; the server saw {seen:?}"))
}

fn none(seen: &[Seen]) -> Result<(), String> {
    match seen {
        [] => Ok(()),
        _ => Err(format!("the server saw {seen:?}")),
    }
}

fn none_whole(seen: &[Seen]) -> Result<(), String> {
    let is_cut = |seen: &Seen| matches!(seen.request, Err(Broken::Cut(_)));
    if seen.iter().all(is_cut) {
        return Ok(());
    }
    Err(format!("the server saw {seen:?}"))
}

/// One request, then the one that followed it, each with at most one framing
/// header (the reader of the server sees to that) and none in disguise.
fn served(body: &str, answers: &[Message], seen: &[Seen]) -> Result<(), String> {
    let requests: Vec<_> = seen
        .iter()
        .filter_map(|seen| seen.request.as_ref().ok())
        .collect();
    if requests.len() != seen.len() {
        return Err(format!("the server saw {seen:?}"));
    }
    let [request, after @ ..] = requests.as_slice() else {
        return Err("the server saw nothing".to_owned());
    };
    let is_expected = request.body == body.as_bytes()
        && after
            .iter()
            .all(|after| after.target() == "/after" && after.body.is_empty())
        && after.len() <= 1
        && answers.first().is_some_and(|answer| answer.status() == 200)
        && answers.len() == requests.len();
    if !is_expected {
        return Err(format!("the server saw {requests:?}"));
    }
    disguised(request)
}

/// Names that some servers take for a framing header.
fn disguised(request: &Message) -> Result<(), String> {
    let twin = request
        .headers
        .iter()
        .chain(&request.trailers)
        .find(|(name, _)| {
            let name = name.to_ascii_lowercase();
            name.contains('_')
                && ["content-length", "transfer-encoding", "host"]
                    .contains(&&*name.replace('_', "-"))
        });
    match twin {
        None if request.trailers.is_empty() && request.all("host").len() == 1 => Ok(()),
        None => Err(format!("hosts or trailers: {request:?}")),
        Some(twin) => Err(format!("passed on {twin:?}")),
    }
}

fn summary(answers: &[Message]) -> String {
    let lines: Vec<_> = answers.iter().map(|answer| answer.start.as_str()).collect();
    format!("{lines:?}")
}
