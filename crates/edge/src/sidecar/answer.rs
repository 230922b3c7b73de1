//! What is answered to whoever asks, over whichever protocol: a permit, or a refusal with a stable code.
//!
//! What must stay true: everything that isn't a permit of [`crate::enforce::Session::decide`] is a refusal.

use haltline_core::{
    ids::{KillId, LogIndex},
    limits::SIDECAR_WATCHED_MAX,
};

use super::action_rules::NoAction;
use crate::enforce::{Denial, DenyReason, Permit, SessionRefused, Verdict};

/// The header that says under which entry of the log the decision was made.
pub(crate) const INDEX_HEADER: &str = "x-haltline-index";
/// The header that says until when a permit is good, in nanoseconds of this machine's CLOCK_BOOTTIME.
pub(crate) const UNTIL_HEADER: &str = "x-haltline-permit-until";
/// The header that says for how many milliseconds a permit is good.
pub(crate) const PERMIT_MS_HEADER: &str = "x-haltline-permit-ms";
/// The header that carries the code of a refusal.
pub(crate) const REASON_HEADER: &str = "x-haltline-reason";
/// The header that names the kill behind a refusal.
pub(crate) const KILL_HEADER: &str = "x-haltline-kill";

/// Of what kind a refusal is, which is what HTTP's status tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No token, or none that is good; another one might be. 401.
    Token,
    /// Known, and not allowed. 403.
    Denied,
    /// This enforcer doesn't know enough at the moment. 503.
    Ignorant,
}

impl Kind {
    /// The status.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Token => 401,
            Self::Denied => 403,
            Self::Ignorant => 503,
        }
    }
}

/// A no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) message: String,
    pub(crate) kill: Option<KillId>,
    pub(crate) index: Option<LogIndex>,
}

impl Refusal {
    fn plain(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), kill: None, index: None }
    }

    /// The request carries no token.
    pub(crate) fn no_token(header: &str) -> Self {
        Self::plain(Kind::Token, "NO_TOKEN", format!("the request has no token in `{header}`"))
    }

    /// What is in the token's header is none, or it came several times.
    pub(crate) fn bad_token_header(header: &str) -> Self {
        let message = format!("`{header}` must come once, and carry the scheme and one token");
        Self::plain(Kind::Token, "BAD_TOKEN_HEADER", message)
    }

    /// Envoy's message lacks what a decision needs.
    pub(crate) fn malformed(what: &str) -> Self {
        Self::plain(Kind::Denied, "MALFORMED", format!("the proxy's message lacks {what}"))
    }

    /// Too many streams are watched already.
    pub(crate) fn full() -> Self {
        let message = format!("{SIDECAR_WATCHED_MAX} streams are watched already, and no more can be");
        Self::plain(Kind::Ignorant, "TOO_MANY_STREAMS", message)
    }

    /// The token can't be judged by an enforcer that hasn't heard from the cluster of late.
    pub(crate) fn not_ready(why: &str) -> Self {
        Self::plain(Kind::Ignorant, "NOT_READY", format!("the token can't be judged: {why}"))
    }

    /// The sidecar stops.
    pub(crate) fn stopping() -> Self {
        Self::plain(
            Kind::Ignorant,
            "STOPPING",
            "the sidecar is stopping, and could no longer stop this stream",
        )
    }
}

impl From<NoAction> for Refusal {
    fn from(none: NoAction) -> Self {
        Self::plain(Kind::Denied, none.code(), none.to_string())
    }
}

impl From<&SessionRefused> for Refusal {
    fn from(refused: &SessionRefused) -> Self {
        let (code, message) = (refused.code(), refused.to_string());
        match refused {
            SessionRefused::Token(_) => Self::plain(Kind::Token, code, message),
            SessionRefused::Denied(denial) => Self::from(denial),
            SessionRefused::Draining { kill, .. } => {
                Self { kill: Some(*kill), ..Self::plain(Kind::Denied, code, message) }
            }
            SessionRefused::TooManySessions => Self::plain(Kind::Ignorant, code, message),
        }
    }
}

impl From<&Denial> for Refusal {
    fn from(denial: &Denial) -> Self {
        let kind = match &denial.reason {
            reason if reason.is_own_ignorance() => Kind::Ignorant,
            DenyReason::CredentialEnded { .. } | DenyReason::OtherIncarnation { .. } => Kind::Token,
            _ => Kind::Denied,
        };
        let kill = match denial.reason {
            DenyReason::Killed { kill, .. } | DenyReason::Terminated { kill, .. } => Some(kill),
            _ => None,
        };
        let message = denial.reason.to_string();
        Self { kind, code: denial.code(), message, kill, index: Some(denial.index) }
    }
}

/// The answer that a verdict is.
pub(crate) fn of_verdict(verdict: Verdict) -> Result<Permit, Refusal> {
    match verdict {
        Verdict::Permit(permit) => Ok(permit),
        Verdict::Deny(denial) => Err(Refusal::from(&denial)),
    }
}

/// For how long a permit is good, in whole milliseconds, rounded down.
pub(crate) const fn permit_ms(permit: &Permit) -> u64 {
    permit.until.0.saturating_sub(permit.at.0) / 1_000_000
}

/// What a permit tells the server behind the proxy.
pub(crate) fn permit_headers(permit: &Permit) -> [(&'static str, String); 3] {
    [
        (INDEX_HEADER, permit.index.to_string()),
        (UNTIL_HEADER, permit.until.0.to_string()),
        (PERMIT_MS_HEADER, permit_ms(permit).to_string()),
    ]
}

/// What a refusal tells the caller in headers.
pub(crate) fn refusal_headers(refusal: &Refusal) -> Vec<(&'static str, String)> {
    let mut headers = vec![(REASON_HEADER, refusal.code.to_owned())];
    headers.extend(refusal.kill.map(|kill| (KILL_HEADER, kill.to_string())));
    headers.extend(refusal.index.map(|index| (INDEX_HEADER, index.to_string())));
    if refusal.kind == Kind::Token {
        headers.push(("www-authenticate", "Bearer error=\"invalid_token\"".to_owned()));
    }
    headers
}
