//! Kills: placed at once by one person, lifted by as many as the policy asks for.
//!
//! A kill is never refused for want of room: at the bound it is widened to its fleet, and plain fleet kills are bounded by
//! the fleets there are. Each kill is lifted by itself; others stay.

use super::{
    Due, Effects, State,
    change::ChangeKind,
    records::{Kill, LiftedKill, Revocation},
};
use crate::{
    command::{Caller, KillCommand, KillMode, Resume, RevocationTarget},
    event::{EnforcementEvent, KillForce},
    ids::{KillId, PersonId},
    limits::{CREDENTIAL_TTL_CEILING, KILL_DURATION_MAX, LEASE_MAX},
    path::{AgentPath, FleetPath},
    rejection::{Action, Adjusted, KillDurationName, Killed, Outcome, Rejection, Table},
    selector::{Selector, SelectorError},
    text::Reason,
    time::{ClusterTime, Millis, Stamp},
};

/// What a kill would stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlastRadius {
    /// What it would stop, after narrowing to the caller's path.
    pub selector: Selector,
    /// How that differs from what was asked.
    pub adjusted: Option<Adjusted>,
    /// Fleets that lie in its reach.
    pub fleets: u64,
    /// Agents that it would stop, wholly or in part.
    pub agents: u64,
    /// The first of the fleets.
    pub fleet_sample: Vec<FleetPath>,
    /// The first of the agents.
    pub agent_sample: Vec<AgentPath>,
    /// Whether it only stops some actions or instances of the agents counted.
    pub partial: bool,
}

impl State {
    /// Places a kill.
    pub(super) fn kill(
        &mut self,
        caller: &PersonId,
        command: &KillCommand,
        effects: &mut Effects,
    ) -> Result<Outcome, Rejection> {
        check_durations(command)?;
        let (selector, narrowed) = self.stoppable(caller, &command.selector)?;
        self.check_target(&selector)?;
        let asked = KillCommand { selector, ..command.clone() };
        if let Some(twin) = self.twin_at_the_bound(&asked, effects.stamp) {
            return Ok(Outcome::Killed(Box::new(twin)));
        }
        let (asked, widened) = self.widened_at_the_bound(caller, asked);
        if widened.is_some()
            && let Some(twin) = self.twin_at_the_bound(&asked, effects.stamp)
        {
            return Ok(Outcome::Killed(Box::new(twin)));
        }
        Ok(Outcome::Killed(Box::new(self.place(caller, &asked, widened.or(narrowed), effects))))
    }

    /// Puts a kill in force as it is.
    pub(super) fn place(
        &mut self,
        caller: &PersonId,
        command: &KillCommand,
        adjusted: Option<Adjusted>,
        effects: &mut Effects,
    ) -> Killed {
        self.next_kill += 1;
        let id = KillId(self.next_kill);
        let selector = command.selector.clone();
        let (drain_ends, expires) = ends(command, effects.stamp);
        self.derived.due.extend(drain_ends.map(|time| (time, Due::DrainEnds(id))));
        self.derived.due.extend(expires.map(|time| (time, Due::KillExpires(id))));
        let kill = Kill {
            selector: selector.clone(),
            mode: command.mode,
            reason: command.reason.clone(),
            by: caller.clone(),
            placed: effects.stamp,
            denies_from: drain_ends.is_none().then_some(effects.stamp.index),
            drain_ends,
            expires,
        };
        self.derived.kills.insert(id, &kill);
        self.kills.insert(id, kill);
        let force = if drain_ends.is_some() { KillForce::Draining } else { KillForce::Denying };
        self.emit(EnforcementEvent::KillSet { kill: id, selector: selector.clone(), force }, effects);
        effects.changed(ChangeKind::KillPlaced {
            kill: id,
            selector: selector.clone(),
            mode: command.mode,
            reason: command.reason.clone(),
        });
        Killed { kill: id, index: effects.stamp.index, selector, adjusted }
    }

    /// Intersects a selector with what the caller may stop.
    pub(super) fn stoppable(
        &self,
        caller: &PersonId,
        selector: &Selector,
    ) -> Result<(Selector, Option<Adjusted>), Rejection> {
        if let Err(SelectorError::Contradiction { agent, fleet }) = selector.check() {
            return Err(Rejection::SelectorContradiction { agent, fleet });
        }
        let reach = selector.reach();
        let Err(denied) = self.may(caller, Action::Stop, reach.as_ref()) else {
            return Ok((selector.clone(), None));
        };
        let paths = self.paths_to_stop(caller);
        let inside: Vec<_> =
            paths.iter().filter(|path| reach.as_ref().is_none_or(|reach| reach.contains(path))).collect();
        match (&reach, inside.as_slice()) {
            (_, []) => Err(denied),
            // The named agent lives in the reach itself, so no subtree below it can hold it.
            _ if selector.agent.is_some() => Err(denied),
            (Some(_), [only]) => {
                let narrowed = Selector { fleet: Some((*only).clone()), ..selector.clone() };
                Ok((narrowed, Some(Adjusted::NarrowedToCallersPath)))
            }
            (_, _) => Err(Rejection::SelectorNeedsFleet { person: caller.clone(), paths }),
        }
    }

    /// The topmost subtrees in which a person may stop things, without the root.
    fn paths_to_stop(&self, person: &PersonId) -> Vec<FleetPath> {
        let roles = Action::Stop.roles();
        let bindings = self.people.get(person).map_or(&[][..], |person| &person.roles);
        let mut paths: Vec<FleetPath> = bindings
            .iter()
            .filter(|binding| roles.contains(&binding.role))
            .filter_map(|binding| binding.path.clone())
            .collect();
        paths.sort();
        paths.dedup();
        // Not by neighbours: `a-b` sorts between `a` and `a/b`.
        let is_topmost = |path: &FleetPath| !paths.iter().any(|other| other != path && other.contains(path));
        paths.iter().filter(|path| is_topmost(path)).cloned().collect()
    }

    /// A kill that names what isn't there would reassure and stop nothing.
    fn check_target(&self, selector: &Selector) -> Result<(), Rejection> {
        if let Some(fleet) = &selector.fleet
            && !self.fleets.contains_key(fleet.as_str())
        {
            return Err(self.unknown_fleet(fleet));
        }
        if let Some(agent) = &selector.agent
            && !self.agents.contains_key(agent.as_str())
        {
            return Err(self.unknown_agent(agent));
        }
        let is_met = selector.labels.is_empty() || self.touches_any(selector);
        if is_met { Ok(()) } else { Err(Rejection::NothingMatches { selector: Box::new(selector.clone()) }) }
    }

    /// A kill in force that does all that a new one would, where the new one could not be stored or not be remembered.
    fn twin_at_the_bound(&self, command: &KillCommand, now: Stamp) -> Option<Killed> {
        if self.kills.len() < self.bounds.kills && !self.remembers_no_more() {
            return None;
        }
        let (drain_ends, expires) = ends(command, now);
        let stops_as_hard = |kill: &Kill| match drain_ends {
            Some(end) => kill.drain_ends.is_none_or(|earlier| earlier <= end),
            None => kill.mode >= command.mode,
        };
        let stops_as_long =
            |kill: &Kill| kill.expires.is_none_or(|later| expires.is_some_and(|end| later >= end));
        self.kills
            .iter()
            .find(|(_, kill)| kill.selector == command.selector && stops_as_hard(kill) && stops_as_long(kill))
            .map(|(id, kill)| Killed {
                kill: *id,
                index: kill.placed.index,
                selector: kill.selector.clone(),
                adjusted: Some(Adjusted::AlreadyInForce),
            })
    }

    /// At the bound a kill stops its whole fleet (or whatever the caller may stop), at once, until people lift it: too much
    /// beats not at all, and so there are at most two such kills (one freezes, one terminates) for each fleet.
    fn widened_at_the_bound(
        &self,
        caller: &PersonId,
        command: KillCommand,
    ) -> (KillCommand, Option<Adjusted>) {
        if self.kills.len() < self.bounds.kills {
            return (command, None);
        }
        let (selector, _) = self.selector_at_the_bound(command.selector.clone());
        // Without a reach the caller holds a role at the root, or `stoppable` would have refused.
        debug_assert!(self.may(caller, Action::Stop, selector.fleet.as_ref()).is_ok());
        let widened = KillCommand {
            selector,
            mode: command.mode.max(KillMode::Freeze),
            expires_after: None,
            reason: command.reason.clone(),
        };
        let adjusted = (widened != command).then_some(Adjusted::WidenedAtTheBound);
        (widened, adjusted)
    }

    fn selector_at_the_bound(&self, selector: Selector) -> (Selector, Option<Adjusted>) {
        if self.kills.len() < self.bounds.kills || selector.is_plain() {
            return (selector, None);
        }
        (Selector { fleet: selector.reach(), ..Selector::default() }, Some(Adjusted::WidenedAtTheBound))
    }

    /// Lifts a kill whose resume has all the people it needs.
    pub(super) fn resume(&mut self, command: &Resume, effects: &mut Effects) -> Result<Outcome, Rejection> {
        let id = command.kill;
        let kill = self.kills.get(&id).ok_or(Rejection::UnknownKill { kill: id })?;
        if kill.selector != command.selector {
            let (actual, signed) = (Box::new(kill.selector.clone()), Box::new(command.selector.clone()));
            return Err(Rejection::KillChanged { kill: id, actual, signed });
        }
        self.leaves_room_to_lift(id)?;
        self.lift(id, Some(command.reason.clone()), effects);
        Ok(Outcome::Resumed { kill: id })
    }

    /// Refuses to lift a terminating kill while the revocation that replaces it has no room.
    pub(super) fn leaves_room_to_lift(&self, id: KillId) -> Result<(), Rejection> {
        let terminates = self.kills.get(&id).is_some_and(|kill| kill.mode == KillMode::Terminate);
        if terminates && self.revocations.len() >= self.bounds.revocations {
            let advice = "revocations end by themselves; until then the kill stays in force".into();
            let max = self.bounds.revocations as u64;
            return Err(Rejection::TableFull { table: Table::Revocations, max, advice });
        }
        Ok(())
    }

    /// Takes a kill out of force, by people or (without a reason) by its expiry.
    pub(super) fn lift(&mut self, id: KillId, reason: Option<Reason>, effects: &mut Effects) {
        let Some(kill) = self.kills.remove(&id) else { return };
        self.derived.kills.remove(id, &kill);
        let forget = |due: &mut imbl::OrdSet<_>, time: Option<_>, what: Due| {
            if let Some(time) = time {
                due.remove(&(time, what));
            }
        };
        forget(&mut self.derived.due, kill.drain_ends, Due::DrainEnds(id));
        forget(&mut self.derived.due, kill.expires, Due::KillExpires(id));
        // The credentials of a terminated target stay void when it may run again: first the revocation, then the lift.
        if kill.mode == KillMode::Terminate {
            self.revoke_terminated(id, &kill, effects);
        }
        self.emit(EnforcementEvent::KillLifted { kill: id }, effects);
        effects.changed(ChangeKind::KillLifted { kill: id, reason: reason.clone() });
        let by = reason.as_ref().and(effects.caller.as_ref()).and_then(Caller::person).cloned();
        self.lifted.insert(id, LiftedKill { kill, lifted: effects.stamp, by, reason });
        if self.lifted.len() > self.bounds.lifted_kills
            && let Some(oldest) =
                self.lifted.iter().min_by_key(|(_, lifted)| lifted.lifted).map(|(id, _)| *id)
        {
            self.lifted.remove(&oldest);
        }
    }

    fn revoke_terminated(&mut self, id: KillId, kill: &Kill, effects: &mut Effects) {
        let revocation = Revocation {
            reason: kill.reason.clone(),
            by: kill.by.clone(),
            placed: effects.stamp,
            ends: effects.stamp.cluster_time.plus(revocation_lifetime()),
            // All that was issued up to the lift: also by agents that came under the kill while it stood.
            issued_before: Some((kill.selector.clone(), effects.stamp.index)),
        };
        self.store_revocation(RevocationTarget::Terminated(id), revocation, effects);
    }

    /// What a kill by this caller would stop, without placing it.
    ///
    /// # Errors
    /// Whatever would refuse the kill.
    pub fn preview_kill(
        &self,
        caller: &PersonId,
        selector: &Selector,
        sample_max: usize,
    ) -> Result<BlastRadius, Rejection> {
        let (selector, narrowed) = self.stoppable(caller, selector)?;
        self.check_target(&selector)?;
        let (selector, widened) = self.selector_at_the_bound(selector);
        let partial = selector.instance.is_some()
            || selector.lineage.is_some()
            || selector.tool.is_some()
            || selector.model.is_some()
            || selector.resource.is_some();
        let mut radius = BlastRadius {
            selector: selector.clone(),
            adjusted: widened.or(narrowed),
            fleets: 0,
            agents: 0,
            fleet_sample: Vec::new(),
            agent_sample: Vec::new(),
            partial,
        };
        if selector.agent.is_none() && selector.labels.is_empty() {
            for path in self.fleets_under(selector.fleet.as_ref()) {
                radius.fleets += 1;
                if radius.fleet_sample.len() < sample_max {
                    radius.fleet_sample.push(path.clone());
                }
            }
        }
        for path in self.agents_touched(&selector) {
            radius.agents += 1;
            if radius.agent_sample.len() < sample_max {
                radius.agent_sample.push(path.clone());
            }
        }
        Ok(radius)
    }

    /// Kills in force that stop an agent whatever it does.
    #[must_use]
    pub fn kills_stopping_agent(&self, agent: &AgentPath) -> Vec<KillId> {
        let labels = self.effective_labels(agent);
        let whole = |selector: &Selector| {
            selector.may_touch(agent, &labels)
                && Selector { fleet: None, agent: None, labels: Default::default(), ..selector.clone() }
                    .is_everything()
        };
        self.kills.iter().filter(|(_, kill)| whole(&kill.selector)).map(|(id, _)| *id).collect()
    }

    /// Kills in force that stop all of a fleet.
    #[must_use]
    pub fn kills_stopping_fleet(&self, fleet: &FleetPath) -> Vec<KillId> {
        let target = Selector::fleet(fleet.clone());
        self.kills.iter().filter(|(_, kill)| kill.selector.covers(&target)).map(|(id, _)| *id).collect()
    }
}

/// When a kill that is placed now stops draining, and when it lifts itself.
fn ends(command: &KillCommand, now: Stamp) -> (Option<ClusterTime>, Option<ClusterTime>) {
    let drain_ends = match command.mode {
        KillMode::Drain(time) => Some(now.cluster_time.plus(time)),
        KillMode::Freeze | KillMode::Terminate => None,
    };
    (drain_ends, command.expires_after.map(|time| now.cluster_time.plus(time)))
}

fn check_durations(command: &KillCommand) -> Result<(), Rejection> {
    let drain = match command.mode {
        KillMode::Drain(time) => Some(time),
        KillMode::Freeze | KillMode::Terminate => None,
    };
    for (what, time) in [(KillDurationName::Drain, drain), (KillDurationName::Expiry, command.expires_after)]
    {
        if let Some(got) = time
            && (got == Millis(0) || got > KILL_DURATION_MAX)
        {
            return Err(Rejection::KillDuration { what, got, max: KILL_DURATION_MAX });
        }
    }
    Ok(())
}

/// How long a revocation of something that isn't known is kept: the longest credential, and the longest lease.
pub(super) const fn revocation_lifetime() -> Millis {
    Millis(CREDENTIAL_TTL_CEILING.0 + LEASE_MAX.0)
}
