//! Random histories: sessions old and new decide as the slow reference does, whatever they have heard and remember.

use haltline_core::{
    command::RevocationTarget,
    event::{EnforcementEvent, FleetPolicy, KillForce, TrustBundleChange},
    ids::{CredentialId, EventSeq, GrantId, Incarnation, InstanceId, KillId, LogIndex, Version},
    policy::{Intent, Limits},
    selector::{Pattern, Selector},
    time::{ClusterTime, Millis},
};
use haltline_pki::token::Claims;
use proptest::prelude::*;

use super::{
    super::{
        Action, FreshLease, ManualClock, Session, Verdict, ViewBody, enforcer_core::CoreOptions, facts::Facts,
    },
    CLUSTER, EDGE, MS, NODE, World, agent_set, edge_set, fleet_set, labels,
    reference::Reference,
};

const FLEETS: [&str; 4] = ["a", "a/b", "a/b/c", "d"];
const AGENTS: [&str; 4] = ["a/x", "a/b/x", "a/b/c/y", "d/z"];
const NAMES: [&str; 4] = ["one", "two", "two.three", "four"];
const PATTERNS: [&str; 5] = ["*", "one", "two*", "*three", "five"];
const VALUES: [&str; 2] = ["prod", "dev"];

#[derive(Debug, Clone)]
enum Step {
    /// A frame.
    Hear(Vec<EnforcementEvent>),
    /// A statement about so many in a hundred of what was heard, perhaps with a lease for a probe that was sent so many
    /// ms ago.
    Verify {
        percent: usize,
        lease_ms_ago: Option<u64>,
    },
    /// The verified view comes as a snapshot.
    Restore,
    Pass(u64),
    /// A session does something.
    Decide {
        session: usize,
        names: [Option<usize>; 4],
    },
}

fn id(number: u8) -> [u8; 16] {
    [number; 16]
}

fn some_labels() -> impl Strategy<Value = haltline_core::text::Labels> {
    (proptest::option::of(0..2_usize), proptest::option::of(0..2_usize)).prop_map(|(env, tier)| {
        let pairs = [("env", env), ("tier", tier)];
        let pairs: Vec<_> =
            pairs.iter().filter_map(|(key, value)| value.map(|value| (*key, VALUES[value]))).collect();
        labels(&pairs)
    })
}

fn pattern() -> impl Strategy<Value = Pattern> {
    (0..PATTERNS.len()).prop_map(|at| PATTERNS[at].parse().unwrap())
}

fn selector() -> impl Strategy<Value = Selector> {
    use proptest::option::weighted;
    let who = (
        weighted(0.4, 0..FLEETS.len()),
        weighted(0.15, 0..AGENTS.len()),
        weighted(0.15, 0..6_u8),
        weighted(0.15, 0..6_u8),
        prop_oneof![3 => Just(haltline_core::text::Labels::none()), 1 => some_labels()],
    );
    let what = (weighted(0.3, pattern()), weighted(0.2, pattern()), weighted(0.2, pattern()));
    (who, what).prop_map(|((fleet, agent, instance, lineage, labels), (tool, model, resource))| Selector {
        fleet: fleet.map(|at| FLEETS[at].parse().unwrap()),
        agent: agent.map(|at| AGENTS[at].parse().unwrap()),
        instance: instance.map(|number| InstanceId(id(number))),
        lineage: lineage.map(|number| GrantId(id(number))),
        labels,
        tool,
        model,
        resource,
    })
}

fn patterns() -> impl Strategy<Value = Option<Vec<Pattern>>> {
    proptest::option::weighted(0.35, proptest::collection::vec(pattern(), 0..4))
}

fn policy() -> impl Strategy<Value = FleetPolicy> {
    let lists = (patterns(), patterns(), patterns(), patterns());
    let staleness = proptest::option::of(prop_oneof![Just(200), Just(1_000), Just(5_000), Just(300_000)]);
    (some_labels(), staleness, lists).prop_map(
        |(labels, staleness, (tools, resources, models, data_classes))| {
            let limits = Limits { max_staleness: staleness.map(Millis), ..Limits::default() };
            let intent = Intent { tools, resources, models, data_classes, ..Intent::default() };
            FleetPolicy { labels, limits, intent }
        },
    )
}

fn target() -> impl Strategy<Value = RevocationTarget> {
    prop_oneof![
        (0..6_u8).prop_map(|number| RevocationTarget::Credential(CredentialId(id(number)))),
        (0..6_u8).prop_map(|number| RevocationTarget::Grant(GrantId(id(number)))),
        (0..6_u8).prop_map(|number| RevocationTarget::Instance(InstanceId(id(number)))),
        (0..3_u64).prop_map(|kill| RevocationTarget::Terminated(KillId(kill))),
    ]
}

fn event() -> impl Strategy<Value = EnforcementEvent> {
    let force = prop_oneof![Just(KillForce::Denying), Just(KillForce::Draining)];
    let kill = (0..4_u64, selector(), force).prop_map(|(kill, selector, force)| EnforcementEvent::KillSet {
        kill: KillId(kill),
        selector,
        force,
    });
    let revoked = (target(), selector(), 0..12_u64).prop_map(|(target, selector, before)| {
        let is_terminated = matches!(target, RevocationTarget::Terminated(_));
        let issued_before = is_terminated.then_some((selector, LogIndex(before)));
        EnforcementEvent::Revoked { target, issued_before, ends: ClusterTime(9) }
    });
    let subtree = proptest::option::of(0..FLEETS.len());
    prop_oneof![
        4 => kill,
        5 => (0..4_u64).prop_map(|kill| EnforcementEvent::KillLifted { kill: KillId(kill) }),
        2 => revoked,
        4 => target().prop_map(|target| EnforcementEvent::RevocationEnded { target }),
        4 => (0..FLEETS.len(), policy()).prop_map(|(at, policy)| fleet_set(FLEETS[at], policy)),
        2 => (0..FLEETS.len()).prop_map(|at| EnforcementEvent::FleetRemoved { path: FLEETS[at].parse().unwrap() }),
        6 => (0..AGENTS.len(), some_labels()).prop_map(|(at, labels)| EnforcementEvent::AgentSet {
            path: AGENTS[at].parse().unwrap(),
            labels,
        }),
        1 => (0..AGENTS.len()).prop_map(|at| EnforcementEvent::AgentRemoved { path: AGENTS[at].parse().unwrap() }),
        1 => subtree.prop_map(|at| edge_set(vec![at.map(|at| FLEETS[at].parse().unwrap())])),
        1 => Just(edge_set(vec![None])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let names = [(); 4].map(|()| proptest::option::of(0..NAMES.len()));
    prop_oneof![
        4 => proptest::collection::vec(event(), 0..4).prop_map(Step::Hear),
        3 => (0..=100_usize, proptest::option::weighted(0.7, 0..400_u64))
            .prop_map(|(percent, lease_ms_ago)| Step::Verify { percent, lease_ms_ago }),
        1 => Just(Step::Restore),
        2 => (0..700_u64).prop_map(Step::Pass),
        10 => (0..SESSIONS, names).prop_map(|(session, names)| Step::Decide { session, names }),
    ]
}

const SESSIONS: usize = 6;

fn claims(world: &World, number: usize) -> Claims {
    let at = number as u8;
    Claims {
        credential: CredentialId(id(at)),
        instance: InstanceId(id(at)),
        lineage: (at % 3..=at).map(|grant| GrantId(id(grant))).take(3).collect(),
        scope: if number.is_multiple_of(3) {
            vec!["two*".parse().unwrap(), "one".parse().unwrap()]
        } else {
            Vec::new()
        },
        ends: ClusterTime(1_000_000 + 2_000 * (number as u64 + 1)),
        index: LogIndex(number as u64 * 2),
        ..world.claims(AGENTS[number % AGENTS.len()])
    }
}

/// The enforcer, the reference, and sessions that live from the beginning.
struct Run {
    world: World,
    reference: Reference,
    sessions: Vec<Session<ManualClock>>,
    permits: usize,
}

impl Run {
    fn new() -> Self {
        let world = World::bare(CoreOptions::named(EDGE.parse().unwrap()));
        let mut reference = Reference::new();
        reference.hear(&EnforcementEvent::Founded { cluster_id: CLUSTER, incarnation: Incarnation(1) });
        reference.hear(&EnforcementEvent::NodeKeySet { node: NODE, key: world.signer.public_key() });
        let mut run = Self { world, reference, sessions: Vec::new(), permits: 0 };
        let agents = AGENTS.map(|path| agent_set(path, &[("env", "dev")]));
        run.hear(&[&[edge_set(vec![None])], &agents[..]].concat());
        run.verify(100, Some(0));
        for number in 0..SESSIONS {
            run.sessions.push(run.new_session(number));
        }
        run
    }

    /// A session that remembers nothing yet.
    fn new_session(&self, number: usize) -> Session<ManualClock> {
        let facts = Facts::new(self.world.verified(claims(&self.world, number)));
        Session(self.world.core.register(facts).unwrap())
    }

    fn hear(&mut self, events: &[EnforcementEvent]) {
        self.world.hear(events);
        events.iter().for_each(|event| self.reference.hear(event));
    }

    fn verify(&mut self, percent: usize, lease_ms_ago: Option<u64>) {
        let heard = self.reference.views.len() - 1;
        let verified = heard * percent / 100;
        self.reference.verify(verified);
        let seq = EventSeq(self.world.heard.0 - (heard - verified) as u64);
        let core = &self.world.core;
        core.confirm(self.world.index, seq).unwrap();
        if let Some(ago) = lease_ms_ago {
            let fresh_from = haltline_core::lease::BootNanos(self.world.now().0 - ago * MS);
            // Cluster time runs a little behind the machine's.
            let cluster_time = ClusterTime(fresh_from.0 / MS - 7);
            let index = core.positions().confirmed.0;
            core.publish_lease(FreshLease { fresh_from, index, cluster_time }).unwrap();
            let is_newer = self.reference.lease.as_ref().is_none_or(|(_, held, _)| *held < fresh_from);
            if is_newer {
                let ahead = (cluster_time.0 * MS) as i64 - fresh_from.0 as i64;
                self.reference.lease = Some((self.reference.verified().clone(), fresh_from, ahead));
            }
        }
    }

    /// The verified view as a snapshot, after all that was heard has been verified: what remains of denials beyond a
    /// snapshot has tests of its own.
    fn restore(&mut self) {
        self.verify(100, None);
        let view = self.reference.verified().clone();
        let body = ViewBody::decode(&view.encode()).unwrap();
        self.world.core.restore(body, self.world.index);
        self.reference = Reference { views: vec![view], lease: None };
    }

    fn decide(&mut self, number: usize, names: [Option<usize>; 4]) {
        let [tool, model, resource, data_class] = names.map(|name| name.map(|at| NAMES[at]));
        let action = Action { tool, model, resource, data_class };
        let claims = claims(&self.world, number);
        let now = self.world.now();
        let expected = self.reference.decide(&claims, self.world.key(), &action, now);
        let fresh = self.new_session(number);
        // Twice: the second time from memory.
        for session in [&self.sessions[number], &self.sessions[number], &fresh, &fresh] {
            match (session.decide(&action), &expected) {
                (Verdict::Permit(permit), Ok(until)) => {
                    assert_eq!((permit.at, permit.until), (now, *until));
                    assert!(self.reference.every_view_permits(&claims, &action));
                    self.permits += 1;
                }
                (Verdict::Deny(denial), Err(against)) => {
                    assert!(against.contains(denial.code()), "{denial}, expected one of {against:?}");
                }
                (verdict, expected) => panic!("{action:?} of {number}: {verdict:?}, expected {expected:?}"),
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Hear(events) => self.hear(events),
            Step::Verify { percent, lease_ms_ago } => self.verify(*percent, *lease_ms_ago),
            Step::Restore => self.restore(),
            Step::Pass(time) => self.world.pass(Millis(*time)),
            Step::Decide { session, names } => self.decide(*session, *names),
        }
    }
}

proptest! {
    #[test]
    fn sessions_decide_as_the_reference_does(steps in proptest::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
    }
}

/// The random histories permit something now and then: or all that they show is that nothing is.
#[test]
fn random_histories_permit_and_deny() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let (mut permits, mut decisions) = (0, 0);
    for _ in 0..100 {
        let steps = proptest::collection::vec(step(), 60).new_tree(&mut runner).unwrap().current();
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
        permits += run.permits;
        decisions += 4 * steps.iter().filter(|step| matches!(step, Step::Decide { .. })).count();
    }
    assert!(permits * 20 > decisions, "{permits} permits in {decisions} decisions");
    assert!(permits * 20 < decisions * 19, "{permits} permits in {decisions} decisions");
}

/// Keeps the change of keys in the reference's sight, which random histories leave out.
#[test]
fn a_change_of_keys_counts_when_verified() {
    let mut run = Run::new();
    let change = TrustBundleChange {
        version: Version(2),
        keys: Vec::new(),
        endorsements: Vec::new(),
        incarnation: Incarnation(1),
        old_keys_until: ClusterTime(0),
    };
    run.hear(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
    run.decide(0, [None; 4]);
    run.verify(100, None);
    run.decide(0, [None; 4]);
}
