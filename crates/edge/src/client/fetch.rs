//! Fetching a snapshot: bounded chunks, each compressed by itself, put together and checked for length. Whether it is
//! believed, the protocol decides.

use std::time::Duration;

use haltline_core::{
    ids::ClusterId,
    limits::{EDGE_VIEW_CHUNK_TIMEOUT, VIEW_BYTES_MAX, VIEW_CHUNK_BYTES_MAX},
};
use haltline_wire::v1::{self, edge_service_client::EdgeServiceClient};
use tonic::{Status, transport::Channel};

use super::{messages::ViewHeader, refusal::SyncRefusal};
use crate::persist::StoredSnapshot;

/// Why no snapshot came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the hub gave no snapshot: {}", .0.message())]
    Status(#[from] Status),
    #[error("the hub sent no part of its snapshot for {}", EDGE_VIEW_CHUNK_TIMEOUT)]
    Timeout,
    #[error(transparent)]
    Refused(#[from] SyncRefusal),
}

/// Fetches a hub's snapshot for an enforcer of this cluster.
pub(crate) async fn snapshot(
    client: &mut EdgeServiceClient<Channel>,
    cluster: ClusterId,
) -> Result<StoredSnapshot, FetchError> {
    let patience = Duration::from_millis(EDGE_VIEW_CHUNK_TIMEOUT.0);
    let call = client.fetch_snapshot(v1::FetchSnapshotRequest {});
    let mut chunks =
        tokio::time::timeout(patience, call).await.map_err(|_| FetchError::Timeout)??.into_inner();
    let mut assembly = Assembly::new(cluster);
    while let Some(chunk) =
        tokio::time::timeout(patience, chunks.message()).await.map_err(|_| FetchError::Timeout)??
    {
        assembly.take(&chunk)?;
    }
    Ok(assembly.finish()?)
}

/// Chunks on their way to being a snapshot.
#[derive(Debug)]
struct Assembly {
    cluster: ClusterId,
    header: Option<ViewHeader>,
    body: Vec<u8>,
}

fn broken(why: impl Into<String>) -> SyncRefusal {
    SyncRefusal::SnapshotTransfer { why: why.into() }
}

impl Assembly {
    const fn new(cluster: ClusterId) -> Self {
        Self { cluster, header: None, body: Vec::new() }
    }

    fn take(&mut self, chunk: &v1::ViewChunk) -> Result<(), SyncRefusal> {
        let expected = match (&self.header, &chunk.header) {
            (None, None) => return Err(broken("the first chunk has no header")),
            (Some(_), Some(_)) => return Err(broken("a second header came")),
            (Some(header), None) => header.body_bytes,
            (None, Some(header)) => {
                let header = ViewHeader::read(header, self.cluster)?;
                let body_bytes = header.body_bytes;
                if body_bytes > VIEW_BYTES_MAX as u64 {
                    return Err(broken(format!("{body_bytes} bytes; at most {VIEW_BYTES_MAX} are taken")));
                }
                self.header = Some(header);
                body_bytes
            }
        };
        if chunk.data.is_empty() {
            return Ok(());
        }
        let part = decompress(&chunk.data)?;
        let got = self.body.len() as u64 + part.len() as u64;
        if got > expected {
            return Err(broken(format!("{got} bytes came, {expected} were announced")));
        }
        self.body.extend_from_slice(&part);
        Ok(())
    }

    fn finish(self) -> Result<StoredSnapshot, SyncRefusal> {
        let header = self.header.ok_or_else(|| broken("no chunk came"))?;
        let got = self.body.len() as u64;
        if got != header.body_bytes {
            return Err(broken(format!("{got} bytes came, {} were announced", header.body_bytes)));
        }
        let ViewHeader { statement, node, signature, .. } = header;
        Ok(StoredSnapshot { statement, node, signature, body: self.body })
    }
}

/// One LZ4 block behind its length. The length is a stranger's, so it is bounded before anything is reserved for it.
fn decompress(data: &[u8]) -> Result<Vec<u8>, SyncRefusal> {
    let (length, block) = data.split_first_chunk().ok_or_else(|| broken("a chunk is cut"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > VIEW_CHUNK_BYTES_MAX {
        return Err(broken(format!("a chunk of {length} bytes; at most {VIEW_CHUNK_BYTES_MAX} are taken")));
    }
    lz4_flex::block::decompress(block, length)
        .map_err(|error| broken(format!("a chunk doesn't decompress ({error})")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::fake_hub::{FakeHub, chunks, kill_set};

    fn assembled(chunks: &[v1::ViewChunk]) -> Result<StoredSnapshot, SyncRefusal> {
        let mut assembly = Assembly::new(FakeHub::founded(1).cluster);
        chunks.iter().try_for_each(|chunk| assembly.take(chunk))?;
        assembly.finish()
    }

    #[test]
    fn chunks_come_together_again() {
        let mut hub = FakeHub::founded(1);
        hub.commit(&[kill_set(1), kill_set(2)]);
        let snapshot = hub.snapshot();
        for chunk_bytes in [1, 7, 1_000_000] {
            assert_eq!(assembled(&chunks(&snapshot, chunk_bytes)).unwrap(), snapshot);
        }
    }

    #[test]
    fn broken_transfers_are_refused_and_reserve_nothing() {
        let good = chunks(&FakeHub::founded(1).snapshot(), 8);
        let refused = |chunks: &[v1::ViewChunk]| assembled(chunks).unwrap_err().code();
        assert_eq!(refused(&[]), "SNAPSHOT_TRANSFER");
        assert_eq!(refused(&good[1..]), "SNAPSHOT_TRANSFER");
        assert_eq!(refused(&good[..good.len() - 1]), "SNAPSHOT_TRANSFER");
        assert_eq!(refused(&[&good[..], &good[1..2]].concat()), "SNAPSHOT_TRANSFER");
        assert_eq!(refused(&[&good[..1], &good[..1]].concat()), "SNAPSHOT_TRANSFER");
        for data in [&[][..], &[1, 2], &[255, 255, 255, 255, 0], &[4, 0, 0, 0, 255, 255]] {
            let mut chunk = good[0].clone();
            chunk.data = data.to_vec().into();
            assert_eq!(refused(&[chunk]), "SNAPSHOT_TRANSFER");
        }
        let mut huge = good[0].clone();
        huge.header.as_mut().unwrap().body_bytes = u64::MAX;
        assert_eq!(refused(&[huge]), "SNAPSHOT_TRANSFER");
    }
}
