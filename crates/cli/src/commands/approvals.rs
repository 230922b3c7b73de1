//! `haltline approvals` and `haltline approve`.
//!
//! An approver signs what they see: the command is rebuilt from the message by the same conversion that every node uses,
//! shown field by field, and the statement that is signed is made from that very value. What the node says about the
//! command in words is never relied on.

use haltline_core::{
    command::{Command, Signature, Statement},
    ids::{ApprovalId, PersonId, RequestId},
    time::ClusterTime,
};
use haltline_wire::{
    convert,
    v1::{self, approval_service_client::ApprovalServiceClient},
};
use serde_json::{Value, json};

use super::{Session, approve_command, describe, question, resource};
use crate::{
    args::{ApproveArgs, ListArgs},
    client::{Client, ClusterFacts, Signing, all_pages},
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::{Page, counted},
        table::{Table, Tone},
        times,
    },
};

/// A command that waits, rebuilt from what a node sent.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) id: ApprovalId,
    requester: PersonId,
    request_id: RequestId,
    deadline: ClusterTime,
    needed: u32,
    signed_by: Vec<String>,
    created: Option<v1::Stamp>,
    pub(crate) command: Command,
}

impl Waiting {
    fn read(approval: v1::Approval) -> Result<Self, Failure> {
        let unreadable = |error: &dyn std::fmt::Display| resource::unreadable("an approval", error);
        let message = approval
            .command
            .and_then(|command| command.command)
            .ok_or_else(|| unreadable(&"its command is missing"))?;
        let request_id = <[u8; 16]>::try_from(approval.request_id.as_slice())
            .map_err(|_| unreadable(&"its request id isn't 16 bytes long"))?;
        Ok(Self {
            id: ApprovalId(approval.id),
            requester: approval.requester.parse().map_err(|error| unreadable(&error))?,
            request_id: RequestId(request_id),
            deadline: ClusterTime(approval.deadline_ms),
            needed: approval.needed,
            signed_by: approval.signed_by,
            created: approval.created,
            command: convert::bare_command(message).map_err(|error| unreadable(&error))?,
        })
    }

    /// Signs it in the client's name.
    fn sign(&self, client: &Client, facts: &ClusterFacts) -> Signature {
        let statement = Statement {
            cluster_id: facts.id,
            incarnation: facts.incarnation,
            request_id: self.request_id,
            requester: &self.requester,
            deadline: self.deadline,
            command: &self.command,
        };
        Signature(client.identity().signer().sign(&statement.to_bytes()))
    }

    fn missing(&self) -> u64 {
        u64::from(self.needed).saturating_sub(self.signed_by.len() as u64)
    }
}

/// Lists what waits.
pub(super) async fn list(session: &Session, args: ListArgs) -> Result<Exit, Failure> {
    let facts = session.client.facts().await?;
    let listed = all_pages(args.limit, |page_size, page_token| async move {
        let request = v1::ListApprovalsRequest { page_size, page_token };
        let answer = session
            .client
            .call("listing approvals", |channel| {
                let request = request.clone();
                async move { ApprovalServiceClient::new(channel).list_approvals(request).await }
            })
            .await?;
        Ok((answer.approvals, answer.next_page_token))
    })
    .await?;
    let waiting = listed.items.into_iter().map(Waiting::read).collect::<Result<_, _>>()?;
    session.show(&List { waiting, now: facts.now })?;
    session.remark_if_cut(listed.more, args.limit);
    Ok(Exit::Done)
}

/// Shows a command that waits, asks, and signs it.
pub(super) async fn approve(session: &Session, args: &ApproveArgs) -> Result<Exit, Failure> {
    let facts = session.client.facts().await?;
    let waiting = fetch(&session.client, args.approval).await?;
    let mut page = Page::new(session.screen.width, session.screen.error_style);
    Shown { waiting: &waiting, now: facts.now }.page(&mut page);
    eprint!("{}", page.into_text());
    if !args.yes {
        question::confirm("Sign this in your name?", "signing needs a yes")?;
    }
    session.show_done(sign_and_send(&session.client, &facts, &waiting).await?)
}

/// One command that waits.
pub(crate) async fn fetch(client: &Client, approval: ApprovalId) -> Result<Waiting, Failure> {
    let answer = client
        .call("asking for the approval", |channel| async move {
            ApprovalServiceClient::new(channel)
                .get_approval(v1::GetApprovalRequest { approval: approval.0 })
                .await
        })
        .await?;
    let waiting = Waiting::read(answer)?;
    if waiting.id == approval {
        Ok(waiting)
    } else {
        Err(Failure::protocol(format!("asked for {approval}, a node sent {}", waiting.id)))
    }
}

/// Signs a command that waits, and hands the signature in.
pub(crate) async fn sign_and_send(
    client: &Client,
    facts: &ClusterFacts,
    waiting: &Waiting,
) -> Result<v1::CommandReply, Failure> {
    let signature = waiting.sign(client, facts);
    client.submit_as(approve_command(waiting.id), Signing::Given(signature)).await
}

struct List {
    waiting: Vec<Waiting>,
    now: ClusterTime,
}

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table =
            Table::default().word("APPROVAL").text("COMMAND").word("BY").word("SIGNED").word("LAPSES");
        for waiting in &self.waiting {
            let (title, fields) = describe::describe(&waiting.command);
            let subject = fields.first().map(|(_, value)| format!(": {value}")).unwrap_or_default();
            table.row([
                waiting.id.to_string().into(),
                format!("{title}{subject}").into(),
                waiting.requester.as_str().into(),
                format!("{} of {}", waiting.signed_by.len(), waiting.needed).into(),
                times::until(waiting.deadline, self.now).into(),
            ]);
        }
        page.table(&table, "Nothing waits for approval.");
    }

    fn value(&self) -> Value {
        self.waiting.iter().map(value).collect()
    }
}

struct Shown<'a> {
    waiting: &'a Waiting,
    now: ClusterTime,
}

impl Shown<'_> {
    fn page(&self, page: &mut Page) {
        let waiting = self.waiting;
        let (title, fields) = describe::describe(&waiting.command);
        page.toned(format!("{} asks to {title}:", waiting.requester), Tone::Warn);
        page.fields("  ", fields.iter().map(|(name, value)| (name.as_str(), value.clone())));
        page.line(format!(
            "Signed by {} of {}: {}. It needs {} more, and lapses {}.",
            waiting.signed_by.len(),
            waiting.needed,
            waiting.signed_by.join(", "),
            counted(waiting.missing(), "person"),
            times::until(waiting.deadline, self.now)
        ));
    }
}

fn value(waiting: &Waiting) -> Value {
    let (title, fields) = describe::describe(&waiting.command);
    let command: serde_json::Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name.replace(' ', "_"), Value::from(value))).collect();
    json!({
        "id": waiting.id.to_string(),
        "requester": waiting.requester.as_str(),
        "request_id": waiting.request_id.to_string(),
        "deadline_cluster_time_ms": waiting.deadline.0,
        "needed": waiting.needed,
        "signed_by": waiting.signed_by,
        "created": resource::stamp_value(waiting.created.as_ref()),
        "asks_to": title,
        "command": command,
        "command_digest": waiting.command.digest().to_string(),
    })
}
