//! The workloads of `commit`.

use super::CommitArguments;
use crate::{
    etcd::{client::Putter, cluster::EtcdCluster},
    failure::Failure,
    haltline::{
        client::{CommandMaker, Updater},
        cluster::HaltlineCluster,
        stream,
    },
    load::{self, Run, Target, Window},
};

/// Calls in flight that share one connection, in every system: so that neither many handshakes nor one crowded
/// connection decide.
const CALLS_PER_CONNECTION: usize = 16;
/// Connections of the open loop.
const OPEN_LOOP_CONNECTIONS: usize = 16;

/// Where commands enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Entry {
    /// Unary calls to the leader.
    Leader,
    /// Unary calls to the followers, which pass them on.
    Any,
    /// The pipelined stream, to the leader.
    Stream,
}

impl Entry {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Any => "any",
            Self::Stream => "stream",
        }
    }
}

/// One way of loading a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workload {
    /// So many unary calls in flight, always.
    Closed { in_flight: usize, entry: Entry },
    /// Unary calls at a fixed rate.
    Open { offered_per_s: u64 },
    /// So many commands in flight on pipelined streams.
    Stream { in_flight: usize, streams: usize },
}

/// The workloads that were asked for. Other systems have no pipelined stream of writes.
pub(super) fn of(arguments: &CommitArguments, is_other: bool) -> Vec<Workload> {
    let mut workloads = Vec::new();
    for entry in [Entry::Leader, Entry::Any] {
        if arguments.entries.contains(&entry) {
            let closed = |in_flight: &usize| Workload::Closed { in_flight: *in_flight, entry };
            workloads.extend(arguments.in_flight.iter().map(closed));
        }
    }
    if arguments.offered_per_s > 0 && arguments.entries.contains(&Entry::Leader) {
        workloads.push(Workload::Open { offered_per_s: arguments.offered_per_s });
    }
    if arguments.entries.contains(&Entry::Stream) && !is_other {
        let streams = arguments.streams as usize;
        workloads.push(Workload::Stream { in_flight: arguments.stream_in_flight, streams });
    }
    workloads
}

impl Workload {
    pub(super) const fn entry(self) -> Entry {
        match self {
            Self::Closed { entry, .. } => entry,
            Self::Open { .. } => Entry::Leader,
            Self::Stream { .. } => Entry::Stream,
        }
    }

    /// Connections that carry it.
    const fn connections(self) -> usize {
        match self {
            Self::Closed { in_flight, .. } => in_flight.div_ceil(CALLS_PER_CONNECTION),
            Self::Open { .. } => OPEN_LOOP_CONNECTIONS,
            Self::Stream { streams, .. } => streams,
        }
    }

    fn enters_at_leader(self) -> bool {
        self.entry() != Entry::Any
    }

    pub(super) async fn run_on_haltline(
        self,
        cluster: &HaltlineCluster,
        window: Window,
    ) -> Result<Run, Failure> {
        let channels = cluster.connections(self.connections(), self.enters_at_leader()).await?;
        let maker = CommandMaker::new(channels[0].clone()).await?;
        let servers = cluster.pids();
        if let Self::Stream { in_flight, .. } = self {
            return stream::closed_loop(channels, &maker, in_flight, window, &servers).await;
        }
        let targets: Vec<Updater> =
            channels.into_iter().map(|channel| Updater::new(channel, maker.clone())).collect();
        self.run_unary(&targets, window, &servers).await
    }

    pub(super) async fn run_on_etcd(self, cluster: &EtcdCluster, window: Window) -> Result<Run, Failure> {
        let channels = cluster.connections(self.connections(), self.enters_at_leader()).await?;
        let targets: Vec<Putter> = channels.into_iter().map(Putter::new).collect();
        self.run_unary(&targets, window, &cluster.pids()).await
    }

    async fn run_unary<T: Target>(
        self,
        targets: &[T],
        window: Window,
        servers: &[u32],
    ) -> Result<Run, Failure> {
        match self {
            Self::Closed { in_flight, .. } | Self::Stream { in_flight, .. } => {
                load::closed_loop(targets, in_flight, window, servers).await
            }
            Self::Open { offered_per_s } => load::open_loop(targets, offered_per_s, window, servers).await,
        }
    }
}
