//! Receiving a snapshot: every chunk is checked and written down as it comes, and nothing counts before the end has.

use std::{io, time::Duration};

use haltline_core::{
    ids::NodeId,
    limits::{SNAPSHOT_PART_BYTES_MAX, SNAPSHOT_PART_TIMEOUT},
};
use haltline_storage::SnapshotWriter;
use haltline_wire::raft::v1::{self as wire, snapshot_part::Part};
use tonic::{Status, Streaming};

use super::{
    convert::{self, BadMessage},
    peers::within,
    server::own_ballot,
};
use crate::{
    log_store::to_io,
    snapshots::{Received, SnapshotHandle, Snapshots, blocking, stored_meta},
    types::{Snapshot, SnapshotMeta, StoredMembership, Vote},
};

/// A snapshot in full, and in whose name it came.
pub(super) struct ReceivedSnapshot {
    pub(super) vote: Vote,
    pub(super) snapshot: Snapshot,
}

pub(super) async fn run(
    caller: NodeId,
    mut parts: Streaming<wire::SnapshotPart>,
    snapshots: &Snapshots,
) -> Result<ReceivedSnapshot, Status> {
    let Part::Header(header) = next(&mut parts).await? else {
        return Err(BadMessage::new("a snapshot", "a header in front").into());
    };
    let vote = own_ballot(caller, convert::ballot_in(header.ballot, "a snapshot")?)?;
    let meta = meta(&header)?;
    let store = snapshots.store().clone();
    let stored = stored_meta(meta.last_log_id, &meta.last_membership);
    let mut writer = blocking(move || store.begin(stored).map_err(to_io)).await.map_err(disk)?;

    let (mut bytes, mut total) = (0_u64, 0);
    loop {
        match next(&mut parts).await? {
            Part::Chunk(chunk) => {
                check(&chunk)?;
                bytes += chunk.data.len() as u64;
                total = crc32c::crc32c_append(total, &chunk.data);
                if bytes > header.bytes {
                    return Err(BadMessage::new("a snapshot", "an end where its header puts it").into());
                }
                writer = write(writer, chunk).await.map_err(disk)?;
            }
            Part::End(end) if bytes == header.bytes && end.crc32c == total => break,
            Part::End(_) => {
                return Err(Status::data_loss(format!(
                    "a snapshot of {} bytes arrived with {bytes}, or damaged",
                    header.bytes
                )));
            }
            Part::Header(_) => return Err(BadMessage::new("a snapshot", "a single header").into()),
        }
    }
    // Before openraft hears of it: what fails after that stops the node.
    let received = blocking(move || Received::seal(writer)).await.map_err(disk)?;
    let snapshot = SnapshotHandle::Received(Box::new(received));
    Ok(ReceivedSnapshot { vote, snapshot: Snapshot { meta, snapshot } })
}

async fn next(parts: &mut Streaming<wire::SnapshotPart>) -> Result<Part, Status> {
    let patience = Duration::from_millis(SNAPSHOT_PART_TIMEOUT.0);
    let part = within(patience, parts.message()).await?;
    let part = part.ok_or(BadMessage::new("a snapshot", "an end"))?;
    Ok(part.part.ok_or(BadMessage::new("a part of a snapshot", "a kind that this version knows"))?)
}

fn meta(header: &wire::SnapshotHeader) -> Result<SnapshotMeta, Status> {
    let membership = header.membership.clone().ok_or(BadMessage::new("a snapshot", "a membership"))?;
    let membership = convert::membership_in(membership)?;
    Ok(SnapshotMeta {
        last_log_id: header.last.map(convert::log_id_in),
        last_membership: StoredMembership::new(header.membership_id.map(convert::log_id_in), membership),
    })
}

fn check(chunk: &wire::SnapshotChunk) -> Result<(), Status> {
    if chunk.data.len() > SNAPSHOT_PART_BYTES_MAX {
        return Err(BadMessage::new("a snapshot", "chunks of a bounded size").into());
    }
    let got = crc32c::crc32c(&chunk.data);
    if got == chunk.crc32c {
        Ok(())
    } else {
        let expected = chunk.crc32c;
        Err(Status::data_loss(format!("a chunk has checksum {got:08x}, expected {expected:08x}")))
    }
}

async fn write(
    mut writer: Box<dyn SnapshotWriter>,
    chunk: wire::SnapshotChunk,
) -> io::Result<Box<dyn SnapshotWriter>> {
    blocking(move || {
        writer.write(&chunk.data).map_err(to_io)?;
        Ok(writer)
    })
    .await
}

#[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
fn disk(error: io::Error) -> Status {
    Status::resource_exhausted(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    fn chunk(data: Bytes, crc32c: u32) -> wire::SnapshotChunk {
        wire::SnapshotChunk { data, crc32c }
    }

    #[test]
    fn damaged_and_oversize_chunks_are_refused() {
        let data = Bytes::from_static(b"state");
        let good = crc32c::crc32c(&data);
        assert!(check(&chunk(data.clone(), good)).is_ok());
        let damaged = check(&chunk(data, good ^ 1)).unwrap_err();
        assert_eq!(damaged.code(), tonic::Code::DataLoss);
        let large = Bytes::from(vec![0; SNAPSHOT_PART_BYTES_MAX + 1]);
        let refused = check(&chunk(large.clone(), crc32c::crc32c(&large))).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_header_must_say_who_is_a_member() {
        assert!(meta(&wire::SnapshotHeader::default()).is_err());
    }
}
