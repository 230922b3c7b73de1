//! An enforcer's own record of what it decided, for those who check it afterwards: bounded, in memory, off unless asked for.
//!
//! It takes a lock, so an enforcer that keeps one is for tests and demonstrations.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use haltline_core::{ids::CredentialId, path::AgentPath};
use haltline_pki::token::Claims;
use parking_lot::Mutex;

use super::verdict::Verdict;

/// One decision. The verdict names its instant and its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Whose.
    pub agent: AgentPath,
    /// With which credential.
    pub credential: CredentialId,
    /// What was said.
    pub verdict: Verdict,
}

/// What was taken out of the log.
#[derive(Debug, Default)]
pub struct DecisionExtract {
    /// In the order in which they were recorded, which for concurrent decisions needn't be that of their instants.
    pub decisions: Vec<Decided>,
    /// How many found no room since the last extract. A check that needs all of them must see zero.
    pub lost: u64,
}

#[derive(Debug)]
pub(super) struct DecisionLog {
    capacity: usize,
    decisions: Mutex<VecDeque<Decided>>,
    lost: AtomicU64,
}

impl DecisionLog {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, decisions: Mutex::default(), lost: AtomicU64::new(0) }
    }

    #[cold]
    pub(super) fn record(&self, claims: &Claims, verdict: &Verdict) {
        let mut decisions = self.decisions.lock();
        if decisions.len() >= self.capacity {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (agent, credential) = (claims.agent.clone(), claims.credential);
        decisions.push_back(Decided { agent, credential, verdict: verdict.clone() });
    }

    pub(super) fn take(&self) -> DecisionExtract {
        let mut decisions = self.decisions.lock();
        DecisionExtract {
            decisions: decisions.drain(..).collect(),
            lost: self.lost.swap(0, Ordering::Relaxed),
        }
    }
}
