//! People: who they are, what they may do, and their certificates.
//!
//! A certificate gives nobody anything by itself: authority hangs on the keys in the log. So a node issues one to
//! whoever can show that the keys of a request are registered for its name.

use haltline_core::{command, rejection::Outcome, state::State};
use haltline_pki::{Endpoint, PersonRequest, Validity, VerifiedRequest};
use haltline_wire::{
    convert::{self, ConvertError},
    v1::{self, command_request::Command, person_service_server::PersonService},
};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    context::{Context, Reading},
    paging::{Page, PageRequest},
    refused::Refused,
};

#[tonic::async_trait]
impl PersonService for Services {
    async fn add_person(
        &self,
        request: Request<v1::EnrolPersonRequest>,
    ) -> Result<Response<v1::EnrolPersonResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let caller = self.0.commander(&extensions)?;
        let person = message
            .person
            .ok_or_else(|| Refused::from(ConvertError::missing("person", "the person to enrol")))?;
        let asked = convert::request(&caller, Command::AddPerson(person)).map_err(Refused::from)?;
        let certificate_request = match message.certificate_request.as_str() {
            "" => None,
            text => Some(fitting(text, &asked.command)?),
        };
        let (stamp, outcome) = self.0.propose(asked).await?;
        let is_enrolled = matches!(outcome, Outcome::PersonStored { .. });
        let issued_certificate = match certificate_request {
            Some(request) if is_enrolled => self.0.issue(&request)?,
            _ => String::new(),
        };
        let reply = Some(convert::outcome_reply(0, stamp, &outcome));
        Ok(Response::new(v1::EnrolPersonResponse { reply, issued_certificate }))
    }

    async fn update_person(
        &self,
        request: Request<v1::UpdatePersonRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::UpdatePerson(message)).await
    }

    async fn remove_person(
        &self,
        request: Request<v1::RemovePersonRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::RemovePerson(message)).await
    }

    async fn list_people(
        &self,
        request: Request<v1::ListPeopleRequest>,
    ) -> Result<Response<v1::ListPeopleResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let reading = self.0.read(request.extensions()).await?;
        let Page { items, next } = people_page(&reading, &page)?;
        Ok(Response::new(v1::ListPeopleResponse { people: items, next_page_token: next }))
    }

    async fn issue_certificate(
        &self,
        request: Request<v1::IssueCertificateRequest>,
    ) -> Result<Response<v1::IssueCertificateResponse>, Status> {
        let (asked, verified) = verified(&request.get_ref().certificate_request)?;
        let reading = self.0.read(request.extensions()).await?;
        check_registered(&reading.published.state, &verified)?;
        let issued_certificate = self.0.issue(&asked)?;
        Ok(Response::new(v1::IssueCertificateResponse { issued_certificate }))
    }
}

fn people_page(reading: &Reading, page: &PageRequest) -> Result<Page<v1::Person>, Refused> {
    let after = page.after_text()?;
    // At most ten thousand people: looking at those before the page costs less than a key type of its own.
    let elements = reading
        .published
        .state
        .people()
        .iter()
        .skip_while(|(name, _)| after.is_some_and(|after| name.as_str() <= after));
    let key = |(name, _): &(&haltline_core::ids::PersonId, _)| name.as_str().as_bytes().to_vec();
    Ok(page.fill(elements, key, |(name, person)| Some(convert::person(name, person))))
}

fn verified(text: &str) -> Result<(PersonRequest, VerifiedRequest), Refused> {
    let request = PersonRequest::from_json(text).map_err(Refused::CertificateRequest)?;
    let verified = request.verify().map_err(Refused::CertificateRequest)?;
    Ok((request, verified))
}

/// A certificate request for exactly the person that a command enrols.
fn fitting(text: &str, command: &command::Command) -> Result<PersonRequest, Refused> {
    let (request, verified) = verified(text)?;
    let command::Command::PersonAdd(add) = command else {
        return Err(Refused::RequestMismatch { what: "purpose" });
    };
    let differs = |what| Err(Refused::RequestMismatch { what });
    if verified.name != add.person {
        return differs("name");
    }
    if verified.signing_key != add.signing_key {
        return differs("signing key");
    }
    if !add.tls_keys.contains(&verified.tls_key) {
        return differs("TLS key");
    }
    Ok(request)
}

fn check_registered(state: &State, verified: &VerifiedRequest) -> Result<(), Refused> {
    let is_registered = state.people().get(&verified.name).is_some_and(|person| {
        person.signing_key == verified.signing_key && person.tls_keys.contains(&verified.tls_key)
    });
    if is_registered { Ok(()) } else { Err(Refused::KeysNotRegistered { person: verified.name.clone() }) }
}

impl Context {
    /// Issues a certificate for a request whose keys are registered.
    fn issue(&self, request: &PersonRequest) -> Result<String, Refused> {
        let published = self.consensus.state();
        let endpoints = published
            .members()
            .filter_map(|(id, member)| Some(member.api_address.parse::<Endpoint>().ok()?.expecting(id)))
            .collect();
        let identity = &self.identity;
        let issued = identity
            .issuers()
            .issue_person(request, Validity::leaf(), identity.bundle(), endpoints)
            .map_err(Refused::Issue)?;
        tracing::info!(person = %request.name(), "certificate issued");
        Ok(issued.to_json())
    }
}
