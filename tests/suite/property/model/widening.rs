//! What widens, by the reference: every reason that a command has, and the kills that it leads out of.

use haltline_core::{
    command::{Command, FleetUpdate, PersonUpdate, Request},
    ids::LogIndex,
    limits::{CREDENTIAL_TTL_CEILING, DELEGATION_DEPTH_CEILING, INSTANCES_CEILING, MAX_STALENESS_CEILING},
    path::FleetPath,
    policy::Intent,
    rejection::Widening,
    selector::{Pattern, Selector},
};

use super::{
    Model, above, is_under,
    kills::{can_touch, reach},
    people::reaches,
    registry::DEFAULTS,
};

/// The largest values that a fleet below may have set for itself.
const CEILINGS: [u64; 4] = [
    MAX_STALENESS_CEILING.0,
    CREDENTIAL_TTL_CEILING.0,
    DELEGATION_DEPTH_CEILING as u64,
    INSTANCES_CEILING as u64,
];

type SetLimits = [Option<u64>; 4];

/// A stop that a command leads out of: where one needs a role to lift it, and since when it stands.
pub(crate) struct Left {
    pub(crate) reach: Option<FleetPath>,
    pub(crate) since: LogIndex,
}

impl Model {
    /// Every reason for which a command widens.
    pub(crate) fn reasons_to_widen(&self, command: &Command) -> Vec<Widening> {
        let mut reasons = Vec::new();
        if !self.stops_left(command).is_empty() {
            reasons.push(Widening::LeavesKill);
        }
        match command {
            Command::FleetCreate(create) => {
                let inherited = self.limits_set(above(create.path.as_str()).as_ref());
                let after = smaller(inherited, super::registry::as_numbers(&create.limits));
                if is_wider(effective(after, None), effective(inherited, None)) {
                    reasons.push(Widening::LimitRaised);
                }
            }
            Command::FleetUpdate(update) => reasons.extend(self.reasons_of_update(update)),
            Command::FleetDelete(delete) => {
                if let Some(fleet) = self.fleets.get(&delete.path) {
                    let inherited = self.limits_set(above(delete.path.as_str()).as_ref());
                    if is_wider(
                        effective(inherited, None),
                        effective(self.limits_set(Some(&delete.path)), None),
                    ) {
                        reasons.push(Widening::LimitRaised);
                    }
                    if allows_more(&Intent::default(), &fleet.intent) {
                        reasons.push(Widening::IntentExtended);
                    }
                }
            }
            Command::PersonAdd(_) => reasons.push(Widening::PersonEnrolled),
            Command::PersonUpdate(update) => reasons.extend(self.reasons_of_person(update)),
            Command::Resume(_) => reasons.push(Widening::KillLifted),
            Command::PolicyUpdate(policy)
                if policy.approvals_to_resume < self.policy.approvals_to_resume
                    || policy.approvals_to_widen < self.policy.approvals_to_widen =>
            {
                reasons.push(Widening::FewerApprovals);
            }
            Command::JoinTokenCreate(_) => reasons.push(Widening::EdgeAdmitted),
            Command::CredentialIssue(_) => reasons.push(Widening::CredentialIssued),
            Command::BundlePropose(_) => reasons.push(Widening::TrustChanged),
            Command::EdgeUpdate(update) => {
                if let Some(edge) = self.edges.get(&update.edge) {
                    let has = |path: &Option<FleetPath>| {
                        edge.paths.iter().any(|own| match (own, path) {
                            (None, _) => true,
                            (Some(_), None) => false,
                            (Some(own), Some(path)) => is_under(path.as_str(), own.as_str()),
                        })
                    };
                    let gains = update.paths.iter().flatten().any(|path| !has(path));
                    let trusts = update.trusted_for_acks == Some(true) && !edge.trusted_for_acks;
                    let opens = update.fails_open == Some(true) && !edge.fails_open;
                    if gains || trusts || opens {
                        reasons.push(Widening::EdgeExtended);
                    }
                }
            }
            _ => {}
        }
        reasons
    }

    fn reasons_of_update(&self, update: &FleetUpdate) -> Vec<Widening> {
        let mut reasons = Vec::new();
        let Some(fleet) = self.fleets.get(&update.path) else { return reasons };
        if let Some(limits) = update.limits {
            let mut then = self.clone();
            then.fleets.get_mut(&update.path).unwrap().limits = limits;
            let (now, then) = (self.limits_set(Some(&update.path)), then.limits_set(Some(&update.path)));
            // The fleet itself, or one below it that set as much as it may.
            let raises = [None, Some(CEILINGS)]
                .into_iter()
                .any(|below| is_wider(effective(then, below), effective(now, below)));
            if raises {
                reasons.push(Widening::LimitRaised);
            }
        }
        if update.intent.as_ref().is_some_and(|intent| allows_more(intent, &fleet.intent)) {
            reasons.push(Widening::IntentExtended);
        }
        reasons
    }

    fn reasons_of_person(&self, update: &PersonUpdate) -> Vec<Widening> {
        let mut reasons = Vec::new();
        let Some(person) = self.people.get(&update.person) else { return reasons };
        let new_tls_key = update.tls_keys.iter().flatten().any(|key| !person.tls_keys.contains(key));
        if new_tls_key || update.signing_key.is_some_and(|key| key != person.signing_key) {
            reasons.push(Widening::IdentityChanged);
        }
        let gains = update.roles.iter().flatten().any(|new| {
            !person.roles.iter().any(|held| held.role == new.role && reaches(held, new.path.as_ref()))
        });
        if gains {
            reasons.push(Widening::RoleGranted);
        }
        reasons
    }

    /// How many people a command takes, if it widens.
    pub(crate) fn people_needed(&self, command: &Command) -> Option<u32> {
        let (resume, widen) = (self.policy.approvals_to_resume, self.policy.approvals_to_widen);
        let needed = |reason: &Widening| match reason {
            _ if self.is_bootstrap() => 1,
            Widening::KillLifted | Widening::LeavesKill => resume,
            Widening::FewerApprovals => resume.max(widen),
            Widening::CredentialIssued => 1,
            _ => widen,
        };
        self.reasons_to_widen(command).iter().map(needed).max()
    }

    /// All stops that a command takes a subject out of, without lifting them.
    pub(crate) fn stops_left(&self, command: &Command) -> Vec<Left> {
        let mut stops: Vec<(&Selector, LogIndex)> =
            self.kills.values().map(|kill| (&kill.selector, kill.placed.index)).collect();
        for revocation in self.revocations.values() {
            if let Some((selector, _)) = &revocation.issued_before
                && !selector.labels.is_empty()
            {
                stops.push((selector, revocation.placed.index));
            }
        }
        stops.retain(|(selector, _)| self.leads_out(command, selector));
        stops.into_iter().map(|(selector, since)| Left { reach: reach(selector), since }).collect()
    }

    fn leads_out(&self, command: &Command, selector: &Selector) -> bool {
        let mut then = self.clone();
        match command {
            Command::AgentUpdate(update) => {
                let Some(agent) = then.agents.get_mut(&update.path) else { return false };
                agent.labels = update.labels.clone();
                let path = update.path.as_str();
                can_touch(selector, path, &self.agent_labels(path))
                    && !can_touch(selector, path, &then.agent_labels(path))
            }
            Command::AgentDelete(delete) => {
                let path = delete.path.as_str();
                self.agents.contains_key(&delete.path) && can_touch(selector, path, &self.agent_labels(path))
            }
            Command::FleetUpdate(update) => {
                let Some(fleet) = then.fleets.get_mut(&update.path) else { return false };
                let Some(labels) = &update.labels else { return false };
                fleet.labels = labels.clone();
                let (now, then) =
                    (self.fleet_labels(Some(&update.path)), then.fleet_labels(Some(&update.path)));
                let is_met = |labels: &std::collections::BTreeMap<String, String>, key: &str, value: &str| {
                    labels.get(key).is_some_and(|own| own == value)
                };
                meets(selector, &update.path)
                    && selector
                        .labels
                        .iter()
                        .any(|(key, value)| is_met(&now, key, value) && !is_met(&then, key, value))
            }
            Command::FleetDelete(delete) => meets(selector, &delete.path),
            _ => false,
        }
    }

    /// The places where the people behind a request need a role: what it is about, and every stop that it leads out of.
    pub(crate) fn places(&self, request: &Request) -> Vec<Option<FleetPath>> {
        let of_person = |id| {
            let roles = self.people.get(id).map_or(&[][..], |person| &person.roles);
            roles.iter().map(|binding| binding.path.clone()).collect::<Vec<_>>()
        };
        let mut places = match &request.command {
            Command::FleetCreate(command) => vec![Some(command.path.clone())],
            Command::FleetUpdate(command) => vec![Some(command.path.clone())],
            Command::FleetDelete(command) => vec![Some(command.path.clone())],
            Command::AgentRegister(command) => vec![above(command.path.as_str())],
            Command::AgentUpdate(command) => vec![above(command.path.as_str())],
            Command::AgentDelete(command) => vec![above(command.path.as_str())],
            Command::PersonAdd(command) => command.roles.iter().map(|role| role.path.clone()).collect(),
            Command::PersonUpdate(command) => {
                let new = command.roles.iter().flatten().map(|role| role.path.clone());
                of_person(&command.person).into_iter().chain(new).collect()
            }
            Command::PersonRemove(command) => of_person(&command.person),
            Command::Resume(command) => {
                vec![self.kills.get(&command.kill).and_then(|kill| reach(&kill.selector))]
            }
            Command::JoinTokenCreate(command) => command.paths.clone(),
            Command::JoinTokenDelete(command) => {
                self.tokens.get(&command.token).map_or_else(Vec::new, |token| token.paths.clone())
            }
            Command::EdgeUpdate(command) => {
                let now = self.edges.get(&command.edge).map_or_else(Vec::new, |edge| edge.paths.clone());
                now.into_iter().chain(command.paths.iter().flatten().cloned()).collect()
            }
            Command::EdgeRemove(command) => {
                self.edges.get(&command.edge).map_or_else(Vec::new, |edge| edge.paths.clone())
            }
            Command::CredentialIssue(command) => vec![Some(command.agent.fleet())],
            _ => vec![None],
        };
        if places.is_empty() {
            places.push(None);
        }
        places
    }
}

/// Whether a selector's reach and a fleet's subtree have anything in common.
fn meets(selector: &Selector, fleet: &FleetPath) -> bool {
    reach(selector).is_none_or(|reach| {
        is_under(fleet.as_str(), reach.as_str()) || is_under(reach.as_str(), fleet.as_str())
    })
}

fn smaller(one: SetLimits, other: SetLimits) -> SetLimits {
    std::array::from_fn(|at| [one[at], other[at]].into_iter().flatten().min())
}

/// What applies in a fleet, or in one below it with limits of its own.
fn effective(set: SetLimits, below: Option<[u64; 4]>) -> [u64; 4] {
    let below = below.map_or([None; 4], |below| below.map(Some));
    let set = smaller(set, below);
    std::array::from_fn(|at| set[at].unwrap_or(DEFAULTS[at]))
}

fn is_wider(after: [u64; 4], before: [u64; 4]) -> bool {
    after.into_iter().zip(before).any(|(after, before)| after > before)
}

/// Whether an intent may allow what another didn't. Patterns of this world are literal or end in their only `*`.
fn allows_more(after: &Intent, before: &Intent) -> bool {
    let covers = |old: &Pattern, new: &Pattern| match old.as_str().strip_suffix('*') {
        Some(prefix) => new.as_str().starts_with(prefix),
        None => old == new,
    };
    let lists = |intent: &Intent| {
        [intent.tools.clone(), intent.resources.clone(), intent.models.clone(), intent.data_classes.clone()]
    };
    lists(after).into_iter().zip(lists(before)).any(|(after, before)| match (after, before) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(after), Some(before)) => !after.iter().all(|new| before.iter().any(|old| covers(old, new))),
    })
}
