//! The pipelined command stream.

use std::collections::BTreeMap;

use haltline_core::command::Request;
use haltline_wire::{
    convert,
    refusal::Refusal,
    v1::{self, command_reply::Outcome, command_service_client::CommandServiceClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{Cluster, Person, agent, fleet, kill, random_id};

struct Pipe {
    send: Option<mpsc::Sender<v1::CommandRequest>>,
    replies: tonic::Streaming<v1::CommandReply>,
}

async fn open(person: &Person) -> Pipe {
    let (send, receive) = mpsc::channel(16);
    let mut client = CommandServiceClient::new(person.channel.clone());
    let replies = client.stream(ReceiverStream::new(receive)).await.unwrap().into_inner();
    Pipe { send: Some(send), replies }
}

impl Pipe {
    async fn all_replies(&mut self) -> BTreeMap<u64, v1::CommandReply> {
        let mut replies = BTreeMap::new();
        while let Some(reply) = self.replies.message().await.unwrap() {
            assert!(replies.insert(reply.sequence, reply).is_none(), "one reply a command");
        }
        replies
    }
}

async fn unsigned(person: &Person, template: &Request, command: haltline_core::command::Command) -> Request {
    Request { id: random_id(), caller: person.id().into(), signature: None, command, ..template.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_commands_and_each_gets_its_reply() {
    // Few in flight, so that back-pressure and look-ahead have work.
    let cluster = Cluster::start_with(|config| config.in_flight_per_stream_max = 64).await;
    let ada = cluster.ada().await;
    ada.command(fleet("acme")).await.unwrap();
    let template = ada.request(fleet("acme/x")).await;
    let mut pipe = open(&ada).await;
    let send = pipe.send.take().unwrap();
    let requests = {
        let mut requests = Vec::new();
        for number in 0..3_000_u64 {
            let command =
                if number == 2_000 { kill("fleet=acme") } else { agent(&format!("acme/agent-{number}")) };
            requests.push(convert::command_request(number, &unsigned(&ada, &template, command).await));
        }
        requests
    };
    let writer = tokio::spawn(async move {
        for request in requests {
            send.send(request).await.unwrap();
        }
    });
    let replies = pipe.all_replies().await;
    writer.await.unwrap();
    assert_eq!(replies.len(), 3_000);
    for (sequence, reply) in &replies {
        match reply.outcome.as_ref().unwrap() {
            Outcome::Killed(_) => assert_eq!(*sequence, 2_000),
            Outcome::Stored(stored) => assert_eq!(stored.path, format!("acme/agent-{sequence}")),
            other => panic!("{sequence}: {other:?}"),
        }
    }
    let (_, page) = cluster.get("/metrics").await.unwrap();
    let counted = "haltline_commands_total{command=\"agent_register\",result=\"ok\"} 2999";
    assert!(page.contains(counted), "{page}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_command_is_refused_alone() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let template = ada.request(fleet("acme")).await;
    let mut pipe = open(&ada).await;
    let send = pipe.send.take().unwrap();
    send.send(v1::CommandRequest { sequence: 1, command: None }).await.unwrap();
    let mut wrong = convert::command_request(2, &template);
    if let Some(v1::command_request::Command::CreateFleet(create)) = &mut wrong.command {
        create.fleet.as_mut().unwrap().path = "Acme".into();
    }
    send.send(wrong).await.unwrap();
    send.send(convert::command_request(3, &template)).await.unwrap();
    drop(send);
    let mut replies = pipe.all_replies().await;
    let mut refusal = |sequence| match replies.remove(&sequence).unwrap().outcome.unwrap() {
        Outcome::Refusal(refusal) => Refusal::from_message(refusal),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(1).field(), Some("command"));
    assert_eq!(refusal(2).field(), Some("fleet.path"));
    assert!(matches!(replies[&3].outcome, Some(Outcome::Stored(_))));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_node_ends_streams_with_a_reason() {
    let cluster = Cluster::start().await;
    let ada = cluster.ada().await;
    let template = ada.request(fleet("acme")).await;
    let mut pipe = open(&ada).await;
    let send = pipe.send.take().unwrap();
    send.send(convert::command_request(1, &template)).await.unwrap();
    assert!(pipe.replies.message().await.unwrap().is_some());
    cluster.stop().await;
    let status = pipe.replies.message().await.unwrap_err();
    assert_eq!(Refusal::from_status(&status).reason, "STOPPING");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_overtakes_what_was_sent_before_it() {
    let cluster = Cluster::start_with(|config| config.in_flight_per_stream_max = 1).await;
    let ada = cluster.ada().await;
    ada.command(fleet("acme")).await.unwrap();
    let template = ada.request(fleet("acme/x")).await;
    let mut messages = Vec::new();
    for number in 0..800 {
        let register = unsigned(&ada, &template, agent(&format!("acme/agent-{number}"))).await;
        messages.push(convert::command_request(number, &register));
    }
    messages.push(convert::command_request(800, &unsigned(&ada, &template, kill("fleet=acme")).await));
    let mut client = CommandServiceClient::new(ada.channel.clone());
    let replies = client.stream(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let replies = Pipe { send: None, replies }.all_replies().await;
    let index = |sequence: u64| replies[&sequence].stamp.unwrap().index;
    assert_eq!(replies.len(), 801);
    assert!(
        index(800) < index(799),
        "the kill was decided at {}, the last registration at {}",
        index(800),
        index(799)
    );
    cluster.stop().await;
}
