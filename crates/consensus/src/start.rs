//! Starting a node: log and snapshot are read, the port is opened, the tasks begin, a new cluster is founded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haltline_core::{
    command::Genesis,
    ids::NodeId,
    limits::{NODES_MAX, RAFT_APPEND_ENTRIES_MAX, SNAPSHOT_PART_TIMEOUT},
};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, PortLimits, Roles, ServerTls, listen};
use openraft::{
    Config, SnapshotPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::{Fatal, InitializeError, RaftError},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    barrier::{BarrierKeeper, barrier},
    compaction,
    consensus::{Consensus, Shared},
    error::{FatalError, StartError},
    lane::lanes,
    log_store::LogStore,
    machine::Machine,
    network::{Network, NodesOnly, Peers, Service, serve},
    options::{Member, Options, Timing},
    proposer::{Proposer, Tools},
    snapshots::Snapshots,
    stamps::Stamps,
    types::{Raft, TypeConfig},
};

/// Voters and learners beyond what any cluster has, so that openraft's own purge never runs.
const KEEP_EVERYTHING: u64 = 1 << 60;

impl Consensus {
    /// Starts a node: reads its log and snapshot, applies what is known to be committed, opens the node port and takes
    /// part. A founding node of a new cluster founds it together with the others.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        check(&options)?;
        let Options {
            identity,
            listener,
            founders,
            genesis,
            routes,
            timing,
            compaction,
            log,
            snapshots,
            clock,
        } = options;
        let me = identity.id();
        let cluster = identity.bundle().cluster();

        let authority = NodesOnly::new(founding_keys(genesis.as_ref()));
        let tls = |error: haltline_pki::PkiError| StartError::Tls { reason: error.to_string() };
        let server_tls = ServerTls::new(identity.tls(), identity.bundle(), Roles::NODES, authority.clone())
            .map_err(tls)?;
        let client_tls =
            ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone)).map_err(tls)?;
        let peers = Peers::new(me, cluster, Dialer::new(client_tls), timing, routes)?;

        let log = LogStore::open(log, clock.clone())
            .map_err(|error| StartError::Raft { reason: error.to_string() })?;
        let (tail, size) = (log.tail().clone(), log.size().clone());
        let snapshots = Snapshots::new(snapshots);
        let (machine, board) = Machine::new(snapshots.load()?, snapshots.clone());
        authority.follow(board.clone());
        let network = Network::new(peers.clone(), snapshots.clone());
        let raft = Raft::build(me.0, Arc::new(config(timing)?), network, log, machine).await;
        let raft = raft.map_err(|fatal| StartError::Raft { reason: fatal.to_string() })?;

        let stop = CancellationToken::new();
        let listener = into_tokio(listener)?;
        let (incoming, listening) = listen(listener, server_tls, PortLimits::default(), &stop);
        let (entrance, kills, normal) = lanes();
        let stamps = Arc::new(Stamps::new(clock, tail, board.clone()));
        let tools = Tools {
            raft: raft.clone(),
            peers: peers.clone(),
            stamps: stamps.clone(),
            board: board.clone(),
            genesis,
        };
        let proposer = Proposer::new(tools, kills, normal);
        let (barrier, keeper) = barrier(raft.clone(), peers.clone(), board.clone());
        let service = Service {
            raft: raft.clone(),
            me,
            cluster: Service::name_of(cluster),
            entrance: entrance.clone(),
            snapshots,
            timing,
            stop: stop.clone(),
        };

        let (fatal, watched) = watch::channel(None);
        let tasks = TaskTracker::new();
        raft.run();
        tasks.spawn(watch_over(raft.clone(), fatal.clone(), stop.clone()));
        tasks.spawn(report(serve(service, incoming), fatal, stop.clone()));
        tasks.spawn(proposer.run(stop.clone()));
        tasks.spawn(BarrierKeeper::run(keeper, stop.clone()));
        tasks.spawn(compaction::run(raft.clone(), size, compaction, stop.clone()));
        found(&raft, founders).await?;

        let shared =
            Shared {
            me,
            raft,
            entrance,
            barrier,
            board,
            stamps,
            fatal: watched,
            listening,
            peers,
            authority,
            stop,
            tasks,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

fn check(options: &Options) -> Result<(), StartError> {
    options.timing.check()?;
    let bad = |what: &'static str, reason: String| StartError::BadOption { what, reason };
    if options.founders.len() > NODES_MAX {
        let got = options.founders.len();
        return Err(bad("founders", format!("{got} nodes; a cluster has at most {NODES_MAX}")));
    }
    let me = options.identity.id();
    if !options.founders.is_empty() && !options.founders.iter().any(|(id, _)| *id == me) {
        return Err(bad("founders", format!("this is node {me}, and it isn't among them")));
    }
    match &options.genesis {
        Some(genesis) if genesis.cluster_id != options.identity.bundle().cluster() => {
            let (expected, got) = (options.identity.bundle().cluster(), genesis.cluster_id);
            Err(bad(
                "genesis",
                format!("it founds cluster {got}; the certificates are of cluster {expected}"),
            ))
        }
        _ => Ok(()),
    }
}

fn founding_keys(genesis: Option<&Genesis>) -> BTreeMap<NodeId, haltline_core::ids::KeyHash> {
    let nodes = genesis.map(|genesis| genesis.nodes.iter());
    nodes.into_iter().flatten().map(|node| (node.id, node.key_hash)).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn config(timing: Timing) -> Result<Config, StartError> {
    let config = Config {
        cluster_name: "haltline".into(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        install_snapshot_timeout: SNAPSHOT_PART_TIMEOUT.0,
        max_payload_entries: RAFT_APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEEP_EVERYTHING,
        // Off by default: a node that was away must not unseat a healthy leader.
        enable_pre_vote: Some(true),
        // On by default, and unsafe here: the state is rebuilt from what the log says is committed, which may lag.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        // An entry goes to the followers while this node's own disk still works on it.
        broadcast_submitted_on_append: Some(true),
        backoff: "20ms 50ms 100ms ...500ms".into(),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::BadOption { what: "timing", reason: error.to_string() })
}

fn into_tokio(listener: std::net::TcpListener) -> Result<TcpListener, StartError> {
    let failed = |error: std::io::Error| StartError::Listen { reason: error.to_string() };
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

/// Writes the first membership, as every founding node does; whoever is elected first decides whose counts.
async fn found(raft: &Raft, founders: Vec<(NodeId, Member)>) -> Result<(), StartError> {
    let refused = |error: String| StartError::Raft { reason: error };
    if founders.is_empty() || raft.is_initialized().await.map_err(|fatal| refused(fatal.to_string()))? {
        return Ok(());
    }
    let members = founders.into_iter().map(|(id, member)| (id.0, member)).collect::<BTreeMap<_, _>>();
    match raft.initialize(members).await {
        // Another founder was faster and this node has its log already.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Reports the end of consensus, unless the node is stopping anyway.
async fn watch_over(raft: Raft, fatal: watch::Sender<Option<FatalError>>, stop: CancellationToken) {
    let mut metrics = raft.metrics();
    loop {
        let ended = match &metrics.borrow_and_update().running_state {
            Ok(()) => None,
            Err(error) => Some(reason(error)),
        };
        if let Some(reason) = ended {
            return tell(&fatal, &stop, reason);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() {
                return tell(&fatal, &stop, "consensus ended without a word".to_owned());
            },
        }
    }
}

fn reason(error: &Fatal<TypeConfig>) -> String {
    match error {
        Fatal::StorageError(error) => format!("storage failed: {error}"),
        Fatal::Panicked => "consensus panicked; the log has the details".to_owned(),
        Fatal::Stopped => "consensus stopped".to_owned(),
    }
}

fn tell(fatal: &watch::Sender<Option<FatalError>>, stop: &CancellationToken, reason: String) {
    if !stop.is_cancelled() {
        tracing::error!(reason, "this node must stop");
        fatal.send_replace(Some(FatalError { reason }));
    }
}

/// Reports that the port is gone.
async fn report(
    served: impl Future<Output = Result<(), StartError>>,
    fatal: watch::Sender<Option<FatalError>>,
    stop: CancellationToken,
) {
    match served.await {
        Ok(()) => tell(&fatal, &stop, "the node port was closed".to_owned()),
        Err(error) => tell(&fatal, &stop, error.to_string()),
    }
}
