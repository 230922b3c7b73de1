//! Why a relay doesn't serve somebody, with the names that the API has for it.

use std::fmt;

use haltline_core::{ids::EdgeName, limits::RELAY_RENEWALS_MAX, path::FleetPath};
use haltline_pki::{PkiError, Subject};
use haltline_wire::refusal::Refusal;
use tonic::Code;

/// Why an enforcer may not hang on this relay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayRefused {
    #[error(
        "the key of {subject} isn't registered, as far as this relay has proof; enrol first, or try a node"
    )]
    Unregistered { subject: Subject },
    #[error("{name} isn't registered as a relay, as far as it has proof itself; try a node")]
    NoRelay { name: EdgeName },
    /// Nodes wait for the relay where the relay's paths are touched, so whoever reaches further must not hang on it.
    #[error("{name} enforces {}, which relay {relay} isn't registered for; give the relay that path, or choose another hub", Scope(.path))]
    BeyondPaths { relay: EdgeName, name: EdgeName, path: Option<FleetPath> },
    #[error("the caller showed no certificate")]
    NoIdentity,
    #[error("certificate_request: {0}")]
    CertificateRequest(PkiError),
    #[error("certificate_request: it is for another key than the one that {subject} is connected with")]
    OtherKey { subject: Subject },
    #[error("{RELAY_RENEWALS_MAX} renewals are under way at this relay; try again later")]
    RenewalsBusy,
    #[error("no hub above this relay has answered in time; try again later")]
    NoHubAbove,
    #[error("a relay doesn't serve {call}; ask a node")]
    NotServed { call: &'static str },
}

struct Scope<'a>(&'a Option<FleetPath>);

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "{path}"),
            None => f.write_str("the whole tree"),
        }
    }
}

impl From<RelayRefused> for Refusal {
    fn from(refused: RelayRefused) -> Self {
        let (code, reason) = match &refused {
            RelayRefused::Unregistered { .. } => (Code::PermissionDenied, "UNREGISTERED_KEY"),
            RelayRefused::NoRelay { .. } => (Code::PermissionDenied, "NOT_A_RELAY"),
            RelayRefused::BeyondPaths { .. } => (Code::PermissionDenied, "BEYOND_RELAY_PATHS"),
            RelayRefused::NoIdentity => (Code::Unauthenticated, "NO_CERTIFICATE"),
            RelayRefused::CertificateRequest(_) | RelayRefused::OtherKey { .. } => {
                (Code::InvalidArgument, "CERTIFICATE_REQUEST")
            }
            RelayRefused::RenewalsBusy => (Code::ResourceExhausted, "RENEWALS_BUSY"),
            RelayRefused::NoHubAbove => (Code::Unavailable, "NO_HUB_ABOVE"),
            RelayRefused::NotServed { .. } => (Code::Unimplemented, "NOT_SERVED_HERE"),
        };
        Self::new(code, reason, refused.to_string())
    }
}
