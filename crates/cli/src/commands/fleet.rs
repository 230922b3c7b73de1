//! `haltline fleet`.

use haltline_core::{
    command::{Command, FleetCreate, FleetDelete, FleetUpdate},
    ids::Version,
    limits::MAX_STALENESS_DEFAULT,
    path::FleetPath,
    policy::{Intent, Limits},
    selector::Pattern,
    text::{Labels, Text},
    time::Millis,
};
use haltline_wire::v1::{self, fleet_service_client::FleetServiceClient};
use serde_json::{Value, json};

use super::{Done, Session, resource, staleness::Staleness};
use crate::{
    args::registry::{FleetArgs, FleetCommand, FleetField, FleetListArgs, FleetUpdateArgs},
    client::{Client, Paged, all_pages},
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::{Page, grouped},
        table::{Cell, Table, Tone},
        times,
    },
};

/// Carries out one of them.
pub(super) async fn run(session: &Session, command: FleetCommand) -> Result<Exit, Failure> {
    match command {
        FleetCommand::Create(args) => session.carry_out(Command::FleetCreate(create(args)?)).await,
        FleetCommand::List(args) => list(session, &args).await,
        FleetCommand::Show { path } => session.show(&Shown(fetch(&session.client, &path).await?)),
        FleetCommand::Update(args) => change(session, args).await,
        FleetCommand::Delete { path } => {
            session.carry_out(Command::FleetDelete(FleetDelete { path, expected_version: None })).await
        }
    }
}

/// Changes a fleet, and says what a change of its staleness costs.
async fn change(session: &Session, args: FleetUpdateArgs) -> Result<Exit, Failure> {
    let path = args.set.path.clone();
    let before = fetch(&session.client, &path).await?;
    let staleness = staleness(&session.client, &args, &before).await?;
    let update = update(args, before)?;
    let done = Done::read(session.client.submit(Command::FleetUpdate(update)).await?)?;
    session.screen.print(&done)?;
    for remark in staleness.iter().flat_map(|change| change.remarks(&path, done.pending().is_some())) {
        session.screen.remark(&remark);
    }
    Ok(done.exit())
}

/// The effective `max_staleness` before and after, if the command line names it.
async fn staleness(
    client: &Client,
    args: &FleetUpdateArgs,
    fleet: &v1::Fleet,
) -> Result<Option<Staleness>, Failure> {
    let effective = |fleet: &v1::Fleet| {
        let limits = fleet.effective_limits.unwrap_or_default();
        limits.max_staleness_ms.map_or(MAX_STALENESS_DEFAULT, Millis)
    };
    let after = match (args.set.max_staleness, args.clear.contains(&FleetField::MaxStaleness)) {
        (Some(named), _) => named,
        (None, false) => return Ok(None),
        (None, true) => match args.set.path.parent() {
            Some(parent) => effective(&fetch(client, &parent).await?),
            None => MAX_STALENESS_DEFAULT,
        },
    };
    Ok(Some(Staleness { before: effective(fleet), after }))
}

fn create(args: FleetArgs) -> Result<FleetCreate, Failure> {
    let list = |patterns: Vec<Pattern>| (!patterns.is_empty()).then_some(patterns);
    Ok(FleetCreate {
        path: args.path,
        labels: resource::labels(args.labels)?,
        owner: args.owner.unwrap_or_default(),
        contact: args.contact.unwrap_or_default(),
        intent: Intent {
            purpose: args.purpose.unwrap_or_default(),
            tools: list(args.tools),
            resources: list(args.resources),
            models: list(args.models),
            data_classes: list(args.data_classes),
        },
        limits: Limits {
            max_staleness: args.max_staleness,
            credential_ttl: args.credential_ttl,
            delegation_depth: args.delegation_depth,
            instances: args.instances,
        },
    })
}

/// The fleet as it is, with what was named laid over it; bound to the version that was looked at.
fn update(args: FleetUpdateArgs, before: v1::Fleet) -> Result<FleetUpdate, Failure> {
    let FleetUpdateArgs { set, clear } = args;
    let mut intent = Intent::try_from(before.intent.unwrap_or_default())
        .map_err(|error| resource::unreadable("an intent", &error))?;
    let mut limits = Limits::from(before.limits.unwrap_or_default());
    let mut labels =
        Labels::from_pairs(&before.labels).map_err(|error| resource::unreadable("labels", &error))?;
    let (intent_before, limits_before, labels_before) = (intent.clone(), limits, labels.clone());
    for field in clear {
        match field {
            FleetField::Labels => labels = Labels::none(),
            FleetField::Tools => intent.tools = None,
            FleetField::Resources => intent.resources = None,
            FleetField::Models => intent.models = None,
            FleetField::DataClasses => intent.data_classes = None,
            FleetField::MaxStaleness => limits.max_staleness = None,
            FleetField::CredentialTtl => limits.credential_ttl = None,
            FleetField::DelegationDepth => limits.delegation_depth = None,
            FleetField::Instances => limits.instances = None,
        }
    }
    let wanted = create(set)?;
    let lists = [
        (&mut intent.tools, wanted.intent.tools),
        (&mut intent.resources, wanted.intent.resources),
        (&mut intent.models, wanted.intent.models),
        (&mut intent.data_classes, wanted.intent.data_classes),
    ];
    for (list, wanted) in lists {
        if wanted.is_some() {
            *list = wanted;
        }
    }
    if !wanted.intent.purpose.as_str().is_empty() {
        intent.purpose = wanted.intent.purpose;
    }
    limits.max_staleness = wanted.limits.max_staleness.or(limits.max_staleness);
    limits.credential_ttl = wanted.limits.credential_ttl.or(limits.credential_ttl);
    limits.delegation_depth = wanted.limits.delegation_depth.or(limits.delegation_depth);
    limits.instances = wanted.limits.instances.or(limits.instances);
    let labels = labels.overlaid(&wanted.labels);
    let given =
        |text: Text, before: &str| (!text.as_str().is_empty() && text.as_str() != before).then_some(text);
    let update = FleetUpdate {
        path: wanted.path,
        expected_version: Some(Version(before.version)),
        labels: (labels != labels_before).then_some(labels),
        owner: given(wanted.owner, &before.owner),
        contact: given(wanted.contact, &before.contact),
        intent: (intent != intent_before).then_some(intent),
        limits: (limits != limits_before).then_some(limits),
    };
    let unchanged = update.labels.is_none()
        && update.owner.is_none()
        && update.contact.is_none()
        && update.intent.is_none()
        && update.limits.is_none();
    if unchanged {
        return Err(Failure::usage(format!("nothing would change in fleet {}", update.path))
            .hint("`haltline fleet update --help` lists what can be changed"));
    }
    Ok(update)
}

async fn fetch(client: &Client, path: &FleetPath) -> Result<v1::Fleet, Failure> {
    client
        .call("asking for the fleet", |channel| async move {
            let path = path.to_string();
            FleetServiceClient::new(channel).get_fleet(v1::GetFleetRequest { path }).await
        })
        .await
}

async fn list(session: &Session, args: &FleetListArgs) -> Result<Exit, Failure> {
    let under = args.under.as_ref().map(ToString::to_string).unwrap_or_default();
    let listed = all(&session.client, &under, args.list.limit).await?;
    session.show(&List(listed.items))?;
    session.remark_if_cut(listed.more, args.list.limit);
    Ok(Exit::Done)
}

/// Fleets in order.
pub(crate) async fn all(client: &Client, under: &str, limit: u32) -> Result<Paged<v1::Fleet>, Failure> {
    all_pages(limit, |page_size, page_token| async move {
        let request = v1::ListFleetsRequest { under: under.to_owned(), page_size, page_token };
        let answer = client
            .call("listing fleets", |channel| {
                let request = request.clone();
                async move { FleetServiceClient::new(channel).list_fleets(request).await }
            })
            .await?;
        Ok((answer.fleets, answer.next_page_token))
    })
    .await
}

struct List(Vec<v1::Fleet>);

impl Render for List {
    fn page(&self, page: &mut Page) {
        let mut table =
            Table::default().text("FLEET").number("AGENTS").word("STATE").text("OWNER").text("LABELS");
        for fleet in &self.0 {
            table.row([
                fleet.path.as_str().into(),
                grouped(fleet.agents).into(),
                state_cell(&fleet.stopped_by),
                fleet.owner.as_str().into(),
                resource::labels_text(&fleet.labels).into(),
            ]);
        }
        page.table(&table, "There are no fleets.");
    }

    fn value(&self) -> Value {
        self.0.iter().map(value).collect()
    }
}

/// Running, or by what it is stopped.
pub(super) fn state_cell(stopped_by: &[u64]) -> Cell {
    match stopped_by {
        [] => Cell::toned("running", Tone::Good),
        [one] => Cell::toned(resource::kills_text(&[*one]), Tone::Bad),
        [first, rest @ ..] => {
            Cell::toned(format!("{} +{}", resource::kills_text(&[*first]), rest.len()), Tone::Bad)
        }
    }
}

struct Shown(v1::Fleet);

impl Render for Shown {
    fn page(&self, page: &mut Page) {
        let fleet = &self.0;
        let intent = fleet.intent.clone().unwrap_or_default();
        let list = |list: &Option<v1::PatternList>| match list {
            None => "any".to_owned(),
            Some(list) if list.patterns.is_empty() => "none".to_owned(),
            Some(list) => list.patterns.join(", "),
        };
        let limits = |limits: &Option<v1::Limits>| limits.as_ref().map(resource::limits_text);
        page.facts([
            ("fleet", Some(fleet.path.clone())),
            ("labels", Some(resource::labels_text(&fleet.labels))),
            ("owner", Some(fleet.owner.clone())),
            ("contact", Some(fleet.contact.clone())),
            ("purpose", Some(intent.purpose.clone())),
            ("tools", Some(list(&intent.tools))),
            ("resources", Some(list(&intent.resources))),
            ("models", Some(list(&intent.models))),
            ("data classes", Some(list(&intent.data_classes))),
            ("own limits", limits(&fleet.limits)),
            ("limits in effect", limits(&fleet.effective_limits)),
            ("agents", Some(grouped(fleet.agents))),
            ("live instances", Some(grouped(fleet.live_instances))),
            ("a kill takes", Some(format!("at most {}", times::exact(Millis(fleet.kill_bound_ms))))),
            ("version", Some(fleet.version.to_string())),
            ("created", Some(resource::moment(fleet.created.as_ref()))),
            ("changed", Some(resource::moment(fleet.updated.as_ref()))),
        ]);
        stopped(page, &fleet.stopped_by);
    }

    fn value(&self) -> Value {
        value(&self.0)
    }
}

/// Says whether something runs.
pub(super) fn stopped(page: &mut Page, stopped_by: &[u64]) {
    if stopped_by.is_empty() {
        page.toned("Running: no kill in force stops all of it.", Tone::Good);
    } else {
        page.toned(format!("Stopped by {}.", resource::kills_text(stopped_by)), Tone::Bad);
    }
}

fn value(fleet: &v1::Fleet) -> Value {
    json!({
        "path": fleet.path,
        "labels": resource::labels_value(&fleet.labels),
        "owner": fleet.owner,
        "contact": fleet.contact,
        "intent": resource::intent_value(fleet.intent.as_ref()),
        "limits": resource::limits_value(fleet.limits.as_ref()),
        "effective_limits": resource::limits_value(fleet.effective_limits.as_ref()),
        "agents": fleet.agents,
        "live_instances": fleet.live_instances,
        "kill_bound_ms": fleet.kill_bound_ms,
        "stopped_by": resource::kills_value(&fleet.stopped_by),
        "version": fleet.version,
        "created": resource::stamp_value(fleet.created.as_ref()),
        "updated": resource::stamp_value(fleet.updated.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn update_args(arguments: &[&str]) -> FleetUpdateArgs {
        let command = ["haltline", "fleet", "update", "acme/finance"].iter().chain(arguments);
        match crate::args::Cli::try_parse_from(command).expect("valid arguments").command {
            crate::args::Command::Fleet(FleetCommand::Update(args)) => args,
            other => unreachable!("parsed as {other:?}"),
        }
    }

    fn before() -> v1::Fleet {
        v1::Fleet {
            path: "acme/finance".into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            limits: Some(v1::Limits { instances: Some(5), ..v1::Limits::default() }),
            version: 4,
            ..v1::Fleet::default()
        }
    }

    #[test]
    fn an_update_changes_what_is_named_and_is_bound_to_what_was_seen() {
        let args = update_args(&["--label", "tier=1", "--clear", "instances", "--tool", "ledger.*"]);
        let update = update(args, before()).expect("an update");
        assert_eq!(update.expected_version, Some(Version(4)));
        assert_eq!(update.labels.expect("labels").to_string(), "env=prod,tier=1");
        assert_eq!(update.limits, Some(Limits::default()));
        assert_eq!(update.intent.expect("an intent").tools.expect("tools").len(), 1);
        assert_eq!(update.owner, None);
    }

    #[test]
    fn an_update_of_nothing_is_a_mistake() {
        let failure = update(update_args(&["--label", "env=prod"]), before()).expect_err("no change");
        assert_eq!(failure.exit, Exit::Usage);
    }
}
