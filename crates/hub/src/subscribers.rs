//! All streams of a hub, at stable places, so that a fan-out can go round while streams come and go.

use std::{collections::HashMap, sync::Arc};

use haltline_core::{
    ids::EdgeName,
    limits::{HUB_STREAMS_MAX, HUB_STREAMS_PER_EDGE_MAX},
};
use parking_lot::Mutex;

use crate::{refused::StreamRefused, subscriber::Subscriber};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    places: Vec<Option<Arc<Subscriber>>>,
    free: Vec<usize>,
    by_name: HashMap<EdgeName, usize>,
}

/// Where a subscriber is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Subscribers {
    pub(crate) fn add(&self, subscriber: &Arc<Subscriber>) -> Result<Place, StreamRefused> {
        let mut table = self.table.lock();
        if table.places.len() - table.free.len() >= HUB_STREAMS_MAX {
            return Err(StreamRefused::HubFull);
        }
        let of_name = table.by_name.entry(subscriber.admitted.name.clone()).or_default();
        if *of_name >= HUB_STREAMS_PER_EDGE_MAX {
            return Err(StreamRefused::TooManyStreams);
        }
        *of_name += 1;
        let place = table.free.pop().unwrap_or(table.places.len());
        if place == table.places.len() {
            table.places.push(None);
        }
        table.places[place] = Some(subscriber.clone());
        Ok(Place(place))
    }

    pub(crate) fn remove(&self, place: Place) {
        let mut table = self.table.lock();
        let Some(subscriber) = table.places.get_mut(place.0).and_then(Option::take) else { return };
        table.free.push(place.0);
        let name = &subscriber.admitted.name;
        if let Some(of_name) = table.by_name.get_mut(name) {
            *of_name -= 1;
            if *of_name == 0 {
                table.by_name.remove(name);
            }
        }
    }

    /// Streams that are open.
    pub(crate) fn len(&self) -> usize {
        let table = self.table.lock();
        table.places.len() - table.free.len()
    }

    /// Places to go round.
    pub(crate) fn places(&self) -> usize {
        self.table.lock().places.len()
    }

    /// Goes on from a place over so many at most; says where to go on, and over how many places it went.
    pub(crate) fn visit(
        &self,
        from: usize,
        count: usize,
        mut visit: impl FnMut(&Subscriber),
    ) -> (usize, usize) {
        let table = self.table.lock();
        let end = (from + count).min(table.places.len());
        let from = from.min(end);
        table.places[from..end].iter().flatten().for_each(|subscriber| visit(subscriber));
        (if end == table.places.len() { 0 } else { end }, end - from)
    }

    /// All of them, now.
    pub(crate) fn all(&self) -> Vec<Arc<Subscriber>> {
        self.table.lock().places.iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::{lease::BootNanos, tracker::StreamId};

    use super::*;
    use crate::test_hub::{admitted, peer};

    fn subscriber(number: u64, name: &str) -> Arc<Subscriber> {
        Subscriber::new(StreamId(number), admitted(name), peer(name), BootNanos(0))
    }

    #[test]
    fn places_are_used_again_and_everybody_is_visited_once() {
        let subscribers = Subscribers::default();
        let places: Vec<_> =
            (0..5).map(|number| subscribers.add(&subscriber(number, "a")).unwrap()).collect();
        subscribers.remove(places[1]);
        subscribers.remove(places[1]);
        assert_eq!(subscribers.len(), 4);
        assert_eq!(subscribers.add(&subscriber(9, "b")).unwrap(), places[1]);
        let mut seen = Vec::new();
        let mut at = 0;
        loop {
            (at, _) = subscribers.visit(at, 2, |subscriber| seen.push(subscriber.stream.0));
            if at == 0 {
                break;
            }
        }
        assert_eq!(seen, [0, 9, 2, 3, 4]);
        assert_eq!(subscribers.visit(17, 3, |_| ()), (0, 0));
    }

    #[test]
    fn one_name_has_a_bound_and_so_has_the_hub() {
        let subscribers = Subscribers::default();
        let mut places = Vec::new();
        for number in 0..HUB_STREAMS_PER_EDGE_MAX {
            places.push(subscribers.add(&subscriber(number as u64, "a")).unwrap());
        }
        assert_eq!(subscribers.add(&subscriber(0, "a")), Err(StreamRefused::TooManyStreams));
        subscribers.remove(places[0]);
        assert!(subscribers.add(&subscriber(0, "a")).is_ok());
        for number in HUB_STREAMS_PER_EDGE_MAX..HUB_STREAMS_MAX {
            let name = format!("edge-{}", number / HUB_STREAMS_PER_EDGE_MAX);
            subscribers.add(&subscriber(number as u64, &name)).unwrap();
        }
        assert_eq!(subscribers.add(&subscriber(0, "last")), Err(StreamRefused::HubFull));
    }
}
