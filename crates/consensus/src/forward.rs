//! Handing a batch of commands to the leader, and bringing its answers back.

use std::time::Duration;

use haltline_core::ids::NodeId;
use haltline_wire::raft::v1 as wire;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    network::{Incoming, Lane, Peers, incoming, within},
    options::Member,
    ticket::Proposal,
};

/// Where to, and until when it makes sense.
#[derive(Debug, Clone)]
pub(crate) struct Leader {
    pub(crate) id: NodeId,
    pub(crate) member: Member,
    /// Cancelled when somebody else leads, or nobody.
    pub(crate) deposed: CancellationToken,
}

/// Sends the batch and delivers what was answered. Returns what must be tried again.
pub(crate) async fn run(
    peers: Peers,
    leader: Leader,
    proposals: Vec<Proposal>,
    kills: bool,
) -> Vec<Proposal> {
    let patience = patience(&proposals);
    let message = wire::ForwardRequest {
        kills,
        timeout_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        requests: proposals.iter().map(|proposal| proposal.request.bytes.clone()).collect(),
    };
    let lane = if kills { Lane::Control } else { Lane::Bulk };
    let Ok(mut client) = peers.client(leader.id, &leader.member, lane) else { return proposals };
    let response = tokio::select! {
        response = within(patience, client.forward(message)) => response.map(tonic::Response::into_inner),
        () = leader.deposed.cancelled() => Err(tonic::Status::aborted("another node leads")),
    };
    match response {
        Ok(response) if response.results.len() == proposals.len() => settle(proposals, response.results),
        Ok(response) => {
            let (expected, got) = (proposals.len(), response.results.len());
            tracing::warn!(leader = %leader.id, expected, got, "the leader answered another number of commands");
            uncertain(proposals)
        }
        Err(status) => {
            tracing::debug!(leader = %leader.id, %status, "forwarding failed");
            let never_sent = haltline_pki::TlsFailure::find(&status).is_some();
            if never_sent { proposals } else { uncertain(proposals) }
        }
    }
}

/// As long as any of them waits.
fn patience(proposals: &[Proposal]) -> Duration {
    let last = proposals.iter().map(|proposal| proposal.expires).max();
    last.map_or(Duration::ZERO, |last| last.saturating_duration_since(Instant::now()))
}

fn uncertain(mut proposals: Vec<Proposal>) -> Vec<Proposal> {
    for proposal in &mut proposals {
        proposal.uncertain = true;
    }
    proposals
}

fn settle(proposals: Vec<Proposal>, results: Vec<wire::ForwardResult>) -> Vec<Proposal> {
    let mut again = Vec::new();
    for (mut proposal, result) in proposals.into_iter().zip(results) {
        match incoming(Some(result)) {
            Incoming::Answer(answer) => proposal.settle(answer),
            Incoming::TryAgain { uncertain } => {
                proposal.uncertain |= uncertain;
                again.push(proposal);
            }
        }
    }
    again
}
