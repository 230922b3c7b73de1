//! `haltline kill --wait enforced` and `haltline enforcement watch`: from a kill in the log to the proof that it landed.
//!
//! A wait that breaks goes on at another node; what was proven to one node is proven to all.

use std::{collections::BTreeMap, time::Duration};

use haltline_core::{ids::KillId, receipt::SignedReceipt, time::Millis};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, EnforcementState, enforcement_service_client::EnforcementServiceClient},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::{Code, Streaming};

use super::{Session, receipt::Shown, resource};
use crate::{
    args::enforcement::EnforcementCommand,
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::{Page, counted},
        progress::Progress,
        table::Tone,
        times,
    },
};

/// Between two waits.
const PAUSE: Duration = Duration::from_millis(200);
/// Names in one line of progress.
const NAMES_SHOWN: usize = 3;

/// Carries a verb out.
pub(super) async fn run(session: &Session, command: EnforcementCommand) -> Result<Exit, Failure> {
    let EnforcementCommand::Watch(args) = command;
    match args.kill {
        Some(kill) => match wait(session, kill, Telling::Lines).await? {
            Some(receipt) => session.show(&Shown(&receipt)),
            None => Err(lifted(kill)),
        },
        None => watch_all(session).await,
    }
}

/// How a wait is told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// A line that renews itself, on standard error.
    Aside,
    /// Each step as output of its own.
    Lines,
}

/// Waits for a kill's receipt. `None`: the kill was lifted before it was enforced everywhere.
pub(super) async fn wait(
    session: &Session,
    kill: KillId,
    telling: Telling,
) -> Result<Option<SignedReceipt>, Failure> {
    let mut aside = Progress::begin();
    let tell = |progress: v1::EnforcementProgress| match telling {
        Telling::Lines => session.screen.print_item(&Step(progress)),
        Telling::Aside => {
            aside.tell(&waiting_words(&progress));
            Ok(())
        }
    };
    follow(&session.client, kill, tell).await
}

/// Follows a kill to its receipt, telling each step before it. `None`: the kill was lifted.
pub(crate) async fn follow(
    client: &Client,
    kill: KillId,
    mut tell: impl FnMut(v1::EnforcementProgress) -> Result<(), Failure>,
) -> Result<Option<SignedReceipt>, Failure> {
    let mut heard = Instant::now();
    loop {
        let call = client.call("waiting until the kill is enforced", |channel| async move {
            EnforcementServiceClient::new(channel)
                .wait_enforced(v1::WaitEnforcedRequest { kill: kill.0 })
                .await
        });
        let mut stream = call.await?;
        while let Some(progress) = next(&mut stream).await? {
            heard = Instant::now();
            match progress.state() {
                EnforcementState::Enforced => return receipt(progress, kill).map(Some),
                EnforcementState::Lifted => return Ok(None),
                _ => tell(progress)?,
            }
        }
        if heard.elapsed() > client.patience() {
            let message = format!("no node says any more how far {kill} is; it is in force all the same");
            return Err(Failure::new(Exit::Unreachable, "WAIT_BROKE", message)
                .hint(format!("take the wait up again with `haltline enforcement watch {kill}`")));
        }
        client.prefer_next();
        tokio::time::sleep(PAUSE).await;
    }
}

/// What `--wait enforced` says where there is nothing left to prove.
pub(super) fn lifted(kill: KillId) -> Failure {
    let message = format!("{kill} was lifted before it was enforced everywhere, so there is no receipt");
    Failure::new(Exit::Refused, "KILL_LIFTED", message)
}

/// The next message; `None` if the stream broke in a way that another node may mend.
async fn next(
    stream: &mut Streaming<v1::EnforcementProgress>,
) -> Result<Option<v1::EnforcementProgress>, Failure> {
    match stream.message().await {
        Ok(progress) => Ok(progress),
        Err(status) => match status.code() {
            Code::NotFound | Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => {
                Err(Failure::refused(&Refusal::from_status(&status)))
            }
            _ => Ok(None),
        },
    }
}

fn receipt(progress: v1::EnforcementProgress, kill: KillId) -> Result<SignedReceipt, Failure> {
    let none = || Failure::protocol(format!("a node says that {kill} is enforced, and has no receipt"));
    let signed = SignedReceipt::try_from(progress.receipt.ok_or_else(none)?)
        .map_err(|error| resource::unreadable("a receipt", &error))?;
    if signed.receipt.kill == kill {
        Ok(signed)
    } else {
        let other = signed.receipt.kill;
        Err(Failure::protocol(format!("asked for the receipt of {kill}, a node sent that of {other}")))
    }
}

async fn watch_all(session: &Session) -> Result<Exit, Failure> {
    let mut told: BTreeMap<u64, i32> = BTreeMap::new();
    loop {
        let call = session.client.call("watching enforcement", |channel| async move {
            EnforcementServiceClient::new(channel)
                .watch_enforcement(v1::WatchEnforcementRequest { kill: 0 })
                .await
        });
        let mut stream = call.await?;
        while let Some(progress) = next(&mut stream).await? {
            // A kill that ended before a break isn't told twice.
            let over = progress.state() != EnforcementState::Waiting;
            if over && told.insert(progress.kill, progress.state) == Some(progress.state) {
                continue;
            }
            session.screen.print_item(&Step(progress))?;
        }
        session.screen.remark("The watch broke; going on at another node.");
        session.client.prefer_next();
        tokio::time::sleep(PAUSE).await;
    }
}

/// How far a kill is, in a line.
fn waiting_words(progress: &v1::EnforcementProgress) -> String {
    let acked = counted(progress.enforcers_acked, "enforcer");
    let mut words = format!("in force in the log; {acked} acknowledged");
    if progress.enforcers_waiting > 0 {
        words.push_str(&format!(", {} to come{}", progress.enforcers_waiting, names(progress)));
    }
    let silent: Vec<String> = progress
        .members
        .iter()
        .filter(|member| member.state() == v1::MemberState::Unreachable)
        .map(|member| member.node.to_string())
        .collect();
    if !silent.is_empty() {
        words.push_str(&format!("; not heard of node {}", silent.join(", ")));
    }
    words.push_str(&format!("; enforced in {} at most", times::exact(Millis(progress.at_most_ms))));
    words
}

fn names(progress: &v1::EnforcementProgress) -> String {
    let shown = progress.lagging.iter().take(NAMES_SHOWN).map(|one| one.name.as_str());
    let shown: Vec<&str> = shown.collect();
    match shown.as_slice() {
        [] => String::new(),
        _ if progress.enforcers_waiting > shown.len() as u64 => format!(" ({}, …)", shown.join(", ")),
        _ => format!(" ({})", shown.join(", ")),
    }
}

/// One message of a watch.
struct Step(v1::EnforcementProgress);

impl Render for Step {
    fn page(&self, page: &mut Page) {
        let progress = &self.0;
        let kill = KillId(progress.kill);
        match progress.state() {
            EnforcementState::Enforced => {
                let took = times::exact(Millis(progress.elapsed_ms));
                let how = match progress.receipt.as_ref().and_then(|signed| signed.receipt.as_ref()) {
                    Some(receipt) if receipt.rule() == v1::EnforcementRule::Fenced => "by waiting it out",
                    _ => "by acknowledgement",
                };
                page.toned(format!("{kill} is enforced after {took}, {how}."), Tone::Good);
            }
            EnforcementState::Lifted => page.line(format!("{kill} was lifted before it was enforced.")),
            _ => page.line(format!("{kill}: {}", waiting_words(progress))),
        }
    }

    fn value(&self) -> Value {
        let progress = &self.0;
        let lagging = progress
            .lagging
            .iter()
            .map(|one| json!({ "name": one.name, "node": one.node, "lease_left_ms": one.lease_left_ms }));
        let members = progress.members.iter().map(|member| {
            json!({ "node": member.node, "state": short(member.state().as_str_name(), "MEMBER_STATE_") })
        });
        json!({
            "kill": KillId(progress.kill).to_string(),
            "index": progress.index,
            "state": short(progress.state().as_str_name(), "ENFORCEMENT_STATE_"),
            "elapsed_ms": progress.elapsed_ms,
            "at_most_ms": progress.at_most_ms,
            "enforcers_acked": progress.enforcers_acked,
            "enforcers_waiting": progress.enforcers_waiting,
            "lagging": lagging.collect::<Vec<_>>(),
            "members": members.collect::<Vec<_>>(),
        })
    }
}

fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> v1::EnforcementProgress {
        v1::EnforcementProgress {
            kill: 7,
            state: EnforcementState::Waiting.into(),
            at_most_ms: 1_400,
            enforcers_acked: 11,
            enforcers_waiting: 2,
            lagging: vec![v1::LaggingEnforcer { name: "eu-gate".into(), ..Default::default() }],
            members: vec![
                v1::MemberProgress { node: 1, state: v1::MemberState::Clear.into() },
                v1::MemberProgress { node: 3, state: v1::MemberState::Unreachable.into() },
            ],
            ..v1::EnforcementProgress::default()
        }
    }

    #[test]
    fn a_wait_says_who_is_missing_and_for_how_long_at_most() {
        assert_eq!(
            waiting_words(&progress()),
            "in force in the log; 11 enforcers acknowledged, 2 to come (eu-gate, …); not heard of node 3; enforced in \
             1.4 s at most"
        );
    }

    #[test]
    fn programs_get_short_names() {
        let value = Step(progress()).value();
        assert_eq!(
            (&value["state"], &value["members"][1]["state"]),
            (&json!("waiting"), &json!("unreachable"))
        );
    }

    #[test]
    fn an_end_without_a_receipt_is_no_end() {
        assert_eq!(receipt(progress(), KillId(7)).expect_err("no receipt").exit, Exit::Refused);
    }
}
