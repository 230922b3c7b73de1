//! `haltline agent`.

use std::collections::BTreeMap;

use haltline_core::command::{AgentDelete, AgentRegister, AgentUpdate, Command};
use haltline_wire::v1::{self, fleet_service_client::FleetServiceClient};
use serde_json::{Value, json};

use super::{Session, agent_token, fleet, resource};
use crate::{
    args::registry::{AgentCommand, AgentListArgs},
    client::{Client, Paged, all_pages},
    exit::Exit,
    failure::Failure,
    output::{Render, page::Page, table::Table},
};

/// Carries out one of them.
pub(super) async fn run(session: &Session, command: AgentCommand) -> Result<Exit, Failure> {
    match command {
        AgentCommand::Register(args) => {
            let labels = resource::labels(args.labels)?;
            session.carry_out(Command::AgentRegister(AgentRegister { path: args.path, labels })).await
        }
        AgentCommand::List(args) => list(session, args).await,
        AgentCommand::Show { path } => {
            let agent = session
                .client
                .call("asking for the agent", |channel| {
                    let request = v1::GetAgentRequest { path: path.to_string() };
                    async move { FleetServiceClient::new(channel).get_agent(request).await }
                })
                .await?;
            session.show(&Shown(agent))
        }
        AgentCommand::Update(args) => {
            let labels = resource::labels(args.labels)?;
            let update = AgentUpdate { path: args.path, labels, expected_version: None };
            session.carry_out(Command::AgentUpdate(update)).await
        }
        AgentCommand::Delete { path } => {
            session.carry_out(Command::AgentDelete(AgentDelete { path, expected_version: None })).await
        }
        AgentCommand::Token(args) => agent_token::run(session, args).await,
    }
}

async fn list(session: &Session, args: AgentListArgs) -> Result<Exit, Failure> {
    let under = args.under.as_ref().map(ToString::to_string).unwrap_or_default();
    let labels: BTreeMap<String, String> = args.labels.into_iter().collect();
    let listed = all(&session.client, &under, &labels, args.list.limit).await?;
    session.show(&List(listed.items))?;
    session.remark_if_cut(listed.more, args.list.limit);
    Ok(Exit::Done)
}

/// Agents in order.
pub(crate) async fn all(
    client: &Client,
    under: &str,
    labels: &BTreeMap<String, String>,
    limit: u32,
) -> Result<Paged<v1::Agent>, Failure> {
    all_pages(limit, |page_size, page_token| async move {
        let (under, labels) = (under.to_owned(), labels.clone());
        let request = v1::ListAgentsRequest { under, labels, page_size, page_token };
        let answer = client
            .call("listing agents", |channel| {
                let request = request.clone();
                async move { FleetServiceClient::new(channel).list_agents(request).await }
            })
            .await?;
        Ok((answer.agents, answer.next_page_token))
    })
    .await
}

struct List(Vec<v1::Agent>);

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table = Table::default().text("AGENT").word("STATE").text("LABELS");
        for agent in &self.0 {
            table.row([
                agent.path.as_str().into(),
                fleet::state_cell(&agent.stopped_by),
                resource::labels_text(&agent.effective_labels).into(),
            ]);
        }
        page.table(&table, "There are no such agents.");
    }

    fn value(&self) -> Value {
        self.0.iter().map(value).collect()
    }
}

struct Shown(v1::Agent);

impl Render for Shown {
    fn page(&self, page: &mut Page) {
        let agent = &self.0;
        page.facts([
            ("agent", Some(agent.path.clone())),
            ("own labels", Some(resource::labels_text(&agent.labels))),
            ("labels in effect", Some(resource::labels_text(&agent.effective_labels))),
            ("version", Some(agent.version.to_string())),
            ("registered", Some(resource::moment(agent.registered.as_ref()))),
        ]);
        fleet::stopped(page, &agent.stopped_by);
    }

    fn value(&self) -> Value {
        value(&self.0)
    }
}

fn value(agent: &v1::Agent) -> Value {
    json!({
        "path": agent.path,
        "labels": resource::labels_value(&agent.labels),
        "effective_labels": resource::labels_value(&agent.effective_labels),
        "stopped_by": resource::kills_value(&agent.stopped_by),
        "version": agent.version,
        "registered": resource::stamp_value(agent.registered.as_ref()),
    })
}
