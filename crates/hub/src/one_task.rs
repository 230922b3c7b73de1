//! One connection and all its calls on one task.
//!
//! A server usually gives each call a task beside that of its connection, so one message to one enforcer is two tasks
//! woken, one after the other, and two more for its acknowledgement. Here a fan-out wakes the connection's task, which
//! polls the calls that have something to write and then the connection, which writes all of it at once. Nothing is
//! polled that wasn't woken, and what the parts wake in each other while they are polled needs no second turn.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::{
    stream::{FuturesUnordered, Stream as _},
    task::AtomicWaker,
};
use parking_lot::Mutex;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

const CONNECTION: u8 = 1;
const CALLS: u8 = 2;
const INTERRUPT: u8 = 4;
const ANY: u8 = CONNECTION | CALLS | INTERRUPT;
/// The task runs, and looks at the other bits before it stops.
const RUNNING: u8 = 8;
/// How often all sides are polled before other tasks have their turn.
const ROUNDS_PER_TURN: usize = 4;

/// Takes the calls of one connection. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Calls {
    begun: Arc<Mutex<Vec<Call>>>,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Calls {
    fn execute(&self, call: F) {
        // Only while the connection is polled, which looks here afterwards.
        self.begun.lock().push(Box::pin(call));
    }
}

/// What is woken.
#[derive(Debug, Default)]
struct Woken {
    bits: AtomicU8,
    task: AtomicWaker,
}

impl Woken {
    fn wake(&self, part: u8) {
        // Ordered with the end of a turn, so that one of the two sees the other.
        if self.bits.fetch_or(part, Ordering::AcqRel) & (RUNNING | part) == 0 {
            self.task.wake();
        }
    }
}

struct Part<const BIT: u8>(Arc<Woken>);

impl<const BIT: u8> Wake for Part<BIT> {
    fn wake(self: Arc<Self>) {
        self.0.wake(BIT);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake(BIT);
    }
}

/// What may come for a connection from outside, and what it is told then.
struct Interrupt<C> {
    comes: Call,
    tell: fn(Pin<&mut C>),
    waker: Waker,
}

/// A connection whose calls went to a [`Calls`], and those calls. Ends with the connection.
pub(crate) struct OneTask<C> {
    connection: Pin<Box<C>>,
    calls: Calls,
    running: FuturesUnordered<Call>,
    woken: Arc<Woken>,
    connection_waker: Waker,
    calls_waker: Waker,
    interrupt: Option<Interrupt<C>>,
}

impl<C: Future> OneTask<C> {
    pub(crate) fn new(connection: C, calls: Calls) -> Self {
        let woken = Arc::new(Woken { bits: AtomicU8::new(CONNECTION), task: AtomicWaker::new() });
        let connection_waker = Waker::from(Arc::new(Part::<CONNECTION>(woken.clone())));
        let calls_waker = Waker::from(Arc::new(Part::<CALLS>(woken.clone())));
        let (connection, running) = (Box::pin(connection), FuturesUnordered::new());
        Self { connection, calls, running, woken, connection_waker, calls_waker, interrupt: None }
    }

    /// The same, and the connection is told something when `comes` ends. It is polled only when it was woken itself: once
    /// for nearly all connections, whatever else wakes them.
    pub(crate) fn told_when(
        mut self,
        comes: impl Future<Output = ()> + Send + 'static,
        tell: fn(Pin<&mut C>),
    ) -> Self {
        let waker = Waker::from(Arc::new(Part::<INTERRUPT>(self.woken.clone())));
        self.interrupt = Some(Interrupt { comes: Box::pin(comes), tell, waker });
        self.woken.wake(INTERRUPT);
        self
    }

    fn poll_interrupt(&mut self) {
        let Some(Interrupt { comes, tell, waker }) = &mut self.interrupt else { return };
        if comes.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
            tell(self.connection.as_mut());
            self.interrupt = None;
            self.woken.wake(CONNECTION);
        }
    }

    fn poll_calls(&mut self) {
        let mut context = Context::from_waker(&self.calls_waker);
        while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(&mut context) {}
    }

    /// One look at all that was woken; whether the connection has ended.
    fn round(&mut self, woken: u8) -> Poll<C::Output> {
        if woken & INTERRUPT != 0 {
            self.poll_interrupt();
        }
        if woken & CALLS != 0 {
            self.poll_calls();
        }
        // What the calls just wrote wakes the connection.
        let woken = woken | self.woken.bits.fetch_and(!CONNECTION, Ordering::AcqRel);
        if woken & CONNECTION == 0 {
            return Poll::Pending;
        }
        let ended = self.connection.as_mut().poll(&mut Context::from_waker(&self.connection_waker));
        let begun = std::mem::take(&mut *self.calls.begun.lock());
        if !begun.is_empty() {
            self.running.extend(begun);
            self.woken.wake(CALLS);
        }
        ended
    }
}

impl<C: Future> Future for OneTask<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        this.woken.task.register(cx.waker());
        this.woken.bits.fetch_or(RUNNING, Ordering::AcqRel);
        for _ in 0..ROUNDS_PER_TURN {
            let woken = this.woken.bits.fetch_and(RUNNING, Ordering::AcqRel);
            if woken & ANY == 0 {
                break;
            }
            if let Poll::Ready(ended) = this.round(woken) {
                return Poll::Ready(ended);
            }
        }
        let woken = this.woken.bits.fetch_and(!RUNNING, Ordering::AcqRel);
        if woken & ANY != 0 {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicUsize;

    use futures::task::{ArcWake, waker};
    use hyper::rt::Executor as _;
    use tokio::sync::{Notify, mpsc};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl ArcWake for Counted {
        fn wake_by_ref(counted: &Arc<Self>) {
            counted.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection that begins a call, and then ends with the first number that the call gives it.
    fn connection(
        calls: Calls,
        notify: Arc<Notify>,
        polls: Arc<AtomicUsize>,
    ) -> impl Future<Output = Option<u32>> {
        let (given, mut taken) = mpsc::channel(1);
        let mut call = Some(async move {
            notify.notified().await;
            given.send(7).await.unwrap();
            std::future::pending::<()>().await;
        });
        std::future::poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            if let Some(call) = call.take() {
                calls.execute(call);
            }
            taken.poll_recv(cx)
        })
    }

    #[test]
    fn a_call_and_its_connection_have_one_turn_together() {
        let (calls, notify, polls): (Calls, Arc<Notify>, Arc<AtomicUsize>) = Default::default();
        let mut task = OneTask::new(connection(calls.clone(), notify.clone(), polls.clone()), calls);
        let counted = Arc::new(Counted::default());
        let (wakes, waker) = (|| counted.0.load(Ordering::Relaxed), waker(counted.clone()));
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut task).poll(&mut context).is_pending());
        assert_eq!((wakes(), polls.load(Ordering::Relaxed)), (0, 1), "nothing is left to do");
        // Polled again for no reason: neither side is.
        assert!(Pin::new(&mut task).poll(&mut context).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 1);

        notify.notify_one();
        assert_eq!(wakes(), 1);
        assert_eq!(Pin::new(&mut task).poll(&mut context), Poll::Ready(Some(7)));
        assert_eq!(
            (wakes(), polls.load(Ordering::Relaxed)),
            (1, 2),
            "what the call gave was taken in the same turn"
        );
    }

    #[test]
    fn a_connection_that_wakes_itself_lets_others_have_their_turn() {
        let polls = Arc::new(AtomicUsize::new(0));
        let seen = polls.clone();
        let restless = std::future::poll_fn(move |cx: &mut Context<'_>| {
            seen.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut task = OneTask::new(restless, Calls::default());
        let counted = Arc::new(Counted::default());
        let waker = waker(counted.clone());
        assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), ROUNDS_PER_TURN);
        assert_eq!(counted.0.load(Ordering::Relaxed), 1, "and asks for its next one");
    }

    #[test]
    fn what_comes_from_outside_is_told_once_and_looked_at_only_when_it_woke() {
        let (polls, looks): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (seen, looked) = (polls.clone(), looks.clone());
        let quiet = std::future::poll_fn(move |_: &mut Context<'_>| {
            seen.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        });
        let notify = Arc::new(Notify::new());
        let mut notified = Box::pin(notify.clone().notified_owned());
        let comes = std::future::poll_fn(move |cx| {
            looked.fetch_add(1, Ordering::Relaxed);
            notified.as_mut().poll(cx)
        });
        // Being told is seen by the poll that follows.
        let mut task = OneTask::new(quiet, Calls::default()).told_when(comes, |_| ());
        let waker = waker(Arc::new(Counted::default()));
        let turn = |task: &mut OneTask<_>| {
            assert!(Pin::new(task).poll(&mut Context::from_waker(&waker)).is_pending());
            (polls.load(Ordering::Relaxed), looks.load(Ordering::Relaxed))
        };
        assert_eq!(turn(&mut task), (1, 1));
        task.woken.wake(CONNECTION);
        assert_eq!(turn(&mut task), (2, 1));
        notify.notify_one();
        assert_eq!(turn(&mut task), (3, 2));
        assert_eq!(turn(&mut task), (3, 2));
    }
}
