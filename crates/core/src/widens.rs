//! The one place that says which commands widen what is allowed, and so need people's own signatures (design 04, People).
//!
//! The match below is exhaustive without a wildcard: whoever adds a command must decide here. Where the exact answer would
//! cost a walk over a whole subtree the answer is yes.

use crate::{
    command::{
        AgentDelete, AgentUpdate, Command, EdgeUpdate, FleetCreate, FleetDelete, FleetUpdate, PersonUpdate,
        RevocationTarget,
    },
    ids::{KillId, LogIndex},
    path::FleetPath,
    policy::{Intent, Limits},
    rejection::Widening,
    selector::Selector,
    state::{Scope, State},
    text::Labels,
};

/// Whether and why carrying out `command` on `before` would allow anything that is not allowed now.
#[must_use]
pub fn widens(before: &State, command: &Command) -> Option<Widening> {
    match command {
        Command::FleetCreate(create) => fleet_create(before, create),
        Command::FleetUpdate(update) => fleet_update(before, command, update),
        Command::FleetDelete(delete) => fleet_delete(before, command, delete),
        Command::AgentUpdate(_) | Command::AgentDelete(_) => leaves_kill(before, command),
        Command::PersonAdd(_) => Some(Widening::PersonEnrolled),
        Command::PersonUpdate(update) => person_update(before, update),
        Command::Resume(_) => Some(Widening::KillLifted),
        Command::PolicyUpdate(policy) => {
            let current = before.policy();
            let asks_fewer = policy.approvals_to_resume < current.approvals_to_resume
                || policy.approvals_to_widen < current.approvals_to_widen;
            asks_fewer.then_some(Widening::FewerApprovals)
        }
        // A new agent has no authority of its own, and was in no kill that it could leave.
        Command::AgentRegister(_) => None,
        Command::JoinTokenCreate(_) => Some(Widening::EdgeAdmitted),
        Command::EdgeUpdate(update) => edge_update(before, update),
        Command::CredentialIssue(_) => Some(Widening::CredentialIssued),
        Command::BundlePropose(_) => Some(Widening::TrustChanged),
        // What it may do was decided with its token.
        Command::EdgeEnrol(_) => None,
        // Two people proposed what is endorsed; a receipt is a record.
        Command::BundleEndorse(_) | Command::ReceiptRecord(_) => None,
        // These only take away.
        Command::PersonRemove(_)
        | Command::Kill(_)
        | Command::Revoke(_)
        | Command::Withdraw(_)
        | Command::JoinTokenDelete(_)
        | Command::EdgeRemove(_) => None,
        // An approval carries its own signature, over the command that waits.
        Command::Approve(_) => None,
    }
}

/// A limit beyond what the fleet would inherit: only possible above a default, as an explicit limit above refuses it.
fn fleet_create(before: &State, create: &FleetCreate) -> Option<Widening> {
    let inherited = inherited_limits(before, &create.path);
    let after = inherited.narrowed_by(create.limits);
    after.effective().is_wider_than(&inherited.effective()).then_some(Widening::LimitRaised)
}

fn fleet_update(before: &State, command: &Command, update: &FleetUpdate) -> Option<Widening> {
    let fleet = before.fleets().get(update.path.as_str())?;
    let raises_limit = update.limits.is_some_and(|limits| {
        let above = inherited_limits(before, &update.path);
        let (then, now) = (above.narrowed_by(limits), above.narrowed_by(fleet.limits));
        // Also where this fleet's own limit stays, at the default: one below may have a larger one that was held down.
        then.effective().is_wider_than(&now.effective()) || then.is_looser_than(&now)
    });
    let extends_intent =
        update.intent.as_ref().is_some_and(|intent| intent.may_allow_more_than(&fleet.intent));
    strictest(
        before,
        [
            raises_limit.then_some(Widening::LimitRaised),
            extends_intent.then_some(Widening::IntentExtended),
            leaves_kill(before, command),
        ],
    )
}

/// Deleting a fleet takes its limits, its intent and its labels along; created again, it could do without them.
fn fleet_delete(before: &State, command: &Command, delete: &FleetDelete) -> Option<Widening> {
    let fleet = before.fleets().get(delete.path.as_str())?;
    let above = inherited_limits(before, &delete.path);
    let raises_limit = above.effective().is_wider_than(&above.narrowed_by(fleet.limits).effective());
    let extends_intent = Intent::default().may_allow_more_than(&fleet.intent);
    strictest(
        before,
        [
            raises_limit.then_some(Widening::LimitRaised),
            extends_intent.then_some(Widening::IntentExtended),
            leaves_kill(before, command),
        ],
    )
}

/// Of several reasons the one that takes the most people.
fn strictest(before: &State, reasons: [Option<Widening>; 3]) -> Option<Widening> {
    reasons.into_iter().flatten().max_by_key(|widening| before.people_needed(*widening))
}

fn inherited_limits(before: &State, path: &FleetPath) -> Limits {
    path.parent().map_or_else(Limits::default, |parent| before.limits_set(&parent))
}

fn leaves_kill(before: &State, command: &Command) -> Option<Widening> {
    stops_left(before, command).next().map(|_| Widening::LeavesKill)
}

/// A kill, or what a terminating kill left behind, that a command would take a subject out of without lifting it.
pub(crate) struct StopLeft {
    /// Where one needs a role to lift it.
    pub(crate) reach: Option<FleetPath>,
    /// Where it stands in the log.
    pub(crate) placed: LogIndex,
}

/// All the stops that a command would take a subject out of, other than by resuming.
pub(crate) fn stops_left(before: &State, command: &Command) -> impl Iterator<Item = StopLeft> {
    // Where nothing is stopped there is nothing to leave, and no reason to gather labels up the tree.
    let is_any = stops(before).next().is_some();
    let left = if is_any { way_out(before, command) } else { None };
    left.into_iter()
        .flat_map(move |left| stops(before).filter(move |(selector, _)| left(selector)))
        .map(|(selector, placed)| StopLeft { reach: selector.reach(), placed })
}

/// Says which selectors something is taken out of.
type WayOut = Box<dyn Fn(&Selector) -> bool>;

/// Which selectors a command would take something out of, if it can do that at all.
fn way_out(before: &State, command: &Command) -> Option<WayOut> {
    match command {
        Command::FleetUpdate(update) => fleet_relabel(before, update),
        Command::FleetDelete(FleetDelete { path, .. }) => {
            let path = path.clone();
            Some(Box::new(move |selector| overlaps(selector, &path)))
        }
        Command::AgentUpdate(AgentUpdate { path, labels, .. }) => {
            before.agents().get(path.as_str())?;
            let (path, now) = (path.clone(), before.effective_labels(path));
            let then = before.fleet_labels(&path.fleet()).overlaid(labels);
            Some(Box::new(move |selector| {
                selector.may_touch(&path, &now) && !selector.may_touch(&path, &then)
            }))
        }
        // Deleting and registering again is a way out of a kill.
        Command::AgentDelete(AgentDelete { path, .. }) => {
            before.agents().get(path.as_str())?;
            let (path, labels) = (path.clone(), before.effective_labels(path));
            Some(Box::new(move |selector| selector.may_touch(&path, &labels)))
        }
        Command::FleetCreate(_)
        | Command::AgentRegister(_)
        | Command::PersonAdd(_)
        | Command::PersonUpdate(_)
        | Command::PersonRemove(_)
        | Command::Kill(_)
        | Command::Resume(_)
        | Command::Approve(_)
        | Command::Withdraw(_)
        | Command::Revoke(_)
        | Command::PolicyUpdate(_)
        | Command::JoinTokenCreate(_)
        | Command::JoinTokenDelete(_)
        | Command::EdgeEnrol(_)
        | Command::EdgeUpdate(_)
        | Command::EdgeRemove(_)
        | Command::CredentialIssue(_)
        | Command::ReceiptRecord(_)
        | Command::BundlePropose(_)
        | Command::BundleEndorse(_) => None,
    }
}

fn fleet_relabel(before: &State, update: &FleetUpdate) -> Option<WayOut> {
    before.fleets().get(update.path.as_str())?;
    let labels = update.labels.as_ref()?;
    let path = update.path.clone();
    let now = before.fleet_labels(&path);
    let then = path.parent().map(|parent| before.fleet_labels(&parent)).unwrap_or_default().overlaid(labels);
    Some(Box::new(move |selector| overlaps(selector, &path) && loses_condition(selector, &now, &then)))
}

/// Selectors that stop something: kills in force, and credentials that a terminating kill ended for good. Of the latter
/// those by label, since nothing changes a path.
fn stops(before: &State) -> impl Iterator<Item = (&Selector, LogIndex)> {
    let kills = before.kills().values().map(|kill| (&kill.selector, kill.placed.index));
    let ended = before.revocations().range(RevocationTarget::Terminated(KillId(0))..).filter_map(
        |(_, revocation)| {
            let (selector, _) = revocation.issued_before.as_ref()?;
            (!selector.labels.is_empty()).then_some((selector, revocation.placed.index))
        },
    );
    kills.chain(ended)
}

fn person_update(before: &State, update: &PersonUpdate) -> Option<Widening> {
    let person = before.people().get(&update.person)?;
    let new_tls_key = update.tls_keys.iter().flatten().any(|key| !person.tls_keys.contains(key));
    if new_tls_key || update.signing_key.is_some_and(|key| key != person.signing_key) {
        return Some(Widening::IdentityChanged);
    }
    let is_held = |role: &crate::command::RoleBinding| {
        person.roles.iter().any(|held| held.role == role.role && held.reaches(role.path.as_ref()))
    };
    let gains = update.roles.iter().flatten().any(|role| !is_held(role));
    gains.then_some(Widening::RoleGranted)
}

/// Paths beyond those that it has, or trust that it didn't have.
fn edge_update(before: &State, update: &EdgeUpdate) -> Option<Widening> {
    let edge = before.edges().get(&update.edge)?;
    let is_within = |path: &Scope| edge.paths.iter().any(|own| contains(own, path));
    let gains_path = !update.paths.iter().flatten().all(is_within);
    let gains_trust = update.trusted_for_acks.is_some_and(|trusted| trusted && !edge.trusted_for_acks);
    let fails_open = update.fails_open.is_some_and(|fails_open| fails_open && !edge.fails_open);
    (gains_path || gains_trust || fails_open).then_some(Widening::EdgeExtended)
}

/// Whether all of a scope lies in another.
fn contains(outer: &Scope, inner: &Scope) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => outer.contains(inner),
    }
}

/// Whether a selector can match anything in a fleet's subtree, by path alone.
fn overlaps(selector: &Selector, fleet: &FleetPath) -> bool {
    selector.reach().is_none_or(|reach| reach.contains(fleet) || fleet.contains(&reach))
}

fn loses_condition(selector: &Selector, now: &Labels, then: &Labels) -> bool {
    selector.labels.iter().any(|(key, value)| now.get(key) == Some(value) && then.get(key) != Some(value))
}
