//! The example of `deploy/envoy`, as it stands there: a real Envoy, a real edge with its sidecar, a real cluster.
//!
//! Asserted are orders of things, never durations: who has been told that a kill is enforced finds the agent denied.

use haltline_testkit::cluster::wait_until;

use super::rig::{Answer, Rig};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy from PyPI; .ci/run runs it"]
async fn a_killed_agent_is_denied_and_its_streams_are_cut() {
    let rig = Rig::with_envoy().await;
    let (worker, other) = (rig.agent_token("acme/tools/worker"), rig.agent_token("acme/other/worker"));
    let permitted = rig.wait_until_permitted(&worker).await;
    assert!(permitted.body.contains("\"x-haltline-index\": "), "{}", permitted.body);
    assert!(!permitted.body.contains(&worker), "the tool must not see the agent's token: {}", permitted.body);
    let mut doomed = rig.stream(&worker).await;
    let mut spared = rig.stream(&other).await;
    doomed.next_chunk().await.expect("the stream runs");

    // Returns when the kill is enforced.
    let told = rig.haltline(&[
        "kill",
        "fleet",
        "acme/tools",
        "--reason",
        "the test says so",
        "--wait",
        "enforced",
        "--yes",
    ]);
    let refused = rig.call(&worker).await;
    assert_eq!(
        (refused.status, refused.header("x-haltline-reason")),
        (403, Some("KILLED")),
        "{told}\n{refused:?}"
    );
    assert_eq!(refused.header("x-haltline-kill"), Some("kill-1"), "{refused:?}");
    doomed.read_to_cut().await;
    spared.next_chunk().await.expect("the stream of another fleet goes on");
    assert_eq!(rig.call(&other).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy from PyPI; .ci/run runs it"]
async fn an_edge_that_hears_from_nobody_denies_and_cuts() {
    let rig = Rig::with_envoy().await;
    let token = rig.agent_token("acme/tools/worker");
    rig.wait_until_permitted(&token).await;
    let mut running = rig.stream(&token).await;
    running.next_chunk().await.expect("the stream runs");
    rig.silence_cluster();
    let stale = wait_until("the view is stale", || async {
        let answer = rig.call(&token).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!((stale.status, stale.header("x-haltline-reason")), (503, Some("STALE")), "{stale:?}");
    running.read_to_cut().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy from PyPI; .ci/run runs it"]
async fn without_a_sidecar_nothing_passes_and_nothing_goes_on() {
    let mut rig = Rig::with_envoy().await;
    let token = rig.agent_token("acme/tools/worker");
    rig.wait_until_permitted(&token).await;
    let mut running = rig.stream(&token).await;
    running.next_chunk().await.expect("the stream runs");
    // It hangs, so it can't say anything: Envoy must notice.
    rig.edge.pause();
    running.read_to_cut().await;
    rig.edge.kill();
    let Answer { status, body, .. } = rig.call(&token).await;
    assert_eq!(status, 503, "{body}");
}
