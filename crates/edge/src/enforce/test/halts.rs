//! Sessions that wait to be told.

use haltline_core::{
    command::RevocationTarget,
    event::EnforcementEvent,
    ids::CredentialId,
    time::{ClusterTime, Millis},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Action, ManualClock, Session, enforcer_core::EnforcerCore},
    World, agent_set, kill_lifted, kill_set,
};

struct Watch {
    cancelled: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn over(core: &EnforcerCore<ManualClock>) -> Self {
        let cancelled = CancellationToken::new();
        let task = tokio::spawn(core.watch_halts(cancelled.clone()));
        Self { cancelled, task }
    }

    async fn end(self) {
        self.cancelled.cancel();
        self.task.await.unwrap();
    }
}

/// Sessions of as many agents in two fleets by turns, each with ids of its own.
fn sessions(world: &mut World, count: usize) -> Vec<Session<ManualClock>> {
    let fleet = |number: usize| if number.is_multiple_of(2) { "even" } else { "odd" };
    let path = |number: usize| format!("acme/{}/bot-{number}", fleet(number));
    let agents: Vec<_> = (0..count).map(|number| agent_set(&path(number), &[])).collect();
    world.hear(&agents);
    world.lease();
    let session = |number: usize| {
        let mut claims = world.claims(&path(number));
        claims.credential.0[..8].copy_from_slice(&(number as u64 + 100).to_be_bytes());
        claims.instance.0[..8].copy_from_slice(&(number as u64 + 100).to_be_bytes());
        claims.lineage[1].0[..8].copy_from_slice(&(number as u64 + 100).to_be_bytes());
        world.core.session(&world.token(&claims)).unwrap()
    };
    (0..count).map(session).collect()
}

#[tokio::test]
async fn those_that_are_hit_are_told_and_no_others() {
    let mut world = World::new();
    let watch = Watch::over(&world.core);
    let sessions = sessions(&mut world, 600);
    let waiting: Vec<_> = sessions
        .iter()
        .map(|session| {
            let session = session.clone();
            tokio::spawn(async move { session.halted().await })
        })
        .collect();
    tokio::task::yield_now().await;
    world.hear(&[kill_set(1, "fleet=acme/odd")]);
    let mut running = Vec::new();
    for (number, task) in waiting.into_iter().enumerate() {
        if number % 2 == 1 {
            assert_eq!(task.await.unwrap().code(), "KILLED");
        } else {
            running.push(task);
        }
    }
    assert!(running.iter().all(|task| !task.is_finished()));
    world.hear(&[kill_set(2, "everything")]);
    for task in running {
        assert_eq!(task.await.unwrap().code(), "KILLED");
    }
    watch.end().await;
}

#[tokio::test]
async fn each_way_to_be_stopped_is_told() {
    let stops: [fn(&Session<ManualClock>) -> EnforcementEvent; 6] = [
        |session| kill_set(1, &format!("agent={}", session.claims().agent)),
        |session| kill_set(1, &format!("instance={}", session.claims().instance)),
        |session| kill_set(1, &format!("lineage={}", session.claims().lineage[0])),
        |session| {
            let target = RevocationTarget::Credential(session.claims().credential);
            EnforcementEvent::Revoked { target, issued_before: None, ends: ClusterTime::NEVER }
        },
        |session| EnforcementEvent::AgentRemoved { path: session.claims().agent.clone() },
        |_| EnforcementEvent::EdgeRemoved { edge: super::EDGE.parse().unwrap() },
    ];
    for stop in stops {
        let mut world = World::new();
        let watch = Watch::over(&world.core);
        let session = world.session("acme/pay/bot");
        let waiting = tokio::spawn({
            let session = session.clone();
            async move { session.halted().await }
        });
        tokio::task::yield_now().await;
        let other = RevocationTarget::Credential(CredentialId([200; 16]));
        world.hear(&[EnforcementEvent::Revoked {
            target: other,
            issued_before: None,
            ends: ClusterTime::NEVER,
        }]);
        world.hear(&[stop(&session)]);
        let denial = waiting.await.unwrap();
        assert_eq!(
            session.decide(&Action::default()).denial().map(|denial| denial.code()),
            Some(denial.code())
        );
        watch.end().await;
    }
}

#[tokio::test]
async fn a_stale_lease_halts_nothing_and_a_lifted_kill_may_be_waited_for_again() {
    let mut world = World::new();
    let watch = Watch::over(&world.core);
    let session = world.session("acme/pay/bot");
    world.hear(&[kill_set(1, "everything")]);
    assert_eq!(session.halted().await.code(), "KILLED");
    world.hear(&[kill_lifted(1)]);
    world.lease();
    world.pass(Millis(60_000));
    assert_eq!(session.decide(&Action::default()).denial().map(|denial| denial.code()), Some("STALE"));
    let mut again = Box::pin(session.halted());
    tokio::select! {
        biased;
        denial = &mut again => panic!("{denial}"),
        () = tokio::task::yield_now() => {}
    }
    world.hear(&[kill_set(2, "everything")]);
    assert_eq!(again.await.code(), "KILLED");
    watch.end().await;
}

#[tokio::test]
async fn the_end_of_a_credential_is_told() {
    let world = World::new();
    let mut claims = world.claims("acme/pay/bot");
    claims.ends = ClusterTime(1_000_000 + 5);
    let session = world.core.session(&world.token(&claims)).unwrap();
    let waiting = tokio::spawn(async move { session.halted().await });
    world.pass(Millis(5));
    world.lease();
    assert_eq!(waiting.await.unwrap().code(), "CREDENTIAL_ENDED");
}
