//! The body of a snapshot, read into what an enforcer keeps: the same bytes as a [`View`]'s, without building one.
//!
//! A [`View`] with a million revocations takes hundreds of megabytes; here each becomes sixteen bytes as it is read.

use std::fmt;

use haltline_core::{
    command::RevocationTarget,
    event::{ChainPosition, EdgePolicy, FleetPolicy},
    ids::{ClusterId, EdgeName, Incarnation, KillId, LogIndex, NodeId, PublicKey, Version},
    limits::REVOCATIONS_MAX,
    path::{AgentPath, FleetPath},
    selector::Selector,
    text::Labels,
    trust_history::TrustHistory,
    view::{View, ViewError, ViewKill, ViewRevocation},
};
use imbl::OrdMap;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::revocations::{Revocations, RevokedKey};

/// A whole view, as a snapshot brings it. Whether to believe it is decided by its signature, before it is restored.
#[derive(Deserialize)]
pub struct ViewBody {
    position: ChainPosition,
    pub(super) cluster: Option<(ClusterId, Incarnation)>,
    pub(super) node_keys: OrdMap<NodeId, PublicKey>,
    pub(super) kills: OrdMap<KillId, ViewKill>,
    pub(super) revoked: RevokedBody,
    #[serde(deserialize_with = "pairs")]
    pub(super) fleets: Vec<(FleetPath, FleetPolicy)>,
    pub(super) agents: OrdMap<AgentPath, Labels>,
    pub(super) edges: OrdMap<EdgeName, EdgePolicy>,
    bundle_version: Version,
    pub(super) trust: TrustHistory,
}

impl ViewBody {
    /// Reads what [`View::encode`] writes. Takes up to a second for a million revocations: not for a runtime's thread.
    ///
    /// # Errors
    /// Anything but a whole view of a known format.
    pub fn decode(bytes: &[u8]) -> Result<Self, ViewError> {
        let empty = View::default();
        let header_bytes = empty.encode().len() - body_bytes(&empty);
        let header = &empty.encode()[..header_bytes];
        let Some(body) = bytes.strip_prefix(header) else {
            // Whatever is wrong with its beginning, the core says it best.
            return Err(View::decode(&bytes[..bytes.len().min(header_bytes)])
                .err()
                .unwrap_or(ViewError::Malformed(postcard::Error::DeserializeUnexpectedEnd)));
        };
        let (view, rest) = postcard::take_from_bytes(body).map_err(ViewError::Malformed)?;
        match rest.len() {
            0 => Ok(view),
            got_bytes => Err(ViewError::TrailingBytes { got_bytes }),
        }
    }

    /// Where on the chain of events it stands.
    #[must_use]
    pub const fn position(&self) -> ChainPosition {
        self.position
    }

    /// Its cluster.
    #[must_use]
    pub const fn cluster(&self) -> Option<(ClusterId, Incarnation)> {
        self.cluster
    }

    /// The keys of its nodes.
    pub fn node_keys(&self) -> impl Iterator<Item = (NodeId, PublicKey)> {
        self.node_keys.iter().map(|(node, key)| (*node, *key))
    }

    /// The version of the bundle that these keys are of.
    #[must_use]
    pub const fn bundle_version(&self) -> Version {
        self.bundle_version
    }

    /// How its nodes' keys came to be.
    #[must_use]
    pub const fn trust_history(&self) -> &TrustHistory {
        &self.trust
    }

    /// Its enforcers.
    pub fn edges(&self) -> impl Iterator<Item = (&EdgeName, &EdgePolicy)> {
        self.edges.iter()
    }

    /// Its fleets.
    pub fn fleets(&self) -> impl Iterator<Item = (&FleetPath, &FleetPolicy)> {
        self.fleets.iter().map(|(path, policy)| (path, policy))
    }

    /// An enforcer's record.
    #[must_use]
    pub fn edge(&self, name: &EdgeName) -> Option<&EdgePolicy> {
        self.edges.get(name)
    }
}

impl fmt::Debug for ViewBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewBody")
            .field("position", &self.position)
            .field("cluster", &self.cluster)
            .field("kills", &self.kills.len())
            .field("revocations", &self.revoked.ids.len())
            .field("agents", &self.agents.len())
            .finish_non_exhaustive()
    }
}

/// Bytes of a view's encoding behind its header.
fn body_bytes(view: &View) -> usize {
    postcard::to_stdvec(view).map_or(0, |body| body.len())
}

/// A map read as its pairs, in their order.
fn pairs<'de, D: Deserializer<'de>, K: Deserialize<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<(K, V)>, D::Error> {
    struct Pairs<K, V>(std::marker::PhantomData<(K, V)>);

    impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
        type Value = Vec<(K, V)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    deserializer.deserialize_map(Pairs(std::marker::PhantomData))
}

/// The revocations of a view.
pub(super) struct RevokedBody {
    pub(super) ids: Revocations,
    /// Of terminating kills: whose credentials, from before which entry.
    pub(super) terminated: Vec<(KillId, Selector, LogIndex)>,
}

impl<'de> Deserialize<'de> for RevokedBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Revoked)
    }
}

struct Revoked;

impl<'de> Visitor<'de> for Revoked {
    type Value = RevokedBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("revocations by target")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RevokedBody, A::Error> {
        /// Under one guard go so many, so that a load doesn't hold back what others gave up.
        const CHUNK: usize = 4_096;
        // A length is what some bytes say; room is made for no more than there can be.
        let room = map.size_hint().unwrap_or(0).min(REVOCATIONS_MAX);
        let ids = Revocations::with_room_for(room);
        let mut terminated = Vec::new();
        let mut chunk: Vec<RevokedKey> = Vec::with_capacity(CHUNK.min(room));
        while let Some((target, revocation)) = map.next_entry::<RevocationTarget, ViewRevocation>()? {
            match (RevokedKey::of(&target), target, revocation.issued_before) {
                (Some(key), _, _) => chunk.push(key),
                (None, RevocationTarget::Terminated(kill), Some((selector, before))) => {
                    terminated.push((kill, selector, before));
                }
                // Without a selector it names nobody; the machine makes none such.
                (None, _, _) => {}
            }
            if chunk.len() == CHUNK {
                ids.extend(chunk.drain(..));
            }
        }
        ids.extend(chunk);
        Ok(RevokedBody { ids, terminated })
    }
}

#[cfg(test)]
mod tests {
    use haltline_core::{
        command::Signature,
        event::{EnforcementEvent, TrustBundleChange},
        ids::{CredentialId, GrantId},
        time::ClusterTime,
    };

    use super::*;

    fn view() -> View {
        let mut view = View::default();
        let founded =
            EnforcementEvent::Founded { cluster_id: ClusterId([3; 16]), incarnation: Incarnation(1) };
        view.apply(&founded);
        let ends = ClusterTime(9);
        for target in
            [RevocationTarget::Credential(CredentialId([1; 16])), RevocationTarget::Grant(GrantId([2; 16]))]
        {
            view.apply(&EnforcementEvent::Revoked { target, issued_before: None, ends });
        }
        let target = RevocationTarget::Terminated(KillId(4));
        let issued_before = Some(("fleet=acme".parse().expect("a selector"), LogIndex(7)));
        view.apply(&EnforcementEvent::Revoked { target, issued_before, ends });
        let labels = Labels::from_pairs([("tier", "1")]).expect("labels");
        let path = "acme/x/y".parse().expect("a path");
        view.apply(&EnforcementEvent::AgentSet { path, labels });
        let path = "acme".parse().expect("a path");
        view.apply(&EnforcementEvent::FleetSet { path, policy: FleetPolicy::default() });
        let change = TrustBundleChange {
            version: Version(2),
            keys: vec![(NodeId(1), PublicKey([4; 32]))],
            endorsements: vec![(NodeId(1), Signature([5; 64]))],
            incarnation: Incarnation(1),
            old_keys_until: ends,
        };
        view.apply(&EnforcementEvent::TrustBundleSet(Box::new(change)));
        view
    }

    #[test]
    fn the_bytes_of_a_view_are_read_whole() {
        let view = view();
        let body = ViewBody::decode(&view.encode()).expect("a view");
        assert_eq!(body.position(), view.position);
        assert_eq!(body.cluster(), view.cluster);
        assert_eq!(body.agents, view.agents);
        assert_eq!(body.fleets.len(), 1);
        assert_eq!(body.bundle_version(), view.bundle_version);
        assert_eq!(body.trust_history(), &view.trust);
        assert_eq!(body.trust_history().changes().len(), 1);
        assert_eq!(body.revoked.ids.len(), 2);
        let terminated = [(KillId(4), "fleet=acme".parse().expect("a selector"), LogIndex(7))];
        assert_eq!(body.revoked.terminated, terminated);
    }

    #[test]
    fn other_bytes_are_refused_by_what_is_wrong_with_them() {
        let bytes = view().encode();
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(ViewBody::decode(&long).expect_err("too long"), ViewError::TrailingBytes { got_bytes: 1 });
        for cut in 0..bytes.len() {
            assert!(ViewBody::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut magic = bytes.clone();
        magic[0] ^= 1;
        assert!(matches!(ViewBody::decode(&magic), Err(ViewError::BadMagic { .. })));
        let mut format = bytes;
        format[8] ^= 1;
        assert!(matches!(ViewBody::decode(&format), Err(ViewError::UnknownFormat { .. })));
    }
}
