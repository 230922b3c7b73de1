//! The node port: answers what other nodes ask.
//!
//! A caller is known by its certificate. It must mean this cluster and this node, and speaks for itself only: a ballot
//! in another node's name is refused.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use haltline_core::{
    ids::{ClusterId, Incarnation, NodeId},
    limits::{BATCH_COMMANDS_MAX, RAFT_MESSAGE_BYTES_MAX, RAFT_STREAMS_MAX},
};
use haltline_pki::{Incoming, PeerIdentity, Subject};
use haltline_storage::RaftLog;
use haltline_wire::raft::v1::{self as wire, raft_server::RaftServer};
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{
    convert, forwarded,
    peers::{CLUSTER_KEY, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, TO_KEY},
    snapshot_receive,
};
use crate::{
    barrier::{self, Asked},
    error::StartError,
    fitness::Condition,
    lane::Entrance,
    options::Timing,
    snapshots::Snapshots,
    types::{Raft, TypeConfig, Vote},
};

/// What answering takes.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) raft: Raft,
    pub(crate) me: NodeId,
    pub(crate) cluster: Arc<str>,
    pub(crate) entrance: Entrance,
    pub(crate) snapshots: Snapshots,
    pub(crate) log: Arc<dyn RaftLog>,
    pub(crate) timing: Timing,
    /// Ends calls that would go on by themselves.
    pub(crate) stop: CancellationToken,
}

/// How long open calls may take to end once the node stops.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Serves until told to stop. Open calls end then, and with them their connections: a connection that outlived the node
/// would keep answering for it.
pub(crate) async fn serve(service: Service, incoming: Incoming) -> Result<(), StartError> {
    let silence = service.timing.append;
    let stop = service.stop.clone();
    let server = RaftServer::new(service)
        .max_decoding_message_size(RAFT_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(RAFT_MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .max_concurrent_streams(RAFT_STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(silence))
        .http2_keepalive_timeout(Some(silence))
        .add_service(server)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        result = served => result.map_err(|error| StartError::Listen { reason: error.to_string() }),
        () = overdue => {
            tracing::warn!("connections of other nodes did not close in time");
            Ok(())
        }
    }
}

impl Service {
    /// What nodes call their cluster when they talk to each other. A restored one has another name than what it was before,
    /// so that a node which was thought lost doesn't mix its log with the new one.
    pub(crate) fn name_of(cluster: ClusterId, incarnation: Incarnation) -> Arc<str> {
        match incarnation {
            Incarnation(0) => cluster.to_string().into(),
            later => format!("{cluster}/{later}").into(),
        }
    }

    /// Who calls, once it is clear that it means us.
    fn caller<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let meant = |key: &str, mine: &str| {
            let value = request.metadata().get(key).and_then(|value| value.to_str().ok());
            match value {
                Some(value) if value == mine => Ok(()),
                value => {
                    let got = value.unwrap_or("nothing");
                    Err(Status::failed_precondition(format!("{key} is {got}, here it is {mine}")))
                }
            }
        };
        meant(CLUSTER_KEY, &self.cluster)?;
        meant(TO_KEY, &self.me.to_string())?;
        match request.extensions().get::<PeerIdentity>().map(|peer| &peer.subject) {
            Some(Subject::Node(node)) => Ok(*node),
            _ => Err(Status::permission_denied("only nodes may call here")),
        }
    }

    /// The ballot of a message, which must be the caller's own.
    fn ballot(&self, caller: NodeId, ballot: Option<wire::Ballot>) -> Result<Vote, Status> {
        own_ballot(caller, convert::ballot_in(ballot, "a message")?)
    }
}

pub(super) fn own_ballot(caller: NodeId, vote: Vote) -> Result<Vote, Status> {
    if vote.leader_id.node_id == caller.0 {
        Ok(vote)
    } else {
        let of = vote.leader_id.node_id;
        Err(Status::permission_denied(format!("node {caller} sent a ballot of node {of}")))
    }
}

/// openraft has stopped: the node is about to.
#[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
pub(super) fn stopped(error: impl ToString) -> Status {
    Status::unavailable(error.to_string())
}

type Answers = Pin<Box<dyn Stream<Item = Result<wire::AppendResponse, Status>> + Send>>;

#[tonic::async_trait]
impl wire::raft_server::Raft for Service {
    type AppendStream = Answers;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = self.caller(&request)?;
        let messages = request.into_inner();
        let input = messages.scan((), move |(), message| {
            let request = message.and_then(|message| {
                let request = convert::append_in(message)?;
                own_ballot(caller, request.vote)?;
                Ok(request)
            });
            if let Err(status) = &request {
                tracing::debug!(%caller, %status, "the stream of entries ends");
            }
            std::future::ready(request.ok())
        });
        let input = input.take_until(self.stop.clone().cancelled_owned());
        let answers = self.raft.stream_append(input).map(|result| match result {
            Ok(result) => Ok(convert::append_result_out(&result)),
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let caller = self.caller(&request)?;
        let request = self.vote_in(caller, request.into_inner())?;
        Ok(vote_out(&self.raft.vote(request).await.map_err(stopped)?))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let caller = self.caller(&request)?;
        let request = self.vote_in(caller, request.into_inner())?;
        Ok(vote_out(&self.raft.pre_vote(request).await.map_err(stopped)?))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        let caller = self.caller(&request)?;
        let wire::TransferLeaderRequest { from, to, last } = request.into_inner();
        let from = self.ballot(caller, from)?;
        let request = TransferLeaderRequest::<TypeConfig>::new(from, to, last.map(convert::log_id_in));
        let result = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(convert::transfer_result_out(&result)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPart>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        let caller = self.caller(&request)?;
        let received = tokio::select! {
            received = snapshot_receive::run(caller, request.into_inner(), &self.snapshots) => received?,
            () = self.stop.cancelled() => return Err(stopped("this node is stopping")),
        };
        let result = self.raft.install_full_snapshot(received.vote, received.snapshot).await;
        let vote = result.map_err(stopped)?.vote;
        Ok(Response::new(wire::SnapshotResponse { ballot: Some(convert::ballot_out(vote)) }))
    }

    async fn forward(
        &self,
        request: Request<wire::ForwardRequest>,
    ) -> Result<Response<wire::ForwardResponse>, Status> {
        self.caller(&request)?;
        let wire::ForwardRequest { timeout_ms, requests, .. } = request.into_inner();
        if requests.len() > BATCH_COMMANDS_MAX {
            let got = requests.len();
            return Err(Status::invalid_argument(format!(
                "{got} commands in one message; at most {BATCH_COMMANDS_MAX} are allowed"
            )));
        }
        if requests.is_empty() {
            let condition = Some(Condition::of(&*self.log).out());
            return Ok(Response::new(wire::ForwardResponse { results: Vec::new(), condition }));
        }
        let leads = self.raft.is_leader();
        let results =
            forwarded::answer(&self.entrance, leads, requests, Duration::from_millis(timeout_ms)).await;
        Ok(Response::new(wire::ForwardResponse { results, condition: None }))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        use wire::read_index_response::Result as Out;
        let caller = self.caller(&request)?;
        let asker = NodeId(request.into_inner().asker);
        if asker != caller {
            return Err(Status::permission_denied(format!(
                "node {caller} asked in the name of node {asker}"
            )));
        }
        let result = match barrier::ask_as_leader(&self.raft, asker).await.map_err(stopped)? {
            Asked::Index(index) => Out::Index(index.0),
            Asked::NotLeader => Out::Error(wire::ReadIndexError::NotLeader.into()),
            Asked::NotMember => Out::Error(wire::ReadIndexError::NotMember.into()),
            Asked::NoQuorum => Out::Error(wire::ReadIndexError::NoQuorum.into()),
        };
        Ok(Response::new(wire::ReadIndexResponse { result: Some(result) }))
    }
}

impl Service {
    fn vote_in(&self, caller: NodeId, request: wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
        let vote = self.ballot(caller, request.ballot)?;
        let last_log_id = request.last.map(convert::log_id_in);
        Ok(VoteRequest { vote, last_log_id, leadership_transfer: request.leadership_transfer })
    }
}

fn vote_out(response: &openraft::raft::VoteResponse<TypeConfig>) -> Response<wire::VoteResponse> {
    Response::new(wire::VoteResponse {
        ballot: Some(convert::ballot_out(response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.map(convert::log_id_out),
    })
}
