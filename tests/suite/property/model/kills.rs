//! Kills and revocations of the reference.

use std::collections::BTreeMap;

use haltline_core::{
    command::{KillCommand, KillMode, Resume, RevocationTarget, Revoke, Role},
    ids::{KillId, PersonId},
    limits::{CREDENTIAL_TTL_CEILING, KILL_DURATION_MAX, LEASE_MAX},
    path::FleetPath,
    rejection::{Adjusted, Killed, Outcome},
    selector::Selector,
    state::records::{Kill, LiftedKill, Revocation},
    text::Reason,
    time::{ClusterTime, Millis},
};

use super::{Done, Model, above, is_under};

/// Roles that may stop things.
const STOPPERS: [Role; 3] = [Role::Responder, Role::Operator, Role::Admin];

/// The longest credential, and the longest lease under which one may be accepted.
fn longest_hold(now: ClusterTime) -> ClusterTime {
    ClusterTime(now.0 + CREDENTIAL_TTL_CEILING.0 + LEASE_MAX.0)
}

/// The narrowest fleet around all that a selector can match.
pub(crate) fn reach(selector: &Selector) -> Option<FleetPath> {
    match (&selector.agent, &selector.fleet) {
        (Some(agent), _) => above(agent.as_str()),
        (None, fleet) => fleet.clone(),
    }
}

/// Whether some action of an agent with these labels could match.
pub(crate) fn can_touch(selector: &Selector, agent: &str, labels: &BTreeMap<String, String>) -> bool {
    let home = above(agent).unwrap();
    let in_fleet = selector.fleet.as_ref().is_none_or(|fleet| is_under(home.as_str(), fleet.as_str()));
    let is_named = selector.agent.as_ref().is_none_or(|named| named.as_str() == agent);
    let has_labels =
        selector.labels.iter().all(|(key, value)| labels.get(key).is_some_and(|own| own == value));
    in_fleet && is_named && has_labels
}

impl Model {
    pub(super) fn kill(&mut self, caller: &PersonId, command: &KillCommand) -> Done {
        let mut durations = vec![command.expires_after];
        if let KillMode::Drain(time) = command.mode {
            durations.push(Some(time));
        }
        if durations.iter().flatten().any(|time| *time == Millis(0) || *time > KILL_DURATION_MAX) {
            return Err("KILL_DURATION");
        }
        let (selector, adjusted) = self.what_may_be_stopped(caller, &command.selector)?;
        self.check_that_it_stops_something(&selector)?;
        self.kills_ever += 1;
        let kill = KillId(self.kills_ever);
        let later = |time: Millis| ClusterTime(self.now.cluster_time.0 + time.0);
        let drain_ends = match command.mode {
            KillMode::Drain(time) => Some(later(time)),
            _ => None,
        };
        let placed = Kill {
            selector: selector.clone(),
            mode: command.mode,
            reason: command.reason.clone(),
            by: caller.clone(),
            placed: self.now,
            denies_from: drain_ends.is_none().then_some(self.now.index),
            drain_ends,
            expires: command.expires_after.map(later),
        };
        self.kills.insert(kill, placed);
        Ok(Outcome::Killed(Box::new(Killed { kill, index: self.now.index, selector, adjusted })))
    }

    /// The selector, intersected with where the caller may stop.
    pub(crate) fn what_may_be_stopped(
        &self,
        caller: &PersonId,
        selector: &Selector,
    ) -> Result<(Selector, Option<Adjusted>), &'static str> {
        if let (Some(agent), Some(fleet)) = (&selector.agent, &selector.fleet)
            && !is_under(above(agent.as_str()).unwrap().as_str(), fleet.as_str())
        {
            return Err("SELECTOR_CONTRADICTION");
        }
        let reach = reach(selector);
        if self.may(caller, &STOPPERS, reach.as_ref()) {
            return Ok((selector.clone(), None));
        }
        let Some(person) = self.people.get(caller) else { return Err("UNKNOWN_PERSON") };
        let mut places: Vec<&FleetPath> = person
            .roles
            .iter()
            .filter(|binding| STOPPERS.contains(&binding.role))
            .filter_map(|binding| binding.path.as_ref())
            .filter(|path| reach.as_ref().is_none_or(|reach| is_under(path.as_str(), reach.as_str())))
            .collect();
        places.sort();
        places.dedup();
        let all = places.clone();
        places.retain(|place| {
            !all.iter().any(|other| other != place && is_under(place.as_str(), other.as_str()))
        });
        match places.as_slice() {
            [] => Err("PERMISSION_DENIED"),
            _ if selector.agent.is_some() => Err("PERMISSION_DENIED"),
            [only] if selector.fleet.is_some() => {
                let narrowed = Selector { fleet: Some((*only).clone()), ..selector.clone() };
                Ok((narrowed, Some(Adjusted::NarrowedToCallersPath)))
            }
            _ => Err("SELECTOR_NEEDS_FLEET"),
        }
    }

    fn check_that_it_stops_something(&self, selector: &Selector) -> Result<(), &'static str> {
        if selector.fleet.as_ref().is_some_and(|fleet| !self.fleets.contains_key(fleet)) {
            return Err("UNKNOWN_FLEET");
        }
        if selector.agent.as_ref().is_some_and(|agent| !self.agents.contains_key(agent)) {
            return Err("UNKNOWN_AGENT");
        }
        if !selector.labels.is_empty() && self.agents_touched(selector).is_empty() {
            return Err("NOTHING_MATCHES");
        }
        Ok(())
    }

    /// The agents of which a selector may stop something.
    pub(crate) fn agents_touched(&self, selector: &Selector) -> Vec<String> {
        let touched = |agent: &&str| can_touch(selector, agent, &self.agent_labels(agent));
        self.agents.keys().map(|agent| agent.as_str()).filter(touched).map(String::from).collect()
    }

    /// What a kill would stop: its selector, how many fleets wholly, which agents.
    pub(crate) fn preview(
        &self,
        caller: &PersonId,
        selector: &Selector,
    ) -> Result<(Selector, u64, Vec<String>), &'static str> {
        let (selector, _) = self.what_may_be_stopped(caller, selector)?;
        self.check_that_it_stops_something(&selector)?;
        let is_inside = |path: &&FleetPath| {
            selector.fleet.as_ref().is_none_or(|fleet| is_under(path.as_str(), fleet.as_str()))
        };
        let is_about_fleets = selector.agent.is_none() && selector.labels.is_empty();
        let fleets = if is_about_fleets { self.fleets.keys().filter(is_inside).count() } else { 0 };
        let agents = self.agents_touched(&selector);
        Ok((selector, fleets as u64, agents))
    }

    pub(super) fn resume(&mut self, caller: &PersonId, command: &Resume) -> Done {
        let Some(kill) = self.kills.get(&command.kill) else { return Err("UNKNOWN_KILL") };
        if kill.selector != command.selector {
            return Err("KILL_CHANGED");
        }
        self.lift(command.kill, Some((caller.clone(), command.reason.clone())));
        Ok(Outcome::Resumed { kill: command.kill })
    }

    /// Ends a kill: by somebody for a reason, or by its expiry.
    pub(super) fn lift(&mut self, id: KillId, by: Option<(PersonId, Reason)>) {
        let kill = self.kills.remove(&id).unwrap();
        if kill.mode == KillMode::Terminate {
            let revocation = Revocation {
                reason: kill.reason.clone(),
                by: kill.by.clone(),
                placed: self.now,
                ends: longest_hold(self.now.cluster_time),
                issued_before: Some((kill.selector.clone(), self.now.index)),
            };
            self.revocations.insert(RevocationTarget::Terminated(id), revocation);
        }
        let (by, reason) = by.unzip();
        self.lifted.insert(id, LiftedKill { kill, lifted: self.now, by, reason });
    }

    pub(super) fn revoke(&mut self, caller: &PersonId, command: &Revoke) -> Done {
        if matches!(command.target, RevocationTarget::Terminated(_)) {
            return Err("REVOCATION_BY_MACHINE_ONLY");
        }
        let is_key = matches!(command.target, RevocationTarget::Key(_));
        let ends = match self.hit_until(&command.target) {
            _ if is_key => ClusterTime::NEVER,
            Some(end) => end,
            None => longest_hold(self.now.cluster_time),
        };
        let revocation = Revocation {
            reason: command.reason.clone(),
            by: caller.clone(),
            placed: self.now,
            ends,
            issued_before: None,
        };
        self.revocations.insert(command.target.clone(), revocation);
        Ok(Outcome::Revoked { ends })
    }
}
