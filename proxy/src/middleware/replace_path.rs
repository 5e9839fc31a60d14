//! `replacePath` and `replacePathRegex`: other paths than the client asked for.
//! The old one is told in `X-Replaced-Path`.

use ::http::header::{HeaderName, HeaderValue};
use ::http::request::Parts;
use regex::Regex;

use crate::config::dynamic;
use crate::http::{ErrorKind, HttpService, ProxyError, Request, ResponseFuture, target};

use super::{BuildError, Middleware, go_on, pattern};

const X_REPLACED_PATH: HeaderName = HeaderName::from_static("x-replaced-path");

#[derive(Debug)]
pub(super) struct ReplacePath {
    /// As it goes over the wire.
    path: String,
}

impl ReplacePath {
    pub(super) fn new(options: &dynamic::ReplacePath) -> Result<Self, BuildError> {
        let decoded = target::decode(&options.path)
            .ok_or_else(|| BuildError::option("replacePath.path", "has a broken escape"))?;
        let path = target::escaped(&decoded, &options.path);
        Ok(Self {
            path: target::rooted(&path).into_owned(),
        })
    }

    fn edit(&self, head: &mut Parts) -> Result<(), ProxyError> {
        tell_old_path(head)?;
        target::set_path(head, &self.path)
    }
}

impl Middleware for ReplacePath {
    fn handle<'a>(&'a self, mut request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        let outcome = self.edit(&mut request.head);
        go_on(outcome, request, next)
    }
}

#[derive(Debug)]
pub(super) struct ReplacePathRegex {
    regex: Regex,
    replacement: String,
}

impl ReplacePathRegex {
    pub(super) fn new(options: &dynamic::ReplacePathRegex) -> Result<Self, BuildError> {
        Ok(Self {
            regex: pattern::compile("replacePathRegex.regex", options.regex.trim())?,
            replacement: options.replacement.trim().to_owned(),
        })
    }

    fn edit(&self, head: &mut Parts) -> Result<(), ProxyError> {
        let path = target::path(head);
        if !self.regex.is_match(path) {
            return Ok(());
        }
        let written = pattern::replace(&self.regex, path, &self.replacement);
        let decoded = target::decode(&written).ok_or(ErrorKind::Internal)?;
        let path = target::escaped(&decoded, &written);
        let path = target::rooted(&path);
        if !path.is_empty() && !target::is_clean(&path) {
            return Err(ErrorKind::BadRequest.into());
        }
        tell_old_path(head)?;
        target::set_path(head, &path)
    }
}

impl Middleware for ReplacePathRegex {
    fn handle<'a>(&'a self, mut request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        let outcome = self.edit(&mut request.head);
        go_on(outcome, request, next)
    }
}

fn tell_old_path(head: &mut Parts) -> Result<(), ProxyError> {
    let old = HeaderValue::from_bytes(target::path(head).as_bytes())
        .map_err(|_| ErrorKind::BadRequest)?;
    head.headers.append(X_REPLACED_PATH, old);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::http::testing::{self, Recorder};
    use crate::middleware::testing::{around, key};

    use super::*;

    fn whole(path: &str) -> Result<ReplacePath, BuildError> {
        ReplacePath::new(&dynamic::ReplacePath {
            path: path.to_owned(),
        })
    }

    fn regex(regex: &str, replacement: &str) -> Result<ReplacePathRegex, BuildError> {
        ReplacePathRegex::new(&dynamic::ReplacePathRegex {
            regex: regex.to_owned(),
            replacement: replacement.to_owned(),
        })
    }

    async fn seen<M: Middleware + 'static>(middleware: M, sent: &str) -> (String, String) {
        let recorder = Recorder::answering(&[]);
        let response = around(middleware, &recorder)
            .call(testing::request("GET", sent))
            .await;
        let Some(head) = recorder.take().pop() else {
            return (response.status().as_str().to_owned(), String::new());
        };
        let old = head.headers.get(X_REPLACED_PATH);
        let old = old.map_or("-", |value| value.to_str().unwrap());
        (head.uri.to_string(), old.to_owned())
    }

    #[tokio::test]
    async fn the_path_is_replaced() {
        let cases = [
            ("/new", "/old%2Fx?q=1", "/new?q=1", "/old%2Fx"),
            ("/a%2Fb", "/", "/a%2Fb", "/"),
            ("/a?b", "/", "/a%3Fb", "/"),
            ("/a b", "/", "/a%20b", "/"),
            ("new", "/", "/new", "/"),
            ("", "/x", "/", "/x"),
        ];
        for (path, sent, target, old) in cases {
            let expected = (target.to_owned(), old.to_owned());
            assert_eq!(
                seen(whole(path).unwrap(), sent).await,
                expected,
                "{path} {sent}"
            );
        }
        assert_eq!(key(whole("/%zz")), "replacePath.path");
    }

    #[tokio::test]
    async fn what_matches_is_replaced() {
        let cases = [
            (
                r"^/api/(.*)",
                "/$1",
                "/api/a%2Fb?q",
                "/a%2Fb?q",
                "/api/a%2Fb",
            ),
            (r"/(\w+)/(\w+)", "/${2}/${1}x", "/a/b", "/b/ax", "/a/b"),
            (r"a", "b", "/aa", "/bb", "/aa"),
            (r"^/x", "/y", "/a", "/a", "-"),
            (r" ^/a ", " /b?c ", "/a", "/b%3Fc", "/a"),
            (r"^/a$", "", "/a", "/", "/a"),
            (r"^/a/(.*)", "$1", "/a/b", "/b", "/a/b"),
            (r"^/a/(.*)", "/$1", "/a/../b", "400", ""),
            (r"^/a/(.*)", "/$1/", "/a/b/", "400", ""),
            (r"^/a", "/%z", "/a", "500", ""),
        ];
        for (pattern, replacement, sent, target, old) in cases {
            let expected = (target.to_owned(), old.to_owned());
            let middleware = regex(pattern, replacement).unwrap();
            assert_eq!(seen(middleware, sent).await, expected, "{pattern} {sent}");
        }
        assert_eq!(key(regex("(", "")), "replacePathRegex.regex");
    }
}
