//! A person at a terminal, for tests: makes commands, signs them, and calls the node it is told to call.
//!
//! Unlike the real command line it never retries by itself, so that tests see each answer.

use std::{io, sync::Arc, time::Duration};

use haltline_core::{
    command::{Command, Request, Signature, Statement},
    ids::{ClusterId, Incarnation, PersonId, RequestId},
    time::{ClusterTime, Millis},
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, Endpoint, PersonIdentity};
use haltline_wire::{
    convert,
    refusal::Refusal,
    v1::{
        self, approval_service_client::ApprovalServiceClient, cluster_service_client::ClusterServiceClient,
        command_request::Command as Message, credential_service_client::CredentialServiceClient,
        edge_admin_service_client::EdgeAdminServiceClient, fleet_service_client::FleetServiceClient,
        kill_service_client::KillServiceClient, person_service_client::PersonServiceClient,
    },
};
use tonic::{Status, transport::Channel};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(20);
/// How long a command may be retried, and wait for approval.
const LIFETIME: Millis = Millis(120_000);

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The node refused, and said why.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// No answer in time: whether it was carried out is unknown.
    #[error("no answer in {CALL:?}")]
    Silence,
}

impl CallError {
    /// The stable reason, if the node gave one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.reason),
            Self::Silence => None,
        }
    }
}

/// A person and connections to the nodes of one cluster.
#[derive(Debug, Clone)]
pub struct Person {
    identity: Arc<PersonIdentity>,
    channels: Vec<Channel>,
}

macro_rules! unary {
    ($self:ident, $node:ident, $client:ident . $method:ident ( $message:expr )) => {{
        let mut client = $client::new($self.channels[$node].clone());
        answer(client.$method($message)).await
    }};
}

async fn answer<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::Refused(Refusal::from_status(&status))),
        Err(_) => Err(CallError::Silence),
    }
}

impl Person {
    /// A person who calls these nodes; connects when first used.
    ///
    /// # Errors
    /// If the identity makes no TLS configuration.
    pub fn new(identity: PersonIdentity, endpoints: impl IntoIterator<Item = Endpoint>) -> io::Result<Self> {
        let tls = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone))
            .map_err(io::Error::other)?;
        let dialer = Dialer::new(tls);
        let channels =
            endpoints.into_iter().map(|endpoint| dialer.connect_lazy(&endpoint).map_err(io::Error::other));
        Ok(Self { channels: channels.collect::<io::Result<_>>()?, identity: Arc::new(identity) })
    }

    /// Their name.
    #[must_use]
    pub fn id(&self) -> &PersonId {
        self.identity.person()
    }

    /// Their keys and certificates.
    #[must_use]
    pub fn identity(&self) -> &PersonIdentity {
        &self.identity
    }

    /// The connection to a node, for calls that have no method here.
    #[must_use]
    pub fn channel(&self, node: usize) -> Channel {
        self.channels[node].clone()
    }

    /// A node's view of the cluster.
    ///
    /// # Errors
    /// If the node doesn't answer.
    pub async fn status(&self, node: usize) -> Result<v1::Status, CallError> {
        unary!(self, node, ClusterServiceClient.get_status(v1::GetStatusRequest {}))
    }

    /// What commands are bound to, and cluster time.
    ///
    /// # Errors
    /// If the node doesn't answer.
    pub async fn cluster(&self, node: usize) -> Result<v1::Cluster, CallError> {
        unary!(self, node, ClusterServiceClient.get_cluster(v1::GetClusterRequest {}))
    }

    /// A signed command with a new id.
    ///
    /// # Errors
    /// If the node doesn't tell the cluster's time.
    pub async fn request(&self, node: usize, command: Command) -> Result<Request, CallError> {
        let cluster = self.cluster(node).await?;
        Ok(self.request_at(&cluster, command))
    }

    /// A signed command with a new id, made from what [`Self::cluster`] told.
    #[must_use]
    pub fn request_at(&self, cluster: &v1::Cluster, command: Command) -> Request {
        let mut request = Request {
            id: random_id(),
            caller: self.id().clone().into(),
            deadline: ClusterTime(cluster.cluster_time_ms).plus(LIFETIME),
            signature: None,
            command,
        };
        request.signature = Some(self.sign(cluster, &request));
        request
    }

    /// This person's signature over a request, their own or one that waits.
    #[must_use]
    pub fn sign(&self, cluster: &v1::Cluster, request: &Request) -> Signature {
        let id: [u8; 16] = cluster.cluster_id[..].try_into().expect("a node tells an id of 16 bytes");
        let statement = Statement {
            cluster_id: ClusterId(id),
            incarnation: Incarnation(cluster.incarnation),
            request_id: request.id,
            requester: request.caller.person().expect("only people sign commands"),
            deadline: request.deadline,
            command: &request.command,
        };
        Signature(self.identity.signer().sign(&statement.to_bytes()))
    }

    /// Makes a command and sends it to a node.
    ///
    /// # Errors
    /// The refusal, or silence.
    pub async fn command(&self, node: usize, command: Command) -> Result<v1::CommandReply, CallError> {
        let request = self.request(node, command).await?;
        self.send(node, &request).await
    }

    /// Sends a request, perhaps not for the first time.
    ///
    /// # Errors
    /// The refusal, or silence.
    pub async fn send(&self, node: usize, request: &Request) -> Result<v1::CommandReply, CallError> {
        let message = convert::command_request(0, request).command.expect("every request has a command");
        match message {
            Message::CreateFleet(message) => unary!(self, node, FleetServiceClient.create_fleet(message)),
            Message::UpdateFleet(message) => unary!(self, node, FleetServiceClient.update_fleet(message)),
            Message::DeleteFleet(message) => unary!(self, node, FleetServiceClient.delete_fleet(message)),
            Message::RegisterAgent(message) => unary!(self, node, FleetServiceClient.register_agent(message)),
            Message::UpdateAgent(message) => unary!(self, node, FleetServiceClient.update_agent(message)),
            Message::DeleteAgent(message) => unary!(self, node, FleetServiceClient.delete_agent(message)),
            Message::AddPerson(message) => {
                let message =
                    v1::EnrolPersonRequest { person: Some(message), certificate_request: String::new() };
                unary!(self, node, PersonServiceClient.add_person(message))
                    .map(|enrolled| enrolled.reply.unwrap_or_default())
            }
            Message::UpdatePerson(message) => unary!(self, node, PersonServiceClient.update_person(message)),
            Message::RemovePerson(message) => unary!(self, node, PersonServiceClient.remove_person(message)),
            Message::CreateKill(message) => unary!(self, node, KillServiceClient.create_kill(message)),
            Message::Resume(message) => unary!(self, node, KillServiceClient.resume(message)),
            Message::Approve(message) => unary!(self, node, ApprovalServiceClient.approve(message)),
            Message::Withdraw(message) => unary!(self, node, ApprovalServiceClient.withdraw(message)),
            Message::Revoke(message) => unary!(self, node, CredentialServiceClient.revoke(message)),
            Message::UpdatePolicy(message) => unary!(self, node, ClusterServiceClient.update_policy(message)),
            Message::CreateJoinToken(message) => {
                unary!(self, node, EdgeAdminServiceClient.create_join_token(message))
            }
            Message::DeleteJoinToken(message) => {
                unary!(self, node, EdgeAdminServiceClient.delete_join_token(message))
            }
            Message::UpdateEdge(message) => unary!(self, node, EdgeAdminServiceClient.update_edge(message)),
            Message::RemoveEdge(message) => unary!(self, node, EdgeAdminServiceClient.remove_edge(message)),
            Message::IssueCredential(message) => unary!(self, node, CredentialServiceClient.issue(message))
                .map(|issued| issued.reply.unwrap_or_default()),
            Message::ProposeTrustBundle(message) => {
                unary!(self, node, ClusterServiceClient.propose_trust_bundle(message))
            }
        }
    }
}

/// A new request id.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn random_id() -> RequestId {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the system has randomness");
    RequestId(id)
}
