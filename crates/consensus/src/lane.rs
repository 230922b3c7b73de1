//! The two queues of a node: kills, and everything else. Bounded by a counter that callers see before they queue.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use haltline_core::limits::{BATCH_COMMANDS_MAX, PROPOSALS_QUEUED_MAX};
use tokio::sync::mpsc;

use crate::{error::ProposeError, ticket::Proposal};

/// The ends that callers hold. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    kills: Door,
    normal: Door,
}

#[derive(Debug, Clone)]
struct Door {
    queue: mpsc::UnboundedSender<Proposal>,
    waiting: Arc<AtomicUsize>,
}

impl Entrance {
    /// Queues a command.
    ///
    /// # Errors
    /// [`ProposeError::Busy`] if its lane is full, [`ProposeError::Stopping`]; the ticket gets the same answer.
    pub(crate) fn queue(&self, proposal: Proposal) {
        let door = if proposal.request.kill { &self.kills } else { &self.normal };
        let queued = door.waiting.fetch_add(1, Ordering::Relaxed);
        if queued >= PROPOSALS_QUEUED_MAX {
            door.waiting.fetch_sub(1, Ordering::Relaxed);
            proposal.ticket.deliver(Err(ProposeError::Busy { queued }));
        } else if let Err(refused) = door.queue.send(proposal) {
            // The proposer is gone, and dropping the ticket says so.
            drop(refused);
        }
    }

    /// How many commands wait in both lanes.
    pub(crate) fn waiting(&self) -> usize {
        self.kills.waiting.load(Ordering::Relaxed) + self.normal.waiting.load(Ordering::Relaxed)
    }
}

/// The proposer's end of one lane.
#[derive(Debug)]
pub(crate) struct Lane {
    queue: mpsc::UnboundedReceiver<Proposal>,
    /// Taken from the queue and not proposed yet: what didn't fit, and what came back.
    front: VecDeque<Proposal>,
    waiting: Arc<AtomicUsize>,
}

/// The entrance and the two lanes behind it, kills first.
pub(crate) fn lanes() -> (Entrance, Lane, Lane) {
    let lane = || {
        #[expect(
            clippy::disallowed_methods,
            reason = "bounded by PROPOSALS_QUEUED_MAX, counted by `waiting`"
        )]
        let (sender, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let door = Door { queue: sender, waiting: waiting.clone() };
        (door, Lane { queue, front: VecDeque::new(), waiting })
    };
    let ((kills, kill_lane), (normal, normal_lane)) = (lane(), lane());
    (Entrance { kills, normal }, kill_lane, normal_lane)
}

impl Lane {
    /// How many wait here.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns when something waits; never if the lane is closed.
    pub(crate) async fn ready(&mut self) {
        if !self.front.is_empty() {
            return;
        }
        match self.queue.recv().await {
            Some(proposal) => self.front.push_back(proposal),
            None => std::future::pending().await,
        }
    }

    /// The next proposal if it passes.
    pub(crate) fn pop_if(&mut self, passes: impl FnOnce(&Proposal) -> bool) -> Option<Proposal> {
        if self.front.is_empty() {
            self.front.extend(self.queue.try_recv().ok());
        }
        let proposal = self.front.pop_front_if(|proposal| passes(proposal))?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(proposal)
    }

    /// Puts proposals back in front, in their order.
    pub(crate) fn put_back(&mut self, proposals: Vec<Proposal>) {
        self.waiting.fetch_add(proposals.len(), Ordering::Relaxed);
        for proposal in proposals.into_iter().rev() {
            self.front.push_front(proposal);
        }
    }

    /// Answers those that waited too long.
    pub(crate) fn sweep(&mut self) {
        let now = tokio::time::Instant::now();
        while let Ok(proposal) = self.queue.try_recv() {
            self.front.push_back(proposal);
        }
        let kept = VecDeque::with_capacity(self.front.len().min(BATCH_COMMANDS_MAX));
        for proposal in std::mem::replace(&mut self.front, kept) {
            if proposal.expires <= now {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                proposal.give_up();
            } else {
                self.front.push_back(proposal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::{
        testing,
        ticket::{EncodedRequest, Origin, Ticket},
    };

    fn proposal(
        number: u64,
        timeout: Duration,
    ) -> (Proposal, tokio::sync::oneshot::Receiver<crate::ticket::ProposeResult>) {
        let (ticket, receiver) = Ticket::one();
        let request = EncodedRequest::encode(&testing::fleet(number)).unwrap();
        (Proposal::new(request, ticket, Origin::Here, timeout), receiver)
    }

    #[test]
    fn a_full_lane_refuses_by_name_and_kills_have_their_own() {
        let (entrance, mut kills, mut normal) = lanes();
        for number in 0..PROPOSALS_QUEUED_MAX as u64 {
            entrance.queue(proposal(number, Duration::from_secs(1)).0);
        }
        let (refused, mut answer) = proposal(0, Duration::from_secs(1));
        entrance.queue(refused);
        assert_eq!(answer.try_recv().unwrap(), Err(ProposeError::Busy { queued: PROPOSALS_QUEUED_MAX }));

        let (ticket, mut answer) = Ticket::one();
        let request = EncodedRequest::encode(&testing::kill(1)).unwrap();
        entrance.queue(Proposal::new(request, ticket, Origin::Here, Duration::from_secs(1)));
        assert!(answer.try_recv().is_err(), "a kill still finds room");
        assert_eq!((kills.waiting(), normal.waiting()), (1, PROPOSALS_QUEUED_MAX));
        assert!(kills.pop_if(|_| true).is_some());
        assert!(normal.pop_if(|_| true).is_some());
        assert_eq!(entrance.waiting(), PROPOSALS_QUEUED_MAX - 1);
    }

    #[test]
    fn what_comes_back_goes_first_in_its_order_and_the_expired_are_answered() {
        let (entrance, _kills, mut normal) = lanes();
        let (late, mut late_answer) = proposal(9, Duration::ZERO);
        entrance.queue(late);
        let back = (1..=2).map(|number| proposal(number, Duration::from_secs(9)).0).collect::<Vec<_>>();
        let expected = back.iter().map(|proposal| proposal.request.clone()).collect::<Vec<_>>();
        normal.put_back(back);
        normal.sweep();
        assert!(matches!(late_answer.try_recv().unwrap(), Err(ProposeError::NoLeader { .. })));
        let popped = std::iter::from_fn(|| normal.pop_if(|_| true)).map(|proposal| proposal.request);
        assert_eq!(popped.collect::<Vec<_>>(), expected);
        assert_eq!(normal.waiting(), 0);
    }
}
