//! One rule of deciding at a time.

use haltline_core::{
    command::RevocationTarget,
    event::{EnforcementEvent, FleetPolicy, KillForce, TrustBundleChange},
    ids::{EventSeq, GrantId, Incarnation, KillId, LogIndex, Version},
    lease::BootNanos,
    limits::{ACTION_NAME_BYTES_MAX, EVENTS_UNVERIFIED_MAX, NAMES_REMEMBERED_MAX, VERSIONS_UNVERIFIED_MAX},
    policy::{Intent, IntentList},
    selector::Pattern,
    time::{ClusterTime, Millis},
    view::View,
};
use haltline_pki::token::TokenError;

use super::{
    super::{
        Action, Denial, DenyReason, FeedError, FreshLease, ManualClock, Session, SessionRefused, Verdict,
        ViewBody, enforcer_core::CoreOptions,
    },
    EDGE, MS, World, agent_set, edge_set, fleet_set, kill_lifted, kill_set, kill_with, labels, staleness,
};

const BOT: &str = "acme/pay/bot";

fn denied(session: &Session<ManualClock>, action: &Action<'_>) -> DenyReason {
    match session.decide(action) {
        Verdict::Deny(Denial { reason, .. }) => reason,
        Verdict::Permit(permit) => panic!("{permit:?}"),
    }
}

fn permits(session: &Session<ManualClock>, action: &Action<'_>) -> bool {
    session.decide(action).is_permit()
}

fn patterns(texts: &[&str]) -> Option<Vec<Pattern>> {
    Some(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn declares(intent: Intent) -> FleetPolicy {
    FleetPolicy { intent, ..FleetPolicy::default() }
}

fn revoked(target: RevocationTarget) -> EnforcementEvent {
    EnforcementEvent::Revoked { target, issued_before: None, ends: ClusterTime::NEVER }
}

#[test]
fn nothing_is_permitted_before_the_first_lease_nor_after_its_end() {
    let mut world = World::bare(CoreOptions::named(EDGE.parse().unwrap()));
    world.hear(&[edge_set(vec![None]), agent_set(BOT, &[]), fleet_set("acme/pay", staleness(500))]);
    world.verify();
    let session = world.session(BOT);
    let action = Action::tool("read");
    assert_eq!(denied(&session, &action), DenyReason::NoLease);
    world.lease();
    let Verdict::Permit(permit) = session.decide(&action) else { panic!("a lease permits") };
    assert_eq!(permit.until, world.now().plus(Millis(500).into()));
    assert_eq!(permit.index, world.index);
    world.pass(Millis(499));
    assert!(permits(&session, &action));
    world.pass(Millis(1));
    let ended = permit.until;
    let scope = Some("acme/pay".parse().unwrap());
    let expected = DenyReason::Stale { scope, max_staleness: Millis(500), ended };
    assert_eq!(denied(&session, &action), expected);
    world.core.revoke_lease();
    assert_eq!(denied(&session, &action), DenyReason::NoLease);
}

#[test]
fn a_lease_is_published_only_for_what_is_verified_and_never_shortened_by_an_older_one() {
    let mut world = World::new();
    let lease = world.core.lease().unwrap();
    let early = FreshLease {
        fresh_from: BootNanos(lease.fresh_from.0 - 5 * MS),
        index: world.index,
        cluster_time: ClusterTime(1),
    };
    world.core.publish_lease(early).unwrap();
    assert_eq!(world.core.lease().unwrap(), lease);
    world.hear(&[kill_lifted(9)]);
    let ahead = FreshLease { fresh_from: world.now(), index: world.index, cluster_time: ClusterTime(1) };
    let confirmed = LogIndex(world.index.0 - 1);
    let expected = FeedError::NotConfirmed { lease: world.index, confirmed };
    assert_eq!(world.core.publish_lease(ahead), Err(expected));
    let beyond = EventSeq(world.heard.0 + 1);
    let expected = FeedError::NotHeard { statement: beyond, applied: world.heard };
    assert_eq!(world.core.confirm(world.index, beyond), Err(expected));
}

#[test]
fn a_kill_acts_when_heard_and_its_lift_when_verified() {
    let mut world = World::new();
    let session = world.session(BOT);
    let action = Action::tool("read");
    assert!(permits(&session, &action));
    world.hear(&[kill_set(1, "fleet=acme/pay")]);
    let reason =
        DenyReason::Killed { kill: KillId(1), scope: Some("acme/pay".parse().unwrap()), since: world.index };
    assert_eq!(denied(&session, &action), reason);
    world.lease();
    world.hear(&[kill_lifted(1)]);
    assert_eq!(denied(&session, &action), reason);
    world.verify();
    assert!(permits(&session, &action));
}

#[test]
fn a_kill_that_was_lifted_before_it_was_verified_stops_until_both_are() {
    let mut world = World::new();
    let session = world.session(BOT);
    world.hear(&[kill_set(1, "fleet=acme"), kill_lifted(1)]);
    assert_eq!(denied(&session, &Action::default()).code(), "KILLED");
    world.core.confirm(LogIndex(world.index.0 - 1), EventSeq(world.heard.0 - 1)).unwrap();
    assert_eq!(denied(&session, &Action::default()).code(), "KILLED");
    world.verify();
    assert!(permits(&session, &Action::default()));
}

#[test]
fn every_condition_of_a_kill_is_looked_at() {
    let instance = "02".repeat(16);
    let grant = "03".repeat(16);
    let other = "09".repeat(16);
    let action =
        Action { tool: Some("pay.out"), model: Some("m-1"), resource: Some("db/7"), data_class: None };
    for (selector, stops) in [
        ("everything".to_owned(), true),
        ("fleet=acme".to_owned(), true),
        ("fleet=acme/pa".to_owned(), false),
        ("agent=acme/pay/bot".to_owned(), true),
        ("agent=acme/pay/other".to_owned(), false),
        (format!("instance={instance}"), true),
        (format!("instance={other}"), false),
        (format!("lineage={grant}"), true),
        (format!("lineage={other}"), false),
        ("label=env=prod".to_owned(), true),
        ("label=env=dev".to_owned(), false),
        ("fleet=acme label=env=prod label=tier=1".to_owned(), true),
        ("tool=pay.*".to_owned(), true),
        ("tool=read".to_owned(), false),
        ("model=m-*".to_owned(), true),
        ("model=x".to_owned(), false),
        ("resource=db/*".to_owned(), true),
        ("fleet=acme tool=pay.* model=m-1 resource=db/7".to_owned(), true),
        ("fleet=acme tool=pay.* model=m-2".to_owned(), false),
    ] {
        let mut world = World::new();
        let tier = FleetPolicy { labels: labels(&[("tier", "1"), ("env", "dev")]), ..FleetPolicy::default() };
        world.hear(&[fleet_set("acme", tier), agent_set(BOT, &[("env", "prod")])]);
        world.lease();
        let session = world.session(BOT);
        assert!(permits(&session, &action));
        world.hear(&[kill_set(1, &selector)]);
        for _ in 0..2 {
            assert_eq!(permits(&session, &action), !stops, "{selector}");
        }
    }
}

#[test]
fn rules_that_look_at_other_parts_leave_an_action_on_the_quick_way() {
    let mut world = World::new();
    world.hear(&[kill_set(1, "tool=bad"), kill_set(2, "model=evil"), kill_set(3, "tool=x resource=y")]);
    let session = world.session(BOT);
    assert!(permits(&session, &Action::tool("good")));
    assert!(permits(&session, &Action::default()));
    assert!(permits(&session, &Action { model: Some("fine"), ..Action::tool("good") }));
    assert!(permits(&session, &Action::tool("x").on("z")));
    assert!(!permits(&session, &Action::tool("x").on("y")));
    assert!(!permits(&session, &Action::model("evil")));
    assert!(!permits(&session, &Action::tool("bad").on("y")));
}

#[test]
fn a_drain_lets_run_what_runs_and_nothing_begin() {
    let mut world = World::new();
    let running = world.session(BOT);
    world.hear(&[kill_with(1, "fleet=acme/pay", KillForce::Draining)]);
    assert!(permits(&running, &Action::default()));
    assert!(world.core.session(&world.token(running.claims())).is_ok(), "the same session goes on");
    let mut claims = world.claims(BOT);
    claims.credential.0[0] ^= 1;
    let refused = world.core.session(&world.token(&claims)).unwrap_err();
    assert_eq!(refused, SessionRefused::Draining { kill: KillId(1), scope: Some("acme/pay".into()) });
    assert_eq!(refused.code(), "DRAINING");
    world.hear(&[kill_set(1, "fleet=acme/pay")]);
    assert_eq!(denied(&running, &Action::default()).code(), "KILLED");
}

#[test]
fn whatever_a_credential_rests_on_can_be_revoked() {
    let claims = World::new().claims(BOT);
    for (position, code) in
        ["CREDENTIAL_REVOKED", "INSTANCE_REVOKED", "KEY_REVOKED", "GRANT_REVOKED", "GRANT_REVOKED"]
            .iter()
            .enumerate()
    {
        let mut world = World::new();
        let session = world.session(BOT);
        let target = match position {
            0 => RevocationTarget::Credential(claims.credential),
            1 => RevocationTarget::Instance(claims.instance),
            2 => RevocationTarget::Key(world.key()),
            _ => RevocationTarget::Grant(claims.lineage[position - 3]),
        };
        assert!(permits(&session, &Action::default()));
        world.hear(&[revoked(RevocationTarget::Grant(GrantId([99; 16])))]);
        assert!(permits(&session, &Action::default()));
        world.hear(&[revoked(target.clone())]);
        assert_eq!(denied(&session, &Action::default()).code(), *code);
        world.hear(&[EnforcementEvent::RevocationEnded { target: target.clone() }]);
        assert_eq!(denied(&session, &Action::default()).code(), *code, "not before it is verified");
        world.hear(&[revoked(target)]);
        world.core.confirm(LogIndex(world.index.0 - 1), EventSeq(world.heard.0 - 1)).unwrap();
        assert_eq!(denied(&session, &Action::default()).code(), *code, "it was heard again");
    }
}

#[test]
fn termination_voids_older_credentials_only() {
    let mut world = World::new();
    let old = world.session(BOT);
    world.hear(&[]);
    let mut claims = world.claims(BOT);
    claims.credential.0[0] ^= 1;
    let new = world.core.session(&world.token(&claims)).unwrap();
    let target = RevocationTarget::Terminated(KillId(5));
    let issued_before = Some(("fleet=acme/pay".parse().unwrap(), world.index));
    world.hear(&[EnforcementEvent::Revoked { target: target.clone(), issued_before, ends: ClusterTime(1) }]);
    let before = LogIndex(world.index.0 - 1);
    let issued = old.claims().index;
    let scope = Some("acme/pay".parse().unwrap());
    assert_eq!(
        denied(&old, &Action::default()),
        DenyReason::Terminated { kill: KillId(5), scope, issued, before }
    );
    assert!(permits(&new, &Action::default()));
    world.hear(&[EnforcementEvent::RevocationEnded { target }]);
    world.verify();
    assert!(permits(&old, &Action::default()));
}

#[test]
fn scope_and_every_declared_list_on_the_path_have_to_cover_an_action() {
    let mut world = World::new();
    let above =
        Intent { tools: patterns(&["ledger.*", "mail.*"]), models: patterns(&["m-*"]), ..Intent::default() };
    let own = Intent {
        tools: patterns(&["ledger.*", "http"]),
        data_classes: Some(Vec::new()),
        ..Intent::default()
    };
    world.hear(&[fleet_set("acme", declares(above)), fleet_set("acme/pay", declares(own))]);
    world.lease();
    let mut claims = world.claims(BOT);
    claims.scope = vec!["ledger.*".parse().unwrap(), "http".parse().unwrap()];
    let session = world.core.session(&world.token(&claims)).unwrap();
    let undeclared = |list, scope: &str| DenyReason::NotDeclared { list, scope: scope.parse().unwrap() };
    for _ in 0..2 {
        assert!(permits(&session, &Action::tool("ledger.post")));
        assert!(permits(
            &session,
            &Action { model: Some("m-1"), ..Action::tool("ledger.post").on("anything") }
        ));
        assert_eq!(denied(&session, &Action::tool("mail.send")), DenyReason::OutOfScope);
        assert_eq!(denied(&session, &Action::tool("http")), undeclared(IntentList::Tools, "acme"));
        assert_eq!(denied(&session, &Action::model("gpt")), undeclared(IntentList::Models, "acme"));
        assert_eq!(
            denied(&session, &Action::default().with_data("pii")),
            undeclared(IntentList::DataClasses, "acme/pay")
        );
    }
    let long = "x".repeat(ACTION_NAME_BYTES_MAX + 1);
    assert_eq!(denied(&session, &Action::tool(&long)).code(), "NAME_TOO_LONG");
}

#[test]
fn more_names_than_are_remembered_are_judged_all_the_same() {
    let mut world = World::new();
    let intent = Intent { tools: patterns(&["ok.*"]), ..Intent::default() };
    world.hear(&[fleet_set("acme", declares(intent))]);
    world.lease();
    let session = world.session(BOT);
    for number in 0..4 * NAMES_REMEMBERED_MAX {
        assert!(permits(&session, &Action::tool(&format!("ok.{number}"))));
        assert!(!permits(&session, &Action::tool(&format!("no.{number}"))));
    }
}

#[test]
fn narrower_policy_acts_when_heard_and_wider_policy_when_verified() {
    let mut world = World::new();
    let tools = |list: &[&str]| declares(Intent { tools: patterns(list), ..Intent::default() });
    world.hear(&[fleet_set("acme", tools(&["a", "b"]))]);
    world.lease();
    let session = world.session(BOT);
    let [a, b, c] = ["a", "b", "c"].map(|name| permits(&session, &Action::tool(name)));
    assert_eq!([a, b, c], [true, true, false]);
    world.hear(&[fleet_set("acme", tools(&["b", "c"]))]);
    let [a, b, c] = ["a", "b", "c"].map(|name| permits(&session, &Action::tool(name)));
    assert_eq!([a, b, c], [false, true, false]);
    world.verify();
    let [a, b, c] = ["a", "b", "c"].map(|name| permits(&session, &Action::tool(name)));
    assert_eq!([a, b, c], [false, true, true]);
}

#[test]
fn a_loosened_staleness_lengthens_no_lease_that_was_given_and_a_tightened_one_shortens_it_at_once() {
    let mut world = World::bare(CoreOptions::named(EDGE.parse().unwrap()));
    world.hear(&[edge_set(vec![None]), agent_set(BOT, &[]), fleet_set("acme", staleness(1_000))]);
    world.lease();
    let session = world.session(BOT);
    let until = |session: &Session<ManualClock>| match session.decide(&Action::default()) {
        Verdict::Permit(permit) => permit.until.since(world_start()).to_millis_up().0,
        Verdict::Deny(denial) => panic!("{denial}"),
    };
    assert_eq!(until(&session), 1_000);
    world.hear(&[fleet_set("acme", staleness(5_000))]);
    assert_eq!(until(&session), 1_000, "heard");
    world.verify();
    assert_eq!(until(&session), 1_000, "verified, but the lease was given before");
    assert_eq!(world.core.smallest_staleness(), Millis(1_000));
    world.pass(Millis(10));
    world.lease();
    assert_eq!(until(&session), 5_010, "a new lease");
    assert_eq!(world.core.smallest_staleness(), Millis(5_000));
    world.hear(&[fleet_set("acme", staleness(300))]);
    assert_eq!(until(&session), 310, "tighter counts at once");
    assert_eq!(world.core.smallest_staleness(), Millis(300));
}

fn world_start() -> BootNanos {
    BootNanos(1_000_000 * MS)
}

#[test]
fn credentials_end_by_cluster_time() {
    let world = World::new();
    let mut claims = world.claims(BOT);
    claims.ends = ClusterTime(1_000_000 + 1_000);
    let session = world.core.session(&world.token(&claims)).unwrap();
    let Verdict::Permit(permit) = session.decide(&Action::default()) else { panic!("it lives") };
    assert_eq!(permit.until, world_start().plus(Millis(1_000).into()));
    world.pass(Millis(999));
    assert!(permits(&session, &Action::default()));
    world.pass(Millis(1));
    world.lease();
    assert_eq!(denied(&session, &Action::default()), DenyReason::CredentialEnded { ended: claims.ends });
    let refused = world.core.session(&world.token(&claims)).unwrap_err();
    assert_eq!(refused.code(), "CREDENTIAL_ENDED");
}

#[test]
fn an_enforcer_serves_its_own_paths_and_only_while_it_is_registered() {
    let mut world = World::new();
    world.hear(&[agent_set("acme/hr/bot", &[])]);
    world.lease();
    let (pay, hr) = (world.session(BOT), world.session("acme/hr/bot"));
    world.hear(&[edge_set(vec![Some("acme/pay".parse().unwrap())])]);
    assert!(permits(&pay, &Action::default()));
    assert_eq!(
        denied(&hr, &Action::default()),
        DenyReason::OutsidePaths { scope: "acme/hr".parse().unwrap() }
    );
    world.hear(&[edge_set(vec![None])]);
    assert_eq!(denied(&hr, &Action::default()).code(), "OUTSIDE_PATHS", "wider waits");
    world.lease();
    assert!(permits(&hr, &Action::default()));
    world.hear(&[EnforcementEvent::EdgeRemoved { edge: EDGE.parse().unwrap() }]);
    assert_eq!(denied(&pay, &Action::default()), DenyReason::EnforcerUnknown);
}

#[test]
fn paths_that_are_added_dont_widen_a_lease_already_given() {
    let mut world = World::new();
    world.hear(&[agent_set("acme/hr/bot", &[])]);
    world.pass(Millis(1));
    world.lease();
    let (pay, hr) = (world.session(BOT), world.session("acme/hr/bot"));
    world.hear(&[edge_set(vec![Some("acme/pay".parse().unwrap())])]);
    world.pass(Millis(1));
    world.lease();
    world.hear(&[edge_set(vec![None])]);
    world.verify();
    assert!(permits(&pay, &Action::default()));
    assert_eq!(denied(&hr, &Action::default()).code(), "OUTSIDE_PATHS", "the lease is from before");
    world.pass(Millis(1));
    world.lease();
    assert!(permits(&hr, &Action::default()));
}

#[test]
fn agents_act_once_registered_and_verified_and_until_they_are_gone() {
    let mut world = World::new();
    let path = "acme/new/bot";
    world.hear(&[agent_set(path, &[])]);
    let token = world.token(&world.claims(path));
    assert_eq!(world.core.session(&token).unwrap_err().code(), "AGENT_UNKNOWN");
    world.verify();
    let session = world.core.session(&token).unwrap();
    assert!(permits(&session, &Action::default()));
    world.hear(&[EnforcementEvent::AgentRemoved { path: path.parse().unwrap() }, agent_set(path, &[])]);
    assert_eq!(denied(&session, &Action::default()).code(), "AGENT_UNKNOWN");
    world.verify();
    assert!(permits(&session, &Action::default()));
}

#[test]
fn a_token_counts_only_if_a_verified_key_of_this_incarnation_signed_it_for_this_audience() {
    let options =
        CoreOptions { audiences: vec!["tools".into()], ..CoreOptions::named(EDGE.parse().unwrap()) };
    let mut world = World::with_options(options);
    let session = world.session(BOT);
    let mut claims = world.claims(BOT);
    claims.audience = "others".parse().unwrap();
    assert_eq!(world.core.session(&world.token(&claims)).unwrap_err().code(), "TOKEN_WRONG_AUDIENCE");
    let mut claims = world.claims(BOT);
    claims.incarnation = Incarnation(2);
    assert_eq!(world.core.session(&world.token(&claims)).unwrap_err().code(), "OTHER_INCARNATION");
    let replaced = |version, until| {
        EnforcementEvent::TrustBundleSet(Box::new(TrustBundleChange {
            version: Version(version),
            keys: Vec::new(),
            endorsements: Vec::new(),
            incarnation: Incarnation(1),
            old_keys_until: until,
        }))
    };
    let ends = session.claims().ends;
    let mut claims = world.claims(BOT);
    claims.credential.0[0] ^= 1;
    let another = world.token(&claims);
    world.hear(&[replaced(2, ends)]);
    assert!(permits(&session, &Action::default()), "a change of keys waits for a statement");
    world.verify();
    assert!(permits(&session, &Action::default()), "what a replaced key signed is good until it ends");
    assert!(permits(&world.core.session(&another).unwrap(), &Action::default()), "also what is shown later");
    claims.ends = ClusterTime(ends.0 + 1);
    claims.credential.0[0] ^= 2;
    let late = world.core.session(&world.token(&claims)).unwrap_err();
    assert_eq!(late.code(), "TOKEN_RETIRED_KEY", "{late}");
}

#[test]
fn a_key_that_is_replaced_without_grace_ends_what_it_signed_at_once() {
    let mut world = World::new();
    let session = world.session(BOT);
    let change = TrustBundleChange {
        version: Version(2),
        keys: Vec::new(),
        endorsements: Vec::new(),
        incarnation: Incarnation(1),
        old_keys_until: ClusterTime(0),
    };
    world.hear(&[EnforcementEvent::TrustBundleSet(Box::new(change))]);
    assert!(permits(&session, &Action::default()), "a change of keys waits for a statement");
    world.verify();
    assert_eq!(denied(&session, &Action::default()), DenyReason::KeyUnknown { key: world.key() });
    let mut claims = world.claims(BOT);
    claims.credential.0[0] ^= 1;
    let refused = world.core.session(&world.token(&claims)).unwrap_err();
    assert_eq!(
        refused,
        SessionRefused::Token(TokenError::RetiredKey { key: world.key(), ends: claims.ends })
    );
}

#[test]
fn a_snapshot_replaces_the_view_and_permits_nothing_before_its_lease() {
    let mut world = World::new();
    let session = world.session(BOT);
    let mut view = View::default();
    let events = [
        EnforcementEvent::Founded { cluster_id: super::CLUSTER, incarnation: Incarnation(1) },
        EnforcementEvent::NodeKeySet { node: super::NODE, key: world.signer.public_key() },
        edge_set(vec![None]),
        agent_set(BOT, &[]),
    ];
    events.iter().for_each(|event| view.apply(event));
    // Heard beyond the snapshot, and so not in it.
    world.hear(&[
        kill_set(1, "fleet=acme"),
        revoked(RevocationTarget::Credential(session.claims().credential)),
    ]);
    world.pass(Millis(10));
    world.core.restore(ViewBody::decode(&view.encode()).unwrap(), LogIndex(2));
    world.index = LogIndex(2);
    world.heard = view.position.seq;
    assert_eq!(world.core.positions().confirmed, (LogIndex(2), view.position.seq));
    assert_eq!(denied(&session, &Action::default()).code(), "CREDENTIAL_REVOKED");
    // A statement for a probe from before says nothing about what was heard.
    let early = FreshLease {
        fresh_from: BootNanos(world.now().0 - 1),
        index: world.index,
        cluster_time: ClusterTime(1_000_000),
    };
    world.core.publish_lease(early).unwrap();
    assert_eq!(denied(&session, &Action::default()).code(), "CREDENTIAL_REVOKED");
    world.lease();
    assert!(permits(&session, &Action::default()), "what was heard was never committed");
}

#[test]
fn denials_beyond_a_snapshot_that_come_again_stay() {
    let mut world = World::new();
    let session = world.session(BOT);
    let kill = kill_set(1, "fleet=acme");
    let revocation = revoked(RevocationTarget::Credential(session.claims().credential));
    let mut view = View::default();
    view.apply(&EnforcementEvent::Founded { cluster_id: super::CLUSTER, incarnation: Incarnation(1) });
    view.apply(&EnforcementEvent::NodeKeySet { node: super::NODE, key: world.signer.public_key() });
    view.apply(&edge_set(vec![None]));
    view.apply(&agent_set(BOT, &[]));
    world.hear(&[kill.clone(), revocation.clone()]);
    world.core.restore(ViewBody::decode(&view.encode()).unwrap(), LogIndex(2));
    (world.index, world.heard) = (LogIndex(2), view.position.seq);
    world.hear(&[kill, revocation]);
    world.lease();
    assert_eq!(denied(&session, &Action::default()).code(), "CREDENTIAL_REVOKED");
    let ended = RevocationTarget::Credential(session.claims().credential);
    world.hear(&[EnforcementEvent::RevocationEnded { target: ended }]);
    world.verify();
    assert_eq!(denied(&session, &Action::default()).code(), "KILLED");
    world.hear(&[kill_lifted(1)]);
    world.verify();
    assert!(permits(&session, &Action::default()));
}

/// A view with the agent registered, and these events after that.
fn view_with(world: &World, events: &[EnforcementEvent]) -> View {
    let mut view = View::default();
    let founded = EnforcementEvent::Founded { cluster_id: super::CLUSTER, incarnation: Incarnation(1) };
    let key = EnforcementEvent::NodeKeySet { node: super::NODE, key: world.signer.public_key() };
    let registered = [founded, key, edge_set(vec![None]), agent_set(BOT, &[])];
    registered.iter().chain(events).for_each(|event| view.apply(event));
    view
}

/// Frames are unsigned: a hub that lies may send what the snapshot holds once more, beyond it, to have it dropped with
/// what was never committed.
#[test]
fn what_a_snapshot_holds_stays_when_made_up_copies_of_it_go() {
    let mut world = World::new();
    let session = world.session(BOT);
    let revocation = revoked(RevocationTarget::Credential(session.claims().credential));
    let view = view_with(&world, std::slice::from_ref(&revocation));
    world.hear(&[kill_lifted(9), kill_lifted(9), revocation]);
    assert!(world.heard > view.position.seq, "the copy is beyond the snapshot");
    world.core.restore(ViewBody::decode(&view.encode()).unwrap(), LogIndex(2));
    (world.index, world.heard) = (LogIndex(2), view.position.seq);
    world.lease();
    assert_eq!(denied(&session, &Action::default()).code(), "CREDENTIAL_REVOKED");
}

/// As above, with a copy of a kill at the very place that it has in a second snapshot.
#[test]
fn a_kill_stays_when_a_made_up_copy_at_its_own_place_goes() {
    let mut world = World::new();
    let session = world.session(BOT);
    let kill = kill_set(1, "fleet=acme");
    let first = view_with(&world, std::slice::from_ref(&kill));
    let second = view_with(&world, &[kill.clone(), kill_lifted(9)]);
    // So far it heard of four events; then the same kill at every place up to the second snapshot's and beyond.
    world.hear(&vec![kill; 4]);
    assert!(world.heard > second.position.seq);
    for (view, index) in [(first, 2), (second, 3)] {
        world.core.restore(ViewBody::decode(&view.encode()).unwrap(), LogIndex(index));
        (world.index, world.heard) = (LogIndex(index), view.position.seq);
        assert_eq!(denied(&session, &Action::default()).code(), "KILLED");
    }
    world.lease();
    assert_eq!(denied(&session, &Action::default()).code(), "KILLED");
    world.hear(&[kill_lifted(1)]);
    world.verify();
    assert!(permits(&session, &Action::default()));
}

#[test]
fn what_isnt_verified_is_bounded() {
    let mut world = World::new();
    let events = vec![kill_lifted(1); EVENTS_UNVERIFIED_MAX];
    world.hear(&events);
    let expected = FeedError::TooManyUnverified { waiting: EVENTS_UNVERIFIED_MAX, more: 1 };
    assert_eq!(world.core.apply_provisional(&[kill_lifted(1)], world.index.next()), Err(expected));
    world.verify();
    world.hear(&[kill_lifted(1)]);
}

#[test]
fn too_many_versions_of_one_thing_deny_until_they_are_verified() {
    let events: [fn(usize) -> EnforcementEvent; 3] = [
        |number| agent_set(BOT, &[("turn", &number.to_string())]),
        |_| fleet_set("acme", FleetPolicy::default()),
        |_| edge_set(vec![None]),
    ];
    for (event, code) in events.into_iter().zip(["UNSETTLED", "UNSETTLED", "ENFORCER_UNKNOWN"]) {
        let mut world = World::new();
        let session = world.session(BOT);
        for number in 0..VERSIONS_UNVERIFIED_MAX - 1 {
            world.hear(&[event(number)]);
        }
        assert!(permits(&session, &Action::default()));
        world.hear(&[event(0), event(1)]);
        assert_eq!(denied(&session, &Action::default()).code(), code);
        world.core.confirm(LogIndex(world.index.0 - 1), EventSeq(world.heard.0 - 1)).unwrap();
        assert_eq!(denied(&session, &Action::default()).code(), code, "the last isn't verified");
        world.verify();
        assert!(permits(&session, &Action::default()));
    }
}

#[test]
fn the_log_of_decisions_keeps_all_or_counts_what_it_lost() {
    let options = CoreOptions { decision_log: Some(2), ..CoreOptions::named(EDGE.parse().unwrap()) };
    let world = World::with_options(options);
    let session = world.session(BOT);
    let verdicts = [session.decide(&Action::default()), session.decide(&Action::tool("x"))];
    let _ = session.decide(&Action::default());
    let extract = world.core.take_decisions();
    assert_eq!(extract.decisions.iter().map(|decided| decided.verdict.clone()).collect::<Vec<_>>(), verdicts);
    assert_eq!(extract.lost, 1);
    assert_eq!(world.core.take_decisions().decisions.len(), 0);
}

#[test]
fn one_token_is_one_session_and_leaves_no_trace_when_it_is_forgotten() {
    let world = World::new();
    let token = world.token(&world.claims(BOT));
    let sessions: Vec<_> = (0..5).map(|_| world.core.session(&token).unwrap()).collect();
    assert_eq!(world.core.sessions(), 1);
    drop(sessions);
    assert_eq!(world.core.tokens_remembered(), 1);
    let weak = std::sync::Arc::downgrade(&world.core.session(&token).unwrap().0);
    drop(world);
    assert!(weak.upgrade().is_none(), "an enforcer that is gone keeps nothing alive");
}
