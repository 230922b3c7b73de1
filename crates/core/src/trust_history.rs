//! How the keys that nodes sign with came to be what they are, and which of the replaced ones still count for tokens.
//!
//! Whoever was away while keys changed can't have heard the events, so the view carries the changes themselves: each is
//! endorsed by a majority of the keys before it, so from any bundle among the last ones there is a proven way to the
//! current one. A replaced key signs no statement any more, but access tokens that it signed are good until they end.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::{
    event::TrustBundleChange,
    ids::{NodeId, PublicKey, Version},
    limits::{BUNDLE_CHANGES_MAX, CREDENTIAL_TTL_CEILING, RETIRED_KEYS_MAX},
    state::tables,
    time::ClusterTime,
};

/// A key that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredKey {
    /// Whose it was.
    pub node: NodeId,
    /// Tokens that it signed count if they end no later than this.
    pub until: ClusterTime,
}

/// The last changes of the bundle, and the keys that they replaced. A function of the enforcement events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustHistory {
    #[serde(deserialize_with = "tables::read")]
    changes: OrdMap<Version, TrustBundleChange>,
    #[serde(deserialize_with = "tables::read")]
    retired: OrdMap<PublicKey, RetiredKey>,
}

impl TrustHistory {
    /// The changes, at most [`BUNDLE_CHANGES_MAX`], by the version that each led to.
    #[must_use]
    pub const fn changes(&self) -> &OrdMap<Version, TrustBundleChange> {
        &self.changes
    }

    /// Keys that were replaced and still count for tokens, at most [`RETIRED_KEYS_MAX`].
    #[must_use]
    pub const fn retired(&self) -> &OrdMap<PublicKey, RetiredKey> {
        &self.retired
    }

    /// A new incarnation began: no token of an earlier one counts, so no key that was replaced does.
    pub fn begin_anew(&mut self) {
        self.retired = OrdMap::new();
    }

    /// Takes a change up. `before` is whose keys were in force until now.
    pub fn follow(
        &mut self,
        before: impl IntoIterator<Item = (NodeId, PublicKey)>,
        change: &TrustBundleChange,
    ) {
        // Whatever was to count until now or earlier has had its time.
        let now = ClusterTime(change.old_keys_until.0.saturating_sub(CREDENTIAL_TTL_CEILING.0));
        let live = self.retired.iter().filter(|(_, retired)| retired.until > now);
        self.retired = live.map(|(key, retired)| (*key, *retired)).collect();
        let until = change.old_keys_until;
        self.retired.extend(before.into_iter().map(|(node, key)| (key, RetiredKey { node, until })));
        for (_, key) in &change.keys {
            self.retired.remove(key);
        }
        while self.retired.len() > RETIRED_KEYS_MAX {
            let first = self.retired.iter().min_by_key(|(key, retired)| (retired.until, **key));
            let Some(key) = first.map(|(key, _)| *key) else { break };
            self.retired.remove(&key);
        }
        self.changes.insert(change.version, change.clone());
        while self.changes.len() > BUNDLE_CHANGES_MAX {
            let Some(oldest) = self.changes.get_min().map(|(version, _)| *version) else { break };
            self.changes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::FIRST_BUNDLE, ids::Incarnation};

    fn key(of: u64) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&of.to_be_bytes());
        PublicKey(bytes)
    }

    /// Node 1's key is number `version` from this version on; the change happens at `now`.
    fn change(version: u64, now: u64) -> TrustBundleChange {
        TrustBundleChange {
            version: Version(version),
            keys: vec![(NodeId(1), key(version)), (NodeId(2), key(0))],
            endorsements: Vec::new(),
            incarnation: Incarnation(1),
            old_keys_until: ClusterTime(now).plus(CREDENTIAL_TTL_CEILING),
        }
    }

    fn follow(history: &mut TrustHistory, version: u64, now: u64) {
        let before = [(NodeId(1), key(version - 1)), (NodeId(2), key(0))];
        history.follow(before, &change(version, now));
    }

    #[test]
    fn a_replaced_key_counts_until_all_that_it_signed_has_ended() {
        let mut history = TrustHistory::default();
        follow(&mut history, 2, 1_000);
        let until = ClusterTime(1_000).plus(CREDENTIAL_TTL_CEILING);
        assert_eq!(history.retired().get(&key(1)), Some(&RetiredKey { node: NodeId(1), until }));
        assert_eq!(history.retired().len(), 1, "a key that stays isn't replaced");
        follow(&mut history, 3, until.0 - 1);
        assert!(history.retired().contains_key(&key(1)), "its time isn't over");
        follow(&mut history, 4, until.0);
        assert!(!history.retired().contains_key(&key(1)));
        assert_eq!(history.retired().len(), 2);
    }

    #[test]
    fn a_key_that_comes_back_is_not_retired() {
        let mut history = TrustHistory::default();
        follow(&mut history, 2, 0);
        let back = TrustBundleChange { version: Version(3), keys: vec![(NodeId(1), key(1))], ..change(3, 1) };
        history.follow([(NodeId(1), key(2))], &back);
        assert!(!history.retired().contains_key(&key(1)));
        assert!(history.retired().contains_key(&key(2)));
    }

    #[test]
    fn the_last_changes_are_kept_and_no_more_keys_than_there_is_room_for() {
        let mut history = TrustHistory::default();
        let last = FIRST_BUNDLE.0 + BUNDLE_CHANGES_MAX as u64 + 3;
        (FIRST_BUNDLE.0 + 1..=last).for_each(|version| follow(&mut history, version, version));
        assert_eq!(history.changes().len(), BUNDLE_CHANGES_MAX);
        assert_eq!(history.changes().get_max().map(|(version, _)| version.0), Some(last));
        assert_eq!(history.retired().len(), RETIRED_KEYS_MAX);
        assert!(history.retired().contains_key(&key(last - 1)), "the latest stay");
    }
}
