//! A command in full, as an approver must see it before signing: read from the very value whose bytes are signed.

use haltline_core::{
    command::{
        BundlePropose, Command, CredentialIssue, EdgeUpdate, EnforcerKind, FleetCreate, FleetUpdate,
        JoinTokenCreate, KillMode, PersonAdd, PersonUpdate, RevocationTarget, RoleBinding,
    },
    policy::{Intent, Limits},
    state::Scope,
    text::Labels,
};
use haltline_wire::v1;

use super::resource;

/// Its name and every field that is set.
pub(super) fn describe(command: &Command) -> (&'static str, Vec<(String, String)>) {
    let mut fields = Fields::default();
    let title = match command {
        Command::FleetCreate(create) => fields.fleet_create(create),
        Command::FleetUpdate(update) => fields.fleet_update(update),
        Command::FleetDelete(delete) => fields.only("fleet", &delete.path, "delete a fleet"),
        Command::AgentRegister(register) => {
            fields.add("agent", &register.path);
            fields.labels(&register.labels);
            "register an agent"
        }
        Command::AgentUpdate(update) => {
            fields.add("agent", &update.path);
            fields.labels(&update.labels);
            "change an agent's labels"
        }
        Command::AgentDelete(delete) => fields.only("agent", &delete.path, "delete an agent"),
        Command::PersonAdd(add) => fields.person_add(add),
        Command::PersonUpdate(update) => fields.person_update(update),
        Command::PersonRemove(remove) => fields.only("person", &remove.person, "remove a person"),
        Command::Kill(kill) => {
            fields.add("stops", &kill.selector);
            fields.add("mode", &mode_text(kill.mode));
            if let Some(expiry) = kill.expires_after {
                fields.add("expires after", &expiry);
            }
            fields.add("reason", &kill.reason);
            "place a kill"
        }
        Command::Resume(resume) => {
            fields.add("kill", &resume.kill);
            fields.add("which stops", &resume.selector);
            fields.add("reason", &resume.reason);
            "lift a kill"
        }
        Command::Approve(approve) => fields.only("approval", &approve.approval, "approve a command"),
        Command::Withdraw(withdraw) => fields.only("approval", &withdraw.approval, "withdraw a command"),
        Command::Revoke(revoke) => {
            fields.add("target", &target_text(&revoke.target));
            fields.add("reason", &revoke.reason);
            "revoke"
        }
        Command::PolicyUpdate(policy) => {
            fields.add("people to resume", &policy.approvals_to_resume);
            fields.add("people to widen", &policy.approvals_to_widen);
            "change the policy"
        }
        Command::JoinTokenCreate(create) => fields.join_token_create(create),
        Command::JoinTokenDelete(delete) => fields.only("token", &delete.token, "delete a join token"),
        Command::EdgeUpdate(update) => fields.edge_update(update),
        Command::EdgeRemove(remove) => fields.only("edge", &remove.edge, "remove an edge"),
        Command::CredentialIssue(issue) => fields.credential_issue(issue),
        Command::BundlePropose(propose) => fields.bundle_propose(propose),
        // Nodes ask for these by themselves, so they never wait for anybody.
        Command::EdgeEnrol(enrol) => {
            fields.add("token", &enrol.token);
            fields.add("TLS key", &enrol.key);
            "enrol an edge"
        }
        Command::ReceiptRecord(signed) => fields.only("kill", &signed.receipt.kill, "keep a receipt"),
        Command::BundleEndorse(endorse) => fields.only("version", &endorse.version, "endorse a trust bundle"),
    };
    (title, fields.0)
}

/// A kill's mode in words.
pub(super) fn mode_text(mode: KillMode) -> String {
    match mode {
        KillMode::Freeze => "freeze".to_owned(),
        KillMode::Terminate => "terminate".to_owned(),
        KillMode::Drain(time) => format!("drain for {time}"),
    }
}

/// What a revocation ends, in words.
pub(super) fn target_text(target: &RevocationTarget) -> String {
    match target {
        RevocationTarget::Credential(id) => format!("credential {id}"),
        RevocationTarget::Grant(id) => format!("grant {id}"),
        RevocationTarget::Instance(id) => format!("instance {id}"),
        RevocationTarget::Key(id) => format!("key {id}"),
        RevocationTarget::Terminated(kill) => format!("what {kill} terminated"),
    }
}

#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn add(&mut self, name: &str, value: &impl ToString) {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push((name.to_owned(), value));
        }
    }

    /// The one field of a command, and its title.
    fn only(&mut self, name: &str, value: &impl ToString, title: &'static str) -> &'static str {
        self.add(name, value);
        title
    }

    fn fleet_create(&mut self, create: &FleetCreate) -> &'static str {
        self.add("fleet", &create.path);
        self.labels(&create.labels);
        self.add("owner", &create.owner);
        self.add("contact", &create.contact);
        self.intent(&create.intent);
        self.limits(&create.limits);
        "create a fleet"
    }

    fn fleet_update(&mut self, update: &FleetUpdate) -> &'static str {
        self.add("fleet", &update.path);
        if let Some(version) = update.expected_version {
            self.add("at version", &version);
        }
        if let Some(labels) = &update.labels {
            self.labels(labels);
        }
        if let Some(owner) = &update.owner {
            self.add("owner", owner);
        }
        if let Some(contact) = &update.contact {
            self.add("contact", contact);
        }
        if let Some(intent) = &update.intent {
            self.intent(intent);
        }
        if let Some(limits) = &update.limits {
            self.limits(limits);
        }
        "change a fleet"
    }

    fn person_add(&mut self, add: &PersonAdd) -> &'static str {
        self.add("person", &add.person);
        self.roles(&add.roles);
        for key in &add.tls_keys {
            self.add("TLS key", key);
        }
        self.add("signing key", &add.signing_key);
        "enrol a person"
    }

    fn person_update(&mut self, update: &PersonUpdate) -> &'static str {
        self.add("person", &update.person);
        if let Some(roles) = &update.roles {
            self.roles(roles);
        }
        for key in update.tls_keys.iter().flatten() {
            self.add("TLS key", key);
        }
        if let Some(key) = update.signing_key {
            self.add("signing key", &key);
        }
        "change a person"
    }

    fn join_token_create(&mut self, create: &JoinTokenCreate) -> &'static str {
        self.add("name", &create.edge);
        self.scopes(&create.paths);
        if create.trusted_for_acks {
            self.add("trusted for acks", &"yes");
        }
        self.add("good for", &create.ttl);
        self.add("token", &create.token);
        match create.kind {
            EnforcerKind::Edge => "let in an edge",
            EnforcerKind::Relay => "let in a relay",
        }
    }

    fn edge_update(&mut self, update: &EdgeUpdate) -> &'static str {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        self.add("edge", &update.edge);
        if let Some(paths) = &update.paths {
            self.scopes(paths);
        }
        if let Some(trusted) = update.trusted_for_acks {
            self.add("trusted for acks", &yes_no(trusted));
        }
        if let Some(fails_open) = update.fails_open {
            self.add("fails open", &yes_no(fails_open));
        }
        "change an edge"
    }

    fn credential_issue(&mut self, issue: &CredentialIssue) -> &'static str {
        self.add("agent", &issue.agent);
        self.add("task", &issue.task);
        self.add("tools", &issue.scope.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        if let Some(audience) = &issue.audience {
            self.add("audience", audience);
        }
        if let Some(ttl) = issue.ttl {
            self.add("lives for", &ttl);
        }
        self.add("instance", &issue.instance);
        "issue a credential"
    }

    fn bundle_propose(&mut self, propose: &BundlePropose) -> &'static str {
        self.add("version", &propose.version);
        for (node, key) in &propose.keys {
            self.add(&format!("key of node {node}"), key);
        }
        "change the keys that nodes sign with"
    }

    fn scopes(&mut self, paths: &[Scope]) {
        let texts =
            paths.iter().map(|scope| scope.as_ref().map_or_else(|| "/".to_owned(), ToString::to_string));
        self.add("paths", &texts.collect::<Vec<_>>().join(", "));
    }

    fn labels(&mut self, labels: &Labels) {
        self.add("labels", &if labels.is_empty() { "none".to_owned() } else { labels.to_string() });
    }

    fn roles(&mut self, roles: &[RoleBinding]) {
        self.add("roles", &roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    }

    fn intent(&mut self, intent: &Intent) {
        self.add("purpose", &intent.purpose);
        for (name, patterns) in resource::intent_lists(intent) {
            self.add(&name, &patterns);
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let text = resource::limits_text(&v1::Limits::from(limits));
        self.add("limits", &if text.is_empty() { "inherited".to_owned() } else { text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haltline_core::command::{PersonAdd, Resume, Role};
    use haltline_core::ids::{Digest, JoinTokenId, KeyHash, KillId, PublicKey};
    use haltline_core::time::Millis;

    fn lines(command: &Command) -> String {
        let (title, fields) = describe(command);
        let fields = fields.iter().map(|(name, value)| format!("\n{name}: {value}"));
        fields.fold(title.to_owned(), |text, field| text + &field)
    }

    #[test]
    fn who_lets_an_enforcer_in_sees_where_it_enforces_and_how_far_it_is_trusted() {
        let create = JoinTokenCreate {
            token: JoinTokenId([3; 16]),
            secret_hash: Digest([4; 32]),
            edge: "eu-relay".parse().expect("a name"),
            kind: EnforcerKind::Relay,
            paths: vec![None, Some("acme/x".parse().expect("a path"))],
            trusted_for_acks: true,
            ttl: Millis(600_000),
        };
        insta::assert_snapshot!(lines(&Command::JoinTokenCreate(create)), @r"
        let in a relay
        name: eu-relay
        paths: /, acme/x
        trusted for acks: yes
        good for: 10 min
        token: 03030303030303030303030303030303
        ");
        let update = EdgeUpdate {
            edge: "eu-gate".parse().expect("a name"),
            paths: None,
            trusted_for_acks: None,
            fails_open: Some(true),
        };
        insta::assert_snapshot!(lines(&Command::EdgeUpdate(update)), @r"
        change an edge
        edge: eu-gate
        fails open: yes
        ");
    }

    #[test]
    fn an_approver_sees_all_that_is_signed() {
        let resume = Command::Resume(Resume {
            kill: KillId(4),
            selector: "fleet=acme/finance tool=pay.*".parse().expect("a selector"),
            reason: "fixed".parse().expect("a reason"),
        });
        insta::assert_snapshot!(lines(&resume), @r"
        lift a kill
        kill: kill-4
        which stops: fleet=acme/finance tool=pay.*
        reason: fixed
        ");
        let add = Command::PersonAdd(PersonAdd {
            person: "bob".parse().expect("a name"),
            tls_keys: vec![KeyHash([1; 32])],
            signing_key: PublicKey([2; 32]),
            roles: vec![
                RoleBinding { role: Role::Admin, path: None },
                RoleBinding { role: Role::Responder, path: Some("acme".parse().expect("a path")) },
            ],
        });
        insta::assert_snapshot!(lines(&add), @r"
        enrol a person
        person: bob
        roles: admin@/, responder@acme
        TLS key: 0101010101010101010101010101010101010101010101010101010101010101
        signing key: 0202020202020202020202020202020202020202020202020202020202020202
        ");
    }
}
