//! What an enforcer decides about in these benchmarks: fleets, agents, kills and revocations by the thousand, and tokens of
//! agents that none of them stops.
//!
//! Kills are of every kind (subtree, agent, instance, label, tool), so that whatever could make a decision dearer with
//! their number would show.

use haltline_core::{
    command::{EnforcerKind, RevocationTarget},
    event::{EdgePolicy, EnforcementEvent, FleetPolicy, KillForce},
    ids::{
        ClusterId, CredentialId, EdgeName, EventSeq, GrantId, Incarnation, InstanceId, KeyHash, KillId,
        LogIndex, NodeId,
    },
    policy::{Intent, Limits},
    selector::Pattern,
    text::Labels,
    time::{ClusterTime, Millis},
};
use haltline_edge::enforce::{Action, BootClock, Clock as _, CoreOptions, EnforcerCore, FreshLease};
use haltline_pki::{
    StatementSigner, UnixSeconds,
    token::{self, Claims},
};

use crate::{failure::Failure, workload::scattered};

pub(crate) const SYSTEM: &str = "haltline-edge";

const CLUSTER: ClusterId = ClusterId([0x68; 16]);
const NODE: NodeId = NodeId(1);
/// Events that are fed at once.
const FRAME_EVENTS: usize = 4_096;
/// Grants of each token: as deep as delegation may go.
const LINEAGE: u64 = 9;

/// How much there is to decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) agents: u64,
    pub(crate) kills: u64,
    pub(crate) revocations: u64,
}

/// Runs of numbers that never meet, for ids.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IdRun {
    Credential = 1,
    Instance = 2,
    Grant = 3,
    KilledInstance = 4,
    RevokedGrant = 5,
    LaterGrant = 6,
}

pub(crate) fn id(run: IdRun, number: u64) -> [u8; 16] {
    scattered(run as u64, number)
}

/// The action that is decided about. Every part of it has a list on the path or a kill that looks at it.
pub(crate) const ACTION: Action<'_> = Action {
    tool: Some("ledger.post"),
    model: Some("small-2"),
    resource: Some("db/invoices"),
    data_class: None,
};

pub(crate) fn agent_path(number: u64) -> String {
    format!("acme/finance/team-{}/bot-{number}", number % 100)
}

/// The events by which an enforcer comes to know all of this.
pub(crate) fn events(sizes: Sizes, signer: &StatementSigner) -> Vec<EnforcementEvent> {
    let record = EdgePolicy {
        kind: EnforcerKind::Edge,
        key: KeyHash([0; 32]),
        paths: vec![Some("acme".parse().expect("a path"))],
        trusted_for_acks: true,
        fails_open: false,
    };
    let mut events = vec![
        EnforcementEvent::Founded { cluster_id: CLUSTER, incarnation: Incarnation(1) },
        EnforcementEvent::NodeKeySet { node: NODE, key: signer.public_key() },
        EnforcementEvent::EdgeSet { edge: edge_name(), record },
        fleet("acme", &["ledger.*", "mail.*", "web.*"], Some("prod")),
        fleet("acme/finance", &["ledger.*", "mail.read"], None),
    ];
    events.extend((0..100).map(|team| fleet(&format!("acme/finance/team-{team}"), &["ledger.*"], None)));
    events.extend((0..sizes.agents).map(|number| EnforcementEvent::AgentSet {
        path: agent_path(number).parse().expect("a path"),
        labels: Labels::none(),
    }));
    events.extend((0..sizes.kills).map(kill));
    events.extend((0..sizes.revocations).map(|number| revocation(IdRun::RevokedGrant, number)));
    events
}

fn edge_name() -> EdgeName {
    "edge-1".parse().expect("a name")
}

fn fleet(path: &str, tools: &[&str], env: Option<&str>) -> EnforcementEvent {
    let patterns = |texts: &[&str]| -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    };
    let intent =
        Intent { tools: Some(patterns(tools)), models: Some(patterns(&["small-*"])), ..Intent::default() };
    // The longest lease that there is, so that a run needs only one.
    let limits = Limits { max_staleness: Some(Millis(300_000)), ..Limits::default() };
    let labels = Labels::from_pairs(env.map(|env| ("env", env))).expect("labels");
    let policy = FleetPolicy { labels, limits, intent };
    EnforcementEvent::FleetSet { path: path.parse().expect("a path"), policy }
}

fn kill(number: u64) -> EnforcementEvent {
    let selector = match number % 5 {
        0 => format!("fleet=acme/other/fleet-{number}"),
        1 => format!("agent=acme/finance/team-{}/gone-{number}", number % 100),
        2 => format!("instance={}", InstanceId(id(IdRun::KilledInstance, number))),
        3 => format!("label=batch=batch-{number}"),
        _ => format!("tool=bad.{number}"),
    };
    let selector = selector.parse().expect("a selector");
    EnforcementEvent::KillSet { kill: KillId(number), selector, force: KillForce::Denying }
}

/// A revocation that hits nobody here.
pub(crate) fn revocation(run: IdRun, number: u64) -> EnforcementEvent {
    let target = RevocationTarget::Grant(GrantId(id(run, number)));
    EnforcementEvent::Revoked { target, issued_before: None, ends: ClusterTime(86_400_000) }
}

/// An enforcer that knows all of this, under a lease.
pub(crate) struct EdgeWorld {
    pub(crate) core: EnforcerCore,
    pub(crate) signer: StatementSigner,
    pub(crate) index: LogIndex,
    pub(crate) seq: EventSeq,
}

impl EdgeWorld {
    pub(crate) fn new(sizes: Sizes) -> Result<Self, Failure> {
        let signer = new_signer()?;
        let core = EnforcerCore::new(CoreOptions::named(edge_name()));
        let mut world = Self { core, index: LogIndex(0), seq: EventSeq(0), signer };
        for frame in events(sizes, &world.signer).chunks(FRAME_EVENTS) {
            world.hear(frame)?;
            world.verify()?;
        }
        world.lease()?;
        Ok(world)
    }

    /// A frame.
    pub(crate) fn hear(&mut self, events: &[EnforcementEvent]) -> Result<(), Failure> {
        self.index = self.index.next();
        self.core.apply_provisional(events, self.index).map_err(|error| failed(&error))?;
        self.seq = EventSeq(self.seq.0 + events.len() as u64);
        Ok(())
    }

    /// A statement about all that was heard.
    pub(crate) fn verify(&self) -> Result<(), Failure> {
        self.core.confirm(self.index, self.seq).map_err(|error| failed(&error))
    }

    pub(crate) fn lease(&self) -> Result<(), Failure> {
        let cluster_time = ClusterTime(1_000);
        let lease = FreshLease { fresh_from: BootClock.now(), index: self.index, cluster_time };
        self.core.publish_lease(lease).map_err(|error| failed(&error))
    }

    /// A token of its own for each number, good for a day.
    pub(crate) fn token(&self, number: u64, agents: u64) -> Result<String, Failure> {
        let agent = agent_path(number % agents).parse().expect("a path");
        let claims = Claims {
            issuer: "https://haltline.example".parse().expect("a text"),
            audience: "tools".parse().expect("a text"),
            cluster: CLUSTER,
            credential: CredentialId(id(IdRun::Credential, number)),
            agent,
            instance: InstanceId(id(IdRun::Instance, number)),
            lineage: (0..LINEAGE).map(|grant| GrantId(id(IdRun::Grant, number * LINEAGE + grant))).collect(),
            task: "benchmark".parse().expect("a text"),
            scope: vec!["ledger.*".parse().expect("a pattern"), "mail.read".parse().expect("a pattern")],
            issued_at: UnixSeconds(1_795_461_480),
            expires_at: UnixSeconds(1_795_547_880),
            ends: ClusterTime(86_400_000),
            index: LogIndex(1),
            incarnation: Incarnation(1),
            node: NODE,
        };
        token::sign(&self.signer, &claims).map_err(|error| failed(&error))
    }
}

pub(crate) fn new_signer() -> Result<StatementSigner, Failure> {
    StatementSigner::generate().map_err(|error| failed(&error))
}

/// The enforcer refused what it must not refuse here.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::Call { system: SYSTEM, reason: error.to_string() }
}
