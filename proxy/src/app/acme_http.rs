//! `acme-http@internal`: what the authority asks for by HTTP-01 (RFC 8555 §8.3).

use std::sync::Arc;

use ::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use ::http::{Method, StatusCode};

use crate::acme::challenge::{Board, ChallengeKind};
use crate::http::{Body, HttpService, Request, Response, ResponseFuture, respond};
use crate::provider::internal::CHALLENGES;

/// Longer tokens are nobody's: authorities use 43 characters, and RFC 8555 asks for 22.
const LONGEST_TOKEN: usize = 256;

/// Answers with the key authorization of the token in the path. The token alone
/// decides, not the host: it can't be guessed, and the authority may have followed
/// a redirection.
#[derive(Clone, Debug)]
pub(super) struct ChallengeService {
    board: Arc<Board>,
}

impl ChallengeService {
    /// The service for the challenges on `board`.
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board }
    }

    async fn answer(&self, request: Request) -> Response {
        let is_head = request.head.method == Method::HEAD;
        if !is_head && request.head.method != Method::GET {
            let mut response = respond::status_text(StatusCode::METHOD_NOT_ALLOWED);
            let methods = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, methods);
            return response;
        }
        let Some(token) = token(request.head.uri.path()) else {
            return respond::empty(StatusCode::NOT_FOUND);
        };
        match self.board.find(ChallengeKind::Http01, token).await {
            Some(challenge) => show(&challenge.key_authorization, is_head),
            None => respond::empty(StatusCode::NOT_FOUND),
        }
    }
}

impl HttpService for ChallengeService {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        Box::pin(self.answer(request))
    }
}

/// The token in a path. Traefik allows a slash behind it.
fn token(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(CHALLENGES)?;
    let token = rest.strip_suffix('/').unwrap_or(rest);
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_token = (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(is_base64url);
    is_token.then_some(token)
}

fn show(key_authorization: &str, is_head: bool) -> Response {
    let body = match is_head {
        true => Body::empty(),
        false => Body::full(key_authorization.to_owned()),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::acme::challenge::Challenge;
    use crate::http::testing;

    fn board() -> Arc<Board> {
        let board = Arc::new(Board::default());
        board.present(&Challenge {
            kind: ChallengeKind::Http01,
            name: "a.example".to_owned(),
            token: "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA".to_owned(),
            key_authorization: "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.print".to_owned(),
            expires: SystemTime::now() + Duration::from_secs(60),
        });
        board
    }

    #[tokio::test]
    async fn known_tokens_are_answered_and_nothing_else() {
        let service = ChallengeService::new(board());
        let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
        let whole = format!("{token}.print");
        for (method, path, status, body) in [
            ("GET", format!("{CHALLENGES}{token}"), 200, whole.as_str()),
            ("GET", format!("{CHALLENGES}{token}/"), 200, &whole),
            ("GET", format!("{CHALLENGES}{token}?a=b"), 200, &whole),
            ("HEAD", format!("{CHALLENGES}{token}"), 200, ""),
            (
                "POST",
                format!("{CHALLENGES}{token}"),
                405,
                "Method Not Allowed",
            ),
            ("GET", format!("{CHALLENGES}{token}x"), 404, ""),
            ("GET", format!("{CHALLENGES}{token}/x"), 404, ""),
            ("GET", format!("{CHALLENGES}{token}.print"), 404, ""),
            ("GET", format!("{CHALLENGES}a%2F..%2F{token}"), 404, ""),
            ("GET", CHALLENGES.to_owned(), 404, ""),
            ("GET", format!("{CHALLENGES}{}", "a".repeat(300)), 404, ""),
            ("GET", format!("/other/{token}"), 404, ""),
        ] {
            let response = service.call(testing::request(method, &path)).await;
            assert_eq!(response.status(), status, "{method} {path}");
            if status == 200 {
                let kind = response.headers()[CONTENT_TYPE].to_str().unwrap();
                assert!(kind.starts_with("text/plain"));
            }
            assert_eq!(testing::text(response).await, body, "{method} {path}");
        }
    }
}
