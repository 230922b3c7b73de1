//! `haltline events`: what happens, in the order of the log.
//!
//! A watch that breaks goes on at another node, from the entry after the last one seen whole; events of that entry that
//! were shown already aren't shown twice.

use std::time::Duration;

use haltline_core::time::WallTime;
use haltline_wire::{
    refusal::Refusal,
    v1::{self, cluster_service_client::ClusterServiceClient},
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::{Session, resource};
use crate::{
    args::EventsArgs,
    exit::Exit,
    failure::Failure,
    output::{Render, page::Page, times, value::hex},
};

/// Without `--follow`: silence after which nothing more is expected.
const QUIET: Duration = Duration::from_millis(700);
/// Between two watches.
const PAUSE: Duration = Duration::from_millis(300);

/// Shows events.
pub(super) async fn run(session: &Session, args: &EventsArgs) -> Result<Exit, Failure> {
    let mut seen = Seen { from: args.from.map_or(u64::from(!args.follow), |from| from.0), last: None };
    loop {
        let mut stream = watch(session, seen.from).await?;
        match pump(session, args.follow, &mut stream, &mut seen).await? {
            Ended::Quiet => return Ok(Exit::Done),
            Ended::Broken(_) if !args.follow => return Ok(Exit::Done),
            Ended::Broken(why) => {
                session.screen.remark(&format!("The watch broke ({why}); going on at another node."));
                session.client.prefer_next();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How far the events were shown.
struct Seen {
    from: u64,
    last: Option<(u64, u32)>,
}

impl Seen {
    /// Whether an event is new; remembers it.
    fn is_new(&mut self, index: u64, position: u32) -> bool {
        if self.last.is_some_and(|last| (index, position) <= last) {
            return false;
        }
        self.last = Some((index, position));
        self.from = index;
        true
    }
}

enum Ended {
    Quiet,
    Broken(String),
}

async fn watch(session: &Session, from_index: u64) -> Result<Streaming<v1::Event>, Failure> {
    session
        .client
        .call("watching events", |channel| async move {
            ClusterServiceClient::new(channel).watch_events(v1::WatchEventsRequest { from_index }).await
        })
        .await
}

async fn pump(
    session: &Session,
    follow: bool,
    stream: &mut Streaming<v1::Event>,
    seen: &mut Seen,
) -> Result<Ended, Failure> {
    loop {
        let next = if follow {
            stream.message().await
        } else {
            match timeout(QUIET, stream.message()).await {
                Ok(next) => next,
                Err(_) => return Ok(Ended::Quiet),
            }
        };
        match next {
            Ok(Some(event)) => {
                let index = event.stamp.map_or(0, |stamp| stamp.index);
                if seen.is_new(index, event.position) {
                    session.screen.print_item(&Shown(event))?;
                }
            }
            Ok(None) => return Ok(Ended::Broken("the node closed it".to_owned())),
            Err(status) if is_lasting(status.code()) => {
                return Err(Failure::refused(&Refusal::from_status(&status)));
            }
            Err(status) => return Ok(Ended::Broken(Refusal::from_status(&status).message)),
        }
    }
}

/// Whether another node would say the same.
const fn is_lasting(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

struct Shown(v1::Event);

impl Render for Shown {
    fn page(&self, page: &mut Page) {
        let event = &self.0;
        let stamp = event.stamp.unwrap_or_default();
        let by = if event.by.is_empty() { "(by itself)" } else { &event.by };
        page.line(format!(
            "{}  {:>8}  {by:<12}  {}",
            times::wall(WallTime(stamp.wall_time_ms)),
            stamp.index,
            event.summary
        ));
    }

    fn value(&self) -> Value {
        let event = &self.0;
        json!({
            "stamp": resource::stamp_value(event.stamp.as_ref()),
            "position": event.position,
            "by": event.by,
            "kind": event.kind,
            "subject": event.subject,
            "summary": event.summary,
            "event_seq": event.event_seq,
            "chain_head": hex(&event.chain_head),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_goes_on_repeats_nothing() {
        let mut seen = Seen { from: 1, last: None };
        let shown: Vec<bool> =
            [(5, 0), (5, 1), (5, 0), (5, 1), (5, 2), (6, 0)].map(|(i, p)| seen.is_new(i, p)).into();
        assert_eq!(shown, [true, true, false, false, true, true]);
        assert_eq!(seen.from, 6);
    }
}
