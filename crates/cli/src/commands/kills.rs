//! `haltline kills`.

use haltline_core::{
    ids::KillId,
    time::{ClusterTime, Millis},
};
use haltline_wire::v1::{self, kill_service_client::KillServiceClient};
use serde_json::{Value, json};

use super::{Session, resource};
use crate::{
    args::kill::{KillsArgs, KillsCommand},
    client::{Client, all_pages},
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::Page,
        table::{Cell, Table, Tone},
        times,
    },
};

/// Lists kills, or shows one.
pub(super) async fn run(session: &Session, args: KillsArgs) -> Result<Exit, Failure> {
    if let Some(KillsCommand::Show { kill }) = args.command {
        let facts = session.client.facts().await?;
        let kill = fetch(&session.client, kill).await?;
        return session.show(&Shown { kill, now: facts.now });
    }
    let facts = session.client.facts().await?;
    let listed = all_pages(args.list.limit, |page_size, page_token| async move {
        let request = v1::ListKillsRequest { include_lifted: args.all, page_size, page_token };
        let answer = session
            .client
            .call("listing kills", |channel| {
                let request = request.clone();
                async move { KillServiceClient::new(channel).list_kills(request).await }
            })
            .await?;
        Ok((answer.kills, answer.next_page_token))
    })
    .await?;
    session.show(&List { kills: listed.items, now: facts.now, with_lifted: args.all })?;
    session.remark_if_cut(listed.more, args.list.limit);
    Ok(Exit::Done)
}

/// One kill.
pub(crate) async fn fetch(client: &Client, kill: KillId) -> Result<v1::Kill, Failure> {
    client
        .call("asking for the kill", |channel| async move {
            KillServiceClient::new(channel).get_kill(v1::GetKillRequest { kill: kill.0 }).await
        })
        .await
}

struct List {
    kills: Vec<v1::Kill>,
    now: ClusterTime,
    with_lifted: bool,
}

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table = Table::default()
            .word("KILL")
            .text("STOPS")
            .word("STATE")
            .word("BY")
            .word("PLACED")
            .text("REASON");
        for kill in &self.kills {
            table.row([
                KillId(kill.id).to_string().into(),
                resource::selector_text(kill.selector.as_ref()).into(),
                state(kill, self.now),
                kill.by.as_str().into(),
                resource::moment(kill.placed.as_ref()).into(),
                kill.reason.as_str().into(),
            ]);
        }
        let none =
            if self.with_lifted { "There are no kills." } else { "Nothing is stopped: no kill is in force." };
        page.table(&table, none);
    }

    fn value(&self) -> Value {
        self.kills.iter().map(value).collect()
    }
}

struct Shown {
    kill: v1::Kill,
    now: ClusterTime,
}

impl Render for Shown {
    fn page(&self, page: &mut Page) {
        let kill = &self.kill;
        let ends = |ms: u64| (ms != 0).then(|| times::until(ClusterTime(ms), self.now));
        page.facts([
            ("kill", Some(KillId(kill.id).to_string())),
            ("stops", Some(resource::selector_text(kill.selector.as_ref()))),
            ("mode", Some(mode_name(kill.mode()).to_owned())),
            ("reason", Some(kill.reason.clone())),
            ("placed by", Some(kill.by.clone())),
            ("placed", Some(resource::moment(kill.placed.as_ref()))),
            ("log index", kill.placed.as_ref().map(|stamp| stamp.index.to_string())),
            ("drain ends", ends(kill.drain_ends_ms)),
            ("expires", ends(kill.expires_ms)),
            ("lifted", kill.lifted.as_ref().map(|stamp| resource::moment(Some(stamp)))),
            ("lifted by", Some(kill.lifted_by.clone())),
            ("because", Some(kill.lift_reason.clone())),
            ("enforced", kill.has_receipt.then(|| format!("haltline receipt show {}", KillId(kill.id)))),
        ]);
        if kill.lifted.is_none() {
            page.toned(
                format!("In force. To lift it: haltline resume {} --reason \"…\"", KillId(kill.id)),
                Tone::Bad,
            );
        } else {
            page.toned("Lifted.", Tone::Good);
        }
    }

    fn value(&self) -> Value {
        value(&self.kill)
    }
}

fn state(kill: &v1::Kill, now: ClusterTime) -> Cell {
    if kill.lifted.is_some() {
        return Cell::toned("lifted", Tone::Good);
    }
    let is_draining =
        kill.mode() == v1::KillMode::Drain && ClusterTime(kill.drain_ends_ms).since(now) > Millis(0);
    if is_draining { Cell::toned("draining", Tone::Warn) } else { Cell::toned("stopped", Tone::Bad) }
}

const fn mode_name(mode: v1::KillMode) -> &'static str {
    match mode {
        v1::KillMode::Unspecified => "unknown",
        v1::KillMode::Drain => "drain",
        v1::KillMode::Freeze => "freeze",
        v1::KillMode::Terminate => "terminate",
    }
}

fn value(kill: &v1::Kill) -> Value {
    let time = |ms: u64| if ms == 0 { Value::Null } else { ms.into() };
    json!({
        "id": KillId(kill.id).to_string(),
        "selector": resource::selector_text(kill.selector.as_ref()),
        "mode": mode_name(kill.mode()),
        "reason": kill.reason,
        "by": kill.by,
        "placed": resource::stamp_value(kill.placed.as_ref()),
        "drain_ends_cluster_time_ms": time(kill.drain_ends_ms),
        "expires_cluster_time_ms": time(kill.expires_ms),
        "lifted": resource::stamp_value(kill.lifted.as_ref()),
        "lifted_by": kill.lifted_by,
        "lift_reason": kill.lift_reason,
        "has_receipt": kill.has_receipt,
    })
}
