//! Starting a node: log and snapshot are read, the port is opened, the tasks begin, a new cluster is founded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haltline_core::{
    command::Genesis,
    ids::{Incarnation, NodeId},
    limits::{NODES_MAX, RAFT_APPEND_ENTRIES_MAX, SNAPSHOT_PART_TIMEOUT},
};
use haltline_pki::{
    CertificateAlone, ClientTls, Dialer, NodeIdentity, PkiError, PortLimits, Roles, ServerTls, listen,
};
use haltline_storage::RaftLog;
use openraft::{
    Config, SnapshotPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::{Fatal, InitializeError, RaftError},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    barrier::barrier,
    compaction,
    consensus::{Consensus, Shared},
    error::{FatalError, StartError},
    fitness::{Admission, Conditions, Fitness},
    lane::lanes,
    log_size::LogSize,
    log_store::LogStore,
    machine::Machine,
    network::{Network, NodesOnly, Peers, Service, serve},
    options::{Compaction, Member, Options, Timing},
    proposer::{Proposer, Tools},
    published::{Board, Position},
    snapshots::Snapshots,
    stamps::Stamps,
    types::{Raft, TypeConfig},
    warm,
};

/// Voters and learners beyond what any cluster has, so that openraft's own purge never runs.
const KEEP_EVERYTHING: u64 = 1 << 60;

/// What is there before anything runs.
struct Groundwork {
    me: NodeId,
    cluster: Arc<str>,
    authority: Arc<NodesOnly>,
    server_tls: ServerTls,
    peers: Peers,
    raft: Raft,
    board: Board,
    snapshots: Snapshots,
    stamps: Arc<Stamps>,
    size: Arc<LogSize>,
    log: Arc<dyn RaftLog>,
}

/// What is only needed to set it going.
struct Launch {
    listener: std::net::TcpListener,
    genesis: Option<Genesis>,
    timing: Timing,
    compaction: Compaction,
}

impl Consensus {
    /// Starts a node: reads its log and snapshot, applies what is known to be committed, opens the node port and takes
    /// part. A founding node of a new cluster founds it together with the others.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        check(&options)?;
        let Options { identity, founders, genesis, routes, timing, log, snapshots, clock, .. } = options;
        let authority = NodesOnly::new(founding_keys(genesis.as_ref()));
        let (server_tls, dialer) = tls(&identity, authority.clone())
            .map_err(|error| StartError::Tls { reason: error.to_string() })?;
        let (me, cluster) = (identity.id(), identity.bundle().cluster());
        let log = LogStore::open(log, clock.clone()).map_err(refused)?;
        let (tail, size, storage) = (log.tail().clone(), log.size().clone(), log.storage());
        let snapshots = Snapshots::new(snapshots);
        let position = snapshots.load()?;
        let incarnation = incarnation(&position, genesis.as_ref(), log.is_empty())?;
        let cluster = Service::name_of(cluster, incarnation);
        let peers = Peers::new(me, &cluster, dialer, timing, routes)?;
        let (machine, board) = Machine::new(position, snapshots.clone());
        authority.follow(board.clone());
        let network = Network::new(peers.clone(), snapshots.clone());
        let raft =
            Raft::build(me.0, Arc::new(config(timing)?), network, log, machine).await.map_err(refused)?;
        let stamps = Arc::new(Stamps::new(clock, tail, board.clone()));

        let groundwork = Groundwork {
            me,
            cluster,
            authority,
            server_tls,
            peers,
            raft,
            board,
            snapshots,
            stamps,
            size,
            log: storage,
        };
        let launch = Launch { listener: options.listener, genesis, timing, compaction: options.compaction };
        let consensus = groundwork.launch(launch)?;
        match found(&consensus.shared.raft, founders).await {
            Ok(()) => Ok(consensus),
            Err(error) => {
                consensus.shutdown().await;
                Err(error)
            }
        }
    }
}

impl Groundwork {
    /// Opens the port and lets every task run.
    fn launch(self, launch: Launch) -> Result<Consensus, StartError> {
        let Self { me, cluster, authority, server_tls, peers, raft, board, snapshots, stamps, size, log } =
            self;
        let Launch { listener, genesis, timing, compaction } = launch;
        let stop = CancellationToken::new();
        let (incoming, listening) = listen(into_tokio(listener)?, server_tls, PortLimits::default(), &stop);
        let (entrance, kills, normal) = lanes();
        let (conditions, admission) = (Conditions::default(), Admission::default());
        let fitness = Fitness {
            raft: raft.clone(),
            log: log.clone(),
            snapshots: snapshots.store().clone(),
            conditions: conditions.clone(),
            admission: admission.clone(),
            timing,
        };
        let tools = Tools {
            raft: raft.clone(),
            peers: peers.clone(),
            stamps: stamps.clone(),
            board: board.clone(),
            genesis,
            admission: admission.clone(),
        };
        let proposer = Proposer::new(tools, kills, normal);
        let (barrier, keeper) = barrier(raft.clone(), peers.clone(), board.clone());
        let service = Service {
            raft: raft.clone(),
            me,
            cluster,
            entrance: entrance.clone(),
            snapshots,
            log: log.clone(),
            timing,
            stop: stop.clone(),
        };

        let (fatal, watched) = watch::channel(None);
        let tasks = TaskTracker::new();
        raft.run();
        tasks.spawn(watch_over(raft.clone(), fatal.clone(), stop.clone()));
        tasks.spawn(report(serve(service, incoming), fatal, stop.clone()));
        tasks.spawn(proposer.run(stop.clone()));
        tasks.spawn(warm::run(raft.clone(), peers.clone(), conditions, stop.clone()));
        tasks.spawn(fitness.run(stop.clone()));
        tasks.spawn(keeper.run(stop.clone()));
        tasks.spawn(compaction::run(raft.clone(), log.clone(), size, compaction, stop.clone()));
        let shared = Shared {
            me,
            raft,
            entrance,
            barrier,
            board,
            stamps,
            log,
            admission,
            fatal: watched,
            listening,
            peers,
            authority,
            stop,
            tasks,
        };
        Ok(Consensus { shared: Arc::new(shared) })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "taken as `map_err` hands it over")]
fn refused(error: impl ToString) -> StartError {
    StartError::Raft { reason: error.to_string() }
}

fn tls(identity: &NodeIdentity, authority: Arc<NodesOnly>) -> Result<(ServerTls, Dialer), PkiError> {
    let server = ServerTls::new(identity.tls(), identity.bundle(), Roles::NODES, authority)?;
    let client = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone))?;
    Ok((server, Dialer::new(client)))
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

/// In which incarnation this node takes part: its snapshot's, as its founding file names it. A restored cluster is never
/// founded, so a node of one that has nothing has lost it.
fn incarnation(
    held: &Position,
    genesis: Option<&Genesis>,
    is_empty: bool,
) -> Result<Incarnation, StartError> {
    let own = held.state.cluster().map(|cluster| cluster.incarnation);
    let named = genesis.map(|genesis| genesis.incarnation);
    let bad = |reason| Err(StartError::BadOption { what: "incarnation", reason });
    match (own, named) {
        (Some(own), Some(named)) if own != named => bad(format!(
            "the data directory is of incarnation {own} of the cluster, and the founding file of {named}; a node takes its \
             data directory, identity and founding file from one restore"
        )),
        (None, Some(named)) if named > Incarnation(0) && is_empty => bad(format!(
            "the cluster was restored (incarnation {named}), and this node's data is gone; replace the node"
        )),
        (None, Some(named)) if named > Incarnation(0) => bad(format!(
            "the data directory is of the cluster before it was restored, and the founding file of incarnation {named}; a \
             node takes both from one restore"
        )),
        (own, named) => Ok(own.or(named).unwrap_or_default()),
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
    if founders.is_empty() || raft.is_initialized().await.map_err(refused)? {
        return Ok(());
    }
    let members = founders.into_iter().map(|(id, member)| (id.0, member)).collect::<BTreeMap<_, _>>();
    match raft.initialize(members).await {
        // Another founder was faster and this node has its log already.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// Logs who leads whenever that changes, and reports the end of consensus, unless the node is stopping anyway.
async fn watch_over(raft: Raft, fatal: watch::Sender<Option<FatalError>>, stop: CancellationToken) {
    let mut metrics = raft.metrics();
    let mut told = (0, None);
    loop {
        let (leads, ended) = {
            let now = metrics.borrow_and_update();
            let ended = now.running_state.as_ref().err().map(reason);
            ((now.current_term, now.current_leader), ended)
        };
        if leads.1 != told.1 {
            match leads {
                (term, Some(leader)) => tracing::info!(term, leader, "a leader is known"),
                (term, None) => tracing::warn!(term, "no leader is known"),
            }
            told = leads;
        }
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
