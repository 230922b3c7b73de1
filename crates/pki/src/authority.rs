//! Who counts: the question a TLS handshake asks the registry.
//!
//! A certificate proves that its key belongs to a name of this cluster. Whether that key still has a say is for the
//! replicated registry to tell (design 04: an unregistered key is nobody, and removal revokes at once).

use std::fmt;

use haltline_core::ids::{EdgeName, KeyHash};

use crate::subject::Subject;

/// Why the registry refuses a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody of that name is registered, or no longer.
    #[error("nobody of that name is registered")]
    Unregistered,
    /// The name is registered, with other keys.
    #[error("the name is registered with another key")]
    OtherKey,
    /// This node doesn't know the registry yet.
    #[error("this node has not read the registry yet; try another node, or again")]
    NotReady,
}

/// The registry, asked once in every handshake and again for open connections. Called from the handshake itself, so it
/// must not block: read a snapshot of state.
pub trait Authority: Send + Sync + 'static {
    /// Whether this key speaks for this subject now.
    ///
    /// # Errors
    /// The reason why not. It is logged; the peer only learns that it isn't registered.
    fn admit(&self, subject: &Subject, key_hash: &KeyHash) -> Result<(), Refusal>;
}

/// Accepts every certificate whose chain holds. For clients, who know no registry; **never** for a server, where a removed
/// key would stay in force until its certificate ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct CertificateAlone;

impl Authority for CertificateAlone {
    fn admit(&self, _: &Subject, _: &KeyHash) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Admits enforcers alone, by a lookup of the key that is registered under a name: what a hub's edge port asks, on a node
/// its state, on a relay its view. A relay is an enforcer like any other here: that it is one stands in the log.
pub struct RegisteredEdges<F>(F);

impl<F> RegisteredEdges<F>
where
    F: Fn(&EdgeName) -> Result<KeyHash, Refusal> + Send + Sync + 'static,
{
    /// With a lookup that answers [`Refusal::Unregistered`] or [`Refusal::NotReady`] where there is no key. It must not
    /// block.
    #[must_use]
    pub const fn new(lookup: F) -> Self {
        Self(lookup)
    }
}

impl<F> Authority for RegisteredEdges<F>
where
    F: Fn(&EdgeName) -> Result<KeyHash, Refusal> + Send + Sync + 'static,
{
    fn admit(&self, subject: &Subject, key_hash: &KeyHash) -> Result<(), Refusal> {
        let Subject::Edge(name) = subject else { return Err(Refusal::Unregistered) };
        if (self.0)(name)? == *key_hash { Ok(()) } else { Err(Refusal::OtherKey) }
    }
}

impl<F> fmt::Debug for RegisteredEdges<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegisteredEdges")
    }
}
