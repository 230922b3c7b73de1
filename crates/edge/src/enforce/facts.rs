//! What a token says, worked out once: what it must be looked up by, and what could touch it.

use haltline_core::{
    command::RevocationTarget,
    ids::KeyHash,
    path::FleetPath,
    selector::{Selector, Subject},
    text::Labels,
};
use haltline_pki::token::{Claims, VerifiedToken};

use super::{action::Action, revocations::RevokedKey, tag::Tag};

/// Nanoseconds in a millisecond.
pub(super) const NANOS_PER_MS: u64 = 1_000_000;

/// A verified token, ready to be decided about.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) claims: Claims,
    /// The key that signed it.
    pub(super) key: KeyHash,
    /// The fleets above the agent, nearest first.
    pub(super) fleets: Box<[FleetPath]>,
    /// Its end in nanoseconds of cluster time; the largest for "later than can be said".
    pub(super) ends_nanos: i64,
    /// What would end it, as the set of revocations keeps it: see [`Self::target`].
    pub(super) revocable: Box<[RevokedKey]>,
    /// Whatever touches one of these, or everything, touches this session.
    pub(super) tags: Box<[Tag]>,
}

impl Facts {
    pub(super) fn new(token: VerifiedToken) -> Self {
        let VerifiedToken { claims, key } = token;
        let fleets: Box<[FleetPath]> = claims.agent.fleet().self_and_ancestors().collect();
        let targets = || (0..NAMED + claims.lineage.len()).map(|position| target(&claims, key, position));
        let by_path = fleets.iter().map(FleetPath::as_str).chain([claims.agent.as_str()]);
        let by_id = targets().filter_map(|target| Tag::revoked(&target));
        let mut tags: Vec<Tag> = by_path.map(Tag::path).chain(by_id).collect();
        tags.sort_unstable();
        tags.dedup();
        let revocable = targets().filter_map(|target| RevokedKey::of(&target)).collect();
        let ends_nanos = i64::try_from(claims.ends.0.saturating_mul(NANOS_PER_MS)).unwrap_or(i64::MAX);
        Self { key, fleets, ends_nanos, revocable, tags: tags.into(), claims }
    }

    /// The agent's own fleet.
    pub(super) fn fleet(&self) -> &FleetPath {
        self.fleets.first().expect("an agent's path has a fleet")
    }

    /// What the key at this position of `revocable` stands for.
    pub(super) fn target(&self, position: usize) -> RevocationTarget {
        target(&self.claims, self.key, position)
    }

    /// Whether a selector could stop some action of this session: all but the action's own conditions fit.
    pub(super) fn is_reached_by(&self, selector: &Selector, labels: &Labels) -> bool {
        selector.may_touch(&self.claims.agent, labels)
            && selector.instance.is_none_or(|instance| self.claims.instance == instance)
            && selector.lineage.is_none_or(|grant| self.claims.lineage.contains(&grant))
    }

    /// This session doing something, as selectors see it.
    pub(super) fn subject<'a>(&'a self, labels: &'a Labels, action: &Action<'a>) -> Subject<'a> {
        Subject {
            agent: &self.claims.agent,
            instance: Some(self.claims.instance),
            lineage: &self.claims.lineage,
            labels,
            tool: action.tool,
            model: action.model,
            resource: action.resource,
        }
    }
}

/// What would end a credential, other than the grants of its lineage.
const NAMED: usize = 3;

/// What would end a credential, by its position among all of that.
fn target(claims: &Claims, key: KeyHash, position: usize) -> RevocationTarget {
    match position {
        0 => RevocationTarget::Credential(claims.credential),
        1 => RevocationTarget::Instance(claims.instance),
        2 => RevocationTarget::Key(key),
        _ => RevocationTarget::Grant(claims.lineage[position - NAMED]),
    }
}
