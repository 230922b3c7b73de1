//! What an enforcer sends, read from the body of its request as it comes.
//!
//! A stream has tens of thousands of siblings and says little, so nothing is kept for it but the part of a message that
//! hasn't come whole yet, and that is bounded.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use haltline_core::limits::EDGE_MESSAGE_BYTES_MAX;
use haltline_wire::v1;
use http_body::Body as _;
use prost::Message as _;
use tonic::Status;

use crate::{framing::PREFIX_BYTES, refused::StreamRefused};

/// Messages of one enforcer.
#[derive(Debug)]
pub(crate) struct Inbound {
    body: tonic::body::Body,
    /// Came and isn't read yet: less than one message and one piece of the body.
    unread: Bytes,
}

/// Why no further message comes.
#[derive(Debug)]
pub(crate) enum InboundEnd {
    /// The enforcer has said all that it will say.
    Closed,
    /// The connection or the stream broke.
    Broken(Status),
    /// What came is no message.
    Refused(StreamRefused),
}

impl Inbound {
    pub(crate) const fn new(body: tonic::body::Body) -> Self {
        Self { body, unread: Bytes::new() }
    }

    /// The next message.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<v1::EdgeMessage, InboundEnd>> {
        loop {
            match self.read_one() {
                Ok(Some(message)) => return Poll::Ready(Ok(message)),
                Ok(None) => {}
                Err(refused) => return Poll::Ready(Err(InboundEnd::Refused(refused))),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.take_up(data);
                    }
                }
                Some(Err(status)) => return Poll::Ready(Err(InboundEnd::Broken(status))),
                None => return Poll::Ready(Err(InboundEnd::Closed)),
            }
        }
    }

    fn take_up(&mut self, data: Bytes) {
        if self.unread.is_empty() {
            self.unread = data;
        } else {
            let mut joined = BytesMut::with_capacity(self.unread.len() + data.len());
            joined.extend_from_slice(&self.unread);
            joined.extend_from_slice(&data);
            self.unread = joined.freeze();
        }
    }

    fn read_one(&mut self) -> Result<Option<v1::EdgeMessage>, StreamRefused> {
        let Some((prefix, rest)) = self.unread.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 {
            return Err(StreamRefused::Compressed);
        }
        if length > EDGE_MESSAGE_BYTES_MAX {
            return Err(StreamRefused::MessageTooLarge { got: length });
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.unread.advance(PREFIX_BYTES);
        let message = v1::EdgeMessage::decode(self.unread.split_to(length));
        if self.unread.is_empty() {
            // Lets go of the buffer that the connection read into.
            self.unread = Bytes::new();
        }
        message.map(Some).map_err(|error| StreamRefused::NoMessage { reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use futures::task::noop_waker_ref;

    use super::*;
    use crate::{framing, test_body::TestBody};

    fn probe(sequence: u64) -> v1::EdgeMessage {
        let probe = v1::Probe { sequence, nonce: vec![7; 32] };
        v1::EdgeMessage { message: Some(v1::edge_message::Message::Probe(probe)) }
    }

    fn next(inbound: &mut Inbound) -> Poll<Result<v1::EdgeMessage, InboundEnd>> {
        inbound.poll_next(&mut Context::from_waker(noop_waker_ref()))
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let bytes =
            [framing::message(&probe(1)), framing::message(&probe(2)), framing::message(&probe(3))].concat();
        for cut in 1..bytes.len() {
            let (body, sender) = TestBody::new();
            for piece in bytes.chunks(cut) {
                sender.send(Bytes::copy_from_slice(piece));
            }
            let mut inbound = Inbound::new(tonic::body::Body::new(body));
            for sequence in 1..=3 {
                let Poll::Ready(Ok(message)) = next(&mut inbound) else { panic!("cut at {cut}") };
                assert_eq!(message, probe(sequence));
            }
            assert!(next(&mut inbound).is_pending());
            assert!(inbound.unread.is_empty());
            drop(sender);
            assert!(matches!(next(&mut inbound), Poll::Ready(Err(InboundEnd::Closed))));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_by_name() {
        let cases: [(Vec<u8>, StreamRefused); 3] = [
            (vec![1, 0, 0, 0, 0], StreamRefused::Compressed),
            (vec![0, 1, 0, 0, 0], StreamRefused::MessageTooLarge { got: 1 << 24 }),
            (vec![0, 0, 0, 0, 1, 0xff], StreamRefused::NoMessage { reason: String::new() }),
        ];
        for (bytes, expected) in cases {
            let (body, sender) = TestBody::new();
            sender.send(bytes.into());
            let mut inbound = Inbound::new(tonic::body::Body::new(body));
            match next(&mut inbound) {
                Poll::Ready(Err(InboundEnd::Refused(refused))) => assert_eq!(refused.code(), expected.code()),
                other => panic!("{other:?} for {expected:?}"),
            }
        }
    }
}
