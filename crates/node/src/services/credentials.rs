//! Revocations of credentials, grants, instances and keys.

use haltline_core::command::RevocationTarget;
use haltline_wire::{
    convert,
    v1::{self, command_request::Command, credential_service_server::CredentialService},
};
use prost::Message as _;
use std::ops::Bound;
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    context::Reading,
    paging::{Page, PageRequest},
    refused::Refused,
};

#[tonic::async_trait]
impl CredentialService for Services {
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
