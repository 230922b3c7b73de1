//! Enforcers: a token lets one in, once, with one key; the registry lists it; removing it closes its door.

use haltline_core::{
    command::{Command, EdgeRemove, EdgeUpdate, EnforcerKind, JoinTokenCreate, JoinTokenDelete},
    limits::JOIN_TOKEN_TTL_MAX,
    time::Millis,
};
use haltline_pki::{Dialer, EdgeIdentity, Endpoint, JoinToken, PendingEdge, Unverified, Verified};
use haltline_wire::{
    refusal::Refusal,
    v1::{
        self, command_reply::Outcome, edge_admin_service_client::EdgeAdminServiceClient,
        edge_service_client::EdgeServiceClient,
    },
};
use tonic::Code;

use crate::harness::{Cluster, Person, client_tls, refused, until};

fn public(cluster: &Cluster) -> Endpoint {
    cluster.config.listen_public.to_string().parse().unwrap()
}

fn token_for(cluster: &Cluster) -> JoinToken {
    JoinToken::generate(cluster.admin.bundle(), &[public(cluster)]).unwrap()
}

fn create(token: &JoinToken, name: &str, ttl: Millis) -> Command {
    Command::JoinTokenCreate(JoinTokenCreate {
        token: token.id(),
        secret_hash: token.secret_hash(),
        edge: name.parse().unwrap(),
        kind: EnforcerKind::Relay,
        paths: vec![None],
        trusted_for_acks: true,
        ttl,
    })
}

/// A connection to the public port that was checked against the token.
async fn trusted(cluster: &Cluster, token: &JoinToken) -> Verified {
    let contact = Unverified::connect(&public(cluster)).await.unwrap();
    let mut client = EdgeServiceClient::new(contact.channel());
    let answer = client.get_trust_bundle(v1::GetTrustBundleRequest {}).await.unwrap().into_inner();
    contact.verify(&answer.trust_bundle, token).unwrap()
}

async fn enroll(
    cluster: &Cluster,
    token: &JoinToken,
    secret: &[u8],
    edge: &PendingEdge,
) -> Result<v1::EnrollResponse, Refusal> {
    let request = v1::EnrollRequest {
        token_id: token.id().0.to_vec(),
        secret: secret.to_vec(),
        certificate_request: edge.request().to_vec(),
    };
    let channel = trusted(cluster, token).await.channel;
    refused(EdgeServiceClient::new(channel).enroll(request).await)
}

async fn edges(person: &Person) -> Vec<v1::Edge> {
    let mut client = EdgeAdminServiceClient::new(person.channel.clone());
    client.list_edges(v1::ListEdgesRequest::default()).await.unwrap().into_inner().edges
}

async fn tokens(person: &Person) -> Vec<v1::JoinToken> {
    let mut client = EdgeAdminServiceClient::new(person.channel.clone());
    client.list_join_tokens(v1::ListJoinTokensRequest::default()).await.unwrap().into_inner().join_tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_one_enforcer_in_with_one_key() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let token = token_for(&cluster);
    let stored = ada.command(create(&token, "eu-relay", Millis(60_000))).await.unwrap();
    assert!(matches!(stored.outcome, Some(Outcome::JoinTokenStored(_))));
    let waiting = tokens(&ada).await;
    assert_eq!((waiting.len(), waiting[0].edge.as_str(), waiting[0].by.as_str()), (1, "eu-relay", "ada"));
    assert_eq!((waiting[0].kind(), waiting[0].trusted_for_acks), (v1::EnforcerKind::Relay, true));

    let (edge, secret) = (PendingEdge::create().unwrap(), token.secret().expose());
    let wrong = enroll(&cluster, &token, &[7; 32], &edge).await.unwrap_err();
    let answer = enroll(&cluster, &token, secret, &edge).await.unwrap();
    assert_eq!((answer.name.as_str(), answer.relay), ("eu-relay", true));
    assert_eq!(answer.hubs.len(), 1);
    assert_eq!(answer.hubs[0].address, cluster.config.listen_edge.to_string());
    assert_eq!(answer.hubs[0].region, "here");
    assert!(tokens(&ada).await.is_empty(), "it is used up");

    // The answer was lost: the same key gets it again. Another one learns no more than a stranger.
    assert_eq!(enroll(&cluster, &token, secret, &edge).await.unwrap().name, "eu-relay");
    let another = enroll(&cluster, &token, secret, &PendingEdge::create().unwrap()).await.unwrap_err();
    let never = token_for(&cluster);
    let unknown =
        enroll(&cluster, &never, never.secret().expose(), &PendingEdge::create().unwrap()).await.unwrap_err();
    assert_eq!((&wrong, &another), (&unknown, &unknown), "strangers learn nothing");
    assert_eq!(unknown.code, Code::PermissionDenied);

    let listed = edges(&ada).await;
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].version), (1, "eu-relay", 1));
    assert_eq!(listed[0].key, edge.key_hash().0);
    assert_eq!(listed[0].paths, [""], "the whole tree");
    assert_eq!(listed[0].live, None, "it has no stream");
    cluster.stop().await;
}

async fn enrolled(cluster: &Cluster, ada: &Person, name: &str) -> EdgeIdentity {
    let (token, edge) = (token_for(cluster), PendingEdge::create().unwrap());
    ada.command(create(&token, name, Millis(60_000))).await.unwrap();
    let answer = enroll(cluster, &token, token.secret().expose(), &edge).await.unwrap();
    let bundle = trusted(cluster, &token).await.bundle;
    edge.complete(&answer.name.parse().unwrap(), &answer.certificate_chain, bundle, Vec::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enforcer_renews_its_certificate_and_is_nobody_once_removed() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let edge = enrolled(&cluster, &ada, "eu-relay").await;
    let dialer = Dialer::new(client_tls(edge.tls(), edge.bundle()));
    let port: Endpoint = cluster.config.listen_edge.to_string().parse().unwrap();
    let mut client = EdgeServiceClient::new(dialer.connect(&port).await.unwrap());
    let certificate_request = edge.renewal_request().unwrap();
    let renewed =
        client.renew_certificate(v1::RenewCertificateRequest { certificate_request }).await.unwrap();
    edge.renewed(&renewed.into_inner().certificate_chain).unwrap();

    // Another key's request is refused, whoever sends it.
    let foreign = PendingEdge::create().unwrap().request().to_vec();
    let request = v1::RenewCertificateRequest { certificate_request: foreign };
    let refusal = refused(client.renew_certificate(request).await).unwrap_err();
    assert_eq!(refusal.reason, "CERTIFICATE_REQUEST");

    let remove = Command::EdgeRemove(EdgeRemove { edge: "eu-relay".parse().unwrap() });
    let removed = ada.command(remove).await.unwrap();
    assert!(matches!(removed.outcome, Some(Outcome::EdgeRemoved(_))));
    assert!(edges(&ada).await.is_empty());
    until("the removed enforcer is turned away", async || {
        dialer.connect(&port).await.err().map(|failure| failure.code())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_about_an_enforcer_is_listed_and_refusals_name_the_field() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    drop(enrolled(&cluster, &ada, "eu-relay").await);
    let update = |fails_open| {
        Command::EdgeUpdate(EdgeUpdate {
            edge: "eu-relay".parse().unwrap(),
            paths: None,
            trusted_for_acks: Some(false),
            fails_open,
        })
    };
    let stored = ada.command(update(Some(true))).await.unwrap();
    assert!(matches!(stored.outcome, Some(Outcome::EdgeStored(edge)) if edge.version == 2));
    let listed = edges(&ada).await;
    assert_eq!((listed[0].fails_open, listed[0].trusted_for_acks), (true, false));

    let late = token_for(&cluster);
    let refusal = ada.command(create(&late, "late", Millis(JOIN_TOKEN_TTL_MAX.0 + 1))).await.unwrap_err();
    assert_eq!((refusal.reason.as_str(), refusal.field()), ("JOIN_TOKEN_TTL", Some("ttl_ms")));
    let refusal = ada.command(create(&late, "eu-relay", Millis(1))).await.unwrap_err();
    assert_eq!(refusal.reason, "EDGE_EXISTS");
    let delete = Command::JoinTokenDelete(JoinTokenDelete { token: late.id() });
    let refusal = ada.command(delete).await.unwrap_err();
    assert_eq!((refusal.reason.as_str(), refusal.code), ("UNKNOWN_JOIN_TOKEN", Code::NotFound));
    cluster.stop().await;
}
