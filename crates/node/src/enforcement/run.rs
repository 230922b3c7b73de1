//! One kill's way to its receipt, as one node observes it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haltline_consensus::{Clock as _, Published, SystemClock};
use haltline_core::{
    LogIndex,
    command::{Caller, Command, Request, Signature},
    enforcement::{Decision, Enforced, Enforcement},
    ids::{EdgeName, KillId, NodeId, RequestId},
    lease::{BootNanos, bound},
    limits::{
        CLEAR_LAGGING_MAX, ENFORCEMENT_LOOK_INTERVAL, PEER_RETRY, RECEIPT_NAMES_MAX, RECEIPT_RECORD_PATIENCE,
        RECEIPT_RECORD_TRIES, REQUEST_LIFETIME_MAX,
    },
    path::FleetPath,
    receipt::{Receipt, SignedReceipt},
    rejection::Rejection,
    state::{State, records::Kill},
    time::{Millis, WallTime},
    tracker::{Clear, WatchedKill},
};
use haltline_pki::StatementSigner;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    Enforcements,
    peers::Word,
    progress::{MemberStanding, MemberState, Progress, Standing},
};

/// Words of members that wait to be taken in: a few from each.
const WORDS_WAITING_MAX: usize = 64;

/// What is observed, from when on.
struct Observed {
    id: KillId,
    kill: Kill,
    /// The entry by which all of it is in force.
    index: LogIndex,
    at: BootNanos,
    wall: WallTime,
    max_staleness: Millis,
}

/// Follows a kill until it is enforced or lifted.
pub(super) async fn run(node: &Arc<Enforcements>, id: KillId, tell: &watch::Sender<Progress>) {
    let Some(observed) = in_force(node, id) else {
        tell.send_modify(|progress| progress.state = Standing::Lifted);
        return;
    };
    let Some(enforced) = enforced(node, &observed, tell).await else {
        tell.send_modify(|progress| progress.state = Standing::Lifted);
        return;
    };
    let signer = signer(node).await;
    let signed = sign(node, &signer, &observed, enforced);
    let signed = record(node, signed).await;
    let receipt = &signed.receipt;
    tracing::info!(
        kill = %id,
        index = receipt.index.0,
        took_ms = receipt.took.0,
        rule = ?receipt.rule,
        acked = receipt.enforcers_acked,
        fenced = receipt.fenced.len() as u64 + receipt.fenced_more,
        "enforced"
    );
    tell.send_replace(Progress::enforced(signed));
}

/// A kill of which all is in force here. `None`: it was lifted, or drains.
fn in_force(node: &Arc<Enforcements>, id: KillId) -> Option<Observed> {
    let published = node.consensus.state();
    let state = &published.state;
    let kill = state.kills().get(&id)?.clone();
    Some(Observed {
        index: kill.denies_from?,
        // Read after the state that has it.
        at: node.now(),
        wall: SystemClock.wall(),
        max_staleness: state.staleness_touched(&kill.selector),
        id,
        kill,
    })
}

/// Tells how a drain goes, until all of it is in force here or it was lifted, or nobody listens any more.
pub(super) async fn drained(node: &Arc<Enforcements>, id: KillId, tell: &watch::Sender<Progress>) {
    loop {
        let published = node.consensus.state();
        let state = &published.state;
        let Some(kill) = state.kills().get(&id).filter(|kill| kill.denies_from.is_none()) else { return };
        let left = kill.drain_ends.map_or(Millis(0), |ends| ends.since(node.consensus.cluster_now()));
        tell.send_modify(|progress| {
            let touched = state.staleness_touched(&kill.selector);
            progress.at_most = Millis(left.0.saturating_add(bound(touched, node.drift).0));
        });
        tokio::select! {
            () = sleep(Duration::from_millis(left.0.clamp(1, ENFORCEMENT_LOOK_INTERVAL.0))) => {}
            () = tell.closed() => return,
        }
    }
}

/// Asks all members until the rule of the cluster says that the kill is enforced. `None`: it was lifted before.
async fn enforced(
    node: &Arc<Enforcements>,
    observed: &Observed,
    tell: &watch::Sender<Progress>,
) -> Option<Enforced> {
    let Observed { id, index, at, max_staleness, .. } = observed;
    let me = node.identity.id();
    let mut enforcement = Enforcement::new(me, *index, *max_staleness, node.drift, *at);
    let (words_in, mut words) = mpsc::channel(WORDS_WAITING_MAX);
    let mut asked = JoinSet::new();
    let mut standing = BTreeMap::new();
    let mut asking = BTreeMap::new();
    loop {
        let published = node.consensus.state();
        published.state.kills().get(id)?;
        ask_members(node, observed, &published, &words_in, &mut asked, &mut asking);
        let now = node.now();
        let decision = {
            let mut members = node.members.lock();
            enforcement.decide(members.observe(&published, node.drift, now), now)
        };
        let until = match decision {
            Decision::Enforced(enforced) => return Some(enforced),
            Decision::Waiting { members, until } => {
                for member in members {
                    standing.entry(member).or_default();
                }
                until
            }
        };
        report(tell, observed, &standing, until, now);
        let left = until.since(now).to_millis_up().0.clamp(1, ENFORCEMENT_LOOK_INTERVAL.0);
        let word = tokio::select! {
            word = words.recv() => word,
            () = sleep(Duration::from_millis(left)) => None,
        };
        match word {
            Some((member, Word::Clear(cleared))) => {
                let acked = cleared.acked;
                let clear = MemberStanding { state: MemberState::Clear, acked, ..MemberStanding::default() };
                standing.insert(member, clear);
                enforcement.report(member, cleared);
            }
            Some((member, Word::Standing(word))) => drop(standing.insert(member, word)),
            None => {}
        }
    }
}

/// Asks whoever is a member now and wasn't asked yet, or is reached elsewhere by now.
fn ask_members(
    node: &Arc<Enforcements>,
    observed: &Observed,
    published: &Published,
    words: &mpsc::Sender<(NodeId, Word)>,
    asked: &mut JoinSet<()>,
    asking: &mut BTreeMap<NodeId, String>,
) {
    let me = node.identity.id();
    let kill = || WatchedKill {
        index: observed.index,
        selector: observed.kill.selector.clone(),
        max_staleness: observed.max_staleness,
    };
    for (member, place) in published.members() {
        if asking.get(&member) == Some(&place.api_address) {
            continue;
        }
        asking.insert(member, place.api_address.clone());
        if member == me {
            asked.spawn(follow_own(Arc::clone(node), kill(), words.clone()));
        } else {
            let peers = node.peers.clone();
            asked.spawn(peers.follow_clear(member, place.api_address.clone(), kill(), words.clone()));
        }
    }
}

/// This node's own part, by its hub's tracker.
async fn follow_own(node: Arc<Enforcements>, kill: WatchedKill, words: mpsc::Sender<(NodeId, Word)>) {
    let me = node.identity.id();
    let mut watch = match node.watch_own(&kill).await {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(%error, "this node's part of a kill is waited out");
            return;
        }
    };
    loop {
        let word = match watch.look() {
            Ok(Clear::Cleared(cleared)) => Word::Clear(cleared),
            Ok(Clear::Waiting { lagging: waiting, acked, .. }) => Word::Standing(MemberStanding {
                state: MemberState::Waiting,
                acked,
                waiting,
                lagging: watch.lagging(CLEAR_LAGGING_MAX),
            }),
            Err(_) => return,
        };
        let is_over = matches!(word, Word::Clear(_));
        if words.send((me, word)).await.is_err() || is_over {
            return;
        }
        watch.moved().await;
    }
}

fn report(
    tell: &watch::Sender<Progress>,
    observed: &Observed,
    standing: &BTreeMap<NodeId, MemberStanding>,
    until: BootNanos,
    now: BootNanos,
) {
    tell.send_modify(|progress| {
        progress.elapsed = now.since(observed.at).to_millis_up();
        progress.at_most = until.since(now).to_millis_up();
        progress.members.clone_from(standing);
    });
}

/// The key that is in force. A node that doesn't have it says so in its log and waits: others sign meanwhile.
async fn signer(node: &Enforcements) -> Arc<StatementSigner> {
    loop {
        let signer = node.signing.signer(&node.consensus.state().state);
        match signer {
            Ok(signer) => return signer,
            Err(error) => tracing::debug!(%error, "a receipt waits for its signature"),
        }
        sleep(Duration::from_millis(PEER_RETRY.0)).await;
    }
}

fn sign(
    node: &Enforcements,
    signer: &StatementSigner,
    observed: &Observed,
    enforced: Enforced,
) -> SignedReceipt {
    let published = node.consensus.state();
    let state = &published.state;
    let mut unbounded = fail_open(state, &observed.kill);
    let unbounded_more = unbounded.len().saturating_sub(RECEIPT_NAMES_MAX) as u64;
    unbounded.truncate(RECEIPT_NAMES_MAX);
    let receipt = Receipt {
        cluster_id: node.identity.bundle().cluster(),
        incarnation: state.cluster().map(|cluster| cluster.incarnation).unwrap_or_default(),
        kill: observed.id,
        selector: observed.kill.selector.clone(),
        mode: observed.kill.mode,
        reason: observed.kill.reason.clone(),
        by: observed.kill.by.clone(),
        index: observed.index,
        placed: observed.kill.placed,
        committed_wall: observed.wall,
        enforced_wall: SystemClock.wall(),
        took: node.now().since(observed.at).to_millis_up(),
        rule: enforced.rule,
        bound: bound(observed.max_staleness, node.drift),
        max_staleness: observed.max_staleness,
        drift_ppm: node.drift.ppm(),
        enforcers_acked: enforced.acked,
        fenced: enforced.fenced,
        fenced_more: enforced.fenced_more,
        unbounded,
        unbounded_more,
        members: enforced.members,
        signer: node.identity.id(),
    };
    let signature = Signature(signer.sign(&receipt.to_bytes()));
    SignedReceipt { receipt, signature }
}

/// Enforcers that permit when they can't decide, and serve something that the kill stops. In order.
fn fail_open(state: &State, kill: &Kill) -> Vec<EdgeName> {
    let reach = kill.selector.reach();
    let touches = |path: &Option<FleetPath>| match (path, &reach) {
        (Some(path), Some(reach)) => path.contains(reach) || reach.contains(path),
        _ => true,
    };
    let open = state.edges().iter().filter(|(_, edge)| edge.fails_open && edge.paths.iter().any(touches));
    open.map(|(name, _)| name.clone()).collect()
}

/// Gets the receipt into the log, and answers the one that is there. Where no quorum can be had the receipt is good
/// without: it carries its own proof.
async fn record(node: &Arc<Enforcements>, signed: SignedReceipt) -> SignedReceipt {
    let kill = signed.receipt.kill;
    let writer = tokio::spawn(keep_recording(Arc::clone(node), signed.clone()));
    let patience = Duration::from_millis(RECEIPT_RECORD_PATIENCE.0);
    if tokio::time::timeout(patience, writer).await.is_err() {
        tracing::warn!(%kill, "the receipt isn't in the log yet; it is handed out as it is");
    }
    node.receipt(kill).unwrap_or(signed)
}

async fn keep_recording(node: Arc<Enforcements>, signed: SignedReceipt) {
    let kill = signed.receipt.kill;
    let mut id = [0; 16];
    if getrandom::fill(&mut id).is_err() {
        return;
    }
    for _ in 0..RECEIPT_RECORD_TRIES {
        let request = Request {
            id: RequestId(id),
            caller: Caller::Node(node.identity.id()),
            deadline: node.consensus.cluster_now().plus(Millis(REQUEST_LIFETIME_MAX.0 / 2)),
            signature: None,
            command: Command::ReceiptRecord(Box::new(signed.clone())),
        };
        match node.consensus.propose(&request).await {
            Ok(reply) => {
                if let Err(rejection) = reply.result
                    && !matches!(rejection, Rejection::ReceiptExists { .. })
                {
                    tracing::warn!(%kill, %rejection, "the receipt was not kept");
                }
                let _ = node.consensus.wait_applied(reply.stamp.index, Duration::from_secs(1)).await;
                return;
            }
            Err(error) if node.stopping.is_cancelled() => {
                tracing::debug!(%kill, %error, "stopping before the receipt is in the log");
                return;
            }
            Err(error) => tracing::warn!(%kill, %error, "the receipt isn't in the log yet; trying again"),
        }
    }
}
