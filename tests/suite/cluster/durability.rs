//! What was acknowledged is there, whatever dies.

use std::time::{SystemTime, UNIX_EPOCH};

use haltline_testkit::{
    cluster::{Cluster, Person, wait_until},
    rng::Rng,
};

use haltline_wire::v1::{ListKillsRequest, kill_service_client::KillServiceClient};

use super::{
    agents_at, kill_fleet,
    load::{Acknowledged, Load},
    running,
};

/// Checks that every node lists every acknowledged agent, and that all hold the same chain head.
pub(super) async fn nothing_is_lost(cluster: &Cluster, person: &Person, acknowledged: &Acknowledged) {
    cluster.wait_until_equal(person, acknowledged.last_index).await;
    for node in 0..cluster.nodes.len() {
        let listed = agents_at(person, node).await;
        let lost: Vec<_> = acknowledged.agents.iter().filter(|agent| !listed.contains(*agent)).collect();
        assert!(lost.is_empty(), "node {node} has lost {lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_death_loses_nothing() {
    let (mut cluster, admin) = running(3).await;
    let leader = cluster.wait_for_leader(&admin).await;
    let load = Load::start(&admin, 4, 3);
    load.wait_for_more(50).await;
    cluster.kill(leader).expect("it runs");
    load.wait_for_more(50).await;
    let successor = cluster.wait_for_leader(&admin).await;
    assert_ne!(successor, leader);
    cluster.start(leader).expect("it starts again");
    let acknowledged = load.finish().await;
    nothing_is_lost(&cluster, &admin, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followers_death_stops_nobody() {
    let (mut cluster, admin) = running(3).await;
    let leader = cluster.wait_for_leader(&admin).await;
    let term = admin.status(leader).await.expect("it answers").term;
    let follower = (leader + 1) % 3;
    let load = Load::start(&admin, 4, 3);
    load.wait_for_more(20).await;
    cluster.kill(follower).expect("it runs");
    load.wait_for_more(100).await;
    let status = admin.status(leader).await.expect("it answers");
    assert_eq!((status.role.as_str(), status.term), ("leader", term), "a follower's death is no election");
    cluster.start(follower).expect("it starts again");
    let acknowledged = load.finish().await;
    nothing_is_lost(&cluster, &admin, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_may_die_at_once() {
    let (mut cluster, admin) = running(3).await;
    let killed = admin.command(0, kill_fleet("acme/load")).await.expect("one person may stop");
    let load = Load::start(&admin, 4, 3);
    load.wait_for_more(100).await;
    for node in 0..3 {
        cluster.kill(node).expect("it runs");
    }
    cluster.start_all().expect("they start again");
    load.wait_for_more(20).await;
    let acknowledged = load.finish().await;
    nothing_is_lost(&cluster, &admin, &acknowledged).await;

    let mut client = KillServiceClient::new(admin.channel(0));
    let kills =
        client.list_kills(ListKillsRequest::default()).await.expect("it lists kills").into_inner().kills;
    let index = killed.stamp.expect("every reply has one").index;
    assert_eq!(kills.iter().map(|kill| kill.placed.expect("stamped").index).collect::<Vec<_>>(), [index]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_takes_no_writes_and_serves_no_linearizable_reads() {
    let (mut cluster, admin) = running(3).await;
    let leader = cluster.wait_for_leader(&admin).await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        cluster.pause(other).expect("it runs");
    }
    let refused = admin.command(leader, kill_fleet("acme")).await.expect_err("no quorum, no commit");
    assert!(
        matches!(refused.reason(), None | Some("NO_LEADER" | "OUTCOME_UNKNOWN" | "TIMED_OUT" | "NO_QUORUM")),
        "{refused}"
    );
    let mut kills = KillServiceClient::new(admin.channel(leader));
    let read = tokio::time::timeout(
        std::time::Duration::from_secs(20),
        kills.list_kills(ListKillsRequest::default()),
    );
    assert!(!matches!(read.await, Ok(Ok(_))), "a cut-off leader must not answer a linearizable read");
    for other in others {
        cluster.unpause(other).expect("it is stopped");
    }
    cluster.wait_for_leader(&admin).await;
    wait_until("writes are accepted again", || async {
        admin.command(others[0], kill_fleet("acme")).await.ok()
    })
    .await;
    cluster.kill(leader).expect("it runs");
}

/// Thirty rounds of kill -9 at random moments under load. `HALTLINE_TEST_SEED` replays the choices of one run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_rounds_of_kill_9_lose_nothing() {
    const ROUNDS: u32 = 30;
    let from_clock =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    let seed = std::env::var("HALTLINE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(from_clock);
    println!("HALTLINE_TEST_SEED={seed}");
    let mut rng = Rng::new(seed);

    let (mut cluster, admin) = running(3).await;
    let load = Load::start(&admin, 8, 3);
    let (mut leaders, mut followers) = (0, 0);
    for _ in 0..ROUNDS {
        load.wait_for_more(rng.below(60)).await;
        let leader = cluster.wait_for_leader(&admin).await;
        let victim = rng.below(3) as usize;
        if victim == leader {
            leaders += 1;
        } else {
            followers += 1;
        }
        cluster.kill(victim).expect("it runs");
        load.wait_for_more(1 + rng.below(20)).await;
        cluster.start(victim).expect("it starts again");
    }
    let acknowledged = load.finish().await;
    nothing_is_lost(&cluster, &admin, &acknowledged).await;
    println!(
        "{ROUNDS} rounds of kill -9 ({leaders} leaders, {followers} followers): {} commands acknowledged, none lost; \
         {} attempts had to be repeated; chain heads equal on all nodes",
        acknowledged.agents.len(),
        acknowledged.unknown,
    );
    assert!(leaders > 0 && followers > 0 && acknowledged.unknown > 0, "the run exercised too little");
}
