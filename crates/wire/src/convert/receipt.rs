//! Receipts of kills. What counts is their canonical encoding, which is what a node signed; the fields beside it are for
//! reading, and a message in which they say something else is refused.

use haltline_core::{
    command::Signature,
    ids::NodeId,
    receipt::{EnforcedRule, Fenced, FencedWhy, MemberClear, Receipt, SignedReceipt},
};

use super::{At, ConvertError, Why, command_message::kill_mode};
use crate::v1;

impl From<&Receipt> for v1::Receipt {
    fn from(receipt: &Receipt) -> Self {
        let (mode, drain_ms) = kill_mode(receipt.mode);
        Self {
            cluster_id: receipt.cluster_id.0.to_vec(),
            incarnation: receipt.incarnation.0,
            kill: receipt.kill.0,
            selector: Some((&receipt.selector).into()),
            mode: mode.into(),
            drain_ms,
            reason: receipt.reason.to_string(),
            by: receipt.by.to_string(),
            index: receipt.index.0,
            placed: Some(receipt.placed.into()),
            committed_wall_ms: receipt.committed_wall.0,
            enforced_wall_ms: receipt.enforced_wall.0,
            took_ms: receipt.took.0,
            rule: rule(receipt.rule).into(),
            bound_ms: receipt.bound.0,
            max_staleness_ms: receipt.max_staleness.0,
            drift_ppm: receipt.drift_ppm,
            enforcers_acked: receipt.enforcers_acked,
            fenced: receipt.fenced.iter().map(Into::into).collect(),
            fenced_more: receipt.fenced_more,
            unbounded: receipt.unbounded.iter().map(ToString::to_string).collect(),
            members: receipt.members.iter().map(member).collect(),
            signer: receipt.signer.0,
            unbounded_more: receipt.unbounded_more,
        }
    }
}

const fn rule(rule: EnforcedRule) -> v1::EnforcementRule {
    match rule {
        EnforcedRule::Acked => v1::EnforcementRule::Acked,
        EnforcedRule::Fenced => v1::EnforcementRule::Fenced,
    }
}

/// Why an enforcer was waited out.
impl From<FencedWhy> for v1::FencedReason {
    fn from(why: FencedWhy) -> Self {
        match why {
            FencedWhy::Silent => Self::Silent,
            FencedWhy::Gone => Self::Gone,
            FencedWhy::Untrusted => Self::UntrustedRelay,
        }
    }
}

impl From<&Fenced> for v1::FencedEnforcer {
    fn from(fenced: &Fenced) -> Self {
        Self { name: fenced.name.to_string(), reason: v1::FencedReason::from(fenced.why).into() }
    }
}

impl TryFrom<v1::FencedEnforcer> for Fenced {
    type Error = ConvertError;

    fn try_from(message: v1::FencedEnforcer) -> Result<Self, ConvertError> {
        const REASONS: &str = "FENCED_REASON_SILENT, FENCED_REASON_GONE or FENCED_REASON_UNTRUSTED_RELAY";
        let why = match v1::FencedReason::try_from(message.reason) {
            Ok(v1::FencedReason::Silent) => Ok(FencedWhy::Silent),
            Ok(v1::FencedReason::Gone) => Ok(FencedWhy::Gone),
            Ok(v1::FencedReason::UntrustedRelay) => Ok(FencedWhy::Untrusted),
            Ok(v1::FencedReason::Unspecified) => Err(Why::Missing { expected: REASONS }),
            Err(_) => Err(Why::Unknown { got: message.reason.into(), expected: REASONS }),
        };
        Ok(Self { name: message.name.parse().at("name")?, why: why.at("reason")? })
    }
}

fn member((node, clear): &(NodeId, MemberClear)) -> v1::MemberClearance {
    v1::MemberClearance { node: node.0, waited_out: *clear == MemberClear::WaitedOut }
}

impl From<&SignedReceipt> for v1::SignedReceipt {
    fn from(signed: &SignedReceipt) -> Self {
        let Signature(signature) = signed.signature;
        Self {
            receipt: Some((&signed.receipt).into()),
            canonical: signed.to_bytes(),
            signature: signature.to_vec(),
        }
    }
}

/// Not verified: whose signature it is takes the cluster's keys ([`SignedReceipt::verify`]).
impl TryFrom<v1::SignedReceipt> for SignedReceipt {
    type Error = ConvertError;

    fn try_from(message: v1::SignedReceipt) -> Result<Self, ConvertError> {
        let signed = Self::from_bytes(&message.canonical).at("canonical")?;
        let same = v1::SignedReceipt::from(&signed);
        let differs = |field| ConvertError::new(field, Why::Differs { than: "canonical" });
        if message.receipt.is_some_and(|receipt| Some(receipt) != same.receipt) {
            return Err(differs("receipt"));
        }
        if !message.signature.is_empty() && message.signature != same.signature {
            return Err(differs("signature"));
        }
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::{
        command::KillMode,
        ids::{ClusterId, Incarnation, KillId, LogIndex},
        time::{ClusterTime, Millis, Stamp, WallTime},
    };

    use super::*;

    fn signed() -> SignedReceipt {
        let receipt = Receipt {
            cluster_id: ClusterId([1; 16]),
            incarnation: Incarnation(2),
            kill: KillId(7),
            selector: "fleet=acme/finance tool=pay.*".parse().unwrap(),
            mode: KillMode::Drain(Millis(5_000)),
            reason: "runaway".parse().unwrap(),
            by: "ada".parse().unwrap(),
            index: LogIndex(41),
            placed: Stamp { index: LogIndex(41), cluster_time: ClusterTime(9), wall_time: WallTime(10) },
            committed_wall: WallTime(11),
            enforced_wall: WallTime(2_013),
            took: Millis(2_002),
            rule: EnforcedRule::Fenced,
            bound: Millis(2_002),
            max_staleness: Millis(2_000),
            drift_ppm: 1_000,
            enforcers_acked: 3,
            fenced: vec![Fenced { name: "eu-gate".parse().unwrap(), why: FencedWhy::Gone }],
            fenced_more: 1,
            unbounded: vec!["lab".parse().unwrap()],
            unbounded_more: 0,
            members: vec![(NodeId(1), MemberClear::Clear), (NodeId(2), MemberClear::WaitedOut)],
            signer: NodeId(1),
        };
        SignedReceipt { receipt, signature: Signature([3; 64]) }
    }

    #[test]
    fn a_receipt_comes_back_as_it_went() {
        let message = v1::SignedReceipt::from(&signed());
        let receipt = message.receipt.as_ref().unwrap();
        assert_eq!((receipt.drain_ms, receipt.rule()), (Some(5_000), v1::EnforcementRule::Fenced));
        assert_eq!(receipt.members[1], v1::MemberClearance { node: 2, waited_out: true });
        assert!(message.canonical.ends_with(&message.signature));
        assert_eq!(SignedReceipt::try_from(message.clone()).unwrap(), signed());
        let bare = v1::SignedReceipt { canonical: message.canonical, ..v1::SignedReceipt::default() };
        assert_eq!(SignedReceipt::try_from(bare).unwrap(), signed());
    }

    #[test]
    fn what_is_read_is_what_was_signed() {
        let whole = v1::SignedReceipt::from(&signed());
        let error = |message: v1::SignedReceipt| SignedReceipt::try_from(message).unwrap_err().to_string();
        let mut altered = whole.clone();
        altered.receipt.as_mut().unwrap().reason = "nothing much".into();
        assert_eq!(error(altered), "receipt: says something else than canonical");
        let resigned = v1::SignedReceipt { signature: vec![0; 64], ..whole.clone() };
        assert_eq!(error(resigned), "signature: says something else than canonical");
        let cut = v1::SignedReceipt { canonical: whole.canonical[1..].to_vec(), ..whole };
        assert!(error(cut).starts_with("canonical: "));
    }

    #[test]
    fn a_fenced_enforcer_comes_back_and_nonsense_is_named() {
        for why in [FencedWhy::Silent, FencedWhy::Gone, FencedWhy::Untrusted] {
            let fenced = Fenced { name: "x".parse().unwrap(), why };
            assert_eq!(Fenced::try_from(v1::FencedEnforcer::from(&fenced)).unwrap(), fenced);
        }
        let odd = v1::FencedEnforcer { name: "x".into(), reason: 9 };
        assert!(Fenced::try_from(odd).unwrap_err().to_string().starts_with("reason: is 9"));
    }
}
