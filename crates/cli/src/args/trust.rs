//! Arguments of `trust` and of `node key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use haltline_core::ids::{NodeId, PublicKey};

/// Below `haltline trust`.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Show the keys that nodes sign with, and a change of them that waits
    Show,
    /// Propose a new signing key for a node; takes two people, then a majority of the nodes
    Propose(TrustProposeArgs),
    /// Write the changes of the keys to a file, for `haltline receipt verify --changes`
    Export {
        /// Where to; it holds no secret
        file: PathBuf,
    },
}

/// `haltline trust propose`.
#[derive(Debug, Args)]
#[command(after_help = "\
To replace the key of node 2, prepare the next one on its machine, then propose it and have a second person approve:
  haltline node key next --config node-2.toml
  haltline trust propose --replace 2

The nodes do the rest. Access tokens that the old key signed stay good until they end; if the key was stolen, end them with
  haltline revoke key KEY-ID")]
pub struct TrustProposeArgs {
    /// The node whose key is replaced, by the one prepared there or by one that you name; repeat it for more
    #[arg(long, value_name = "NODE[=PUBLIC-KEY]", value_parser = replacement, required = true)]
    pub replace: Vec<Replacement>,
    /// Propose keys also for nodes that can't be asked whether they have them; a node without its key signs nothing
    #[arg(long)]
    pub unasked: bool,
}

/// Whose key is replaced, by which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement {
    /// The node.
    pub node: NodeId,
    /// Its new key; none: the one that was prepared there.
    pub key: Option<PublicKey>,
}

fn replacement(text: &str) -> Result<Replacement, String> {
    let (node, key) = text.split_once('=').map_or((text, None), |(node, key)| (node, Some(key)));
    let node = node.parse().map_err(|_| "expected a node's number, as in 2, or 2=PUBLIC-KEY".to_owned())?;
    let key = key.map(str::parse::<PublicKey>).transpose().map_err(|error| error.to_string())?;
    Ok(Replacement { node: NodeId(node), key })
}

/// Below `haltline node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Prepare or show the keys that this node signs with
    #[command(subcommand)]
    Key(NodeKeyCommand),
    /// Check the configuration and everything that it names, without starting anything
    #[command(after_help = "\
The exit code is 0 if nothing fails, warnings aside; 1 if something does; 2 if the configuration can't be understood.

Examples:
  sudo -u haltline haltline node check-config --config /var/lib/haltline/node.toml")]
    CheckConfig,
}

/// Below `haltline node key`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum NodeKeyCommand {
    /// Prepare the next signing key beside the current one; the node may be running
    Next,
    /// Show the public halves of the keys
    Show,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_replacement_is_a_node_with_or_without_a_key() {
        assert_eq!(replacement("2").unwrap(), Replacement { node: NodeId(2), key: None });
        let named = replacement(&format!("3={}", "0f".repeat(32))).unwrap();
        assert_eq!(named, Replacement { node: NodeId(3), key: Some(PublicKey([15; 32])) });
        for wrong in ["", "two", "2=", "2=0f", "=0f", "2=zz"] {
            replacement(wrong).unwrap_err();
        }
    }
}
