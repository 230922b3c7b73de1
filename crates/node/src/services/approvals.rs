//! Commands that wait for a second person: showing, approving, turning them down.

use haltline_core::{ids::ApprovalId, rejection::Rejection};
use haltline_wire::{
    convert,
    v1::{self, approval_service_server::ApprovalService, command_request::Command},
};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    paging::{Page, PageRequest},
    refused::Refused,
};

#[tonic::async_trait]
impl ApprovalService for Services {
    async fn approve(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::Approve(message)).await
    }

    async fn withdraw(
        &self,
        request: Request<v1::WithdrawRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::Withdraw(message)).await
    }

    async fn get_approval(
        &self,
        request: Request<v1::GetApprovalRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let id = ApprovalId(request.get_ref().approval);
        let reading = self.0.read(request.extensions()).await?;
        let waiting = reading.published.state.approvals().get(&id);
        let unknown = || Refused::from(Rejection::UnknownApproval { approval: id });
        Ok(Response::new(convert::approval(id, waiting.ok_or_else(unknown)?)))
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let from = page.after_number()?.map_or(0, |after| after.saturating_add(1));
        let reading = self.0.read(request.extensions()).await?;
        let elements = reading.published.state.approvals().range(ApprovalId(from)..);
        let key = |(id, _): &(&ApprovalId, _)| id.0.to_be_bytes().to_vec();
        let Page { items, next } =
            page.fill(elements, key, |(id, waiting)| Some(convert::approval(**id, waiting)));
        Ok(Response::new(v1::ListApprovalsResponse { approvals: items, next_page_token: next }))
    }
}
