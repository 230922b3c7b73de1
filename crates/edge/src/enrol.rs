//! How an enforcer joins a cluster: with a one-time token, against a key that it makes itself.
//!
//! 1. The key is made, or found where an earlier attempt was cut short: a token is used up for one key.
//! 2. A connection to a public port, to somebody; the trust bundle is asked for, which anybody may know.
//! 3. The bundle must have the hash that the token pins, and the very chain of this connection must be a node's of it.
//! 4. Only then the secret is sent, and the certificate that comes is checked against the same bundle.
//!
//! The token is read from a file or standard input ([`JoinToken::load`], [`JoinToken::read`]), never from a command line.

use std::{path::Path, time::Duration};

use haltline_core::{ids::EdgeName, limits::ENROL_CALL_TIMEOUT};
use haltline_pki::{
    EdgeIdentity, Endpoint, JoinToken, Mistrust, PendingEdge, PkiError, TlsFailure, Unverified, Verified,
};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, edge_service_client::EdgeServiceClient},
};
use tonic::{Code, Response, Status};

use crate::client::{messages::read_hubs, refusal::SyncRefusal};

/// Why an enforcer couldn't join. [`EnrolError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There is an identity already.
    #[error("{} holds an identity already; choose an empty directory, or remove it to enrol anew", .directory.display())]
    AlreadyEnrolled {
        /// The directory.
        directory: std::path::PathBuf,
    },
    /// The key can't be made or saved, or the certificate that came isn't for it.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// Nobody answered.
    #[error("no public port of the cluster answered; last, {endpoint}: {failure}")]
    Unreachable {
        /// The last one tried.
        endpoint: Endpoint,
        /// Why it didn't.
        failure: TlsFailure,
    },
    /// Whoever answered isn't believed. The secret was not sent.
    #[error("{endpoint}: {mistrust}")]
    Mistrusted {
        /// Who.
        endpoint: Endpoint,
        /// Why.
        mistrust: Mistrust,
    },
    /// The cluster refused.
    #[error("the cluster refused: {}", .0.message)]
    Refused(Refusal),
    /// The call failed on its way. If the secret was sent, the token may be used up for this key: try again with the same
    /// directory.
    #[error("{endpoint} failed in between: {}; try again with the same directory", .refusal.message)]
    Failed {
        /// Whom it was asked of.
        endpoint: Endpoint,
        /// What is known.
        refusal: Refusal,
    },
    /// An answer out of form.
    #[error("the cluster's answer is out of form: {0}")]
    Answer(SyncRefusal),
    /// The answer names another bundle than the one that was verified.
    #[error("the cluster's answer brings another trust bundle than the one that the join token pins")]
    OtherBundle,
    /// Something went wrong in between.
    #[error("enrolment was cut short; try again with the same directory")]
    CutShort,
}

impl EnrolError {
    /// A stable word for the reason.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::AlreadyEnrolled { .. } => "ALREADY_ENROLLED",
            Self::Identity(error) => error.code(),
            Self::Unreachable { failure, .. } => failure.code(),
            Self::Mistrusted { mistrust, .. } => mistrust.code(),
            Self::Refused(refusal) | Self::Failed { refusal, .. } => &refusal.reason,
            Self::Answer(refusal) => refusal.code(),
            Self::OtherBundle => "JOIN_OTHER_BUNDLE",
            Self::CutShort => "CUT_SHORT",
        }
    }

    /// Whether another public port may do better.
    fn may_pass_elsewhere(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Mistrusted { .. } | Self::Failed { .. } => true,
            Self::Refused(refusal) => refusal.retry_after.is_some(),
            _ => false,
        }
    }
}

/// Joins the cluster that the token is for and saves the identity in a directory (private key 0600). Each of the token's
/// endpoints is tried in turn. After a failure it may be tried again with the same directory and token.
///
/// # Errors
/// Why not; of several endpoints, what the last one that could be talked to said.
pub async fn enrol(token: &JoinToken, directory: &Path) -> Result<EdgeIdentity, EnrolError> {
    if EdgeIdentity::is_in(directory) {
        return Err(EnrolError::AlreadyEnrolled { directory: directory.into() });
    }
    let mut last = EnrolError::CutShort;
    for endpoint in token.endpoints() {
        match enrol_at(endpoint, token, directory).await {
            Ok(identity) => return Ok(identity),
            Err(error) if error.may_pass_elsewhere() => {
                tracing::info!(%endpoint, %error, "could not enrol here");
                // What somebody said counts for more than that somebody else is silent.
                if !matches!(
                    (&error, &last),
                    (
                        EnrolError::Unreachable { .. },
                        EnrolError::Mistrusted { .. } | EnrolError::Refused(_) | EnrolError::Failed { .. }
                    )
                ) {
                    last = error;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn enrol_at(
    endpoint: &Endpoint,
    token: &JoinToken,
    directory: &Path,
) -> Result<EdgeIdentity, EnrolError> {
    let Verified { channel, node, bundle } = contact(endpoint, token).await?;
    tracing::info!(%endpoint, %node, "the cluster is the one that the join token is for");
    let home = directory.to_owned();
    let pending = blocking(move || PendingEdge::open(&home)).await??;

    let request = v1::EnrollRequest {
        token_id: token.id().0.to_vec(),
        secret: token.secret().expose().to_vec(),
        certificate_request: pending.request().to_vec(),
    };
    let mut client = EdgeServiceClient::new(channel);
    let answer = within(endpoint, client.enroll(request)).await?;
    if haltline_pki::TrustBundle::from_json(&answer.trust_bundle)?.hash() != bundle.hash() {
        return Err(EnrolError::OtherBundle);
    }
    let name: EdgeName = answer.name.parse().map_err(|_| {
        EnrolError::Answer(SyncRefusal::Malformed { field: "name", why: "it is no enforcer's name".into() })
    })?;
    let hubs = read_hubs(&answer.hubs).map_err(EnrolError::Answer)?;
    let identity = pending.complete(&name, &answer.certificate_chain, bundle, hubs)?;
    let (saved, home) = (identity.clone(), directory.to_owned());
    blocking(move || saved.save_public(&home)).await??;
    Ok(identity)
}

/// Connects to a public port and finds out whether it is one of this token's cluster.
async fn contact(endpoint: &Endpoint, token: &JoinToken) -> Result<Verified, EnrolError> {
    let unreachable = |failure| EnrolError::Unreachable { endpoint: endpoint.clone(), failure };
    let somebody = Unverified::connect(endpoint).await.map_err(unreachable)?;
    let mut client = EdgeServiceClient::new(somebody.channel());
    let answer = within(endpoint, client.get_trust_bundle(v1::GetTrustBundleRequest {})).await?;
    drop(client);
    somebody
        .verify(&answer.trust_bundle, token)
        .map_err(|mistrust| EnrolError::Mistrusted { endpoint: endpoint.clone(), mistrust })
}

async fn within<T>(
    endpoint: &Endpoint,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, EnrolError> {
    let patience = Duration::from_millis(ENROL_CALL_TIMEOUT.0);
    let failed = |refusal| EnrolError::Failed { endpoint: endpoint.clone(), refusal };
    match tokio::time::timeout(patience, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let refusal = Refusal::from_status(&status);
            let is_transport =
                matches!(status.code(), Code::Unavailable | Code::Unknown | Code::DeadlineExceeded);
            Err(if is_transport { failed(refusal) } else { EnrolError::Refused(refusal) })
        }
        Err(_) => {
            let message = format!("no answer for {ENROL_CALL_TIMEOUT}");
            Err(failed(Refusal::new(Code::DeadlineExceeded, "TIMEOUT", message)))
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EnrolError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| EnrolError::CutShort)
}
