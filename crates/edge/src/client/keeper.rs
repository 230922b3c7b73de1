//! Writes what is to survive, beside the link: a slow disk must not hold a kill up.
//!
//! Only the latest of each counts, so what came meanwhile is skipped. Keys are written before the mark: the statement that
//! proves a mark must find its key when it is loaded.

use std::{sync::Arc, time::Duration};

use haltline_core::limits::MARK_WRITE_INTERVAL;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::trust::Trust;
use crate::persist::{EdgeDir, MarkRecord, PersistError, StoredSnapshot};

/// What is to be on disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) trust: Option<Arc<Trust>>,
    pub(crate) mark: Option<Arc<MarkRecord>>,
    pub(crate) snapshot: Option<Arc<StoredSnapshot>>,
}

/// The writing side. Ends when it is told to stop, after a last write.
pub(crate) struct Keeper {
    dir: Arc<EdgeDir>,
    wanted: watch::Sender<Wanted>,
    changes: watch::Receiver<Wanted>,
    stop: CancellationToken,
    on_error: Box<dyn Fn(&PersistError) + Send>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Keeper {
    pub(crate) fn new(
        dir: EdgeDir,
        wanted: watch::Sender<Wanted>,
        stop: CancellationToken,
        on_error: Box<dyn Fn(&PersistError) + Send>,
    ) -> Self {
        let changes = wanted.subscribe();
        Self { dir: Arc::new(dir), wanted, changes, stop, on_error }
    }

    /// Writes until `stop`, which is cancelled once nothing more will be wanted.
    pub(crate) async fn run(mut self) {
        let mut written = Wanted::default();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = self.changes.changed() => if changed.is_err() { break },
            }
            self.write(&mut written).await;
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(MARK_WRITE_INTERVAL.0)) => {}
            }
        }
        self.write(&mut written).await;
    }

    async fn write(&mut self, written: &mut Wanted) {
        let wanted = self.changes.borrow_and_update().clone();
        let new = Wanted {
            trust: newer(&wanted.trust, &written.trust),
            mark: newer(&wanted.mark, &written.mark),
            snapshot: wanted.snapshot.clone(),
        };
        let dir = Arc::clone(&self.dir);
        let write = move || {
            new.trust.as_ref().map_or(Ok(()), |trust| dir.save_trust(trust))?;
            new.mark.as_ref().map_or(Ok(()), |mark| dir.save_mark(mark))?;
            new.snapshot.as_ref().map_or(Ok(()), |snapshot| dir.save_snapshot(snapshot))
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {
                self.let_go(&wanted);
                *written = Wanted { snapshot: None, ..wanted };
            }
            // The next change tries again; until then a restart begins further back, which it may.
            Ok(Err(error)) => (self.on_error)(&error),
            Err(error) => tracing::error!(%error, "writing an enforcer's state was cut short"),
        }
    }

    /// A snapshot that is written is no longer held in memory: it may be as large as the view.
    fn let_go(&self, done: &Wanted) {
        let Some(done) = &done.snapshot else { return };
        self.wanted.send_if_modified(|wanted| {
            wanted.snapshot.take_if(|snapshot| Arc::ptr_eq(snapshot, done));
            false
        });
    }
}

fn newer<T>(wanted: &Option<Arc<T>>, written: &Option<Arc<T>>) -> Option<Arc<T>> {
    let is_written = match (wanted, written) {
        (Some(wanted), Some(written)) => Arc::ptr_eq(wanted, written),
        (wanted, _) => wanted.is_none(),
    };
    if is_written { None } else { wanted.clone() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_core::ids::Nonce;
    use haltline_wire::v1;

    use super::*;
    use crate::client::{
        fake_hub::{FakeHub, bundle, hub_message, kill_set},
        messages::FromHub,
        test_hub::wait_for,
    };

    fn mark(hub: &FakeHub) -> Arc<MarkRecord> {
        let fresh = hub.fresh(&v1::Probe { sequence: 1, nonce: Nonce([1; 32]).0.to_vec() });
        match FromHub::read(hub_message(v1::hub_message::Message::Fresh(fresh))).unwrap() {
            FromHub::Fresh(fresh) => Arc::new(MarkRecord::new(hub.cluster, hub.incarnation, fresh)),
            other => unreachable!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_latest_is_written_at_the_end_and_a_snapshot_is_not_held_any_longer() {
        let home = tempfile::tempdir().unwrap();
        let (wanted, stop) = (watch::Sender::new(Wanted::default()), CancellationToken::new());
        let dir = EdgeDir::open(home.path()).unwrap();
        let keeper =
            Keeper::new(dir, wanted.clone(), stop.clone(), Box::new(|error| unreachable!("{error}")));
        let running = tokio::spawn(keeper.run());

        let mut hub = FakeHub::founded(1);
        wanted.send_modify(|wanted| wanted.snapshot = Some(Arc::new(hub.snapshot())));
        wait_for("the snapshot let go", || wanted.borrow().snapshot.is_none()).await;
        for kill in 1..=3 {
            hub.commit(&[kill_set(kill)]);
            wanted.send_modify(|wanted| wanted.mark = Some(mark(&hub)));
        }
        stop.cancel();
        running.await.unwrap();
        let remembered = EdgeDir::open(home.path()).unwrap().load(&bundle()).unwrap();
        assert_eq!(remembered.mark.unwrap().index, hub.index);
        assert_eq!(remembered.snapshot.unwrap().statement.event_seq.0, 1);
    }
}
