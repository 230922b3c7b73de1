//! Whose requests for a renewed certificate a relay passes on, and what becomes of the answer.

#![allow(clippy::unwrap_used, clippy::panic)]

use haltline_core::{
    event::{EdgePolicy, EnforcementEvent},
    ids::{ClusterId, EventSeq, Incarnation, KeyHash, LogIndex},
};
use haltline_hub::SystemBootClock;
use haltline_pki::{PendingEdge, Subject, UnixSeconds};

use super::*;

/// Somebody with a key.
struct Somebody {
    peer: PeerIdentity,
    request: Vec<u8>,
}

fn somebody(name: &str) -> Somebody {
    let pending = PendingEdge::create().unwrap();
    let peer = PeerIdentity {
        subject: Subject::Edge(name.parse().unwrap()),
        key_hash: pending.key_hash(),
        not_after: UnixSeconds::now(),
        remote_addr: "127.0.0.1:7".parse().unwrap(),
    };
    Somebody { peer, request: pending.request().to_vec() }
}

fn set(name: &str, kind: EnforcerKind, key: KeyHash) -> EnforcementEvent {
    let record = EdgePolicy { kind, key, paths: vec![None], trusted_for_acks: false, fails_open: false };
    EnforcementEvent::EdgeSet { edge: name.parse().unwrap(), record }
}

/// A relay below which an edge and another relay are registered, and its link.
fn rig(gate: &Somebody, low: &Somebody) -> (Renewals, mpsc::Receiver<Wish>) {
    let view = RelayView::new("relay-1".parse().unwrap(), Arc::new(SystemBootClock), None);
    let events = [
        EnforcementEvent::Founded { cluster_id: ClusterId([1; 16]), incarnation: Incarnation(1) },
        set("relay-1", EnforcerKind::Relay, KeyHash([9; 32])),
        set("gate", EnforcerKind::Edge, gate.peer.key_hash),
        set("low", EnforcerKind::Relay, low.peer.key_hash),
    ];
    view.hear(&events, LogIndex(1), || {}).unwrap();
    view.confirm(LogIndex(1), EventSeq(4)).unwrap();
    let (wishes, heard) = mpsc::channel(4);
    (Renewals::new(Arc::new(view), wishes), heard)
}

fn asks(peer: &PeerIdentity, request: &[u8]) -> Request<v1::RenewCertificateRequest> {
    let mut asked = Request::new(v1::RenewCertificateRequest { certificate_request: request.to_vec() });
    asked.extensions_mut().insert(peer.clone());
    asked
}

fn reason(status: &Status) -> String {
    Refusal::from_status(status).reason
}

#[tokio::test]
async fn a_request_is_passed_on_as_it_is_and_the_answer_comes_back() {
    let (gate, low) = (somebody("gate"), somebody("low"));
    let (renewals, mut heard) = rig(&gate, &low);
    // For itself, and through another relay for somebody below that.
    for (peer, request) in [(&gate.peer, &gate.request), (&low.peer, &gate.request)] {
        let above = async {
            let Some(Wish::Renew { request, renewed }) = heard.recv().await else { panic!("no renewal") };
            renewed.send(Ok("chain".into())).unwrap();
            request
        };
        let (answer, passed_on) = tokio::join!(renewals.renew_certificate(asks(peer, request)), above);
        assert_eq!(answer.unwrap().into_inner().certificate_chain, "chain");
        assert_eq!(passed_on, *request);
    }
}

#[tokio::test]
async fn nobody_is_asked_for_who_does_not_hang_here() {
    let (gate, low, stranger) = (somebody("gate"), somebody("low"), somebody("stranger"));
    let (renewals, mut heard) = rig(&gate, &low);
    let refused = [
        (asks(&stranger.peer, &stranger.request), "UNREGISTERED_KEY"),
        (asks(&gate.peer, &low.request), "CERTIFICATE_REQUEST"),
        (asks(&gate.peer, b"nonsense"), "CERTIFICATE_REQUEST"),
        (Request::new(v1::RenewCertificateRequest::default()), "NO_CERTIFICATE"),
    ];
    for (asked, expected) in refused {
        assert_eq!(reason(&renewals.renew_certificate(asked).await.unwrap_err()), expected);
    }
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn what_the_node_refuses_is_told_and_so_is_that_there_is_none() {
    let (gate, low) = (somebody("gate"), somebody("low"));
    let (renewals, mut heard) = rig(&gate, &low);
    let node_says = Refusal::new(tonic::Code::PermissionDenied, "UNREGISTERED_KEY", "no").to_status();
    for (said, expected) in [(Some(node_says), "UNREGISTERED_KEY"), (None, "NO_HUB_ABOVE")] {
        let above = async {
            let Some(Wish::Renew { renewed, .. }) = heard.recv().await else { panic!("no renewal") };
            match said {
                Some(status) => renewed.send(Err(status)).unwrap(),
                None => drop(renewed),
            }
        };
        let asked = asks(&gate.peer, &gate.request);
        let (answer, ()) = tokio::join!(renewals.renew_certificate(asked), above);
        assert_eq!(reason(&answer.unwrap_err()), expected);
    }
    drop(heard);
    let asked = asks(&gate.peer, &gate.request);
    assert_eq!(reason(&renewals.renew_certificate(asked).await.unwrap_err()), "RENEWALS_BUSY");
}
