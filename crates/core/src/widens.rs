//! The one place that says which commands widen what is allowed, and so need people's own signatures (design 04, People).
//!
//! The match below is exhaustive without a wildcard: whoever adds a command must decide here. Where the exact answer would
//! cost a walk over a whole subtree the answer is yes.

use crate::{
    command::{AgentDelete, AgentUpdate, Command, FleetCreate, FleetDelete, FleetUpdate, PersonUpdate},
    path::FleetPath,
    policy::Limits,
    rejection::Widening,
    selector::Selector,
    state::State,
    text::Labels,
};

/// Whether and why carrying out `command` on `before` would allow anything that is not allowed now.
#[must_use]
pub fn widens(before: &State, command: &Command) -> Option<Widening> {
    match command {
        Command::FleetCreate(create) => fleet_create(before, create),
        Command::FleetUpdate(update) => fleet_update(before, update),
        Command::FleetDelete(delete) => fleet_delete(before, delete),
        Command::AgentUpdate(update) => agent_update(before, update),
        Command::AgentDelete(delete) => agent_delete(before, delete),
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
        // These only take away.
        Command::PersonRemove(_) | Command::Kill(_) | Command::Revoke(_) | Command::Withdraw(_) => None,
        // An approval carries its own signature, over the command that waits.
        Command::Approve(_) => None,
    }
}

/// A limit beyond what the fleet would inherit: only possible above a default, as an explicit limit above refuses it.
fn fleet_create(before: &State, create: &FleetCreate) -> Option<Widening> {
    let inherited = create.path.parent().map_or_else(Limits::default, |parent| before.limits_set(&parent));
    let after = inherited.narrowed_by(create.limits);
    after.effective().is_wider_than(&inherited.effective()).then_some(Widening::LimitRaised)
}

fn fleet_update(before: &State, update: &FleetUpdate) -> Option<Widening> {
    let fleet = before.fleets().get(update.path.as_str())?;
    if let Some(limits) = update.limits {
        let above = update.path.parent().map_or_else(Limits::default, |parent| before.limits_set(&parent));
        let (then, now) =
            (above.narrowed_by(limits).effective(), above.narrowed_by(fleet.limits).effective());
        if then.is_wider_than(&now) {
            return Some(Widening::LimitRaised);
        }
    }
    if update.intent.as_ref().is_some_and(|intent| intent.may_allow_more_than(&fleet.intent)) {
        return Some(Widening::IntentExtended);
    }
    let labels = update.labels.as_ref()?;
    let now = before.fleet_labels(&update.path);
    let inherited = update.path.parent().map(|parent| before.fleet_labels(&parent)).unwrap_or_default();
    let then = inherited.overlaid(labels);
    let leaves =
        |selector: &Selector| overlaps(selector, &update.path) && loses_condition(selector, &now, &then);
    kill_in_force(before, leaves)
}

/// Deleting an empty fleet takes its labels along, and registering anew could then evade a kill by label.
fn fleet_delete(before: &State, delete: &FleetDelete) -> Option<Widening> {
    kill_in_force(before, |selector| overlaps(selector, &delete.path))
}

fn agent_update(before: &State, update: &AgentUpdate) -> Option<Widening> {
    before.agents().get(update.path.as_str())?;
    let now = before.effective_labels(&update.path);
    let then = before.fleet_labels(&update.path.fleet()).overlaid(&update.labels);
    let leaves = |selector: &Selector| {
        selector.may_touch(&update.path, &now) && !selector.may_touch(&update.path, &then)
    };
    kill_in_force(before, leaves)
}

/// Deleting and registering again is a way out of a kill.
fn agent_delete(before: &State, delete: &AgentDelete) -> Option<Widening> {
    before.agents().get(delete.path.as_str())?;
    let labels = before.effective_labels(&delete.path);
    kill_in_force(before, |selector| selector.may_touch(&delete.path, &labels))
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

fn kill_in_force(before: &State, is_left: impl Fn(&Selector) -> bool) -> Option<Widening> {
    before.kills().values().any(|kill| is_left(&kill.selector)).then_some(Widening::LeavesKill)
}

/// Whether a selector can match anything in a fleet's subtree, by path alone.
fn overlaps(selector: &Selector, fleet: &FleetPath) -> bool {
    selector.reach().is_none_or(|reach| reach.contains(fleet) || fleet.contains(&reach))
}

fn loses_condition(selector: &Selector, now: &Labels, then: &Labels) -> bool {
    selector.labels.iter().any(|(key, value)| now.get(key) == Some(value) && then.get(key) != Some(value))
}
