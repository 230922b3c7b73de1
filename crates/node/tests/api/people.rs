//! People: enrolment with a certificate, two signatures, and removal that revokes at once.

use haltline_core::{
    command::{Approve, Caller, Command, PersonAdd, PersonRemove, Request, Role, RoleBinding},
    ids::{ApprovalId, RequestId},
    time::ClusterTime,
};
use haltline_pki::{IssuedPerson, PendingPerson};
use haltline_wire::{
    convert,
    refusal::Refusal,
    v1::{
        self, approval_service_client::ApprovalServiceClient, command_reply::Outcome,
        command_request::Command as Message, person_service_client::PersonServiceClient,
    },
};

use crate::harness::{Cluster, Person, fleet, random_id, refused, until};

fn add(pending: &PendingPerson, role: Role) -> Command {
    let verified = pending.request().verify().unwrap();
    Command::PersonAdd(PersonAdd {
        person: verified.name,
        tls_keys: vec![verified.tls_key],
        signing_key: verified.signing_key,
        roles: vec![RoleBinding { role, path: None }],
    })
}

async fn enrol(
    admin: &Person,
    command: Command,
    certificate_request: String,
) -> Result<v1::EnrolPersonResponse, Refusal> {
    let request = admin.request(command).await;
    let Some(Message::AddPerson(person)) = convert::command_request(0, &request).command else { panic!() };
    let message = v1::EnrolPersonRequest { person: Some(person), certificate_request };
    refused(PersonServiceClient::new(admin.channel.clone()).add_person(message).await)
}

async fn enrolled(cluster: &Cluster, admin: &Person, name: &str, role: Role) -> Person {
    let pending = PendingPerson::create(&name.parse().unwrap()).unwrap();
    let answer = enrol(admin, add(&pending, role), pending.request().to_json()).await.unwrap();
    let issued = IssuedPerson::from_json(&answer.issued_certificate).unwrap();
    Person::connect(pending.complete(&issued).unwrap(), &cluster.endpoint).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_person_ends_bootstrap_and_then_it_takes_two() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let bob = enrolled(&cluster, &ada, "bob", Role::Admin).await;
    assert!(!bob.cluster().await.bootstrap);
    assert_eq!(bob.cluster().await.you, "bob");

    // A third person: one signature makes it wait, and no certificate is issued.
    let pending = PendingPerson::create(&"cyd".parse().unwrap()).unwrap();
    let csr = pending.request().to_json();
    let answer = enrol(&ada, add(&pending, Role::Viewer), csr.clone()).await.unwrap();
    let Some(Outcome::Pending(waiting)) = answer.reply.unwrap().outcome else { panic!() };
    assert_eq!((waiting.needed, waiting.signed, answer.issued_certificate.as_str()), (2, 1, ""));
    let mut people = PersonServiceClient::new(bob.channel.clone());
    let issue = v1::IssueCertificateRequest { certificate_request: csr };
    let refusal = refused(people.issue_certificate(issue.clone()).await).unwrap_err();
    assert_eq!(refusal.reason, "KEYS_NOT_REGISTERED");

    // Bob sees the command itself, and signs exactly that.
    let mut approvals = ApprovalServiceClient::new(bob.channel.clone());
    let get = v1::GetApprovalRequest { approval: waiting.approval };
    let shown = approvals.get_approval(get).await.unwrap().into_inner();
    assert_eq!(shown.summary, "enrol cyd as viewer@/");
    let command = convert::bare_command(shown.command.unwrap().command.unwrap()).unwrap();
    assert_eq!(command, add(&pending, Role::Viewer));
    let theirs = Request {
        id: RequestId(shown.request_id[..].try_into().unwrap()),
        caller: Caller::Person(shown.requester.parse().unwrap()),
        deadline: ClusterTime(shown.deadline_ms),
        signature: None,
        command,
    };
    let now = bob.cluster().await;
    let mut approve = Request {
        id: random_id(),
        caller: bob.id().into(),
        deadline: theirs.deadline,
        signature: Some(bob.sign(&now, &theirs)),
        command: Command::Approve(Approve { approval: ApprovalId(waiting.approval) }),
    };
    let send = |request: &Request| {
        let Some(Message::Approve(message)) = convert::command_request(0, request).command else { panic!() };
        message
    };
    let reply = approvals.approve(send(&approve)).await.unwrap().into_inner();
    let Some(Outcome::Executed(executed)) = reply.outcome else { panic!("{reply:?}") };
    assert!(matches!(executed.outcome.unwrap().outcome, Some(Outcome::PersonStored(_))));
    let issued = people.issue_certificate(issue).await.unwrap().into_inner().issued_certificate;
    let issued = IssuedPerson::from_json(&issued).unwrap();
    let cyd = Person::connect(pending.complete(&issued).unwrap(), &cluster.endpoint).await.unwrap();
    assert_eq!(cyd.command(fleet("acme")).await.unwrap_err().reason, "PERMISSION_DENIED");

    approve.id = random_id();
    let again = refused(approvals.approve(send(&approve)).await).unwrap_err();
    assert_eq!(again.reason, "UNKNOWN_APPROVAL");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_must_be_for_the_person_in_the_command() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let [bob, eve] = ["bob", "eve"].map(|name| PendingPerson::create(&name.parse().unwrap()).unwrap());
    let refusal = enrol(&ada, add(&bob, Role::Admin), eve.request().to_json()).await.unwrap_err();
    assert_eq!(refusal.field(), Some("certificate_request"));
    assert!(refusal.message.contains("another name"), "{refusal}");
    let refusal = enrol(&ada, add(&bob, Role::Admin), "{}".into()).await.unwrap_err();
    assert_eq!(refusal.reason, "CERTIFICATE_REQUEST");
    let people = v1::ListPeopleRequest::default();
    let people = PersonServiceClient::new(ada.channel.clone()).list_people(people).await.unwrap();
    let names: Vec<_> = people.into_inner().people.into_iter().map(|person| person.name).collect();
    assert_eq!(names, ["ada"], "a refused request enrols nobody");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_closes_the_connection_and_the_door() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let bob = enrolled(&cluster, &ada, "bob", Role::Approver).await;
    let cyd = PendingPerson::create(&"cyd".parse().unwrap()).unwrap();
    // Removing takes nothing from anybody else, but too few approvers may not be left.
    let refusal = ada.command(Command::PersonRemove(PersonRemove { person: bob.id() })).await.unwrap_err();
    assert_eq!(refusal.reason, "TOO_FEW_APPROVERS");

    let answer = enrol(&ada, add(&cyd, Role::Approver), cyd.request().to_json()).await.unwrap();
    let Some(Outcome::Pending(waiting)) = answer.reply.unwrap().outcome else { panic!() };
    let mut approvals = ApprovalServiceClient::new(bob.channel.clone());
    let get = v1::GetApprovalRequest { approval: waiting.approval };
    let shown = approvals.get_approval(get).await.unwrap().into_inner();
    let theirs = Request {
        id: RequestId(shown.request_id[..].try_into().unwrap()),
        caller: ada.id().into(),
        deadline: ClusterTime(shown.deadline_ms),
        signature: None,
        command: add(&cyd, Role::Approver),
    };
    let now = bob.cluster().await;
    let approve = v1::ApproveRequest {
        meta: Some(v1::RequestMeta {
            request_id: random_id().0.to_vec(),
            deadline_ms: shown.deadline_ms,
            signature: bob.sign(&now, &theirs).0.to_vec(),
        }),
        approval: waiting.approval,
    };
    approvals.approve(approve).await.unwrap();

    ada.command(Command::PersonRemove(PersonRemove { person: bob.id() })).await.unwrap();
    let failure = until("bob is refused in the handshake", async || {
        Person::connect(bob.identity.clone(), &cluster.endpoint).await.err()
    })
    .await;
    assert_eq!(failure.code(), "tls_own_unregistered");
    let list = v1::ListApprovalsRequest::default();
    until("bob's open connection is closed", async || approvals.list_approvals(list.clone()).await.err())
        .await;
    cluster.stop().await;
}
