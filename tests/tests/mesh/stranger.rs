//! Somebody outside of the proxies who speaks TLS, and the mesh's frames by hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};
use scenarios::eventually;
use tidegate_proxy::cluster::secret::Secret;
use tidegate_shared::any_certificate::AnyCertificate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::stage::SOON;

/// Where strangers come from: members have other addresses.
pub(crate) const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));

/// What the mesh's certificates are for, and its protocol.
const NAME: &str = "member.mesh.tidegate.internal";
const PROTOCOL: &[u8] = b"tidegate-mesh";

pub(crate) async fn dial(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((HOME, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Reads to the end, however it comes; what was read.
pub(crate) async fn rest<R: tokio::io::AsyncRead + Unpin>(stream: &mut R) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _reset = timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

/// An authority made of a secret, under the name that goes with another one.
pub(crate) struct Authority {
    names: Vec<DistinguishedName>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// The name of one secret's authority, and the key of another's: the same for members.
    pub(crate) fn new(name: &str, key: &str) -> Self {
        let secret = |text: &str| Secret::parse(text.as_bytes()).unwrap();
        let identity = secret(name).identity();
        let identity: String = identity.iter().map(|byte| format!("{byte:02x}")).collect();
        let signer = KeyPair::try_from(&secret(key).authority_key()).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CommonName, format!("tidegate mesh {identity}"));
        let authority = params.self_signed(&signer).unwrap();
        let issuer = Issuer::new(params, signer);
        let own = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new([NAME.to_owned()]).unwrap();
        let certificate = certificate.signed_by(&own, &issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.into()).unwrap();
        Self {
            names: roots.subjects(),
            chain: vec![certificate.into()],
            key: PrivateKeyDer::Pkcs8(own.serialize_der().into()),
        }
    }

    /// A client that knows of this authority, and shows its certificate or none.
    pub(crate) fn client(&self, shows_it: bool) -> TlsConnector {
        let verifier = Named {
            any: AnyCertificate(Arc::new(rustls::crypto::ring::default_provider())),
            names: self.names.clone(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.any.0))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match shows_it {
            true => builder
                .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
                .unwrap(),
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_owned()];
        config.resumption = rustls::client::Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }
}

/// Connects by TLS as far as that goes. A server's refusal of a certificate may come
/// after the client takes the handshake for done.
pub(crate) async fn connect(
    client: &TlsConnector,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let connecting = client.connect(NAME.try_into().unwrap(), stream);
    timeout(SOON, connecting).await.unwrap()
}

/// Tells the server which authorities it knows, and takes any certificate.
#[derive(Debug)]
struct Named {
    any: AnyCertificate,
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
        self.any
            .verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.names)
    }
}

/// Kinds of frames.
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const WORD: u8 = 6;
const WANT: u8 = 8;

/// A frame: a length, a kind, and fields.
fn frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    let length = u32::try_from(fields.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[kind], &fields].concat()
}

fn name(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// A member's word on a topic, as it went over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) version: u64,
    bytes: Vec<u8>,
}

/// Somebody who has the secret and says what it likes.
pub(crate) struct Insider {
    stream: TlsStream<TcpStream>,
}

impl Insider {
    pub(crate) async fn connect(authority: &Authority, to: SocketAddr) -> Self {
        let stream = connect(&authority.client(true), dial(to).await).await;
        let stream = stream.unwrap();
        Self { stream }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Says hello as a member of a name, and comes in.
    pub(crate) async fn greet(&mut self, as_name: &str) {
        self.hello(as_name).await;
        let floor = 0_u64.to_be_bytes();
        self.send(&frame(WELCOME, &[&floor])).await;
        while self.next().await.0 != WELCOME {}
    }

    /// Says hello as a member of a name.
    pub(crate) async fn hello(&mut self, as_name: &str) {
        let number = |number: u64| number.to_be_bytes();
        let fields = [
            &[1][..],
            &name(as_name),
            &number(fastrand::u64(..)),
            &number(1),
            &number(1),
            &number(1),
        ];
        self.send(&frame(HELLO, &fields)).await;
    }

    /// The next frame: its kind and its fields.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let reading = async {
            let length = self.stream.read_u32().await.unwrap();
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut payload).await.unwrap();
            payload
        };
        let mut payload = timeout(SOON, reading).await.unwrap();
        let kind = payload.remove(0);
        (kind, payload)
    }

    /// Asks for a member's word on a topic until there is one.
    pub(crate) async fn word(&mut self, member: &str, topic: &str) -> Word {
        let start = [name(member), name(topic)].concat();
        let want = frame(WANT, &[&1_u32.to_be_bytes(), &start]);
        let asking = async {
            // Again and again: silence would end it, and there may be none yet.
            loop {
                self.send(&want).await;
                let (kind, fields) = self.next().await;
                if let Some(rest) = fields.strip_prefix(&start[..])
                    && kind == WORD
                {
                    let version = rest.first_chunk::<8>().unwrap();
                    return Word {
                        version: u64::from_be_bytes(*version),
                        bytes: frame(WORD, &[&fields]),
                    };
                }
            }
        };
        timeout(SOON, asking).await.unwrap()
    }

    /// Says again what somebody said before.
    pub(crate) async fn repeat(&mut self, word: &Word) {
        self.send(&word.bytes.clone()).await;
    }

    /// Says nothing until it is thrown out.
    pub(crate) async fn wait(mut self) {
        rest(&mut self.stream).await;
    }

    pub(crate) fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }

    pub(crate) async fn end(mut self) {
        let _gone = self.stream.shutdown().await;
        rest(&mut self.stream).await;
    }
}

/// Waits until a number has grown to at least so much.
pub(crate) async fn grows_to<F: Future<Output = f64>>(value: f64, read: impl Fn() -> F) {
    let grown = eventually(SOON, || async { read().await >= value }).await;
    if grown.is_err() {
        panic!("{} instead of {value}", read().await);
    }
}
