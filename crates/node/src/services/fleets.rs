//! Fleets and agents.

use std::ops::Bound;

use haltline_core::{
    path::{AgentPath, FleetPath},
    text::Labels,
};
use haltline_wire::{
    convert::{self, ConvertError},
    v1::{self, command_request::Command, fleet_service_server::FleetService},
};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    context::Reading,
    paging::{Page, PageRequest},
    refused::Refused,
};

type Reply = Result<Response<v1::CommandReply>, Status>;

#[tonic::async_trait]
impl FleetService for Services {
    async fn create_fleet(&self, request: Request<v1::CreateFleetRequest>) -> Reply {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::CreateFleet(message)).await
    }

    async fn update_fleet(&self, request: Request<v1::UpdateFleetRequest>) -> Reply {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::UpdateFleet(message)).await
    }

    async fn delete_fleet(&self, request: Request<v1::DeleteFleetRequest>) -> Reply {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::DeleteFleet(message)).await
    }

    async fn register_agent(&self, request: Request<v1::RegisterAgentRequest>) -> Reply {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::RegisterAgent(message)).await
    }

    async fn update_agent(&self, request: Request<v1::UpdateAgentRequest>) -> Reply {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::UpdateAgent(message)).await
    }

    async fn delete_agent(&self, request: Request<v1::DeleteAgentRequest>) -> Reply {
        let (_, extensions, message) = request.into_parts();
        self.0.command(&extensions, Command::DeleteAgent(message)).await
    }

    async fn get_fleet(&self, request: Request<v1::GetFleetRequest>) -> Result<Response<v1::Fleet>, Status> {
        let path: FleetPath = parsed(&request.get_ref().path, "path")?;
        let read = move |reading: &Reading| {
            let state = &reading.published.state;
            let fleet = state.fleets().get(&path).ok_or_else(|| state.unknown_fleet(&path))?;
            Ok(convert::fleet(state, &path, fleet))
        };
        self.0.read_long(request.extensions(), read).await
    }

    async fn list_fleets(
        &self,
        request: Request<v1::ListFleetsRequest>,
    ) -> Result<Response<v1::ListFleetsResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let under = optional(&asked.under, "under")?;
        let read = move |reading: &Reading| {
            let Page { items, next } = fleets_page(reading, under.as_ref(), &page)?;
            Ok(v1::ListFleetsResponse { fleets: items, next_page_token: next })
        };
        self.0.read_long(request.extensions(), read).await
    }

    async fn get_agent(&self, request: Request<v1::GetAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        let path: AgentPath = parsed(&request.get_ref().path, "path")?;
        let read = move |reading: &Reading| {
            let state = &reading.published.state;
            let agent = state.agents().get(&path).ok_or_else(|| state.unknown_agent(&path))?;
            Ok(convert::agent(state, &path, agent))
        };
        self.0.read_long(request.extensions(), read).await
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let asked = request.get_ref();
        let page = PageRequest::new(asked.page_size, &asked.page_token)?;
        let under = optional(&asked.under, "under")?;
        let labels = Labels::from_pairs(&asked.labels)
            .map_err(|why| Refused::from(ConvertError::new("labels", why)))?;
        let read = move |reading: &Reading| {
            let Page { items, next } = agents_page(reading, under.as_ref(), &labels, &page)?;
            Ok(v1::ListAgentsResponse { agents: items, next_page_token: next })
        };
        self.0.read_long(request.extensions(), read).await
    }
}

fn fleets_page(
    reading: &Reading,
    under: Option<&FleetPath>,
    page: &PageRequest,
) -> Result<Page<v1::Fleet>, Refused> {
    let state = &reading.published.state;
    if let Some(path) = under
        && !state.fleets().contains_key(path)
    {
        return Err(state.unknown_fleet(path).into());
    }
    let after = page.after_text()?;
    let subtree = Subtree::new(under, after);
    // The fleet itself comes first: its path is below those of all that it holds.
    let itself = under.filter(|_| after.is_none()).and_then(|path| state.fleets().get_key_value(path));
    let elements = itself.into_iter().chain(state.fleets().range::<_, str>(subtree.bounds()));
    let key = |(path, _): &(&FleetPath, _)| path.as_str().as_bytes().to_vec();
    Ok(page.fill(elements, key, |(path, fleet)| Some(convert::fleet(state, path, fleet))))
}

fn agents_page(
    reading: &Reading,
    under: Option<&FleetPath>,
    labels: &Labels,
    page: &PageRequest,
) -> Result<Page<v1::Agent>, Refused> {
    let state = &reading.published.state;
    if let Some(path) = under
        && !state.fleets().contains_key(path)
    {
        return Err(state.unknown_fleet(path).into());
    }
    let subtree = Subtree::new(under, page.after_text()?);
    let elements = state.agents().range::<_, str>(subtree.bounds());
    let key = |(path, _): &(&AgentPath, _)| path.as_str().as_bytes().to_vec();
    let is_wanted = |path: &AgentPath| {
        let effective = state.effective_labels(path);
        labels.iter().all(|(key, value)| effective.get(key) == Some(value))
    };
    Ok(page.fill(elements, key, |(path, agent)| {
        let is_wanted = labels.is_empty() || is_wanted(path);
        is_wanted.then(|| convert::agent(state, path, agent))
    }))
}

/// The range of texts that holds what is strictly below a fleet (or everything), from where a page begins.
struct Subtree {
    from: Bound<String>,
    to: Bound<String>,
}

impl Subtree {
    fn new(under: Option<&FleetPath>, after: Option<&str>) -> Self {
        let after = after.map(str::to_owned);
        match under.map(FleetPath::below) {
            None => Self { from: after.map_or(Bound::Unbounded, Bound::Excluded), to: Bound::Unbounded },
            Some((first, end)) => {
                let from = match after {
                    Some(after) if after >= first => Bound::Excluded(after),
                    _ => Bound::Included(first),
                };
                // A token of another list may lie behind the end, and a range must not run backwards.
                let is_empty = matches!(&from, Bound::Excluded(after) if *after >= end);
                let to = if is_empty { from.clone() } else { Bound::Excluded(end) };
                let from = if is_empty { Bound::Included(text_of(&from)) } else { from };
                Self { from, to }
            }
        }
    }

    fn bounds(&self) -> (Bound<&str>, Bound<&str>) {
        (as_str(&self.from), as_str(&self.to))
    }
}

fn text_of(bound: &Bound<String>) -> String {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => text.clone(),
        Bound::Unbounded => String::new(),
    }
}

fn as_str(bound: &Bound<String>) -> Bound<&str> {
    match bound {
        Bound::Included(text) => Bound::Included(text),
        Bound::Excluded(text) => Bound::Excluded(text),
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn parsed<T>(text: &str, field: &str) -> Result<T, Refused>
where
    T: std::str::FromStr<Err: Into<convert::Why>>,
{
    text.parse().map_err(|why| ConvertError::new(field, why).into())
}

fn optional<T>(text: &str, field: &str) -> Result<Option<T>, Refused>
where
    T: std::str::FromStr<Err: Into<convert::Why>>,
{
    if text.is_empty() { Ok(None) } else { parsed(text, field).map(Some) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    fn below(under: Option<&str>, after: Option<&str>) -> Vec<&'static str> {
        let paths = BTreeSet::from(["a", "a-b", "a/b", "a/b-c", "a/b/c", "a/b/d", "a/b0", "a/c", "b"]);
        let under = under.map(|path| path.parse().unwrap());
        let subtree = Subtree::new(under.as_ref(), after);
        paths.range::<str, _>(subtree.bounds()).copied().collect()
    }

    #[test]
    fn a_subtree_is_what_lies_strictly_below_from_where_the_page_begins() {
        assert_eq!(below(None, Some("a/c")), ["b"]);
        assert_eq!(below(Some("a"), None), ["a/b", "a/b-c", "a/b/c", "a/b/d", "a/b0", "a/c"]);
        assert_eq!(below(Some("a/b"), None), ["a/b/c", "a/b/d"]);
        assert_eq!(below(Some("a/b"), Some("a/b")), ["a/b/c", "a/b/d"]);
        assert_eq!(below(Some("a/b"), Some("a/b/c")), ["a/b/d"]);
        for after in ["a/b/d", "a/b0", "a/b1", "z"] {
            assert!(below(Some("a/b"), Some(after)).is_empty(), "{after}");
        }
    }
}
