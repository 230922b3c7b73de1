//! A new cluster out of a backup: what `haltline restore` makes.
//!
//! ```text
//! <out>/trust.json     the new trust bundle, public: for people, edges that enrol anew, and later backups
//!       <node name>/   node.toml, founding.json, identity/, data/; copy it to the node's machine, start the node with it
//! ```
//!
//! All of it is made beside the target and gets its name at the end: there is a whole cluster or none.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use haltline_consensus::{Clock as _, Member, SystemClock, write_restored};
use haltline_core::{
    command::{NodeRecord, Role, Signature},
    ids::{ClusterId, Digest, Incarnation, KillId, LogIndex, NodeId, PersonId},
    restore::{KeysAfter, Restore, Restored, restore},
    state::State,
    time::{Stamp, WallTime},
};
use haltline_pki::{NewNode, NodeIdentity, RestoredNode, RestoredNodes, TrustBundle};
use haltline_storage::{DataDir, Identity, LogOptions, RealDisk, SegmentedLog, SnapshotFiles};

use super::{error::BackupError, format::BackupHeader, reader::Backup, writer::beside};
use crate::{
    config::Profile,
    error::NodeError,
    founding::{FirstAdmin, Founder, Founding},
    init::{CONFIG_FILE, FOUNDING_FILE, InitNode, Planned, founders, plan, refuse_full_directory, write},
};

/// Name of the new trust bundle's file.
const TRUST_FILE: &str = "trust.json";

/// A node of the cluster to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreNode {
    /// Its number.
    pub id: NodeId,
    /// Its name and addresses.
    pub spec: InitNode,
    /// The identity directory of the node that it was, if that was saved.
    pub identity: Option<PathBuf>,
}

/// A cluster to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The directory to make.
    pub out: PathBuf,
    /// The directory of the exported root key; may be left out where a node's identity was saved.
    pub root: Option<PathBuf>,
    /// Its nodes.
    pub nodes: Vec<RestoreNode>,
    /// Saved identities of nodes that won't be in the new cluster: they only vouch for its keys.
    pub endorsers: Vec<PathBuf>,
    /// Who restores.
    pub by: PersonId,
    /// Its incarnation; by default the one after the backup's.
    pub incarnation: Option<Incarnation>,
    /// How far apart the nodes are.
    pub profile: Profile,
}

/// A node that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredNodeReport {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Whether its identity is the one it had.
    pub kept: bool,
    /// Its configuration file, for `haltline node --config`.
    pub config_file: PathBuf,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation now.
    pub incarnation: Incarnation,
    /// What the backup says of itself.
    pub header: BackupHeader,
    /// The index of the restore in the log.
    pub index: LogIndex,
    /// The freeze of everything.
    pub kill: KillId,
    /// How many people it takes to lift that.
    pub approvals_to_resume: u32,
    /// Whether only one person is enrolled, who then suffices.
    pub bootstrap: bool,
    /// Who may lift it.
    pub approvers: Vec<PersonId>,
    /// What enforcers make of the new keys.
    pub keys: KeysAfter,
    /// How many enforcers are registered.
    pub enforcers: usize,
    /// Credentials that were void with the restore.
    pub credentials: usize,
    /// The new trust bundle.
    pub trust_bundle_file: PathBuf,
    /// Its hash.
    pub trust_bundle: Digest,
    /// Its nodes.
    pub nodes: Vec<RestoredNodeReport>,
}

/// Makes the directories of a cluster that goes on from a backup in a new incarnation, under a freeze of everything.
///
/// # Errors
/// [`BackupError::Restore`] for what the backup doesn't allow, [`BackupError::BadRestore`], [`BackupError::Node`].
pub fn restore_cluster(backup: Backup, options: &RestoreOptions) -> Result<RestoreReport, BackupError> {
    let numbered: Vec<_> = options.nodes.iter().map(|node| (node.id, &node.spec)).collect();
    let planned = plan(&numbered)?;
    refuse_full_directory(&options.out)?;
    let identities = load_identities(options)?;
    let keys = make_keys(&backup, options, &planned, &identities)?;
    let Backup { header, signed, state, .. } = backup;
    let mut asked = asked(&state, signed.index, options, &header, &planned, &keys)?;
    // With the keys as they were goes the bundle that people and enforcers have.
    let bundle = match asked.keys_to_endorse(&state) {
        None => signed.bundle()?,
        Some(_) => keys.bundle(asked.bundle_version(&state))?,
    };
    asked.trust_bundle = bundle.hash();
    asked.endorsements = endorsements(&state, &asked, &identities, options)?;
    let credentials = state.credentials().len();
    let restored = restore(state, &asked)?;

    let partial = beside(&options.out)?;
    let made = Made { planned: &planned, options, bundle: &bundle, restored: &restored.state };
    let written = made.write(&partial, &keys.identities(&bundle)?).and_then(|()| {
        std::fs::rename(&partial, &options.out)
            .map_err(|source| BackupError::io("rename to", &options.out, source))
    });
    if let Err(error) = written {
        // Best effort: the first error matters, and the name says that it is unfinished.
        let _ = std::fs::remove_dir_all(&partial);
        return Err(error);
    }
    Ok(report(&restored, header, options, &bundle, credentials))
}

type Saved = Vec<(Option<NodeId>, NodeIdentity)>;

/// Saved identities, with the number of the node that is to keep it.
fn load_identities(options: &RestoreOptions) -> Result<Saved, BackupError> {
    let kept = options.nodes.iter().filter_map(|node| Some((Some(node.id), node.identity.as_ref()?)));
    let others = options.endorsers.iter().map(|path| (None, path));
    kept.chain(others).map(|(id, path)| Ok((id, NodeIdentity::load(path)?))).collect()
}

fn make_keys(
    backup: &Backup,
    options: &RestoreOptions,
    planned: &[Planned<'_>],
    saved: &Saved,
) -> Result<RestoredNodes, BackupError> {
    let identity =
        |id: NodeId| saved.iter().find(|(of, _)| *of == Some(id)).map(|(_, identity)| identity.clone());
    let nodes = planned.iter().map(|node| RestoredNode {
        node: NewNode { id: node.id, hosts: node.hosts.clone() },
        identity: identity(node.id),
    });
    Ok(RestoredNodes::make(&backup.signed.bundle()?, options.root.as_deref(), nodes.collect())?)
}

fn asked(
    state: &State,
    index: u64,
    options: &RestoreOptions,
    header: &BackupHeader,
    planned: &[Planned<'_>],
    keys: &RestoredNodes,
) -> Result<Restore, BackupError> {
    let trusted = keys.trusted();
    let mut nodes = Vec::with_capacity(planned.len());
    for node in planned {
        let bad = |error| BackupError::BadRestore(format!("node {}: {error}", node.id));
        let name = node.spec.name.parse().map_err(bad)?;
        let keys =
            trusted.get(&node.id).ok_or_else(|| BackupError::BadRestore("a node has no keys".into()))?;
        nodes.push(NodeRecord { id: node.id, name, key_hash: keys.tls_key, signing_key: keys.signing_key });
    }
    let own = state.cluster().map(|cluster| cluster.incarnation).unwrap_or_default();
    let reason = format!(
        "restored from the backup of log index {} of {}: what was done after it is lost",
        header.index,
        at(header.wall_time())
    );
    Ok(Restore {
        index: LogIndex(index).next(),
        wall_time: SystemClock.wall(),
        incarnation: options.incarnation.unwrap_or_else(|| own.next()),
        by: options.by.clone(),
        reason: reason.parse().map_err(|error| BackupError::BadRestore(format!("{error}")))?,
        nodes,
        trust_bundle: Digest([0; 32]),
        endorsements: Vec::new(),
    })
}

/// A time for people.
fn at(time: WallTime) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(time.0));
    time.map_or_else(|| "an unknown time".into(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// The signatures of old nodes that are at hand, if they are a majority. An identity that is named only for this must be one.
fn endorsements(
    state: &State,
    asked: &Restore,
    saved: &Saved,
    options: &RestoreOptions,
) -> Result<Vec<(NodeId, Signature)>, BackupError> {
    let Some(to_endorse) = asked.keys_to_endorse(state) else { return Ok(Vec::new()) };
    let mut signed: Vec<(NodeId, Signature)> = Vec::new();
    for (number, (keeps, identity)) in saved.iter().enumerate() {
        let (id, key) = (identity.id(), identity.trusted().signing_key);
        let is_old = state.nodes().get(&id).is_some_and(|node| node.signing_key == key);
        if is_old && signed.iter().all(|(by, _)| *by != id) {
            signed.push((id, Signature(identity.signer().sign(&to_endorse.statement))));
        } else if !is_old && keeps.is_none() {
            let at = number + options.endorsers.len() - saved.len();
            let path = options.endorsers.get(at).map(|path| path.display().to_string()).unwrap_or_default();
            return Err(BackupError::BadRestore(format!(
                "{path} is no identity of a node that the backup knows, so it can't vouch for the new keys"
            )));
        }
    }
    signed.sort_by_key(|(by, _)| *by);
    Ok(if signed.len() >= to_endorse.needed { signed } else { Vec::new() })
}

/// What is to be written.
struct Made<'a> {
    planned: &'a [Planned<'a>],
    options: &'a RestoreOptions,
    bundle: &'a TrustBundle,
    restored: &'a State,
}

impl Made<'_> {
    fn write(&self, out: &Path, identities: &[NodeIdentity]) -> Result<(), BackupError> {
        let of = |node: &Planned<'_>| identities.iter().find(|identity| identity.id() == node.id).cloned();
        let ordered: Vec<_> = self.planned.iter().filter_map(of).collect();
        let founders = founders(self.planned, &ordered)?;
        let founding = self.founding(founders.clone())?;
        let members: Vec<_> = founders.iter().map(member).collect();
        for (node, identity) in self.planned.iter().zip(&ordered) {
            let directory = out.join(&node.spec.name);
            identity.save(&directory.join("identity"))?;
            write(&directory.join(FOUNDING_FILE), &founding.to_json())?;
            write(&directory.join(CONFIG_FILE), &node.config(self.options.profile).to_toml())?;
            self.write_data(&directory.join("data"), node.id, &members)?;
        }
        Ok(self.bundle.save(&out.join(TRUST_FILE))?)
    }

    /// The founding file of a cluster that isn't founded: it says who the nodes are, and of which incarnation.
    fn founding(&self, founders: Vec<Founder>) -> Result<Founding, BackupError> {
        let unknown = || BackupError::BadRestore("whoever restores has no keys".into());
        let record = self.restored.people().get(&self.options.by).ok_or_else(unknown)?;
        let first_admin = FirstAdmin {
            name: self.options.by.clone(),
            tls_key: *record.tls_keys.first().ok_or_else(unknown)?,
            signing_key: record.signing_key,
        };
        let incarnation = self.restored.cluster().map_or(Incarnation(0), |cluster| cluster.incarnation);
        let founding = Founding::new(self.bundle.cluster(), self.bundle.hash(), founders, first_admin)?;
        Ok(founding.of_incarnation(incarnation))
    }

    fn write_data(&self, path: &Path, node: NodeId, members: &[(NodeId, Member)]) -> Result<(), BackupError> {
        let written = || -> Result<(), NodeError> {
            let whose = Identity { cluster: self.bundle.cluster(), node };
            let data = DataDir::open(Arc::new(RealDisk), path, whose, SystemClock.wall())?;
            let log = SegmentedLog::open(data.disk(), &data.log_dir(), LogOptions::default())?;
            let snapshots = SnapshotFiles::open(data.disk(), &data.snapshot_dir())?;
            write_restored(&log, &snapshots, self.restored, members)?;
            log.close()?;
            Ok(())
        };
        Ok(written()?)
    }
}

fn member(founder: &Founder) -> (NodeId, Member) {
    let member = Member {
        name: founder.name.to_string(),
        raft_address: founder.raft_address.clone(),
        api_address: founder.api_address.clone(),
    };
    (NodeId(founder.id), member)
}

fn report(
    restored: &Restored,
    header: BackupHeader,
    options: &RestoreOptions,
    bundle: &TrustBundle,
    credentials: usize,
) -> RestoreReport {
    let state = &restored.state;
    let approves = |person: &&PersonId| {
        let roles = state.people().get(*person).map(|record| record.roles.as_slice()).unwrap_or_default();
        roles.iter().any(|held| held.path.is_none() && matches!(held.role, Role::Approver | Role::Admin))
    };
    let Stamp { index, .. } = state.last_stamp();
    let nodes = options.nodes.iter().map(|node| RestoredNodeReport {
        id: node.id,
        name: node.spec.name.clone(),
        kept: node.identity.is_some(),
        config_file: options.out.join(&node.spec.name).join(CONFIG_FILE),
    });
    RestoreReport {
        cluster: bundle.cluster(),
        incarnation: state.cluster().map(|cluster| cluster.incarnation).unwrap_or_default(),
        header,
        index,
        kill: restored.kill,
        approvals_to_resume: state.policy().approvals_to_resume,
        bootstrap: state.is_bootstrap(),
        approvers: state.people().keys().filter(approves).cloned().collect(),
        keys: restored.keys,
        enforcers: state.edges().len(),
        credentials,
        trust_bundle_file: options.out.join(TRUST_FILE),
        trust_bundle: bundle.hash(),
        nodes: nodes.collect(),
    }
}
