//! What a caller is told who sends what no client of ours would: exact texts, kept as snapshots.

use std::time::Duration;

use haltline_core::command::Role;
use haltline_pki::{LEAF_LIFETIME, NodeIdentity, PendingPerson, UnixSeconds, Validity};
use haltline_testkit::cluster::Person;
use haltline_wire::refusal::Refusal;
use tonic::{Status, body::Body, codegen::http};
use tower::ServiceExt as _;

use super::{people::enrol, refusals::dialer, running};

/// Sends a body as it is to a call, and returns the refusal.
async fn send_raw(person: &Person, call: &str, body: &str) -> Refusal {
    let request = http::Request::post(format!("https://node{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body.to_owned()))
        .expect("a request");
    let response = person.channel(0).oneshot(request).await.expect("the connection stays");
    let status = Status::from_header_map(response.headers()).expect("an error comes in the headers");
    Refusal::from_status(&status)
}

fn told(refusal: &Refusal) -> String {
    format!("{:?} {}: {}", refusal.code, refusal.reason, refusal.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_no_messages() {
    let (_cluster, ada) = running(1).await;
    let create_kill = "/haltline.v1.KillService/CreateKill";

    // Five bytes of header: not compressed, 1 GiB to come.
    let giant = send_raw(&ada, create_kill, "\0\x40\0\0\0and so on").await;
    insta::assert_snapshot!(told(&giant), @"ResourceExhausted MESSAGE_TOO_LARGE: the message is too large; at most 131072 bytes are read");
    let garbage = send_raw(&ada, create_kill, "\0\0\0\0\x08\x0f\x0fgarbag").await;
    insta::assert_snapshot!(told(&garbage), @"InvalidArgument MALFORMED_MESSAGE: the message is damaged or no message of this API: failed to decode Protobuf message: invalid wire type value: 7");
    let unknown = send_raw(&ada, "/haltline.v1.KillService/Kill", "\0\0\0\0\0").await;
    insta::assert_snapshot!(told(&unknown), @"Unimplemented TRANSPORT:");
    ada.status(0).await.expect("the node goes on");
}

/// A node whose clock was set back an hour finds fresh certificates not valid yet. Here the certificate lies an hour ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_back_an_hour() {
    let (cluster, ada) = running(1).await;
    let (bob, _) = enrol(&cluster, &ada, "bob", Role::Admin).await;
    let node = NodeIdentity::load(&cluster.nodes[0].directory.join("identity")).expect("the node's identity");
    let not_before = UnixSeconds::now().plus(Duration::from_secs(3_600));
    let later = Validity { not_before, not_after: not_before.plus(LEAF_LIFETIME) };
    let hide = |text: String| text.replace(&later.not_after.to_string(), "[in 90 days and an hour]");

    let pending = PendingPerson::create(bob.id()).expect("keys");
    let issued = node.issuers().issue_person(pending.request(), later, node.bundle(), cluster.endpoints());
    let identity = pending.complete(&issued.expect("a certificate")).expect("it fits the keys");
    let bob_in_an_hour = Person::new(identity, cluster.endpoints()).expect("a TLS configuration");
    let failure = dialer(&bob_in_an_hour).connect(&cluster.nodes[0].endpoint()).await.expect_err("too early");
    insta::assert_snapshot!(hide(failure.to_string()), @"the certificate of person bob was refused as out of its time: it is valid until [in 90 days and an hour]; renew it if that is past, else compare both clocks");
}
