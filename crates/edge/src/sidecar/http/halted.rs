//! `GET /v1/halted`: a stream of server-sent events by which a caller learns at once that its session must stop.
//!
//! ```text
//! event: watching      the session is good, and watched from now on
//! event: stale         this enforcer's view is too old: nothing is permitted until `fresh`
//! event: fresh         the view is fresh again
//! event: halted        stop; `data` says why. The stream ends
//! event: closing       the sidecar stops, and watches no longer. The stream ends
//! ```
//!
//! What must stay true: a caller that reads the stream's end, or nothing for two keepalives, is no longer watched, and
//! asks again before it goes on.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, header},
    response::IntoResponse,
};
use haltline_core::limits::{SIDECAR_HALT_KEEPALIVE, SIDECAR_RECHECK_INTERVAL};
use serde::Serialize;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{OwnHeaders, decide::ReasonText, error::HttpError};
use crate::{
    enforce::{Action, Session},
    sidecar::{
        answer::{self, Kind, Refusal},
        desk::Desk,
        token_header,
    },
};

/// The handler.
pub(super) async fn halted(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
) -> Result<Response<Body>, HttpError> {
    let session = desk.session(token_header::token(&OwnHeaders(&headers), &desk.config)?)?;
    let slot = desk.slot_to_hear()?;
    let watch = Watch { desk, session, phase: Phase::Opening, told: Instant::now(), _slot: slot };
    let events = futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(events)).into_response())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Fresh,
    Stale,
    Over,
}

/// One caller that waits.
struct Watch {
    desk: Arc<Desk>,
    session: Session,
    phase: Phase,
    /// When something was last sent.
    told: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        let event = match self.phase {
            Phase::Over => return None,
            Phase::Opening => {
                self.phase = Phase::Fresh;
                event("watching", &serde_json::Map::new())
            }
            Phase::Fresh | Phase::Stale => self.wait().await,
        };
        self.told = Instant::now();
        Some(event)
    }

    async fn wait(&mut self) -> Bytes {
        let interval = Duration::from_millis(SIDECAR_RECHECK_INTERVAL.0);
        let keepalive = Duration::from_millis(SIDECAR_HALT_KEEPALIVE.0);
        loop {
            if let Some(event) = self.look() {
                return event;
            }
            if self.told.elapsed() >= keepalive {
                return Bytes::from_static(b": still watching\n\n");
            }
            tokio::select! {
                denial = self.session.halted() => return self.over(Refusal::from(&denial)),
                () = self.desk.draining.cancelled() => {
                    self.phase = Phase::Over;
                    return event("closing", &serde_json::Map::new());
                }
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// What has changed about the session as such, whatever it does.
    fn look(&mut self) -> Option<Bytes> {
        let refusal = answer::of_verdict(self.session.decide(&Action::default())).err();
        match (self.phase, refusal) {
            (Phase::Fresh, Some(refusal)) if refusal.kind == Kind::Ignorant => {
                self.phase = Phase::Stale;
                Some(event("stale", &ReasonText::from(refusal)))
            }
            (Phase::Stale, Some(refusal)) if refusal.kind == Kind::Ignorant => None,
            (Phase::Stale, _) => {
                self.phase = Phase::Fresh;
                Some(event("fresh", &serde_json::Map::new()))
            }
            (_, Some(refusal)) if refusal.kind == Kind::Token => Some(self.over(refusal)),
            _ => None,
        }
    }

    fn over(&mut self, refusal: Refusal) -> Bytes {
        self.phase = Phase::Over;
        event("halted", &ReasonText::from(refusal))
    }
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("texts and numbers are always JSON");
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}
