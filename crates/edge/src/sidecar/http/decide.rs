//! `POST /v1/decide`: verdicts on one action or on several of one session.
//!
//! The status is 200 whenever the question could be read and decided, also where the verdict is no: a caller goes on only
//! where it reads `"verdict": "permit"`, and nothing else means yes.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode, header::CONTENT_TYPE},
};
use haltline_core::limits::SIDECAR_BATCH_MAX;
use serde::{Deserialize, Serialize};

use super::{
    OwnHeaders,
    error::{HttpError, json},
    read_body,
};
use crate::{
    enforce::{Action, Permit, Session},
    sidecar::{
        answer::{self, Refusal},
        desk::Desk,
        metrics::Surface,
        token_header,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    token: Option<String>,
    action: Option<ActionText>,
    actions: Option<Vec<ActionText>>,
}

/// An action as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionText {
    tool: Option<String>,
    model: Option<String>,
    resource: Option<String>,
    data_class: Option<String>,
}

impl ActionText {
    fn action(&self) -> Action<'_> {
        Action {
            tool: self.tool.as_deref(),
            model: self.model.as_deref(),
            resource: self.resource.as_deref(),
            data_class: self.data_class.as_deref(),
        }
    }
}

/// A verdict as JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(super) enum VerdictText {
    Permit {
        index: u64,
        /// How long the permit is good, from the decision on.
        valid_for_ms: u64,
        /// The permit's end by this machine's CLOCK_BOOTTIME, in ns. As text: it doesn't fit into every language's number.
        until_boottime_ns: String,
    },
    Deny {
        reason: ReasonText,
    },
}

/// Why not, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ReasonText {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kill: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
}

impl From<Refusal> for ReasonText {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, kill, index, .. } = refusal;
        Self { code, message, kill: kill.map(|kill| kill.to_string()), index: index.map(|index| index.0) }
    }
}

impl From<Result<Permit, Refusal>> for VerdictText {
    fn from(answer: Result<Permit, Refusal>) -> Self {
        match answer {
            Ok(permit) => Self::Permit {
                index: permit.index.0,
                valid_for_ms: answer::permit_ms(&permit),
                until_boottime_ns: permit.until.0.to_string(),
            },
            Err(refusal) => Self::Deny { reason: refusal.into() },
        }
    }
}

#[derive(Serialize)]
struct Verdicts {
    verdicts: Vec<VerdictText>,
}

/// The handler.
pub(super) async fn decide(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<Response<Body>, HttpError> {
    let (parts, body) = request.into_parts();
    if !is_json(&parts.headers) {
        return Err(HttpError::ContentType);
    }
    let body = read_body(body).await?;
    let question: Question =
        serde_json::from_slice(&body).map_err(|error| HttpError::Json(error.to_string()))?;
    let (actions, is_batch) = match (question.action, question.actions) {
        (Some(action), None) => (vec![action], false),
        (None, Some(actions)) => (actions, true),
        _ => return Err(HttpError::OneOrMany),
    };
    if actions.is_empty() || actions.len() > SIDECAR_BATCH_MAX {
        return Err(HttpError::BatchSize(actions.len()));
    }
    let session = session(&desk, &parts.headers, question.token.as_deref());
    let mut verdicts: Vec<VerdictText> =
        actions.iter().map(|action| verdict(&desk, &session, &action.action())).collect();
    Ok(match verdicts.pop() {
        Some(only) if !is_batch => json(StatusCode::OK, &only),
        last => {
            verdicts.extend(last);
            json(StatusCode::OK, &Verdicts { verdicts })
        }
    })
}

/// A web page that a browser on this machine shows can't send this without asking first.
fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| essence(value) == "application/json")
}

/// The session of the token in the body, or of the one in the header.
fn session(desk: &Desk, headers: &HeaderMap, token: Option<&str>) -> Result<Session, Refusal> {
    match token {
        Some(token) => desk.session(token),
        None => desk.session(token_header::token(&OwnHeaders(headers), &desk.config)?),
    }
}

fn verdict(desk: &Desk, session: &Result<Session, Refusal>, action: &Action<'_>) -> VerdictText {
    let answer = match session {
        Ok(session) => answer::of_verdict(session.decide(action)),
        Err(refusal) => Err(refusal.clone()),
    };
    desk.metrics.answered(Surface::Http, answer.as_ref().err());
    answer.into()
}
