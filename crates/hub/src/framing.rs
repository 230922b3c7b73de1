//! Messages as they go into the body of an HTTP/2 response: the five bytes that gRPC puts before each, and protobuf.
//!
//! tonic's codec would encode every message once for each client. Here a message becomes bytes once and every stream
//! gets a reference to them, which the HTTP/2 layer writes from where they are.

use bytes::{BufMut as _, Bytes, BytesMut};
use haltline_wire::v1;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

/// Bytes before each message: not compressed, and the length (gRPC over HTTP/2, Length-Prefixed-Message).
pub(crate) const PREFIX_BYTES: usize = 5;

/// The field numbers of `HubMessage`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Welcome = 1,
    Frame = 2,
    Fresh = 3,
    SnapshotNeeded = 4,
    Hubs = 5,
}

fn prefixed(length: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
    buffer.put_u8(0);
    // Every message that is made here is bounded far below.
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    buffer
}

/// Any message, ready for a body.
pub(crate) fn message(message: &impl Message) -> Bytes {
    let mut buffer = prefixed(message.encoded_len());
    // The buffer grows by itself, so there is always room.
    let _ = message.encode(&mut buffer);
    buffer.freeze()
}

/// A `HubMessage` whose one field is the concatenation of `pieces`: encodings of the same message that together say all,
/// which is how protobuf defines merging.
pub(crate) fn hub_message<'a>(part: Part, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let length = pieces.clone().map(<[u8]>::len).sum::<usize>();
    let tag = part as u32;
    let inside = key_len(tag) + encoded_len_varint(length as u64) + length;
    let mut buffer = prefixed(inside);
    encode_key(tag, WireType::LengthDelimited, &mut buffer);
    encode_varint(length as u64, &mut buffer);
    pieces.for_each(|piece| buffer.put_slice(piece));
    buffer.freeze()
}

/// A `HubMessage` of one whole message.
pub(crate) fn hub(part: Part, message: &impl Message) -> Bytes {
    hub_message(part, std::iter::once(message.encode_to_vec().as_slice()))
}

/// The encoding of one event as an element of `Frame.events`.
pub(crate) fn event_field(event: &[u8], buffer: &mut BytesMut) {
    const EVENTS: u32 = 3;
    encode_key(EVENTS, WireType::LengthDelimited, buffer);
    encode_varint(event.len() as u64, buffer);
    buffer.put_slice(event);
}

/// The answer to a Hello that can't be served from here.
pub(crate) fn snapshot_needed(reason: v1::snapshot_needed::Reason, index: u64) -> Bytes {
    hub(Part::SnapshotNeeded, &v1::SnapshotNeeded { reason: reason.into(), index })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use haltline_wire::v1::hub_message::Message as Said;

    use super::*;

    /// Reads one message as a client would.
    fn read(framed: &[u8]) -> Said {
        let (prefix, body) = framed.split_at(PREFIX_BYTES);
        assert_eq!((prefix[0], u32::from_be_bytes(prefix[1..].try_into().unwrap())), (0, body.len() as u32));
        v1::HubMessage::decode(body).unwrap().message.unwrap()
    }

    #[test]
    fn every_part_reads_as_what_was_meant() {
        let welcome = v1::Welcome { node: 3, index: 9, ..v1::Welcome::default() };
        assert_eq!(read(&hub(Part::Welcome, &welcome)), Said::Welcome(welcome));
        let hubs = v1::HubEndpoints { hubs: vec![v1::HubEndpoint { node: 1, ..Default::default() }] };
        assert_eq!(read(&hub(Part::Hubs, &hubs)), Said::Hubs(hubs));
        let reason = v1::snapshot_needed::Reason::OtherChain;
        let needed = v1::SnapshotNeeded { reason: reason.into(), index: 4 };
        assert_eq!(read(&snapshot_needed(reason, 4)), Said::SnapshotNeeded(needed));
    }

    #[test]
    fn pieces_merge_to_one_message() {
        let head = v1::Frame { index: 7, first_event_seq: 300, stops: true, ..v1::Frame::default() };
        let mut events = BytesMut::new();
        event_field(b"one", &mut events);
        event_field(&[7; 300], &mut events);
        let pieces = [head.encode_to_vec(), events.to_vec()];
        let framed = hub_message(Part::Frame, pieces.iter().map(Vec::as_slice));
        let expected = v1::Frame { events: vec![Bytes::from("one"), vec![7; 300].into()], ..head };
        assert_eq!(read(&framed), Said::Frame(expected));

        let own = v1::Fresh { nonce: vec![1; 32], ..v1::Fresh::default() };
        let shared = v1::Fresh { index: 5, signature: vec![2; 64], ..v1::Fresh::default() };
        let pieces = [own.encode_to_vec(), shared.encode_to_vec()];
        let merged = v1::Fresh { nonce: own.nonce, ..shared };
        assert_eq!(read(&hub_message(Part::Fresh, pieces.iter().map(Vec::as_slice))), Said::Fresh(merged));
    }

    #[test]
    fn any_message_has_its_prefix() {
        let chunk = v1::ViewChunk { data: Bytes::from_static(b"abc"), ..v1::ViewChunk::default() };
        let framed = message(&chunk);
        assert_eq!(v1::ViewChunk::decode(&framed[PREFIX_BYTES..]).unwrap(), chunk);
    }
}
