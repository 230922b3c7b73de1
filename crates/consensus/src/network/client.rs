//! openraft's network over [`Peers`]: each call with its own patience, none ever tried twice from here.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use haltline_core::{ids::NodeId, limits::SNAPSHOT_PART_TIMEOUT};
use haltline_pki::TlsFailure;
use haltline_wire::raft::v1 as wire;
use openraft::{
    OptionalSend, RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption},
    raft::{
        AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tonic::Status;

use super::{
    append_stream::{self, failure},
    convert,
    peers::{Lane, PeerClient, Peers, within},
    snapshot_send,
};
use crate::{
    options::Member,
    snapshots::{SnapshotHandle, Snapshots},
    types::{Snapshot, TypeConfig, Vote},
};

/// Makes a [`PeerNetwork`] for each peer and purpose.
pub(crate) struct Network {
    peers: Peers,
    snapshots: Snapshots,
}

impl Network {
    pub(crate) fn new(peers: Peers, snapshots: Snapshots) -> Self {
        Self { peers, snapshots }
    }

    fn to(&self, target: u64, member: &Member, lane: Lane) -> PeerNetwork {
        PeerNetwork {
            peers: self.peers.clone(),
            snapshots: self.snapshots.clone(),
            peer: NodeId(target),
            member: Arc::new(member.clone()),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &Member) -> PeerNetwork {
        self.to(target, node, Lane::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> PeerNetwork {
        self.to(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> PeerNetwork {
        self.to(target, node, Lane::Snapshot)
    }
}

/// Calls to one peer.
pub(crate) struct PeerNetwork {
    peers: Peers,
    snapshots: Snapshots,
    peer: NodeId,
    member: Arc<Member>,
    /// Which connection carries log entries: heartbeats must not wait behind them.
    lane: Lane,
}

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

impl PeerNetwork {
    fn client(&self, lane: Lane) -> Rpc<PeerClient> {
        self.peers.client(self.peer, &self.member, lane).map_err(|error: TlsFailure| {
            RPCError::Unreachable(Unreachable::from_string(format!("node {}: {error}", self.peer)))
        })
    }

    /// The patience for log entries. openraft's own limit is a heartbeat's, which a disk under load exceeds; giving up
    /// then would only send the same bytes again.
    fn patience(&self, option: &RPCOption) -> Duration {
        match self.lane {
            Lane::Control => option.soft_ttl(),
            Lane::Bulk | Lane::Snapshot => self.peers.timing().append,
        }
    }

    fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
        failure(self.peer, status)
    }

    #[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
    fn garbled(&self, error: impl ToString) -> RPCError<TypeConfig> {
        let reason = format!("node {}: {}", self.peer, error.to_string());
        RPCError::Network(NetworkError::from_string(reason))
    }

    fn vote_out(request: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
        wire::VoteRequest {
            ballot: Some(convert::ballot_out(request.vote)),
            last: request.last_log_id.map(convert::log_id_out),
            leadership_transfer: request.leadership_transfer,
        }
    }

    fn vote_in(&self, response: wire::VoteResponse) -> Rpc<VoteResponse<TypeConfig>> {
        let vote = convert::ballot_in(response.ballot, "a vote").map_err(|error| self.garbled(error))?;
        Ok(VoteResponse {
            vote,
            vote_granted: response.granted,
            last_log_id: response.last.map(convert::log_id_in),
        })
    }
}

impl NetBackoff<TypeConfig> for PeerNetwork {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<TypeConfig> for PeerNetwork {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> futures::future::BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let client = self.client(self.lane)?;
            let patience = self.patience(&option);
            Ok(append_stream::run(client, self.peer, input, patience).await?.boxed())
        })
    }
}

impl NetVote<TypeConfig> for PeerNetwork {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let mut client = self.client(Lane::Control)?;
        let response = within(option.soft_ttl(), client.vote(Self::vote_out(&request))).await;
        self.vote_in(response.map_err(|status| self.failed(&status))?.into_inner())
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let mut client = self.client(Lane::Control)?;
        let response = within(option.soft_ttl(), client.pre_vote(Self::vote_out(&request))).await;
        self.vote_in(response.map_err(|status| self.failed(&status))?.into_inner())
    }
}

impl NetSnapshot<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotHandle;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client(Lane::Snapshot)?;
        let patience = option.soft_ttl().max(Duration::from_millis(SNAPSHOT_PART_TIMEOUT.0));
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = snapshot_send::run(client, self.peer, vote, &self.snapshots, patience) => sent,
        }
    }
}

impl NetTransferLeader<TypeConfig> for PeerNetwork {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let (from, last) = (*request.from_leader(), request.last_log_id().copied());
        let message = wire::TransferLeaderRequest {
            from: Some(convert::ballot_out(from)),
            to: *request.to_node_id(),
            last: last.map(convert::log_id_out),
        };
        let mut client = self.client(Lane::Control)?;
        let response = within(option.soft_ttl(), client.transfer_leader(message)).await;
        let response = response.map_err(|status| self.failed(&status))?.into_inner();
        convert::transfer_result_in(response, from, last).map_err(|error| self.garbled(error))
    }
}
