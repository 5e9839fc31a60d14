use std::time::Duration;

use super::*;
use crate::acme::challenge::{Challenge, ChallengeKind};
use crate::config::dynamic::Configuration;
use crate::config::startup::{
    CertificatesResolver, HttpChallenge, RedirectEntryPoint, Redirections, TlsChallenge,
};
use crate::http::testing;

/// An entry point `web` that redirects everything, and a resolver that uses it.
fn config(allow_acme_by_pass: bool) -> StaticConfig {
    let mut config = StaticConfig::default();
    let mut web = startup::EntryPoint {
        address: ":80".to_owned(),
        allow_acme_by_pass,
        ..startup::EntryPoint::default()
    };
    web.http.redirections = Some(Redirections {
        entry_point: Some(RedirectEntryPoint {
            to: ":443".to_owned(),
            ..RedirectEntryPoint::default()
        }),
    });
    config.entry_points.insert("web".to_owned(), web);
    let acme = Acme {
        http_challenge: Some(HttpChallenge {
            entry_point: "web".to_owned(),
            ..HttpChallenge::default()
        }),
        tls_challenge: Some(TlsChallenge::default()),
        ..Acme::default()
    };
    let resolver = CertificatesResolver { acme: Some(acme) };
    let resolvers = &mut config.certificates_resolvers;
    resolvers.insert("le".to_owned(), resolver);
    config
}

/// What the static configuration implies, under full names.
fn implied(config: &StaticConfig) -> Configuration {
    let mut implied = internal::update(config).configuration;
    let full = |name: String| format!("{name}@internal");
    let http = &mut implied.http;
    let routers = std::mem::take(&mut http.routers).into_iter();
    http.routers = routers.map(|(name, it)| (full(name), it)).collect();
    let middlewares = std::mem::take(&mut http.middlewares).into_iter();
    http.middlewares = middlewares.map(|(name, it)| (full(name), it)).collect();
    implied
}

fn challenge(kind: ChallengeKind) -> Challenge {
    Challenge {
        kind,
        name: "a.example".to_owned(),
        token: "token".to_owned(),
        key_authorization: "token.print".to_owned(),
        expires: SystemTime::now() + Duration::from_secs(60),
    }
}

#[tokio::test]
async fn authorities_get_through_to_the_board() {
    for allows_bypass in [false, true] {
        let config = config(allows_bypass);
        let (app, mut builder) = App::make(Arc::new(config.clone())).unwrap();
        let snapshot = builder.build(&implied(&config));
        assert!(snapshot.report.problems.is_empty());
        app.snapshot.store(Arc::new(snapshot));
        app.board.present(&challenge(ChallengeKind::Http01));
        let [entry_point] = app.entry_points().try_into().unwrap();
        for (path, status) in [
            ("/.well-known/acme-challenge/token", 200),
            ("/.well-known/acme-challenge/other", 404),
            ("/.well-known/other", 308),
        ] {
            let request = testing::request("GET", path);
            let response = entry_point.service.call(request).await;
            let found = match response.status().as_u16() {
                301 => 308,
                status => status,
            };
            assert_eq!(found, status, "{path}");
            if status == 200 {
                assert_eq!(testing::text(response).await, "token.print");
            }
        }
        app.board.withdraw("token");
        app.board.present(&challenge(ChallengeKind::TlsAlpn01));
        let tls = entry_point.tls.unwrap();
        // Where users' own routers may answer, we don't.
        let answer = tls.challenge("a.example").await;
        assert_eq!(answer.is_some(), !allows_bypass);
        assert!(tls.challenge("b.example").await.is_none());
    }
}
