//! Names that stand in access tokens: the node that issues them and the enforcer that accepts them must agree on these.

use haltline_core::ids::ClusterId;

/// `iss` of every access token: the cluster, as trust domain of the agents' SPIFFE IDs.
#[must_use]
pub fn issuer(cluster: &ClusterId) -> String {
    format!("spiffe://{cluster}")
}

/// `aud` of an access token that was asked for without an audience: this cluster's enforcers.
#[must_use]
pub fn enforcers(cluster: &ClusterId) -> String {
    format!("spiffe://{cluster}/enforcers")
}
