//! Generates load: closed loop (so many calls in flight, each answer begets the next call) and open loop (calls at fixed
//! times, whatever came back so far).
//!
//! What must stay true: in the open loop a call's latency counts from the moment it was due, so that a system that stalls
//! can't hide the calls that it kept from being made. In the closed loop it counts from the call, which is what one of
//! so many callers sees; a stall there costs only as many samples as there are callers, so its p99 flatters.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::sleep_until,
};

use crate::{failure::Failure, latency::Latencies, process_cpu};

/// Calls without an answer in the open loop before the run is given up.
const OPEN_LOOP_WAITING_MAX: usize = 20_000;
/// Calls that are due and not yet made: a few ms of the highest rate.
const DUE_QUEUE_MAX: usize = 1_024;

/// One connection to a system, over which the operation that is measured can be called.
pub(crate) trait Target: Clone + Send + 'static {
    /// Whose connection.
    const SYSTEM: &'static str;

    /// One operation, done durably when this returns. Numbers tell operations apart.
    fn call(&mut self, number: u64) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// How long a run takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Load before anything counts.
    pub(crate) warm_up: Duration,
    /// What counts.
    pub(crate) measured: Duration,
}

/// The part of a run that counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
}

/// What one run showed.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) latencies: Latencies,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
}

impl Window {
    /// Begins now.
    pub(crate) fn begin(self) -> Measured {
        let start = Instant::now() + self.warm_up;
        Measured { start, end: start + self.measured }
    }
}

impl Measured {
    pub(crate) fn contains(self, moment: Instant) -> bool {
        self.start <= moment && moment < self.end
    }

    /// Waits for the end, and tells the processor time used between start and end: the servers', and our own.
    pub(crate) async fn cpu(self, servers: &[u32]) -> Result<(Duration, Duration), Failure> {
        let own = [std::process::id()];
        sleep_until(self.start.into()).await;
        let before = (process_cpu::used_by(servers)?, process_cpu::used_by(&own)?);
        sleep_until(self.end.into()).await;
        let after = (process_cpu::used_by(servers)?, process_cpu::used_by(&own)?);
        Ok((after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)))
    }

    /// The latencies and the processor time as one run.
    pub(crate) fn run(
        self,
        system: &'static str,
        latencies: Latencies,
        (server_cpu, client_cpu): (Duration, Duration),
    ) -> Result<Run, Failure> {
        if latencies.count() == 0 {
            return Err(Failure::Nothing { system });
        }
        Ok(Run { latencies, elapsed: self.end - self.start, server_cpu, client_cpu })
    }
}

impl Run {
    pub(crate) fn ops_per_s(&self) -> f64 {
        self.operations() / self.elapsed.as_secs_f64()
    }

    pub(crate) fn server_cpu_us_per_op(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.operations()
    }

    pub(crate) fn client_cpu_us_per_op(&self) -> f64 {
        self.client_cpu.as_secs_f64() * 1e6 / self.operations()
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
    fn operations(&self) -> f64 {
        self.latencies.count() as f64
    }
}

/// `in_flight` callers, spread evenly over the connections.
pub(crate) async fn closed_loop<T: Target>(
    targets: &[T],
    in_flight: usize,
    window: Window,
    servers: &[u32],
) -> Result<Run, Failure> {
    let measured = window.begin();
    let mut callers = JoinSet::new();
    for (caller, target) in targets.iter().cycle().take(in_flight).enumerate() {
        callers.spawn(call_until_end(target.clone(), caller, in_flight, measured));
    }
    let cpu = measured.cpu(servers).await?;
    let mut latencies = Latencies::new();
    while let Some(samples) = callers.join_next().await {
        finished(samples)??.into_iter().for_each(|latency| latencies.record(latency));
    }
    measured.run(T::SYSTEM, latencies, cpu)
}

/// One caller of the closed loop. Calls answered within the measured part count.
async fn call_until_end<T: Target>(
    mut target: T,
    caller: usize,
    callers: usize,
    measured: Measured,
) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    for number in (caller as u64..).step_by(callers) {
        let called = Instant::now();
        if called >= measured.end {
            break;
        }
        target.call(number).await?;
        let answered = Instant::now();
        if measured.contains(answered) {
            latencies.push(answered - called);
        }
    }
    Ok(latencies)
}

/// Calls at even intervals, over the connections in turn. Calls due within the measured part count.
pub(crate) async fn open_loop<T: Target>(
    targets: &[T],
    offered_per_s: u64,
    window: Window,
    servers: &[u32],
) -> Result<Run, Failure> {
    let measured = window.begin();
    let (due, mut dues) = mpsc::channel(DUE_QUEUE_MAX);
    let pacer = std::thread::spawn(move || pace(&due, offered_per_s, measured.end));
    let cpu = tokio::spawn({
        let servers = servers.to_vec();
        async move { measured.cpu(&servers).await }
    });
    let (mut calls, mut latencies) = (JoinSet::new(), Latencies::new());
    let waiting = Arc::new(AtomicUsize::new(0));
    let mut targets = targets.iter().cycle();
    let mut number = 0;
    while let (Some(due), Some(target)) = (dues.recv().await, targets.next()) {
        if waiting.fetch_add(1, Ordering::Relaxed) >= OPEN_LOOP_WAITING_MAX {
            let (waiting, bound) = (waiting.load(Ordering::Relaxed), OPEN_LOOP_WAITING_MAX);
            return Err(Failure::Overrun { system: T::SYSTEM, waiting, bound, offered_per_s });
        }
        let (mut target, waiting) = (target.clone(), Arc::clone(&waiting));
        calls.spawn(async move {
            let result = target.call(number).await;
            waiting.fetch_sub(1, Ordering::Relaxed);
            result.map(|()| (due, due.elapsed()))
        });
        number += 1;
        while let Some(call) = calls.try_join_next() {
            note(finished(call)??, measured, &mut latencies);
        }
    }
    while let Some(call) = calls.join_next().await {
        note(finished(call)??, measured, &mut latencies);
    }
    pacer.join().expect("the pacer only sleeps and sends");
    measured.run(T::SYSTEM, latencies, finished(cpu.await)??)
}

fn note((due, latency): (Instant, Duration), measured: Measured, latencies: &mut Latencies) {
    if measured.contains(due) {
        latencies.record(latency);
    }
}

/// Sends the moments at which calls are due, as they come. On a thread of its own, because the runtime's timers round up
/// to whole milliseconds.
#[allow(clippy::disallowed_methods, reason = "a thread of its own, which does nothing but sleep and send")]
fn pace(due: &mpsc::Sender<Instant>, offered_per_s: u64, end: Instant) {
    let start = Instant::now();
    for call in 0.. {
        let moment = start + Duration::from_nanos(call * 1_000_000_000 / offered_per_s.max(1));
        if moment >= end {
            break;
        }
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        if due.blocking_send(moment).is_err() {
            break;
        }
    }
}

/// The result of a task of ours, none of which is ever cancelled while it is waited for.
pub(crate) fn finished<T>(joined: Result<T, JoinError>) -> Result<T, Failure> {
    joined.map_err(|error| Failure::Local {
        what: "finish a task of the load generator".into(),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Answers after a while; counts how many calls are inside at once.
    #[derive(Clone, Default)]
    struct Slow {
        inside: Arc<AtomicUsize>,
        most_inside: Arc<AtomicUsize>,
        numbers: Arc<AtomicU64>,
        fails: bool,
    }

    impl Target for Slow {
        const SYSTEM: &'static str = "slow";

        async fn call(&mut self, number: u64) -> Result<(), Failure> {
            let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_inside.fetch_max(inside, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.inside.fetch_sub(1, Ordering::SeqCst);
            self.numbers.fetch_max(number, Ordering::SeqCst);
            if self.fails { Err(Failure::Nothing { system: "slow" }) } else { Ok(()) }
        }
    }

    const SHORT: Window = Window { warm_up: Duration::from_millis(20), measured: Duration::from_millis(200) };

    #[tokio::test]
    async fn the_closed_loop_keeps_just_so_many_calls_in_flight() {
        let target = Slow::default();
        let run = closed_loop(&[target.clone(), target.clone()], 7, SHORT, &[]).await.unwrap();
        assert_eq!(target.most_inside.load(Ordering::SeqCst), 7);
        assert!(run.latencies.count() > 0 && run.latencies.quantile_ms(0.5) >= 5.0);
        assert_eq!(run.elapsed, SHORT.measured);
    }

    #[tokio::test]
    async fn the_open_loop_offers_what_was_asked_and_counts_what_was_due() {
        let target = Slow::default();
        let run = open_loop(std::slice::from_ref(&target), 500, SHORT, &[]).await.unwrap();
        assert_eq!(target.numbers.load(Ordering::SeqCst), 109, "500/s for 220 ms");
        assert!((99..=101).contains(&run.latencies.count()), "{}", run.latencies.count());
        assert!(run.latencies.quantile_ms(0.5) >= 5.0);
    }

    #[tokio::test]
    async fn one_failed_call_fails_the_run() {
        let target = Slow { fails: true, ..Slow::default() };
        closed_loop(std::slice::from_ref(&target), 2, SHORT, &[]).await.unwrap_err();
        open_loop(&[target], 100, SHORT, &[]).await.unwrap_err();
    }
}
