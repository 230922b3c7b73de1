//! `haltline trust`: the keys that nodes sign with, and changing them.

use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

use haltline_core::{
    attest::{KnownBundle, follow_changes},
    command::{BundlePropose, Command, Signature},
    event::{FIRST_BUNDLE, TrustBundleChange},
    ids::{ClusterId, NodeId, PublicKey, Version},
};
use haltline_pki::{TrustBundle, token::key_id};
use haltline_wire::{
    convert,
    v1::{self, cluster_service_client::ClusterServiceClient},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Session, resource};
use crate::{
    args::trust::{Replacement, TrustCommand, TrustProposeArgs},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{
        Render,
        page::{Page, counted},
        table::{Table, Tone},
        value::json_pretty,
    },
};

/// How long each node may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Characters of a key's id that tell keys apart at a glance.
const ID_SHOWN: usize = 16;

/// Carries out one of them.
pub(super) async fn run(session: &Session, command: TrustCommand) -> Result<Exit, Failure> {
    match command {
        TrustCommand::Show => session.show(&Overview::ask(session).await?),
        TrustCommand::Propose(args) => propose(session, &args).await,
        TrustCommand::Export { file } => export(session, &file).await,
    }
}

async fn propose(session: &Session, args: &TrustProposeArgs) -> Result<Exit, Failure> {
    let overview = Overview::ask(session).await?;
    let mut keys: BTreeMap<NodeId, PublicKey> = overview.trust.keys.iter().copied().collect();
    for replacement in &args.replace {
        let key = overview.new_key(replacement, args.unasked)?;
        if keys.insert(replacement.node, key).is_none() {
            return Err(Failure::usage(format!("the cluster has no node {}", replacement.node)));
        }
    }
    let version = overview.trust.version.next();
    session
        .carry_out(Command::BundlePropose(BundlePropose { version, keys: keys.into_iter().collect() }))
        .await
}

/// What one node says of the keys.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    version: Version,
    keys: Vec<(NodeId, PublicKey)>,
    proposed: Option<Proposed>,
    pub(crate) changes: Vec<TrustBundleChange>,
    retired: usize,
    node: NodeId,
    prepared: Option<PublicKey>,
}

#[derive(Debug, Clone)]
struct Proposed {
    version: Version,
    keys: Vec<(NodeId, PublicKey)>,
    endorsed_by: Vec<u64>,
    needed: u32,
}

impl Trust {
    fn read(message: &v1::Trust) -> Result<Self, convert::ConvertError> {
        let proposed = |proposed: &v1::ProposedTrustBundle| {
            Ok(Proposed {
                version: Version(proposed.version),
                keys: convert::node_signing_keys(&proposed.keys, "proposed.keys")?,
                endorsed_by: proposed.endorsed_by.clone(),
                needed: proposed.needed,
            })
        };
        let prepared: Vec<v1::NodeSigningKey> = message.prepared.iter().cloned().collect();
        let prepared = convert::node_signing_keys(&prepared, "prepared")?;
        Ok(Self {
            version: Version(message.version),
            keys: convert::node_signing_keys(&message.keys, "keys")?,
            proposed: message.proposed.as_ref().map(proposed).transpose()?,
            changes: message.changes.iter().map(TrustBundleChange::try_from).collect::<Result<_, _>>()?,
            retired: message.retired.len(),
            node: NodeId(message.node),
            prepared: prepared.first().map(|(_, key)| *key),
        })
    }

    /// Asks whichever node answers.
    pub(crate) async fn ask(client: &Client) -> Result<Self, Failure> {
        let answer = client
            .call("asking for the nodes' keys", |channel| async move {
                ClusterServiceClient::new(channel).get_trust(v1::GetTrustRequest {}).await
            })
            .await?;
        Self::read(&answer).map_err(|error| resource::unreadable("the nodes' keys", &error))
    }
}

/// The bundle that an identity holds, as a history begins with it.
pub(crate) fn known(bundle: &TrustBundle) -> KnownBundle {
    let keys = bundle.nodes().iter().map(|(node, keys)| (*node, keys.signing_key)).collect();
    (bundle.version().max(FIRST_BUNDLE), keys)
}

/// Every node's word on the keys.
struct Overview {
    cluster: ClusterId,
    /// Of the node that knows of the latest change.
    trust: Trust,
    /// The key that lies ready at each node that answered.
    prepared: BTreeMap<NodeId, Option<PublicKey>>,
    /// Whether the keys follow from the bundle in this person's identity.
    proven: Result<(), String>,
}

impl Overview {
    async fn ask(session: &Session) -> Result<Self, Failure> {
        let client = &session.client;
        let cluster = client.cluster().await?;
        let mut asked = JoinSet::new();
        for endpoint in client.all_endpoints(&cluster) {
            let client = client.only(endpoint, PATIENCE);
            asked.spawn(async move { Trust::ask(&client?).await });
        }
        let (said, mut silent) = (asked.join_all().await, None);
        let mut answers = Vec::new();
        for answer in said {
            match answer {
                Ok(trust) => answers.push(trust),
                Err(failure) => silent = Some(failure),
            }
        }
        let prepared = answers.iter().map(|trust| (trust.node, trust.prepared)).collect();
        let latest = answers.into_iter().max_by_key(|trust| (trust.version, trust.proposed.is_some()));
        let Some(trust) = latest else {
            return Err(silent.unwrap_or_else(|| Failure::protocol("no node says where it can be called")));
        };
        let bundle = client.identity().bundle();
        let proven = follow_changes(bundle.cluster(), known(bundle), &trust.changes);
        let proven = match proven {
            Ok(proven) if proven.last().is_some_and(|(_, keys)| *keys == trust.keys) => Ok(()),
            Ok(_) => Err("the changes that the nodes tell don't lead to the keys that they show".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Ok(Self { cluster: bundle.cluster(), trust, prepared, proven })
    }

    /// The key that a node gets.
    fn new_key(&self, replacement: &Replacement, unasked: bool) -> Result<PublicKey, Failure> {
        let Replacement { node, key } = *replacement;
        match (key, self.prepared.get(&node).copied().flatten()) {
            (None, Some(prepared)) => Ok(prepared),
            (Some(named), Some(prepared)) if named == prepared => Ok(named),
            (Some(named), _) if unasked => Ok(named),
            (None, None) => Err(Failure::usage(format!("node {node} offers no key, or doesn't answer")).hint(
                format!("run `haltline node key next` on the machine of node {node}, or name its key: {node}=PUBLIC-KEY"),
            )),
            (Some(named), _) => Err(Failure::usage(format!(
                "node {node} doesn't say that it has the key {named}, and could sign nothing if it hadn't"
            ))
            .hint(format!(
                "run `haltline node key next` on the machine of node {node}; --unasked proposes the key all the same"
            ))),
        }
    }
}

fn short(key: &PublicKey) -> String {
    key_id(key).to_string().chars().take(ID_SHOWN).collect()
}

impl Render for Overview {
    fn page(&self, page: &mut Page) {
        let trust = &self.trust;
        page.facts([
            ("cluster", Some(self.cluster.to_string())),
            ("version", Some(trust.version.to_string())),
            (
                "replaced",
                (trust.retired > 0).then(|| {
                    format!(
                        "{} still good for tokens that were signed with them",
                        counted(trust.retired as u64, "key")
                    )
                }),
            ),
        ]);
        match &self.proven {
            Ok(()) => page.toned("The keys follow from the trust bundle in your identity.", Tone::Good),
            Err(why) => {
                page.toned(format!("The keys are not proven by your identity's bundle: {why}."), Tone::Bad);
            }
        }
        page.gap();
        let mut table = Table::default().word("NODE").word("KEY ID").text("NEXT");
        for (node, key) in &trust.keys {
            let next = match self.prepared.get(node) {
                Some(Some(key)) => format!("{} prepared", short(key)),
                Some(None) => "-".to_owned(),
                None => "silent".to_owned(),
            };
            table.row([node.to_string().into(), short(key).into(), next.into()]);
        }
        page.table(&table, "No node is known.");
        if let Some(proposed) = &trust.proposed {
            page.gap();
            let by = proposed.endorsed_by.iter().map(|node| format!("node {node}")).collect::<Vec<_>>();
            let by = if by.is_empty() { "nobody yet".to_owned() } else { by.join(", ") };
            page.toned(
                format!(
                    "Version {} waits for {} endorsements; it has those of {by}.",
                    proposed.version, proposed.needed
                ),
                Tone::Warn,
            );
            let new = proposed.keys.iter().filter(|key| !trust.keys.contains(key));
            for (node, key) in new {
                page.line(format!("  node {node} would sign with {}", short(key)));
            }
        }
    }

    fn value(&self) -> Value {
        let trust = &self.trust;
        let key = |(node, key): &(NodeId, PublicKey)| {
            let prepared = self.prepared.get(node).copied().flatten();
            json!({
                "node": node.0,
                "public_key": key.to_string(),
                "key_id": key_id(key).to_string(),
                "prepared": prepared.map(|key| key.to_string()),
            })
        };
        let bare = |(node, key): &(NodeId, PublicKey)| json!({ "node": node.0, "public_key": key.to_string(), "key_id": key_id(key).to_string() });
        json!({
            "cluster_id": self.cluster.to_string(),
            "version": trust.version.0,
            "proven": self.proven.is_ok(),
            "keys": trust.keys.iter().map(key).collect::<Vec<_>>(),
            "retired_keys": trust.retired,
            "proposed": trust.proposed.as_ref().map(|proposed| json!({
                "version": proposed.version.0,
                "keys": proposed.keys.iter().map(bare).collect::<Vec<_>>(),
                "endorsed_by": proposed.endorsed_by,
                "needed": proposed.needed,
            })),
        })
    }
}

/// The changes of a cluster's keys as a file. Each is its own proof, so nobody who passes it on need be believed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesFile {
    format: u32,
    cluster: String,
    changes: Vec<ChangeFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeFile {
    version: u64,
    incarnation: u64,
    old_keys_until_ms: u64,
    keys: BTreeMap<u64, String>,
    endorsements: BTreeMap<u64, String>,
}

const FORMAT: u32 = 1;

fn to_file(cluster: ClusterId, changes: &[TrustBundleChange]) -> ChangesFile {
    let change = |change: &TrustBundleChange| ChangeFile {
        version: change.version.0,
        incarnation: change.incarnation.0,
        old_keys_until_ms: change.old_keys_until.0,
        keys: change.keys.iter().map(|(node, key)| (node.0, key.to_string())).collect(),
        endorsements: change
            .endorsements
            .iter()
            .map(|(node, signature)| (node.0, crate::output::value::hex(&signature.0)))
            .collect(),
    };
    ChangesFile {
        format: FORMAT,
        cluster: cluster.to_string(),
        changes: changes.iter().map(change).collect(),
    }
}

/// Reads what [`export`] writes.
pub(super) fn changes_from_json(text: &str) -> Result<Vec<TrustBundleChange>, String> {
    let file: ChangesFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!("it has format {}, this version reads {FORMAT}", file.format));
    }
    file.changes.into_iter().map(change_of_file).collect()
}

fn change_of_file(file: ChangeFile) -> Result<TrustBundleChange, String> {
    let key = |(node, key): (u64, String)| {
        let key = key.parse::<PublicKey>().map_err(|error| format!("the key of node {node}: {error}"))?;
        Ok((NodeId(node), key))
    };
    let endorsement = |(node, text): (u64, String)| {
        let bytes = super::receipt::bytes_of_hex(&text).and_then(|bytes| bytes.try_into().ok());
        let bytes =
            bytes.ok_or_else(|| format!("the endorsement of node {node} is no signature in hexadecimal"))?;
        Ok((NodeId(node), Signature(bytes)))
    };
    Ok(TrustBundleChange {
        version: Version(file.version),
        keys: file.keys.into_iter().map(key).collect::<Result<_, String>>()?,
        endorsements: file.endorsements.into_iter().map(endorsement).collect::<Result<_, String>>()?,
        incarnation: haltline_core::ids::Incarnation(file.incarnation),
        old_keys_until: haltline_core::time::ClusterTime(file.old_keys_until_ms),
    })
}

async fn export(session: &Session, path: &Path) -> Result<Exit, Failure> {
    let trust = Trust::ask(&session.client).await?;
    let bundle = session.client.identity().bundle();
    follow_changes(bundle.cluster(), known(bundle), &trust.changes).map_err(|error| {
        let message =
            format!("the changes that a node tells don't follow from your identity's bundle: {error}");
        Failure::new(Exit::Broken, error.code(), message)
    })?;
    let file = to_file(bundle.cluster(), &trust.changes);
    let value = serde_json::to_value(&file).map_err(|error| Failure::local(error.to_string()))?;
    let cant = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(format!("{} exists already", path.display()))
            .hint("name another file, or move that one away"),
        _ => Failure::local(format!("can't write {}: {error}", path.display())),
    };
    let mut out = std::fs::File::create_new(path).map_err(cant)?;
    out.write_all((json_pretty(&value) + "\n").as_bytes()).map_err(cant)?;
    let count = counted(trust.changes.len() as u64, "change");
    session.screen.remark(&format!("Wrote {count} of the nodes' keys to {}.", path.display()));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::{ids::Incarnation, time::ClusterTime};

    use super::*;

    #[test]
    fn changes_come_back_from_their_file_as_they_went() {
        let change = TrustBundleChange {
            version: Version(2),
            keys: vec![(NodeId(1), PublicKey([4; 32])), (NodeId(2), PublicKey([5; 32]))],
            endorsements: vec![(NodeId(1), Signature([6; 64]))],
            incarnation: Incarnation(0),
            old_keys_until: ClusterTime(9),
        };
        let text =
            serde_json::to_string(&to_file(ClusterId([1; 16]), std::slice::from_ref(&change))).unwrap();
        assert_eq!(changes_from_json(&text).unwrap(), [change]);
        let short = text.replace(&"06".repeat(64), "06");
        assert!(changes_from_json(&short).unwrap_err().contains("endorsement of node 1"));
        assert!(
            changes_from_json(&text.replace("\"format\":1", "\"format\":2"))
                .unwrap_err()
                .contains("format 2")
        );
    }
}
