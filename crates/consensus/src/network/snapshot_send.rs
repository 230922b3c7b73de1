//! Sending the newest snapshot: a header, chunks with a checksum each, and an end with the checksum of all.
//!
//! A task feeds the stream from the moment the call is made: a receiver that answers only at the end, and a sender that
//! sends only after the call has begun, would wait for each other for ever.

use std::{io, time::Duration};

use bytes::Bytes;
use haltline_core::{ids::NodeId, limits::SNAPSHOT_PART_BYTES_MAX};
use haltline_storage::SnapshotReader;
use haltline_wire::raft::v1::{self as wire, snapshot_part::Part};
use openraft::{
    StorageError,
    errors::{ErrorSource as _, NetworkError, StreamingError},
    raft::SnapshotResponse,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    append_stream::failure,
    convert,
    peers::{PeerClient, within},
};
use crate::{
    log_store::{invalid, to_io},
    snapshots::{Snapshots, blocking, raft_meta},
    types::{TypeConfig, Vote},
};

/// Parts read ahead of the network.
const PARTS_AHEAD: usize = 4;

type Streamed<T> = Result<T, StreamingError<TypeConfig>>;

pub(super) async fn run(
    mut client: PeerClient,
    peer: NodeId,
    vote: Vote,
    snapshots: &Snapshots,
    patience: Duration,
) -> Streamed<SnapshotResponse<TypeConfig>> {
    let store = snapshots.store().clone();
    let opened = blocking(move || {
        let reader = store.open_newest().map_err(to_io)?;
        let reader = reader.ok_or_else(|| invalid("there is no snapshot to send"))?;
        let header = header(reader.as_ref(), vote)?;
        Ok((reader, header))
    });
    let (reader, header) = opened.await.map_err(unreadable)?;

    let (sender, parts) = mpsc::channel(PARTS_AHEAD);
    let feeder = tokio::spawn(feed(reader, header, sender, patience));
    let result = client.install_snapshot(ReceiverStream::new(parts));
    tokio::pin!(result);
    let response = tokio::select! {
        response = &mut result => response,
        fed = feeder => match fed.unwrap_or_else(|error| Err(Fed::Unreadable(io::Error::other(error)))) {
            Ok(()) => within(patience, result).await,
            Err(Fed::Unreadable(error)) => return Err(unreadable(error)),
            Err(Fed::Stuck) => {
                let reason = format!("node {peer} took no chunk of the snapshot within {} ms", patience.as_millis());
                return Err(NetworkError::from_string(reason).into());
            }
        },
    };
    let response = response.map_err(|status| failure(peer, &status))?.into_inner();
    let vote = convert::ballot_in(response.ballot, "a snapshot's answer")
        .map_err(|error| NetworkError::from_string(format!("node {peer}: {error}")))?;
    Ok(SnapshotResponse::new(vote))
}

/// Why feeding ended early.
enum Fed {
    Unreadable(io::Error),
    Stuck,
}

impl From<io::Error> for Fed {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
fn unreadable(error: io::Error) -> StreamingError<TypeConfig> {
    let source = openraft::impls::BoxedErrorSource::from_error(&error);
    StreamingError::StorageError(StorageError::read_snapshot(None, source))
}

fn header(reader: &dyn SnapshotReader, vote: Vote) -> io::Result<wire::SnapshotHeader> {
    let meta = raft_meta(reader.info())?;
    Ok(wire::SnapshotHeader {
        ballot: Some(convert::ballot_out(vote)),
        last: meta.last_log_id.map(convert::log_id_out),
        membership_id: meta.last_membership.log_id().map(convert::log_id_out),
        membership: Some(convert::membership_out(meta.last_membership.membership())),
        bytes: reader.info().content_bytes,
    })
}

async fn feed(
    mut reader: Box<dyn SnapshotReader>,
    header: wire::SnapshotHeader,
    sender: mpsc::Sender<wire::SnapshotPart>,
    patience: Duration,
) -> Result<(), Fed> {
    let send = async |part| {
        let sent = timeout(patience, sender.send(wire::SnapshotPart { part: Some(part) })).await;
        // A closed channel means that the call has ended; its answer says why.
        sent.map(|_| ()).map_err(|_| Fed::Stuck)
    };
    send(Part::Header(header)).await?;
    let mut total = 0;
    loop {
        let (next, chunk) = blocking(move || {
            let chunk = reader.next_chunk().map_err(to_io)?;
            Ok((reader, chunk))
        })
        .await?;
        reader = next;
        let Some(mut chunk) = chunk else { break };
        while !chunk.is_empty() && !sender.is_closed() {
            let data = chunk.split_to(chunk.len().min(SNAPSHOT_PART_BYTES_MAX));
            total = crc32c::crc32c_append(total, &data);
            send(Part::Chunk(checked(data))).await?;
        }
    }
    send(Part::End(wire::SnapshotEnd { crc32c: total })).await
}

fn checked(data: Bytes) -> wire::SnapshotChunk {
    wire::SnapshotChunk { crc32c: crc32c::crc32c(&data), data }
}
