//! Commands for the tests of this crate.
#![allow(clippy::unwrap_used)]

use haltline_core::{
    command::{Command, FleetCreate, KillCommand, KillMode, Request},
    ids::{PersonId, RequestId},
    policy::{Intent, Limits},
    text::Labels,
    time::ClusterTime,
};

fn request(number: u64, command: Command) -> Request {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Request {
        id: RequestId(id),
        caller: admin().into(),
        deadline: ClusterTime(250_000),
        signature: None,
        command,
    }
}

/// The first person.
pub(crate) fn admin() -> PersonId {
    "ada".parse().unwrap()
}

/// A kill of fleet `f1`.
pub(crate) fn kill(number: u64) -> Request {
    let command = KillCommand {
        selector: "fleet=f1".parse().unwrap(),
        mode: KillMode::Freeze,
        reason: "a test".parse().unwrap(),
        expires_after: None,
    };
    request(number, Command::Kill(command))
}

/// Creates fleet `f<number>`.
pub(crate) fn fleet(number: u64) -> Request {
    let command = FleetCreate {
        path: format!("f{number}").parse().unwrap(),
        labels: Labels::default(),
        owner: "tests".parse().unwrap(),
        contact: "tests@example.com".parse().unwrap(),
        intent: Intent::default(),
        limits: Limits::default(),
    };
    request(number, Command::FleetCreate(command))
}
