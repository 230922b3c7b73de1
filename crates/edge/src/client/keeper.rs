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
    wanted: watch::Receiver<Wanted>,
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
        wanted: watch::Receiver<Wanted>,
        stop: CancellationToken,
        on_error: Box<dyn Fn(&PersistError) + Send>,
    ) -> Self {
        Self { dir: Arc::new(dir), wanted, stop, on_error }
    }

    /// Writes until `stop`, which is cancelled once nothing more will be wanted.
    pub(crate) async fn run(mut self) {
        let mut written = Wanted::default();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = self.wanted.changed() => if changed.is_err() { break },
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
        let wanted = self.wanted.borrow_and_update().clone();
        let new = Wanted {
            trust: newer(&wanted.trust, &written.trust),
            mark: newer(&wanted.mark, &written.mark),
            snapshot: newer(&wanted.snapshot, &written.snapshot),
        };
        let dir = Arc::clone(&self.dir);
        let write = move || {
            new.trust.as_ref().map_or(Ok(()), |trust| dir.save_trust(trust))?;
            new.mark.as_ref().map_or(Ok(()), |mark| dir.save_mark(mark))?;
            new.snapshot.as_ref().map_or(Ok(()), |snapshot| dir.save_snapshot(snapshot))
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => *written = wanted,
            // The next change tries again; until then a restart begins further back, which it may.
            Ok(Err(error)) => (self.on_error)(&error),
            Err(error) => tracing::error!(%error, "writing an enforcer's state was cut short"),
        }
    }
}

fn newer<T>(wanted: &Option<Arc<T>>, written: &Option<Arc<T>>) -> Option<Arc<T>> {
    let is_written = match (wanted, written) {
        (Some(wanted), Some(written)) => Arc::ptr_eq(wanted, written),
        (wanted, _) => wanted.is_none(),
    };
    if is_written { None } else { wanted.clone() }
}
