//! What a program in any language does: asks an edge over HTTP/JSON, and hears from it when it must stop. A real edge, enrolled
//! by a join token, beside a real cluster; the test speaks bare HTTP.

use serde_json::{Value, json};

use super::rig::Rig;

async fn decide(rig: &Rig, token: &str) -> Value {
    let question = json!({"token": token, "action": {"tool": "pay"}}).to_string();
    let answer = rig.ask("POST /v1/decide", "", &question).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_denied_and_told_once_its_agent_is_killed() {
    let mut rig = Rig::without_envoy().await;
    let (worker, other) = (rig.agent_token("acme/tools/worker"), rig.agent_token("acme/other/worker"));
    assert_eq!(decide(&rig, &worker).await["verdict"], "permit");
    let elsewhere =
        rig.haltline(&["agent", "token", "acme/tools/worker", "--audience", "https://elsewhere.example"]);
    assert_eq!(decide(&rig, elsewhere.trim()).await["reason"]["code"], "TOKEN_WRONG_AUDIENCE");
    let mut halted = rig.halted(&worker).await;
    assert_eq!(halted.next_event().await.unwrap().0, "watching");

    // Returns when the kill is enforced.
    rig.haltline(&[
        "kill",
        "fleet",
        "acme/tools",
        "--reason",
        "the test says so",
        "--wait",
        "enforced",
        "--yes",
    ]);
    let denied = decide(&rig, &worker).await;
    assert_eq!((&denied["verdict"], &denied["reason"]["kill"]), (&json!("deny"), &json!("kill-1")));
    let (name, why) = halted.next_event().await.unwrap();
    let why: Value = serde_json::from_str(&why).unwrap();
    assert_eq!((name.as_str(), &why["code"], &why["kill"]), ("halted", &json!("KILLED"), &json!("kill-1")));
    assert_eq!(decide(&rig, &other).await["verdict"], "permit");

    let mut waiting = rig.halted(&other).await;
    assert_eq!(waiting.next_event().await.unwrap().0, "watching");
    assert!(rig.edge.stop().success(), "a signal ends the edge in order");
    assert_eq!(waiting.next_event().await.unwrap().0, "closing");
}
