//! Stopping takes one person, starting takes two; and it holds across nodes, leaders and retries.

use haltline_core::{
    command::{Approve, Command, PersonAdd, Request, Resume, Role, RoleBinding},
    ids::{ApprovalId, KillId},
    selector::Selector,
};
use haltline_pki::{NodeIdentity, PersonIdentity, Validity};
use haltline_testkit::cluster::{Cluster, Person};
use haltline_wire::{
    convert,
    v1::{self, approval_service_client::ApprovalServiceClient, command_reply::Outcome},
};

use super::{kill_fleet, register_agent, running};

/// Makes and enrols a person with a role at the root, by the word of `sponsor`.
pub(super) async fn enrol(
    cluster: &Cluster,
    sponsor: &Person,
    name: &str,
    role: Role,
) -> (Person, v1::CommandReply) {
    let node = NodeIdentity::load(&cluster.nodes[0].directory.join("identity")).expect("the node's identity");
    let pending = haltline_pki::PendingPerson::create(&name.parse().expect(name)).expect("keys");
    let issued = node
        .issuers()
        .issue_person(pending.request(), Validity::leaf(), node.bundle(), cluster.endpoints())
        .expect("a certificate");
    let identity: PersonIdentity = pending.complete(&issued).expect("the certificate fits the keys");
    let (tls_key, signing_key) = identity.keys();
    let add = PersonAdd {
        person: identity.person().clone(),
        tls_keys: vec![tls_key],
        signing_key,
        roles: vec![RoleBinding { role, path: None }],
    };
    let reply = sponsor.command(0, Command::PersonAdd(add)).await.expect("the command is taken");
    (Person::new(identity, cluster.endpoints()).expect("a TLS configuration"), reply)
}

/// As [`enrol`], once bootstrap has ended: `second` must approve.
pub(super) async fn enrol_with_two(
    cluster: &Cluster,
    sponsor: &Person,
    second: &Person,
    name: &str,
    role: Role,
) -> Person {
    let (person, reply) = enrol(cluster, sponsor, name, role).await;
    let Some(Outcome::Pending(pending)) = reply.outcome else { panic!("{reply:?}") };
    let approval = approve(second, 0, pending.approval).await;
    second.send(0, &approval).await.expect("approved");
    person
}

/// The waiting command as the second person sees it, and that person's approval of it.
async fn approve(person: &Person, node: usize, approval: u64) -> Request {
    let mut approvals = ApprovalServiceClient::new(person.channel(node));
    let waiting =
        approvals.get_approval(v1::GetApprovalRequest { approval }).await.expect("it waits").into_inner();
    let message = waiting.command.expect("it shows the command").command.expect("of some kind");
    let requester = waiting.requester.parse().expect("a person");
    let waiting = convert::request(&requester, message).expect("the command converts back");
    let told = person.cluster(node).await.expect("it answers");
    let mut request = person.request_at(&told, Command::Approve(Approve { approval: ApprovalId(approval) }));
    request.signature = Some(person.sign(&told, &waiting));
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stops_and_two_resume() {
    let (cluster, ada) = running(3).await;
    assert!(ada.cluster(0).await.expect("it answers").bootstrap);
    let (bob, reply) = enrol(&cluster, &ada, "bob", Role::Approver).await;
    assert!(matches!(reply.outcome, Some(Outcome::PersonStored(stored)) if stored.ended_bootstrap));

    let reply = ada.command(1, kill_fleet("acme/load")).await.expect("one person may stop");
    let Some(Outcome::Killed(killed)) = reply.outcome else { panic!("{reply:?}") };
    let resume = Command::Resume(Resume {
        kill: KillId(killed.kill),
        selector: Selector::fleet("acme/load".parse().expect("a path")),
        reason: "the loop is fixed".parse().expect("words"),
    });
    let request = ada.request(2, resume).await.expect("it answers");
    let reply = ada.send(2, &request).await.expect("it waits for another person");
    let Some(Outcome::Pending(pending)) = reply.outcome else { panic!("{reply:?}") };
    assert_eq!((pending.needed, pending.signed), (2, 1));

    // A retry, to another node, gets the first answer; approving one's own request doesn't count.
    let again = ada.send(0, &request).await.expect("answered from memory");
    assert_eq!(again.outcome, Some(Outcome::Pending(pending)));
    let own = approve(&ada, 1, pending.approval).await;
    assert_eq!(ada.send(1, &own).await.expect_err("the same person twice").reason(), Some("ALREADY_SIGNED"));

    let second = approve(&bob, 1, pending.approval).await;
    let reply = bob.send(1, &second).await.expect("the second person");
    let Some(Outcome::Executed(executed)) = reply.outcome else { panic!("{reply:?}") };
    let outcome = executed.outcome.expect("it was carried out").outcome;
    assert!(matches!(outcome, Some(Outcome::Resumed(resumed)) if resumed.kill == killed.kill));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_at_another_node_is_carried_out_once() {
    let (cluster, ada) = running(3).await;
    let request = ada.request(0, register_agent("acme/load/once")).await.expect("it answers");
    let first = ada.send(0, &request).await.expect("registered");
    for node in 0..cluster.nodes.len() {
        let again = ada.send(node, &request).await.expect("answered from memory");
        assert_eq!(again.outcome, first.outcome);
    }
    let anew = ada.command(0, register_agent("acme/load/once")).await.expect_err("the name is taken");
    assert_eq!(anew.reason(), Some("PATH_TAKEN"));
}
