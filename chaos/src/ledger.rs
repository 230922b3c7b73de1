//! What the cluster has promised: every acknowledgement, to be held against the cluster's state afterwards.
//!
//! Two kinds of work. Registering an agent or placing a kill must show up by name. Updating a counter (an agent whose
//! version counts its updates) tells more: each acknowledgement carries the version it made, so a lost update, one carried
//! out twice, or two acknowledgements of one version all show.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use haltline_core::path::AgentPath;
use haltline_wire::v1::{self, command_reply::Outcome};

use crate::call::Failed;

/// What a command would promise if it were acknowledged.
#[derive(Debug, Clone)]
pub(crate) enum Promise {
    /// This agent is registered.
    Agent(AgentPath),
    /// This agent is killed.
    Kill(AgentPath),
    /// The counter at this position has been counted up.
    Count(usize),
}

/// An agent whose version counts its updates.
#[derive(Debug)]
pub(crate) struct Counter {
    /// Where it is.
    pub(crate) path: AgentPath,
    /// Its version before any update.
    pub(crate) first_version: u64,
    /// The versions that acknowledged updates made.
    pub(crate) versions: Vec<u64>,
    /// Updates that a writer gave up on: each may have been carried out once, or never.
    pub(crate) abandoned: u64,
}

/// Everything that was promised, and how it went.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Agents acknowledged in this round.
    pub(crate) agents: BTreeSet<String>,
    /// Kills acknowledged, by number, with what they stop.
    pub(crate) kills: Vec<(u64, String)>,
    /// The counters.
    pub(crate) counters: Vec<Counter>,
    /// Commands acknowledged.
    pub(crate) acknowledged: u64,
    /// Attempts after which nobody could say what had become of the command.
    pub(crate) unknown: u64,
    /// Of the commands with such an attempt, those that a retry with the same id settled.
    pub(crate) settled: u64,
    /// Commands that a writer gave up on while their outcome was unknown.
    pub(crate) abandoned: u64,
    /// Attempts that came to nothing because nobody led or a queue was full.
    pub(crate) not_done: u64,
    /// The highest log index of an acknowledgement.
    pub(crate) index_max: u64,
    /// What should never happen.
    pub(crate) violations: Vec<String>,
    last_acknowledged: Option<Instant>,
    longest_silence: Duration,
}

impl Ledger {
    /// Notes an answer. `doubtful`: an earlier attempt of the same command had an unknown outcome.
    pub(crate) fn answered(&mut self, promise: &Promise, reply: v1::CommandReply, doubtful: bool) {
        match (promise, reply.outcome) {
            (Promise::Agent(path), Some(Outcome::Stored(stored))) if stored.path == path.as_str() => {
                self.agents.insert(stored.path);
            }
            (Promise::Kill(path), Some(Outcome::Killed(killed))) => {
                self.kills.push((killed.kill, path.to_string()));
            }
            (Promise::Count(position), Some(Outcome::Stored(stored))) => {
                self.counters[*position].versions.push(stored.version);
            }
            (promise, outcome) => self.violations.push(format!("{promise:?} was answered with {outcome:?}")),
        }
        self.acknowledged += 1;
        self.settled += u64::from(doubtful);
        self.index_max = self.index_max.max(reply.stamp.map_or(0, |stamp| stamp.index));
        let now = Instant::now();
        if let Some(last) = self.last_acknowledged.replace(now) {
            self.longest_silence = self.longest_silence.max(now - last);
        }
    }

    /// Notes a failed attempt; says whether to try again.
    pub(crate) fn failed(&mut self, promise: &Promise, failed: &Failed, doubtful: bool) -> bool {
        match failed {
            Failed::NotDone => self.not_done += 1,
            Failed::Unknown => self.unknown += 1,
            Failed::Refused(refusal) => {
                let after = if doubtful { "a retry" } else { "a first attempt" };
                self.violations
                    .push(format!("{promise:?}: {after} was refused: {} ({refusal})", refusal.reason));
                return false;
            }
        }
        true
    }

    /// Notes that a writer gave up on a command whose outcome it doesn't know.
    pub(crate) fn gave_up(&mut self, promise: &Promise) {
        self.abandoned += 1;
        if let Promise::Count(position) = promise {
            self.counters[*position].abandoned += 1;
        }
    }

    /// The longest time without any acknowledgement since the last call.
    pub(crate) fn take_longest_silence(&mut self) -> Duration {
        std::mem::take(&mut self.longest_silence)
    }

    /// Begins a round: what was silent between two rounds counts for nobody.
    pub(crate) fn begin_round(&mut self) {
        self.agents.clear();
        self.last_acknowledged = None;
        self.longest_silence = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use haltline_wire::refusal::Refusal;
    use tonic::Code;

    fn stored(path: &str, version: u64) -> v1::CommandReply {
        let outcome = Outcome::Stored(v1::StoredResource { path: path.into(), version, is_agent: true });
        v1::CommandReply { outcome: Some(outcome), ..v1::CommandReply::default() }
    }

    #[test]
    fn an_answer_to_something_else_is_a_violation() {
        let mut ledger = Ledger::default();
        let promise = Promise::Agent("a/b".parse().unwrap());
        ledger.answered(&promise, stored("a/b", 1), false);
        assert!(ledger.violations.is_empty() && ledger.agents.contains("a/b"));
        ledger.answered(&promise, stored("a/c", 1), false);
        assert_eq!(ledger.violations.len(), 1);
    }

    #[test]
    fn a_definite_no_is_a_violation_and_a_passing_one_is_not() {
        let mut ledger = Ledger::default();
        let promise = Promise::Agent("a/b".parse().unwrap());
        let refused = |code, reason| Failed::from(Refusal::new(code, reason, "text"));
        assert!(ledger.failed(&promise, &refused(Code::Unavailable, "NO_LEADER"), false));
        assert!(ledger.failed(&promise, &refused(Code::Unavailable, "TRANSPORT"), false));
        assert!(ledger.violations.is_empty());
        assert!(!ledger.failed(&promise, &refused(Code::AlreadyExists, "PATH_TAKEN"), true));
        assert_eq!((ledger.not_done, ledger.unknown, ledger.violations.len()), (1, 1, 1));
    }
}
