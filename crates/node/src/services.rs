//! The gRPC services of `haltline.v1`. Each is a thin shell: who calls, convert, propose or read, convert back.

mod approvals;
mod cluster;
mod credentials;
mod edge_service;
mod edges;
mod enforcement;
mod fleets;
mod kills;
mod peers;
mod people;
mod stream;
mod watch;

use std::sync::Arc;

pub(crate) use edge_service::EdgeCalls;
pub(crate) use watch::Watches;

use haltline_core::limits::{API_REQUEST_BYTES_MAX, API_RESPONSE_BYTES_MAX};
use haltline_wire::{
    FILE_DESCRIPTORS,
    v1::{
        approval_service_server::ApprovalServiceServer, backup_service_server::BackupServiceServer,
        cluster_service_server::ClusterServiceServer, command_service_server::CommandServiceServer,
        credential_service_server::CredentialServiceServer,
        edge_admin_service_server::EdgeAdminServiceServer,
        enforcement_service_server::EnforcementServiceServer, fleet_service_server::FleetServiceServer,
        kill_service_server::KillServiceServer, peer_service_server::PeerServiceServer,
        person_service_server::PersonServiceServer,
    },
};
use tonic::{server::NamedService, service::Routes};

use crate::{context::Context, error::NodeError};

/// The services, over what they share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Services(pub(crate) Arc<Context>);

/// Names of the services whose health is told one by one.
pub(crate) const NAMES: [&str; 10] = [
    FleetServiceServer::<Services>::NAME,
    PersonServiceServer::<Services>::NAME,
    KillServiceServer::<Services>::NAME,
    ApprovalServiceServer::<Services>::NAME,
    CredentialServiceServer::<Services>::NAME,
    CommandServiceServer::<Services>::NAME,
    ClusterServiceServer::<Services>::NAME,
    EnforcementServiceServer::<Services>::NAME,
    EdgeAdminServiceServer::<Services>::NAME,
    BackupServiceServer::<Services>::NAME,
];

macro_rules! bounded {
    ($server:ident, $services:expr) => {
        $server::new($services.clone())
            .max_decoding_message_size(API_REQUEST_BYTES_MAX)
            .max_encoding_message_size(API_RESPONSE_BYTES_MAX)
    };
}

impl Services {
    /// All services, reflection among them.
    pub(crate) fn routes(&self) -> Result<Routes, NodeError> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| NodeError::Reflection(error.to_string()))?;
        Ok(Routes::new(reflection)
            .add_service(bounded!(FleetServiceServer, self))
            .add_service(bounded!(PersonServiceServer, self))
            .add_service(bounded!(KillServiceServer, self))
            .add_service(bounded!(ApprovalServiceServer, self))
            .add_service(bounded!(CredentialServiceServer, self))
            .add_service(bounded!(CommandServiceServer, self))
            .add_service(bounded!(EnforcementServiceServer, self))
            .add_service(bounded!(PeerServiceServer, self))
            .add_service(bounded!(ClusterServiceServer, self))
            .add_service(bounded!(EdgeAdminServiceServer, self))
            .add_service(bounded!(BackupServiceServer, self)))
    }
}
