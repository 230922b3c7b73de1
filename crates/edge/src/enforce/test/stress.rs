//! Many threads decide while kills come and go. What an enforcer tells its hub when a view is published must be true of
//! every thread: from then on, no permit under an older view.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use haltline_core::{
    event::{EnforcementEvent, KillForce},
    ids::{EventSeq, Incarnation, KillId, LogIndex},
    lease::BootNanos,
    time::ClusterTime,
};
use haltline_pki::{StatementSigner, token::VerifiedToken};

use super::{
    super::{
        Action, BootClock, Clock as _, EnforcerCore, FreshLease, Permit, Session, Verdict, facts::Facts,
    },
    CLUSTER, EDGE, NODE, World, agent_set, edge_set, fleet_set, kill_lifted, staleness,
};
use crate::enforce::enforcer_core::CoreOptions;

const ROUNDS: u64 = 300;
const BOT: &str = "acme/pay/bot";
/// What a processor may do out of order around its clock read, many times over.
const OUT_OF_ORDER_NANOS: u64 = 1_000;

/// From the index of a kill until that of its lift nothing may be permitted.
struct Kill {
    set: LogIndex,
    /// When its publication had returned.
    published: BootNanos,
    lifted: LogIndex,
}

struct Feed {
    core: EnforcerCore,
    index: LogIndex,
    seq: u64,
}

impl Feed {
    fn hear(&mut self, events: &[EnforcementEvent]) {
        self.index = self.index.next();
        self.seq += events.len() as u64;
        self.core.apply_provisional(events, self.index).unwrap();
    }

    fn verify(&self) {
        self.core.confirm(self.index, EventSeq(self.seq)).unwrap();
    }

    fn lease(&self) {
        self.verify();
        let cluster_time = ClusterTime(1);
        let lease = FreshLease { fresh_from: BootClock.now(), index: self.index, cluster_time };
        self.core.publish_lease(lease).unwrap();
    }
}

fn feed() -> Feed {
    let core = EnforcerCore::new(CoreOptions::named(EDGE.parse().unwrap()));
    let mut feed = Feed { core, index: LogIndex(0), seq: 0 };
    let signer = StatementSigner::generate().unwrap();
    feed.hear(&[
        EnforcementEvent::Founded { cluster_id: CLUSTER, incarnation: Incarnation(1) },
        EnforcementEvent::NodeKeySet { node: NODE, key: signer.public_key() },
        edge_set(vec![None]),
        fleet_set("acme", staleness(300_000)),
        agent_set(BOT, &[("env", "prod")]),
    ]);
    feed.lease();
    feed
}

/// Another kind of kill each round, so that every way to find one is used.
fn selector(round: u64) -> &'static str {
    [
        "fleet=acme",
        "tool=pay.out",
        "label=env=prod",
        "everything",
        "agent=acme/pay/bot tool=pay.*",
        "model=m*",
    ][(round % 6) as usize]
}

fn decide_until(session: &Session, is_over: &AtomicBool) -> Vec<Permit> {
    let action = Action { tool: Some("pay.out"), model: Some("m-1"), ..Action::default() };
    let mut permits: Vec<Permit> = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        if let Verdict::Permit(permit) = session.decide(&action) {
            // The last one under each index is the one that could be too late.
            match permits.last_mut() {
                Some(last) if last.index == permit.index => *last = permit,
                _ => permits.push(permit),
            }
        }
    }
    permits
}

#[test]
fn no_permit_outlives_the_publication_of_a_kill() {
    let mut feed = feed();
    let world = World::new();
    let session = |number: u8| {
        let mut claims = world.claims(BOT);
        claims.credential.0[0] = number;
        claims.ends = ClusterTime::NEVER;
        let key = feed.core.node_keys().first().map(|(_, key)| haltline_pki::token::key_id(key)).unwrap();
        Session(feed.core.register(Facts::new(VerifiedToken { claims, key })).unwrap())
    };
    // Two threads share a session, one has its own.
    let shared = session(1);
    let sessions = [shared.clone(), shared, session(2)];
    let is_over = AtomicBool::new(false);
    let mut kills: Vec<Kill> = Vec::new();
    let permits = thread::scope(|scope| {
        let deciding: Vec<_> =
            sessions.iter().map(|session| scope.spawn(|| decide_until(session, &is_over))).collect();
        for round in 0..ROUNDS {
            let kill = KillId(round);
            let selector = selector(round).parse().unwrap();
            feed.hear(&[EnforcementEvent::KillSet { kill, selector, force: KillForce::Denying }]);
            let (set, published) = (feed.index, BootClock.now());
            thread::yield_now();
            feed.hear(&[kill_lifted(round)]);
            // The lift counts from its verification on, which has an index of its own.
            feed.hear(&[]);
            feed.lease();
            kills.push(Kill { set, published, lifted: feed.index });
            thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
        deciding.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for permit in &permits {
        let next = kills.partition_point(|kill| kill.lifted <= permit.index);
        let Some(kill) = kills.get(next) else { continue };
        assert!(
            permit.index < kill.set,
            "a permit at {}, killed from {} to {}",
            permit.index,
            kill.set,
            kill.lifted
        );
        let latest = kill.published.0 + OUT_OF_ORDER_NANOS;
        assert!(permit.at.0 <= latest, "a permit under {} after {} was published", permit.index, kill.set);
    }
    assert!(permits.len() > 30, "{} permits under different views: nothing was exercised", permits.len());
}
