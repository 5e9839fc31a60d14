//! Certificate resolvers from a configuration to what is served.

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tidegate_shared::settings::Origin;

use super::*;
use crate::config::dynamic::{
    Configuration, Domain, GeneratedCertificate, Object, Router, RouterTls, Store,
};
use crate::config::startup::{
    Acme, CertificatesResolver, EntryPoint, EntryPointTls, StaticConfig, TlsChallenge,
};
use crate::http::{HttpService, Request, ResponseFuture, respond};
use crate::tls::{Certificate, Issued, IssuedCertificate};

#[derive(Debug)]
struct Nothing;

impl HttpService for Nothing {
    fn call<'a>(&'a self, _: Request) -> ResponseFuture<'a> {
        Box::pin(async { respond::empty(::http::StatusCode::OK) })
    }
}

/// Two entry points, of which `secure` has TLS, and a resolver `le`.
fn builder() -> Builder {
    let mut config = StaticConfig::default();
    for name in ["web", "secure"] {
        let mut entry_point = EntryPoint::default();
        entry_point.http.tls = (name == "secure").then(|| EntryPointTls {
            cert_resolver: "le".to_owned(),
            ..EntryPointTls::default()
        });
        config.entry_points.insert(name.to_owned(), entry_point);
    }
    let acme = Acme {
        tls_challenge: Some(TlsChallenge::default()),
        ..Acme::default()
    };
    let resolver = CertificatesResolver { acme: Some(acme) };
    let resolvers = &mut config.certificates_resolvers;
    resolvers.insert("le".to_owned(), resolver);
    let registry = Registry::new(Arc::new(crate::tls::provider())).unwrap();
    let mut builder = Builder::new(Arc::new(config), None, registry);
    let service: SharedService = Arc::new(Nothing);
    builder.set_internals([("a@internal".to_owned(), service)].into());
    builder
}

fn router(rule: &str, resolver: Option<&str>) -> Object<Router> {
    let tls = resolver.map(|resolver| RouterTls {
        cert_resolver: resolver.to_owned(),
        ..RouterTls::default()
    });
    let router = Router {
        rule: rule.to_owned(),
        service: "a@internal".to_owned(),
        tls,
        ..Router::default()
    };
    Object::new(router, Origin::Internal)
}

fn configuration(routers: &[(&str, &str, Option<&str>)]) -> Configuration {
    let mut configuration = Configuration::default();
    for (name, rule, resolver) in routers {
        let router = router(rule, *resolver);
        configuration
            .http
            .routers
            .insert((*name).to_owned(), router);
    }
    configuration
}

fn issued(names: &[&str]) -> Arc<Issued> {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = CertificateParams::new(names.clone()).unwrap();
    let made = made.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let chain = vec![made.der().clone()];
    let certificate = Certificate::new(&crate::tls::provider(), chain, key).unwrap();
    let issued = IssuedCertificate {
        domain: domain(&names),
        certificate: Arc::new(certificate),
    };
    Arc::new(Issued {
        by_resolver: [("le".to_owned(), vec![issued])].into(),
    })
}

fn domain(names: &[String]) -> Domain {
    Domain {
        main: names[0].clone(),
        sans: names[1..].to_vec(),
    }
}

#[test]
fn what_routers_want_is_asked_for_once_and_served_when_it_is_there() {
    let mut builder = builder();
    let configuration = configuration(&[
        (
            "a@file",
            "Host(`a.example`) && PathPrefix(`/x`)",
            Some("le"),
        ),
        ("b@file", "Host(`a.example`)", None),
        ("c@file", "PathPrefix(`/`)", None),
    ]);
    let first = builder.build(&configuration);
    let wanted = &first.wanted.by_resolver["le"];
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].domain.main, "a.example");
    // The second has the resolver of its entry point.
    assert_eq!(wanted[0].routers, ["a@file", "b@file"]);
    assert!(first.tls.store.find("a.example").is_none());

    let certificates = issued(&["a.example"]);
    builder.set_issued(Arc::clone(&certificates));
    let second = builder.build(&configuration);
    // Issued certificates change nothing about what is wanted: they must be renewed.
    assert!(Arc::ptr_eq(&first.wanted, &second.wanted));
    let found = second.tls.store.find("a.example").unwrap();
    assert!(Arc::ptr_eq(
        found,
        &certificates.by_resolver["le"][0].certificate
    ));
    assert_eq!(second.tls.store.own().count(), 0);
    let third = builder.build(&Configuration::default());
    assert!(third.wanted.by_resolver.is_empty());
}

#[test]
fn a_router_with_an_unknown_resolver_is_served_and_says_so() {
    let mut builder = builder();
    let rule = "Host(`a.example`) || Host(`*.b.example`)";
    let routers = [
        ("a@file", rule, Some("nobody")),
        ("b@file", rule, Some("le")),
    ];
    let snapshot = builder.build(&configuration(&routers));
    for (name, message) in [
        ("a@file", "there is no certificate resolver \"nobody\""),
        ("b@file", "can only be shown by a dnsChallenge"),
    ] {
        let report = &snapshot.report.routers[name];
        assert_eq!(report.outcome.status, Status::Warning);
        let [error] = report.outcome.errors.as_slice() else {
            panic!("{:?}", report.outcome.errors)
        };
        assert!(
            error.contains("tls.certResolver") && error.contains(message),
            "{error}"
        );
    }
    let wanted = &snapshot.wanted.by_resolver["le"];
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].domain, domain(&["a.example".to_owned()]));
}

#[test]
fn a_generated_certificate_becomes_the_default_one() {
    let mut builder = builder();
    let mut configuration = Configuration::default();
    let mut define = |resolver: &str, domain: Option<Domain>| {
        let store = Store {
            default_generated_cert: Some(GeneratedCertificate {
                resolver: resolver.to_owned(),
                domain,
            }),
            ..Store::default()
        };
        let store = Object::new(store, Origin::Internal);
        let stores = &mut configuration.tls.stores;
        stores.insert("default".to_owned(), store);
        builder.build(&configuration)
    };
    for (resolver, domain, key) in [
        ("le", None, "defaultGeneratedCert.domain"),
        (
            "x",
            Some(Domain::default()),
            "defaultGeneratedCert.resolver",
        ),
    ] {
        let snapshot = define(resolver, domain);
        assert_eq!(snapshot.report.problems.len(), 1);
        assert!(snapshot.report.problems[0].key.ends_with(key));
    }
    let names = ["a.example".to_owned(), "b.example".to_owned()];
    let snapshot = define("le", Some(domain(&names)));
    assert!(snapshot.report.problems.is_empty());
    assert_eq!(snapshot.wanted.by_resolver["le"][0].domain, domain(&names));
    let own = Arc::clone(snapshot.tls.store.default_certificate());

    let certificates = issued(&["b.example", "a.example", "c.example"]);
    builder.set_issued(Arc::clone(&certificates));
    let snapshot = builder.build(&configuration);
    let default = snapshot.tls.store.default_certificate();
    assert!(!Arc::ptr_eq(default, &own));
    assert!(Arc::ptr_eq(
        default,
        &certificates.by_resolver["le"][0].certificate
    ));
    // It is still wanted: nobody else renews it.
    assert_eq!(snapshot.wanted.by_resolver["le"].len(), 1);
}
