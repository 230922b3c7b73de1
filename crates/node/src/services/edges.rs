//! Who may enforce: join tokens, the registry of enforcers, and how each enforcer's stream stands.
//!
//! The registry comes from the state. How streams stand is asked of the nodes that serve them; the answer names those that
//! couldn't be asked, rather than calling enforcers away.

use std::collections::HashMap;

use haltline_core::ids::{EdgeName, JoinTokenId};
use haltline_wire::{
    convert,
    v1::{self, EdgeStreamState, command_request::Command, edge_admin_service_server::EdgeAdminService},
};
use std::ops::Bound;
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    context::Reading,
    paging::{Page, PageRequest},
    refused::Refused,
};

#[tonic::async_trait]
impl EdgeAdminService for Services {
    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::CreateJoinToken(message)).await
    }

    async fn delete_join_token(
        &self,
        request: Request<v1::DeleteJoinTokenRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::DeleteJoinToken(message)).await
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let reading = self.0.read(request.extensions()).await?;
        let Page { items, next } = tokens_page(&reading, &page)?;
        Ok(Response::new(v1::ListJoinTokensResponse { join_tokens: items, next_page_token: next }))
    }

    async fn list_edges(
        &self,
        request: Request<v1::ListEdgesRequest>,
    ) -> Result<Response<v1::ListEdgesResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let reading = self.0.read(request.extensions()).await?;
        let Page { mut items, next } = edges_page(&reading, &page)?;
        let mut nodes_not_asked = Vec::new();
        if !asked.registry_only {
            let found = self.0.enforcements.all_streams(&reading.published).await;
            join(&mut items, found.streams);
            nodes_not_asked = found.nodes_not_asked;
        }
        Ok(Response::new(v1::ListEdgesResponse { edges: items, next_page_token: next, nodes_not_asked }))
    }

    async fn update_edge(
        &self,
        request: Request<v1::UpdateEdgeRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::UpdateEdge(message)).await
    }

    async fn remove_edge(
        &self,
        request: Request<v1::RemoveEdgeRequest>,
    ) -> Result<Response<v1::CommandReply>, Status> {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::RemoveEdge(message)).await
    }
}

fn tokens_page(reading: &Reading, page: &PageRequest) -> Result<Page<v1::JoinToken>, Refused> {
    let after = match page.after.as_deref() {
        None => Bound::Unbounded,
        Some(bytes) => Bound::Excluded(JoinTokenId(bytes.try_into().map_err(|_| Refused::PageToken)?)),
    };
    let elements = reading.published.state.join_tokens().range((after, Bound::Unbounded));
    let key = |(id, _): &(&JoinTokenId, _)| id.0.to_vec();
    Ok(page.fill(elements, key, |(id, token)| Some(convert::join_token(**id, token))))
}

fn edges_page(reading: &Reading, page: &PageRequest) -> Result<Page<v1::Edge>, Refused> {
    let after = match page.after_text()? {
        None => Bound::Unbounded,
        Some(text) => Bound::Excluded(text.parse::<EdgeName>().map_err(|_| Refused::PageToken)?),
    };
    let elements = reading.published.state.edges().range((after, Bound::Unbounded));
    let key = |(name, _): &(&EdgeName, _)| name.as_str().as_bytes().to_vec();
    Ok(page.fill(elements, key, |(name, record)| Some(convert::edge(name, record))))
}

/// Gives each enforcer the stream that tells most of it: an open one before a closed one, the furthest of several.
fn join(edges: &mut [v1::Edge], streams: Vec<v1::EdgeStream>) {
    let rank = |stream: &v1::EdgeStream| (stream.state() != EdgeStreamState::Closed, stream.acked_index);
    let mut best: HashMap<String, v1::EdgeStream> = HashMap::new();
    for stream in streams {
        match best.get(&stream.edge) {
            Some(known) if rank(known) >= rank(&stream) => {}
            _ => {
                best.insert(stream.edge.clone(), stream);
            }
        }
    }
    for edge in edges {
        edge.live = best.remove(&edge.name);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stream(edge: &str, node: u64, state: EdgeStreamState, acked_index: u64) -> v1::EdgeStream {
        v1::EdgeStream { edge: edge.into(), node, state: state.into(), acked_index, ..Default::default() }
    }

    #[test]
    fn the_stream_that_tells_most_is_shown() {
        let mut edges =
            ["gone", "here", "moved"].map(|name| v1::Edge { name: name.into(), ..Default::default() });
        join(
            &mut edges,
            vec![
                stream("moved", 1, EdgeStreamState::Closed, 90),
                stream("moved", 2, EdgeStreamState::Lagging, 70),
                stream("moved", 3, EdgeStreamState::NoLease, 60),
                stream("here", 1, EdgeStreamState::Current, 90),
                stream("stranger", 1, EdgeStreamState::Current, 90),
            ],
        );
        let nodes = edges.each_ref().map(|edge| edge.live.as_ref().map(|live| live.node));
        assert_eq!(nodes, [None, Some(1), Some(2)]);
    }
}
