//! Credentials: their issue, and revocations of credentials, grants, instances and keys.
//!
//! A credential is an entry of the log; the token that proves it is made of what the log answered, by whichever node was
//! asked, and kept nowhere. So a retry gets a token too, and no table of outcomes holds a secret.

use haltline_core::{
    command::{self, RevocationTarget},
    outcome::{IssuedCredential, Outcome},
    rejection::Rejection,
    selector::Subject,
    state::State,
    text::{Text, TextError},
};
use haltline_pki::{UnixSeconds, token};
use haltline_wire::{
    convert, token_names,
    v1::{self, command_request::Command, credential_service_server::CredentialService},
};
use prost::Message as _;
use std::ops::Bound;
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    context::{Context, Reading},
    paging::{Page, PageRequest},
    refused::Refused,
};

#[tonic::async_trait]
impl CredentialService for Services {
    async fn issue(
        &self,
        request: Request<v1::IssueCredentialRequest>,
    ) -> Result<Response<v1::IssueCredentialResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let caller = self.0.commander(&extensions)?;
        let asked = convert::request(&caller, Command::IssueCredential(message)).map_err(Refused::from)?;
        if let command::Command::CredentialIssue(issue) = &asked.command {
            // What no token can hold is refused before it stands in the log.
            let audience = self.0.audience(issue.audience.as_ref())?;
            token::check_request(&issue.scope, &audience).map_err(Refused::Unsignable)?;
        }
        let (stamp, outcome) = self.0.propose(asked).await?;
        let mut response = v1::IssueCredentialResponse::default();
        if let Outcome::CredentialIssued(issued) = &outcome {
            response.access_token = self.0.token(issued)?;
            response.expires_in_ms = issued.ends.since(self.0.consensus.cluster_now()).0;
        }
        response.reply = Some(convert::outcome_reply(0, stamp, &outcome));
        Ok(Response::new(response))
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::Revoke(message)).await
    }

    async fn list_revocations(
        &self,
        request: Request<v1::ListRevocationsRequest>,
    ) -> Result<Response<v1::ListRevocationsResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let read = move |reading: &Reading| {
            let Page { items, next } = revocations_page(reading, &page)?;
            Ok(v1::ListRevocationsResponse { revocations: items, next_page_token: next })
        };
        self.0.read_long(request.extensions(), read).await
    }
}

fn revocations_page(reading: &Reading, page: &PageRequest) -> Result<Page<v1::Revocation>, Refused> {
    let after = page.after.as_deref().map(target).transpose()?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let elements = reading.published.state.revocations().range((from, Bound::Unbounded));
    let key = |(target, _): &(&RevocationTarget, _)| v1::RevocationTarget::from(*target).encode_to_vec();
    Ok(page.fill(elements, key, |(target, revocation)| Some(convert::revocation(target, revocation))))
}

/// The target that a page token names.
fn target(bytes: &[u8]) -> Result<RevocationTarget, Refused> {
    let message = v1::RevocationTarget::decode(bytes).map_err(|_| Refused::PageToken)?;
    message.try_into().map_err(|_| Refused::PageToken)
}

impl Context {
    /// The token of a credential that the log holds.
    fn token(&self, issued: &IssuedCredential) -> Result<String, Refused> {
        let published = self.consensus.state();
        if published.applied >= issued.issued.index {
            check_still_good(&published.state, issued)?;
        }
        if issued.ends <= self.consensus.cluster_now() {
            return Err(Refused::CredentialEnded);
        }
        let signer = self.signing.signer(&published.state).map_err(Refused::SigningKey)?;
        token::sign(&signer, &self.claims(issued)?).map_err(|error| Refused::Token(error.to_string()))
    }

    /// Whom a token is for: who was named, or this cluster's enforcers.
    fn audience(&self, named: Option<&Text>) -> Result<Text, Refused> {
        match named {
            Some(named) => Ok(named.clone()),
            None => claim(&token_names::enforcers(&self.identity.bundle().cluster())),
        }
    }

    /// The same claims for every retry, whatever clock the node that signs has: wall times are those of the log.
    fn claims(&self, issued: &IssuedCredential) -> Result<token::Claims, Refused> {
        let cluster = self.identity.bundle().cluster();
        let issued_at = issued.issued.wall_time.0 / 1_000;
        let lifetime = issued.ends.since(issued.issued.cluster_time).0 / 1_000;
        Ok(token::Claims {
            issuer: claim(&token_names::issuer(&cluster))?,
            audience: self.audience(issued.audience.as_ref())?,
            cluster,
            credential: issued.credential,
            agent: issued.agent.clone(),
            instance: issued.instance,
            lineage: issued.lineage.clone(),
            task: issued.task.clone(),
            scope: issued.scope.clone(),
            issued_at: UnixSeconds(issued_at),
            expires_at: UnixSeconds(issued_at.saturating_add(lifetime)),
            ends: issued.ends,
            index: issued.issued.index,
            incarnation: issued.incarnation,
            node: self.identity.id(),
        })
    }
}

fn claim(name: &str) -> Result<Text, Refused> {
    name.parse().map_err(|error: TextError| Refused::Token(error.to_string()))
}

/// A retry comes late: nothing is signed for what has ended, was revoked, or is stopped meanwhile. Enforcers would deny it
/// anyway, by the index that it names.
fn check_still_good(state: &State, issued: &IssuedCredential) -> Result<(), Refused> {
    if !state.credentials().contains_key(&issued.credential) {
        return Err(Refused::CredentialEnded);
    }
    let own = [RevocationTarget::Credential(issued.credential), RevocationTarget::Instance(issued.instance)];
    let grants = issued.lineage.iter().map(|grant| RevocationTarget::Grant(*grant));
    let mut targets = own.into_iter().chain(grants);
    if let Some(target) = targets.find(|target| state.revocations().contains_key(target)) {
        return Err(Rejection::Revoked { target }.into());
    }
    let labels = state.effective_labels(&issued.agent);
    let subject = Subject {
        agent: &issued.agent,
        instance: Some(issued.instance),
        lineage: &issued.lineage,
        labels: &labels,
        tool: None,
        model: None,
        resource: None,
    };
    match state.kills().iter().find(|(_, kill)| kill.selector.matches(&subject)) {
        Some((kill, _)) => Err(Rejection::Killed { kill: *kill, agent: issued.agent.clone() }.into()),
        None => Ok(()),
    }
}
