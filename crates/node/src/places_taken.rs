//! A bounded number of places for long streams of one kind.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::refused::Refused;

/// How many streams of one kind there may be at once. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PlacesTaken {
    taken: Arc<AtomicUsize>,
    max: usize,
}

impl PlacesTaken {
    pub(crate) fn at_most(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// Takes a place until the answer is dropped.
    pub(crate) fn enter(&self) -> Result<Place, Refused> {
        let place = Place(Arc::clone(&self.taken));
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        if before >= self.max { Err(Refused::TooManyWatchers { max: self.max }) } else { Ok(place) }
    }
}

/// See [`PlacesTaken::enter`].
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_also_by_those_who_got_none() {
        let places = PlacesTaken::at_most(1);
        let first = places.enter();
        assert!(first.is_ok());
        assert!(places.enter().is_err());
        drop(first);
        assert!(places.enter().is_ok());
    }
}
