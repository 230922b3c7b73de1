//! Why the hub ends a stream or doesn't begin one, as its enforcer is told.

use std::time::Duration;

use haltline_core::{
    ids::EventSeq,
    limits::{
        EDGE_MESSAGE_BYTES_MAX, EDGE_MESSAGES_PER_SECOND, HUB_HELLO_TIMEOUT, HUB_SNAPSHOT_TIMEOUT,
        HUB_SNAPSHOTS_WAITING_MAX, HUB_STREAMS_MAX, HUB_STREAMS_PER_EDGE_MAX,
    },
    tracker::TrackerError,
};
use haltline_wire::refusal::Refusal;
use tonic::Code;

/// What a stream is refused for. Each has a stable code; the message says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefused {
    /// No certificate, so nobody.
    #[error("this service needs a client certificate")]
    NoIdentity,
    /// As many streams as the hub serves.
    #[error("this hub serves {HUB_STREAMS_MAX} streams, as many as it may; another one may have room")]
    HubFull,
    /// As many streams of one name as the hub serves.
    #[error("{HUB_STREAMS_PER_EDGE_MAX} streams of this enforcer are open; one is enough")]
    TooManyStreams,
    /// A message that is compressed.
    #[error("messages of this stream are not compressed; one came that is")]
    Compressed,
    /// A message that is too large.
    #[error("a message of {got} bytes came; at most {EDGE_MESSAGE_BYTES_MAX} are allowed")]
    MessageTooLarge {
        /// Its length.
        got: usize,
    },
    /// Bytes that are no message.
    #[error("what came is no EdgeMessage: {reason}")]
    NoMessage {
        /// What the decoder says.
        reason: String,
    },
    /// Something came before Hello, or before the hub answered it.
    #[error("hello comes first, and the hub's welcome before an acknowledgement; {got} came")]
    HelloExpected {
        /// What came.
        got: &'static str,
    },
    /// Hello came twice.
    #[error("hello came twice; a stream begins once")]
    HelloTwice,
    /// Nothing came.
    #[error("no hello came within {HUB_HELLO_TIMEOUT}")]
    HelloTimeout,
    /// A field of the wrong form.
    #[error("{field} is {got} bytes long; expected {expected}")]
    BadField {
        /// Which.
        field: &'static str,
        /// Its length.
        got: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// Messages faster than anybody needs.
    #[error("more than {EDGE_MESSAGES_PER_SECOND} messages a second came")]
    MessagesTooFast,
    /// An acknowledgement of something that wasn't sent.
    #[error("the events up to {got} were acknowledged, but this stream was given those up to {sent}")]
    AckAhead {
        /// What was acknowledged.
        got: EventSeq,
        /// What was sent.
        sent: EventSeq,
    },
    /// The tracker can't follow one more.
    #[error(transparent)]
    Untracked(#[from] TrackerError),
    /// What is registered about the enforcer changed: it comes back under the new terms.
    #[error("what is registered about this enforcer changed; connect again")]
    EdgeChanged,
    /// A call that this hub doesn't serve.
    #[error("{call} isn't served here; ask a node")]
    NotServed {
        /// Its path.
        call: String,
    },
    /// The hub stops.
    #[error("this hub is stopping; another one serves you")]
    Stopping,
    /// Too many wait for a snapshot.
    #[error("{HUB_SNAPSHOTS_WAITING_MAX} enforcers wait for a snapshot here, as many as may")]
    SnapshotsBusy,
    /// The snapshot took too long to be read.
    #[error("the snapshot wasn't read within {HUB_SNAPSHOT_TIMEOUT}")]
    SnapshotTimeout,
    /// Nothing can be had from above.
    #[error("this hub has no snapshot to give: {reason}")]
    NoSnapshot {
        /// In words.
        reason: String,
    },
}

impl StreamRefused {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoIdentity => "NO_CERTIFICATE",
            Self::HubFull => "HUB_FULL",
            Self::TooManyStreams => "TOO_MANY_STREAMS",
            Self::Compressed => "COMPRESSION_UNSUPPORTED",
            Self::MessageTooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::NoMessage { .. } => "MALFORMED_MESSAGE",
            Self::HelloExpected { .. } => "HELLO_EXPECTED",
            Self::HelloTwice => "HELLO_TWICE",
            Self::HelloTimeout => "HELLO_TIMEOUT",
            Self::BadField { .. } => "INVALID_FIELD",
            Self::MessagesTooFast => "MESSAGES_TOO_FAST",
            Self::AckAhead { .. } => "ACK_AHEAD",
            Self::Untracked(_) => "TRACKER_FULL",
            Self::EdgeChanged => "EDGE_CHANGED",
            Self::NotServed { .. } => "NOT_SERVED_HERE",
            Self::Stopping => "STOPPING",
            Self::SnapshotsBusy => "SNAPSHOTS_BUSY",
            Self::SnapshotTimeout => "SNAPSHOT_TIMEOUT",
            Self::NoSnapshot { .. } => "NO_SNAPSHOT",
        }
    }

    const fn status_code(&self) -> Code {
        match self {
            Self::NoIdentity => Code::Unauthenticated,
            Self::HubFull
            | Self::TooManyStreams
            | Self::Untracked(_)
            | Self::MessagesTooFast
            | Self::MessageTooLarge { .. }
            | Self::SnapshotsBusy => Code::ResourceExhausted,
            Self::Compressed | Self::NotServed { .. } => Code::Unimplemented,
            Self::NoMessage { .. }
            | Self::HelloExpected { .. }
            | Self::HelloTwice
            | Self::BadField { .. }
            | Self::AckAhead { .. } => Code::InvalidArgument,
            Self::HelloTimeout | Self::SnapshotTimeout => Code::DeadlineExceeded,
            Self::EdgeChanged => Code::Aborted,
            Self::Stopping | Self::NoSnapshot { .. } => Code::Unavailable,
        }
    }
}

impl From<&StreamRefused> for Refusal {
    fn from(refused: &StreamRefused) -> Self {
        let refusal = Self::new(refused.status_code(), refused.code(), refused.to_string());
        match refused {
            StreamRefused::BadField { field, .. } => refusal.blaming(*field),
            StreamRefused::MessageTooLarge { .. } => {
                refusal.with("max_bytes", EDGE_MESSAGE_BYTES_MAX.to_string())
            }
            StreamRefused::HubFull
            | StreamRefused::Untracked(_)
            | StreamRefused::SnapshotsBusy
            | StreamRefused::NoSnapshot { .. }
            | StreamRefused::TooManyStreams => refusal.retry_after(Duration::from_secs(1)),
            StreamRefused::EdgeChanged => refusal.retry_after(Duration::ZERO),
            _ => refusal,
        }
    }
}

impl From<StreamRefused> for Refusal {
    fn from(refused: StreamRefused) -> Self {
        Self::from(&refused)
    }
}
