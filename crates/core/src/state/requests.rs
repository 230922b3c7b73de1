//! Exactly-once: each command id is answered once, and a retry gets the first answer.
//!
//! The table keeps (id, caller) with the command's digest and result until the command's deadline; what arrives later is
//! refused, so forgetting an id can't let it in again. A full table refuses new commands, kills exempt.

use super::{Due, Effects, State, records::Recorded};
use crate::{
    command::{Caller, Request, canonical},
    ids::{Digest, RequestId},
    limits::{APPROVAL_LIFETIME_MAX, COMMAND_BYTES_MAX, REQUEST_LIFETIME_MAX},
    rejection::{Outcome, Rejection},
    time::ClusterTime,
};
use sha2::{Digest as _, Sha256};

impl State {
    /// Answers one request: from memory if it was answered before, else by judging and carrying it out.
    pub(super) fn answer(&mut self, request: &Request, effects: &mut Effects) -> Result<Outcome, Rejection> {
        if self.cluster.is_none() {
            return Err(Rejection::NotFounded);
        }
        let encoded = canonical(&request.command);
        if encoded.len() > COMMAND_BYTES_MAX {
            return Err(Rejection::CommandTooLarge {
                got_bytes: encoded.len() as u64,
                max_bytes: COMMAND_BYTES_MAX as u64,
            });
        }
        let digest = Digest(Sha256::digest(&encoded).into());
        let digest: [u8; 16] = *digest.0.first_chunk().expect("32 bytes hold 16");
        let key = (request.id, request.caller.clone());
        if let Some(recorded) = self.requests.get(&key) {
            if recorded.digest != digest {
                return Err(Rejection::RequestIdReused);
            }
            let (result, until) = (recorded.result.clone(), recorded.until);
            if request.deadline > until && self.check_deadline(request).is_ok() {
                self.remember_longer(&key, until, request.deadline);
            }
            return result;
        }
        self.check_deadline(request)?;
        let has_room = self.has_room_for(request)?;
        let key = (request.id, self.known(&request.caller)?);
        let result = self.judge(request, effects);
        if has_room {
            let until = request.deadline;
            self.derived.due.insert((until, Due::RequestForgotten(key.0, key.1.clone())));
            *self.derived.requests_of.entry(key.1.clone()).or_default() += 1;
            self.derived.remembered += 1;
            self.requests.insert(key, Recorded { digest, result: result.clone(), until });
        }
        result
    }

    /// The caller, if it is registered: with the registry's own copy of its name, so that thousands of keys share one.
    fn known(&self, caller: &Caller) -> Result<Caller, Rejection> {
        match caller {
            Caller::Person(person) => match self.people.get_key_value(person) {
                Some((person, _)) => Ok(person.clone().into()),
                None => Err(Rejection::UnknownPerson { person: person.clone() }),
            },
            Caller::Node(node) if self.nodes.contains_key(node) => Ok(caller.clone()),
            Caller::Node(node) => Err(Rejection::UnknownNode { node: *node }),
            Caller::Edge(edge) => match self.edges.get_key_value(edge) {
                Some((edge, _)) => Ok(edge.clone().into()),
                None => Err(Rejection::UnknownEdge { edge: edge.clone() }),
            },
        }
    }

    /// A retry with a later deadline must still be known when that one passes.
    fn remember_longer(&mut self, key: &(RequestId, Caller), until: ClusterTime, deadline: ClusterTime) {
        self.derived.due.remove(&(until, Due::RequestForgotten(key.0, key.1.clone())));
        self.derived.due.insert((deadline, Due::RequestForgotten(key.0, key.1.clone())));
        if let Some(recorded) = self.requests.get_mut(key) {
            recorded.until = deadline;
        }
    }

    /// Forgets an id whose deadline has passed.
    pub(super) fn forget(&mut self, id: RequestId, caller: Caller) {
        if let Some(count) = self.derived.requests_of.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.derived.requests_of.remove(&caller);
            }
        }
        if self.requests.remove(&(id, caller)).is_some() {
            self.derived.remembered -= 1;
        }
    }

    fn check_deadline(&self, request: &Request) -> Result<(), Rejection> {
        let (deadline, now) = (request.deadline, self.last.cluster_time);
        if deadline <= now {
            return Err(Rejection::DeadlinePassed { deadline, now });
        }
        let ahead = deadline.since(now);
        let max = if request.signature.is_some() { APPROVAL_LIFETIME_MAX } else { REQUEST_LIFETIME_MAX };
        if ahead > max { Err(Rejection::DeadlineTooFar { ahead, max }) } else { Ok(()) }
    }

    /// Whether the answer will be remembered. A kill is carried out even where it can't be: repeated, it finds its twin.
    fn has_room_for(&self, request: &Request) -> Result<bool, Rejection> {
        let remembered = self.requests.len();
        let of_caller = self.derived.requests_of.get(&request.caller).copied().unwrap_or_default();
        if remembered < self.bounds.requests && of_caller < self.bounds.requests_per_person {
            return Ok(true);
        }
        if request.command.is_kill() {
            return Ok(remembered < self.bounds.requests + self.bounds.kill_requests_reserve);
        }
        Err(Rejection::RequestTableFull { remembered: remembered as u64, of_caller: of_caller as u64 })
    }

    /// Whether the table of command ids, its reserve included, is full.
    pub(super) fn remembers_no_more(&self) -> bool {
        self.requests.len() >= self.bounds.requests + self.bounds.kill_requests_reserve
    }
}
