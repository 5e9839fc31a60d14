//! Makes files as Traefik writes them, with certificates of an authority of our own.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::EncodePrivateKey as _;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tidegate_proxy::acme::store::Account;
use x509_parser::parse_x509_certificate;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the certificates' authority is called.
const AUTHORITY: &str = "Authority of the Old Days";

/// Who wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Two,
    Three,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ec,
    Rsa,
}

/// A certificate, as Traefik has it.
pub(crate) struct Made {
    names: Vec<String>,
    /// The leaf, DER.
    pub(crate) leaf: Vec<u8>,
    /// Leaf and authority, PEM.
    pub(crate) chain: String,
    key: String,
}

impl Made {
    /// One that lives 90 days, and has so long to go.
    pub(crate) fn new(names: &[&str], kind: Kind, left: Duration) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, AUTHORITY);
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(params, authority_key);

        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        let end = SystemTime::now() + left;
        params.not_after = end.into();
        params.not_before = (end - 90 * DAY).into();
        params.use_authority_key_identifier_extension = true;
        let (key, text) = match kind {
            Kind::Ec => ec_key(),
            Kind::Rsa => rsa_key(),
        };
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Self {
            names,
            leaf: leaf.der().to_vec(),
            chain: format!("{}{authority}", leaf.pem()),
            key: text,
        }
    }

    fn entry(&self) -> Value {
        let mut domain = json!({"main": self.names[0]});
        if self.names.len() > 1 {
            domain["sans"] = json!(self.names[1..]);
        }
        json!({
            "domain": domain,
            "certificate": STANDARD.encode(&self.chain),
            "key": STANDARD.encode(&self.key),
            "Store": "default",
        })
    }
}

/// A key, and its text as Go's programs write it: SEC 1 with the curve's name.
fn ec_key() -> (KeyPair, String) {
    const CURVE: [u8; 12] = [
        0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    let key = KeyPair::generate().unwrap();
    // PKCS#8 of P-256: both halves stand where they always do.
    let pkcs8 = key.serialize_der();
    let private = &pkcs8[36..68];
    let public = &pkcs8[pkcs8.len() - 65..];
    let head = [0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
    let between = [0xa1, 0x44, 0x03, 0x42, 0x00];
    let der = [&head[..], private, &CURVE, &between, public].concat();
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).collect();
    let lines = String::from_utf8(lines.join(&b'\n')).unwrap();
    let text = format!("-----BEGIN EC PRIVATE KEY-----\n{lines}\n-----END EC PRIVATE KEY-----\n");
    (key, text)
}

/// The same of RSA, in PKCS#1.
fn rsa_key() -> (KeyPair, String) {
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let text = key.to_pkcs1_pem(rsa::pkcs1::LineEnding::LF).unwrap();
    let der = key.to_pkcs8_der().unwrap();
    let der = PrivatePkcs8KeyDer::from(der.as_bytes());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256).unwrap();
    (pair, text.to_string())
}

/// A file with one resolver, `le`.
pub(crate) fn file(version: Version, account: &Account, certificates: &[&Made]) -> Value {
    let mut account = json!({
        "Email": account.email,
        "Registration": {
            "body": {
                "status": "valid",
                "contact": [format!("mailto:{}", account.email)],
            },
            "uri": account.uri,
        },
        "PrivateKey": STANDARD.encode(&account.private_key),
    });
    if version == Version::Two {
        account["KeyType"] = json!("4096");
    }
    let certificates: Vec<_> = certificates.iter().map(|made| made.entry()).collect();
    json!({"le": {"Account": account, "Certificates": certificates}})
}

/// Whether a leaf is one of these, for this name.
pub(crate) fn is_ours(leaf: &[u8], name: &str) -> bool {
    let Ok((_, leaf)) = parse_x509_certificate(leaf) else {
        return false;
    };
    let names = leaf.subject_alternative_name().unwrap();
    let has_name = names.is_some_and(|names| format!("{:?}", names.value).contains(name));
    has_name && leaf.issuer().to_string().contains(AUTHORITY)
}
