//! The whole enforcer against hubs on loopback with real TLS: what it follows, whom it leaves and why, and that a lie never
//! makes it permit.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use haltline_core::{
    event::EnforcementEvent,
    ids::{CredentialId, GrantId, Incarnation, InstanceId, LogIndex, NodeId},
    time::ClusterTime,
};
use haltline_pki::{
    ClusterPki, EdgeIdentity, KnownHub, NewNode, PublicTls, StatementSigner, UnixSeconds, Validity,
    token::{self, Claims},
};
use haltline_wire::{
    token_names,
    v1::{self, hub_message::Message as Tells},
};

use super::{
    fake_hub::{EDGE, Signer, bundle, hub_message, kill_lifted, kill_set, node},
    test_hub::{Log, TestHub, enrolled, join_token, wait_for},
};
use crate::{
    EdgeConfig, Enforcer,
    enforce::{BootClock, Clock as _, CoreOptions},
    enrol,
};

/// An enforcer's directories.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new(hubs: Vec<KnownHub>) -> Self {
        Self::valid(hubs, Validity::leaf())
    }

    fn valid(hubs: Vec<KnownHub>, validity: Validity) -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap() };
        enrolled(&home.identity(), hubs, validity);
        home
    }

    fn identity(&self) -> PathBuf {
        self.directory.path().join("identity")
    }

    fn config(&self) -> EdgeConfig {
        let data = self.directory.path().join("data");
        let mut config = EdgeConfig::at(&self.identity(), &data);
        config.region = "eu".parse().unwrap();
        config
    }

    async fn connect(&self) -> Enforcer {
        Enforcer::connect(self.config()).await.unwrap()
    }
}

fn permits(enforcer: &Enforcer) -> bool {
    enforcer.status().is_fresh(BootClock.now())
}

fn last_error(enforcer: &Enforcer) -> Option<String> {
    enforcer.status().last_error.map(|error| error.code)
}

async fn ready(enforcer: &Enforcer) {
    tokio::time::timeout(Duration::from_secs(30), enforcer.ready())
        .await
        .expect("an honest hub makes it ready");
}

/// A twist that touches one kind of message.
fn on_fresh(
    change: impl Fn(v1::Fresh) -> Option<v1::Fresh> + Send + Sync + 'static,
) -> impl Fn(v1::HubMessage) -> Option<v1::HubMessage> + Send + Sync + 'static {
    move |message| match message.message {
        Some(Tells::Fresh(fresh)) => change(fresh).map(|fresh| hub_message(Tells::Fresh(fresh))),
        other => Some(v1::HubMessage { message: other }),
    }
}

fn on_frame(
    change: impl Fn(v1::Frame) -> v1::Frame + Send + Sync + 'static,
) -> impl Fn(v1::HubMessage) -> Option<v1::HubMessage> + Send + Sync + 'static {
    move |message| match message.message {
        Some(Tells::Frame(frame)) => Some(hub_message(Tells::Frame(change(frame)))),
        other => Some(v1::HubMessage { message: other }),
    }
}

#[tokio::test]
async fn an_enforcer_becomes_ready_hears_a_kill_acknowledges_it_and_takes_leave() {
    let log = Log::founded();
    let hub = TestHub::start(1, &log).await;
    let home = Home::new(vec![hub.known("eu")]);
    let enforcer = home.connect().await;
    ready(&enforcer).await;
    assert!(permits(&enforcer));

    log.change(|log| log.commit(&[kill_set(1)]));
    wait_for("the kill in the view", || enforcer.core().positions().applied.0 == LogIndex(2)).await;
    wait_for("its acknowledgement", || hub.seen.lock().applied.iter().any(|applied| applied.index >= 2))
        .await;
    wait_for("its proof", || enforcer.status().proven == LogIndex(2)).await;
    let status = enforcer.status();
    assert_eq!((status.connected, &status.hub, status.name.as_str()), (true, &Some(hub.known("eu")), EDGE));
    assert!(status.lag.is_some() && status.round_trip.is_some(), "{status:?}");
    let mut registry = prometheus_client::registry::Registry::default();
    enforcer.register_metrics(&mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    assert!(page.contains("haltline_edge_connected 1"), "{page}");

    assert_eq!(hub.seen.lock().hellos[0].region, "eu");
    enforcer.shutdown().await;
    wait_for("an orderly end", || hub.seen.lock().farewells == 1).await;
}

/// A token that a node signed for this audience.
fn token_for(audience: &str) -> String {
    let claims = Claims {
        issuer: "haltline".parse().unwrap(),
        audience: audience.parse().unwrap(),
        cluster: bundle().cluster(),
        credential: CredentialId([1; 16]),
        agent: "acme/bot".parse().unwrap(),
        instance: InstanceId([2; 16]),
        lineage: vec![GrantId([3; 16])],
        task: "test".parse().unwrap(),
        scope: vec![],
        issued_at: UnixSeconds::now(),
        expires_at: UnixSeconds::now(),
        ends: ClusterTime(3_600_000),
        index: LogIndex(2),
        incarnation: Incarnation(1),
        node: NodeId(1),
    };
    token::sign(node(1).key, &claims).unwrap()
}

#[tokio::test]
async fn a_token_for_some_other_service_gives_no_session_unless_that_is_named() {
    let log = Log::founded();
    let key = node(1).key.public_key();
    let registered = EnforcementEvent::AgentSet {
        path: "acme/bot".parse().unwrap(),
        labels: haltline_core::text::Labels::default(),
    };
    log.change(|log| log.commit(&[EnforcementEvent::NodeKeySet { node: NodeId(1), key }, registered]));
    let hub = TestHub::start(1, &log).await;
    let own = token_names::enforcers(&bundle().cluster());
    let code = |enforcer: &Enforcer, audience: &str| {
        enforcer.session(&token_for(audience)).err().map(|refused| refused.code())
    };

    let home = Home::new(vec![hub.known("eu")]);
    let enforcer = home.connect().await;
    ready(&enforcer).await;
    assert_eq!(code(&enforcer, "https://billing.example"), Some("TOKEN_WRONG_AUDIENCE"));
    assert_ne!(code(&enforcer, &own), Some("TOKEN_WRONG_AUDIENCE"));
    enforcer.shutdown().await;

    let named =
        |name| CoreOptions { audiences: vec!["https://billing.example".into()], ..CoreOptions::named(name) };
    let enforcer = Enforcer::connect_with(home.config(), named).await.unwrap();
    ready(&enforcer).await;
    assert_ne!(code(&enforcer, "https://billing.example"), Some("TOKEN_WRONG_AUDIENCE"));
    assert_eq!(code(&enforcer, &own), Some("TOKEN_WRONG_AUDIENCE"));
}

#[tokio::test]
async fn a_restart_permits_nothing_before_its_first_fresh_and_keeps_the_mark() {
    let log = Log::founded();
    let behind = log.now();
    log.change(|log| log.commit(&[kill_set(1)]));
    let hub = TestHub::start(1, &log).await;
    let home = Home::new(vec![hub.known("eu")]);
    let enforcer = home.connect().await;
    ready(&enforcer).await;
    wait_for("the proof", || enforcer.status().proven == LogIndex(2)).await;
    enforcer.shutdown().await;

    // The cluster was set back, below what was proven to this enforcer.
    log.change(|log| *log = behind.clone());
    let enforcer = home.connect().await;
    assert!(!permits(&enforcer));
    wait_for("the refusal", || last_error(&enforcer).as_deref() == Some("BELOW_MARK")).await;
    assert!(!permits(&enforcer));
    assert_eq!(enforcer.core().lease(), None);

    log.change(|log| {
        log.commit(&[kill_set(1)]);
        log.commit(&[]);
    });
    ready(&enforcer).await;
    assert!(permits(&enforcer));
    enforcer.shutdown().await;
}

#[tokio::test]
async fn a_hub_that_falls_silent_is_left_for_the_next() {
    let log = Log::founded();
    let (near, far) = (TestHub::start(1, &log).await, TestHub::start(2, &log).await);
    let home = Home::new(vec![near.known("eu"), far.known("us")]);
    let enforcer = home.connect().await;
    ready(&enforcer).await;
    assert_eq!(enforcer.status().hub, Some(near.known("eu")), "the own region first");
    near.twist(on_fresh(|_| None));
    wait_for("the other hub", || enforcer.status().hub == Some(far.known("us"))).await;
    wait_for("a probe there", || far.seen.lock().probes > 0).await;
    assert_eq!(last_error(&enforcer).as_deref(), Some("SILENT"));
    enforcer.shutdown().await;
}

#[tokio::test]
async fn a_hub_that_goes_away_is_replaced_and_one_that_comes_back_is_found() {
    let log = Log::founded();
    let first = TestHub::start(1, &log).await;
    let second = TestHub::start(2, &log).await;
    let home = Home::new(vec![first.known("eu"), second.known("us")]);
    let enforcer = home.connect().await;
    ready(&enforcer).await;
    drop(first);
    wait_for("the other hub", || second.seen.lock().probes > 0 && enforcer.status().connected).await;
    wait_for("a lease from there", || permits(&enforcer)).await;
    enforcer.shutdown().await;
}

#[tokio::test]
async fn a_tampered_frame_is_named_and_the_next_hub_begins_with_a_snapshot() {
    let log = Log::founded();
    let (liar, honest) = (TestHub::start(1, &log).await, TestHub::start(2, &log).await);
    let home = Home::new(vec![liar.known("eu"), honest.known("us")]);
    liar.twist(on_frame(|mut frame| {
        let mut event = frame.events[0].to_vec();
        *event.last_mut().unwrap() ^= 1;
        frame.events[0] = event.into();
        frame
    }));
    let enforcer = home.connect().await;
    ready(&enforcer).await;
    assert_eq!(last_error(&enforcer).as_deref(), Some("WRONG_HEAD"));
    assert_eq!(enforcer.status().hub, Some(honest.known("us")));
    assert_eq!(honest.seen.lock().snapshots, 1);
    assert_eq!(liar.seen.lock().applied.iter().map(|applied| applied.index).max().unwrap_or(0), 0);
    enforcer.shutdown().await;
}

#[tokio::test]
async fn forged_replayed_and_foreign_answers_are_named_and_permit_nothing() {
    let log = Log::founded();
    let hub = TestHub::start(1, &log).await;
    let home = Home::new(vec![hub.known("eu")]);
    let forger = Arc::new(StatementSigner::generate().unwrap());
    let (at, by) = (log.now(), forger.clone());
    let forged = move |fresh: v1::Fresh| {
        let probe = v1::Probe { sequence: 1, nonce: fresh.nonce };
        Some(at.fresh_by(Signer { node: NodeId(1), key: &by }, &probe, EDGE))
    };
    let at = log.now();
    let foreign = move |fresh: v1::Fresh| {
        let probe = v1::Probe { sequence: 1, nonce: fresh.nonce };
        Some(at.fresh_by(node(1), &probe, "edge-2"))
    };
    let at = log.now();
    let replayed = move |_: v1::Fresh| Some(at.fresh(&v1::Probe { sequence: 1, nonce: vec![7; 32] }));
    let unsigned = |fresh: v1::Fresh| Some(v1::Fresh { signature: vec![0; 64], ..fresh });

    hub.twist(on_fresh(forged));
    let enforcer = home.connect().await;
    let refused = |code: &'static str| {
        let enforcer = &enforcer;
        async move {
            wait_for(code, || last_error(enforcer).as_deref() == Some(code)).await;
            assert_eq!(enforcer.core().lease(), None, "{code}");
            assert!(!permits(enforcer), "{code}");
        }
    };
    refused("BAD_SIGNATURE").await;
    hub.twist(on_fresh(foreign));
    refused("WRONG_NAME").await;
    hub.twist(on_fresh(replayed));
    refused("UNKNOWN_NONCE").await;
    hub.twist(on_fresh(unsigned));
    refused("BAD_SIGNATURE").await;
    hub.seen.lock().twist = None;
    ready(&enforcer).await;
    assert!(permits(&enforcer));
    enforcer.shutdown().await;
}

#[tokio::test]
async fn a_permission_in_a_frame_acts_only_with_a_statement() {
    let log = Log::founded();
    log.change(|log| log.commit(&[kill_set(1)]));
    let hub = TestHub::start(1, &log).await;
    let home = Home::new(vec![hub.known("eu")]);
    let enforcer = home.connect().await;
    ready(&enforcer).await;
    hub.twist(on_fresh(|_| None));
    log.change(|log| log.commit(&[kill_lifted(1)]));
    wait_for("the frame", || enforcer.core().positions().applied.0 == LogIndex(3)).await;
    assert_eq!(enforcer.core().positions().confirmed.0, LogIndex(2));
    assert_eq!(enforcer.core().positions().unverified, 1);
    hub.seen.lock().twist = None;
    wait_for("the statement", || enforcer.core().positions().confirmed.0 == LogIndex(3)).await;
    enforcer.shutdown().await;
}

#[tokio::test]
async fn another_cluster_on_the_way_is_refused_by_its_certificate() {
    let stranger = ClusterPki::create(&[NewNode { id: NodeId(1), hosts: vec!["localhost".into()] }]).unwrap();
    let log = Log::founded();
    let hub = TestHub::start(1, &log).await;
    // An enforcer of this cluster, whose bundle is of another.
    let home = tempfile::tempdir().unwrap();
    let pending = haltline_pki::PendingEdge::open(home.path()).unwrap();
    let request = haltline_pki::EdgeRequest::parse(pending.request()).unwrap();
    let name = EDGE.parse().unwrap();
    let chain = stranger.issuers().issue_edge(&name, &request, Validity::leaf()).unwrap();
    let identity = pending.complete(&name, &chain, stranger.bundle().clone(), vec![hub.known("eu")]).unwrap();
    identity.save_public(home.path()).unwrap();
    let config = EdgeConfig::at(home.path(), &home.path().join("data"));
    let enforcer = Enforcer::connect(config).await.unwrap();
    wait_for("the refusal", || last_error(&enforcer).is_some()).await;
    assert_eq!(
        last_error(&enforcer).as_deref(),
        Some("tls_peer_foreign"),
        "{:?}",
        enforcer.status().last_error
    );
    assert!(!permits(&enforcer));
    enforcer.shutdown().await;
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_for_the_same_key_and_kept() {
    let log = Log::founded();
    let hub = TestHub::start(1, &log).await;
    let now = UnixSeconds::now();
    let day = Duration::from_secs(86_400);
    let due = Validity { not_before: now.minus(day * 80), not_after: now.plus(day * 10) };
    let home = Home::valid(vec![hub.known("eu")], due);
    let key = EdgeIdentity::load(&home.identity()).unwrap().tls().leaf().key_hash;
    let enforcer = home.connect().await;
    wait_for("the renewal", || enforcer.status().certificate_ends > due.not_after).await;
    let kept = EdgeIdentity::load(&home.identity()).unwrap();
    assert_eq!(kept.tls().leaf().key_hash, key);
    assert_eq!(kept.tls().leaf().validity.not_after, enforcer.status().certificate_ends);
    assert_eq!(hub.seen.lock().renewals, 1);
    enforcer.shutdown().await;
}

#[tokio::test]
async fn new_hubs_are_taken_up_and_kept() {
    let log = Log::founded();
    let (first, second) = (TestHub::start(1, &log).await, TestHub::start(2, &log).await);
    let home = Home::new(vec![first.known("eu")]);
    let told = v1::HubEndpoints {
        hubs: [&first, &second]
            .iter()
            .map(|hub| v1::HubEndpoint {
                node: hub.node.0,
                address: hub.endpoint.to_string(),
                region: "eu".into(),
            })
            .collect(),
    };
    first.twist(move |message| match message.message {
        // Once welcomed, the list takes the place of the first answer.
        Some(Tells::Fresh(_)) => Some(hub_message(Tells::Hubs(told.clone()))),
        other => Some(v1::HubMessage { message: other }),
    });
    let enforcer = home.connect().await;
    wait_for("the new hub", || enforcer.status().hub == Some(second.known("eu"))).await;
    wait_for("its place on disk", || {
        EdgeIdentity::load(&home.identity()).is_ok_and(|identity| identity.hubs().len() == 2)
    })
    .await;
    enforcer.shutdown().await;
}

#[tokio::test]
async fn an_enforcer_enrols_once_and_then_connects() {
    let log = Log::founded();
    let public = TestHub::start_public(2, &log).await;
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("identity");
    let missing = Enforcer::connect(EdgeConfig::at(&directory, &home.path().join("data"))).await.unwrap_err();
    assert_eq!(missing.code(), "NOT_ENROLLED");

    let token = join_token(&[&public]);
    let identity = enrol(&token, &directory).await.unwrap();
    assert_eq!((identity.name().as_str(), identity.hubs().len()), (EDGE, 1));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(directory.join("tls.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(enrol(&token, &directory).await.unwrap_err().code(), "ALREADY_ENROLLED");
    assert_eq!(public.seen.lock().secrets, 1);
}

#[tokio::test]
async fn the_secret_is_shown_to_nobody_but_a_node_of_the_tokens_cluster() {
    let log = Log::founded();
    // Hands on the true bundle, but has another cluster's certificate.
    let stranger = ClusterPki::create(&[NewNode { id: NodeId(2), hosts: vec!["localhost".into()] }]).unwrap();
    let tls = PublicTls::new(stranger.nodes()[0].tls()).unwrap();
    let between = TestHub::start_public_showing(2, &log, &tls).await;
    let home = tempfile::tempdir().unwrap();
    let error = enrol(&join_token(&[&between]), home.path()).await.unwrap_err();
    assert_eq!(error.code(), "JOIN_SERVER_UNTRUSTED", "{error}");
    assert_eq!(between.seen.lock().secrets, 0);

    // The token pins another bundle.
    let public = TestHub::start_public(1, &log).await;
    let other =
        haltline_pki::JoinToken::generate(stranger.bundle(), std::slice::from_ref(&public.endpoint)).unwrap();
    let error = enrol(&other, home.path()).await.unwrap_err();
    assert_eq!(error.code(), "JOIN_OTHER_CLUSTER", "{error}");
    assert_eq!(public.seen.lock().secrets, 0);

    // One that can be believed is found behind one that can't.
    let identity = enrol(&join_token(&[&between, &public]), home.path()).await.unwrap();
    assert_eq!(identity.name().as_str(), EDGE);
    assert_eq!((between.seen.lock().secrets, public.seen.lock().secrets), (0, 1));
}
