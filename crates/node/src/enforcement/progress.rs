//! How far a kill has come, as those who wait for it are told.

use std::collections::BTreeMap;

use haltline_core::{
    LogIndex,
    ids::{EdgeName, KillId, NodeId},
    receipt::{MemberClear, SignedReceipt},
    time::Millis,
};
use haltline_wire::v1;

/// How far a kill has come.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) kill: KillId,
    /// Where the kill stands in the log.
    pub(crate) index: LogIndex,
    pub(crate) state: Standing,
    /// Since this node saw it applied.
    pub(crate) elapsed: Millis,
    /// Until it is enforced at the latest.
    pub(crate) at_most: Millis,
    pub(crate) members: BTreeMap<NodeId, MemberStanding>,
}

/// What there is to be said of the whole.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Somebody may still permit what the kill stops.
    Waiting,
    /// Nobody can.
    Enforced(Box<SignedReceipt>),
    /// The kill was lifted before; there is nothing to prove any more.
    Lifted,
}

/// One member's part.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemberStanding {
    pub(crate) state: MemberState,
    pub(crate) acked: u64,
    pub(crate) waiting: u64,
    /// The first of those that it waits for, with the time until each is waited out.
    pub(crate) lagging: Vec<(EdgeName, Millis)>,
}

/// See [`MemberStanding`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// Not heard of.
    #[default]
    Unreachable,
    /// Asked, and not clear.
    Waiting,
    /// Clear.
    Clear,
    /// Waited out.
    WaitedOut,
}

impl Progress {
    pub(super) fn beginning(kill: KillId, index: LogIndex) -> Self {
        let (elapsed, at_most, members) = Default::default();
        Self { kill, index, state: Standing::Waiting, elapsed, at_most, members }
    }

    /// What a receipt tells.
    pub(super) fn enforced(signed: SignedReceipt) -> Self {
        let receipt = &signed.receipt;
        let standing = |clear| MemberStanding {
            state: match clear {
                MemberClear::Clear => MemberState::Clear,
                MemberClear::WaitedOut => MemberState::WaitedOut,
            },
            ..MemberStanding::default()
        };
        Self {
            kill: receipt.kill,
            index: receipt.placed.index,
            elapsed: receipt.took,
            at_most: Millis(0),
            members: receipt.members.iter().map(|(node, clear)| (*node, standing(*clear))).collect(),
            state: Standing::Enforced(Box::new(signed)),
        }
    }

    /// Whether nothing more will come.
    pub(crate) const fn is_over(&self) -> bool {
        !matches!(self.state, Standing::Waiting)
    }
}

impl From<&Progress> for v1::EnforcementProgress {
    fn from(progress: &Progress) -> Self {
        use v1::EnforcementState as State;
        let (state, receipt) = match &progress.state {
            Standing::Waiting => (State::Waiting, None),
            Standing::Enforced(signed) => (State::Enforced, Some(&**signed)),
            Standing::Lifted => (State::Lifted, None),
        };
        let known: u64 = progress.members.values().map(|member| member.acked).sum();
        let lagging = progress.members.iter().flat_map(|(node, member)| {
            member.lagging.iter().map(move |(name, left)| v1::LaggingEnforcer {
                name: name.to_string(),
                node: node.0,
                lease_left_ms: left.0,
                ..v1::LaggingEnforcer::default()
            })
        });
        Self {
            kill: progress.kill.0,
            index: progress.index.0,
            state: state.into(),
            elapsed_ms: progress.elapsed.0,
            at_most_ms: progress.at_most.0,
            enforcers_acked: receipt.map_or(known, |signed| signed.receipt.enforcers_acked),
            enforcers_waiting: progress.members.values().map(|member| member.waiting).sum(),
            lagging: lagging.collect(),
            members: progress.members.iter().map(member_progress).collect(),
            receipt: receipt.map(Into::into),
        }
    }
}

fn member_progress((node, member): (&NodeId, &MemberStanding)) -> v1::MemberProgress {
    let state = match member.state {
        MemberState::Unreachable => v1::MemberState::Unreachable,
        MemberState::Waiting => v1::MemberState::Waiting,
        MemberState::Clear => v1::MemberState::Clear,
        MemberState::WaitedOut => v1::MemberState::WaitedOut,
    };
    v1::MemberProgress { node: node.0, state: state.into() }
}
