//! The table at the end: what was exercised, and what it showed.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{fault::Fault, ledger::Ledger};

/// A whole run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// For each kind of fault, the longest silence between acknowledgements in each of its rounds.
    pub(crate) silences: BTreeMap<Fault, Vec<Duration>>,
    /// Times the term went up.
    pub(crate) elections: u64,
    /// Times that all nodes held the same chain head at the same index.
    pub(crate) agreements: u64,
    /// Log index at the end.
    pub(crate) last_index: u64,
    /// Log index of the newest snapshot.
    pub(crate) snapshot_index: u64,
    /// Agents checked by name on every node.
    pub(crate) agents: u64,
    /// What was promised.
    pub(crate) ledger: Ledger,
}

impl Report {
    /// What makes the run a failure: broken promises, and things that were not exercised.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = self.ledger.violations.clone();
        let mut exercised = vec![
            ("acknowledged commands", self.ledger.acknowledged),
            ("kills placed", self.ledger.kills.len() as u64),
            ("elections", self.elections),
            ("snapshots", self.snapshot_index),
            ("unknown outcomes", self.ledger.unknown),
            ("commands settled by a retry", self.ledger.settled),
        ];
        exercised.extend(
            Fault::ALL.map(|fault| (fault.name(), self.silences.get(&fault).map_or(0, Vec::len) as u64)),
        );
        let idle = exercised.into_iter().filter(|(_, count)| *count == 0);
        failures.extend(idle.map(|(what, _)| format!("nothing was shown about `{what}`: it never came up")));
        failures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, what: &str, value: u64| writeln!(f, "{what:<44} {value:>10}");
        writeln!(f, "fault                  rounds   longest silence between answers, median / most")?;
        for fault in Fault::ALL {
            let mut silences = self.silences.get(&fault).cloned().unwrap_or_default();
            silences.sort();
            let median = silences.get(silences.len() / 2).copied().unwrap_or_default().as_millis();
            let most = silences.last().copied().unwrap_or_default().as_millis();
            writeln!(f, "{:<22} {:>6}   {median} ms / {most} ms", fault.name(), silences.len())?;
        }
        writeln!(f)?;
        let ledger = &self.ledger;
        row(f, "commands acknowledged", ledger.acknowledged)?;
        row(f, "  agents, found by name on every node", self.agents)?;
        row(f, "  kills, found in force on every node", ledger.kills.len() as u64)?;
        row(f, "attempts with an unknown outcome", ledger.unknown)?;
        row(f, "  commands then settled by a retry", ledger.settled)?;
        row(f, "  commands then given up on", ledger.abandoned)?;
        row(f, "attempts turned away (no leader, busy)", ledger.not_done)?;
        row(f, "elections", self.elections)?;
        row(f, "chain heads equal on all nodes", self.agreements)?;
        row(f, "last log index", self.last_index)?;
        row(f, "log index of the newest snapshot", self.snapshot_index)?;
        row(f, "broken promises", ledger.violations.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_exercised_nothing_fails_by_name() {
        let failures = Report::default().failures();
        for what in ["elections", "unknown outcomes", "leader killed", "all nodes killed"] {
            assert!(failures.iter().any(|failure| failure.contains(what)), "{what} in {failures:?}");
        }
    }

    #[test]
    fn a_full_run_without_violations_passes_and_one_with_does_not() {
        let mut ledger = Ledger::default();
        (ledger.acknowledged, ledger.unknown, ledger.settled) = (9, 3, 2);
        ledger.kills.push((1, "a/b".into()));
        let silences = Fault::ALL.map(|fault| (fault, vec![Duration::from_millis(5)])).into();
        let mut report = Report { silences, elections: 4, snapshot_index: 7, ledger, ..Report::default() };
        assert_eq!(report.failures(), [""; 0]);
        report.ledger.violations.push("lost".into());
        assert_eq!(report.failures(), ["lost"]);
    }
}
