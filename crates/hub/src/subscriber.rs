//! One stream as the hub's tasks see it: how to wake it, what waits for it, how far it is.
//!
//! Whatever a subscriber holds is one slot each, replaced by what is newer: nothing queues up for a slow one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::task::AtomicWaker;
use haltline_core::{
    LogIndex,
    ids::{EventSeq, Nonce},
    lease::BootNanos,
    tracker::StreamId,
};
use haltline_pki::PeerIdentity;
use parking_lot::Mutex;

use crate::{freshness::Answer, refused::StreamRefused, upstream::Admitted};

/// See the module.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) stream: StreamId,
    pub(crate) admitted: Admitted,
    pub(crate) peer: PeerIdentity,
    /// When the stream opened.
    pub(crate) opened: BootNanos,
    waker: AtomicWaker,
    /// How far frames were handed over.
    sent: AtomicU64,
    /// Up to which event it acknowledged.
    acked: AtomicU64,
    /// The newest index that it was given freshness for.
    granted: AtomicU64,
    mail: Mutex<Mail>,
    #[cfg(test)]
    wakes: AtomicU64,
}

#[derive(Debug, Default)]
struct Mail {
    /// Waits for the next barrier. A newer probe takes its place: its answer gives the longer lease.
    probe: Option<Nonce>,
    answer: Option<Answer>,
    end: Option<StreamRefused>,
    told: Told,
}

/// What an enforcer says about itself, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) version: String,
    pub(crate) region: String,
}

impl Subscriber {
    pub(crate) fn new(
        stream: StreamId,
        admitted: Admitted,
        peer: PeerIdentity,
        opened: BootNanos,
    ) -> Arc<Self> {
        let (waker, sent, acked, granted, mail) = Default::default();
        Arc::new(Self {
            stream,
            admitted,
            peer,
            opened,
            waker,
            sent,
            acked,
            granted,
            mail,
            #[cfg(test)]
            wakes: AtomicU64::new(0),
        })
    }

    /// The task to wake from now on. To be called before looking whether there is anything to do.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn wake(&self) {
        #[cfg(test)]
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.waker.wake();
    }

    /// How often this was woken since the last time.
    #[cfg(test)]
    pub(crate) fn take_wakes(&self) -> u64 {
        self.wakes.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn set_sent(&self, seq: EventSeq) {
        self.sent.store(seq.0, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self) -> EventSeq {
        EventSeq(self.sent.load(Ordering::Relaxed))
    }

    pub(crate) fn set_acked(&self, seq: EventSeq) {
        self.acked.fetch_max(seq.0, Ordering::Relaxed);
    }

    pub(crate) fn acked(&self) -> EventSeq {
        EventSeq(self.acked.load(Ordering::Relaxed))
    }

    pub(crate) fn set_granted(&self, index: LogIndex) {
        self.granted.fetch_max(index.0, Ordering::Relaxed);
    }

    pub(crate) fn granted(&self) -> LogIndex {
        LogIndex(self.granted.load(Ordering::Relaxed))
    }

    /// Notes a probe; whether the subscriber stood in line with an earlier one already.
    pub(crate) fn set_probe(&self, nonce: Nonce) -> bool {
        self.mail.lock().probe.replace(nonce).is_some()
    }

    pub(crate) fn take_probe(&self) -> Option<Nonce> {
        self.mail.lock().probe.take()
    }

    /// Leaves an answer, in the place of one that wasn't sent yet.
    pub(crate) fn answer(&self, answer: Answer) {
        self.mail.lock().answer = Some(answer);
        self.wake();
    }

    /// Up to which event everything must be sent before the answer that waits.
    pub(crate) fn answer_needs(&self) -> Option<EventSeq> {
        self.mail.lock().answer.as_ref().map(Answer::needs)
    }

    /// The answer, if everything before it is sent.
    pub(crate) fn take_answer(&self, sent: EventSeq) -> Option<Answer> {
        let mut mail = self.mail.lock();
        match &mail.answer {
            Some(answer) if answer.needs() <= sent => mail.answer.take(),
            _ => None,
        }
    }

    /// Ends the stream. The first reason counts.
    pub(crate) fn end(&self, because: StreamRefused) {
        self.mail.lock().end.get_or_insert(because);
        self.wake();
    }

    pub(crate) fn ended(&self) -> Option<StreamRefused> {
        self.mail.lock().end.clone()
    }

    pub(crate) fn set_told(&self, told: Told) {
        self.mail.lock().told = told;
    }

    pub(crate) fn told(&self) -> Told {
        self.mail.lock().told.clone()
    }
}
