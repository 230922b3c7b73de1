//! Arguments of `edge`, `edges` and `receipt`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use haltline_core::{
    ids::{EdgeName, JoinTokenId, KillId},
    limits::JOIN_TOKEN_TTL_MAX,
    state::Scope,
    time::Millis,
};

use super::{
    ListArgs,
    sidecar::{EdgeEnrolArgs, EdgeRunArgs},
    values,
};

/// Below `haltline edge`.
#[derive(Debug, Subcommand)]
pub enum EdgeCommand {
    /// Run an edge: decide for Envoy and for programs of this machine
    Run(EdgeRunArgs),
    /// Join a cluster with a one-time token
    Enrol(EdgeEnrolArgs),
    /// Make, list and delete join tokens, each of which admits one edge or relay
    #[command(subcommand)]
    Token(TokenCommand),
    /// Change where an edge enforces, or how far it is trusted; what isn't named stays
    Update(EdgeUpdateArgs),
    /// Remove an edge or relay: its key is nobody's from then on
    Remove {
        /// Its name
        name: EdgeName,
    },
}

/// Below `haltline edge token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and write it to a file that only you can read
    Create(TokenCreateArgs),
    /// List the tokens that are neither used nor expired
    List(ListArgs),
    /// Delete a token, so that nobody can use it
    Delete {
        /// Its id, as `haltline edge token list` shows it
        token: JoinTokenId,
    },
}

/// `haltline edge token create`.
#[derive(Debug, Args)]
#[command(after_help = "\
The token is a secret: whoever shows it first is the edge. It is never printed unless you ask with --out -.

Examples:
  haltline edge token create eu-gateway --path acme/finance
  haltline edge token create eu-relay --relay --trusted-for-acks --path / --ttl 10min")]
pub struct TokenCreateArgs {
    /// Name that the edge will have: 1 to 63 of a-z 0-9 . -
    pub name: EdgeName,
    /// A fleet that it enforces, with all below, or / for the whole tree; repeat it for more
    #[arg(long = "path", value_name = "PATH", value_parser = values::scope, required = true)]
    pub paths: Vec<ScopeArg>,
    /// Admit a relay, which passes the stream on to other edges
    #[arg(long)]
    pub relay: bool,
    /// Count a relay's word that all edges below it have acknowledged
    #[arg(long, requires = "relay")]
    pub trusted_for_acks: bool,
    /// How long the token can be used (at most 1h)
    #[arg(long, value_name = "DURATION", value_parser = token_ttl, default_value = "1h")]
    pub ttl: Millis,
    /// Where to write it, readable by you alone; - prints it [default: NAME.join]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A subtree that was typed; clap takes an `Option` for an argument that may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeArg(pub Scope);

fn token_ttl(text: &str) -> Result<Millis, String> {
    let ttl = values::millis(text)?;
    if ttl <= JOIN_TOKEN_TTL_MAX { Ok(ttl) } else { Err(format!("expected at most {JOIN_TOKEN_TTL_MAX}")) }
}

/// `haltline edge update`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["paths", "trusted_for_acks", "fails_open"]))]
pub struct EdgeUpdateArgs {
    /// Its name
    pub name: EdgeName,
    /// A fleet that it enforces, with all below, or / for the whole tree: those given replace all there are
    #[arg(long = "path", value_name = "PATH", value_parser = values::scope)]
    pub paths: Vec<ScopeArg>,
    /// Whether a relay's word counts that all edges below it have acknowledged
    #[arg(long, value_name = "true|false")]
    pub trusted_for_acks: Option<bool>,
    /// Whether it permits when it can't decide; receipts then list it as unbounded
    #[arg(long, value_name = "true|false")]
    pub fails_open: Option<bool>,
}

/// Below `haltline receipt`.
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Show the receipt of a kill, or write it to a file with --out
    Show(ReceiptShowArgs),
    /// Check a receipt without any node: exit code 0 if it holds, 6 if it doesn't
    Verify(ReceiptVerifyArgs),
}

/// `haltline receipt show`.
#[derive(Debug, Args)]
pub struct ReceiptShowArgs {
    /// Which kill, as in kill-17
    pub kill: KillId,
    /// Write the receipt here, for `haltline receipt verify`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `haltline receipt verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is asked of any node: the file and a trust bundle suffice.

Examples:
  haltline receipt show kill-17 --out kill-17.receipt.json
  haltline receipt verify kill-17.receipt.json
  haltline receipt verify kill-17.receipt.json --trust-bundle bundle.json

If the node's key was replaced since the bundle was made, the changes prove the new one, and a receipt by the old one still
holds:
  haltline trust export keys.json
  haltline receipt verify kill-17.receipt.json --changes keys.json")]
pub struct ReceiptVerifyArgs {
    /// The receipt, as `haltline receipt show --out` or `-o json` wrote it
    pub file: PathBuf,
    /// The cluster's trust bundle [default: the one in your identity]
    #[arg(long, value_name = "FILE")]
    pub trust_bundle: Option<PathBuf>,
    /// The changes of the nodes' keys since that bundle, as `haltline trust export` wrote them
    #[arg(long, value_name = "FILE")]
    pub changes: Option<PathBuf>,
}
