//! The command line: every verb, argument and flag, and the words that `--help` shows.
//!
//! Values are parsed into the core's types here, so that a wrong one is refused before anything is sent.

pub(crate) mod backup;
pub(crate) mod doctor;
pub(crate) mod enforcement;
pub(crate) mod enforcers;
pub(crate) mod kill;
pub(crate) mod people;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod sidecar;
pub(crate) mod trust;
pub(crate) mod values;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use haltline_core::{
    ids::{ApprovalId, KillId, LogIndex},
    text::Reason,
};
use haltline_pki::Endpoint;

use crate::exit;
use backup::{BackupArgs, RestoreArgs};
use doctor::DoctorArgs;
use enforcement::EnforcementCommand;
use enforcers::{EdgeCommand, ReceiptCommand};
use kill::{KillArgs, KillsArgs, RevokeArgs};
use people::OperatorCommand;
use registry::{AgentCommand, FleetCommand};
use relay::RelayCommand;
use trust::{NodeCommand, TrustCommand};

/// Stops fleets of AI agents, and proves that the stop landed.
#[derive(Debug, Parser)]
#[command(
    name = "haltline",
    version,
    after_help = exit::HELP,
    propagate_version = true,
    arg_required_else_help = true,
    subcommand_required = true
)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What applies to every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Directory with your keys and certificate
    #[arg(
        long,
        global = true,
        env = "HALTLINE_IDENTITY",
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub identity: Option<PathBuf>,
    /// A node to call; repeat it for more [default: those in the identity directory]
    #[arg(
        long = "endpoint",
        global = true,
        env = "HALTLINE_ENDPOINTS",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        help_heading = "Global options"
    )]
    pub endpoints: Vec<Endpoint>,
    /// How to print results
    #[arg(
        short,
        long,
        global = true,
        env = "HALTLINE_OUTPUT",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// How long to keep trying for an answer
    #[arg(
        long,
        global = true,
        value_parser = values::duration,
        default_value = "15s",
        value_name = "DURATION",
        help_heading = "Global options"
    )]
    pub timeout: Duration,
    /// How long a command that needs a second person may wait for one (at most 24h)
    #[arg(
        long,
        global = true,
        value_parser = values::approval_window,
        default_value = "1h",
        value_name = "DURATION",
        help_heading = "Global options"
    )]
    pub approval_window: Duration,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// For both
    Yaml,
}

/// Every verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a whole cluster at work in under a minute: a kill, a dead leader, nothing lost
    Demo(DemoArgs),
    /// Create a cluster: its root key, its nodes' directories, and the first admin
    Init(InitArgs),
    /// Run one node, or prepare its next signing key
    Node(NodeArgs),
    /// Show the cluster and each of its nodes
    Status,
    /// Find what is wrong, or will be, with the cluster, or with this machine's node
    Doctor(DoctorArgs),

    /// Stop a fleet, an agent, or everything that a selector names
    Kill(KillArgs),
    /// List the kills in force
    Kills(KillsArgs),
    /// Lift a kill (takes two people)
    Resume(ResumeArgs),
    /// End a credential, grant, instance or key for good
    Revoke(RevokeArgs),
    /// List the revocations in force
    Revocations(ListArgs),

    /// List what waits for a second person
    Approvals(ListArgs),
    /// Agree to a command that waits for a second person
    Approve(ApproveArgs),
    /// Take back, or turn down, a command that waits for a second person
    Withdraw(WithdrawArgs),

    /// Create, list, show, change and delete fleets
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Register, list, show, change and delete agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Enrol, list, change and remove people
    #[command(subcommand)]
    Operator(OperatorCommand),

    /// Admit, change and remove edges and relays
    #[command(subcommand)]
    Edge(EdgeCommand),
    /// List edges and relays, and how far each is
    Edges(ListArgs),
    /// Run a relay, which passes enforcement on to many edges
    #[command(subcommand)]
    Relay(RelayCommand),
    /// Show and verify the signed receipts of kills
    #[command(subcommand)]
    Receipt(ReceiptCommand),

    /// Show and replace the keys that nodes sign with
    #[command(subcommand)]
    Trust(TrustCommand),

    /// Write the whole cluster into an encrypted file
    Backup(BackupArgs),
    /// Make a cluster out of a backup, in which nothing runs until people say so
    Restore(RestoreArgs),

    /// Follow kills until they are enforced everywhere
    #[command(subcommand)]
    Enforcement(EnforcementCommand),
    /// Show what happens, as it happens
    Events(EventsArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// One of the demo's edges, with its agents
    #[command(hide = true)]
    DemoEdge(DemoEdgeArgs),
}

/// See [`Command::Demo`].
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the cluster running at the end, and print how to talk to it
    #[arg(long)]
    pub keep: bool,
    /// Don't pause for reading
    #[arg(long)]
    pub fast: bool,
    /// Agents to register
    #[arg(long, default_value_t = 3_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(30..=100_000))]
    pub agents: u32,
}

/// See [`Command::DemoEdge`].
#[derive(Debug, Args)]
pub struct DemoEdgeArgs {
    /// The edge's identity
    pub identity_dir: PathBuf,
    /// Where it keeps its high-water mark
    pub data_dir: PathBuf,
}

/// See [`Command::Init`].
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to create it; the directory must be empty or absent
    #[arg(long, default_value = "haltline", value_name = "DIR")]
    pub dir: PathBuf,
    /// The host of a node, with its region if there are several, in the order of their numbers; repeat it for each
    /// [default: three on this machine]
    #[arg(long = "node", value_name = "HOST[@REGION]")]
    pub nodes: Vec<String>,
    /// The first node's API port; Raft, health and metrics, edges, and enrolment take the four after it; each node begins
    /// 10 higher
    #[arg(long, default_value_t = 7400, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub port: u16,
    /// How far apart the nodes are: lan (a few milliseconds) or wan (up to about 200)
    #[arg(long, value_enum, default_value_t, value_name = "PROFILE")]
    pub profile: Distance,
    /// Name of the first admin
    #[arg(long, default_value = "admin", value_name = "NAME")]
    pub admin: haltline_core::ids::PersonId,
}

/// How far apart nodes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Distance {
    /// One region, a few milliseconds apart
    #[default]
    Lan,
    /// Several regions, up to about 200 milliseconds apart
    Wan,
}

/// See [`Command::Node`].
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// What to do other than run it
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    /// The node's configuration; every key is also an environment variable, which wins
    #[arg(long, global = true, env = "HALTLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration in effect, with every default, and end
    #[arg(long)]
    pub print_config: bool,
    /// Shut down when standard input closes, as when a parent process dies
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// See [`Command::Resume`].
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Which kill, as in kill-17
    pub kill: KillId,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Reason,
}

/// Flags of lists.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListArgs {
    /// Show at most so many; 0: all
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    pub limit: u32,
}

/// See [`Command::Approve`].
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Which command, as in approval-3
    pub approval: ApprovalId,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// See [`Command::Withdraw`].
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// Which command, as in approval-3
    pub approval: ApprovalId,
}

/// See [`Command::Events`].
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on as more happens, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Begin at this log index [default: as far back as the node remembers, or from now on with --follow]
    #[arg(long, value_name = "INDEX", value_parser = values::log_index)]
    pub from: Option<LogIndex>,
}

/// See [`Command::Completions`].
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}
