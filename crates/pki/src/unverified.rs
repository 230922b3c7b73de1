//! First contact: a connection to a public port, made before anybody is believed.
//!
//! Whoever joins has a join token and no trust bundle yet, so the server's chain can't be checked in the handshake. It is
//! captured instead, and the order of things is this:
//!
//! 1. [`Unverified::connect`]: the server has proven that it holds the key of the chain it showed, and nothing else.
//! 2. On [`Unverified::channel`] the caller asks for the trust bundle, which anybody may know.
//! 3. [`Unverified::verify`]: the bundle is the one that the token pins by its hash, and **the very chain of this
//!    connection** belongs to a node of that bundle. Only then there is a [`Verified`], and a channel for the secret.
//!
//! Whoever sits in between can hand on the true bundle, but can't show a chain of a node in it and hold its key; so they
//! learn no secret. A channel of this kind is never connected anew: the next connection could be anybody's.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use haltline_core::{
    ids::{ClusterId, Digest, NodeId},
    limits::{CERTIFICATE_CHAIN_MAX, CONNECT_TIMEOUT, PKI_FILE_BYTES_MAX},
    time::Millis,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Uri};

use crate::{
    dialer::{explain_channel, first_word, open_tcp, tonic_endpoint},
    endpoint::Endpoint,
    error::PkiError,
    failure::TlsFailure,
    join_token::JoinToken,
    subject::Subject,
    tcp,
    tls_config::HTTP2,
    trust_bundle::TrustBundle,
    verify::{check_server, only_tls13, provider},
};

/// Why whoever answered isn't believed. [`Mistrust::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum Mistrust {
    /// What came is no trust bundle.
    #[error("the server's trust bundle can't be read: {0}")]
    Bundle(PkiError),
    /// The bundle of another cluster.
    #[error(
        "the join token is for cluster {expected}, but the server is of cluster {got}; check the endpoint"
    )]
    OtherCluster {
        /// The token's cluster.
        expected: ClusterId,
        /// The bundle's cluster.
        got: ClusterId,
    },
    /// Another bundle than the token pins.
    #[error(
        "the server's trust bundle has the hash {got}, but the join token pins {expected}: the cluster's keys changed since \
         the token was made, so ask for a new token; or somebody in between poses as the cluster"
    )]
    OtherBundle {
        /// The hash in the token.
        expected: Digest,
        /// The hash of what came.
        got: Digest,
    },
    /// The server is no node of the bundle. The secret was not sent.
    #[error("whoever answered is no node of the cluster, so the join token's secret was not sent: {0}")]
    Server(TlsFailure),
}

impl Mistrust {
    /// A stable code for scripts and help pages.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "JOIN_BUNDLE_MALFORMED",
            Self::OtherCluster { .. } => "JOIN_OTHER_CLUSTER",
            Self::OtherBundle { .. } => "JOIN_OTHER_BUNDLE",
            Self::Server(_) => "JOIN_SERVER_UNTRUSTED",
        }
    }
}

/// A connection to somebody.
pub struct Unverified {
    channel: Channel,
    chain: Chain,
}

/// A connection to a node of the cluster that a join token is for.
#[derive(Debug)]
pub struct Verified {
    /// The connection. It isn't made anew when it ends.
    pub channel: Channel,
    /// The node at the other end.
    pub node: NodeId,
    /// Whom to believe from now on.
    pub bundle: TrustBundle,
}

impl Unverified {
    /// Connects to a public port, waiting [`CONNECT_TIMEOUT`] at most. The channel takes no second connection.
    ///
    /// # Errors
    /// Why not. That the server can't be believed is none of the reasons here.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, TlsFailure> {
        Self::connect_within(endpoint, CONNECT_TIMEOUT).await
    }

    /// The same with another patience, TCP and TLS together.
    ///
    /// # Errors
    /// As [`Unverified::connect`].
    pub async fn connect_within(endpoint: &Endpoint, patience: Millis) -> Result<Self, TlsFailure> {
        let dial = async {
            let (stream, chain) = dial(endpoint).await?;
            let only = Once(Some(TokioIo::new(stream)));
            let channel = tonic_endpoint(endpoint)?.connect_with_connector(only).await;
            let channel = channel.map_err(|error| explain_channel(&error))?;
            Ok(Self { channel, chain })
        };
        timeout(tcp::duration(patience), dial).await.unwrap_or_else(|_| {
            Err(TlsFailure::Timeout { address: endpoint.to_string(), timeout_ms: patience.0 })
        })
    }

    /// For questions that anybody may hear, to somebody whose answers count for nothing yet.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Checks the trust bundle that came (as JSON) against the token, and the chain of this connection against the bundle.
    ///
    /// # Errors
    /// Why whoever answered isn't believed; the connection is gone then.
    pub fn verify(self, bundle_json: &str, token: &JoinToken) -> Result<Verified, Mistrust> {
        if bundle_json.len() > PKI_FILE_BYTES_MAX {
            let what = "bytes of a trust bundle";
            let (got, max) = (bundle_json.len(), PKI_FILE_BYTES_MAX);
            return Err(Mistrust::Bundle(PkiError::TooMany { what, got, max }));
        }
        let bundle = TrustBundle::from_json(bundle_json).map_err(Mistrust::Bundle)?;
        if bundle.cluster() != token.cluster() {
            return Err(Mistrust::OtherCluster { expected: token.cluster(), got: bundle.cluster() });
        }
        if bundle.hash() != token.bundle_hash() {
            return Err(Mistrust::OtherBundle { expected: token.bundle_hash(), got: bundle.hash() });
        }
        let node = self.chain.check(&bundle).map_err(Mistrust::Server)?;
        Ok(Verified { channel: self.channel, node, bundle })
    }
}

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").finish_non_exhaustive()
    }
}

async fn dial(endpoint: &Endpoint) -> Result<(TlsStream<TcpStream>, Chain), TlsFailure> {
    let (name, tcp) = open_tcp(endpoint).await?;
    let chain = Chain::default();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TlsFailure::Broken { reason: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Capture(chain.clone())))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![HTTP2.to_vec()];
    let explain = |error: &std::io::Error| TlsFailure::from_io(error, None);
    let mut stream =
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| explain(&error))?;
    first_word(&mut stream, endpoint, explain).await?;
    Ok((stream, chain))
}

/// The chain that a server showed in its handshake, the leaf first.
#[derive(Debug, Clone, Default)]
struct Chain(Arc<OnceLock<Vec<CertificateDer<'static>>>>);

impl Chain {
    /// The node that it belongs to, if the bundle's root vouches for it and the bundle lists the node with this key. A node
    /// that was removed has a certificate still, but no place in the bundle.
    fn check(&self, bundle: &TrustBundle) -> Result<NodeId, TlsFailure> {
        let none = || TlsFailure::PeerWithoutCertificate;
        let (leaf, intermediates) = self.0.get().and_then(|chain| chain.split_first()).ok_or_else(none)?;
        match check_server(bundle, leaf, intermediates)?.subject {
            Subject::Node(node) => Ok(node),
            got => Err(TlsFailure::PeerWrongRole { accepted: crate::Roles::NODES, got }),
        }
    }
}

/// Takes down the chain and checks that the server holds its key; whose key it is, is for later.
#[derive(Debug)]
struct Capture(Chain);

impl ServerCertVerifier for Capture {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() >= CERTIFICATE_CHAIN_MAX {
            return Err(Error::InvalidCertificate(rustls::CertificateError::BadEncoding));
        }
        let chain = std::iter::once(end_entity).chain(intermediates);
        // One configuration serves one handshake, so nothing is there to be overwritten.
        let _ = self.0.0.set(chain.map(|certificate| certificate.clone().into_owned()).collect());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Gives its one connection to the channel, and never another.
struct Once(Option<TokioIo<TlsStream<TcpStream>>>);

impl tower::Service<Uri> for Once {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = TlsFailure;
    type Future = std::future::Ready<Result<Self::Response, TlsFailure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TlsFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let over =
            || TlsFailure::Broken { reason: "the connection to the public port ended; begin anew".into() };
        std::future::ready(self.0.take().ok_or_else(over))
    }
}
