//! HTTP/JSON: verdicts, what is said of bad questions, and the stream that tells of halts.

use haltline_core::limits::{SIDECAR_BATCH_MAX, SIDECAR_BODY_BYTES_MAX};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
};

use super::lab::{Lab, until};
use crate::sidecar::Listen;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Status and JSON body of a response.
fn read(response: &str) -> (u16, Value) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

async fn decide(lab: &Lab, body: &Value) -> (u16, Value) {
    read(&lab.http("POST /v1/decide", &[JSON], &body.to_string()).await)
}

#[tokio::test]
async fn verdicts_come_one_by_one_or_together() {
    let lab = Lab::start("").await;
    let token = lab.feeder.token();
    let (status, permit) = decide(&lab, &json!({"token": token, "action": {"tool": "pay"}})).await;
    assert_eq!((status, &permit["verdict"], &permit["index"]), (200, &json!("permit"), &json!(100)));
    assert!(permit["valid_for_ms"].as_u64().unwrap() > 0);
    assert!(permit["until_boottime_ns"].as_str().unwrap().parse::<u64>().is_ok());

    lab.feeder.kill(3, "fleet=acme tool=pay");
    let actions =
        json!([{"tool": "pay"}, {"tool": "read"}, {"model": "m", "resource": "r", "data_class": "d"}]);
    let bearer = format!("Bearer {token}");
    let headers = [JSON, ("authorization", bearer.as_str())];
    let (status, answer) =
        read(&lab.http("POST /v1/decide", &headers, &json!({"actions": actions}).to_string()).await);
    assert_eq!(status, 200);
    let verdicts: Vec<_> = answer["verdicts"].as_array().unwrap().iter().map(|one| &one["verdict"]).collect();
    assert_eq!(verdicts, ["deny", "permit", "permit"]);
    let reason = &answer["verdicts"][0]["reason"];
    assert_eq!(
        (&reason["code"], &reason["kill"], &reason["index"]),
        (&json!("KILLED"), &json!("kill-3"), &json!(101))
    );
}

#[tokio::test]
async fn whoever_has_no_good_token_is_denied() {
    let lab = Lab::start("").await;
    for (body, code) in [
        (json!({"action": {"tool": "x"}}), "NO_TOKEN"),
        (json!({"token": "x", "action": {"tool": "x"}}), "TOKEN_MALFORMED"),
    ] {
        let (status, answer) = decide(&lab, &body).await;
        assert_eq!(
            (status, &answer["verdict"], &answer["reason"]["code"]),
            (200, &json!("deny"), &json!(code))
        );
    }
}

#[tokio::test]
async fn bad_questions_are_told_what_is_wrong() {
    let lab = Lab::start("").await;
    let action = json!({"tool": "x"});
    let many = json!({"actions": vec![action.clone(); SIDECAR_BATCH_MAX + 1]});
    for (body, code) in [
        (json!({}), "ONE_OR_MANY"),
        (json!({"action": action, "actions": [action]}), "ONE_OR_MANY"),
        (json!({"actions": []}), "BATCH_SIZE"),
        (many, "BATCH_SIZE"),
        (json!({"action": {"tul": "x"}}), "BAD_JSON"),
        (json!({"action": {"tool": 1}}), "BAD_JSON"),
        (json!([]), "BAD_JSON"),
    ] {
        let (status, answer) = decide(&lab, &body).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)));
    }
    let ask = |request: &'static str, headers: Vec<(&'static str, &'static str)>, body: String| {
        let lab = &lab;
        async move {
            let (status, answer) = read(&lab.http(request, &headers, &body).await);
            (status, answer["error"]["code"].as_str().unwrap().to_owned())
        }
    };
    assert_eq!(ask("POST /v1/decide", vec![], "{}".into()).await, (415, "NOT_JSON".into()));
    assert_eq!(ask("GET /v1/decide", vec![], String::new()).await, (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(ask("GET /v2", vec![], String::new()).await, (404, "NO_SUCH_PATH".into()));
    assert_eq!(ask("GET /v1/halted", vec![], String::new()).await, (401, "NO_TOKEN".into()));
    let large = " ".repeat(SIDECAR_BODY_BYTES_MAX + 1);
    assert_eq!(ask("POST /v1/decide", vec![JSON], large).await, (413, "TOO_LARGE".into()));
}

/// A stream of events, as lines.
async fn events(lab: &Lab) -> Lines<BufReader<TcpStream>> {
    let Listen::Tcp(address) = lab.places.http else { panic!("the lab's port is TCP") };
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /v1/halted HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", lab.feeder.token());
    stream.write_all(request.as_bytes()).await.unwrap();
    BufReader::new(stream).lines()
}

/// The next event's name and data.
async fn next(lines: &mut Lines<BufReader<TcpStream>>) -> (String, Value) {
    loop {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        if let Some(name) = line.strip_prefix("event: ") {
            let data = lines.next_line().await.unwrap().unwrap();
            return (name.into(), serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_halt_is_heard_at_once_and_ends_the_stream() {
    let lab = Lab::start("").await;
    let mut lines = events(&lab).await;
    assert_eq!(next(&mut lines).await.0, "watching");
    lab.feeder.core.revoke_lease();
    assert_eq!(next(&mut lines).await.0, "stale");
    lab.feeder.give_lease();
    assert_eq!(next(&mut lines).await.0, "fresh");
    lab.feeder.kill(3, "fleet=acme");
    let (name, data) = next(&mut lines).await;
    assert_eq!((name.as_str(), &data["code"], &data["kill"]), ("halted", &json!("KILLED"), &json!("kill-3")));
    until("nobody waits any more", || async {
        let metrics = lab.http("GET /metrics", &[], "").await;
        metrics.contains("haltline_sidecar_halt_watchers 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_is_sent_away_when_the_sidecar_stops() {
    let lab = Lab::start("").await;
    let mut lines = events(&lab).await;
    assert_eq!(next(&mut lines).await.0, "watching");
    lab.shutdown.cancel();
    assert_eq!(next(&mut lines).await.0, "closing");
    lab.served.await.unwrap().unwrap();
}
