//! What is wrong with a request to the sidecar itself, as JSON with a stable code.

use axum::{
    body::Body,
    http::{Response, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use haltline_core::limits::{SIDECAR_BATCH_MAX, SIDECAR_BODY_BYTES_MAX, SIDECAR_REQUEST_TIMEOUT};
use serde::Serialize;

use crate::sidecar::answer::{Kind, Refusal};

/// Why there is no answer to the question.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("there is no such path; /v1/decide, /v1/halted, /healthz, /readyz and /metrics are served")]
    NoSuchPath,
    #[error("this path doesn't have this method; /v1/decide takes POST, /v1/halted takes GET")]
    Method,
    #[error("the body must be JSON, and say so: `content-type: application/json`")]
    ContentType,
    #[error("the body is larger than {SIDECAR_BODY_BYTES_MAX} bytes, or broke off")]
    TooLarge,
    #[error("the body didn't arrive within {} ms", SIDECAR_REQUEST_TIMEOUT.0)]
    TooSlow,
    #[error(
        "the body isn't as expected: {0}; expected {{\"action\": {{\"tool\": \"…\", \"model\": \"…\", \"resource\": \"…\", \
         \"data_class\": \"…\"}}}}, or \"actions\" with a list of such, and \"token\" where no header carries it"
    )]
    Json(String),
    #[error("one of `action` and `actions` is needed, not both")]
    OneOrMany,
    #[error("`actions` must have 1 to {SIDECAR_BATCH_MAX} elements, and has {0}")]
    BatchSize(usize),
    #[error("{}", .0.message)]
    Refused(Refusal),
}

impl HttpError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Json(_) | Self::OneOrMany | Self::BatchSize(_) => StatusCode::BAD_REQUEST,
            Self::Refused(refusal) => match refusal.kind {
                Kind::Token => StatusCode::UNAUTHORIZED,
                Kind::Denied => StatusCode::FORBIDDEN,
                Kind::Ignorant => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    }

    /// Stable, for programs.
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchPath => "NO_SUCH_PATH",
            Self::Method => "METHOD_NOT_ALLOWED",
            Self::ContentType => "NOT_JSON",
            Self::TooLarge => "TOO_LARGE",
            Self::TooSlow => "TOO_SLOW",
            Self::Json(_) => "BAD_JSON",
            Self::OneOrMany => "ONE_OR_MANY",
            Self::BatchSize(_) => "BATCH_SIZE",
            Self::Refused(refusal) => refusal.code,
        }
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response<Body> {
        #[derive(Serialize)]
        struct Told {
            error: Error,
        }
        #[derive(Serialize)]
        struct Error {
            code: &'static str,
            message: String,
        }
        let told = Told { error: Error { code: self.code(), message: self.to_string() } };
        json(self.status(), &told)
    }
}

/// A response of JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(value).expect("texts and numbers are always JSON");
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}
