//! Kills: placing, previewing, showing and lifting them.

use std::collections::BTreeMap;

use haltline_core::{
    ids::KillId,
    limits::BLAST_SAMPLE_MAX,
    rejection::Rejection,
    selector::Selector,
    state::records::{Kill, LiftedKill},
};
use haltline_wire::{
    convert::{self, ConvertError},
    v1::{self, command_request::Command, kill_service_server::KillService},
};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    context::Reading,
    paging::{Page, PageRequest},
    refused::Refused,
};

#[tonic::async_trait]
impl KillService for Services {
    async fn create_kill(
        &self,
        request: Request<v1::CreateKillRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::CreateKill(message)).await
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::Resume(message)).await
    }

    async fn preview_kill(
        &self,
        request: Request<v1::PreviewKillRequest>,
    ) -> Result<Response<v1::BlastRadius>, Status> {
        let (_, extensions, message) = request.into_parts();
        let selector = message.selector.ok_or_else(|| {
            let expected = "what to stop; a selector without conditions stops everything";
            Refused::from(ConvertError::missing("selector", expected))
        })?;
        let selector = Selector::try_from(selector).map_err(|error| {
            Refused::from(ConvertError { field: format!("selector.{}", error.field), why: error.why })
        })?;
        let read = move |reading: &Reading| {
            let state = &reading.published.state;
            let radius = state.preview_kill(&reading.caller, &selector, BLAST_SAMPLE_MAX)?;
            Ok(convert::blast_radius(state, &radius))
        };
        self.0.read_long(&extensions, read).await
    }

    async fn get_kill(&self, request: Request<v1::GetKillRequest>) -> Result<Response<v1::Kill>, Status> {
        let id = KillId(request.get_ref().kill);
        let reading = self.0.read(request.extensions()).await?;
        let state = &reading.published.state;
        let in_force = state.kills().get(&id).map(|kill| convert::kill(state, id, kill));
        let lifted = || state.lifted_kills().get(&id).map(|lifted| convert::lifted_kill(state, id, lifted));
        let unknown = || Refused::from(Rejection::UnknownKill { kill: id });
        Ok(Response::new(in_force.or_else(lifted).ok_or_else(unknown)?))
    }

    async fn list_kills(
        &self,
        request: Request<v1::ListKillsRequest>,
    ) -> Result<Response<v1::ListKillsResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let include_lifted = asked.include_lifted;
        let read = move |reading: &Reading| {
            let Page { items, next } = kills_page(reading, include_lifted, &page)?;
            Ok(v1::ListKillsResponse { kills: items, next_page_token: next })
        };
        self.0.read_long(request.extensions(), read).await
    }
}

/// A kill in the list, whichever table it is in.
enum Listed<'a> {
    InForce(&'a Kill),
    Lifted(&'a LiftedKill),
}

fn kills_page(
    reading: &Reading,
    include_lifted: bool,
    page: &PageRequest,
) -> Result<Page<v1::Kill>, Refused> {
    let state = &reading.published.state;
    let from = page.after_number()?.map_or(KillId(0), |after| KillId(after.saturating_add(1)));
    let mut listed: BTreeMap<_, _> =
        state.kills().range(from..).map(|(id, kill)| (*id, Listed::InForce(kill))).collect();
    if include_lifted {
        listed.extend(state.lifted_kills().range(from..).map(|(id, kill)| (*id, Listed::Lifted(kill))));
    }
    let key = |(id, _): &(KillId, Listed<'_>)| id.0.to_be_bytes().to_vec();
    let make = |(id, kill): &(KillId, Listed<'_>)| {
        Some(match kill {
            Listed::InForce(kill) => convert::kill(state, *id, kill),
            Listed::Lifted(lifted) => convert::lifted_kill(state, *id, lifted),
        })
    };
    Ok(page.fill(listed.into_iter(), key, make))
}
