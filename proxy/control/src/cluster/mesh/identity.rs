//! Who may speak in the mesh: certificates under an authority that follows from the
//! cluster's secret.
//!
//! The authority's key is the same on every proxy, so each makes itself a
//! certificate with a key of its own at its start. Nobody looks at the clock: a small
//! board may start with any date, and who has the secret can make a new certificate
//! anyway. Both ends say which authorities they know, by names that follow from the
//! secrets, and each shows a certificate under one that the other knows: so a secret
//! is replaced on one proxy at a time, while those with the new one (and the old one
//! as the previous) still talk to those with the old one only. Who names no known
//! authority is shown nothing at all.

use std::fmt;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thiserror::Error;

use crate::cluster::secret::{Secret, Secrets};
use crate::tls;

/// The protocol's name in the handshake.
const PROTOCOL: &[u8] = b"tidegate-mesh";

/// The name that all members' certificates carry.
const NAME: &str = "member.mesh.tidegate.internal";

/// The moment at which certificates are looked at, whatever the clock says: within
/// the validity that all of them have.
const MOMENT: std::time::Duration = std::time::Duration::from_secs(1_700_000_000);

/// The certificates can't be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Of the secret's key, or at all.
    #[error("no certificate could be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take them.
    #[error("the certificate can't be used")]
    Tls(#[from] rustls::Error),
    /// Nor the authority's.
    #[error("the authority can't be used")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// Both ends' settings for TLS.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    chains: Arc<Chains>,
}

impl Identity {
    /// Makes certificates under the authorities of all secrets.
    pub(super) fn new(secrets: &Secrets) -> Result<Self, IdentityError> {
        let crypto = Arc::new(tls::provider());
        let mut roots = RootCertStore::empty();
        let mut chains = Vec::new();
        for secret in secrets.accepted() {
            let (authority, chain) = certify(secret)?;
            roots.add(authority)?;
            chains.push(chain);
        }
        let names = roots.subjects();
        for (chain, name) in chains.iter_mut().zip(&names) {
            chain.authority = name.clone();
        }
        let (roots, chains) = (Arc::new(roots), Arc::new(Chains(chains)));
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&crypto))
                .build()?;
        let servers =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&crypto)).build()?;
        let versions = [&rustls::version::TLS13];
        let clock = Arc::new(Standstill);
        let mut server = ServerConfig::builder_with_details(Arc::clone(&crypto), clock.clone())
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::<Chains>::clone(&chains));
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![PROTOCOL.to_owned()];
        let servers = Named { servers, names };
        let mut client = ClientConfig::builder_with_details(crypto, clock)
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers))
            .with_client_cert_resolver(Arc::<Chains>::clone(&chains));
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![PROTOCOL.to_owned()];
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
            chains,
        })
    }

    /// The name by which a server is asked for.
    pub(super) fn server_name() -> ServerName<'static> {
        ServerName::try_from(NAME).expect("it is a DNS name")
    }

    /// What a client that says hello knows.
    pub(super) fn acquaintance(&self, hello: &ClientHello<'_>) -> Acquaintance {
        match hello.certificate_authorities() {
            None | Some([]) => Acquaintance::Stranger,
            Some(theirs) if self.chains.find(theirs.iter().map(AsRef::as_ref)).is_some() => {
                Acquaintance::Member
            }
            Some(_) => Acquaintance::OtherSecret,
        }
    }
}

/// What a client knows before anything is shown to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquaintance {
    /// An authority of ours. It has to prove more than that.
    Member,
    /// Other authorities.
    OtherSecret,
    /// None.
    Stranger,
}

/// The secret's authority, and a certificate of this process under it.
fn certify(secret: &Secret) -> Result<(CertificateDer<'static>, Chain), IdentityError> {
    let key = KeyPair::try_from(&secret.authority_key())?;
    let name: String = secret
        .identity()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let subject = &mut params.distinguished_name;
    subject.push(DnType::CommonName, format!("tidegate mesh {name}"));
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate_for(&PKCS_ED25519)?;
    let certificate = CertificateParams::new([NAME.to_owned()])?.signed_by(&own, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(own.serialize_der().into());
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    let chain = Chain {
        authority: DistinguishedName::in_sequence(&[]),
        key: Arc::new(CertifiedKey::new(vec![certificate.into()], key)),
    };
    Ok((authority.into(), chain))
}

/// A certificate, and the name of the authority that it is under.
struct Chain {
    authority: DistinguishedName,
    key: Arc<CertifiedKey>,
}

/// This process's certificates, the one to be shown first.
struct Chains(Vec<Chain>);

impl Chains {
    fn find<'a>(&self, known: impl Iterator<Item = &'a [u8]>) -> Option<&Chain> {
        let known: Vec<&[u8]> = known.collect();
        let mut chains = self.0.iter();
        chains.find(|chain| known.contains(&chain.authority.as_ref()))
    }
}

impl fmt::Debug for Chains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chains(..)")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl ResolvesServerCert for Chains {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let known = hello.certificate_authorities()?.iter().map(AsRef::as_ref);
        self.find(known).map(|chain| Arc::clone(&chain.key))
    }
}

impl ResolvesClientCert for Chains {
    fn resolve(&self, known: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let chain = self.find(known.iter().copied());
        chain.map(|chain| Arc::clone(&chain.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Always at [`MOMENT`].
#[derive(Debug)]
struct Standstill;

impl TimeProvider for Standstill {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(MOMENT))
    }
}

/// Lets servers know which authorities a client knows, and looks at their certificates
/// as rustls does.
#[derive(Debug)]
struct Named {
    servers: Arc<WebPkiServerVerifier>,
    names: Vec<DistinguishedName>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.servers
            .verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.servers.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.names)
    }
}
