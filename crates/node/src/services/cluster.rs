//! The cluster: what a client needs to command, how this node sees it, its policy, its events.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use futures::Stream;
use haltline_consensus::{Clock as _, DiskStatus, MemberStatus, Published, Role, SystemClock};
use haltline_core::{LogIndex, command::NodeRecord, rejection::Rejection, state::State, time::ClusterTime};
use haltline_storage::Room;
use haltline_wire::{
    convert,
    v1::{self, cluster_service_server::ClusterService, command_request::Command},
};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{caller::Caller, context::Context, diagnosis, refused::Refused};

#[tonic::async_trait]
impl ClusterService for Services {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::Cluster>, Status> {
        let caller = self.0.caller(request.extensions())?;
        let consensus = &self.0.consensus;
        Ok(Response::new(self.0.cluster(&consensus.state(), consensus.cluster_now(), &caller)?))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::Status>, Status> {
        let caller = self.0.caller(request.extensions())?;
        Ok(Response::new(self.0.status(&caller)?))
    }

    async fn diagnose_node(
        &self,
        request: Request<v1::DiagnoseNodeRequest>,
    ) -> Result<Response<v1::NodeDiagnosis>, Status> {
        self.0.caller(request.extensions())?.person()?;
        Ok(Response::new(self.0.diagnose().await?))
    }

    async fn update_policy(
        &self,
        request: Request<v1::UpdatePolicyRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::UpdatePolicy(message)).await
    }

    async fn propose_trust_bundle(
        &self,
        request: Request<v1::ProposeTrustBundleRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::ProposeTrustBundle(message)).await
    }

    async fn get_trust(&self, request: Request<v1::GetTrustRequest>) -> Result<Response<v1::Trust>, Status> {
        self.0.caller(request.extensions())?.person()?;
        let signing = Arc::clone(&self.0.signing);
        let prepared = tokio::task::spawn_blocking(move || signing.prepared()).await;
        let prepared = prepared.map_err(|_| Refused::Stopping)?.map_err(Refused::PreparedKey)?;
        let published = self.0.consensus.state();
        Ok(Response::new(convert::trust(&published.state, self.0.identity.id(), prepared)))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        self.0.caller(request.extensions())?.person()?;
        let events = self.0.watch(LogIndex(request.get_ref().from_index))?;
        Ok(Response::new(Box::pin(events)))
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

fn member(status: &MemberStatus) -> v1::Member {
    v1::Member {
        id: status.id.0,
        name: status.member.name.clone(),
        voter: status.voter,
        matched_index: status.matched.map_or(0, |index| index.0),
        matched_known: status.matched.is_some(),
    }
}

fn disk(status: &DiskStatus) -> v1::DiskStatus {
    let log = &status.log;
    v1::DiskStatus {
        room: match log.room {
            Room::Ample => "ample",
            Room::Low => "low",
            Room::Nothing => "nothing",
        }
        .into(),
        free_bytes: log.free_bytes,
        waiting_ms: log.waiting.map_or(0, |waiting| u64::try_from(waiting.as_millis()).unwrap_or(u64::MAX)),
        reserve_segments: u32::try_from(log.reserve_segments).unwrap_or(u32::MAX),
        reserve_segments_wanted: u32::try_from(log.reserve_segments_wanted).unwrap_or(u32::MAX),
        sync_recent_us: u64::try_from(log.syncs.recent.as_micros()).unwrap_or(u64::MAX),
        takes_kills_only: status.takes_kills_only,
    }
}

fn counts(state: &State) -> v1::Counts {
    v1::Counts {
        fleets: state.fleets().len() as u64,
        agents: state.agents().len() as u64,
        people: state.people().len() as u64,
        kills: state.kills().len() as u64,
        revocations: state.revocations().len() as u64,
        approvals: state.approvals().len() as u64,
        requests: state.requests_len() as u64,
        edges: state.edges().len() as u64,
        join_tokens: state.join_tokens().len() as u64,
        credentials: state.credentials().len() as u64,
        receipts: state.receipts().len() as u64,
    }
}

impl Context {
    /// The cluster, as a client needs it.
    fn cluster(
        &self,
        published: &Published,
        now: ClusterTime,
        caller: &Caller,
    ) -> Result<v1::Cluster, Refused> {
        let state = &published.state;
        let identity = state.cluster().ok_or(Rejection::NotFounded)?;
        Ok(v1::Cluster {
            cluster_id: identity.id.0.to_vec(),
            incarnation: identity.incarnation.0,
            cluster_time_ms: now.0,
            bootstrap: state.is_bootstrap(),
            policy: Some(state.policy().into()),
            nodes: state.nodes().values().map(|record| self.node(published, record)).collect(),
            you: match caller {
                Caller::Person(person) => person.to_string(),
                Caller::Node(_) | Caller::Edge(_) => String::new(),
            },
        })
    }

    fn node(&self, published: &Published, record: &NodeRecord) -> v1::Node {
        let mut node = convert::node(record);
        if let Some((_, member)) = published.members().find(|(id, _)| *id == record.id) {
            (node.api_address, node.raft_address) = (member.api_address.clone(), member.raft_address.clone());
        }
        if let Some(place) = self.places.get(record.id) {
            (node.edge_address, node.public_address) = (place.edge.clone(), place.public.clone());
            node.region.clone_from(&place.region);
        }
        node
    }

    /// This node's view of the cluster.
    fn status(&self, caller: &Caller) -> Result<v1::Status, Refused> {
        let published = self.consensus.state();
        let status = self.consensus.status();
        let state = &published.state;
        let chain = state.chain();
        let own = self.identity.id();
        let name = state.nodes().get(&own).map_or_else(String::new, |record| record.name.to_string());
        Ok(v1::Status {
            cluster: Some(self.cluster(&published, status.cluster_now, caller)?),
            node_id: own.0,
            node_name: name,
            version: env!("CARGO_PKG_VERSION").into(),
            role: role(status.role).into(),
            term: status.term,
            leader_id: status.leader.map_or(0, |leader| leader.0),
            last_log_index: status.last_log.0,
            committed_index: status.committed.0,
            applied_index: published.applied.0,
            snapshot_index: status.snapshot.0,
            event_seq: chain.seq.0,
            chain_head: chain.head.0.to_vec(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            members: status.members.iter().map(member).collect(),
            counts: Some(counts(state)),
            certificate_ends_unix_s: self.certificate_ends.load(Ordering::Relaxed),
            timing_profile: self.config.get().profile.to_string(),
            data_format: haltline_storage::DATA_FORMAT,
            boot_clock_us: diagnosis::boot_clock_us(),
            wall_time_ms: SystemClock.wall().0,
            disk: Some(disk(&status.disk)),
        })
    }
}
