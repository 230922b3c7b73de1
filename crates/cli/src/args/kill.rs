//! Arguments of the verbs that stop: `kill`, `kills`, `revoke`.

use clap::{Args, Subcommand, ValueEnum};
use haltline_core::{
    command::{KillMode, RevocationTarget},
    ids::{CredentialId, GrantId, InstanceId, KeyHash, KillId},
    selector::{Pattern, Selector},
    text::{Labels, Reason},
    time::Millis,
};

use super::{ListArgs, enforcement::WaitFor, values};
use crate::failure::Failure;

/// `haltline kill`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  haltline kill fleet acme/finance/invoice --reason \"runaway refunds\"
  haltline kill agent acme/finance/invoice/reconciler --reason \"wrong ledger\" --expires 2h
  haltline kill --tool 'payments.*' --label env=prod --dry-run
  haltline kill everything --reason \"incident 4711\" --yes")]
pub struct KillArgs {
    /// What to stop: fleet, agent or everything; may be left out where flags say it
    #[arg(value_name = "fleet|agent|everything", value_parser = what)]
    pub what: Option<What>,
    /// Path of the fleet (with all below it) or agent
    #[arg(value_name = "PATH")]
    pub path: Option<String>,
    /// Only agents with this label, of their own or of a fleet above; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
    pub labels: Vec<(String, String)>,
    /// Only actions with such a tool; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub tool: Option<Pattern>,
    /// Only actions with such a model; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub model: Option<Pattern>,
    /// Only actions on such a resource; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub resource: Option<Pattern>,
    /// Only this running copy
    #[arg(long, value_name = "ID")]
    pub instance: Option<InstanceId>,
    /// Only what descends from this grant
    #[arg(long, value_name = "GRANT")]
    pub lineage: Option<GrantId>,
    /// How to stop
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// With --mode drain: how long what runs may go on
    #[arg(long, value_name = "DURATION", value_parser = values::millis)]
    pub drain: Option<Millis>,
    /// Lift the kill by itself after so long
    #[arg(long, value_name = "DURATION", value_parser = values::millis)]
    pub expires: Option<Millis>,
    /// What to wait for
    #[arg(long, value_enum, default_value_t)]
    pub wait: WaitFor,
    /// Why; everybody who meets the kill reads it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<Reason>,
    /// Show what would stop, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Don't ask, however wide it is
    #[arg(long)]
    pub yes: bool,
}

/// What a kill names first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// A fleet and all below it.
    Fleet,
    /// One agent.
    Agent,
    /// All there is.
    Everything,
}

/// How a kill stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Deny at once; can be resumed
    #[default]
    Freeze,
    /// Nothing new; what runs may go on until --drain is over, then freeze
    Drain,
    /// Freeze, and revoke every outstanding credential for good
    Terminate,
}

fn what(text: &str) -> Result<What, String> {
    let names = ["fleet", "agent", "everything"];
    What::from_str(text, false).map_err(|_| match values::nearest(text, names) {
        _ if text.contains('/') => {
            format!("say what it is: `haltline kill fleet {text}` or `haltline kill agent {text}`")
        }
        Some(near) => format!("expected fleet, agent or everything; did you mean `{near}`?"),
        None => format!("expected fleet, agent or everything, as in `haltline kill fleet {text}`"),
    })
}

impl KillArgs {
    /// The selector that the arguments make.
    ///
    /// # Errors
    /// Usage, saying what to add or fix.
    pub(crate) fn selector(&self) -> Result<Selector, Failure> {
        let mut selector = Selector {
            instance: self.instance,
            lineage: self.lineage,
            labels: Labels::from_pairs(self.labels.iter().map(|(key, value)| (key, value)))
                .map_err(|error| Failure::usage(format!("--label: {error}")))?,
            tool: self.tool.clone(),
            model: self.model.clone(),
            resource: self.resource.clone(),
            ..Selector::default()
        };
        let bad_path = |error: haltline_core::path::PathError| Failure::usage(format!("PATH: {error}"));
        match (self.what, self.path.as_deref()) {
            (Some(What::Fleet), Some(path)) => selector.fleet = Some(path.parse().map_err(bad_path)?),
            (Some(What::Agent), Some(path)) => selector.agent = Some(path.parse().map_err(bad_path)?),
            (Some(What::Everything), None) => {}
            (Some(What::Everything), Some(path)) => {
                return Err(Failure::usage(format!("everything takes no path, but `{path}` follows"))
                    .hint(format!("to stop that fleet: `haltline kill fleet {path}`")));
            }
            (Some(What::Fleet), None) => return Err(missing_path("fleet", "acme/finance/invoice")),
            (Some(What::Agent), None) => {
                return Err(missing_path("agent", "acme/finance/invoice/reconciler"));
            }
            (None, _) if selector.is_everything() => {
                return Err(Failure::usage("nothing says what to stop").hint(
                    "`haltline kill fleet PATH`, `haltline kill agent PATH` or `haltline kill everything`",
                ));
            }
            (None, _) => {}
        }
        Ok(selector)
    }

    /// The mode with its drain time.
    ///
    /// # Errors
    /// Usage, if `--drain` and `--mode` don't fit.
    pub(crate) fn kill_mode(&self) -> Result<KillMode, Failure> {
        match (self.mode, self.drain) {
            (Mode::Freeze, None) => Ok(KillMode::Freeze),
            (Mode::Terminate, None) => Ok(KillMode::Terminate),
            (Mode::Drain, Some(drain)) => Ok(KillMode::Drain(drain)),
            (Mode::Drain, None) => {
                Err(Failure::usage("--mode drain doesn't say how long what runs may go on")
                    .hint("add --drain DURATION, as in --drain 10min"))
            }
            (_, Some(_)) => Err(Failure::usage("--drain only goes with --mode drain")
                .hint("add --mode drain, or leave --drain out")),
        }
    }
}

fn missing_path(what: &str, example: &str) -> Failure {
    Failure::usage(format!("which {what}? Its path is missing"))
        .hint(format!("as in `haltline kill {what} {example}`"))
}

/// `haltline kills`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct KillsArgs {
    /// Also those lifted lately
    #[arg(long)]
    pub all: bool,
    /// Paging.
    #[command(flatten)]
    pub list: ListArgs,
    /// More than a list.
    #[command(subcommand)]
    pub command: Option<KillsCommand>,
}

/// Below `haltline kills`.
#[derive(Debug, Subcommand)]
pub enum KillsCommand {
    /// Show one kill in full
    Show {
        /// Which, as in kill-17
        kill: KillId,
    },
}

/// `haltline revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// What kind of thing
    #[arg(value_enum)]
    pub kind: RevokeKind,
    /// Its id, in hexadecimal
    pub id: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Reason,
}

/// What can be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RevokeKind {
    /// One credential (its jti)
    Credential,
    /// A grant and all that descends from it
    Grant,
    /// One running copy
    Instance,
    /// A key, by the SHA-256 of its public half
    Key,
}

impl RevokeArgs {
    /// What to revoke.
    ///
    /// # Errors
    /// Usage, if the id isn't of its kind.
    pub(crate) fn target(&self) -> Result<RevocationTarget, Failure> {
        let id = &self.id;
        let target = match self.kind {
            RevokeKind::Credential => id.parse::<CredentialId>().map(RevocationTarget::Credential),
            RevokeKind::Grant => id.parse::<GrantId>().map(RevocationTarget::Grant),
            RevokeKind::Instance => id.parse::<InstanceId>().map(RevocationTarget::Instance),
            RevokeKind::Key => id.parse::<KeyHash>().map(RevocationTarget::Key),
        };
        target.map_err(|error| Failure::usage(error.to_string()))
    }
}
