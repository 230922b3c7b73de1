//! Credentials: an entry of the log, and a token that any retry gets again, until something stops it.

use haltline_core::{
    command::{Command, CredentialIssue, Request, RevocationTarget, Revoke},
    ids::{CredentialId, GrantId, InstanceId},
    time::Millis,
};
use haltline_pki::token::{VerifiedToken, VerifyingKeys, parse_and_verify};
use haltline_wire::{
    convert,
    refusal::Refusal,
    token_names,
    v1::{
        self, command_reply::Outcome, command_request::Command as Message,
        credential_service_client::CredentialServiceClient, fleet_service_client::FleetServiceClient,
    },
};
use tonic::Code;

use crate::harness::{Cluster, Person, agent, fleet, kill, random_id, refused};

fn credential() -> CredentialIssue {
    let id = || random_id().0;
    CredentialIssue {
        credential: CredentialId(id()),
        instance: InstanceId(id()),
        grant: GrantId(id()),
        agent: "acme/bot".parse().unwrap(),
        task: "close October".parse().unwrap(),
        scope: vec!["ledger.*".parse().unwrap()],
        audience: None,
        ttl: Some(Millis(60_000)),
    }
}

async fn issue(person: &Person, request: &Request) -> Result<v1::IssueCredentialResponse, Refusal> {
    let Some(Message::IssueCredential(message)) = convert::command_request(0, request).command else {
        panic!()
    };
    refused(CredentialServiceClient::new(person.channel.clone()).issue(message).await)
}

async fn with_a_bot() -> (Cluster, Person) {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    ada.command(fleet("acme")).await.unwrap();
    ada.command(agent("acme/bot")).await.unwrap();
    (cluster, ada)
}

async fn live_instances(person: &Person) -> u64 {
    let get = v1::GetFleetRequest { path: "acme".into() };
    let fleet = FleetServiceClient::new(person.channel.clone()).get_fleet(get).await.unwrap();
    fleet.into_inner().live_instances
}

fn read(cluster: &Cluster, token: &str) -> VerifiedToken {
    let keys = VerifyingKeys::of_bundle(cluster.admin.bundle()).unwrap();
    parse_and_verify(token, &keys).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_recorded_and_its_token_says_what_the_log_says() {
    let (cluster, ada) = with_a_bot().await;
    let asked = credential();
    let request = ada.request(Command::CredentialIssue(asked.clone())).await;
    let answer = issue(&ada, &request).await.unwrap();
    let Some(Outcome::CredentialIssued(issued)) = answer.reply.clone().unwrap().outcome else { panic!() };

    let claims = read(&cluster, &answer.access_token).claims;
    assert_eq!((claims.credential, claims.instance), (asked.credential, asked.instance));
    assert_eq!((claims.lineage.as_slice(), claims.depth()), (&[asked.grant][..], 0));
    assert_eq!((&claims.agent, &claims.task, &claims.scope), (&asked.agent, &asked.task, &asked.scope));
    assert_eq!((claims.index.0, claims.ends.0), (issued.issued.unwrap().index, issued.ends_ms));
    assert_eq!(claims.expires_at.0 - claims.issued_at.0, 60);
    let own = cluster.admin.bundle().cluster();
    claims.check_audience(&[&token_names::enforcers(&own)]).unwrap();
    assert_eq!(claims.issuer.as_str(), token_names::issuer(&own));
    assert!(answer.expires_in_ms <= 60_000 && live_instances(&ada).await == 1);

    // A retry signs again, and says the same.
    assert_eq!(issue(&ada, &request).await.unwrap().access_token, answer.access_token);
    assert_eq!(live_instances(&ada).await, 1);

    // On the pipelined call's way the outcome comes without a token: it is nobody's to keep.
    let text = format!("{:?}", answer.reply);
    assert!(!text.contains(&answer.access_token));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_signed_for_what_was_stopped_meanwhile() {
    let (cluster, ada) = with_a_bot().await;
    let revoked = credential();
    let request = ada.request(Command::CredentialIssue(revoked.clone())).await;
    issue(&ada, &request).await.unwrap();
    let mut client = CredentialServiceClient::new(ada.channel.clone());
    let revoke = Command::Revoke(Revoke {
        target: RevocationTarget::Instance(revoked.instance),
        reason: "leaked".parse().unwrap(),
    });
    let Some(Message::Revoke(message)) = convert::command_request(0, &ada.request(revoke).await).command
    else {
        panic!()
    };
    client.revoke(message).await.unwrap();
    assert_eq!(issue(&ada, &request).await.unwrap_err().reason, "REVOKED");

    let request = ada.request(Command::CredentialIssue(credential())).await;
    issue(&ada, &request).await.unwrap();
    ada.command(kill("agent=acme/bot")).await.unwrap();
    let refusal = issue(&ada, &request).await.unwrap_err();
    assert_eq!((refusal.reason.as_str(), refusal.code), ("KILLED", Code::FailedPrecondition));
    assert_eq!(refusal.metadata["kill"], "kill-1");
    let another = ada.request(Command::CredentialIssue(credential())).await;
    assert_eq!(issue(&ada, &another).await.unwrap_err().reason, "KILLED");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_token_can_hold_never_reaches_the_log() {
    let (cluster, ada) = with_a_bot().await;
    let wide = (0..64).map(|number| format!("{number:0>100}.*").parse().unwrap()).collect();
    let nobody = CredentialIssue { audience: Some("".parse().unwrap()), ..credential() };
    for (issued, field) in [(CredentialIssue { scope: wide, ..credential() }, "scope"), (nobody, "audience")]
    {
        let request = ada.request(Command::CredentialIssue(issued)).await;
        let refusal = issue(&ada, &request).await.unwrap_err();
        assert_eq!((refusal.reason.as_str(), refusal.field()), ("TOKEN_IMPOSSIBLE", Some(field)));
    }
    let long = CredentialIssue { ttl: Some(Millis(u64::MAX)), ..credential() };
    let request = ada.request(Command::CredentialIssue(long)).await;
    let refusal = issue(&ada, &request).await.unwrap_err();
    assert_eq!((refusal.reason.as_str(), refusal.field()), ("CREDENTIAL_TTL", Some("ttl_ms")));
    assert_eq!(live_instances(&ada).await, 0);

    let outward =
        CredentialIssue { audience: Some("https://ledger.example".parse().unwrap()), ..credential() };
    let request = ada.request(Command::CredentialIssue(outward)).await;
    let token = issue(&ada, &request).await.unwrap().access_token;
    assert_eq!(read(&cluster, &token).claims.audience.as_str(), "https://ledger.example");
    cluster.stop().await;
}
