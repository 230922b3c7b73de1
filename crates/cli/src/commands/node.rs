//! `haltline node`: one node, its logs, and the signals that end it; and the keys in its directory.

use std::path::Path;

use haltline_core::ids::{NodeId, PublicKey};
use haltline_node::{LogFormat, Reloads, Surroundings, sd_notify::ServiceManager};
use haltline_pki::{NodeIdentity, prepare_signing_key, prepared_signing_key, token::key_id};
use serde_json::{Value, json};

use super::{
    check_config,
    init::failure,
    process::{Ending, LogStyle, start_logs, wishes_to_reload},
};
use crate::{
    args::{
        NodeArgs,
        trust::{NodeCommand, NodeKeyCommand},
    },
    exit::Exit,
    failure::Failure,
    output::{Render, Screen, page::Page},
};

/// Runs a node until it is told to stop or can't go on.
pub(super) async fn run(args: &NodeArgs, screen: Screen) -> Result<Exit, Failure> {
    let config = check_config::load(args.config.as_deref())?;
    match args.command {
        Some(NodeCommand::Key(command)) => return key(&config.identity_dir, command, screen),
        Some(NodeCommand::CheckConfig) => return check_config::run(args.config.as_deref(), &config, screen),
        None => {}
    }
    if args.print_config {
        crate::output::write_out(&config.to_toml())?;
        return Ok(Exit::Done);
    }
    let style = match config.log_format {
        LogFormat::Auto => LogStyle::Auto,
        LogFormat::Human => LogStyle::Human,
        LogFormat::Json => LogStyle::Json,
    };
    let set_log_filter = start_logs(style, &config.log_filter)?;
    let reloads = Reloads { file: args.config.clone(), wanted: wishes_to_reload()?, set_log_filter };
    let ending = Ending::listen(args.until_stdin_closes)?;
    let surroundings = Surroundings {
        shutdown: ending.asked.clone(),
        manager: ServiceManager::of_environment(),
        reloads: Some(reloads),
    };
    tokio::select! {
        ended = haltline_node::run_with(config, surroundings) => ended.map_err(|error| failure(&error))?,
        stopped = ending.insisted() => return Err(stopped),
    }
    Ok(Exit::Done)
}

/// Prepares or shows this node's signing keys. Only its directory is touched, so it may be running.
fn key(directory: &Path, command: NodeKeyCommand, screen: Screen) -> Result<Exit, Failure> {
    let identity = NodeIdentity::load(directory)?;
    let next = match command {
        NodeKeyCommand::Next => Some(prepare_signing_key(directory)?),
        NodeKeyCommand::Show => prepared_signing_key(directory)?.map(|signer| signer.public_key()),
    };
    let keys = Keys { node: identity.id(), current: identity.signer().public_key(), next };
    screen.print(&keys)?;
    if matches!(command, NodeKeyCommand::Next) {
        screen.remark(&format!(
            "Node {0} goes on with its current key. To replace it: haltline trust propose --replace {0}",
            keys.node
        ));
    }
    Ok(Exit::Done)
}

/// The public halves.
struct Keys {
    node: NodeId,
    current: PublicKey,
    next: Option<PublicKey>,
}

impl Render for Keys {
    fn page(&self, page: &mut Page) {
        page.facts([
            ("node", Some(self.node.to_string())),
            ("signs with", Some(self.current.to_string())),
            ("key id", Some(key_id(&self.current).to_string())),
            ("next", self.next.map(|key| key.to_string())),
            ("next key id", self.next.map(|key| key_id(&key).to_string())),
        ]);
    }

    fn value(&self) -> Value {
        json!({
            "node": self.node.0,
            "public_key": self.current.to_string(),
            "key_id": key_id(&self.current).to_string(),
            "next_public_key": self.next.map(|key| key.to_string()),
            "next_key_id": self.next.map(|key| key_id(&key).to_string()),
        })
    }
}
