//! `haltline edge token`: secrets that admit one enforcer each.
//!
//! The secret is made here and goes into a file that only its owner can read. The cluster gets a hash of it.

use std::path::{Path, PathBuf};

use haltline_core::{
    command::{Command, EnforcerKind, JoinTokenCreate, JoinTokenDelete},
    ids::ApprovalId,
    limits::JOIN_TOKEN_ENDPOINTS_MAX,
    time::ClusterTime,
};
use haltline_pki::{Endpoint, JoinToken, PkiError};
use haltline_wire::v1::{self, edge_admin_service_client::EdgeAdminServiceClient};
use serde_json::{Value, json};

use super::{
    Done, Session,
    edge::{kind_name, scopes, scopes_text},
    resource,
};
use crate::{
    args::{
        ListArgs,
        enforcers::{TokenCommand, TokenCreateArgs},
    },
    client::all_pages,
    exit::Exit,
    failure::Failure,
    output::{Render, page::Page, table::Table, times, value::hex, write_out},
};

/// The file name that stands for standard output.
const STDOUT: &str = "-";

/// Carries out one of them.
pub(super) async fn run(session: &Session, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create(args) => create(session, args).await,
        TokenCommand::List(args) => list(session, args).await,
        TokenCommand::Delete { token } => {
            session.carry_out(Command::JoinTokenDelete(JoinTokenDelete { token })).await
        }
    }
}

async fn create(session: &Session, args: TokenCreateArgs) -> Result<Exit, Failure> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.join", args.name)));
    let bundle = session.client.identity().bundle();
    let token = JoinToken::generate(bundle, &public_endpoints(session).await?)?;
    // The secret is in safety before the cluster knows of it: a token that waits and nobody has is worse than the reverse.
    let file = if out == Path::new(STDOUT) { None } else { Some(SecretFile::write(&token, &out)?) };
    let done = match session.client.submit(command(&token, args)).await.and_then(Done::read) {
        Ok(done) => done,
        Err(failure) => {
            if failure.exit == Exit::Unreachable {
                // Whether it was carried out isn't known, so the token may yet be good.
                file.into_iter().for_each(SecretFile::keep);
            }
            return Err(failure);
        }
    };
    match file {
        None => {
            write_out(&format!("{}\n", &*token.to_text()))?;
            session.screen.remark(&done.sentence());
        }
        Some(file) => {
            file.keep();
            session.screen.print(&done)?;
            let out = out.display();
            session
                .screen
                .remark(&format!("The token is in {out}: a secret, and whoever shows it first is the edge."));
        }
    }
    if let Some(pending) = done.pending() {
        let approval = ApprovalId(pending.approval);
        session.screen.remark(&format!("It admits nobody before {approval} is approved."));
    }
    Ok(done.exit())
}

/// Where nodes take join tokens.
async fn public_endpoints(session: &Session) -> Result<Vec<Endpoint>, Failure> {
    let cluster = session.client.cluster().await?;
    let endpoint = |node: &v1::Node| node.public_address.parse::<Endpoint>().ok();
    let endpoints: Vec<Endpoint> =
        cluster.nodes.iter().filter_map(endpoint).take(JOIN_TOKEN_ENDPOINTS_MAX).collect();
    if endpoints.is_empty() {
        return Err(Failure::protocol("no node says where it takes join tokens"));
    }
    Ok(endpoints)
}

fn command(token: &JoinToken, args: TokenCreateArgs) -> Command {
    Command::JoinTokenCreate(JoinTokenCreate {
        token: token.id(),
        secret_hash: token.secret_hash(),
        edge: args.name,
        kind: if args.relay { EnforcerKind::Relay } else { EnforcerKind::Edge },
        paths: scopes(args.paths),
        trusted_for_acks: args.trusted_for_acks,
        ttl: args.ttl,
    })
}

/// A token's file, which goes away again unless it is kept.
struct SecretFile<'a>(Option<&'a Path>);

impl<'a> SecretFile<'a> {
    fn write(token: &JoinToken, path: &'a Path) -> Result<Self, Failure> {
        match token.save(path) {
            Ok(()) => Ok(Self(Some(path))),
            Err(PkiError::Exists { .. }) => Err(Failure::usage(format!("{} exists already", path.display()))
                .hint("name another file with --out, or move that one away")),
            Err(error) => Err(error.into()),
        }
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for SecretFile<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // A token that was refused is worth nothing; if its file can't be removed, it is only in the way.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn list(session: &Session, args: ListArgs) -> Result<Exit, Failure> {
    let facts = session.client.facts().await?;
    let listed = all_pages(args.limit, |page_size, page_token| async move {
        let request = v1::ListJoinTokensRequest { page_size, page_token };
        let answer = session
            .client
            .call("listing join tokens", |channel| {
                let request = request.clone();
                async move { EdgeAdminServiceClient::new(channel).list_join_tokens(request).await }
            })
            .await?;
        Ok((answer.join_tokens, answer.next_page_token))
    })
    .await?;
    let mut tokens = listed.items;
    // Their ids are random; the order in which they were made tells more.
    tokens.sort_by_key(|token| token.created.map_or(0, |stamp| stamp.index));
    session.show(&List { tokens, now: facts.now })?;
    session.remark_if_cut(listed.more, args.limit);
    Ok(Exit::Done)
}

struct List {
    tokens: Vec<v1::JoinToken>,
    now: ClusterTime,
}

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table = Table::default()
            .word("TOKEN")
            .text("ADMITS")
            .word("KIND")
            .text("PATHS")
            .word("BY")
            .word("EXPIRES");
        for token in &self.tokens {
            table.row([
                hex(&token.token).into(),
                token.edge.as_str().into(),
                kind_name(token.kind()).into(),
                scopes_text(token.paths.iter().map(String::as_str)).into(),
                token.by.as_str().into(),
                times::until(ClusterTime(token.expires_ms), self.now).into(),
            ]);
        }
        page.table(&table, "No join token waits to be used.");
    }

    fn value(&self) -> Value {
        let value = |token: &v1::JoinToken| {
            json!({
                "token": hex(&token.token),
                "edge": token.edge,
                "kind": kind_name(token.kind()),
                "paths": token.paths.iter().map(|path| scopes_text([path.as_str()])).collect::<Vec<_>>(),
                "trusted_for_acks": token.trusted_for_acks,
                "by": token.by,
                "created": resource::stamp_value(token.created.as_ref()),
                "expires_cluster_time_ms": token.expires_ms,
            })
        };
        self.tokens.iter().map(value).collect()
    }
}
