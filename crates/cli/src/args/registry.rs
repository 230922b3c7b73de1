//! Arguments of `fleet` and `agent`.

use clap::{Args, Subcommand, ValueEnum};
use haltline_core::{
    ids::InstanceId,
    path::{AgentPath, FleetPath},
    selector::Pattern,
    text::Text,
    time::Millis,
};

use super::{ListArgs, values};

/// Below `haltline fleet`.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Create a fleet; its parent must exist
    Create(FleetArgs),
    /// List fleets
    List(FleetListArgs),
    /// Show one fleet in full
    Show {
        /// Its path
        path: FleetPath,
    },
    /// Change a fleet; what isn't named stays
    Update(FleetUpdateArgs),
    /// Delete a fleet that holds no agents and no fleets
    Delete {
        /// Its path
        path: FleetPath,
    },
}

/// A fleet's path and what is declared about it.
#[derive(Debug, Args)]
pub struct FleetArgs {
    /// Its path, as in acme/finance/invoice
    pub path: FleetPath,
    /// Who answers for it
    #[arg(long, value_name = "TEXT")]
    pub owner: Option<Text>,
    /// How to reach them
    #[arg(long, value_name = "TEXT")]
    pub contact: Option<Text>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<Text>,
    /// A label, inherited by all below; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
    pub labels: Vec<(String, String)>,
    /// A tool it may use; * stands for anything; repeat it for more [default: any]
    #[arg(long = "tool", value_name = "PATTERN")]
    pub tools: Vec<Pattern>,
    /// A resource it may touch; repeat it for more [default: any]
    #[arg(long = "resource", value_name = "PATTERN")]
    pub resources: Vec<Pattern>,
    /// A model it may call; repeat it for more [default: any]
    #[arg(long = "model", value_name = "PATTERN")]
    pub models: Vec<Pattern>,
    /// A class of data it may see; repeat it for more [default: any]
    #[arg(long = "data-class", value_name = "PATTERN")]
    pub data_classes: Vec<Pattern>,
    /// How old an edge's knowledge may be when it permits (200ms to 5min) [default: inherited]
    #[arg(long, value_name = "DURATION", value_parser = values::millis)]
    pub max_staleness: Option<Millis>,
    /// How long a credential may live [default: inherited]
    #[arg(long, value_name = "DURATION", value_parser = values::millis)]
    pub credential_ttl: Option<Millis>,
    /// How deep its agents may delegate (at most 8) [default: inherited]
    #[arg(long, value_name = "NUMBER")]
    pub delegation_depth: Option<u32>,
    /// How many instances may live at once [default: inherited]
    #[arg(long, value_name = "NUMBER")]
    pub instances: Option<u32>,
}

/// `haltline fleet update`.
#[derive(Debug, Args)]
pub struct FleetUpdateArgs {
    /// What to set.
    #[command(flatten)]
    pub set: FleetArgs,
    /// Take something back to its default: inherited, unrestricted or empty; repeat it for more
    #[arg(long, value_enum, value_name = "FIELD")]
    pub clear: Vec<FleetField>,
}

/// A field that [`FleetUpdateArgs::clear`] empties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FleetField {
    /// All labels.
    Labels,
    /// Tools: any.
    Tools,
    /// Resources: any.
    Resources,
    /// Models: any.
    Models,
    /// Data classes: any.
    DataClasses,
    /// Inherited.
    MaxStaleness,
    /// Inherited.
    CredentialTtl,
    /// Inherited.
    DelegationDepth,
    /// Inherited.
    Instances,
}

/// `haltline fleet list`.
#[derive(Debug, Args)]
pub struct FleetListArgs {
    /// Only this fleet and those below it
    #[arg(long, value_name = "PATH")]
    pub under: Option<FleetPath>,
    /// Paging.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Below `haltline agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Register an agent: what may run
    Register(AgentArgs),
    /// List agents
    List(AgentListArgs),
    /// Show one agent in full
    Show {
        /// Its path
        path: AgentPath,
    },
    /// Change an agent's labels: those given replace all there are
    Update(AgentArgs),
    /// Delete an agent
    Delete {
        /// Its path
        path: AgentPath,
    },
    /// Issue a credential to a running copy of an agent, and print its token
    Token(AgentTokenArgs),
}

/// `haltline agent token`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token alone goes to standard output, so that it can be piped; what it is goes to standard error.

Example:
  export AGENT_TOKEN=$(haltline agent token acme/finance/invoice/reconciler --task \"close October\" --ttl 5min)")]
pub struct AgentTokenArgs {
    /// Path of the agent
    pub agent: AgentPath,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub task: Option<Text>,
    /// A tool that it may use, within what its fleet declares; * stands for anything; repeat it for more [default: all]
    #[arg(long = "tool", value_name = "PATTERN")]
    pub tools: Vec<Pattern>,
    /// How long it lives [default: as long as the fleet allows]
    #[arg(long, value_name = "DURATION", value_parser = values::millis)]
    pub ttl: Option<Millis>,
    /// The running copy, if it has had a credential before [default: a new one]
    #[arg(long, value_name = "ID")]
    pub instance: Option<InstanceId>,
    /// Whom the token is for, if not this cluster's edges
    #[arg(long, value_name = "TEXT")]
    pub audience: Option<Text>,
}

/// An agent's path and labels.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Its path: the fleet's, and a name, as in acme/finance/invoice/reconciler
    pub path: AgentPath,
    /// A label of its own; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
    pub labels: Vec<(String, String)>,
}

/// `haltline agent list`.
#[derive(Debug, Args)]
pub struct AgentListArgs {
    /// Only agents in this fleet and below it
    #[arg(long, value_name = "PATH")]
    pub under: Option<FleetPath>,
    /// Only agents with this label, of their own or of a fleet above; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::label)]
    pub labels: Vec<(String, String)>,
    /// Paging.
    #[command(flatten)]
    pub list: ListArgs,
}
