//! Backup and restore: what their command lines say.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use haltline_core::ids::{Incarnation, NodeId, PersonId};
use haltline_pki::BackupRecipient;

use super::Distance;

/// See [`super::Command::Backup`].
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArgs {
    /// What to do other than take one
    #[command(subcommand)]
    pub command: Option<BackupCommand>,
    /// The file to write
    #[arg(long, required = true, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Whom it is for, as `backup keygen` prints it; repeat it for more
    #[arg(long = "recipient", required_unless_present = "recipients_file", value_name = "hlr1.…", value_parser = recipient)]
    pub recipients: Vec<BackupRecipient>,
    /// A file with recipients, one a line; lines that begin with # are remarks
    #[arg(long, value_name = "FILE")]
    pub recipients_file: Option<PathBuf>,
    /// Read the disk of a node that is stopped, by its configuration: for when no majority of the nodes is left
    #[arg(long, value_name = "NODE.TOML")]
    pub stopped_node: Option<PathBuf>,
}

/// Beside taking one.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Make a key that opens backups, and print whom they are to be made for
    Keygen(KeygenArgs),
    /// Check a backup: without its key that the file is whole, with it what is in it
    Verify(VerifyArgs),
}

/// See [`BackupCommand::Keygen`].
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// The file to write; keep it apart from the backups
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// See [`BackupCommand::Verify`].
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The backup
    pub file: PathBuf,
    /// The key that opens it
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The cluster's trust bundle, to check the signature by [default: your identity's, or else the one in the backup]
    #[arg(long, value_name = "FILE")]
    pub trust_bundle: Option<PathBuf>,
}

/// See [`super::Command::Restore`].
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    pub file: PathBuf,
    /// The key that opens it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where to make the nodes' directories; it must be empty or absent
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The directory with the cluster's root key, which `init` made; may be left out with --keep
    #[arg(long, value_name = "DIR", required_unless_present = "keep")]
    pub root: Option<PathBuf>,
    /// The host of a node, with its region if there are several; numbered from 1 unless it says otherwise; repeat it for each
    #[arg(long = "node", required = true, value_name = "[NUMBER=]HOST[@REGION]")]
    pub nodes: Vec<NodePlace>,
    /// A node's saved identity directory: it keeps its keys, so that edges go on to believe it; repeat it for more
    #[arg(long, value_name = "NUMBER=DIR")]
    pub keep: Vec<KeptIdentity>,
    /// The saved identity directory of a node that won't be there any more, to vouch for the new keys; repeat it for more
    #[arg(long, value_name = "DIR")]
    pub endorse_with: Vec<PathBuf>,
    /// Who restores: an admin at the root, by the backup
    #[arg(long, value_name = "NAME")]
    pub by: PersonId,
    /// The first node's API port; see `haltline init --help`
    #[arg(long, default_value_t = 7400, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub port: u16,
    /// How far apart the nodes are: lan (a few milliseconds) or wan (up to about 200)
    #[arg(long, value_enum, default_value_t, value_name = "PROFILE")]
    pub profile: Distance,
    /// The number of the new incarnation; needed if this backup was restored before [default: one more than the backup's]
    #[arg(long, value_name = "NUMBER", value_parser = incarnation)]
    pub incarnation: Option<Incarnation>,
    /// The cluster's trust bundle, to check the signature by [default: your identity's, or else the one in the backup]
    #[arg(long, value_name = "FILE")]
    pub trust_bundle: Option<PathBuf>,
    /// Go on with a backup of a stopped node, which may lack what the others had committed
    #[arg(long)]
    pub i_understand_what_may_be_lost: bool,
}

/// A node's place: `2=eu1.example.com@eu-west`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlace {
    /// Its number, if it was said.
    pub number: Option<u16>,
    /// Host and region.
    pub host: String,
}

impl FromStr for NodePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None => Ok(Self { number: None, host: text.into() }),
            Some((number, host)) => Ok(Self { number: Some(node_number(number)?), host: host.into() }),
        }
    }
}

/// A saved identity: `2=/backup/node-2/identity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptIdentity {
    /// Whose.
    pub node: NodeId,
    /// Where.
    pub directory: PathBuf,
}

impl FromStr for KeptIdentity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, directory) =
            text.split_once('=').ok_or("expected NUMBER=DIR, as in 2=/saved/node-2/identity")?;
        Ok(Self { node: NodeId(node_number(number)?.into()), directory: directory.into() })
    }
}

fn node_number(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a node's number, from 1, before the `=`".into())
}

fn recipient(text: &str) -> Result<BackupRecipient, String> {
    text.parse().map_err(|error: haltline_pki::BackupKeyError| error.to_string())
}

fn incarnation(text: &str) -> Result<Incarnation, String> {
    text.parse().map(Incarnation).map_err(|_| "expected a number".into())
}
