//! What servers are told about a client, ready to be written.
//!
//! As long as a client says nothing of its own, all requests of a connection for
//! one host tell servers the same: the headers of [`forwarded`]. So they are made
//! once, as the bytes of an HTTP/1 head, and a request carries these bytes on
//! its exchange instead of headers. For whoever looks at a request's headers or
//! sends them otherwise, [`settle`] and [`settle_to_send`] make headers of them.

use std::rc::Rc;

use ::http::{HeaderMap, HeaderValue};

use super::{ConnectionInfo, Request, forwarded};

/// The lines about the client of one connection, for one host.
#[derive(Debug)]
pub struct ClientLines {
    host: Box<[u8]>,
    /// The name of this machine.
    server: HeaderValue,
    bytes: Box<[u8]>,
}

impl ClientLines {
    /// Those of a connection, made anew if its last request was for another host.
    pub(super) fn of(
        connection: &ConnectionInfo,
        host: &HeaderValue,
        server: &HeaderValue,
    ) -> Rc<Self> {
        let mut last = connection.lines.borrow_mut();
        if let Some(lines) = &*last
            && *lines.host == *host.as_bytes()
        {
            return Rc::clone(lines);
        }
        let lines = Rc::new(Self::new(connection, host, server));
        *last = Some(Rc::clone(&lines));
        lines
    }

    fn new(connection: &ConnectionInfo, host: &HeaderValue, server: &HeaderValue) -> Self {
        let mut headers = HeaderMap::new();
        forwarded::tell(&mut headers, connection, host, server);
        forwarded::append_client(&mut headers, connection);
        let mut bytes = Vec::new();
        for (name, value) in &headers {
            let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
            bytes.extend(line.into_iter().flatten());
        }
        Self {
            host: host.as_bytes().into(),
            server: server.clone(),
            bytes: bytes.into_boxed_slice(),
        }
    }

    /// Whole lines of an HTTP/1 head, `X-Forwarded-For` among them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Puts what is ready to be written among a request's headers, as they are
/// before [`forwarded::forward`]. Tells whether there was anything.
pub fn settle(request: &mut Request) -> bool {
    let exchange = &request.exchange;
    let Some(lines) = exchange.lines.take() else {
        return false;
    };
    let headers = &mut request.head.headers;
    forwarded::tell(headers, &exchange.connection, &exchange.host, &lines.server);
    true
}

/// The same for a request that goes to a server otherwise than by HTTP/1.
pub fn settle_to_send(request: &mut Request) {
    if settle(request) {
        forwarded::append_client(&mut request.head.headers, &request.exchange.connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing;

    const SERVER: HeaderValue = HeaderValue::from_static("node1");

    fn entered(connection: &Rc<ConnectionInfo>, host: &'static str) -> Request {
        let mut request = testing::request("GET", "/");
        let exchange = Rc::get_mut(&mut request.exchange).unwrap();
        exchange.connection = Rc::clone(connection);
        exchange.host = HeaderValue::from_static(host);
        forwarded::enter(&mut request, &SERVER);
        request
    }

    fn text(request: &Request) -> Option<String> {
        let lines = request.exchange.lines.borrow();
        let bytes = lines.as_ref()?.as_bytes();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn they_are_what_the_headers_would_be() {
        for appends in [true, false] {
            let mut connection = testing::connection("192.0.2.7:1234");
            connection.appends_forwarded_for = appends;
            let connection = Rc::new(connection);
            for host in ["a.example", "b.example:81", ""] {
                let mut request = entered(&connection, host);
                let written = text(&request).unwrap();
                assert_eq!(written.contains("x-forwarded-for: "), appends);
                let mut written: Vec<_> = written.lines().map(str::to_owned).collect();
                written.push("host: a.example".to_owned());
                written.sort();
                settle_to_send(&mut request);
                assert_eq!(testing::lines(&request.head.headers), written);
                assert_eq!(text(&request), None);
            }
        }
    }

    #[test]
    fn requests_for_one_host_share_them_and_others_keep_theirs() {
        let connection = Rc::new(testing::connection("192.0.2.7:1234"));
        let requests = ["a", "a", "b"].map(|host| entered(&connection, host));
        let [first, second, third] = requests.map(|request| request.exchange.lines.take().unwrap());
        assert!(Rc::ptr_eq(&first, &second));
        assert_ne!(first.as_bytes(), third.as_bytes());
    }

    #[test]
    fn what_is_settled_early_names_no_client_yet() {
        let connection = Rc::new(testing::connection("192.0.2.7:1234"));
        let mut request = entered(&connection, "a");
        assert!(settle(&mut request));
        assert!(!request.head.headers.contains_key("x-forwarded-for"));
        assert_eq!(request.head.headers["x-forwarded-server"], "node1");
        assert!(!settle(&mut request));
    }
}
