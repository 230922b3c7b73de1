//! Through which relays an answer may come.
//!
//! A node's signature says that the log is fresh. It doesn't say that anybody waits for this enforcer. Whoever waits for a
//! kill, waits for streams: the node for those of the enforcers that hang on it, each relay for those that hang on it. Each
//! holds the enforcer on a stream to the paths of *its* record, and computes from the `max_staleness` of those paths how
//! long a lease on it can last. An enforcer further down that reaches beyond these paths would be waited for too short or
//! not at all, and an edge that passes answers on like a relay would speak for others by its own acknowledgements.
//!
//! So every enforcer looks at those who stand between it and the node, which each layer of the proof names:
//! - the record of each is a **relay's**, and
//! - it **covers** every path of the one below it, the enforcer itself at the bottom.
//!
//! # Why names are enough
//! A leaf binds the nonce to the name under which the hub above admitted the stream, by the key that was registered then.
//! The topmost name is thus the node's own word. Of the others, go up from the bottom to the highest that lies: everybody
//! above it is honest, so its name stands in the layer above as it was admitted there, its stream is waited for by somebody
//! honest, and this check holds what it is waited for against what hangs below it. What it makes up further down only adds
//! names that have to pass too.
//!
//! # At which position
//! The lease rests on the position of the statement, and so do the records: those that are proven by the statement itself,
//! not what was heard beyond it. A hub ends a stream before anything that rests on a changed record is granted on it, so
//! those records are the ones by which the stream is waited for. What changes later, as when a relay is removed or narrowed,
//! takes nothing from that: the hub goes on waiting for a closed stream under the record it had. A name that was enrolled
//! anew is again another record and another stream.

use std::collections::{BTreeMap, VecDeque};

use haltline_core::{
    attest::ProofLayer,
    command::EnforcerKind,
    event::{EdgePolicy, EnforcementEvent},
    ids::{EdgeName, EventSeq},
    path::FleetPath,
};

use super::refusal::SyncRefusal;

/// The records of relays and the enforcer's own, as they are proven, and changes that wait for their proof.
#[derive(Debug)]
pub(crate) struct Relays {
    own: EdgeName,
    proven: BTreeMap<EdgeName, EdgePolicy>,
    /// In the order of the chain. Bounded, because the engine takes in only so much that isn't proven.
    heard: VecDeque<(EventSeq, EdgeName, Option<EdgePolicy>)>,
}

impl Relays {
    /// Knows nobody.
    pub(crate) fn below(own: EdgeName) -> Self {
        Self { own, proven: BTreeMap::new(), heard: VecDeque::new() }
    }

    /// An event that no statement covers yet.
    pub(crate) fn hear(&mut self, event: &EnforcementEvent, seq: EventSeq) {
        match event {
            EnforcementEvent::EdgeSet { edge, record } => {
                let record = self.concerns(edge, record).then(|| record.clone());
                self.heard.push_back((seq, edge.clone(), record));
            }
            EnforcementEvent::EdgeRemoved { edge } => self.heard.push_back((seq, edge.clone(), None)),
            _ => {}
        }
    }

    /// A verified statement covers the chain up to there.
    pub(crate) fn covered(&mut self, seq: EventSeq) {
        while let Some((_, name, record)) = self.heard.pop_front_if(|(at, ..)| *at <= seq) {
            match record {
                Some(record) => self.proven.insert(name, record),
                None => self.proven.remove(&name),
            };
        }
    }

    /// A verified view takes the place of everything.
    pub(crate) fn replaced<'a>(&mut self, edges: impl Iterator<Item = (&'a EdgeName, &'a EdgePolicy)>) {
        self.heard.clear();
        self.proven = edges
            .filter(|(name, record)| self.concerns(name, record))
            .map(|(name, record)| (name.clone(), record.clone()))
            .collect();
    }

    /// Whether the answer that these layers prove may be passed on by those whom they name, when the chain stands at `seq`.
    /// The first layer is the enforcer's own.
    pub(crate) fn check(&self, layers: &[ProofLayer], seq: EventSeq) -> Result<(), SyncRefusal> {
        let own = self.record(&self.own, seq).map(|record| record.paths.as_slice());
        // Whoever isn't registered serves nothing.
        let mut below = (&self.own, own.unwrap_or_default());
        for ProofLayer { name, .. } in layers.iter().skip(1) {
            let relay = self.record(name, seq).filter(|record| record.kind == EnforcerKind::Relay);
            let relay = relay.ok_or_else(|| SyncRefusal::NoRelay { name: name.clone() })?;
            if let Some(path) = below.1.iter().find(|path| !covers(&relay.paths, path)) {
                let (relay, name, path) = (name.clone(), below.0.clone(), path.clone());
                return Err(SyncRefusal::BeyondRelay { relay, name, path });
            }
            below = (name, &relay.paths);
        }
        Ok(())
    }

    fn concerns(&self, name: &EdgeName, record: &EdgePolicy) -> bool {
        record.kind == EnforcerKind::Relay || *name == self.own
    }

    /// An enforcer's record after event `seq`.
    fn record(&self, name: &EdgeName, seq: EventSeq) -> Option<&EdgePolicy> {
        let changed = self.heard.iter().rev().find(|(at, of, _)| *at <= seq && of == name);
        changed.map_or_else(|| self.proven.get(name), |(_, _, record)| record.as_ref())
    }
}

/// Whether one of the paths contains this one (`None`: the whole tree).
#[must_use]
pub fn covers(paths: &[Option<FleetPath>], path: &Option<FleetPath>) -> bool {
    paths.iter().any(|own| match (own, path) {
        (None, _) => true,
        (Some(own), Some(path)) => own.contains(path),
        (Some(_), None) => false,
    })
}

#[cfg(test)]
#[path = "relays_test.rs"]
mod tests;
