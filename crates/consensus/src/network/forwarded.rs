//! Commands that another node accepted: queued here beside this node's own, and answered together.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use haltline_wire::raft::v1::{self as wire, ForwardError, forward_result::Result as Out};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    error::ProposeError,
    lane::Entrance,
    ticket::{EncodedRequest, Origin, Proposal, ProposeResult, ReplySink, Ticket},
};

/// Collects the answers of one batch and wakes the call when the last is there.
struct Gathering {
    answers: Mutex<Gathered>,
}

struct Gathered {
    results: Vec<Option<wire::ForwardResult>>,
    missing: usize,
    done: Option<oneshot::Sender<()>>,
}

impl ReplySink for Gathering {
    fn deliver(&self, token: u64, result: ProposeResult) {
        let result = outgoing(result);
        let mut gathered = self.answers.lock();
        let slot = usize::try_from(token).ok().and_then(|slot| gathered.results.get_mut(slot));
        if let Some(slot @ None) = slot {
            *slot = Some(result);
            gathered.missing -= 1;
        }
        if gathered.missing == 0
            && let Some(done) = gathered.done.take()
        {
            // The caller may have hung up.
            let _ = done.send(());
        }
    }
}

fn outgoing(result: ProposeResult) -> wire::ForwardResult {
    let error = |error: ForwardError| Out::Error(error.into());
    let result = match result {
        Ok(reply) => Out::Reply(
            postcard::to_stdvec(&reply)
                .expect("replies are plain data, which postcard always encodes")
                .into(),
        ),
        Err(ProposeError::NoLeader { .. }) => error(ForwardError::NotLeader),
        Err(ProposeError::Busy { .. }) => error(ForwardError::Busy),
        Err(ProposeError::DiskFull) => error(ForwardError::DiskFull),
        Err(ProposeError::UnknownOutcome { .. }) => error(ForwardError::UnknownOutcome),
        // A ticket that was lost on the way: the command may be in the log.
        Err(ProposeError::Stopping) => error(ForwardError::UnknownOutcome),
        Err(ProposeError::TooLarge { .. } | ProposeError::NotUnderstood) => error(ForwardError::Malformed),
    };
    wire::ForwardResult { result: Some(result) }
}

/// Queues the commands and waits for all answers. Nothing is queued if this node doesn't lead: forwarding goes one hop.
pub(super) async fn answer(
    entrance: &Entrance,
    leads: bool,
    requests: Vec<Bytes>,
    timeout: Duration,
) -> Vec<wire::ForwardResult> {
    let failed = |error: ForwardError| wire::ForwardResult { result: Some(Out::Error(error.into())) };
    if !leads {
        return vec![failed(ForwardError::NotLeader); requests.len()];
    }
    let (done, all_there) = oneshot::channel();
    let gathered =
        Gathered { results: vec![None; requests.len()], missing: requests.len(), done: Some(done) };
    let gathering = Arc::new(Gathering { answers: Mutex::new(gathered) });
    for (token, bytes) in (0..).zip(requests) {
        match EncodedRequest::decode(bytes) {
            Some(request) => {
                let ticket = Ticket::many(gathering.clone(), token);
                entrance.queue(Proposal::new(request, ticket, Origin::Forwarded, timeout));
            }
            None => gathering.deliver(token, Err(ProposeError::NotUnderstood)),
        }
    }
    // An empty message has its answers already; the sender is dropped only with every ticket answered.
    if gathering.answers.lock().missing > 0 {
        let _ = tokio::time::timeout(timeout, all_there).await;
    }
    let results = std::mem::take(&mut gathering.answers.lock().results);
    results.into_iter().map(|result| result.unwrap_or_else(|| failed(ForwardError::UnknownOutcome))).collect()
}

/// An answer of the leader, back at the node that forwarded the command.
pub(crate) enum Incoming {
    /// To be passed on.
    Answer(ProposeResult),
    /// To be tried again with another leader; `uncertain` if this one may have it in its log.
    TryAgain { uncertain: bool },
}

/// Reads one result of a forwarded batch.
pub(crate) fn incoming(result: Option<wire::ForwardResult>) -> Incoming {
    match result.and_then(|result| result.result) {
        Some(Out::Reply(bytes)) => match postcard::from_bytes(&bytes) {
            Ok(reply) => Incoming::Answer(Ok(reply)),
            // It was carried out; only the words for what came of it are newer than this node.
            Err(_) => Incoming::TryAgain { uncertain: true },
        },
        Some(Out::Error(code)) => match ForwardError::try_from(code) {
            Ok(ForwardError::NotLeader | ForwardError::Stopping) => Incoming::TryAgain { uncertain: false },
            Ok(ForwardError::Busy) => Incoming::Answer(Err(ProposeError::Busy {
                queued: haltline_core::limits::PROPOSALS_QUEUED_MAX,
            })),
            Ok(ForwardError::DiskFull) => Incoming::Answer(Err(ProposeError::DiskFull)),
            Ok(ForwardError::Malformed) => Incoming::Answer(Err(ProposeError::NotUnderstood)),
            Ok(ForwardError::UnknownOutcome | ForwardError::Unspecified) | Err(_) => {
                Incoming::TryAgain { uncertain: true }
            }
        },
        None => Incoming::TryAgain { uncertain: true },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::{lane::lanes, testing};

    fn code(result: &wire::ForwardResult) -> ForwardError {
        match &result.result {
            Some(Out::Error(code)) => ForwardError::try_from(*code).unwrap(),
            other => panic!("expected an error, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_node_that_does_not_lead_queues_nothing() {
        let (entrance, _kills, _normal) = lanes();
        let request = EncodedRequest::encode(&testing::fleet(1)).unwrap().bytes;
        let results = answer(&entrance, false, vec![request; 2], Duration::from_secs(1)).await;
        assert_eq!(results.iter().map(code).collect::<Vec<_>>(), [ForwardError::NotLeader; 2]);
        assert_eq!(entrance.waiting(), 0);
    }

    #[tokio::test]
    async fn garbage_is_refused_by_itself_and_the_rest_goes_its_way() {
        let (entrance, mut kills, mut normal) = lanes();
        let encode = |request| EncodedRequest::encode(&request).unwrap().bytes;
        let requests = vec![encode(testing::fleet(1)), Bytes::from_static(b"junk"), encode(testing::kill(2))];
        let answering =
            tokio::spawn(async move { answer(&entrance, true, requests, Duration::from_secs(5)).await });
        normal.ready().await;
        kills.ready().await;
        drop(normal.pop_if(|proposal| proposal.origin == Origin::Forwarded).unwrap());
        kills.pop_if(|_| true).unwrap().ticket.deliver(Err(ProposeError::Busy { queued: 1 }));
        let results = answering.await.unwrap();
        let codes = results.iter().map(code).collect::<Vec<_>>();
        assert_eq!(codes, [ForwardError::UnknownOutcome, ForwardError::Malformed, ForwardError::Busy]);
    }
}
