//! `addPrefix`: puts a prefix in front of the path.

use crate::config::dynamic;
use crate::http::{HttpService, Request, ResponseFuture, target};

use super::{BuildError, Middleware, go_on};

#[derive(Debug)]
pub(super) struct AddPrefix {
    /// Escaped, with a slash in front.
    prefix: String,
}

impl AddPrefix {
    pub(super) fn new(options: &dynamic::AddPrefix) -> Result<Self, BuildError> {
        if options.prefix.is_empty() {
            return Err(BuildError::option("addPrefix.prefix", "must not be empty"));
        }
        // Traefik's prefix is plain text: its `%` is escaped, too.
        let prefix = target::escape(options.prefix.as_bytes());
        Ok(Self {
            prefix: target::rooted(&prefix).into_owned(),
        })
    }
}

impl Middleware for AddPrefix {
    fn handle<'a>(&'a self, mut request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        let path = format!("{}{}", self.prefix, target::path(&request.head));
        let outcome = target::set_path(&mut request.head, &path);
        go_on(outcome, request, next)
    }
}

#[cfg(test)]
mod tests {
    use crate::http::testing::{self, Recorder};
    use crate::middleware::testing::{around, key};

    use super::*;

    fn add(prefix: &str) -> Result<AddPrefix, BuildError> {
        AddPrefix::new(&dynamic::AddPrefix {
            prefix: prefix.to_owned(),
        })
    }

    #[tokio::test]
    async fn the_prefix_comes_first() {
        let cases = [
            ("/a", "/b", "/a/b"),
            ("a", "/", "/a/"),
            ("/a/", "/b", "/a//b"),
            ("/a", "/b%2Fc?x=/y;z", "/a/b%2Fc?x=/y;z"),
            ("/a%20b", "/", "/a%2520b/"),
            ("/a b?", "/", "/a%20b%3F/"),
        ];
        for (prefix, sent, expected) in cases {
            let recorder = Recorder::answering(&[]);
            let service = around(add(prefix).unwrap(), &recorder);
            service.call(testing::request("GET", sent)).await;
            assert_eq!(recorder.take()[0].uri, expected, "{prefix} {sent}");
        }
    }

    #[tokio::test]
    async fn a_path_that_gets_too_long_is_refused() {
        let recorder = Recorder::answering(&[]);
        let service = around(add(&"/a".repeat(33_000)).unwrap(), &recorder);
        let response = service.call(testing::request("GET", "/")).await;
        assert_eq!(response.status(), 400);
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn the_prefix_must_be_something() {
        assert_eq!(key(add("")), "addPrefix.prefix");
    }
}
