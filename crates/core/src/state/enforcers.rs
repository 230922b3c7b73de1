//! Who may enforce: join tokens, which let one enforcer in, and the registry of those that came in.
//!
//! Authority hangs on the key that an enforcer enrolled with: nobody else's key is registered for its name, and removing
//! it makes the key nobody's at once. A token holds no secret, only what proves that somebody has it.

use super::{
    Due, Effects, KeyOwner, Scope, State,
    change::ChangeKind,
    records::{EdgeRecord, JoinToken},
};
use crate::{
    command::{
        EdgeEnrol, EdgeRemove, EdgeUpdate, EnforcerKind, JoinTokenCreate, JoinTokenDelete, RevocationTarget,
    },
    event::EnforcementEvent,
    ids::{EdgeName, JoinTokenId, KeyHash, PersonId, Version},
    limits::{EDGE_PATHS_MAX, JOIN_TOKEN_TTL_MAX},
    rejection::{Outcome, Rejection, Table},
    time::Millis,
};

impl State {
    pub(super) fn create_join_token(
        &mut self,
        caller: &PersonId,
        command: &JoinTokenCreate,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let token = command.token;
        if self.join_tokens.contains_key(&token) {
            return Err(Rejection::JoinTokenExists { token });
        }
        if command.ttl == Millis(0) || command.ttl > JOIN_TOKEN_TTL_MAX {
            return Err(Rejection::JoinTokenTtl { got: command.ttl, max: JOIN_TOKEN_TTL_MAX });
        }
        check_trust(&command.edge, command.kind, command.trusted_for_acks)?;
        self.check_edge_is_new(&command.edge)?;
        let paths = self.checked_paths(&command.paths)?;
        if self.join_tokens.len() >= self.bounds.join_tokens {
            let advice = "delete tokens that nobody will use, or wait until some expire".into();
            return Err(full(Table::JoinTokens, self.bounds.join_tokens, advice));
        }
        let expires = effects.stamp.cluster_time.plus(command.ttl);
        let record = JoinToken {
            secret_hash: command.secret_hash,
            edge: command.edge.clone(),
            kind: command.kind,
            paths,
            trusted_for_acks: command.trusted_for_acks,
            by: caller.clone(),
            created: effects.stamp,
            expires,
        };
        self.join_tokens.insert(token, record);
        self.derived.due.insert((expires, Due::JoinTokenExpires(token)));
        effects.changed(ChangeKind::JoinTokenCreated { token, edge: command.edge.clone() });
        Ok(Outcome::JoinTokenStored { token, expires })
    }

    pub(super) fn delete_join_token(
        &mut self,
        command: &JoinTokenDelete,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let token = command.token;
        let edge = self.join_token(token)?.edge.clone();
        self.drop_join_token(token);
        effects.changed(ChangeKind::JoinTokenDeleted { token, edge });
        Ok(Outcome::JoinTokenDeleted { token })
    }

    /// Lets an enforcer in, by the word of the node that it asked. What it may do was decided with the token.
    pub(super) fn enrol_edge(
        &mut self,
        command: &EdgeEnrol,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let token = self.join_token(command.token)?;
        // No hint which of the two was wrong.
        if token.secret_hash != command.proof.stored() {
            return Err(Rejection::UnknownJoinToken { token: command.token });
        }
        let token = token.clone();
        self.check_edge_is_new(&token.edge)?;
        self.check_edge_key(&command.key)?;
        if self.edges.len() >= self.bounds.edges {
            let advice = "remove edges and relays that are no longer used".into();
            return Err(full(Table::Edges, self.bounds.edges, advice));
        }
        self.drop_join_token(command.token);
        let record = EdgeRecord {
            kind: token.kind,
            key: command.key,
            paths: token.paths,
            trusted_for_acks: token.trusted_for_acks,
            fails_open: false,
            version: Version(1),
            enrolled: effects.stamp,
            updated: effects.stamp,
        };
        let edge = token.edge;
        self.derived.key_owners.insert(command.key, KeyOwner::Edge(edge.clone()));
        self.emit(EnforcementEvent::EdgeSet { edge: edge.clone(), record: record.policy() }, effects);
        effects.changed(ChangeKind::EdgeEnrolled { edge: edge.clone(), kind: record.kind });
        self.edges.insert(edge.clone(), record);
        Ok(Outcome::EdgeStored { edge, version: Version(1) })
    }

    pub(super) fn update_edge(
        &mut self,
        command: &EdgeUpdate,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let edge = &command.edge;
        let mut record = self.edge(edge)?.clone();
        let before = record.policy();
        if let Some(paths) = &command.paths {
            record.paths = self.checked_paths(paths)?;
        }
        if let Some(trusted) = command.trusted_for_acks {
            check_trust(edge, record.kind, trusted)?;
            record.trusted_for_acks = trusted;
        }
        record.fails_open = command.fails_open.unwrap_or(record.fails_open);
        record.version = record.version.next();
        record.updated = effects.stamp;
        let (version, policy) = (record.version, record.policy());
        self.edges.insert(edge.clone(), record);
        if policy != before {
            self.emit(EnforcementEvent::EdgeSet { edge: edge.clone(), record: policy }, effects);
        }
        effects.changed(ChangeKind::EdgeUpdated { edge: edge.clone() });
        Ok(Outcome::EdgeStored { edge: edge.clone(), version })
    }

    pub(super) fn remove_edge(
        &mut self,
        command: &EdgeRemove,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        let edge = &command.edge;
        let key = self.edge(edge)?.key;
        self.edges.remove(edge);
        self.derived.key_owners.remove(&key);
        self.emit(EnforcementEvent::EdgeRemoved { edge: edge.clone() }, effects);
        effects.changed(ChangeKind::EdgeRemoved { edge: edge.clone() });
        Ok(Outcome::EdgeRemoved { edge: edge.clone() })
    }

    /// Lets a token that nobody used go.
    pub(super) fn expire_join_token(&mut self, token: JoinTokenId, effects: &mut Effects) {
        if let Some(expired) = self.join_tokens.remove(&token) {
            effects.changed(ChangeKind::JoinTokenExpired { token, edge: expired.edge });
        }
    }

    fn drop_join_token(&mut self, token: JoinTokenId) {
        if let Some(dropped) = self.join_tokens.remove(&token) {
            self.derived.due.remove(&(dropped.expires, Due::JoinTokenExpires(token)));
        }
    }

    fn join_token(&self, token: JoinTokenId) -> Result<&JoinToken, Rejection> {
        self.join_tokens.get(&token).ok_or(Rejection::UnknownJoinToken { token })
    }

    fn edge(&self, edge: &EdgeName) -> Result<&EdgeRecord, Rejection> {
        self.edges.get(edge).ok_or_else(|| Rejection::UnknownEdge { edge: edge.clone() })
    }

    fn check_edge_is_new(&self, edge: &EdgeName) -> Result<(), Rejection> {
        if self.edges.contains_key(edge) { Err(Rejection::EdgeExists { edge: edge.clone() }) } else { Ok(()) }
    }

    fn check_edge_key(&self, key: &KeyHash) -> Result<(), Rejection> {
        if let Some(owner) = self.derived.key_owners.get(key) {
            return Err(Rejection::KeyTaken { owner: owner.to_string() });
        }
        let target = RevocationTarget::Key(*key);
        if self.revocations.contains_key(&target) { Err(Rejection::Revoked { target }) } else { Ok(()) }
    }

    /// The paths in order, each once: fleets that exist, or the whole tree.
    fn checked_paths(&self, paths: &[Scope]) -> Result<Vec<Scope>, Rejection> {
        if !(1..=EDGE_PATHS_MAX).contains(&paths.len()) {
            return Err(Rejection::EdgePaths { got: paths.len() as u64, max: EDGE_PATHS_MAX as u64 });
        }
        let is_known =
            |path: &&Scope| path.as_ref().is_none_or(|path| self.fleets.contains_key(path.as_str()));
        if let Some(Some(unknown)) = paths.iter().find(|path| !is_known(path)) {
            return Err(self.unknown_fleet(unknown));
        }
        let mut paths = paths.to_vec();
        paths.sort();
        paths.dedup();
        Ok(paths)
    }
}

/// Only a relay speaks for others, so only a relay's word about them can be trusted.
fn check_trust(edge: &EdgeName, kind: EnforcerKind, trusted: bool) -> Result<(), Rejection> {
    match kind {
        EnforcerKind::Edge if trusted => Err(Rejection::RelaysOnly { edge: edge.clone() }),
        EnforcerKind::Edge | EnforcerKind::Relay => Ok(()),
    }
}

fn full(table: Table, max: usize, advice: String) -> Rejection {
    Rejection::TableFull { table, max: max as u64, advice }
}
