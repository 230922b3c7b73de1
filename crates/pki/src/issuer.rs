//! Certificate authorities of a cluster: the root, and one intermediate per role that issues leaves.
//!
//! What each may do is written into it. The root signs intermediates, an intermediate (path length 0) signs leaves only,
//! and its extended key usage and URI fix for which role. A leaf's names come from the issuer's decision, never from a
//! request.

use std::{fmt, path::Path};

use haltline_core::{ids::ClusterId, limits::CERTIFICATE_HOSTS_MAX};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, ServerName};

use crate::{
    certificate::{self, LeafCertificate, chain_from_pem, chain_to_pem},
    error::PkiError,
    private_file::{self, Access},
    subject::{Role, SpiffeId, Subject, issuer_uri},
    tls_key::TlsKey,
    unix_time::{UnixSeconds, Validity},
};

/// Bytes of a random serial number (RFC 5280 allows 20).
const SERIAL_BYTES: usize = 16;

/// A key that signs certificates, and its own certificate.
pub(crate) struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    key: TlsKey,
}

impl CertificateAuthority {
    /// Makes the root of a cluster.
    pub(crate) fn root(cluster: ClusterId, validity: Validity) -> Result<Self, PkiError> {
        let key = TlsKey::generate()?;
        let mut params = base_params(cluster, "root", "root", validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate =
            params.self_signed(key.pair()).map_err(|error| PkiError::crypto("make the root", &error))?;
        Ok(Self { certificate: certificate.into(), key })
    }

    /// Makes the intermediate of a role, signed by this root.
    pub(crate) fn intermediate(
        &self,
        cluster: ClusterId,
        role: Role,
        validity: Validity,
    ) -> Result<Self, PkiError> {
        let key = TlsKey::generate()?;
        let mut params = base_params(cluster, role.as_str(), "authority", validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = key_purposes(role);
        params.subject_alt_names = vec![uri(&issuer_uri(cluster, role))?];
        let certificate = self.sign(&params, key.pair())?;
        Ok(Self { certificate, key })
    }

    fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, self.key.pair())
            .map_err(|error| PkiError::crypto("read the issuing certificate", &error))?;
        params
            .signed_by(public_key, &issuer)
            .map(Into::into)
            .map_err(|error| PkiError::crypto("sign a certificate", &error))
    }

    /// Its certificate.
    pub(crate) const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Writes `<stem>.crt` and the private `<stem>.key`.
    pub(crate) fn save(&self, directory: &Path, stem: &str) -> Result<(), PkiError> {
        let key = directory.join(format!("{stem}.key"));
        private_file::refuse_existing(&key)?;
        self.key.save(&key)?;
        let text = chain_to_pem(std::slice::from_ref(&self.certificate));
        private_file::write(&directory.join(format!("{stem}.crt")), text.as_bytes(), Access::Public)
    }

    /// Reads `<stem>.crt` and `<stem>.key`.
    pub(crate) fn load(directory: &Path, stem: &str) -> Result<Self, PkiError> {
        let path = directory.join(format!("{stem}.crt"));
        let chain = chain_from_pem(&private_file::read(&path, Access::Public)?)
            .map_err(|error| error.in_file(&path))?;
        let key = TlsKey::load(&directory.join(format!("{stem}.key")))?;
        let [certificate] = <[_; 1]>::try_from(chain)
            .map_err(|_| PkiError::malformed(path.display().to_string(), "one certificate"))?;
        if certificate::public_key_info(&certificate)? != key.public_key_info() {
            return Err(PkiError::malformed(
                path.display().to_string(),
                "the certificate of the key beside it",
            ));
        }
        Ok(Self { certificate, key })
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The three intermediates, which a node holds to issue and renew certificates.
#[derive(Debug)]
pub struct Issuers {
    cluster: ClusterId,
    node: CertificateAuthority,
    edge: CertificateAuthority,
    person: CertificateAuthority,
}

impl Issuers {
    pub(crate) fn create(
        root: &CertificateAuthority,
        cluster: ClusterId,
        validity: Validity,
    ) -> Result<Self, PkiError> {
        Ok(Self {
            cluster,
            node: root.intermediate(cluster, Role::Node, validity)?,
            edge: root.intermediate(cluster, Role::Edge, validity)?,
            person: root.intermediate(cluster, Role::Person, validity)?,
        })
    }

    pub(crate) const fn authority(&self, role: Role) -> &CertificateAuthority {
        match role {
            Role::Node => &self.node,
            Role::Edge => &self.edge,
            Role::Person => &self.person,
        }
    }

    /// Issues a leaf to a public key; the chain has the leaf first and no root.
    pub(crate) fn issue(
        &self,
        subject: &Subject,
        hosts: &[ServerName<'static>],
        public_key_info: &[u8],
        validity: Validity,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        self.issue_by(self.authority(subject.role()), subject, hosts, public_key_info, validity)
    }

    fn issue_by(
        &self,
        authority: &CertificateAuthority,
        subject: &Subject,
        hosts: &[ServerName<'static>],
        public_key_info: &[u8],
        validity: Validity,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let role = subject.role();
        let mut params = base_params(self.cluster, role.as_str(), &subject.name(), validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = key_purposes(role);
        params.subject_alt_names = subject_alt_names(self.cluster, subject, hosts)?;
        let key = SubjectPublicKeyInfo::from_der(public_key_info)
            .map_err(|_| PkiError::malformed("public key", "a SubjectPublicKeyInfo of a known algorithm"))?;
        Ok(vec![authority.sign(&params, &key)?, authority.certificate().clone()])
    }

    /// What a thief of the node intermediate could make: a leaf of any role, issued by the wrong intermediate.
    #[cfg(test)]
    pub(crate) fn issue_by_node_intermediate(
        &self,
        subject: &Subject,
        key: &TlsKey,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        self.issue_by(&self.node, subject, &[], &key.public_key_info(), Validity::leaf())
    }

    /// Issues the same certificate again, to the same key and names, with a new validity. The key's hash stays, so
    /// whatever was registered for it stays in force. The caller holds the leaf's private key itself.
    pub(crate) fn reissue(
        &self,
        leaf: &CertificateDer<'_>,
        validity: Validity,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let old = LeafCertificate::parse(leaf)?;
        if old.cluster != self.cluster {
            return Err(PkiError::WrongCluster { expected: self.cluster, got: old.cluster });
        }
        let hosts = parse_hosts(&certificate::hosts(leaf))?;
        self.issue(&old.subject, &hosts, &certificate::public_key_info(leaf)?, validity)
    }

    /// Writes the intermediates into `directory`, mode 0700.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), PkiError> {
        private_file::create_directory(directory)?;
        Role::ALL.into_iter().try_for_each(|role| self.authority(role).save(directory, role.as_str()))
    }

    /// Reads the intermediates of a cluster from `directory`.
    pub(crate) fn load(directory: &Path, cluster: ClusterId) -> Result<Self, PkiError> {
        let load = |role: Role| {
            let authority = CertificateAuthority::load(directory, role.as_str())?;
            if certificate::is_issuer_of(authority.certificate(), cluster, role) {
                Ok(authority)
            } else {
                let path = directory.join(format!("{role}.crt"));
                let expected = format!("the {role} intermediate of cluster {cluster}");
                Err(PkiError::malformed(path.display().to_string(), expected))
            }
        };
        Ok(Self { cluster, node: load(Role::Node)?, edge: load(Role::Edge)?, person: load(Role::Person)? })
    }
}

/// Parses DNS names and IP addresses, refusing what is neither and more than the bound.
pub(crate) fn parse_hosts(hosts: &[String]) -> Result<Vec<ServerName<'static>>, PkiError> {
    if hosts.len() > CERTIFICATE_HOSTS_MAX {
        let what = "host names for one certificate";
        return Err(PkiError::TooMany { what, got: hosts.len(), max: CERTIFICATE_HOSTS_MAX });
    }
    hosts
        .iter()
        .map(|host| ServerName::try_from(host.clone()).map_err(|_| PkiError::Host { got: host.clone() }))
        .collect()
}

/// A person only ever calls; nodes answer and call each other, and an edge may be a relay for others.
fn key_purposes(role: Role) -> Vec<ExtendedKeyUsagePurpose> {
    match role {
        Role::Node | Role::Edge => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Role::Person => vec![ExtendedKeyUsagePurpose::ClientAuth],
    }
}

fn base_params(
    cluster: ClusterId,
    unit: &str,
    name: &str,
    validity: Validity,
) -> Result<CertificateParams, PkiError> {
    let mut serial = [0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|error| PkiError::crypto("get random bytes", &error))?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, format!("Haltline cluster {cluster}"));
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |seconds: UnixSeconds| {
        // Clamped to the year 9999, the last that a certificate can write.
        let seconds = UnixSeconds(0).plus(std::time::Duration::from_secs(seconds.0));
        date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.0)
    };
    params.not_before = at(validity.not_before);
    params.not_after = at(validity.not_after);
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, PkiError> {
    text.try_into().map(SanType::URI).map_err(|_| PkiError::malformed(text, "an ASCII URI"))
}

fn subject_alt_names(
    cluster: ClusterId,
    subject: &Subject,
    hosts: &[ServerName<'static>],
) -> Result<Vec<SanType>, PkiError> {
    let id = SpiffeId { cluster, subject: subject.clone() };
    let mut names = vec![uri(&id.to_string())?];
    for host in hosts {
        names.push(match host {
            ServerName::IpAddress(address) => SanType::IpAddress((*address).into()),
            name => {
                let text = name.to_str();
                let dns = text.as_ref().try_into().map_err(|_| PkiError::Host { got: text.to_string() })?;
                SanType::DnsName(dns)
            }
        });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use x509_parser::{certificate::X509Certificate, prelude::FromDer};

    use super::*;
    use crate::test_cluster::{cluster, person};

    /// Is it an authority, how long a path below it, may it sign certificates, for servers, for clients.
    fn powers(der: &[u8]) -> (bool, Option<u32>, bool, bool, bool) {
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        let basic = certificate.basic_constraints().unwrap().unwrap();
        assert!(basic.critical);
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        let purposes = certificate.extended_key_usage().unwrap().map(|extension| extension.value.clone());
        let may = |test: fn(&x509_parser::extensions::ExtendedKeyUsage<'_>) -> bool| {
            purposes.as_ref().is_some_and(test)
        };
        (
            basic.value.ca,
            basic.value.path_len_constraint,
            usage.value.key_cert_sign(),
            may(|purposes| purposes.server_auth),
            may(|purposes| purposes.client_auth),
        )
    }

    #[test]
    fn every_certificate_may_do_what_it_must_and_no_more() {
        let cluster = cluster(Validity::leaf());
        let authority = |role| powers(cluster.issuers().authority(role).certificate());
        assert_eq!(powers(&cluster.bundle().roots()[0]), (true, Some(1), true, false, false));
        assert_eq!(authority(Role::Node), (true, Some(0), true, true, true));
        assert_eq!(authority(Role::Edge), (true, Some(0), true, true, true));
        assert_eq!(authority(Role::Person), (true, Some(0), true, false, true));
        assert_eq!(powers(&cluster.nodes()[0].tls().chain()[0]), (false, None, false, true, true));
        let person = person(&cluster, Validity::leaf());
        assert_eq!(powers(&person.tls().chain()[0]), (false, None, false, false, true));
    }

    #[test]
    fn a_reissued_certificate_has_the_same_key_and_names_and_another_serial() {
        let cluster = cluster(Validity::leaf());
        let old = &cluster.nodes()[0].tls().chain()[0];
        let new = &cluster.issuers().reissue(old, Validity::leaf()).unwrap()[0];
        assert_eq!(certificate::hosts(new), certificate::hosts(old));
        let (old_leaf, new_leaf) =
            (LeafCertificate::parse(old).unwrap(), LeafCertificate::parse(new).unwrap());
        assert_eq!((&new_leaf.subject, new_leaf.key_hash), (&old_leaf.subject, old_leaf.key_hash));
        let serial = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).unwrap();
            certificate.raw_serial().to_vec()
        };
        assert_ne!(serial(new), serial(old));
        let other = crate::test_cluster::cluster(Validity::leaf());
        let error = other.issuers().reissue(old, Validity::leaf()).unwrap_err();
        assert!(matches!(error, PkiError::WrongCluster { .. }));
    }
}
