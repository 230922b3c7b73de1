//! Closing a batch: commands that were encoded one by one become one entry of the log without being encoded again.
//!
//! The bytes are those of the core's [`Batch`] in postcard, where a struct is its fields one after the other and a list
//! its length and then its elements. A test holds the two against each other.

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    command::{Batch, Genesis},
    limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX},
    time::{ClusterTime, WallTime},
};

use crate::{lane::Lane, ticket::Proposal, types::EncodedBatch};

const NO_GENESIS: u8 = 0;
/// Stamps and count, generously.
const FRAME_BYTES: usize = 48;

/// The proposals of the next batch, as many as fit, those that expired answered and left out.
pub(crate) fn take(lane: &mut Lane) -> Vec<Proposal> {
    let now = tokio::time::Instant::now();
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_COMMANDS_MAX {
        let fits =
            |proposal: &Proposal| bytes + proposal.request.bytes.len() <= BATCH_BYTES_MAX - FRAME_BYTES;
        match lane.pop_if(fits) {
            None => break,
            Some(proposal) if proposal.expires <= now => proposal.give_up(),
            Some(proposal) => {
                bytes += proposal.request.bytes.len();
                batch.push(proposal);
            }
        }
    }
    batch
}

/// The entry for these commands; none make a tick.
pub(crate) fn encode<'a>(
    stamp: (ClusterTime, WallTime),
    applied: LogIndex,
    requests: impl ExactSizeIterator<Item = &'a Bytes> + Clone,
) -> EncodedBatch {
    let size: usize = requests.clone().map(Bytes::len).sum();
    let plain = "integers always encode";
    let bytes = Vec::with_capacity(size + FRAME_BYTES);
    let bytes = postcard::to_extend(&stamp, bytes).expect(plain);
    let mut bytes = postcard::to_extend(&requests.len(), bytes).expect(plain);
    for request in requests {
        bytes.extend_from_slice(request);
    }
    bytes.push(NO_GENESIS);
    let bytes = postcard::to_extend(&applied, bytes).expect(plain);
    EncodedBatch(bytes.into())
}

/// The founding entry.
pub(crate) fn encode_genesis(
    (cluster_time, wall_time): (ClusterTime, WallTime),
    genesis: Genesis,
) -> EncodedBatch {
    let batch = Batch { cluster_time, wall_time, genesis: Some(Box::new(genesis)), ..Batch::default() };
    let bytes = postcard::to_stdvec(&batch).expect("a batch is plain data, which postcard always encodes");
    EncodedBatch(bytes.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{codec, testing, ticket::EncodedRequest};

    #[test]
    fn pieces_make_the_same_bytes_as_the_whole() {
        for count in [0, 1, 2, 127, 128, 300] {
            let requests = (0..count).map(testing::kill).collect::<Vec<_>>();
            let encoded = requests
                .iter()
                .map(|request| EncodedRequest::encode(request).unwrap().bytes)
                .collect::<Vec<_>>();
            let batch = Batch {
                cluster_time: ClusterTime(70_000),
                wall_time: WallTime(1_700_000_000_000),
                requests,
                genesis: None,
                applied: LogIndex(69_999),
            };
            let entry = encode((batch.cluster_time, batch.wall_time), batch.applied, encoded.iter());
            assert_eq!(entry.0, postcard::to_stdvec(&batch).unwrap());
            assert_eq!(codec::batch_stamp(&entry.0), Some((batch.cluster_time, batch.wall_time)));
        }
    }
}
