//! Credentials and receipts: the reference.

use haltline_core::{
    command::{CredentialIssue, RevocationTarget},
    ids::{InstanceId, NodeId, PersonId},
    limits::{LEASE_MAX, PATTERNS_MAX},
    outcome::IssuedCredential,
    path::FleetPath,
    receipt::SignedReceipt,
    rejection::Outcome,
    state::records::Credential,
    time::ClusterTime,
};

use super::{Done, Model, is_under, kills::can_touch, registry::DEFAULTS, way_down};

impl Model {
    pub(super) fn issue(&mut self, caller: &PersonId, command: &CredentialIssue) -> Done {
        if !self.agents.contains_key(&command.agent) {
            return Err("UNKNOWN_AGENT");
        }
        if command.scope.len() > PATTERNS_MAX {
            return Err("TOO_MANY_PATTERNS");
        }
        let is_grant_used = self.credentials.values().any(|live| live.lineage.contains(&command.grant));
        let is_anothers = self
            .credentials
            .values()
            .any(|live| live.instance == command.instance && live.agent != command.agent);
        if self.credentials.contains_key(&command.credential) || is_grant_used || is_anothers {
            return Err("CREDENTIAL_ID_TAKEN");
        }
        let revoked = [
            RevocationTarget::Credential(command.credential),
            RevocationTarget::Instance(command.instance),
            RevocationTarget::Grant(command.grant),
        ];
        if revoked.iter().any(|target| self.revocations.contains_key(target)) {
            return Err("REVOKED");
        }
        if self.is_stopped(command) {
            return Err("KILLED");
        }
        let home = command.agent.fleet();
        let max = self.limits_set(Some(&home))[1].unwrap_or(DEFAULTS[1]);
        let ttl = command.ttl.map_or(max, |ttl| ttl.0);
        if ttl < 1 || ttl > max {
            return Err("CREDENTIAL_TTL");
        }
        let lives = self.credentials.values().any(|live| live.instance == command.instance);
        if !lives && way_down(home.as_str()).iter().any(|fleet| self.is_crowded(fleet)) {
            return Err("INSTANCE_LIMIT");
        }
        let ends = ClusterTime(self.now.cluster_time.0 + ttl);
        let credential = Credential {
            agent: command.agent.clone(),
            instance: command.instance,
            grant: command.grant,
            lineage: vec![command.grant],
            depth: 0,
            task: command.task.clone(),
            scope: command.scope.clone(),
            issued: self.now,
            ends,
            by: caller.clone(),
        };
        let issued = IssuedCredential {
            credential: command.credential,
            instance: command.instance,
            grant: command.grant,
            agent: command.agent.clone(),
            lineage: vec![command.grant],
            depth: 0,
            task: command.task.clone(),
            scope: command.scope.clone(),
            audience: command.audience.clone(),
            issued: self.now,
            ends,
            incarnation: self.cluster.as_ref().unwrap().incarnation,
        };
        self.credentials.insert(command.credential, credential);
        Ok(Outcome::CredentialIssued(Box::new(issued)))
    }

    /// Whether a kill, of whatever mode, names what the credential would be for and not only some of its actions.
    fn is_stopped(&self, command: &CredentialIssue) -> bool {
        let labels = self.agent_labels(command.agent.as_str());
        self.kills.values().any(|kill| {
            let selector = &kill.selector;
            can_touch(selector, command.agent.as_str(), &labels)
                && selector.instance.is_none_or(|instance| instance == command.instance)
                && selector.lineage.is_none_or(|grant| grant == command.grant)
                && (&selector.tool, &selector.model, &selector.resource) == (&None, &None, &None)
        })
    }

    fn is_crowded(&self, fleet: &FleetPath) -> bool {
        self.instances_under(fleet.as_str()) >= self.limits_set(Some(fleet))[3].unwrap_or(DEFAULTS[3])
    }

    /// How many running copies live under a fleet, or of an agent.
    pub(crate) fn instances_under(&self, path: &str) -> u64 {
        let inside = self.credentials.values().filter(|live| is_under(live.agent.as_str(), path));
        let instances: std::collections::BTreeSet<InstanceId> = inside.map(|live| live.instance).collect();
        instances.len() as u64
    }

    /// Until when a revocation could still hit something that is known.
    pub(super) fn hit_until(&self, target: &RevocationTarget) -> Option<ClusterTime> {
        let hit = self.credentials.iter().filter(|(id, live)| match target {
            RevocationTarget::Credential(credential) => *id == credential,
            RevocationTarget::Grant(grant) => live.lineage.contains(grant),
            RevocationTarget::Instance(instance) => live.instance == *instance,
            RevocationTarget::Key(_) | RevocationTarget::Terminated(_) => false,
        });
        hit.map(|(_, live)| ClusterTime(live.ends.0 + LEASE_MAX.0)).max()
    }

    pub(super) fn record_receipt(&mut self, node: NodeId, signed: &SignedReceipt) -> Done {
        let receipt = &signed.receipt;
        if receipt.signer != node {
            return Err("BAD_RECEIPT");
        }
        let lifted = || self.lifted.get(&receipt.kill).map(|lifted| &lifted.kill);
        let Some(kill) = self.kills.get(&receipt.kill).or_else(lifted) else { return Err("UNKNOWN_KILL") };
        let cluster = self.cluster.as_ref().unwrap();
        let is_about = receipt.cluster_id == cluster.id
            && receipt.incarnation == cluster.incarnation
            && receipt.mode == kill.mode
            && receipt.selector == kill.selector
            && receipt.reason == kill.reason
            && receipt.by == kill.by
            && receipt.placed == kill.placed
            && kill.denies_from.is_some_and(|from| receipt.index >= from)
            && receipt.index <= self.now.index;
        let key = |id| self.nodes.iter().find(|node| node.id == id).map(|node| node.signing_key);
        if !is_about || signed.verify(key).is_err() {
            return Err("BAD_RECEIPT");
        }
        if self.receipts.contains_key(&receipt.kill) {
            return Err("RECEIPT_EXISTS");
        }
        self.receipts.insert(receipt.kill, signed.clone());
        Ok(Outcome::ReceiptRecorded { kill: receipt.kill })
    }
}
