//! A writer that never gives up: it registers agents one after another, each under one request id, asking node after node
//! until it is acknowledged, and remembers what was.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use haltline_testkit::cluster::{CallError, Person, wait_until};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::register_agent;

/// What a writer has seen.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: Mutex<Vec<(String, u64)>>,
    count: AtomicU64,
    unknown: AtomicU64,
    stop: AtomicBool,
}

/// Several tasks that write as fast as they are answered.
#[derive(Debug)]
pub(super) struct Load {
    seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

/// What was acknowledged.
#[derive(Debug)]
pub(super) struct Acknowledged {
    /// Agents, in no order.
    pub(super) agents: Vec<String>,
    /// The highest log index of an acknowledgement.
    pub(super) last_index: u64,
    /// Attempts whose outcome was unknown at first: the node died, or knew no leader.
    pub(super) unknown: u64,
}

impl Load {
    /// Starts `writers` tasks that write to all of `nodes` in turn.
    pub(super) fn start(person: &Person, writers: usize, nodes: usize) -> Self {
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            tasks.spawn(write(person.clone(), writer, nodes, Arc::clone(&seen)));
        }
        Self { seen, tasks }
    }

    /// How many writes were acknowledged so far.
    pub(super) fn count(&self) -> u64 {
        self.seen.count.load(Ordering::Relaxed)
    }

    /// Waits until so many more were acknowledged.
    pub(super) async fn wait_for_more(&self, more: u64) {
        let wanted = self.count() + more;
        wait_until("more writes are acknowledged", || async { (self.count() >= wanted).then_some(()) }).await;
    }

    /// Lets every task finish what it has begun.
    pub(super) async fn finish(self) -> Acknowledged {
        self.seen.stop.store(true, Ordering::Relaxed);
        for ended in self.tasks.join_all().await {
            let () = ended;
        }
        let acknowledged = std::mem::take(&mut *self.seen.acknowledged.lock());
        Acknowledged {
            last_index: acknowledged.iter().map(|(_, index)| *index).max().unwrap_or_default(),
            agents: acknowledged.into_iter().map(|(agent, _)| agent).collect(),
            unknown: self.seen.unknown.load(Ordering::Relaxed),
        }
    }
}

async fn write(person: Person, writer: usize, nodes: usize, seen: Arc<Seen>) {
    let mut node = writer % nodes;
    for number in 0_u64.. {
        if seen.stop.load(Ordering::Relaxed) {
            return;
        }
        let agent = format!("acme/load/w{writer}-{number}");
        let request = loop {
            match person.request(node, register_agent(&agent)).await {
                Ok(request) => break request,
                Err(_) => node = (node + 1) % nodes,
            }
        };
        let index = loop {
            match person.send(node, &request).await {
                Ok(reply) => break reply.stamp.unwrap_or_default().index,
                Err(error) => {
                    assert!(may_pass(&error), "{agent}: {error}");
                    seen.unknown.fetch_add(1, Ordering::Relaxed);
                    node = (node + 1) % nodes;
                    tokio::task::yield_now().await;
                }
            }
        };
        seen.acknowledged.lock().push((agent, index));
        seen.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an error leaves the outcome open, so that the same request may be sent again.
fn may_pass(error: &CallError) -> bool {
    use tonic::Code;
    match error {
        CallError::Silence => true,
        CallError::Refused(refusal) => matches!(
            refusal.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Aborted
        ),
    }
}
