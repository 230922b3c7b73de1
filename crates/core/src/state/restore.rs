//! A new incarnation of a cluster out of a backup of an earlier one (design 02, After a restore).
//!
//! What was done after the backup is lost, kills included, and so are the nodes. So the new incarnation begins under a
//! freeze of everything, which only people lift, and whatever permitted in the earlier one permits no more: tokens and
//! people's signatures name the incarnation, waiting commands and join tokens are dropped. What denies stays.
//!
//! What must stay true:
//! - It is a function of the backup and of what is asked, so that every node of the new cluster begins with the same bytes.
//! - It is one more entry of the log: it has an index and a stamp, extends the chain of events, and the view that follows
//!   from the events is the view of the state.
//! - Keys that a majority of the old ones doesn't endorse become no part of the trust history: enforcers of the earlier
//!   incarnation don't believe them.

use std::collections::BTreeSet;

use imbl::OrdMap;

use super::{
    Effects, State,
    records::{Recorded, Restoration},
};
use crate::{
    attest::{AttestError, BundleStatement},
    command::{KillCommand, KillMode, NodeRecord, Role, Signature},
    event::{EnforcementEvent, TrustBundleChange},
    ids::{ClusterId, Digest, Incarnation, KeyHash, KillId, LogIndex, NodeId, PersonId, PublicKey, Version},
    lease::{Drift, fence},
    limits::{MAX_STALENESS_CEILING, NODES_MAX, NUMBERS_SKIPPED_BY_RESTORE, OLD_STALENESS_MARGIN},
    rejection::Outcome,
    selector::Selector,
    text::Reason,
    time::{Stamp, WallTime},
};

/// What is to become of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The index that the restore itself has in the log: beyond the backup's.
    pub index: LogIndex,
    /// When it is done, for people.
    pub wall_time: WallTime,
    /// The new incarnation; beyond the backup's.
    pub incarnation: Incarnation,
    /// Who restores: a person of the backup, admin at the root. The freeze is theirs.
    pub by: PersonId,
    /// Why everything is frozen.
    pub reason: Reason,
    /// All nodes of the new cluster.
    pub nodes: Vec<NodeRecord>,
    /// Hash of the trust bundle with their keys.
    pub trust_bundle: Digest,
    /// Signatures of nodes of the backup, by their old keys, over [`Restore::keys_to_endorse`]; none, or a majority.
    pub endorsements: Vec<(NodeId, Signature)>,
}

/// What enforcers of the earlier incarnation will make of the new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysAfter {
    /// They are the same ones.
    Kept,
    /// A majority of the old keys endorsed the new ones: enforcers follow by themselves.
    Endorsed,
    /// They believe those of the old keys that are still among the new ones, and no other. Where none is: nobody.
    Unproven {
        /// How many of the old keys are still in use.
        kept: usize,
    },
}

/// A cluster that begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Its state.
    pub state: State,
    /// The events by which its chain goes beyond the backup's.
    pub events: Vec<EnforcementEvent>,
    /// The freeze of everything.
    pub kill: KillId,
    /// Whose statements enforcers will believe.
    pub keys: KeysAfter,
}

/// Why a backup can't be restored as asked. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A state from before the founding entry.
    #[error("the backup was made before the cluster was founded; there is nothing to restore")]
    NotFounded,
    /// Nobody of that name.
    #[error("the backup has no person `{person}`; its admins at the root are {}", listed(.admins))]
    UnknownPerson {
        /// Who was named.
        person: PersonId,
        /// Who could be.
        admins: Vec<PersonId>,
    },
    /// Somebody who may not.
    #[error("`{person}` is no admin at the root in the backup; those who are: {}", listed(.admins))]
    NotAdmin {
        /// Who was named.
        person: PersonId,
        /// Who could be.
        admins: Vec<PersonId>,
    },
    /// No node, or too many.
    #[error("a cluster has 1 to {NODES_MAX} nodes, got {got}")]
    NodeCount {
        /// How many came.
        got: usize,
    },
    /// Two nodes with one number or key, or one with a person's or an enforcer's.
    #[error("node {node} has the number or a key of {owner}; every node needs its own")]
    NodeTwice {
        /// Which.
        node: NodeId,
        /// Whose it is.
        owner: String,
    },
    /// Not beyond the backup's.
    #[error("the new incarnation must be beyond the backup's, which is {backup}; got {got}")]
    Incarnation {
        /// The backup's.
        backup: Incarnation,
        /// What came.
        got: Incarnation,
    },
    /// Not beyond the backup's.
    #[error("the restore must stand beyond the backup's index, which is {backup}; got {got}")]
    Index {
        /// The backup's.
        backup: LogIndex,
        /// What came.
        got: LogIndex,
    },
    /// Endorsements that don't suffice.
    #[error("the new keys aren't endorsed as they should be: {0}")]
    Endorsements(#[from] AttestError),
}

fn listed(people: &[PersonId]) -> String {
    match people {
        [] => "none".into(),
        people => people.iter().map(PersonId::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// New keys as old nodes sign them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysToEndorse {
    /// The bytes to sign.
    pub statement: Vec<u8>,
    /// How many of the old nodes must.
    pub needed: usize,
}

impl Restore {
    /// The version that the bundle of keys will have.
    #[must_use]
    pub fn bundle_version(&self, backup: &State) -> Version {
        if self.keys() == keys_of(backup.nodes().values()) {
            backup.bundle_version
        } else {
            backup.bundle_version.next()
        }
    }

    /// What nodes of the backup must sign, so that enforcers follow to the new keys; `None` if the keys stay.
    #[must_use]
    pub fn keys_to_endorse(&self, backup: &State) -> Option<KeysToEndorse> {
        let version = self.bundle_version(backup);
        if version == backup.bundle_version {
            return None;
        }
        let cluster_id = backup.cluster()?.id;
        let keys = self.keys();
        let statement = BundleStatement { cluster_id, incarnation: self.incarnation, version, keys: &keys };
        Some(KeysToEndorse { statement: statement.to_bytes(), needed: backup.nodes().len() / 2 + 1 })
    }

    fn keys(&self) -> Vec<(NodeId, PublicKey)> {
        keys_of(&self.nodes)
    }
}

/// Signing keys in the order of the nodes.
fn keys_of<'a>(nodes: impl IntoIterator<Item = &'a NodeRecord>) -> Vec<(NodeId, PublicKey)> {
    let mut keys: Vec<_> = nodes.into_iter().map(|node| (node.id, node.signing_key)).collect();
    keys.sort_unstable();
    keys
}

/// Begins a new incarnation with what a backup holds.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(backup: State, restore: &Restore) -> Result<Restored, RestoreError> {
    let cluster = backup.cluster().ok_or(RestoreError::NotFounded)?.clone();
    check(&backup, restore, cluster.incarnation)?;
    let change = endorsed_change(&backup, restore, cluster.id)?;
    let old_keys = keys_of(backup.nodes().values());
    let keys = restore.keys();
    let keys_after = match &change {
        _ if keys == old_keys => KeysAfter::Kept,
        Some(_) => KeysAfter::Endorsed,
        None => KeysAfter::Unproven { kept: keys.iter().filter(|key| old_keys.contains(key)).count() },
    };
    let mut state = backup;
    let (events, kill) = state.begin_anew(restore, keys, change);
    Ok(Restored { state, events, kill, keys: keys_after })
}

fn check(backup: &State, restore: &Restore, incarnation: Incarnation) -> Result<(), RestoreError> {
    if restore.incarnation <= incarnation {
        return Err(RestoreError::Incarnation { backup: incarnation, got: restore.incarnation });
    }
    if restore.index <= backup.last.index {
        return Err(RestoreError::Index { backup: backup.last.index, got: restore.index });
    }
    check_person(backup, &restore.by)?;
    check_nodes(backup, &restore.nodes)
}

fn check_person(backup: &State, by: &PersonId) -> Result<(), RestoreError> {
    let is_admin = |person: &PersonId| {
        let record = backup.people.get(person);
        record.is_some_and(|record| {
            record.roles.iter().any(|held| held.role == Role::Admin && held.path.is_none())
        })
    };
    let admins = || backup.people.keys().filter(|person| is_admin(person)).cloned().collect();
    match backup.people.contains_key(by) {
        false => Err(RestoreError::UnknownPerson { person: by.clone(), admins: admins() }),
        true if !is_admin(by) => Err(RestoreError::NotAdmin { person: by.clone(), admins: admins() }),
        true => Ok(()),
    }
}

/// Every node has a number and keys of its own, and none of them is a person's or an enforcer's.
fn check_nodes(backup: &State, nodes: &[NodeRecord]) -> Result<(), RestoreError> {
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return Err(RestoreError::NodeCount { got: nodes.len() });
    }
    let taken = |node: &NodeRecord, owner: String| Err(RestoreError::NodeTwice { node: node.id, owner });
    let (mut ids, mut tls, mut signing) =
        (BTreeSet::<NodeId>::new(), BTreeSet::<KeyHash>::new(), BTreeSet::<PublicKey>::new());
    for node in nodes {
        let is_new = ids.insert(node.id) & tls.insert(node.key_hash) & signing.insert(node.signing_key);
        if !is_new {
            return taken(node, "another one".into());
        }
        let person = backup.people.iter().find(|(_, person)| {
            person.tls_keys.contains(&node.key_hash) || person.signing_key == node.signing_key
        });
        if let Some((person, _)) = person {
            return taken(node, person.to_string());
        }
        if let Some((edge, _)) = backup.edges.iter().find(|(_, edge)| edge.key == node.key_hash) {
            return taken(node, format!("edge {edge}"));
        }
    }
    Ok(())
}

/// The change of the bundle, where there is one and a majority of the old keys is for it.
fn endorsed_change(
    backup: &State,
    restore: &Restore,
    cluster_id: ClusterId,
) -> Result<Option<TrustBundleChange>, RestoreError> {
    let version = restore.bundle_version(backup);
    if restore.endorsements.is_empty() || version == backup.bundle_version {
        return Ok(None);
    }
    let (keys, incarnation) = (restore.keys(), restore.incarnation);
    let statement = BundleStatement { cluster_id, incarnation, version, keys: &keys };
    let old = keys_of(backup.nodes().values());
    statement.verify(backup.bundle_version, &old, &restore.endorsements)?;
    let endorsements = restore.endorsements.clone();
    // No token of an earlier incarnation counts, whoever signed it.
    let old_keys_until = backup.last.cluster_time;
    Ok(Some(TrustBundleChange { version, keys, endorsements, incarnation, old_keys_until }))
}

impl State {
    /// How this incarnation began, if it isn't the first.
    #[must_use]
    pub const fn restored(&self) -> Option<&Restoration> {
        self.restored.as_ref()
    }

    fn begin_anew(
        &mut self,
        restore: &Restore,
        keys: Vec<(NodeId, PublicKey)>,
        change: Option<TrustBundleChange>,
    ) -> (Vec<EnforcementEvent>, KillId) {
        let version = restore.bundle_version(self);
        let backup = self.last;
        self.last = Stamp { index: restore.index, wall_time: restore.wall_time, ..backup };
        let mut effects = Effects { stamp: self.last, caller: None, events: Vec::new(), changes: Vec::new() };
        if let Some(cluster) = &mut self.cluster {
            cluster.incarnation = restore.incarnation;
            cluster.trust_bundle = restore.trust_bundle;
        }
        self.nodes = restore.nodes.iter().map(|node| (node.id, node.clone())).collect();
        self.forget_what_permitted();
        self.bundle_version = version;
        self.trust_history.begin_anew();
        let (incarnation, bundle_version) = (restore.incarnation, version);
        self.emit(
            EnforcementEvent::Restored { incarnation, bundle_version, keys: keys.clone() },
            &mut effects,
        );
        if let Some(change) = change {
            self.trust_history.follow(keys, &change);
            self.emit(EnforcementEvent::TrustBundleSet(Box::new(change)), &mut effects);
        }
        self.rebuild_derived();
        let kill = self.freeze_everything(restore, &mut effects);
        let wait = crate::time::Millis(fence(MAX_STALENESS_CEILING, Drift::MAX).0 + OLD_STALENESS_MARGIN.0);
        let leases_end = backup.cluster_time.plus(wait);
        self.restored = Some(Restoration { at: self.last, backup, kill, leases_end });
        (effects.events, kill)
    }

    /// Drops what could let something through that the earlier incarnation admitted.
    fn forget_what_permitted(&mut self) {
        self.approvals = OrdMap::new();
        self.next_approval = skipped(self.next_approval);
        self.join_tokens = OrdMap::new();
        self.credentials = OrdMap::new();
        self.proposed_bundle = None;
        // Whatever was in force, leases of the earlier incarnation are waited out as the longest there are.
        self.old_staleness = OrdMap::new();
        // Commands that were carried out before the backup are never carried out again. An answer that promises what is
        // gone now is forgotten: asked again, the command is refused, because its signature names the earlier incarnation.
        let stands = |recorded: &Recorded| recorded.result.as_ref().map_or(true, outcome_stands);
        let requests = std::mem::take(&mut self.requests);
        self.requests = requests.into_iter().filter(|(_, recorded)| stands(recorded)).collect();
    }

    /// Placed directly: it needs no room in a table, and whoever asks for it was checked.
    fn freeze_everything(&mut self, restore: &Restore, effects: &mut Effects) -> KillId {
        self.next_kill = skipped(self.next_kill);
        let command = KillCommand {
            selector: Selector::default(),
            mode: KillMode::Freeze,
            reason: restore.reason.clone(),
            expires_after: None,
        };
        self.place(&restore.by, &command, None, effects).kill
    }
}

/// The last number before the next multiple: what is numbered next has that.
const fn skipped(last: u64) -> u64 {
    (last / NUMBERS_SKIPPED_BY_RESTORE + 1).saturating_mul(NUMBERS_SKIPPED_BY_RESTORE) - 1
}

/// Whether what a command was answered is still so.
fn outcome_stands(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Pending(_)
        | Outcome::JoinTokenStored { .. }
        | Outcome::CredentialIssued(_)
        | Outcome::BundleProposed { .. }
        | Outcome::BundleEndorsed { in_force: false, .. } => false,
        Outcome::Executed { outcome, .. } => outcome.as_ref().as_ref().map_or(true, outcome_stands),
        _ => true,
    }
}

#[cfg(test)]
#[path = "restore_test.rs"]
mod tests;
