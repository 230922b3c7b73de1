//! The sidecar: `haltline edge run`, an enforcer that answers others' questions instead of living inside of the agent.
//!
//! ```text
//!  agent ──► Envoy ──────────────────────────────► tool
//!              │  ext_authz Check: may this start?
//!              │  ext_proc Process: open while it runs, ended when the session halts
//!              ▼
//!           sidecar ── Enforcer ◄── sync stream ── node
//!              ▲
//!              │  POST /v1/decide, GET /v1/halted
//!           any program of this machine
//! ```
//!
//! What must stay true: the sidecar decides nothing itself, every answer is a verdict of [`crate::enforce::Session::decide`]; whatever
//! it can't read, ask or finish is a denial; who isn't on this machine can't ask.

mod action_rules;
#[cfg(feature = "sidecar")]
mod answer;
#[cfg(feature = "sidecar")]
mod authorization;
mod config;
#[cfg(feature = "sidecar")]
mod desk;
#[cfg(feature = "sidecar")]
mod envoy;
#[cfg(feature = "sidecar")]
mod gate;
#[cfg(feature = "sidecar")]
mod http;
#[cfg(feature = "sidecar")]
mod listener;
#[cfg(feature = "sidecar")]
mod metrics;
#[cfg(feature = "sidecar")]
mod processor;
mod request_path;
mod rule_template;
#[cfg(feature = "sidecar")]
mod run;
#[cfg(feature = "sidecar")]
mod token_header;

pub use action_rules::{ActionNames, ActionRules, Call, HeaderFound, HeaderSource, NoAction, RuleError};
pub use config::{Audiences, HeaderName, Listen, Scheme, SidecarConfig, SidecarConfigError};
#[cfg(feature = "sidecar")]
pub use gate::Gate;
#[cfg(feature = "sidecar")]
pub use listener::ListenError;
pub use request_path::PathRefused;
pub use rule_template::TemplateError;
#[cfg(feature = "sidecar")]
pub use run::{Places, Sidecar, SidecarError};

pub(crate) use action_rules::DEFAULT_RULES;

#[cfg(all(test, feature = "sidecar"))]
mod tests;
