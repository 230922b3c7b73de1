//! A fresh certificate for the same key, long before the old one ends, asked of whichever hub serves.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use haltline_core::limits::{CERTIFICATE_CHECK_INTERVAL, ENROL_CALL_TIMEOUT};
use haltline_pki::{EdgeIdentity, PkiError, UnixSeconds};
use haltline_wire::v1::{self, edge_service_client::EdgeServiceClient};
use tokio::task::JoinHandle;
use tonic::{Status, transport::Channel};

/// Why a certificate wasn't renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    #[error("the hub refused: {}", .0.message())]
    Status(#[from] Status),
    #[error("the hub didn't answer for {}", ENROL_CALL_TIMEOUT)]
    Timeout,
    #[error(transparent)]
    Identity(#[from] PkiError),
    #[error("it was cut short")]
    CutShort,
}

impl RenewalError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Status(_) => "RENEWAL_REFUSED",
            Self::Timeout => "RENEWAL_TIMEOUT",
            Self::Identity(error) => error.code(),
            Self::CutShort => "RENEWAL_CUT_SHORT",
        }
    }
}

/// A renewal that is under way, or was tried lately.
pub(crate) struct Renewal {
    task: Option<JoinHandle<Result<EdgeIdentity, RenewalError>>>,
    begun: Instant,
}

impl Renewal {
    /// Begins one if two thirds of the certificate's life have passed.
    pub(crate) fn if_due(
        identity: &EdgeIdentity,
        directory: &Path,
        client: &EdgeServiceClient<Channel>,
    ) -> Option<Self> {
        if !identity.tls().leaf().validity.is_due(UnixSeconds::now()) {
            return None;
        }
        let renewing = renew(identity.clone(), directory.to_owned(), client.clone());
        Some(Self { task: Some(tokio::spawn(renewing)), begun: Instant::now() })
    }

    /// What came of it, once; `None` until then and afterwards.
    pub(crate) async fn finished(&mut self) -> Option<Result<Option<EdgeIdentity>, RenewalError>> {
        let task = self.task.take_if(|task| task.is_finished())?;
        Some(match task.await {
            Ok(result) => result.map(Some),
            Err(_) => Err(RenewalError::CutShort),
        })
    }

    /// Whether it is time to look again. A third of the certificate's life is left for repairs when it begins.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_none() && self.begun.elapsed() >= Duration::from_millis(CERTIFICATE_CHECK_INTERVAL.0)
    }
}

async fn renew(
    identity: EdgeIdentity,
    directory: PathBuf,
    client: EdgeServiceClient<Channel>,
) -> Result<EdgeIdentity, RenewalError> {
    let renewed = identity.renewed(&ask(client, identity.renewal_request()?).await?)?;
    let saved = renewed.clone();
    tokio::task::spawn_blocking(move || saved.save_public(&directory))
        .await
        .map_err(|_| RenewalError::CutShort)??;
    Ok(renewed)
}

/// Asks a hub for the certificate that a request is for. A relay passes it on to a node.
pub(super) async fn ask(
    mut client: EdgeServiceClient<Channel>,
    certificate_request: Vec<u8>,
) -> Result<String, RenewalError> {
    let call = client.renew_certificate(v1::RenewCertificateRequest { certificate_request });
    let patience = Duration::from_millis(ENROL_CALL_TIMEOUT.0);
    let answer = tokio::time::timeout(patience, call).await.map_err(|_| RenewalError::Timeout)??;
    Ok(answer.into_inner().certificate_chain)
}

/// Writes what the cluster told of its hubs, beside everything else: it is only convenient to have.
pub(crate) fn save(identity: EdgeIdentity, directory: PathBuf) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = identity.save_public(&directory) {
            tracing::warn!(%error, "the cluster's list of hubs can't be kept");
        }
    });
}
