//! `basicAuth`: asks for a user name and a password (RFC 7617).
//!
//! Unknown users are compared with the costliest hash there is, so that an
//! answer's delay doesn't tell who exists. A password that was verified once is
//! recognised by a salted sum, one for each user, and costs no bcrypt again.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ::http::StatusCode;
use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::dynamic;
use crate::http::{HttpService, Request, Response, ResponseFuture, respond};

use super::htpasswd::Hash;
use super::{BuildError, Middleware, header_name, header_value};

/// Padding is needed, but bits beyond the last byte may be anything, as in Go.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The longest password in bytes that is looked at (Apache's tools make none
/// beyond 255): hashing takes longer with every byte.
const MAX_PASSWORD: usize = 512;

pub(super) struct BasicAuth {
    users: HashMap<Box<[u8]>, User>,
    /// What unknown users are compared with.
    stand_in: Arc<Hash>,
    challenge: HeaderValue,
    header_field: Option<HeaderName>,
    remove_header: bool,
    salt: [u8; 32],
}

struct User {
    hash: Arc<Hash>,
    name: HeaderValue,
    /// The salted sum of the password, once it is known.
    verified: OnceLock<[u8; 32]>,
}

/// What a client says in `Authorization`.
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl BasicAuth {
    pub(super) fn new(options: &dynamic::BasicAuth) -> Result<Self, BuildError> {
        let users = read_users(options)?;
        let stand_in = users.values().max_by_key(|user| user.hash.cost());
        let stand_in = stand_in.map(|user| Arc::clone(&user.hash));
        let realm = match options.realm.as_str() {
            "" => "traefik",
            realm => realm,
        };
        let header_field = match options.header_field.as_str() {
            "" => None,
            name => Some(header_name("basicAuth.headerField", name)?),
        };
        Ok(Self {
            stand_in: stand_in
                .ok_or_else(|| BuildError::option("basicAuth.users", "there is no user"))?,
            users,
            challenge: header_value("basicAuth.realm", &format!("Basic realm=\"{realm}\""))?,
            header_field,
            remove_header: options.remove_header,
            salt: salt()?,
        })
    }

    /// The user that the credentials are those of.
    async fn verify(&self, credentials: &Credentials) -> Option<&User> {
        let user = self.users.get(credentials.user.as_slice());
        let sum = self.sum(&credentials.password);
        let known = user.and_then(|user| user.verified.get());
        if known.is_some_and(|known| known.ct_eq(&sum).into()) {
            return user;
        }
        let hash = user.map_or(&self.stand_in, |user| &user.hash);
        let matches = hash.matches(&credentials.password).await;
        let user = user.filter(|_| matches)?;
        // Another request may have been faster; the password is the same.
        let _ = user.verified.set(sum);
        Some(user)
    }

    fn sum(&self, password: &[u8]) -> [u8; 32] {
        let sum = Sha256::new().chain_update(self.salt).chain_update(password);
        sum.finalize().into()
    }

    fn refuse(&self) -> Response {
        let mut response = respond::plain(StatusCode::UNAUTHORIZED, "401 Unauthorized\n");
        let headers = response.headers_mut();
        headers.clear();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(WWW_AUTHENTICATE, self.challenge.clone());
        response
    }

    /// Tells the server who it is, and perhaps not how that was proven.
    fn introduce(&self, user: &User, request: &mut Request) {
        let headers = &mut request.head.headers;
        if let Some(name) = &self.header_field {
            headers.insert(name, user.name.clone());
        }
        if self.remove_header {
            headers.remove(AUTHORIZATION);
        }
    }
}

impl Middleware for BasicAuth {
    fn handle<'a>(&'a self, mut request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        Box::pin(async move {
            let Some(credentials) = credentials(&request) else {
                return self.refuse();
            };
            // The access log names whoever is claimed to ask, as Traefik's does.
            let name = String::from_utf8_lossy(&credentials.user);
            *request.exchange.user.borrow_mut() = Some(name.into());
            let Some(user) = self.verify(&credentials).await else {
                return self.refuse();
            };
            self.introduce(user, &mut request);
            next.call(request).await
        })
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth")
            .field("users", &self.users.len())
            .field("challenge", &self.challenge)
            .finish_non_exhaustive()
    }
}

fn credentials(request: &Request) -> Option<Credentials> {
    let header = request.head.headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = header.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = BASE64.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at_checked(colon)?;
    let password = password.get(1..)?;
    (password.len() <= MAX_PASSWORD).then(|| Credentials {
        user: user.to_vec(),
        password: password.to_vec(),
    })
}

/// Users of the file, then those of the list; the last of a name counts.
fn read_users(options: &dynamic::BasicAuth) -> Result<HashMap<Box<[u8]>, User>, BuildError> {
    let mut users = HashMap::new();
    if !options.users_file.is_empty() {
        let key = "basicAuth.usersFile";
        let text = std::fs::read_to_string(Path::new(&options.users_file))
            .map_err(|error| BuildError::option(key, error))?;
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                let (name, user) = read_user(key, number + 1, line)?;
                users.insert(name, user);
            }
        }
    }
    for (number, line) in options.users.iter().enumerate() {
        let (name, user) = read_user("basicAuth.users", number + 1, line)?;
        users.insert(name, user);
    }
    Ok(users)
}

/// Reads `user:hash`. Errors give the number of the entry, never its text.
fn read_user(key: &str, number: usize, line: &str) -> Result<(Box<[u8]>, User), BuildError> {
    let pair = line.split_once(':').filter(|(_, hash)| !hash.contains(':'));
    let Some((name, hash)) = pair else {
        let problem = format!("entry {number} is not of the form `user:hash`");
        return Err(BuildError::option(key, problem));
    };
    let hash = Hash::parse(hash);
    if matches!(hash, Hash::Unknown) {
        tracing::warn!(user = name, "Password hash of a user is of no known kind");
    }
    let user = User {
        hash: Arc::new(hash),
        name: header_value(key, name)?,
        verified: OnceLock::new(),
    };
    Ok((name.as_bytes().into(), user))
}

fn salt() -> Result<[u8; 32], BuildError> {
    let mut salt = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    match random.fill(&mut salt) {
        Ok(()) => Ok(salt),
        Err(_) => Err(BuildError::option(
            "basicAuth",
            "the system gives no random bytes",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use crate::http::SharedService;
    use crate::http::testing::{self, Recorder, text};
    use crate::middleware::testing::{around, key};

    use super::*;

    const USERS: [&str; 3] = [
        "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/",
        "sha:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=",
        "plain:test",
    ];

    fn options(users: &[&str]) -> dynamic::BasicAuth {
        dynamic::BasicAuth {
            users: users.iter().map(ToString::to_string).collect(),
            ..dynamic::BasicAuth::default()
        }
    }

    fn with(options: &dynamic::BasicAuth) -> (Arc<Recorder>, SharedService) {
        let recorder = Recorder::answering(&[]);
        let service = around(BasicAuth::new(options).unwrap(), &recorder);
        (recorder, service)
    }

    fn request(authorization: &str) -> Request {
        let mut request = testing::request("GET", "/");
        request.head.headers = testing::headers(&[
            ("Authorization", authorization),
            ("X-User", "forged"),
            ("X-User", "twice"),
        ]);
        request
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64.encode(credentials))
    }

    #[tokio::test]
    async fn users_pass_with_their_passwords() {
        let (_, service) = with(&options(&USERS));
        let cases = [
            (basic("test:test"), 200),
            (basic("sha:test"), 200),
            (basic("test:test").replace("Basic", "bASIC"), 200),
            (basic("test:Test"), 401),
            (basic("test:"), 401),
            (basic("test"), 401),
            (basic("plain:test"), 401),
            (basic("unknown:test"), 401),
            (basic(":"), 401),
            ("Basic dGVzdDp0ZXN0".to_owned(), 200),
            ("Basic  dGVzdDp0ZXN0".to_owned(), 401),
            ("Basic dGVzdDp0ZXN0=".to_owned(), 401),
            ("Bearer dGVzdDp0ZXN0".to_owned(), 401),
            ("Basic".to_owned(), 401),
            (String::new(), 401),
        ];
        for (authorization, expected) in cases {
            let response = service.call(request(&authorization)).await;
            assert_eq!(response.status(), expected, "{authorization}");
        }
    }

    #[tokio::test]
    async fn a_refusal_asks_for_credentials() {
        let mut options = options(&USERS);
        options.realm = r#"a "b""#.to_owned();
        let (recorder, service) = with(&options);
        let response = service.call(testing::request("GET", "/")).await;
        let seen = testing::lines(response.headers());
        let expected = [
            "content-type: text/plain",
            r#"www-authenticate: Basic realm="a "b"""#,
        ];
        assert_eq!(seen, expected);
        assert_eq!(text(response).await, "401 Unauthorized\n");
        assert!(recorder.take().is_empty());
    }

    #[tokio::test]
    async fn the_server_is_told_the_user_but_not_the_password() {
        let mut options = options(&USERS);
        options.header_field = "X-User".to_owned();
        options.remove_header = true;
        let (recorder, service) = with(&options);
        let request = request(&basic("test:test"));
        let exchange = Rc::clone(&request.exchange);
        service.call(request).await;
        assert_eq!(
            testing::lines(&recorder.take()[0].headers),
            ["x-user: test"]
        );
        assert_eq!(exchange.user.borrow().as_deref(), Some("test"));
    }

    #[tokio::test]
    async fn a_verified_password_is_recognised() {
        let hash = bcrypt::hash("right", 4).unwrap();
        let auth = BasicAuth::new(&options(&[&format!("u:{hash}")])).unwrap();
        let credentials = |password: &str| Credentials {
            user: b"u".to_vec(),
            password: password.as_bytes().to_vec(),
        };
        assert!(auth.verify(&credentials("wrong")).await.is_none());
        assert!(auth.users[b"u".as_slice()].verified.get().is_none());
        for _ in 0..2 {
            assert!(auth.verify(&credentials("right")).await.is_some());
            assert!(auth.users[b"u".as_slice()].verified.get().is_some());
        }
        assert!(auth.verify(&credentials("wrong")).await.is_none());
    }

    #[tokio::test]
    async fn a_password_that_takes_too_long_is_refused() {
        let sum = |password: &str| {
            use sha1::Sha1;
            BASE64.encode(Sha1::digest(password))
        };
        for (length, expected) in [(MAX_PASSWORD, 200), (MAX_PASSWORD + 1, 401)] {
            let password = "x".repeat(length);
            let (_, service) = with(&options(&[&format!("u:{{SHA}}{}", sum(&password))]));
            let response = service
                .call(request(&basic(&format!("u:{password}"))))
                .await;
            assert_eq!(response.status(), expected, "{length}");
        }
    }

    #[test]
    fn strangers_cost_as_much_as_the_costliest_user() {
        let hash = bcrypt::hash("right", 4).unwrap();
        let auth = BasicAuth::new(&options(&[USERS[0], &format!("u:{hash}"), USERS[1]]));
        assert!(matches!(*auth.unwrap().stand_in, Hash::Bcrypt(_)));
    }

    #[tokio::test]
    async fn the_list_overrides_the_file() {
        let path = std::env::temp_dir().join(format!("tidegate-users-{}", std::process::id()));
        let file = "# users\n\n test:{SHA}AAAA \nfile:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\r\n";
        std::fs::write(&path, file).unwrap();
        let mut options = options(&USERS[..1]);
        options.users_file = path.to_str().unwrap().to_owned();
        let (_, service) = with(&options);
        std::fs::remove_file(path).unwrap();
        for user in ["test", "file"] {
            let response = service.call(request(&basic(&format!("{user}:test")))).await;
            assert_eq!(response.status(), 200, "{user}");
        }
    }

    #[test]
    fn broken_options_are_named() {
        assert_eq!(key(BasicAuth::new(&options(&[]))), "basicAuth.users");
        assert_eq!(key(BasicAuth::new(&options(&["test"]))), "basicAuth.users");
        assert_eq!(
            key(BasicAuth::new(&options(&["a:b:secret"]))),
            "basicAuth.users"
        );
        let error = BasicAuth::new(&options(&["a:b:secret"])).unwrap_err();
        assert!(!error.to_string().contains("secret"));
        let file = dynamic::BasicAuth {
            users_file: "/does/not/exist".to_owned(),
            ..options(&USERS)
        };
        assert_eq!(key(BasicAuth::new(&file)), "basicAuth.usersFile");
        let field = dynamic::BasicAuth {
            header_field: "X User".to_owned(),
            ..options(&USERS)
        };
        assert_eq!(key(BasicAuth::new(&field)), "basicAuth.headerField");
        let realm = dynamic::BasicAuth {
            realm: "a\nb".to_owned(),
            ..options(&USERS)
        };
        assert_eq!(key(BasicAuth::new(&realm)), "basicAuth.realm");
    }
}
