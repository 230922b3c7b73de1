//! `haltline kill`: what would stop, a question where that is a lot, and the stop.

use haltline_core::{
    command::{Command, KillCommand},
    ids::KillId,
    receipt::SignedReceipt,
    selector::Selector,
    time::Millis,
};
use haltline_wire::v1::{self, kill_service_client::KillServiceClient};
use serde_json::{Value, json};

use super::{
    Session,
    done::{Done, adjusted_name, adjusted_words},
    enforcement::{self, Telling},
    question,
    receipt::Shown,
    resource,
};
use crate::{
    args::{Format, enforcement::WaitFor, kill::KillArgs},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::{Page, counted, grouped},
        table::Tone,
        times,
    },
};

/// Agents beyond which a kill is wide enough to ask.
const WIDE_AGENTS: u64 = 100;

/// Shows or places a kill.
pub(super) async fn run(session: &Session, args: KillArgs) -> Result<Exit, Failure> {
    let selector = args.selector()?;
    selector.check().map_err(|error| Failure::usage(error.to_string()))?;
    let mode = args.kill_mode()?;
    if args.dry_run {
        let radius = preview(&session.client, &selector).await?;
        return session.show(&Radius { radius, asked: selector });
    }
    let Some(reason) = args.reason else {
        return Err(Failure::usage("a kill needs a reason").hint("add --reason \"…\""));
    };
    // Who says --yes at 3 a.m. shall not wait for a second read.
    if !args.yes {
        ask_if_wide(session, &selector).await?;
    }
    let kill = Command::Kill(KillCommand { selector, mode, reason, expires_after: args.expires });
    let done = Done::read(session.client.submit(kill).await?)?;
    match (args.wait, done.kill()) {
        (WaitFor::Enforced, Some(kill)) => wait(session, done, kill).await,
        _ => session.show_outcome(&done),
    }
}

/// Waits for the receipt. People read at once that the kill is in force, programs get one object.
async fn wait(session: &Session, done: Done, kill: KillId) -> Result<Exit, Failure> {
    let for_people = session.screen.format == Format::Table;
    if for_people {
        session.screen.print(&done)?;
    }
    match enforcement::wait(session, kill, Telling::Aside).await {
        Ok(Some(receipt)) if for_people => session.show(&Shown(&receipt)),
        Ok(Some(receipt)) => session.show(&KilledWithReceipt { done: &done, receipt: Some(&receipt) }),
        without => {
            if !for_people {
                session.screen.print(&KilledWithReceipt { done: &done, receipt: None })?;
            }
            Err(without.err().unwrap_or_else(|| enforcement::lifted(kill)))
        }
    }
}

/// A kill's outcome and its receipt, for programs.
struct KilledWithReceipt<'a> {
    done: &'a Done,
    receipt: Option<&'a SignedReceipt>,
}

impl Render for KilledWithReceipt<'_> {
    fn page(&self, page: &mut Page) {
        self.done.page(page);
        if let Some(receipt) = self.receipt {
            Shown(receipt).page(page);
        }
    }

    fn value(&self) -> Value {
        let mut value = self.done.value();
        value["receipt"] = self.receipt.map_or(Value::Null, |receipt| Shown(receipt).value());
        value
    }
}

/// What a kill would stop.
pub(crate) async fn preview(client: &Client, selector: &Selector) -> Result<v1::BlastRadius, Failure> {
    client
        .call("working out what would stop", |channel| {
            let request = v1::PreviewKillRequest { selector: Some(selector.into()) };
            async move { KillServiceClient::new(channel).preview_kill(request).await }
        })
        .await
}

async fn ask_if_wide(session: &Session, selector: &Selector) -> Result<(), Failure> {
    let radius = preview(&session.client, selector).await?;
    let Some(because) = why_wide(selector, &radius) else { return Ok(()) };
    let shown = Radius { radius, asked: selector.clone() };
    let mut page = Page::new(session.screen.width, session.screen.error_style);
    shown.page(&mut page);
    eprint!("{}", page.into_text());
    question::confirm("Stop all of this?", &because)
}

/// Why a person should look twice, if they should.
fn why_wide(asked: &Selector, radius: &v1::BlastRadius) -> Option<String> {
    if radius.adjusted() == v1::killed::Adjusted::WidenedAtTheBound {
        return Some("this kill would be widened".to_owned());
    }
    if asked.fleet.is_none() && asked.agent.is_none() && asked.instance.is_none() && asked.lineage.is_none() {
        return Some("this kill reaches across the whole cluster".to_owned());
    }
    (radius.agents > WIDE_AGENTS).then(|| format!("this kill stops {}", counted(radius.agents, "agent")))
}

/// What a kill would stop, for showing.
struct Radius {
    radius: v1::BlastRadius,
    asked: Selector,
}

impl Render for Radius {
    fn page(&self, page: &mut Page) {
        let radius = &self.radius;
        let stops = resource::selector_text(radius.selector.as_ref());
        page.facts([
            ("asked for", (stops != self.asked.to_string()).then(|| self.asked.to_string())),
            ("would stop", Some(stops)),
            ("which is", Some(share(radius))),
            ("live instances", Some(grouped(radius.live_instances))),
            ("told to", Some(counted(radius.edges, "edge"))),
            ("takes", Some(format!("at most {}", times::exact(Millis(radius.bound_ms))))),
        ]);
        page.sample("fleets", &radius.fleet_sample, radius.fleets);
        page.sample("agents", &radius.agent_sample, radius.agents);
        if radius.partial {
            page.line("Of these agents, only the actions that fit are stopped.");
        }
        if let Some(words) = adjusted_words(radius.adjusted()) {
            page.toned(words, Tone::Warn);
        }
    }

    fn value(&self) -> Value {
        let radius = &self.radius;
        json!({
            "asked": self.asked.to_string(),
            "selector": resource::selector_text(radius.selector.as_ref()),
            "fleets": radius.fleets,
            "agents": radius.agents,
            "fleets_registered": radius.fleets_registered,
            "agents_registered": radius.agents_registered,
            "live_instances": radius.live_instances,
            "edges": radius.edges,
            "max_staleness_ms": radius.max_staleness_ms,
            "bound_ms": radius.bound_ms,
            "fleet_sample": radius.fleet_sample,
            "agent_sample": radius.agent_sample,
            "partial": radius.partial,
            "adjusted": adjusted_name(radius.adjusted()),
        })
    }
}

fn share(radius: &v1::BlastRadius) -> String {
    format!(
        "{} of {}, {} of {}",
        counted(radius.fleets, "fleet"),
        grouped(radius.fleets_registered),
        counted(radius.agents, "agent"),
        grouped(radius.agents_registered)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::Format,
        output::{Screen, style::Style},
    };

    fn radius(agents: u64) -> v1::BlastRadius {
        v1::BlastRadius {
            selector: Some(v1::Selector { fleet: "acme/finance".into(), ..v1::Selector::default() }),
            fleets: 2,
            agents,
            fleet_sample: vec!["acme/finance".into(), "acme/finance/invoice".into()],
            agent_sample: (0..20).map(|number| format!("acme/finance/invoice/agent-{number:02}")).collect(),
            fleets_registered: 6,
            agents_registered: 3_000,
            live_instances: 4_321,
            edges: 12,
            max_staleness_ms: 2_000,
            bound_ms: 2_002,
            ..v1::BlastRadius::default()
        }
    }

    #[test]
    fn wide_is_everything_or_many_or_widened() {
        let fleet: Selector = "fleet=acme/finance".parse().expect("a selector");
        assert_eq!(why_wide(&fleet, &radius(WIDE_AGENTS)), None);
        assert!(why_wide(&fleet, &radius(WIDE_AGENTS + 1)).is_some());
        assert!(why_wide(&Selector::default(), &radius(0)).is_some());
        assert!(why_wide(&"tool=pay.*".parse().expect("a selector"), &radius(1)).is_some());
        assert_eq!(why_wide(&"agent=acme/x/y".parse().expect("a selector"), &radius(1)), None);
        let widened =
            v1::BlastRadius { adjusted: v1::killed::Adjusted::WidenedAtTheBound.into(), ..radius(1) };
        assert!(why_wide(&fleet, &widened).is_some());
    }

    #[test]
    fn a_dry_run_shows_the_radius() {
        let shown = Radius { radius: radius(1_200), asked: "fleet=acme".parse().expect("a selector") };
        let screen =
            |format| Screen { format, width: 78, style: Style::plain(), error_style: Style::plain() };
        insta::assert_snapshot!(screen(Format::Table).rendered(&shown), @r"
        asked for       fleet=acme
        would stop      fleet=acme/finance
        which is        2 fleets of 6, 1,200 agents of 3,000
        live instances  4,321
        told to         12 edges
        takes           at most 2.002 s
        fleets          acme/finance, acme/finance/invoice
        agents          acme/finance/invoice/agent-00, acme/finance/in… and 1,180 more
        ");
        assert!(screen(Format::Json).rendered(&shown).contains("\"agents\": 1200"));
    }
}
