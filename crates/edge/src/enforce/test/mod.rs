//! An enforcer on a clock that tests move, and a cluster that says what they want.

#![allow(clippy::unwrap_used, clippy::panic)]

mod behaviour;
mod halts;
mod model;
mod reference;
mod stress;

use haltline_core::{
    command::EnforcerKind,
    event::{EdgePolicy, EnforcementEvent, FleetPolicy, KillForce},
    ids::{
        ClusterId, CredentialId, EventSeq, GrantId, Incarnation, InstanceId, KeyHash, KillId, LogIndex,
        NodeId,
    },
    lease::BootNanos,
    policy::Limits,
    state::Scope,
    text::Labels,
    time::{ClusterTime, Millis},
};
use haltline_pki::{
    StatementSigner, UnixSeconds,
    token::{self, Claims, VerifiedToken, key_id},
};

use super::{
    clock::ManualClock,
    enforcer_core::{CoreOptions, EnforcerCore},
    feed::FreshLease,
    session::Session,
};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const NODE: NodeId = NodeId(1);
const EDGE: &str = "edge-1";
const MS: u64 = 1_000_000;

/// An enforcer and all that it hears.
struct World {
    core: EnforcerCore<ManualClock>,
    clock: ManualClock,
    signer: StatementSigner,
    index: LogIndex,
    heard: EventSeq,
}

impl World {
    /// Registered for the whole tree, with one agent `acme/pay/bot`, verified at index 1, under a lease from now on.
    fn new() -> Self {
        Self::with_options(CoreOptions::named(EDGE.parse().unwrap()))
    }

    fn with_options(options: CoreOptions) -> Self {
        let mut world = Self::bare(options);
        world.hear(&[edge_set(vec![None]), agent_set("acme/pay/bot", &[])]);
        world.lease();
        world
    }

    /// Founded, with a node's key, and nothing else.
    fn bare(options: CoreOptions) -> Self {
        let clock = ManualClock::at(BootNanos(1_000_000 * MS));
        let signer = StatementSigner::generate().unwrap();
        let mut world = Self {
            core: EnforcerCore::with_clock(options, clock.clone()),
            clock,
            index: LogIndex(0),
            heard: EventSeq(0),
            signer,
        };
        let founded = EnforcementEvent::Founded { cluster_id: CLUSTER, incarnation: Incarnation(1) };
        let key = EnforcementEvent::NodeKeySet { node: NODE, key: world.signer.public_key() };
        world.hear(&[founded, key]);
        world
    }

    /// A frame of one more entry's events.
    fn hear(&mut self, events: &[EnforcementEvent]) {
        self.index = self.index.next();
        self.core.apply_provisional(events, self.index).unwrap();
        self.heard = EventSeq(self.heard.0 + events.len() as u64);
    }

    /// A statement about all that was heard.
    fn verify(&self) {
        self.core.confirm(self.index, self.heard).unwrap();
    }

    /// A statement about all that was heard, for a probe that was sent now.
    fn lease(&self) {
        self.verify();
        let lease = FreshLease {
            fresh_from: self.now(),
            index: self.index,
            cluster_time: ClusterTime(self.now().0 / MS),
        };
        self.core.publish_lease(lease).unwrap();
    }

    fn now(&self) -> BootNanos {
        use super::clock::Clock as _;
        self.clock.now()
    }

    fn pass(&self, time: Millis) {
        self.clock.set(self.now().plus(time.into()));
    }

    /// What a token for this agent says, good for an hour from the start.
    fn claims(&self, agent: &str) -> Claims {
        Claims {
            issuer: "haltline".parse().unwrap(),
            audience: "tools".parse().unwrap(),
            cluster: CLUSTER,
            credential: CredentialId([1; 16]),
            agent: agent.parse().unwrap(),
            instance: InstanceId([2; 16]),
            lineage: vec![GrantId([3; 16]), GrantId([4; 16])],
            task: "test".parse().unwrap(),
            scope: Vec::new(),
            issued_at: UnixSeconds(1_795_461_480),
            expires_at: UnixSeconds(1_795_465_080),
            ends: ClusterTime(1_000_000 + 3_600_000),
            index: self.index,
            incarnation: Incarnation(1),
            node: NODE,
        }
    }

    fn key(&self) -> KeyHash {
        key_id(&self.signer.public_key())
    }

    fn verified(&self, claims: Claims) -> VerifiedToken {
        VerifiedToken { claims, key: self.key() }
    }

    fn token(&self, claims: &Claims) -> String {
        token::sign(&self.signer, claims).unwrap()
    }

    fn session(&self, agent: &str) -> Session<ManualClock> {
        self.core.session(&self.token(&self.claims(agent))).unwrap()
    }
}

fn edge_set(paths: Vec<Scope>) -> EnforcementEvent {
    let record = EdgePolicy {
        kind: EnforcerKind::Edge,
        key: KeyHash([0; 32]),
        paths,
        trusted_for_acks: true,
        fails_open: false,
    };
    EnforcementEvent::EdgeSet { edge: EDGE.parse().unwrap(), record }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn agent_set(path: &str, pairs: &[(&str, &str)]) -> EnforcementEvent {
    EnforcementEvent::AgentSet { path: path.parse().unwrap(), labels: labels(pairs) }
}

fn fleet_set(path: &str, policy: FleetPolicy) -> EnforcementEvent {
    EnforcementEvent::FleetSet { path: path.parse().unwrap(), policy }
}

fn staleness(millis: u64) -> FleetPolicy {
    let limits = Limits { max_staleness: Some(Millis(millis)), ..Limits::default() };
    FleetPolicy { limits, ..FleetPolicy::default() }
}

fn kill_set(kill: u64, selector: &str) -> EnforcementEvent {
    kill_with(kill, selector, KillForce::Denying)
}

fn kill_with(kill: u64, selector: &str, force: KillForce) -> EnforcementEvent {
    EnforcementEvent::KillSet { kill: KillId(kill), selector: selector.parse().unwrap(), force }
}

fn kill_lifted(kill: u64) -> EnforcementEvent {
    EnforcementEvent::KillLifted { kill: KillId(kill) }
}
