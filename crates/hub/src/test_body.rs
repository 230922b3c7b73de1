//! A request's body that a test fills piece by piece.

#![allow(clippy::unwrap_used)]

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::Status;

/// The body.
pub(crate) struct TestBody(mpsc::Receiver<Bytes>);

/// Fills it; dropped, it ends it.
pub(crate) struct TestBodySender(mpsc::Sender<Bytes>);

impl TestBody {
    pub(crate) fn new() -> (Self, TestBodySender) {
        let (sender, receiver) = mpsc::channel(4_096);
        (Self(receiver), TestBodySender(sender))
    }
}

impl TestBodySender {
    pub(crate) fn send(&self, bytes: Bytes) {
        self.0.try_send(bytes).unwrap();
    }
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}
