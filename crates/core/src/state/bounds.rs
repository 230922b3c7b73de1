//! How large the machine's tables may grow.
//!
//! Part of the machine's definition: replicas with other bounds would answer otherwise and drift apart. So every node has
//! those of [`crate::limits`], and they are a value only so that tests can reach them.

use crate::limits;

/// The bound of each table, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the constant of `limits` with its name")]
pub struct Bounds {
    pub fleets: usize,
    pub agents: usize,
    pub people: usize,
    pub kills: usize,
    pub lifted_kills: usize,
    pub revocations: usize,
    pub approvals: usize,
    pub approvals_per_person: usize,
    pub requests: usize,
    pub requests_per_person: usize,
    pub kill_requests_reserve: usize,
    pub join_tokens: usize,
    pub edges: usize,
    pub credentials: usize,
    pub receipts: usize,
    pub old_staleness: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            fleets: limits::FLEETS_MAX,
            agents: limits::AGENTS_MAX,
            people: limits::PEOPLE_MAX,
            kills: limits::KILLS_MAX,
            lifted_kills: limits::LIFTED_KILLS_MAX,
            revocations: limits::REVOCATIONS_MAX,
            approvals: limits::PENDING_APPROVALS_MAX,
            approvals_per_person: limits::PENDING_APPROVALS_PER_PERSON_MAX,
            requests: limits::REQUESTS_MAX,
            requests_per_person: limits::REQUESTS_PER_PERSON_MAX,
            kill_requests_reserve: limits::KILL_REQUESTS_RESERVE,
            join_tokens: limits::JOIN_TOKENS_MAX,
            edges: limits::EDGES_MAX,
            credentials: limits::CREDENTIALS_MAX,
            receipts: limits::RECEIPTS_MAX,
            old_staleness: limits::OLD_STALENESS_MAX,
        }
    }
}
