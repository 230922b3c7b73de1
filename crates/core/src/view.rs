//! The enforcement view: all that deciding needs, derived from enforcement events alone.
//!
//! Nodes and edges hold the same view and use the same matcher, so the centre and the edge can't drift apart. It must
//! stay a function of the events: whatever isn't in an event can't be here.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::{
    command::{RevocationTarget, canonical},
    event::{ChainPosition, EdgePolicy, EnforcementEvent, FIRST_BUNDLE, FleetPolicy, KillForce},
    ids::{ClusterId, EdgeName, Incarnation, KillId, LogIndex, NodeId, PublicKey, Version},
    path::{AgentPath, FleetPath},
    policy::{EffectiveLimits, Limits},
    selector::{Selector, Subject},
    state::tables,
    text::Labels,
    time::ClusterTime,
    trust_history::TrustHistory,
};

/// A kill, as an edge knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewKill {
    /// What it stops.
    pub selector: Selector,
    /// How.
    pub force: KillForce,
}

/// A revocation, as an edge knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRevocation {
    /// Whose credentials, issued before which index, where the target alone doesn't say.
    pub issued_before: Option<(Selector, LogIndex)>,
    /// Nothing that it could hit is valid after this.
    pub ends: ClusterTime,
}

/// All that deciding needs, at one position of the event chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Where on the chain this view stands.
    pub position: ChainPosition,
    /// The cluster, once founded.
    pub cluster: Option<(ClusterId, Incarnation)>,
    /// Keys that sign statements.
    #[serde(deserialize_with = "tables::read")]
    pub node_keys: OrdMap<NodeId, PublicKey>,
    /// Kills in force.
    #[serde(deserialize_with = "tables::read")]
    pub kills: OrdMap<KillId, ViewKill>,
    /// Revocations in force.
    #[serde(deserialize_with = "tables::read")]
    pub revocations: OrdMap<RevocationTarget, ViewRevocation>,
    /// Fleets.
    #[serde(deserialize_with = "tables::read")]
    pub fleets: OrdMap<FleetPath, FleetPolicy>,
    /// Agents, with their own labels.
    #[serde(deserialize_with = "tables::read")]
    pub agents: OrdMap<AgentPath, Labels>,
    /// Enforcers.
    #[serde(deserialize_with = "tables::read")]
    pub edges: OrdMap<EdgeName, EdgePolicy>,
    /// The version of the bundle of keys that sign statements; 1 from the founding on.
    pub bundle_version: Version,
    /// How the node keys came to be, and which replaced ones still count for tokens.
    pub trust: TrustHistory,
}

/// The format that [`View::encode`] writes.
pub const VIEW_FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"HLVIEW\0\0";

/// Why bytes are no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Not a view at all.
    #[error("this is no enforcement view: it begins with {got:02x?}, expected {MAGIC:02x?}")]
    BadMagic {
        /// The first bytes.
        got: Vec<u8>,
    },
    /// Written by a version that this one can't read.
    #[error("the view has format {got}; this version reads {VIEW_FORMAT_VERSION}")]
    UnknownFormat {
        /// Its format.
        got: u16,
    },
    /// Damaged.
    #[error("the view does not decode: {0}")]
    Malformed(postcard::Error),
    /// More than a view.
    #[error("the view is followed by {got_bytes} bytes that don't belong to it")]
    TrailingBytes {
        /// How many.
        got_bytes: usize,
    },
}

impl View {
    /// Takes one step. Returns nothing, refuses nothing: the machine made the event, and events are facts.
    pub fn apply(&mut self, event: &EnforcementEvent) {
        self.position = self.position.after(event);
        match event.clone() {
            EnforcementEvent::Founded { cluster_id, incarnation } => {
                self.cluster = Some((cluster_id, incarnation));
                self.bundle_version = FIRST_BUNDLE;
            }
            EnforcementEvent::NodeKeySet { node, key } => {
                self.node_keys.insert(node, key);
            }
            EnforcementEvent::KillSet { kill, selector, force } => {
                self.kills.insert(kill, ViewKill { selector, force });
            }
            EnforcementEvent::KillLifted { kill } => {
                self.kills.remove(&kill);
            }
            EnforcementEvent::Revoked { target, issued_before, ends } => {
                self.revocations.insert(target, ViewRevocation { issued_before, ends });
            }
            EnforcementEvent::RevocationEnded { target } => {
                self.revocations.remove(&target);
            }
            EnforcementEvent::FleetSet { path, policy } => {
                self.fleets.insert(path, policy);
            }
            EnforcementEvent::FleetRemoved { path } => {
                self.fleets.remove(&path);
            }
            EnforcementEvent::AgentSet { path, labels } => {
                self.agents.insert(path, labels);
            }
            EnforcementEvent::AgentRemoved { path } => {
                self.agents.remove(&path);
            }
            EnforcementEvent::EdgeSet { edge, record } => {
                self.edges.insert(edge, record);
            }
            EnforcementEvent::EdgeRemoved { edge } => {
                self.edges.remove(&edge);
            }
            EnforcementEvent::TrustBundleSet(change) => {
                let before = std::mem::take(&mut self.node_keys);
                self.trust.follow(before, &change);
                self.bundle_version = change.version;
                self.node_keys = change.keys.into_iter().collect();
            }
            EnforcementEvent::Restored { incarnation, bundle_version, keys } => {
                self.cluster = self.cluster.map(|(cluster, _)| (cluster, incarnation));
                self.bundle_version = bundle_version;
                self.node_keys = keys.into_iter().collect();
                self.trust.begin_anew();
            }
        }
    }

    /// The view as bytes: the magic `HLVIEW\0\0`, the format as a big-endian u16, then postcard's encoding. Equal views
    /// have equal bytes, so that their hash can be signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VIEW_FORMAT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&canonical(self));
        bytes
    }

    /// Reads what [`Self::encode`] writes.
    ///
    /// # Errors
    /// Anything but a whole view of this format.
    pub fn decode(bytes: &[u8]) -> Result<Self, ViewError> {
        let bad_magic = || ViewError::BadMagic { got: bytes.iter().copied().take(MAGIC.len()).collect() };
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(bad_magic)?;
        let (version, body) = rest.split_first_chunk().ok_or_else(bad_magic)?;
        match u16::from_be_bytes(*version) {
            VIEW_FORMAT_VERSION => {}
            got => return Err(ViewError::UnknownFormat { got }),
        }
        let (view, rest) = postcard::take_from_bytes(body).map_err(ViewError::Malformed)?;
        match rest.len() {
            0 => Ok(view),
            got_bytes => Err(ViewError::TrailingBytes { got_bytes }),
        }
    }

    /// The first kill in force that stops the subject outright, if any.
    #[must_use]
    pub fn denied_by(&self, subject: &Subject<'_>) -> Option<(KillId, &ViewKill)> {
        self.kills
            .iter()
            .find(|(_, kill)| kill.force == KillForce::Denying && kill.selector.matches(subject))
            .map(|(id, kill)| (*id, kill))
    }

    /// The labels that count for an agent: its own over those of the fleets above it, the nearest first.
    #[must_use]
    pub fn effective_labels(&self, agent: &AgentPath) -> Labels {
        let own = self.agents.get(agent.as_str());
        let fleet = agent.fleet();
        let above: Vec<_> = fleet
            .self_and_ancestors()
            .filter_map(|path| self.fleets.get(path.as_str()).map(|policy| &policy.labels))
            .collect();
        merge_labels(above.into_iter().rev().chain(own))
    }

    /// The limits that apply in a fleet.
    #[must_use]
    pub fn effective_limits(&self, fleet: &FleetPath) -> EffectiveLimits {
        fleet
            .self_and_ancestors()
            .filter_map(|path| self.fleets.get(path.as_str()))
            .fold(Limits::default(), |limits, policy| limits.narrowed_by(policy.limits))
            .effective()
    }
}

/// Lays label sets over one another, later ones winning. May exceed the bound of one set, never that of a whole path.
pub(crate) fn merge_labels<'a>(sets: impl IntoIterator<Item = &'a Labels>) -> Labels {
    sets.into_iter().fold(Labels::none(), |merged, set| merged.overlaid(set))
}
