//! `haltline edge update`, `haltline edge remove` and `haltline edges`.

use std::{cell::RefCell, collections::BTreeSet};

use haltline_core::{
    command::{Command, EdgeRemove, EdgeUpdate},
    state::Scope,
    time::Millis,
};
use haltline_wire::v1::{self, edge_admin_service_client::EdgeAdminServiceClient};
use serde_json::{Value, json};

use super::{Session, edge_token, resource, sidecar};
use crate::{
    args::{
        Global, ListArgs,
        enforcers::{EdgeCommand, EdgeUpdateArgs, ScopeArg},
    },
    client::{Client, all_pages},
    exit::Exit,
    failure::Failure,
    output::{
        Render, Screen,
        page::{Page, grouped},
        table::{Cell, Table, Tone},
        times,
    },
};

/// Carries out what stands below `haltline edge`. An edge itself needs no person's identity.
pub(super) async fn run(command: EdgeCommand, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    let open = || Session::open(global, screen);
    match command {
        EdgeCommand::Run(args) => sidecar::run(&args).await,
        EdgeCommand::Enrol(args) => sidecar::enrol_edge(&args, screen).await,
        EdgeCommand::Token(command) => edge_token::run(&open()?, command).await,
        EdgeCommand::Update(args) => open()?.carry_out(Command::EdgeUpdate(update(args))).await,
        EdgeCommand::Remove { name } => {
            open()?.carry_out(Command::EdgeRemove(EdgeRemove { edge: name })).await
        }
    }
}

fn update(args: EdgeUpdateArgs) -> EdgeUpdate {
    EdgeUpdate {
        edge: args.name,
        paths: (!args.paths.is_empty()).then(|| scopes(args.paths)),
        trusted_for_acks: args.trusted_for_acks,
        fails_open: args.fails_open,
    }
}

/// Subtrees as they were typed.
pub(super) fn scopes(paths: Vec<ScopeArg>) -> Vec<Scope> {
    paths.into_iter().map(|ScopeArg(scope)| scope).collect()
}

/// Subtrees for people; the whole tree is `/`.
pub(super) fn scopes_text<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    let shown = |path: &'a str| if path.is_empty() { "/" } else { path };
    paths.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Lists enforcers with how each stands.
pub(super) async fn list(session: &Session, args: ListArgs) -> Result<Exit, Failure> {
    let listed = all(&session.client, args.limit).await?;
    session.show(&listed.list)?;
    session.remark_if_cut(listed.more, args.limit);
    if !listed.list.nodes_not_asked.is_empty() {
        let nodes = listed.list.nodes_not_asked.iter().map(ToString::to_string).collect::<Vec<_>>();
        session.screen.remark(&format!(
            "Not asked, for it can't be reached: node {}. An edge without a node may be connected there.",
            nodes.join(", ")
        ));
    }
    Ok(Exit::Done)
}

struct Listed {
    list: List,
    more: bool,
}

async fn all(client: &Client, limit: u32) -> Result<Listed, Failure> {
    let nodes_not_asked = RefCell::new(BTreeSet::new());
    let paged = all_pages(limit, |page_size, page_token| {
        let nodes_not_asked = &nodes_not_asked;
        async move {
            let request = v1::ListEdgesRequest { page_size, page_token, registry_only: false };
            let answer = client
                .call("listing edges", |channel| {
                    let request = request.clone();
                    async move { EdgeAdminServiceClient::new(channel).list_edges(request).await }
                })
                .await?;
            nodes_not_asked.borrow_mut().extend(answer.nodes_not_asked);
            Ok((answer.edges, answer.next_page_token))
        }
    })
    .await?;
    let nodes_not_asked = nodes_not_asked.into_inner().into_iter().collect();
    Ok(Listed { list: List { edges: paged.items, nodes_not_asked }, more: paged.more })
}

struct List {
    edges: Vec<v1::Edge>,
    nodes_not_asked: Vec<u64>,
}

/// What a kind is called.
pub(super) const fn kind_name(kind: v1::EnforcerKind) -> &'static str {
    match kind {
        v1::EnforcerKind::Unspecified => "unknown",
        v1::EnforcerKind::Edge => "edge",
        v1::EnforcerKind::Relay => "relay",
    }
}

fn state_name(live: Option<&v1::EdgeStream>) -> &'static str {
    let Some(live) = live else { return "away" };
    match live.state() {
        v1::EdgeStreamState::Current => "current",
        v1::EdgeStreamState::Lagging => "lagging",
        v1::EdgeStreamState::NoLease => "no lease",
        v1::EdgeStreamState::Closed => "closed",
        v1::EdgeStreamState::Unspecified => "unknown",
    }
}

fn state_cell(live: Option<&v1::EdgeStream>) -> Cell {
    let tone = match state_name(live) {
        "current" => Tone::Good,
        "lagging" | "closed" => Tone::Warn,
        "no lease" => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell::toned(state_name(live), tone)
}

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table = Table::default()
            .text("EDGE")
            .word("KIND")
            .word("STATE")
            .word("NODE")
            .number("INDEX")
            .number("LAG")
            .word("LEASE")
            .word("VERSION")
            .text("REGION")
            .text("PATHS");
        for edge in &self.edges {
            let live = edge.live.as_ref();
            let text = |part: fn(&v1::EdgeStream) -> String| live.map(part).unwrap_or_default();
            table.row([
                edge.name.as_str().into(),
                kind_name(edge.kind()).into(),
                state_cell(live),
                text(|live| live.node.to_string()).into(),
                text(|live| grouped(live.acked_index)).into(),
                text(|live| grouped(live.lag_entries)).into(),
                text(|live| lease_text(live.lease_left_ms)).into(),
                text(|live| live.version.clone()).into(),
                text(|live| live.region.clone()).into(),
                scopes_text(edge.paths.iter().map(String::as_str)).into(),
            ]);
        }
        page.table(&table, "There are no edges: `haltline edge token create` makes a token that admits one.");
    }

    fn value(&self) -> Value {
        json!({
            "edges": self.edges.iter().map(value).collect::<Vec<_>>(),
            "nodes_not_asked": self.nodes_not_asked,
        })
    }
}

fn lease_text(left_ms: u64) -> String {
    if left_ms == 0 { "none".to_owned() } else { times::exact(Millis(left_ms)) }
}

fn value(edge: &v1::Edge) -> Value {
    let live = |live: &v1::EdgeStream| {
        json!({
            "node": live.node,
            "acked_index": live.acked_index,
            "granted_index": live.granted_index,
            "lag_entries": live.lag_entries,
            "lease_left_ms": live.lease_left_ms,
            "connected_ms": live.connected_ms,
            "version": live.version,
            "region": live.region,
        })
    };
    json!({
        "name": edge.name,
        "kind": kind_name(edge.kind()),
        "state": state_name(edge.live.as_ref()),
        "live": edge.live.as_ref().map(live),
        "paths": edge.paths.iter().map(|path| scopes_text([path.as_str()])).collect::<Vec<_>>(),
        "trusted_for_acks": edge.trusted_for_acks,
        "fails_open": edge.fails_open,
        "key": crate::output::value::hex(&edge.key),
        "version": edge.version,
        "enrolled": resource::stamp_value(edge.enrolled.as_ref()),
        "updated": resource::stamp_value(edge.updated.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::Format,
        output::{Screen, style::Style},
    };

    fn edge(name: &str, live: Option<v1::EdgeStream>) -> v1::Edge {
        v1::Edge {
            name: name.into(),
            kind: v1::EnforcerKind::Edge.into(),
            paths: vec!["acme/finance".into(), String::new()],
            live,
            ..v1::Edge::default()
        }
    }

    fn stream(state: v1::EdgeStreamState, lag_entries: u64, lease_left_ms: u64) -> v1::EdgeStream {
        v1::EdgeStream {
            state: state.into(),
            node: 2,
            acked_index: 4_096,
            lag_entries,
            lease_left_ms,
            version: "0.1.0".into(),
            region: "eu-west".into(),
            ..v1::EdgeStream::default()
        }
    }

    #[test]
    fn edges_show_how_they_stand() {
        let list = List {
            edges: vec![
                edge("away", None),
                edge("good", Some(stream(v1::EdgeStreamState::Current, 0, 1_900))),
                edge("late", Some(stream(v1::EdgeStreamState::Lagging, 1_234, 300))),
                edge("mute", Some(stream(v1::EdgeStreamState::NoLease, 9, 0))),
            ],
            nodes_not_asked: vec![3],
        };
        let screen =
            |format| Screen { format, width: 110, style: Style::plain(), error_style: Style::plain() };
        insta::assert_snapshot!(screen(Format::Table).rendered(&list), @r"
        EDGE  KIND  STATE     NODE  INDEX    LAG  LEASE  VERSION  REGION   PATHS
        away  edge  away                                                   acme/finance, /
        good  edge  current   2     4,096      0  1.9 s  0.1.0    eu-west  acme/finance, /
        late  edge  lagging   2     4,096  1,234  0.3 s  0.1.0    eu-west  acme/finance, /
        mute  edge  no lease  2     4,096      9  none   0.1.0    eu-west  acme/finance, /
        ");
        let json: Value = serde_json::from_str(&screen(Format::Json).rendered(&list)).expect("JSON");
        assert_eq!(json["edges"][2]["state"], "lagging");
        assert_eq!(json["edges"][0]["live"], Value::Null);
        assert_eq!(json["edges"][0]["paths"], json!(["acme/finance", "/"]));
        assert_eq!(json["nodes_not_asked"], json!([3]));
    }
}
