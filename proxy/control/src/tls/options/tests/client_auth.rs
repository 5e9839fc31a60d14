//! Who gets in with which certificate, and without tickets.

use rustls_pki_types::PrivatePkcs8KeyDer;

use super::*;

/// An authority, and a client's certificate that it signed.
fn authority() -> (String, rcgen::CertifiedKey<rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, key);
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let cert = parameters.signed_by(&signing_key, &issuer).unwrap();
    (certificate.pem(), rcgen::CertifiedKey { cert, signing_key })
}

fn client_with(
    version: &'static SupportedProtocolVersion,
    shown: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let key = shown.signing_key.serialize_der();
            let chain = vec![shown.cert.der().clone()];
            builder
                .with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(key).into())
                .unwrap()
        }
    })
}

fn server(options: &TlsOptions) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let group = Some(tickets().of_group("default"));
    Arc::new(server_config(options, &provider, store(&provider), group).unwrap())
}

#[test]
fn clients_are_asked_for_certificates_in_all_modes() {
    use ClientAuthType as Kind;
    let (ca, good) = authority();
    let (_, foreign) = authority();
    let all = || vec![ca.clone()];
    let rows = [
        // Whether a client gets in with no certificate, a foreign one, a good one.
        (None, Vec::new(), [true, true, true]),
        (None, all(), [false, false, true]),
        (Some(Kind::NoClientCert), all(), [true, true, true]),
        (Some(Kind::RequestClientCert), all(), [true, true, true]),
        (
            Some(Kind::RequestClientCert),
            Vec::new(),
            [true, true, true],
        ),
        (
            Some(Kind::RequireAnyClientCert),
            Vec::new(),
            [false, true, true],
        ),
        (
            Some(Kind::VerifyClientCertIfGiven),
            all(),
            [true, false, true],
        ),
        (
            Some(Kind::RequireAndVerifyClientCert),
            all(),
            [false, false, true],
        ),
    ];
    for (kind, ca_files, expected) in rows {
        let options = TlsOptions {
            client_auth: ClientAuth {
                ca_files,
                client_auth_type: kind,
            },
            ..TlsOptions::default()
        };
        let asks = options.client_auth.kind() != Kind::NoClientCert;
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let server = server(&options);
            assert_eq!(server.ticketer.enabled(), !asks, "{kind:?}");
            let works = [None, Some(&foreign), Some(&good)].map(|shown| {
                let client = client_with(version, shown);
                let outcome = try_to_shake_hands(&client, &server, "a.example");
                let is_seen = |(_, server): &(_, ServerConnection)| {
                    server.peer_certificates().is_some() == (asks && shown.is_some())
                };
                assert!(outcome.as_ref().is_ok_and(is_seen) || outcome.is_err());
                outcome.is_ok()
            });
            assert_eq!(works, expected, "{kind:?}");
        }
    }
}
