//! Certificates, keys, tokens and TLS connections of a Haltline cluster (design 04, Nodes and edges, People, Just-in-time
//! credentials).
//!
//! # What holds here
//! - A certificate proves a name; **authority hangs on keys registered in the log**. Every handshake asks an
//!   [`Authority`], and a connection is closed when it no longer agrees ([`Listening::recheck`]).
//! - TLS 1.3 only, never resumed, mutual on every port but the public one. The Raft port takes nodes ([`Roles::NODES`]),
//!   the edge port enforcers ([`Roles::EDGES`]), the API port everybody with a certificate ([`Roles::EVERYONE`]); a leaf's
//!   role is bound to the intermediate that issued it.
//! - On the public port nobody is anybody: services there find a [`PublicCaller`] and never a [`PeerIdentity`], and each
//!   source has its share ([`SourceLimits`]).
//! - A join token's secret is sent only over a connection whose own chain was checked against the bundle that the token
//!   pins ([`Unverified`]).
//! - Private keys are files of mode 0600, refused when others can read them; they and join secrets are wiped from memory,
//!   and never in `Debug`, a log or an error.
//! - Every failure is typed, says what was expected and what came, and has a stable code.
//!
//! # The API in brief
//!
//! **Making a cluster** (`init`)
//! ```text
//! ClusterPki::create(&[NewNode { id, hosts }]) -> ClusterPki       create_valid(.., Validity) for tests of expiry
//!   .cluster() .bundle() .issuers() .nodes() -> &[NodeIdentity]    NodeIdentity::save(dir) / load(dir)
//!   .create_person(&PersonId, Vec<Endpoint>, Validity) -> PersonIdentity   PersonIdentity::save(dir) / load(dir)
//!   .save_root(dir)                                                root.crt, root.key: keep them offline
//! ```
//!
//! **Identities**
//! ```text
//! NodeIdentity    .id() .tls() .signer() .bundle() .issuers() .trusted()   .renewed(Validity) .save_certificate(dir)
//!   prepare_signing_key(dir) -> PublicKey   prepared_signing_key(dir) -> Option<StatementSigner>   adopt_signing_key(dir)
//! PersonIdentity  .person() .tls() .signer() .bundle() .endpoints() .keys() -> (KeyHash, PublicKey) .renewal_request()
//! TlsIdentity     .leaf() -> &LeafCertificate { cluster, subject, key_hash, validity }
//! TrustBundle     .cluster() .version() .nodes() .roots() .majority() .canonical_bytes() .hash() to/from_json load save
//! StatementSigner .sign(&[u8]) -> [u8; 64]  .public_key() -> PublicKey     verify_statement(&PublicKey, &[u8], &[u8; 64])
//! spki_hash_of_cert(der) -> KeyHash
//! ```
//!
//! **Enrolling a person**
//! ```text
//! PendingPerson::create(&PersonId)  .save(dir) .load(dir)  .request() -> &PersonRequest  .complete(&IssuedPerson)
//! PersonRequest  .verify() -> VerifiedRequest { name, tls_key, signing_key }   to/from_json load save
//! Issuers::issue_person(&PersonRequest, Validity, &TrustBundle, Vec<Endpoint>) -> IssuedPerson   to/from_json load save
//! ```
//!
//! **Letting an enforcer in** (edges and relays alike; which one it is stands in the log)
//! ```text
//! operator  JoinToken::generate(&bundle, &endpoints) -> JoinToken     .id() .secret_hash() .to_text() .save(path)
//! enforcer  JoinToken::load(path) / read(stdin) / parse(text)         .cluster() .bundle_hash() .endpoints() .secret()
//!           PendingEdge::open(dir)                                    .request() -> PKCS#10 DER  .key_hash()
//!           let contact = Unverified::connect(&endpoint).await?;      GetTrustBundle on contact.channel()
//!           let Verified { channel, node, bundle } = contact.verify(&bundle_json, &token)?;     Err(Mistrust)
//!           Enroll on that channel: token.id(), token.secret().expose(), pending.request()
//!           pending.complete(&name, &chain_pem, bundle, hubs)? -> EdgeIdentity       .save_public(dir)
//! node      JoinSecret::from_slice(&bytes)?.hash(); EdgeRequest::parse(&der)?.key_hash(); then, registered,
//!           Issuers::issue_edge(&name, &request, Validity::leaf()) -> chain PEM
//!           Issuers::renew_edge(&name, &peer.key_hash, &request, Validity::leaf()) -> chain PEM
//! EdgeIdentity   .name() .tls() .bundle() .hubs() -> &[KnownHub { endpoint, region }]    save(dir) load(dir) is_in(dir)
//!                .renewal_request() -> DER   .renewed(&chain_pem)   .with_hubs(..)   .save_public(dir)
//! ```
//!
//! **Access tokens** ([`token`])
//! ```text
//! token::check_request(&scope, &audience)?       before the credential is proposed
//! token::sign(&signer, &Claims { .. }) -> String
//! let keys = VerifyingKeys::of_bundle(&bundle)? / new([(NodeId, PublicKey)])?;    // decompressed once, kept
//! token::parse_and_verify(&text, &keys) -> VerifiedToken { claims, key }          // Err(TokenError), .code()
//! claims.check_audience(&[names])
//! ```
//!
//! **Serving**
//! ```text
//! let tls = ServerTls::new(node.tls(), node.bundle(), Roles::EVERYONE, Arc<dyn Authority>)?;
//! let (incoming, listening) = listen(tcp_listener, tls, PortLimits::default(), &shutdown_token);
//! Server::builder().add_service(..).serve_with_incoming_shutdown(incoming, ..)
//! request.extensions().get::<PeerIdentity>()   // { subject, key_hash, not_after, remote_addr }
//! listening.rotate(tls)  .recheck()  .counters()  .refusals()  .peers()  .local_addr()
//!
//! // The edge port: enforcers whose key is the registered one.
//! let edges = RegisteredEdges::new(|name: &EdgeName| -> Result<KeyHash, Refusal> { .. });
//! let tls = ServerTls::new(identity.tls(), identity.bundle(), Roles::EDGES, Arc::new(edges))?;   // node's or relay's
//!
//! // The public port: server TLS alone.
//! let (incoming, listening) = listen_public(tcp_listener, PublicTls::new(node.tls())?, PublicLimits::default(), &token);
//! request.extensions().get::<PublicCaller>()   // { remote_addr }
//! ```
//! Leave tonic's `accept_http1` off on such a port: a client takes the server's first HTTP/2 frame for its acceptance, and
//! a server that waits to be spoken to costs every dial a second. [`TrustBundle`] is an [`Authority`] for the founding
//! nodes, until a node's own log tells it more; [`CertificateAlone`] is for clients only.
//!
//! **Calling**
//! ```text
//! let dialer = Dialer::new(ClientTls::new(me.tls(), me.bundle(), Arc::new(CertificateAlone))?);
//! let channel = dialer.connect(&"host:7001".parse::<Endpoint>()?.expecting(NodeId(1))).await?;   // Err(TlsFailure)
//! dialer.connect_lazy(..)  .connect_lazy_tuned(.., |tonic_endpoint| ..)  .dial(..) -> ClientConnection  .rotate(..)
//! TlsFailure::find(&status) -> Option<TlsFailure>      // also in a tonic::transport::Error or io::Error
//! ```
//! An endpoint that expects a node or a relay ([`Endpoint::expecting`], [`Endpoint::expecting_relay`]) checks its SPIFFE
//! ID, wherever it answers; one that doesn't checks the host called.

mod acceptor;
mod authority;
mod backup_key;
mod base64url;
mod certificate;
mod cluster;
mod connection;
mod dialer;
mod edge_identity;
mod edge_request;
mod endpoint;
mod error;
mod failure;
mod issuer;
mod join_token;
mod node_identity;
mod pem_text;
mod person_identity;
mod person_request;
mod port;
mod private_file;
mod restored_nodes;
mod source_limit;
mod statement;
mod subject;
mod tcp;
mod tls_config;
mod tls_identity;
mod tls_key;
pub mod token;
mod trust_bundle;
mod unix_time;
mod unverified;
mod verify;

#[cfg(test)]
mod edge_test;
#[cfg(test)]
mod files_test;
#[cfg(test)]
mod handshake_test;
#[cfg(test)]
mod join_token_test;
#[cfg(test)]
mod port_test;
#[cfg(test)]
mod public_test;
#[cfg(test)]
mod secrets_test;
#[cfg(test)]
mod test_cluster;

pub use acceptor::{Incoming, Listening, PortLimits, PublicLimits, PublicListening, listen, listen_public};
pub use authority::{Authority, CertificateAlone, Refusal, RegisteredEdges};
pub use backup_key::{
    BackupEnvelope, BackupKey, BackupKeyError, BackupOpener, BackupRecipient, BackupSealer, SealedKey,
};
pub use certificate::{LeafCertificate, spki_hash, spki_hash_of_cert, validities_in, validity_of};
pub use cluster::{ClusterPki, NewNode};
pub use connection::{ClientConnection, PeerIdentity, PublicCaller, TlsConnection};
pub use dialer::Dialer;
pub use edge_identity::{EdgeIdentity, KnownHub};
pub use edge_request::{EdgeRequest, PendingEdge};
pub use endpoint::Endpoint;
pub use error::PkiError;
pub use failure::TlsFailure;
pub use issuer::Issuers;
pub use join_token::{JoinSecret, JoinToken, JoinTokenError};
pub use node_identity::{NodeIdentity, adopt_signing_key, prepare_signing_key, prepared_signing_key};
pub use person_identity::PersonIdentity;
pub use person_request::{IssuedPerson, PendingPerson, PersonRequest, VerifiedRequest};
pub use port::{PortCounters, RefusedBecause, RefusedConnection};
pub use restored_nodes::{RestoredNode, RestoredNodes};
pub use source_limit::SourceLimits;
pub use statement::{SIGNATURE_BYTES, StatementSigner, verify_statement};
pub use subject::{EdgeName, Role, Roles, Subject, SubjectError};
pub use tls_config::{ClientTls, PublicTls, ServerTls};
pub use tls_identity::TlsIdentity;
pub use trust_bundle::{TrustBundle, TrustedNode};
pub use unix_time::{INTERMEDIATE_LIFETIME, LEAF_LIFETIME, ROOT_LIFETIME, UnixSeconds, Validity};
pub use unverified::{Mistrust, Unverified, Verified};
