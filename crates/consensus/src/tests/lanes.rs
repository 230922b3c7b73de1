//! Batching, and kills that overtake.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use haltline_core::{LogIndex, rejection::Outcome};
use tokio::sync::mpsc;

use super::harness::{TestCluster, eventually, fleet, kill};
use crate::{ProposeResult, ReplySink};

struct Replies(mpsc::UnboundedSender<(u64, ProposeResult)>);

impl ReplySink for Replies {
    fn deliver(&self, token: u64, result: ProposeResult) {
        // A test that has seen enough hangs up.
        let _ = self.0.send((token, result));
    }
}

const COMMANDS: u64 = 12_000;

/// Fills the normal lane through one node, then kills through it.
async fn flood_and_kill(leading: bool) -> (Vec<LogIndex>, LogIndex) {
    let cluster = TestCluster::started(3).await;
    let node = if leading { cluster.leader().await } else { cluster.follower().await };
    node.propose(&fleet(&node, 1)).await.unwrap().result.unwrap();
    #[expect(clippy::disallowed_methods, reason = "bounded by COMMANDS")]
    let (sender, mut replies) = mpsc::unbounded_channel();
    let sink: Arc<dyn ReplySink> = Arc::new(Replies(sender));
    for number in 2..COMMANDS + 2 {
        node.submit(&fleet(&node, number), sink.clone(), number, Duration::from_secs(10));
    }
    let killed = node.propose(&kill(&node, COMMANDS + 10)).await.unwrap();
    assert!(matches!(killed.result, Ok(Outcome::Killed(_))), "{killed:?}");
    let mut indices = Vec::new();
    let mut tokens = BTreeSet::new();
    while tokens.len() < usize::try_from(COMMANDS).unwrap() {
        let (token, result) = replies.recv().await.unwrap();
        let reply = result.unwrap();
        reply.result.unwrap();
        assert!(tokens.insert(token), "one answer each");
        indices.push(reply.stamp.index);
    }
    cluster.converge().await;
    (indices, killed.stamp.index)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_share_entries_and_a_kill_overtakes_those_that_wait() {
    let (indices, killed) = flood_and_kill(true).await;
    let entries = indices.iter().collect::<BTreeSet<_>>().len();
    assert!(entries < 1_000, "{COMMANDS} commands took {entries} entries");
    let overtaken = indices.iter().filter(|index| **index > killed).count();
    assert!(overtaken > 0, "the kill at {killed} waited for all the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_kill_overtakes_too() {
    let (indices, killed) = flood_and_kill(false).await;
    let overtaken = indices.iter().filter(|index| **index > killed).count();
    assert!(overtaken > 0, "the kill at {killed} waited for all the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_every_applied_entry_on_every_node() {
    let cluster = TestCluster::started(3).await;
    let mut feeds =
        cluster.running().iter().map(|node| node.entries_after(node.state().applied)).collect::<Vec<_>>();
    let writer = cluster.follower().await;
    let first = writer.propose(&fleet(&writer, 1)).await.unwrap();
    let second = writer.propose(&kill(&writer, 2)).await.unwrap();
    for feed in &mut feeds {
        let (mut events, mut changes) = (0, 0);
        loop {
            let entry = feed.next().await.unwrap();
            events += entry.events.len();
            changes += entry.changes.len();
            assert_eq!(entry.index, entry.stamp.index);
            if entry.index == second.stamp.index {
                break;
            }
        }
        assert!(events >= 2 && changes >= 2, "{events} events, {changes} changes");
        assert!(feed.position() > first.stamp.index);
    }
    eventually("all chains are equal", || {
        let heads = cluster.running().into_iter().map(|node| node.state().state.chain().head);
        heads.collect::<BTreeSet<_>>().len() == 1
    })
    .await;
}
