//! Why a relay doesn't serve somebody, with the names that the API has for it.

use std::fmt;

use haltline_core::{ids::EdgeName, path::FleetPath};
use haltline_pki::Subject;
use haltline_wire::refusal::Refusal;
use tonic::Code;

/// Why an enforcer may not hang on this relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
        let reason = match &refused {
            RelayRefused::Unregistered { .. } => "UNREGISTERED_KEY",
            RelayRefused::NoRelay { .. } => "NOT_A_RELAY",
            RelayRefused::BeyondPaths { .. } => "BEYOND_RELAY_PATHS",
        };
        Self::new(Code::PermissionDenied, reason, refused.to_string())
    }
}
