//! Certificates for an etcd cluster with mutual TLS: one root, one certificate for the servers, one for the client. All
//! keys are ECDSA P-256, as in Haltline, so that neither side has the dearer handshake.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::SYSTEM;
use crate::failure::Failure;

/// Files that the servers are started with, and what the client connects with.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) root: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) server_key: PathBuf,
    pub(crate) client: Arc<ClientConfig>,
}

impl Certificates {
    /// Makes them all, and writes the servers' into `directory`.
    pub(crate) fn create(directory: &Path) -> Result<Self, Failure> {
        let root_key = KeyPair::generate().map_err(failure)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "benchmark root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(params, root_key).map_err(failure)?;

        let (server, server_key) = issue(&root, "etcd")?;
        let (client, client_key) = issue(&root, "client")?;
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(Failure::local(format!("write {}", path.display())))?;
            Ok::<_, Failure>(path)
        };

        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).map_err(failure)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(client_key.serialize_der()));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(failure)?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![client.der().clone()], key)
            .map_err(failure)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            root: write("root.crt", root.pem())?,
            server: write("server.crt", server.pem())?,
            server_key: write("server.key", server_key.serialize_pem())?,
            client: Arc::new(config),
        })
    }
}

/// A certificate for loopback that serves at both ends of a connection.
fn issue(root: &CertifiedIssuer<'_, KeyPair>, name: &str) -> Result<(rcgen::Certificate, KeyPair), Failure> {
    let key = KeyPair::generate().map_err(failure)?;
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).map_err(failure)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, root).map_err(failure)?;
    Ok((certificate, key))
}

fn failure(error: impl std::error::Error) -> Failure {
    Failure::Tls { system: SYSTEM, reason: error.to_string() }
}
