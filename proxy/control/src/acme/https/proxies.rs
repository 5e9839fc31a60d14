//! Which proxy leads to a server, by the environment's variables as Go's programs heed
//! them, and the tunnel through it.
//!
//! `HTTPS_PROXY` and `HTTP_PROXY` are for servers with and without TLS, `NO_PROXY` names
//! servers that are asked directly; this machine's own always are.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::{HANDSHAKE, HttpsError, Pipe, Server, within};

/// The proxies that an environment names; none by default.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    with_tls: Option<Way>,
    in_clear: Option<Way>,
    direct: Vec<Direct>,
}

/// A proxy, or what is written where one should be.
type Way = Result<Proxy, String>;

/// A proxy that speaks HTTP.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) server: Server,
    authorization: Option<HeaderValue>,
}

/// Servers that need no proxy, at one port or at all.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    All,
    Net(IpNet),
    Address(IpAddr, Option<u16>),
    /// Names that end in this, which begins with a dot; and what is behind that dot, too.
    Names {
        end: String,
        with_parent: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// What the environment says, which is asked by name; small letters count as well.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            let mut texts = names.iter().filter_map(|name| variable(name));
            texts.find(|text| !text.is_empty())
        };
        let way = |name| text(name).map(|text| Proxy::read(&text).ok_or(text));
        let direct = text("NO_PROXY").unwrap_or_default();
        Self {
            with_tls: way("HTTPS_PROXY"),
            in_clear: way("HTTP_PROXY"),
            direct: direct.split(',').filter_map(Direct::read).collect(),
        }
    }

    /// The proxy that leads to a server, if it is not asked directly.
    pub(super) fn to(&self, server: &Server) -> Result<Option<&Proxy>, HttpsError> {
        let way = if server.is_tls {
            &self.with_tls
        } else {
            &self.in_clear
        };
        match way {
            Some(way) if !self.is_direct(server) => match way {
                Ok(proxy) => Ok(Some(proxy)),
                Err(text) => Err(HttpsError::Proxy {
                    proxy: without_password(text).to_owned(),
                    message: "it is no address of a proxy that speaks HTTP".to_owned(),
                }),
            },
            _ => Ok(None),
        }
    }

    fn is_direct(&self, server: &Server) -> bool {
        let host = server.host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let mut direct = self.direct.iter();
        direct.any(|direct| direct.is_for(host, address, server.port))
    }
}

impl Direct {
    /// One entry; nothing if it says nothing.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(net) = text.parse() {
            return Some(Self::Net(net));
        }
        let bare = text.trim_matches(['[', ']']);
        if let Ok(address) = bare.parse() {
            return Some(Self::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Some(Self::Address(address, port));
        }
        let end = host.strip_prefix('*').filter(|end| end.starts_with('.'));
        let end = end.unwrap_or(host);
        let name = end.strip_prefix('.').unwrap_or(end);
        (!name.is_empty()).then(|| Self::Names {
            end: format!(".{name}"),
            with_parent: !end.starts_with('.'),
            port,
        })
    }

    fn is_for(&self, host: &str, address: Option<IpAddr>, at: u16) -> bool {
        let is_at = |port: &Option<u16>| port.is_none_or(|port| port == at);
        match self {
            Self::All => true,
            Self::Net(net) => address.is_some_and(|address| net.contains(&address)),
            Self::Address(own, port) => address == Some(*own) && is_at(port),
            Self::Names {
                end,
                with_parent,
                port,
            } => {
                let is_parent = *with_parent && end.strip_prefix('.') == Some(host);
                address.is_none() && is_at(port) && (is_parent || host.ends_with(end))
            }
        }
    }
}

impl Proxy {
    /// `[http[s]://][USER:PASSWORD@]HOST[:PORT]`.
    fn read(text: &str) -> Option<Self> {
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = with_scheme.parse().ok()?;
        let server = Server::of(&uri).ok()?;
        let user = uri.authority()?.as_str().rsplit_once('@');
        let authorization = match user {
            Some((user, _)) => Some(basic(user)?),
            None => None,
        };
        Some(Self {
            server,
            authorization,
        })
    }

    /// Shows the proxy who we are.
    pub(super) fn authorize<B>(&self, request: &mut Request<B>) {
        if let Some(value) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
    }

    /// Has the proxy connect to a server (RFC 9110 §9.3.6).
    pub(super) async fn tunnel(&self, server: &Server, stream: Pipe) -> Result<Pipe, HttpsError> {
        let asking = async {
            let broken = |error| self.server.broken(error);
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
            tokio::spawn(connection.with_upgrades());
            let request = self.request(server)?;
            let answer = sender.send_request(request).await.map_err(broken)?;
            if !answer.status().is_success() {
                return Err(HttpsError::Proxy {
                    proxy: self.server.to_string(),
                    message: format!("it won't connect to {server}: {}", answer.status()),
                });
            }
            let stream = hyper::upgrade::on(answer).await.map_err(broken)?;
            Ok(Box::new(TokioIo::new(stream)) as Pipe)
        };
        within(Some(HANDSHAKE), &self.server, asking).await?
    }

    fn request(&self, server: &Server) -> Result<Request<Full<Bytes>>, HttpsError> {
        let target = server.authority();
        let request = Request::connect(target.as_str()).header(HOST, target.as_str());
        let request = request.body(Full::default());
        let mut request = request.map_err(|_| HttpsError::Address(target))?;
        self.authorize(&mut request);
        Ok(request)
    }
}

/// `USER:PASSWORD` as a header has it (RFC 7617).
fn basic(user: &str) -> Option<HeaderValue> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut pair: Vec<u8> = percent_decode_str(name).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn without_password(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, server)| server)
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn server(url: &str) -> Server {
        Server::of(&url.parse().unwrap()).unwrap()
    }

    #[test]
    fn servers_with_and_without_a_proxy() {
        let proxies = environment(&[
            ("HTTPS_PROXY", "tls.proxy"),
            ("http_proxy", "https://user:p%40ss@clear.proxy"),
            (
                "no_proxy",
                "Near.example, .below.example,*.star.example:444,10.0.0.0/8,192.0.2.7:444,::2,,:1",
            ),
        ]);
        for (url, expected) in [
            ("https://far.example/", Some("tls.proxy:80")),
            ("http://far.example/", Some("clear.proxy:443")),
            ("https://localhost/", None),
            ("https://127.1.2.3/", None),
            ("https://[::1]/", None),
            ("https://near.example/", None),
            ("https://NEAR.example./", None),
            ("https://a.near.example/", None),
            ("https://anear.example/", Some("tls.proxy:80")),
            ("https://below.example/", Some("tls.proxy:80")),
            ("https://a.below.example/", None),
            ("https://a.star.example:444/", None),
            ("https://a.star.example/", Some("tls.proxy:80")),
            ("https://10.9.8.7/", None),
            ("https://192.0.2.7:444/", None),
            ("https://192.0.2.7/", Some("tls.proxy:80")),
            ("https://[::2]/", None),
        ] {
            let found = proxies.to(&server(url)).unwrap();
            let found = found.map(|proxy| proxy.server.to_string());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
        let all = environment(&[("HTTPS_PROXY", "tls.proxy"), ("NO_PROXY", "a, *")]);
        assert!(all.to(&server("https://far.example/")).unwrap().is_none());
        let none = environment(&[("HTTPS_PROXY", "")]);
        assert!(none.to(&server("https://far.example/")).unwrap().is_none());
    }

    #[test]
    fn what_is_no_proxy_is_not_gone_around() {
        for bad in ["socks5://user:secret@a.proxy:1080", "http://", "a b"] {
            let proxies = environment(&[("HTTPS_PROXY", bad)]);
            let error = proxies.to(&server("https://far.example/")).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(proxies.to(&server("https://localhost/")).is_ok());
        }
    }
}
