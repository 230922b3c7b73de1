//! `haltline revocations`.

use haltline_core::{command::RevocationTarget, time::ClusterTime};
use haltline_wire::v1::{self, credential_service_client::CredentialServiceClient};
use serde_json::{Value, json};

use super::{Session, describe, resource};
use crate::{
    args::ListArgs,
    client::all_pages,
    exit::Exit,
    failure::Failure,
    output::{Render, page::Page, table::Table, times},
};

/// Lists what is revoked.
pub(super) async fn list(session: &Session, args: ListArgs) -> Result<Exit, Failure> {
    let facts = session.client.facts().await?;
    let listed = all_pages(args.limit, |page_size, page_token| async move {
        let request = v1::ListRevocationsRequest { page_size, page_token };
        let answer = session
            .client
            .call("listing revocations", |channel| {
                let request = request.clone();
                async move { CredentialServiceClient::new(channel).list_revocations(request).await }
            })
            .await?;
        Ok((answer.revocations, answer.next_page_token))
    })
    .await?;
    let rows = listed.items.into_iter().map(Row::read).collect::<Result<_, _>>()?;
    session.show(&List { rows, now: facts.now })?;
    session.remark_if_cut(listed.more, args.limit);
    Ok(Exit::Done)
}

struct Row {
    target: RevocationTarget,
    revocation: v1::Revocation,
}

impl Row {
    fn read(mut revocation: v1::Revocation) -> Result<Self, Failure> {
        let target = RevocationTarget::try_from(revocation.target.take().unwrap_or_default())
            .map_err(|error| resource::unreadable("a revocation", &error))?;
        Ok(Self { target, revocation })
    }
}

struct List {
    rows: Vec<Row>,
    now: ClusterTime,
}

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table =
            Table::default().text("REVOKED").word("BY").word("PLACED").word("KEPT").text("REASON");
        for Row { target, revocation } in &self.rows {
            table.row([
                describe::target_text(target).into(),
                revocation.by.as_str().into(),
                resource::moment(revocation.placed.as_ref()).into(),
                times::kept(ClusterTime(revocation.ends_ms), self.now).into(),
                revocation.reason.as_str().into(),
            ]);
        }
        page.table(&table, "Nothing is revoked.");
    }

    fn value(&self) -> Value {
        let row = |Row { target, revocation }: &Row| {
            json!({
                "target": describe::target_text(target),
                "reason": revocation.reason,
                "by": revocation.by,
                "placed": resource::stamp_value(revocation.placed.as_ref()),
                "ends_cluster_time_ms": revocation.ends_ms,
            })
        };
        self.rows.iter().map(row).collect()
    }
}
