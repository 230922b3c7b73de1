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
//! What must stay true: the sidecar decides nothing itself, every answer is a verdict of [`crate::Session::decide`]; whatever
//! it can't read, ask or finish is a denial; who isn't on this machine can't ask.

mod action_rules;
mod config;
mod request_path;
mod rule_template;

pub use action_rules::{ActionNames, ActionRules, Call, HeaderFound, HeaderSource, NoAction, RuleError};
pub use config::{HeaderName, Listen, Scheme, SidecarConfig, SidecarConfigError};
pub use request_path::PathRefused;
pub use rule_template::TemplateError;

pub(crate) use action_rules::DEFAULT_RULES;
