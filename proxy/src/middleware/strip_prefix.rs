//! `stripPrefix` and `stripPrefixRegex`: take a prefix off the path and tell
//! the server about it in `X-Forwarded-Prefix`.
//!
//! Prefixes are compared with the decoded path, as plain text: `/foo` is a
//! prefix of `/foobar`. A rest that servers might read as another path (with
//! dot segments or doubled slashes) is refused: `/api../x` must not become
//! `/../x`.

use ::http::header::HeaderValue;
use ::http::request::Parts;
use regex::Regex;

use crate::config::dynamic;
use crate::http::forwarded::X_FORWARDED_PREFIX;
use crate::http::{ErrorKind, HttpService, ProxyError, Request, ResponseFuture, target};

use super::{BuildError, Middleware, go_on, header_value, pattern};

#[derive(Debug)]
pub(super) struct StripPrefix {
    prefixes: Box<[(String, HeaderValue)]>,
    force_slash: bool,
}

impl StripPrefix {
    pub(super) fn new(options: &dynamic::StripPrefix) -> Result<Self, BuildError> {
        let read = |prefix: &String| {
            let prefix = prefix.trim();
            let value = header_value("stripPrefix.prefixes", prefix)?;
            Ok((prefix.to_owned(), value))
        };
        let prefixes: Result<_, _> = options.prefixes.iter().map(read).collect();
        Ok(Self {
            prefixes: prefixes?,
            force_slash: options.force_slash.unwrap_or(false),
        })
    }

    fn edit(&self, head: &mut Parts) -> Result<(), ProxyError> {
        let path = decoded(head)?;
        let found = self
            .prefixes
            .iter()
            .find(|(prefix, _)| path.starts_with(prefix.as_bytes()));
        match found {
            Some((prefix, value)) => {
                strip(head, &path, prefix.len(), self.force_slash)?;
                head.headers.append(X_FORWARDED_PREFIX, value.clone());
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Middleware for StripPrefix {
    fn handle<'a>(&'a self, mut request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        let outcome = self.edit(&mut request.head);
        go_on(outcome, request, next)
    }
}

#[derive(Debug)]
pub(super) struct StripPrefixRegex {
    expressions: Box<[Regex]>,
}

impl StripPrefixRegex {
    pub(super) fn new(options: &dynamic::StripPrefixRegex) -> Result<Self, BuildError> {
        let compile = |text: &String| pattern::compile("stripPrefixRegex.regex", text.trim());
        let expressions: Result<_, _> = options.regex.iter().map(compile).collect();
        Ok(Self {
            expressions: expressions?,
        })
    }

    fn edit(&self, head: &mut Parts) -> Result<(), ProxyError> {
        let path = decoded(head)?;
        let text = String::from_utf8_lossy(&path);
        let prefix = |regex: &Regex| {
            let found = regex.find(&text)?.as_str().as_bytes();
            (!found.is_empty() && path.starts_with(found)).then_some(found)
        };
        let Some(prefix) = self.expressions.iter().find_map(prefix) else {
            return Ok(());
        };
        let value = HeaderValue::from_bytes(prefix).map_err(|_| ErrorKind::BadRequest)?;
        strip(head, &path, prefix.len(), false)?;
        head.headers.append(X_FORWARDED_PREFIX, value);
        Ok(())
    }
}

impl Middleware for StripPrefixRegex {
    fn handle<'a>(&'a self, mut request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        let outcome = self.edit(&mut request.head);
        go_on(outcome, request, next)
    }
}

fn decoded(head: &Parts) -> Result<Vec<u8>, ProxyError> {
    target::decode(target::path(head))
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| ErrorKind::BadRequest.into())
}

/// Takes so many bytes off the decoded path, and what stands for them off the
/// escaped one.
fn strip(
    head: &mut Parts,
    path: &[u8],
    length: usize,
    force_slash: bool,
) -> Result<(), ProxyError> {
    let written = target::path(head);
    let written = written
        .get(target::escaped_len(written, length)..)
        .unwrap_or_default();
    let rest = path.get(length..).unwrap_or_default();
    let rooted = match rest.first() {
        None if !force_slash => Vec::new(),
        Some(b'/') => rest.to_vec(),
        _ => [b"/", rest].concat(),
    };
    let written = target::rooted(written).into_owned();
    let path = target::escaped(&rooted, &written);
    if !path.is_empty() && !target::is_clean(&path) {
        return Err(ErrorKind::BadRequest.into());
    }
    target::set_path(head, &path)
}

#[cfg(test)]
mod tests {
    use crate::http::testing::{self, Recorder};
    use crate::middleware::testing::{around, key};

    use super::*;

    fn plain(prefixes: &[&str]) -> StripPrefix {
        let options = dynamic::StripPrefix {
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            force_slash: None,
        };
        StripPrefix::new(&options).unwrap()
    }

    fn regex(regex: &[&str]) -> Result<StripPrefixRegex, BuildError> {
        StripPrefixRegex::new(&dynamic::StripPrefixRegex {
            regex: regex.iter().map(ToString::to_string).collect(),
        })
    }

    /// What the server sees: its target and the last X-Forwarded-Prefix.
    async fn seen<M: Middleware + 'static>(middleware: M, sent: &str) -> (String, String) {
        let recorder = Recorder::answering(&[]);
        let response = around(middleware, &recorder)
            .call(testing::request("GET", sent))
            .await;
        let Some(head) = recorder.take().pop() else {
            return (response.status().as_str().to_owned(), String::new());
        };
        let prefix = head.headers.get_all(X_FORWARDED_PREFIX).iter().next_back();
        let prefix = prefix.map_or("-", |value| value.to_str().unwrap());
        (head.uri.to_string(), prefix.to_owned())
    }

    #[tokio::test]
    async fn the_first_prefix_that_fits_goes() {
        let cases: [(&[&str], &str, &str, &str); 17] = [
            (&[], "/a", "/a", "-"),
            (&["/"], "/", "/", "/"),
            (&["/stat"], "/stat", "/", "/stat"),
            (&["/stat"], "/stat?q=/stat", "/?q=/stat", "/stat"),
            (&["/stat"], "/stat/", "/", "/stat"),
            (&["/stat/"], "/stat/us", "/us", "/stat/"),
            (&["/stat/"], "/status", "/status", "-"),
            (&["/stat", "/stat/us"], "/stat/us", "/us", "/stat"),
            (&["/no", " /stat "], "/stat/us", "/us", "/stat"),
            (&["/stat"], "/status", "/us", "/stat"),
            (&["/stat"], "/stat/a%2Fb", "/a%2Fb", "/stat"),
            (&["/api/"], "/ap%69/a%2Fb", "/a%2Fb", "/api/"),
            (&["/a b"], "/a%20b/c", "/c", "/a b"),
            (&["/stat"], "/stat%2Fus", "/us", "/stat"),
            (&[""], "/a", "/a", ""),
            (&["/a"], "/a/(b)", "/(b)", "/a"),
            (&["/A"], "/a/b", "/a/b", "-"),
        ];
        for (prefixes, sent, target, prefix) in cases {
            let expected = (target.to_owned(), prefix.to_owned());
            assert_eq!(
                seen(plain(prefixes), sent).await,
                expected,
                "{prefixes:?} {sent}"
            );
        }
    }

    #[tokio::test]
    async fn a_rest_that_means_another_path_is_refused() {
        for sent in [
            "/api./x", "/api../x", "/api//x", "/api/..", "/api/x//", "/api/./",
        ] {
            assert_eq!(seen(plain(&["/api"]), sent).await.0, "400", "{sent}");
            assert_eq!(
                seen(regex(&["/api"]).unwrap(), sent).await.0,
                "400",
                "{sent}"
            );
        }
        assert_eq!(seen(plain(&["/other"]), "/api../x").await.0, "/api../x");
        assert_eq!(seen(plain(&["/a"]), "/a/%zz").await.0, "400");
    }

    #[tokio::test]
    async fn the_refusal_is_plain_text() {
        let recorder = Recorder::answering(&[]);
        let service = around(plain(&["/api"]), &recorder);
        let response = service.call(testing::request("GET", "/api../x")).await;
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
        assert_eq!(testing::text(response).await, "Bad Request\n");
    }

    #[tokio::test]
    async fn a_trusted_prefix_stays_in_front() {
        let recorder = Recorder::answering(&[]);
        let service = around(plain(&["/b"]), &recorder);
        let mut request = testing::request("GET", "/b/c");
        let outer = HeaderValue::from_static("/a");
        request.head.headers.insert(X_FORWARDED_PREFIX, outer);
        service.call(request).await;
        let heads = recorder.take();
        let values: Vec<_> = heads[0]
            .headers
            .get_all(X_FORWARDED_PREFIX)
            .iter()
            .collect();
        assert_eq!(values, ["/a", "/b"]);
    }

    #[tokio::test]
    async fn a_matched_prefix_goes() {
        let cases: [(&[&str], &str, &str, &str); 6] = [
            (&["/[a-z]+"], "/abc/1/abc", "/1/abc", "/abc"),
            (&["/x", "^/[a-z]+/"], "/abc/1", "/1", "/abc/"),
            (&["b"], "/ab", "/ab", "-"),
            (&["/a|/"], "/a%2Fb", "/b", "/a"),
            (&["z*"], "/a", "/a", "-"),
            (&[" /a "], "/a/b%2Fc", "/b%2Fc", "/a"),
        ];
        for (expressions, sent, target, prefix) in cases {
            let expected = (target.to_owned(), prefix.to_owned());
            let middleware = regex(expressions).unwrap();
            assert_eq!(
                seen(middleware, sent).await,
                expected,
                "{expressions:?} {sent}"
            );
        }
    }

    #[tokio::test]
    async fn control_characters_never_become_a_header() {
        let middleware = regex(&["(?s)/a./"]).unwrap();
        assert_eq!(seen(middleware, "/a%0A/b").await.0, "400");
    }

    #[test]
    fn broken_options_are_named() {
        assert_eq!(key(regex(&["("])), "stripPrefixRegex.regex");
        let options = dynamic::StripPrefix {
            prefixes: vec!["/a\nb".to_owned()],
            force_slash: None,
        };
        assert_eq!(key(StripPrefix::new(&options)), "stripPrefix.prefixes");
    }
}
