//! A warm decision allocates nothing: neither a permit nor a denial, whatever is looked at on the way.
#![allow(clippy::unwrap_used, reason = "a test that can't set itself up should stop")]

use haltline_core::{
    command::{EnforcerKind, RevocationTarget},
    event::{EdgePolicy, EnforcementEvent, FleetPolicy, KillForce},
    ids::{
        ClusterId, CredentialId, EventSeq, GrantId, Incarnation, InstanceId, KeyHash, KillId, LogIndex,
        NodeId,
    },
    policy::{Intent, Limits},
    text::Labels,
    time::{ClusterTime, Millis},
};
use haltline_edge::enforce::{Action, BootClock, Clock as _, CoreOptions, EnforcerCore, FreshLease, Session};
use haltline_pki::{
    StatementSigner, UnixSeconds,
    token::{self, Claims},
};

const CLUSTER: ClusterId = ClusterId([1; 16]);
const AGENT: &str = "acme/pay/bot";

/// A view in which there is something to look at for every check.
fn events(signer: &StatementSigner) -> Vec<EnforcementEvent> {
    let patterns = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect());
    let intent = Intent {
        tools: patterns(&["ledger.*", "mail.read"]),
        models: patterns(&["small-*"]),
        resources: patterns(&["db/*"]),
        data_classes: patterns(&["public"]),
        ..Intent::default()
    };
    let limits = Limits { max_staleness: Some(Millis(300_000)), ..Limits::default() };
    let labels = Labels::from_pairs([("env", "prod")]).unwrap();
    let kill = |kill: u64, selector: &str| EnforcementEvent::KillSet {
        kill: KillId(kill),
        selector: selector.parse().unwrap(),
        force: KillForce::Denying,
    };
    let record = EdgePolicy {
        kind: EnforcerKind::Edge,
        key: KeyHash([0; 32]),
        paths: vec![Some("acme".parse().unwrap())],
        trusted_for_acks: true,
        fails_open: false,
    };
    vec![
        EnforcementEvent::Founded { cluster_id: CLUSTER, incarnation: Incarnation(1) },
        EnforcementEvent::NodeKeySet { node: NodeId(1), key: signer.public_key() },
        EnforcementEvent::EdgeSet { edge: "edge-1".parse().unwrap(), record },
        EnforcementEvent::FleetSet {
            path: "acme".parse().unwrap(),
            policy: FleetPolicy { labels, limits, intent },
        },
        EnforcementEvent::AgentSet { path: AGENT.parse().unwrap(), labels: Labels::none() },
        kill(1, "fleet=acme/other"),
        kill(2, "label=env=dev"),
        kill(3, "tool=mail.send"),
        kill(4, "fleet=acme tool=ledger.delete resource=db/x"),
        EnforcementEvent::Revoked {
            target: RevocationTarget::Grant(GrantId([200; 16])),
            issued_before: None,
            ends: ClusterTime::NEVER,
        },
    ]
}

struct World {
    core: EnforcerCore,
    session: Session,
    index: LogIndex,
}

impl World {
    fn new() -> Self {
        let signer = StatementSigner::generate().unwrap();
        let core = EnforcerCore::new(CoreOptions::named("edge-1".parse().unwrap()));
        let events = events(&signer);
        let index = LogIndex(5);
        core.apply_provisional(&events, index).unwrap();
        core.confirm(index, EventSeq(events.len() as u64)).unwrap();
        let cluster_time = ClusterTime(1_000);
        core.publish_lease(FreshLease { fresh_from: BootClock.now(), index, cluster_time }).unwrap();
        let claims = Claims {
            issuer: "haltline".parse().unwrap(),
            audience: "tools".parse().unwrap(),
            cluster: CLUSTER,
            credential: CredentialId([2; 16]),
            agent: AGENT.parse().unwrap(),
            instance: InstanceId([3; 16]),
            lineage: (1..=9).map(|grant| GrantId([grant; 16])).collect(),
            task: "test".parse().unwrap(),
            scope: vec!["ledger.*".parse().unwrap(), "mail.*".parse().unwrap()],
            issued_at: UnixSeconds(1_795_461_480),
            expires_at: UnixSeconds(1_795_465_080),
            ends: ClusterTime(1_000 + 3_600_000),
            index: LogIndex(4),
            incarnation: Incarnation(1),
            node: NodeId(1),
        };
        let session = core.session(&token::sign(&signer, &claims).unwrap()).unwrap();
        Self { core, session, index }
    }
}

const FINE: Action<'_> = Action {
    tool: Some("ledger.post"),
    model: Some("small-1"),
    resource: Some("db/7"),
    data_class: Some("public"),
};

fn allocations(session: &Session, action: &Action<'_>, expected: bool) -> u64 {
    let measured = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            assert_eq!(session.decide(action).is_permit(), expected);
        }
    });
    measured.count_total
}

#[test]
fn a_warm_permit_allocates_nothing() {
    let World { session, .. } = World::new();
    assert!(session.decide(&FINE).is_permit());
    assert_eq!(allocations(&session, &FINE, true), 0);
}

#[test]
fn a_permit_after_changes_that_touch_others_allocates_nothing() {
    let World { core, session, index } = World::new();
    assert!(session.decide(&FINE).is_permit());
    let path = "acme/other/bot".parse().unwrap();
    core.apply_provisional(&[EnforcementEvent::AgentSet { path, labels: Labels::none() }], index.next())
        .unwrap();
    assert_eq!(allocations(&session, &FINE, true), 0);
}

#[test]
fn a_denied_name_allocates_nothing() {
    let World { session, .. } = World::new();
    let action = Action { tool: Some("mail.send"), ..FINE };
    assert!(!session.decide(&action).is_permit());
    assert_eq!(allocations(&session, &action, false), 0);
}

#[test]
fn a_stale_lease_denies_without_allocating() {
    let World { core, session, .. } = World::new();
    core.revoke_lease();
    assert!(!session.decide(&FINE).is_permit());
    assert_eq!(allocations(&session, &FINE, false), 0);
}
