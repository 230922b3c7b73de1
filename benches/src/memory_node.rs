//! `memory` (P11), the node's part: the state that a node keeps of very many agents, running copies and revocations, made
//! command by command by the machine itself; and what one more connected enforcer costs a real node.

use std::{
    fs,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command as Process,
    time::{Duration, Instant},
};

use clap::Args;
use ed25519_dalek::{Signer as _, SigningKey};
use haltline_core::{
    command::{
        AgentRegister, Batch, Caller, Command, CredentialIssue, FleetCreate, Genesis, NodeRecord, PersonAdd,
        Request, RevocationTarget, Revoke, Role, RoleBinding, Signature, Statement,
    },
    ids::{
        ClusterId, CredentialId, Digest, GrantId, Incarnation, InstanceId, KeyHash, LogIndex, NodeId,
        PublicKey, RequestId,
    },
    limits::{CREDENTIAL_TTL_CEILING, INSTANCES_CEILING},
    policy::{Intent, Limits},
    snapshot,
    state::State,
    text::Labels,
    time::{ClusterTime, Millis},
};

use crate::{
    edge::failed,
    failure::Failure,
    haltline::cluster::HaltlineCluster,
    swarm::{Connections, Setup, Swarm},
    workload::scattered,
};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const FLEET: &str = "acme";
/// Commands of one entry.
const BATCH: u64 = 512;
/// Cluster time between two entries, and how long commands may be repeated: some fifty thousand ids are remembered.
const STEP: Millis = Millis(10);
const LIFETIME: Millis = Millis(1_000);
/// After connecting, so that what only the handshakes needed is let go.
const SETTLED: Duration = Duration::from_secs(3);

/// What the process that is measured takes: what its state holds, or the snapshot to load.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateArguments {
    agents: u64,
    instances: u64,
    revocations: u64,
    /// Where the snapshot is
    snapshot: PathBuf,
    /// Make the state and write the snapshot, rather than load it
    #[arg(long)]
    make: bool,
}

/// What one process held, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) seconds: f64,
    pub(crate) rss_mib: f64,
    pub(crate) peak_mib: f64,
}

/// Runs the process that is measured.
pub(crate) fn in_own_process(
    (agents, instances, revocations): (u64, u64, u64),
    snapshot: &Path,
    make: bool,
) -> Result<Held, Failure> {
    let program = std::env::current_exe().map_err(Failure::local("find this program"))?;
    let mut process = Process::new(program);
    process.arg("node-state").args([agents, instances, revocations].map(|number| number.to_string()));
    process.arg(snapshot).args(make.then_some("--make"));
    let output = process.output().map_err(Failure::local("start the process that is measured"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [seconds, rss_mib, peak_mib] if output.status.success() => Ok(Held { seconds, rss_mib, peak_mib }),
        _ => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// The process that is measured: prints seconds, resident MiB, and the most that was resident.
pub(crate) fn measured(arguments: &StateArguments) -> Result<(), Failure> {
    let start = Instant::now();
    let state = if arguments.make {
        make(arguments)?
    } else {
        let file = fs::File::open(&arguments.snapshot).map_err(Failure::local("open the snapshot"))?;
        snapshot::decode(&mut BufReader::new(file)).map_err(|error| failed(&error))?
    };
    let seconds = start.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status").map_err(Failure::local("read its own status"))?;
    println!("{seconds} {} {}", crate::memory::mib(&status, "VmRSS:"), crate::memory::mib(&status, "VmHWM:"));
    let held = (state.agents().len(), state.credentials().len(), state.revocations().len());
    let expected = (arguments.agents, arguments.instances, arguments.revocations);
    if (held.0 as u64, held.1 as u64, held.2 as u64) != expected {
        return Err(failed(&format!("it holds {held:?}, expected {expected:?}")));
    }
    if arguments.make {
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(fs::File::create(&arguments.snapshot)?);
            snapshot::encode(&state, &mut file)?;
            file.flush()
        };
        write().map_err(Failure::local("write the snapshot"))?;
    }
    Ok(())
}

/// The state, by the commands that lead to it.
fn make(arguments: &StateArguments) -> Result<State, Failure> {
    let mut log = Log::founded();
    let limits = Limits {
        instances: Some(INSTANCES_CEILING),
        credential_ttl: Some(CREDENTIAL_TTL_CEILING),
        ..Limits::default()
    };
    log.run(1, |_| {
        Command::FleetCreate(FleetCreate {
            path: FLEET.parse().expect("a path"),
            labels: Labels::default(),
            owner: "benchmarks".parse().expect("a text"),
            contact: "nobody@example.com".parse().expect("a text"),
            intent: Intent::default(),
            limits,
        })
    })?;
    log.run(arguments.agents, |number| {
        Command::AgentRegister(AgentRegister { path: agent(number), labels: Labels::default() })
    })?;
    log.run(arguments.instances, |number| {
        Command::CredentialIssue(CredentialIssue {
            credential: CredentialId(scattered(1, number)),
            instance: InstanceId(scattered(2, number)),
            grant: GrantId(scattered(3, number)),
            agent: agent(number % arguments.agents.max(1)),
            task: "invoices".parse().expect("a text"),
            scope: vec!["ledger.*".parse().expect("a pattern")],
            audience: None,
            ttl: None,
        })
    })?;
    log.run(arguments.revocations, |number| {
        let target = RevocationTarget::Credential(CredentialId(scattered(1, number)));
        Command::Revoke(Revoke { target, reason: "a benchmark".parse().expect("words") })
    })?;
    Ok(log.state)
}

fn agent(number: u64) -> haltline_core::path::AgentPath {
    format!("{FLEET}/bot-{number}").parse().expect("a path")
}

/// A machine and its clock.
struct Log {
    state: State,
    index: LogIndex,
    now: ClusterTime,
    made: u64,
    key: SigningKey,
    caller: Caller,
}

impl Log {
    fn founded() -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        let person: haltline_core::ids::PersonId = "ada".parse().expect("a name");
        let genesis = Genesis {
            cluster_id: CLUSTER,
            incarnation: Incarnation(0),
            trust_bundle: Digest([6; 32]),
            nodes: vec![NodeRecord {
                id: NodeId(1),
                name: "one".parse().expect("a name"),
                key_hash: KeyHash([2; 32]),
                signing_key: PublicKey([3; 32]),
            }],
            first_admin: PersonAdd {
                person: person.clone(),
                tls_keys: vec![KeyHash([1; 32])],
                signing_key: PublicKey(key.verifying_key().to_bytes()),
                roles: vec![RoleBinding { role: Role::Admin, path: None }],
            },
        };
        let (mut state, index) = (State::new(), LogIndex(1));
        state.apply(index, &Batch { genesis: Some(Box::new(genesis)), ..Batch::default() });
        Self { state, index, now: ClusterTime(1), made: 0, key, caller: person.into() }
    }

    /// So many commands, an entry for each few hundred.
    fn run(&mut self, number: u64, command: impl Fn(u64) -> Command) -> Result<(), Failure> {
        for first in (0..number).step_by(usize::try_from(BATCH).unwrap_or(1)) {
            let requests =
                (first..number.min(first + BATCH)).map(|number| self.request(command(number))).collect();
            self.index = self.index.next();
            self.now = self.now.plus(STEP);
            let batch = Batch { cluster_time: self.now, requests, applied: self.index, ..Batch::default() };
            let refused = self.state.apply(self.index, &batch).results.into_iter().find_map(Result::err);
            if let Some(refused) = refused {
                return Err(failed(&refused));
            }
        }
        Ok(())
    }

    fn request(&mut self, command: Command) -> Request {
        self.made += 1;
        let (id, deadline) = (RequestId(scattered(9, self.made)), self.now.plus(LIFETIME));
        let statement = Statement {
            cluster_id: CLUSTER,
            incarnation: Incarnation(0),
            request_id: id,
            requester: self.caller.person().expect("a person"),
            deadline,
            command: &command,
        };
        // What widens needs one.
        let signature = matches!(command, Command::CredentialIssue(_) | Command::FleetCreate(_))
            .then(|| Signature(self.key.sign(&statement.to_bytes()).to_bytes()));
        Request { id, caller: self.caller.clone(), deadline, signature, command }
    }
}

/// Resident KiB that each of so many enforcers costs a real node, each with a connection of its own.
pub(crate) async fn per_edge_kib(binary: &Path, edges: usize) -> Result<f64, Failure> {
    let cluster = HaltlineCluster::start(binary).await?;
    cluster.prepare_light().await?;
    let node = (cluster.leader().await + 1) % cluster.cluster.nodes.len();
    let pid = cluster.cluster.nodes[node].pid().unwrap_or_default();
    let setup = |edges| Setup { edges, connections: Connections::Own, probe_every: None, node: Some(node) };
    let resident = || -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        Ok(crate::memory::mib(&status.map_err(Failure::local("read a node's status"))?, "VmRSS:") * 1_024.0)
    };
    // Enrolled and warm, so that only streams are counted.
    drop(Swarm::start(&cluster, setup(1)).await?);
    tokio::time::sleep(SETTLED).await;
    let before = resident()?;
    let swarm = Swarm::start(&cluster, setup(edges)).await?;
    tokio::time::sleep(SETTLED).await;
    let after = resident()?;
    drop(swarm);
    Ok((after - before) / edges as f64)
}
