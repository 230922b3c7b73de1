//! The one place that knows which service takes which command.

use haltline_wire::v1::{
    CommandReply, EnrolPersonRequest, approval_service_client::ApprovalServiceClient,
    cluster_service_client::ClusterServiceClient, command_request::Command as Message,
    credential_service_client::CredentialServiceClient, edge_admin_service_client::EdgeAdminServiceClient,
    fleet_service_client::FleetServiceClient, kill_service_client::KillServiceClient,
    person_service_client::PersonServiceClient,
};
use tonic::{Response, Status, transport::Channel};

/// Sends a command by the call that is made for it.
pub(super) async fn send(channel: Channel, message: Message) -> Result<Response<CommandReply>, Status> {
    match message {
        Message::CreateFleet(message) => FleetServiceClient::new(channel).create_fleet(message).await,
        Message::UpdateFleet(message) => FleetServiceClient::new(channel).update_fleet(message).await,
        Message::DeleteFleet(message) => FleetServiceClient::new(channel).delete_fleet(message).await,
        Message::RegisterAgent(message) => FleetServiceClient::new(channel).register_agent(message).await,
        Message::UpdateAgent(message) => FleetServiceClient::new(channel).update_agent(message).await,
        Message::DeleteAgent(message) => FleetServiceClient::new(channel).delete_agent(message).await,
        Message::AddPerson(message) => {
            let enrol = EnrolPersonRequest { person: Some(message), certificate_request: String::new() };
            let response = PersonServiceClient::new(channel).add_person(enrol).await?;
            Ok(response.map(|answer| answer.reply.unwrap_or_default()))
        }
        Message::UpdatePerson(message) => PersonServiceClient::new(channel).update_person(message).await,
        Message::RemovePerson(message) => PersonServiceClient::new(channel).remove_person(message).await,
        Message::CreateKill(message) => KillServiceClient::new(channel).create_kill(message).await,
        Message::Resume(message) => KillServiceClient::new(channel).resume(message).await,
        Message::Approve(message) => ApprovalServiceClient::new(channel).approve(message).await,
        Message::Withdraw(message) => ApprovalServiceClient::new(channel).withdraw(message).await,
        Message::Revoke(message) => CredentialServiceClient::new(channel).revoke(message).await,
        Message::UpdatePolicy(message) => ClusterServiceClient::new(channel).update_policy(message).await,
        Message::CreateJoinToken(message) => {
            EdgeAdminServiceClient::new(channel).create_join_token(message).await
        }
        Message::DeleteJoinToken(message) => {
            EdgeAdminServiceClient::new(channel).delete_join_token(message).await
        }
        Message::UpdateEdge(message) => EdgeAdminServiceClient::new(channel).update_edge(message).await,
        Message::RemoveEdge(message) => EdgeAdminServiceClient::new(channel).remove_edge(message).await,
        Message::IssueCredential(message) => {
            let response = CredentialServiceClient::new(channel).issue(message).await?;
            Ok(response.map(|answer| answer.reply.unwrap_or_default()))
        }
        Message::ProposeTrustBundle(message) => {
            ClusterServiceClient::new(channel).propose_trust_bundle(message).await
        }
    }
}
