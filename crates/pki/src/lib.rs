//! Certificates, keys and TLS connections of a Haltline cluster (design 04, Nodes and edges, People).
//!
//! # What holds here
//! - A certificate proves a name; **authority hangs on keys registered in the log**. Every handshake asks an
//!   [`Authority`], and a connection is closed when it no longer agrees ([`Listening::recheck`]).
//! - TLS 1.3 only, mutual, never resumed. The Raft port takes nodes ([`Roles::NODES`]), the API port everybody with a
//!   certificate ([`Roles::EVERYONE`]); a leaf's role is bound to the intermediate that issued it.
//! - Private keys are files of mode 0600, refused when others can read them, wiped from memory, and never in `Debug`, a
//!   log or an error.
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
//! **Serving**
//! ```text
//! let tls = ServerTls::new(node.tls(), node.bundle(), Roles::EVERYONE, Arc<dyn Authority>)?;
//! let (incoming, listening) = listen(tcp_listener, tls, PortLimits::default(), &shutdown_token);
//! Server::builder().add_service(..).serve_with_incoming_shutdown(incoming, ..)
//! request.extensions().get::<PeerIdentity>()   // { subject, key_hash, not_after, remote_addr }
//! listening.rotate(tls)  .recheck()  .counters()  .refusals()  .peers()  .local_addr()
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
//! An endpoint that expects a node checks its SPIFFE ID, wherever it answers; one that doesn't checks the host called.

mod acceptor;
mod authority;
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
mod statement;
mod subject;
mod tcp;
mod tls_config;
mod tls_identity;
mod tls_key;
pub mod token;
mod trust_bundle;
mod unix_time;
mod verify;

#[cfg(test)]
mod edge_test;
#[cfg(test)]
mod files_test;
#[cfg(test)]
mod handshake_test;
#[cfg(test)]
mod port_test;
#[cfg(test)]
mod secrets_test;
#[cfg(test)]
mod test_cluster;

pub use acceptor::{Incoming, Listening, PortLimits, listen};
pub use authority::{Authority, CertificateAlone, Refusal, RegisteredEdges};
pub use certificate::{LeafCertificate, spki_hash, spki_hash_of_cert};
pub use cluster::{ClusterPki, NewNode};
pub use connection::{ClientConnection, PeerIdentity, TlsConnection};
pub use dialer::Dialer;
pub use edge_identity::{EdgeIdentity, KnownHub};
pub use edge_request::{EdgeRequest, PendingEdge};
pub use endpoint::Endpoint;
pub use error::PkiError;
pub use failure::TlsFailure;
pub use issuer::Issuers;
pub use join_token::{JoinSecret, JoinToken, JoinTokenError};
pub use node_identity::NodeIdentity;
pub use person_identity::PersonIdentity;
pub use person_request::{IssuedPerson, PendingPerson, PersonRequest, VerifiedRequest};
pub use port::{PortCounters, RefusedBecause, RefusedConnection};
pub use statement::{SIGNATURE_BYTES, StatementSigner, verify_statement};
pub use subject::{EdgeName, Role, Roles, Subject, SubjectError};
pub use tls_config::{ClientTls, ServerTls};
pub use tls_identity::TlsIdentity;
pub use trust_bundle::{TrustBundle, TrustedNode};
pub use unix_time::{INTERMEDIATE_LIFETIME, LEAF_LIFETIME, ROOT_LIFETIME, UnixSeconds, Validity};
