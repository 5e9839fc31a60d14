//! `ipAllowList` (`ipWhiteList` in v2): lets only some addresses through.

use ::http::StatusCode;

use crate::config::dynamic;
use crate::http::trust::Networks;
use crate::http::{HttpService, Request, Response, ResponseFuture, respond};

use super::ip_strategy::IpStrategy;
use super::{BuildError, Middleware, answer};

#[derive(Debug)]
pub(super) struct IpAllowList {
    allowed: Networks,
    strategy: IpStrategy,
    refusal: StatusCode,
}

impl IpAllowList {
    /// `kind` is what errors call the middleware.
    pub(super) fn new(kind: &str, options: &dynamic::IpAllowList) -> Result<Self, BuildError> {
        let key = format!("{kind}.sourceRange");
        if options.source_range.is_empty() {
            return Err(BuildError::option(key, "must not be empty"));
        }
        Ok(Self {
            allowed: Networks::parse(&options.source_range)
                .map_err(|error| BuildError::option(key, error))?,
            strategy: IpStrategy::new(kind, options.ip_strategy.as_ref())?,
            refusal: refusal(options.reject_status_code).ok_or_else(|| {
                BuildError::option(
                    format!("{kind}.rejectStatusCode"),
                    "is not the status of a final response",
                )
            })?,
        })
    }

    fn admits(&self, request: &Request) -> bool {
        self.strategy
            .client(request)
            .is_some_and(|client| self.allowed.contains(client))
    }

    fn refuse(&self) -> Response {
        match self.refusal {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => respond::empty(self.refusal),
            status => respond::status_text(status),
        }
    }
}

fn refusal(code: u16) -> Option<StatusCode> {
    if code == 0 {
        return Some(StatusCode::FORBIDDEN);
    }
    let status = StatusCode::from_u16(code).ok()?;
    (code >= 200 && status.canonical_reason().is_some()).then_some(status)
}

impl Middleware for IpAllowList {
    fn handle<'a>(&'a self, request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        if self.admits(&request) {
            return next.call(request);
        }
        tracing::debug!(client.addr = %request.exchange.client_ip(), "Client address not allowed");
        answer(self.refuse())
    }
}

#[cfg(test)]
mod tests {
    use crate::http::testing::{self, Recorder, text};
    use crate::middleware::testing::{around, key};

    use super::*;

    fn list(json: &str) -> Result<IpAllowList, BuildError> {
        IpAllowList::new("ipAllowList", &serde_json::from_str(json).unwrap())
    }

    async fn asked(json: &str, client: &str, forwarded_for: &str) -> Response {
        let recorder = Recorder::answering(&[]);
        let connection = testing::connection(client);
        let mut request = testing::request_on(connection, "GET", "/");
        request.head.headers = testing::headers(&[("X-Forwarded-For", forwarded_for)]);
        around(list(json).unwrap(), &recorder).call(request).await
    }

    #[tokio::test]
    async fn only_some_pass() {
        let depth = r#"{"sourceRange":["10.0.0.0/8"],"ipStrategy":{"depth":1}}"#;
        let cases = [
            (r#"{"sourceRange":["10.0.0.0/8"]}"#, "10.1.1.1:1", 200),
            (
                r#"{"sourceRange":["10.0.0.0/8"]}"#,
                "[::ffff:10.1.1.1]:1",
                200,
            ),
            (r#"{"sourceRange":["10.0.0.0/8"]}"#, "11.1.1.1:1", 403),
            (
                r#"{"sourceRange":["11.1.1.1"],"rejectStatusCode":404}"#,
                "11.1.1.2:1",
                404,
            ),
            (
                r#"{"sourceRange":["11.1.1.1"],"rejectStatusCode":200}"#,
                "11.1.1.2:1",
                200,
            ),
            (depth, "11.1.1.1:1", 200),
        ];
        for (json, client, status) in cases {
            let response = asked(json, client, "10.2.2.2").await;
            assert_eq!(response.status(), status, "{json} {client}");
        }
        assert_eq!(asked(depth, "10.1.1.1:1", "").await.status(), 403);
        assert_eq!(asked(depth, "10.1.1.1:1", "x").await.status(), 403);
    }

    #[tokio::test]
    async fn a_refusal_is_the_statuss_own_text() {
        let refusal = asked(r#"{"sourceRange":["11.0.0.1"]}"#, "10.0.0.1:1", "").await;
        assert!(refusal.headers().is_empty());
        assert_eq!(text(refusal).await, "Forbidden");
        let json = r#"{"sourceRange":["11.0.0.1"],"rejectStatusCode":204}"#;
        assert_eq!(text(asked(json, "10.0.0.1:1", "").await).await, "");
    }

    #[test]
    fn broken_options_are_named() {
        let cases = [
            ("{}", "ipAllowList.sourceRange"),
            (
                r#"{"sourceRange":["10.0.0.0/99"]}"#,
                "ipAllowList.sourceRange",
            ),
            (
                r#"{"sourceRange":["::1"],"rejectStatusCode":600}"#,
                "ipAllowList.rejectStatusCode",
            ),
            (
                r#"{"sourceRange":["::1"],"rejectStatusCode":100}"#,
                "ipAllowList.rejectStatusCode",
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(key(list(json)), expected, "{json}");
        }
    }
}
