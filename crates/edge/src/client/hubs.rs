//! Which hub to turn to: those of the own region first, then by how long a connection took, in steps wide enough that
//! enforcers at one place spread over the hubs that are about as near.
//!
//! Pure: measured times and randomness are passed in.

use std::{collections::BTreeMap, time::Duration};

use haltline_core::limits::HUBS_MAX;
use haltline_pki::{Endpoint, KnownHub};

use crate::config::{HubRoutes, Region, Relays};

/// The hubs there are, with what was learnt about each.
#[derive(Debug)]
pub(crate) struct HubList {
    region: Region,
    routes: HubRoutes,
    /// The operator chose the hubs: what the cluster tells doesn't count.
    is_fixed: bool,
    hubs: Vec<KnownHub>,
    connect_times: BTreeMap<Endpoint, Duration>,
    /// Served and went away last: others have their turn first.
    failed: Option<Endpoint>,
}

impl HubList {
    /// The operator's relays if there are any, else the hubs that the cluster told of.
    pub(crate) fn new(region: Region, routes: HubRoutes, relays: &Relays, told: Vec<KnownHub>) -> Self {
        let is_fixed = !relays.0.is_empty();
        let hubs = if is_fixed { relays.hubs() } else { told };
        Self { region, routes, is_fixed, hubs, connect_times: BTreeMap::new(), failed: None }
    }

    /// Takes the cluster's new list. An empty one is none: it would strand the enforcer. Answers whether it was taken.
    pub(crate) fn replace(&mut self, mut hubs: Vec<KnownHub>) -> bool {
        hubs.truncate(HUBS_MAX);
        if self.is_fixed || hubs.is_empty() || hubs == self.hubs {
            return false;
        }
        self.connect_times.retain(|endpoint, _| hubs.iter().any(|hub| hub.endpoint == *endpoint));
        self.hubs = hubs;
        true
    }

    /// Remembers how long a connection to a hub took, TLS included.
    pub(crate) fn measured(&mut self, hub: &KnownHub, took: Duration) {
        if self.hubs.contains(hub) {
            self.connect_times.insert(hub.endpoint.clone(), took);
        }
    }

    /// A hub that had served doesn't any more: the next round comes to it last.
    pub(crate) fn failed(&mut self, hub: &KnownHub) {
        self.failed = Some(hub.endpoint.clone());
    }

    /// One round: every hub once, nearest first. `random` breaks ties, so that not everybody turns to the same hub.
    pub(crate) fn round(&self, mut random: impl FnMut() -> u32) -> Vec<KnownHub> {
        let mut ranked: Vec<_> = self.hubs.iter().map(|hub| (self.rank(hub), random(), hub)).collect();
        ranked.sort_by_key(|(rank, tie, hub)| (*rank, *tie, &hub.endpoint));
        ranked.into_iter().map(|(_, _, hub)| hub.clone()).collect()
    }

    /// Where to dial a hub: by the operator's route to its node, if there is one. The node must prove itself either way.
    pub(crate) fn route(&self, hub: &KnownHub) -> Endpoint {
        let node = hub.endpoint.node();
        let routed = node.and_then(|node| Some(self.routes.0.get(&node)?.clone().expecting(node)));
        routed.unwrap_or_else(|| hub.endpoint.clone())
    }

    /// Smaller is nearer: another region counts more than any distance, and distance by its power of two. A hub that
    /// wasn't measured yet counts as near, and is measured by being tried.
    fn rank(&self, hub: &KnownHub) -> (bool, bool, u32) {
        let has_failed = self.failed.as_ref() == Some(&hub.endpoint);
        let elsewhere = !self.region.as_str().is_empty() && hub.region != self.region.as_str();
        let micros = self.connect_times.get(&hub.endpoint).map_or(0, Duration::as_micros);
        // Below about eight milliseconds the handshake's own work decides, not the distance.
        (has_failed, elsewhere, (micros >> 13).checked_ilog2().map_or(0, |log| log + 1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::ids::NodeId;

    use super::*;

    fn hub(node: u64, region: &str) -> KnownHub {
        let endpoint: Endpoint = format!("10.0.0.{node}:7403").parse().unwrap();
        KnownHub { endpoint: endpoint.expecting(NodeId(node)), region: region.into() }
    }

    fn list(region: &str, routes: &str) -> HubList {
        let hubs = vec![hub(1, "eu"), hub(2, "us"), hub(3, "eu")];
        HubList::new(region.parse().unwrap(), routes.parse().unwrap(), &Relays::default(), hubs)
    }

    fn order(list: &HubList, random: &[u32]) -> Vec<u64> {
        let mut random = random.iter().copied();
        let round = list.round(|| random.next().unwrap());
        round.iter().filter_map(|hub| hub.endpoint.node()).map(|node| node.0).collect()
    }

    #[test]
    fn the_own_region_comes_first_and_chance_decides_among_equals() {
        assert_eq!(order(&list("eu", ""), &[5, 0, 4]), [3, 1, 2]);
        assert_eq!(order(&list("eu", ""), &[4, 0, 5]), [1, 3, 2]);
        assert_eq!(order(&list("us", ""), &[5, 9, 4]), [2, 3, 1]);
        assert_eq!(order(&list("", ""), &[5, 0, 4]), [2, 3, 1]);
    }

    #[test]
    fn distance_counts_within_a_region_unless_it_is_about_the_same() {
        let mut hubs = list("eu", "");
        hubs.measured(&hub(1, "eu"), Duration::from_millis(90));
        hubs.measured(&hub(3, "eu"), Duration::from_millis(20));
        hubs.measured(&hub(2, "us"), Duration::from_millis(1));
        assert_eq!(order(&hubs, &[0, 1, 2]), [3, 1, 2]);
        hubs.measured(&hub(1, "eu"), Duration::from_millis(6));
        hubs.measured(&hub(3, "eu"), Duration::from_millis(2));
        assert_eq!(order(&hubs, &[0, 1, 2]), [1, 3, 2], "both are near");
    }

    #[test]
    fn whoever_failed_last_comes_last() {
        let mut hubs = list("eu", "");
        hubs.failed(&hub(3, "eu"));
        assert_eq!(order(&hubs, &[5, 0, 4]), [1, 2, 3]);
        hubs.failed(&hub(1, "eu"));
        assert_eq!(order(&hubs, &[5, 0, 4]), [3, 2, 1]);
    }

    #[test]
    fn a_route_replaces_the_address_and_every_hub_must_prove_its_node() {
        let hubs = list("", "2=127.0.0.1:9");
        let dialled = hubs.route(&hub(2, "us"));
        assert_eq!((dialled.to_string().as_str(), dialled.node()), ("127.0.0.1:9", Some(NodeId(2))));
        assert_eq!(hubs.route(&hub(1, "eu")), hub(1, "eu").endpoint);
    }

    #[test]
    fn an_empty_list_is_not_taken_and_a_long_one_is_cut() {
        let mut hubs = list("", "");
        assert!(!hubs.replace(vec![]));
        assert_eq!(hubs.round(|| 0).len(), 3);
        assert!(hubs.replace((0..HUBS_MAX as u64 + 9).map(|node| hub(node, "")).collect()));
        assert_eq!(hubs.round(|| 0).len(), HUBS_MAX);
    }

    #[test]
    fn relays_that_the_operator_chose_stay() {
        let relays: Relays = "relay-1=10.0.0.9:7403".parse().unwrap();
        let mut hubs = HubList::new(Region::default(), HubRoutes::default(), &relays, vec![hub(1, "eu")]);
        assert!(!hubs.replace(vec![hub(2, "us")]));
        let round = hubs.round(|| 0);
        assert_eq!(round.len(), 1);
        assert_eq!(round[0].endpoint.relay().unwrap().as_str(), "relay-1");
    }
}
