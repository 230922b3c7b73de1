//! Why a call is refused, and how that travels.

use std::time::Duration;

use haltline_consensus::{BarrierError, FeedError, ProposeError};
use haltline_core::{
    ids::{KillId, PersonId},
    rejection::Rejection,
    tracker::TrackerError,
};
use haltline_pki::{PkiError, Subject, token::TokenError};
use haltline_wire::{convert::ConvertError, refusal::Refusal};
use tonic::{Code, Status};

use crate::signing::NoSigningKey;

/// An election is usually over by then.
const RETRY_LEADER: Duration = Duration::from_millis(250);
/// Nobody frees a disk sooner.
const RETRY_DISK: Duration = Duration::from_millis(1_000);
/// A queue that was full has usually moved by then.
const RETRY_BUSY: Duration = Duration::from_millis(100);

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The connection has no certificate: it can't have come through the port that asks for one.
    #[error("this call needs mutual TLS with a registered key, and the connection has none")]
    NoCertificate,
    /// The key belongs to nobody here.
    #[error(
        "{subject} is nobody here: the key of this certificate isn't registered (or was removed); ask an operator to register it"
    )]
    UnregisteredKey {
        /// Whom the certificate names.
        subject: Subject,
    },
    /// Nodes and edges don't command.
    #[error("{subject} may not call this: it is for people")]
    PeopleOnly {
        /// Who called.
        subject: Subject,
    },
    /// People and edges don't ask what nodes ask one another.
    #[error("{subject} may not call this: it is for the nodes of the cluster")]
    NodesOnly {
        /// Who called.
        subject: Subject,
    },
    /// Only enforcers renew here.
    #[error("{subject} may not call this: it is for enforcers")]
    EdgesOnly {
        /// Who called.
        subject: Subject,
    },
    /// Something about the join token doesn't hold; which part isn't said.
    #[error(
        "this join token doesn't hold: it isn't known, has expired or was used; ask an operator for a new one"
    )]
    JoinToken,
    /// A call that another port answers.
    #[error("enforcers sync on the edge port (`listen.edge`) with the certificate that enrolling gave them")]
    EdgePortOnly,
    /// The hub can't follow this kill.
    #[error(transparent)]
    Tracker(TrackerError),
    /// As many kills are followed as may be.
    #[error("this node follows {max} kills, its limit; wait out their bound, or ask another node")]
    TooManyKills {
        /// The limit.
        max: usize,
    },
    /// The kill is in force in the log, but not yet proven everywhere.
    #[error(
        "{kill} isn't proven to be enforced everywhere yet; `haltline enforcement watch {kill}` waits for it"
    )]
    NoReceiptYet {
        /// Which.
        kill: KillId,
    },
    /// A field that isn't what it should be.
    #[error(transparent)]
    Field(#[from] ConvertError),
    /// The machine refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The command has no outcome.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The read can't be shown to be current.
    #[error("a current answer isn't to be had: {0}")]
    Barrier(#[from] BarrierError),
    /// The events asked for aren't held.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// As many watch as may.
    #[error("{max} watches are open on this node, its limit; watch at another node")]
    TooManyWatchers {
        /// The limit.
        max: usize,
    },
    /// As many backups are taken as may be.
    #[error("{max} backups are being taken from this node, its limit; ask another node, or try again later")]
    TooManyBackups {
        /// The limit.
        max: usize,
    },
    /// A page size beyond the bound.
    #[error("page_size is {got}; at most {max} are allowed (0 means the default)")]
    PageSize {
        /// What came.
        got: u32,
        /// The bound.
        max: u32,
    },
    /// A page token that no list gave out.
    #[error("page_token isn't one that this list gave out; begin again without one")]
    PageToken,
    /// The certificate request isn't for the person in the command.
    #[error(
        "the certificate request has another {what} than the person in the request; make both from one file"
    )]
    RequestMismatch {
        /// Which part differs.
        what: &'static str,
    },
    /// The keys of the certificate request aren't registered for its person.
    #[error("the keys in the certificate request aren't registered for `{person}`; have them enrolled first")]
    KeysNotRegistered {
        /// The person that the request names.
        person: PersonId,
    },
    /// A certificate request that doesn't hold.
    #[error("certificate_request: {0}")]
    CertificateRequest(PkiError),
    /// The node can't issue.
    #[error("the certificate can't be issued: {0}")]
    Issue(PkiError),
    /// What was asked for fits no token.
    #[error("no token can hold this: {0}")]
    Unsignable(TokenError),
    /// A retry came after the credential's end.
    #[error("the credential has ended, so there is no token for it any more; ask for a new one with new ids")]
    CredentialEnded,
    /// The token can't be made.
    #[error("the credential is recorded, but its token can't be made: {0}")]
    Token(String),
    /// The key that was prepared can't be read.
    #[error("this node's next signing key can't be read: {0}")]
    PreparedKey(PkiError),
    /// The key that the bundle names isn't here.
    #[error(transparent)]
    SigningKey(NoSigningKey),
    /// The node is stopping.
    #[error("this node is stopping; call another one")]
    Stopping,
}

impl Refused {
    /// As it travels.
    pub(crate) fn refusal(&self) -> Refusal {
        let refusal = |code, reason: &str| Refusal::new(code, reason, self.to_string());
        match self {
            Self::NoCertificate => refusal(Code::Unauthenticated, "NO_CERTIFICATE"),
            Self::UnregisteredKey { .. } => refusal(Code::Unauthenticated, "UNREGISTERED_KEY"),
            Self::PeopleOnly { .. } => refusal(Code::PermissionDenied, "PEOPLE_ONLY"),
            Self::NodesOnly { .. } => refusal(Code::PermissionDenied, "NODES_ONLY"),
            Self::EdgesOnly { .. } => refusal(Code::PermissionDenied, "EDGES_ONLY"),
            Self::JoinToken => refusal(Code::PermissionDenied, "JOIN_TOKEN_REFUSED"),
            Self::EdgePortOnly => refusal(Code::FailedPrecondition, "EDGE_PORT_ONLY"),
            Self::Tracker(_) | Self::TooManyKills { .. } => {
                refusal(Code::ResourceExhausted, "TOO_MANY_KILLS_FOLLOWED")
            }
            Self::NoReceiptYet { .. } => refusal(Code::FailedPrecondition, "NO_RECEIPT_YET"),
            Self::Field(error) => error.clone().into(),
            Self::Rejected(rejection) => rejection.into(),
            Self::Propose(error) => of_propose(error, &refusal),
            Self::Barrier(error) => of_barrier(error, &refusal),
            Self::Feed(FeedError::FellBehind { oldest, .. }) => refusal(Code::OutOfRange, "EVENTS_NOT_HELD")
                .with("oldest_index", oldest.to_string())
                .blaming("from_index"),
            Self::Feed(FeedError::Stopping) | Self::Stopping => stopping(&refusal),
            Self::TooManyWatchers { .. } => refusal(Code::ResourceExhausted, "TOO_MANY_WATCHERS"),
            Self::TooManyBackups { .. } => refusal(Code::ResourceExhausted, "TOO_MANY_BACKUPS"),
            Self::PageSize { .. } => refusal(Code::InvalidArgument, "PAGE_SIZE").blaming("page_size"),
            Self::PageToken => refusal(Code::InvalidArgument, "PAGE_TOKEN").blaming("page_token"),
            Self::RequestMismatch { .. } | Self::CertificateRequest(_) => {
                refusal(Code::InvalidArgument, "CERTIFICATE_REQUEST").blaming("certificate_request")
            }
            Self::KeysNotRegistered { .. } => refusal(Code::FailedPrecondition, "KEYS_NOT_REGISTERED"),
            Self::Issue(_) | Self::Token(_) => refusal(Code::Internal, "CANNOT_ISSUE"),
            Self::Unsignable(error) => {
                let is_scope = matches!(error, TokenError::Claim { claim: "scope", .. });
                let field = if is_scope { "scope" } else { "audience" };
                refusal(Code::InvalidArgument, "TOKEN_IMPOSSIBLE").blaming(field)
            }
            Self::PreparedKey(_) => refusal(Code::FailedPrecondition, "PREPARED_KEY_UNREADABLE"),
            Self::SigningKey(_) => refusal(Code::Unavailable, "SIGNING_KEY_MISSING"),
            Self::CredentialEnded => refusal(Code::FailedPrecondition, "CREDENTIAL_ENDED"),
        }
    }

    /// The name under which metrics count it.
    pub(crate) fn reason(&self) -> String {
        self.refusal().reason
    }
}

fn stopping(refusal: &impl Fn(Code, &str) -> Refusal) -> Refusal {
    refusal(Code::Unavailable, "STOPPING").retry_after(RETRY_BUSY)
}

fn of_propose(error: &ProposeError, refusal: &impl Fn(Code, &str) -> Refusal) -> Refusal {
    match error {
        ProposeError::Busy { .. } => refusal(Code::ResourceExhausted, "BUSY").retry_after(RETRY_BUSY),
        ProposeError::DiskFull => refusal(Code::Unavailable, "DISK_FULL").retry_after(RETRY_DISK),
        ProposeError::NotUnderstood => refusal(Code::FailedPrecondition, "NOT_UNDERSTOOD"),
        ProposeError::TooLarge { .. } => refusal(Code::InvalidArgument, "COMMAND_TOO_LARGE"),
        ProposeError::NoLeader { .. } => refusal(Code::Unavailable, "NO_LEADER").retry_after(RETRY_LEADER),
        ProposeError::UnknownOutcome { .. } => {
            refusal(Code::Unavailable, "OUTCOME_UNKNOWN").retry_after(RETRY_LEADER)
        }
        ProposeError::Stopping => stopping(refusal),
    }
}

fn of_barrier(error: &BarrierError, refusal: &impl Fn(Code, &str) -> Refusal) -> Refusal {
    match error {
        BarrierError::NoLeader => refusal(Code::Unavailable, "NO_LEADER").retry_after(RETRY_LEADER),
        BarrierError::NoQuorum => refusal(Code::Unavailable, "NO_QUORUM").retry_after(RETRY_LEADER),
        BarrierError::NotMember { .. } => refusal(Code::FailedPrecondition, "NOT_A_MEMBER"),
        BarrierError::Lagging { .. } => refusal(Code::Unavailable, "LAGGING").retry_after(RETRY_LEADER),
        BarrierError::Busy { .. } => refusal(Code::ResourceExhausted, "BUSY").retry_after(RETRY_BUSY),
        BarrierError::Stopping => stopping(refusal),
    }
}

/// What the transport makes of a message that is too large or none at all, in codes and words that help.
pub(crate) fn of_transport(status: &Status) -> Refusal {
    let words = status.message();
    match status.code() {
        Code::OutOfRange if words.contains("message length too large") => {
            let limit = haltline_core::limits::API_REQUEST_BYTES_MAX;
            let message = format!("the message is too large; at most {limit} bytes are read");
            Refusal::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message)
                .with("max_bytes", limit.to_string())
        }
        Code::Internal if words.contains("decode") || words.contains("compression flag") => {
            let message = format!("the message is damaged or no message of this API: {words}");
            Refusal::new(Code::InvalidArgument, "MALFORMED_MESSAGE", message)
        }
        _ => Refusal::from_status(status),
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        refused.refusal().to_status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transports_words_become_ours() {
        let large = Status::out_of_range(
            "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
        );
        let refusal = of_transport(&large);
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
        let damaged = Status::internal("failed to decode Protobuf message: invalid tag value: 0");
        assert_eq!(of_transport(&damaged).code, Code::InvalidArgument);
        assert_eq!(of_transport(&Status::cancelled("x")).code, Code::Cancelled);
    }

    #[test]
    fn what_a_retry_helps_with_says_so() {
        let refused = Refused::from(ProposeError::UnknownOutcome { waited_ms: 9 });
        let refusal = Refusal::from_status(&refused.into());
        assert_eq!(refusal.reason, "OUTCOME_UNKNOWN");
        assert!(refusal.retry_after.is_some() && refusal.message.contains("same request id"));
    }
}
