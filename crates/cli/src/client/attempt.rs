//! What came of asking one node, and what that means for asking the next.

use std::{fmt::Write as _, time::Duration};

use haltline_pki::{Endpoint, TlsFailure};
use haltline_wire::refusal::{Refusal, TRANSPORT};
use tonic::{Code, Response, Status};

use crate::{exit::Exit, failure::Failure, output::times};

/// One node's part in a call.
#[derive(Debug)]
pub(super) enum Attempt<T> {
    /// An answer.
    Answered(Response<T>),
    /// A refusal, which every other node would repeat.
    Refused(Refusal),
    /// Nothing to go by; another node, or another moment, may do better.
    InVain(Vain),
}

/// Why an attempt was in vain.
#[derive(Debug, Clone)]
pub(super) struct Vain {
    why: Why,
    pause: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Why {
    Tls(TlsFailure),
    Refusal(Refusal),
    Silence(Duration),
}

impl<T> Attempt<T> {
    pub(super) fn of(result: Result<Response<T>, Status>) -> Self {
        let status = match result {
            Ok(response) => return Self::Answered(response),
            Err(status) => status,
        };
        if let Some(failure) = TlsFailure::find(&status) {
            return Self::InVain(Vain { why: Why::Tls(failure), pause: None });
        }
        let refusal = Refusal::from_status(&status);
        let is_passing = if refusal.reason == TRANSPORT {
            matches!(
                refusal.code,
                Code::Unavailable
                    | Code::Unknown
                    | Code::Cancelled
                    | Code::Internal
                    | Code::DeadlineExceeded
                    | Code::Aborted
            )
        } else {
            refusal.code == Code::Unavailable || refusal.retry_after.is_some()
        };
        if is_passing {
            Self::InVain(Vain { pause: refusal.retry_after, why: Why::Refusal(refusal) })
        } else {
            Self::Refused(refusal)
        }
    }

    pub(super) const fn silent(limit: Duration) -> Self {
        Self::InVain(Vain { why: Why::Silence(limit), pause: None })
    }
}

/// The last vain attempt at each node.
#[derive(Debug, Default)]
pub(super) struct Attempts(Vec<(Endpoint, Vain)>);

impl Attempts {
    pub(super) fn add(&mut self, endpoint: &Endpoint, vain: Vain) {
        match self.0.iter_mut().find(|(known, _)| known == endpoint) {
            // The last attempt is cut short when time is up; what an earlier one learnt says more.
            Some(_) if matches!(vain.why, Why::Silence(limit) if limit < super::ATTEMPT_TIMEOUT) => {}
            Some((_, last)) => *last = vain,
            None => self.0.push((endpoint.clone(), vain)),
        }
    }

    /// Whether every node refuses the connection itself for a reason that time won't mend.
    pub(super) fn are_hopeless(&self, nodes: usize) -> bool {
        self.0.len() == nodes
            && self
                .0
                .iter()
                .all(|(_, vain)| matches!(&vain.why, Why::Tls(failure) if !failure.is_transient()))
    }

    /// The pause that a node asked for.
    pub(super) fn wanted_pause(&self) -> Option<Duration> {
        self.0.iter().filter_map(|(_, vain)| vain.pause).min()
    }

    /// What to say where [`Attempts::are_hopeless`].
    pub(super) fn hopeless(&self) -> Failure {
        let first = self.0.iter().find_map(|(_, vain)| match &vain.why {
            Why::Tls(failure) => Some(failure),
            _ => None,
        });
        match first {
            Some(failure) => {
                Failure::new(Exit::Denied, failure.code().to_ascii_uppercase(), failure.to_string())
                    .hint("--identity DIR chooses another identity, --endpoint HOST:PORT another node")
                    .with("nodes", self.reports())
            }
            None => Failure::protocol("no node could be called"),
        }
    }

    /// What to say when time was up.
    pub(super) fn timed_out(&self, purpose: &str, patience: Duration) -> Failure {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let waited = times::length(haltline_core::time::Millis(patience_ms));
        let mut message = format!("{purpose}: no answer within {waited}");
        for (endpoint, vain) in &self.0 {
            let written = write!(message, "; {endpoint}: {}", vain.why.words());
            debug_assert!(written.is_ok(), "writing to a string never fails");
        }
        let said = self.0.iter().find_map(|(_, vain)| match &vain.why {
            Why::Refusal(refusal) if refusal.reason != TRANSPORT => Some(refusal.reason.clone()),
            _ => None,
        });
        let hint = match &said {
            Some(_) => {
                "a node answers, but the cluster can't decide: `haltline status` shows which nodes are missing"
            }
            None => "check that the nodes run and the addresses are right, or give it longer with --timeout",
        };
        let reason = said.unwrap_or_else(|| "UNREACHABLE".to_owned());
        Failure::new(Exit::Unreachable, reason, message).hint(hint).with("nodes", self.reports())
    }

    fn reports(&self) -> Vec<String> {
        self.0.iter().map(|(endpoint, vain)| format!("{endpoint}: {}", vain.why.words())).collect()
    }
}

impl Why {
    fn words(&self) -> String {
        match self {
            Self::Tls(TlsFailure::Unreachable { reason, .. }) => without_errno(reason).to_owned(),
            Self::Tls(failure) => failure.to_string(),
            Self::Refusal(refusal) => refusal.message.clone(),
            Self::Silence(limit) => {
                // Rounded to a tenth of a second: what was left of the patience is never a round number.
                let limit_ms =
                    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).saturating_add(50) / 100 * 100;
                format!("no answer in {}", times::length(haltline_core::time::Millis(limit_ms)))
            }
        }
    }
}

/// `Connection refused (os error 111)` without the number, which helps nobody.
fn without_errno(text: &str) -> &str {
    text.split_once(" (os error").map_or(text, |(words, _)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: Status) -> Attempt<()> {
        Attempt::of(Err(status))
    }

    #[test]
    fn refusals_are_final_and_trouble_is_not() {
        let refused = Refusal::new(Code::NotFound, "UNKNOWN_FLEET", "no").to_status();
        assert!(matches!(of(refused), Attempt::Refused(_)));
        for passing in [
            Status::unavailable("connection closed"),
            Status::unknown("transport error"),
            Refusal::new(Code::Unavailable, "NO_LEADER", "electing").to_status(),
            Refusal::new(Code::ResourceExhausted, "REQUEST_TABLE_FULL", "full")
                .retry_after(Duration::from_secs(2))
                .to_status(),
        ] {
            assert!(matches!(of(passing.clone()), Attempt::InVain(_)), "{passing}");
        }
        assert!(matches!(of(Status::invalid_argument("bad")), Attempt::Refused(_)));
    }

    #[test]
    fn a_timeout_says_what_each_node_said() {
        let mut attempts = Attempts::default();
        let first: Endpoint = "127.0.0.1:7001".parse().expect("an endpoint");
        let second: Endpoint = "127.0.0.1:7002".parse().expect("an endpoint");
        let gone = TlsFailure::Unreachable {
            address: "127.0.0.1:7001".into(),
            reason: "Connection refused (os error 111)".into(),
        };
        attempts.add(&first, Vain { why: Why::Tls(gone), pause: None });
        attempts.add(&second, Vain { why: Why::Silence(Duration::from_secs(3)), pause: None });
        let failure = attempts.timed_out("placing the kill", Duration::from_secs(15));
        assert_eq!(failure.exit, Exit::Unreachable);
        insta::assert_snapshot!(failure.message, @r"placing the kill: no answer within 15 s; 127.0.0.1:7001: Connection refused; 127.0.0.1:7002: no answer in 3 s");
        assert!(!attempts.are_hopeless(2));
    }

    #[test]
    fn a_foreign_identity_is_hopeless_at_once() {
        let mut attempts = Attempts::default();
        let endpoint: Endpoint = "127.0.0.1:7001".parse().expect("an endpoint");
        attempts.add(&endpoint, Vain { why: Why::Tls(TlsFailure::OwnMissing), pause: None });
        assert!(attempts.are_hopeless(1) && !attempts.are_hopeless(2));
        assert_eq!(attempts.hopeless().exit, Exit::Denied);
    }
}
