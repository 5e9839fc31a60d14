//! What happens to requests and responses between a router and its service.
//!
//! Owns one type for each kind of middleware, made from its options by
//! [`build`], the one place that names them all. It knows no routers and picks
//! no servers: a [`Layer`] is wrapped around whatever service comes next. What
//! is wrong with options is reported under Traefik's name of the option.

mod add_prefix;
mod basic_auth;
mod headers;
mod htpasswd;
mod ip_allow_list;
mod ip_strategy;
mod location;
mod pattern;
mod redirect;
mod replace_path;
mod retry;
mod strip_prefix;

use std::fmt;
use std::sync::Arc;

use ::http::StatusCode;
use ::http::header::{HeaderName, HeaderValue};
use thiserror::Error;

use crate::config::dynamic;
use crate::http::{
    ErrorKind, HttpService, ProxyError, Request, Response, ResponseFuture, SharedService, respond,
};

use add_prefix::AddPrefix;
use basic_auth::BasicAuth;
use headers::Headers;
use ip_allow_list::IpAllowList;
use redirect::{RedirectRegex, RedirectScheme};
use replace_path::{ReplacePath, ReplacePathRegex};
use retry::Retry;
use strip_prefix::{StripPrefix, StripPrefixRegex};

/// What a middleware's options describe.
#[derive(Clone, Debug)]
pub enum Built {
    /// Something to wrap around a service.
    Layer(Layer),
    /// Other middlewares by name, the first one outermost.
    Chain(Vec<String>),
}

/// Why a middleware can't be built. The caller knows where it was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There are no options.
    #[error("the middleware has no kind")]
    NoKind,
    /// One middleware can't be two things.
    #[error("the middleware is both `{0}` and `{1}`; each needs a name of its own")]
    TwoKinds(&'static str, &'static str),
    /// One option can't be obeyed.
    #[error("`{key}`: {problem}")]
    Option {
        /// Its name from the kind on, as in `stripPrefix.prefixes`.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl BuildError {
    fn option(key: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::Option {
            key: key.into(),
            problem: problem.to_string(),
        }
    }
}

/// Makes a middleware of its options. Files that the options name are read now.
///
/// # Errors
/// There is not exactly one kind, or an option can't be obeyed.
pub fn build(options: &dynamic::Middleware) -> Result<Built, BuildError> {
    let chain = options.chain.as_ref();
    let kinds = [
        ("addPrefix", layer(&options.add_prefix, AddPrefix::new)),
        ("basicAuth", layer(&options.basic_auth, BasicAuth::new)),
        (
            "chain",
            chain.map(|chain| Ok(Built::Chain(chain.middlewares.clone()))),
        ),
        ("headers", layer(&options.headers, Headers::new)),
        (
            "ipAllowList",
            layer(&options.ip_allow_list, |options| {
                IpAllowList::new("ipAllowList", options)
            }),
        ),
        (
            "ipWhiteList",
            layer(&options.ip_white_list, |options| {
                IpAllowList::new("ipWhiteList", options)
            }),
        ),
        (
            "redirectRegex",
            layer(&options.redirect_regex, RedirectRegex::new),
        ),
        (
            "redirectScheme",
            layer(&options.redirect_scheme, RedirectScheme::new),
        ),
        (
            "replacePath",
            layer(&options.replace_path, ReplacePath::new),
        ),
        (
            "replacePathRegex",
            layer(&options.replace_path_regex, ReplacePathRegex::new),
        ),
        ("retry", layer(&options.retry, Retry::new)),
        (
            "stripPrefix",
            layer(&options.strip_prefix, StripPrefix::new),
        ),
        (
            "stripPrefixRegex",
            layer(&options.strip_prefix_regex, StripPrefixRegex::new),
        ),
    ];
    only_one(kinds)
}

fn layer<O, M: Middleware + 'static>(
    options: &Option<O>,
    new: impl FnOnce(&O) -> Result<M, BuildError>,
) -> Option<Result<Built, BuildError>> {
    let options = options.as_ref()?;
    Some(new(options).map(|middleware| Built::Layer(Layer(Arc::new(middleware)))))
}

type Kind = (&'static str, Option<Result<Built, BuildError>>);

fn only_one(kinds: impl IntoIterator<Item = Kind>) -> Result<Built, BuildError> {
    let mut present = kinds
        .into_iter()
        .filter_map(|(kind, built)| Some((kind, built?)));
    match (present.next(), present.next()) {
        (None, _) => Err(BuildError::NoKind),
        (Some((_, built)), None) => built,
        (Some((one, _)), Some((other, _))) => Err(BuildError::TwoKinds(one, other)),
    }
}

/// A middleware that is ready to be put in front of a service.
#[derive(Clone, Debug)]
pub struct Layer(Arc<dyn Middleware>);

impl Layer {
    /// A service that sends its requests through the middleware first. What the
    /// middleware remembers (verified passwords) is shared by all of them.
    pub fn wrap(&self, next: SharedService) -> SharedService {
        Arc::new(Wrapped {
            middleware: Arc::clone(&self.0),
            next,
        })
    }
}

/// One kind of middleware with its options.
trait Middleware: fmt::Debug + Send + Sync {
    /// Answers a request, most often by handing it on.
    fn handle<'a>(&'a self, request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a>;
}

#[derive(Debug)]
struct Wrapped {
    middleware: Arc<dyn Middleware>,
    next: SharedService,
}

impl HttpService for Wrapped {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        self.middleware.handle(request, self.next.as_ref())
    }
}

/// An answer that is there already.
fn answer<'a>(response: Response) -> ResponseFuture<'a> {
    Box::pin(std::future::ready(response))
}

/// Hands a request on, or answers why it can't be.
fn go_on<'a>(
    outcome: Result<(), ProxyError>,
    request: Request,
    next: &'a dyn HttpService,
) -> ResponseFuture<'a> {
    match outcome {
        Ok(()) => next.call(request),
        Err(error) if error.kind == ErrorKind::BadRequest => {
            answer(respond::plain(StatusCode::BAD_REQUEST, "Bad Request\n"))
        }
        Err(error) => answer(respond::error(&error)),
    }
}

fn header_name(key: &str, name: &str) -> Result<HeaderName, BuildError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| BuildError::option(key, format!("`{name}` can't be a header's name")))
}

fn header_value(key: &str, value: &str) -> Result<HeaderValue, BuildError> {
    HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| BuildError::option(key, "a header's value can't hold control characters"))
}

#[cfg(test)]
mod testing {
    use crate::http::testing::Recorder;

    use super::*;

    /// Wraps a middleware around a recorder.
    pub(super) fn around<M: Middleware + 'static>(
        middleware: M,
        recorder: &Arc<Recorder>,
    ) -> SharedService {
        let next: SharedService = recorder.clone();
        Layer(Arc::new(middleware)).wrap(next)
    }

    /// The key of an error about an option.
    pub(super) fn key<T: fmt::Debug>(result: Result<T, BuildError>) -> String {
        match result.unwrap_err() {
            BuildError::Option { key, .. } => key,
            error => panic!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::http::testing::{self, Recorder};

    use super::*;

    fn read(json: &str) -> dynamic::Middleware {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_middleware_is_of_exactly_one_kind() {
        assert_eq!(build(&read("{}")).unwrap_err(), BuildError::NoKind);
        let two = r#"{"addPrefix":{"prefix":"/a"},"chain":{"middlewares":["a"]}}"#;
        assert_eq!(
            build(&read(two)).unwrap_err(),
            BuildError::TwoKinds("addPrefix", "chain")
        );
    }

    #[test]
    fn a_chain_is_a_list_of_names() {
        let chain = build(&read(r#"{"chain":{"middlewares":["b","a@file"]}}"#)).unwrap();
        assert!(matches!(chain, Built::Chain(names) if names == ["b", "a@file"]));
    }

    #[test]
    fn errors_name_the_option() {
        let error = build(&read(r#"{"ipWhiteList":{"sourceRange":["x"]}}"#)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`ipWhiteList.sourceRange`: `x`")
        );
    }

    #[tokio::test]
    async fn layers_nest() {
        let recorder = Recorder::answering(&[]);
        let mut service: SharedService = recorder.clone();
        let inner_to_outer = [
            r#"{"addPrefix":{"prefix":"/new"}}"#,
            r#"{"stripPrefix":{"prefixes":["/old"]}}"#,
        ];
        for json in inner_to_outer {
            let Built::Layer(layer) = build(&read(json)).unwrap() else {
                panic!("not a layer");
            };
            service = layer.wrap(service);
        }
        for (target, expected) in [("/old/a?b", "/new/a?b"), ("/old", "/new")] {
            let response = service.call(testing::request("GET", target)).await;
            assert_eq!(response.status(), 200);
            assert_eq!(recorder.take()[0].uri, expected);
        }
    }
}
