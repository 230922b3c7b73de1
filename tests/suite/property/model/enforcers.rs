//! Join tokens, enforcers, and the keys that nodes sign with: the reference.

use haltline_core::{
    attest::BundleStatement,
    command::{
        BundleEndorse, BundlePropose, EdgeEnrol, EdgeUpdate, EnforcerKind, JoinTokenCreate, RevocationTarget,
        Signature,
    },
    ids::{EdgeName, JoinTokenId, KeyHash, NodeId, PersonId, PublicKey, Version},
    limits::{EDGE_PATHS_MAX, JOIN_TOKEN_TTL_MAX},
    path::FleetPath,
    rejection::Outcome,
    state::records::{EdgeRecord, JoinToken},
    time::ClusterTime,
};
use sha2::{Digest as _, Sha256};

use super::{Done, Model};
use crate::property::world::{is_key, is_signed};

/// New keys that wait for the nodes.
#[derive(Debug, Clone)]
pub(crate) struct Proposed {
    pub(crate) version: Version,
    pub(crate) keys: Vec<(NodeId, PublicKey)>,
    pub(crate) endorsed: Vec<(NodeId, Signature)>,
}

impl Model {
    pub(super) fn create_token(&mut self, caller: &PersonId, command: &JoinTokenCreate) -> Done {
        if self.tokens.contains_key(&command.token) {
            return Err("JOIN_TOKEN_EXISTS");
        }
        if command.ttl.0 < 1 || command.ttl > JOIN_TOKEN_TTL_MAX {
            return Err("JOIN_TOKEN_TTL");
        }
        if command.trusted_for_acks && command.kind != EnforcerKind::Relay {
            return Err("RELAYS_ONLY");
        }
        if self.edges.contains_key(&command.edge) {
            return Err("EDGE_EXISTS");
        }
        let expires = ClusterTime(self.now.cluster_time.0 + command.ttl.0);
        let token = JoinToken {
            secret_hash: command.secret_hash,
            edge: command.edge.clone(),
            kind: command.kind,
            paths: self.paths(&command.paths)?,
            trusted_for_acks: command.trusted_for_acks,
            by: caller.clone(),
            created: self.now,
            expires,
        };
        self.tokens.insert(command.token, token);
        Ok(Outcome::JoinTokenStored { token: command.token, expires })
    }

    pub(super) fn delete_token(&mut self, token: JoinTokenId) -> Done {
        match self.tokens.remove(&token) {
            Some(_) => Ok(Outcome::JoinTokenDeleted { token }),
            None => Err("UNKNOWN_JOIN_TOKEN"),
        }
    }

    pub(super) fn enrol_edge(&mut self, command: &EdgeEnrol) -> Done {
        let Some(token) = self.tokens.get(&command.token).cloned() else { return Err("UNKNOWN_JOIN_TOKEN") };
        let stored: [u8; 32] = Sha256::digest(command.proof.0.0).into();
        if stored != token.secret_hash.0 {
            return Err("UNKNOWN_JOIN_TOKEN");
        }
        if self.edges.contains_key(&token.edge) {
            return Err("EDGE_EXISTS");
        }
        if self.owned_tls_keys().contains(&command.key) {
            return Err("KEY_TAKEN");
        }
        if self.revocations.contains_key(&RevocationTarget::Key(command.key)) {
            return Err("REVOKED");
        }
        self.tokens.remove(&command.token);
        let record = EdgeRecord {
            kind: token.kind,
            key: command.key,
            paths: token.paths,
            trusted_for_acks: token.trusted_for_acks,
            fails_open: false,
            version: Version(1),
            enrolled: self.now,
            updated: self.now,
        };
        self.edges.insert(token.edge.clone(), record);
        Ok(Outcome::EdgeStored { edge: token.edge, version: Version(1) })
    }

    pub(super) fn update_edge(&mut self, command: &EdgeUpdate) -> Done {
        let Some(mut record) = self.edges.get(&command.edge).cloned() else { return Err("UNKNOWN_EDGE") };
        if let Some(paths) = &command.paths {
            record.paths = self.paths(paths)?;
        }
        if command.trusted_for_acks == Some(true) && record.kind != EnforcerKind::Relay {
            return Err("RELAYS_ONLY");
        }
        record.trusted_for_acks = command.trusted_for_acks.unwrap_or(record.trusted_for_acks);
        record.fails_open = command.fails_open.unwrap_or(record.fails_open);
        record.version = Version(record.version.0 + 1);
        record.updated = self.now;
        let version = record.version;
        self.edges.insert(command.edge.clone(), record);
        Ok(Outcome::EdgeStored { edge: command.edge.clone(), version })
    }

    pub(super) fn remove_edge(&mut self, edge: &EdgeName) -> Done {
        match self.edges.remove(edge) {
            Some(_) => Ok(Outcome::EdgeRemoved { edge: edge.clone() }),
            None => Err("UNKNOWN_EDGE"),
        }
    }

    /// Everybody's TLS keys.
    pub(super) fn owned_tls_keys(&self) -> Vec<KeyHash> {
        let people = self.people.values().flat_map(|person| person.tls_keys.clone());
        let nodes = self.nodes.iter().map(|node| node.key_hash);
        people.chain(nodes).chain(self.edges.values().map(|edge| edge.key)).collect()
    }

    fn paths(&self, paths: &[Option<FleetPath>]) -> Result<Vec<Option<FleetPath>>, &'static str> {
        if paths.is_empty() || paths.len() > EDGE_PATHS_MAX {
            return Err("EDGE_PATHS");
        }
        if paths.iter().flatten().any(|path| !self.fleets.contains_key(path)) {
            return Err("UNKNOWN_FLEET");
        }
        let set: std::collections::BTreeSet<_> = paths.iter().cloned().collect();
        Ok(set.into_iter().collect())
    }

    pub(super) fn propose_bundle(&mut self, command: &BundlePropose) -> Done {
        if command.version.0 != self.bundle_version + 1 {
            return Err("BUNDLE_VERSION");
        }
        self.check_bundle(&command.keys)?;
        let (version, keys) = (command.version, command.keys.clone());
        self.proposed = Some(Proposed { version, keys, endorsed: Vec::new() });
        Ok(Outcome::BundleProposed { version, needed: self.majority() })
    }

    pub(super) fn endorse_bundle(&mut self, node: NodeId, command: &BundleEndorse) -> Done {
        let Some(mut proposed) = self.proposed.clone().filter(|proposed| proposed.version == command.version)
        else {
            return Err("UNKNOWN_BUNDLE");
        };
        let cluster = self.cluster.as_ref().unwrap();
        let statement = BundleStatement {
            cluster_id: cluster.id,
            incarnation: cluster.incarnation,
            version: proposed.version,
            keys: &proposed.keys,
        };
        let key = self.nodes.iter().find(|known| known.id == node).unwrap().signing_key;
        if !is_signed(&key, &statement.to_bytes(), &command.signature) {
            return Err("BAD_ENDORSEMENT");
        }
        proposed.endorsed.retain(|(by, _)| *by != node);
        proposed.endorsed.push((node, command.signature));
        proposed.endorsed.sort_by_key(|(by, _)| *by);
        let (endorsed, needed) = (proposed.endorsed.len() as u32, self.majority());
        let in_force = endorsed >= needed;
        if in_force {
            self.check_bundle(&proposed.keys)?;
            for (node, key) in &proposed.keys {
                self.nodes.iter_mut().find(|known| known.id == *node).unwrap().signing_key = *key;
            }
            self.bundle_version += 1;
            self.proposed = None;
        } else {
            self.proposed = Some(proposed);
        }
        Ok(Outcome::BundleEndorsed { version: command.version, endorsed, needed, in_force })
    }

    fn check_bundle(&self, keys: &[(NodeId, PublicKey)]) -> Result<(), &'static str> {
        let nodes: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let current: Vec<PublicKey> = self.nodes.iter().map(|node| node.signing_key).collect();
        let new: Vec<PublicKey> = keys.iter().map(|(_, key)| *key).collect();
        let named: Vec<NodeId> = keys.iter().map(|(node, _)| *node).collect();
        if named != nodes || new == current || !new.iter().all(is_key) {
            return Err("BAD_BUNDLE");
        }
        for (at, key) in new.iter().enumerate() {
            let is_persons = self.people.values().any(|person| person.signing_key == *key);
            let is_other_nodes = current.iter().position(|known| known == key).is_some_and(|of| of != at);
            if is_persons || is_other_nodes {
                return Err("KEY_TAKEN");
            }
            if new[..at].contains(key) {
                return Err("BAD_BUNDLE");
            }
        }
        Ok(())
    }

    fn majority(&self) -> u32 {
        self.nodes.len() as u32 / 2 + 1
    }
}
