//! Handing a batch of commands to the leader, and bringing its answers back.

use std::time::Duration;

use haltline_core::ids::NodeId;
use haltline_pki::TlsFailure;
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
            if never_sent(&status) { proposals } else { uncertain(proposals) }
        }
    }
}

/// Whether there was no connection to send on. Any other failure may have come after the leader had read the commands,
/// also one of TLS: a connection can be closed with an alert at any time.
fn never_sent(status: &tonic::Status) -> bool {
    let failure = TlsFailure::find(status);
    failure
        .is_some_and(|failure| matches!(failure, TlsFailure::Unreachable { .. } | TlsFailure::Timeout { .. }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_found_no_connection_was_never_sent() {
        let status = |failure: TlsFailure| tonic::Status::from_error(Box::new(failure));
        let address = || "127.0.0.1:7401".to_owned();
        assert!(never_sent(&status(TlsFailure::Unreachable {
            address: address(),
            reason: "refused".into()
        })));
        assert!(never_sent(&status(TlsFailure::Timeout { address: address(), timeout_ms: 9 })));
        assert!(!never_sent(&status(TlsFailure::Broken { reason: "reset".into() })));
        assert!(!never_sent(&status(TlsFailure::OwnUndecided)));
        assert!(!never_sent(&tonic::Status::unavailable("the peer went away")));
    }
}
