//! Certificates, keys and TLS connections of a Haltline cluster.

mod authority;
mod certificate;
mod cluster;
mod endpoint;
mod error;
mod issuer;
mod node_identity;
mod pem_text;
mod person_identity;
mod person_request;
mod private_file;
mod statement;
mod subject;
mod tls_identity;
mod tls_key;
mod trust_bundle;
mod unix_time;

pub use authority::{Authority, CertificateAlone, Refusal};
pub use certificate::{LeafCertificate, spki_hash, spki_hash_of_cert};
pub use cluster::{ClusterPki, NewNode};
pub use endpoint::Endpoint;
pub use error::PkiError;
pub use issuer::Issuers;
pub use node_identity::NodeIdentity;
pub use person_identity::PersonIdentity;
pub use person_request::{IssuedPerson, PendingPerson, PersonRequest, VerifiedRequest};
pub use statement::{SIGNATURE_BYTES, StatementSigner, verify_statement};
pub use subject::{EdgeName, Role, Roles, Subject, SubjectError};
pub use tls_identity::TlsIdentity;
pub use trust_bundle::{TrustBundle, TrustedNode};
pub use unix_time::{INTERMEDIATE_LIFETIME, LEAF_LIFETIME, ROOT_LIFETIME, UnixSeconds, Validity};
