//! The calling side: which nodes to ask, in whose name, and how long to keep trying.
//!
//! Every node takes every call, so a call goes to one node after another until one answers. A command keeps its request id
//! through all of that: whether or not an earlier attempt got through, it is carried out once.

mod attempt;
mod paging;
mod submit;
mod unary;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use haltline_core::ids::{ClusterId, Incarnation, NodeId};
use haltline_core::time::{ClusterTime, Millis};
use haltline_pki::{CertificateAlone, ClientTls, Dialer, Endpoint, PersonIdentity};
use haltline_wire::{
    refusal::Refusal,
    v1::{self, cluster_service_client::ClusterServiceClient},
};
use tokio::time::{Instant, timeout};
use tonic::{Response, Status, transport::Channel};

use crate::{args::Global, exit::Exit, failure::Failure, output::progress::Progress};
use attempt::{Attempt, Attempts};
pub(crate) use paging::{Paged, all_pages};
pub(crate) use submit::{Signing, random};

/// How long one node may take before the next one is asked.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence after which the next node is asked as well. Whoever answers first counts: reads change nothing, and a command
/// that reaches the log twice is carried out once.
const HEDGE_AFTER: Duration = Duration::from_millis(600);
/// The first pause after all nodes were asked in vain; it doubles each time.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// How often a person who waits is told.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where a person's identity is unless they say otherwise.
pub(crate) fn default_identity() -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    base.or(home).unwrap_or_default().join("haltline")
}

/// The directory that a person's identity is read from, or made in.
pub(crate) fn identity_directory(global: &Global) -> PathBuf {
    global.identity.clone().unwrap_or_else(default_identity)
}

/// What a client must know of a cluster to make commands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClusterFacts {
    /// The cluster, by the trust bundle: no node can make a person sign for another one.
    pub(crate) id: ClusterId,
    /// Its incarnation.
    pub(crate) incarnation: Incarnation,
    /// A node's estimate, never ahead of the leader's.
    pub(crate) now: ClusterTime,
}

/// One node to call.
#[derive(Debug, Clone)]
struct Node {
    endpoint: Endpoint,
    channel: Channel,
}

/// Calls a cluster in one person's name. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    identity: Arc<PersonIdentity>,
    dialer: Dialer,
    nodes: Vec<Node>,
    /// The node that answered last.
    preferred: Arc<AtomicUsize>,
    patience: Duration,
    approval_window: Millis,
}

impl Client {
    /// A client as the command line says.
    ///
    /// # Errors
    /// No identity, or one that can't be used.
    pub(crate) fn open(global: &Global) -> Result<Self, Failure> {
        let directory = identity_directory(global);
        if !directory.is_dir() {
            let message = format!("there is no identity in {}", directory.display());
            return Err(Failure::new(Exit::Usage, "NO_IDENTITY", message).hint(
                "name one with --identity DIR or HALTLINE_IDENTITY; `haltline init` makes the first admin's, \
                 `haltline operator request NAME` makes yours",
            ));
        }
        // Keys and a request, but no certificate: somebody between `operator request` and `operator accept`.
        if directory.join("request.json").exists() && !directory.join("identity.json").exists() {
            let message = format!("the identity in {} has no certificate yet", directory.display());
            return Err(Failure::new(Exit::Usage, "NO_CERTIFICATE_YET", message).hint(format!(
                "have an admin enrol {}, then take in what they give you with `haltline operator accept FILE`",
                directory.join("request.json").display()
            )));
        }
        let identity = PersonIdentity::load(&directory).map_err(Failure::from)?;
        let endpoints = if global.endpoints.is_empty() {
            identity.endpoints().to_vec()
        } else {
            global.endpoints.clone()
        };
        Self::new(identity, endpoints, global.timeout, global.approval_window)
    }

    /// A client that calls these endpoints.
    ///
    /// # Errors
    /// No endpoint, or an identity that can't be used.
    pub(crate) fn new(
        identity: PersonIdentity,
        endpoints: Vec<Endpoint>,
        patience: Duration,
        approval_window: Duration,
    ) -> Result<Self, Failure> {
        if endpoints.is_empty() {
            return Err(Failure::usage("no node to call: the identity names none")
                .hint("add --endpoint HOST:PORT, or set HALTLINE_ENDPOINTS"));
        }
        let tls = ClientTls::new(identity.tls(), identity.bundle(), Arc::new(CertificateAlone))?;
        let dialer = Dialer::new(tls);
        let nodes =
            endpoints.into_iter().map(|endpoint| node(&dialer, endpoint)).collect::<Result<_, _>>()?;
        Ok(Self {
            identity: Arc::new(identity),
            dialer,
            nodes,
            preferred: Arc::default(),
            patience,
            approval_window: Millis(u64::try_from(approval_window.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// Whose name it calls in.
    pub(crate) fn identity(&self) -> &PersonIdentity {
        &self.identity
    }

    /// The endpoints it calls.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.nodes.iter().map(|node| &node.endpoint)
    }

    /// A client of the same person for one node alone.
    ///
    /// # Errors
    /// An endpoint that can't be called.
    pub(crate) fn only(&self, endpoint: Endpoint, patience: Duration) -> Result<Self, Failure> {
        let nodes = vec![node(&self.dialer, endpoint)?];
        Ok(Self { nodes, patience, preferred: Arc::default(), ..self.clone() })
    }

    /// A channel to the node that answered last.
    pub(crate) fn channel(&self) -> Channel {
        self.nodes[self.preferred.load(Ordering::Relaxed) % self.nodes.len()].channel.clone()
    }

    /// Makes the next node the one to ask first.
    pub(crate) fn prefer_next(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }

    /// For how long to try.
    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks one node after another until one answers.
    ///
    /// # Errors
    /// A refusal, or nobody answered in time.
    pub(crate) async fn call<T, F, R>(&self, purpose: &str, call: F) -> Result<T, Failure>
    where
        F: Fn(Channel) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.patience;
        let mut progress = Progress::begin();
        let mut attempts = Attempts::default();
        let mut pause = PAUSE_FIRST;
        loop {
            match self.round(deadline, &mut progress, &mut attempts, purpose, &call).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(refusal)) => return Err(Failure::refused(&refusal)),
                None if Instant::now() >= deadline => return Err(attempts.timed_out(purpose, self.patience)),
                None if attempts.are_hopeless(self.nodes.len()) => return Err(attempts.hopeless()),
                None => {}
            }
            let wait = attempts.wanted_pause().unwrap_or(pause).min(PAUSE_MAX);
            tokio::time::sleep_until(deadline.min(Instant::now() + jittered(wait))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks the node that answered last, once, and gives it this long: for what takes a node its time.
    ///
    /// # Errors
    /// A refusal, or no answer in time.
    pub(crate) async fn call_once<T, F, R>(
        &self,
        purpose: &str,
        limit: Duration,
        call: F,
    ) -> Result<T, Failure>
    where
        F: FnOnce(Channel) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let position = self.preferred.load(Ordering::Relaxed) % self.nodes.len();
        let attempt = match timeout(limit, call(self.channel())).await {
            Ok(result) => Attempt::of(result),
            Err(_) => Attempt::silent(limit),
        };
        match attempt {
            Attempt::Answered(answer) => Ok(answer.into_inner()),
            Attempt::Refused(refusal) => Err(Failure::refused(&refusal)),
            Attempt::InVain(vain) => {
                let mut attempts = Attempts::default();
                attempts.add(&self.nodes[position].endpoint, vain);
                Err(attempts.timed_out(purpose, limit))
            }
        }
    }

    /// Asks every node once, the next one when the last one failed or is slow. `None` if all were in vain.
    async fn round<T, F, R>(
        &self,
        deadline: Instant,
        progress: &mut Progress,
        attempts: &mut Attempts,
        purpose: &str,
        call: &F,
    ) -> Option<Result<T, Refusal>>
    where
        F: Fn(Channel) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut next = (0..self.nodes.len()).map(|offset| (first + offset) % self.nodes.len()).peekable();
        let mut asked = FuturesUnordered::new();
        let mut ask_next_at = Instant::now();
        loop {
            if (asked.is_empty() || Instant::now() >= ask_next_at)
                && let Some(position) = next.next()
            {
                let attempt = within(deadline, call(self.nodes[position].channel.clone()));
                asked.push(async move { (position, attempt.await) });
                ask_next_at = Instant::now() + HEDGE_AFTER;
            }
            let wake = if next.peek().is_some() { ask_next_at } else { deadline };
            tokio::select! {
                answered = asked.next() => match answered? {
                    (position, Attempt::Answered(answer)) => {
                        self.preferred.store(position, Ordering::Relaxed);
                        return Some(Ok(answer.into_inner()));
                    }
                    (_, Attempt::Refused(refusal)) => return Some(Err(refusal)),
                    (position, Attempt::InVain(vain)) => {
                        attempts.add(&self.nodes[position].endpoint, vain);
                        ask_next_at = Instant::now();
                        if asked.is_empty() && (next.peek().is_none() || Instant::now() >= deadline) {
                            return None;
                        }
                    }
                },
                () = tokio::time::sleep_until(wake.min(Instant::now() + TELL_EVERY)) => progress.tell(purpose),
            }
        }
    }

    /// The cluster as a node knows it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn cluster(&self) -> Result<v1::Cluster, Failure> {
        self.call("asking for the cluster", |channel| async move {
            ClusterServiceClient::new(channel).get_cluster(v1::GetClusterRequest {}).await
        })
        .await
    }

    /// What commands need.
    ///
    /// # Errors
    /// As [`Client::call`], or the nodes are of another cluster.
    pub(crate) async fn facts(&self) -> Result<ClusterFacts, Failure> {
        self.facts_of(&self.cluster().await?)
    }

    /// What commands need, from what a node said.
    ///
    /// # Errors
    /// The node is of another cluster than the identity.
    pub(crate) fn facts_of(&self, cluster: &v1::Cluster) -> Result<ClusterFacts, Failure> {
        let id = self.identity.bundle().cluster();
        if cluster.cluster_id != id.0 {
            let got = crate::output::value::hex(&cluster.cluster_id);
            return Err(Failure::protocol(format!("the node says it is of cluster {got}, not {id}")));
        }
        let incarnation = Incarnation(cluster.incarnation);
        Ok(ClusterFacts { id, incarnation, now: ClusterTime(cluster.cluster_time_ms) })
    }

    /// Every node known: those of the cluster's list, and those that were named for calling.
    pub(crate) fn all_endpoints(&self, cluster: &v1::Cluster) -> Vec<Endpoint> {
        let listed = cluster.nodes.iter().filter_map(|node| {
            node.api_address.parse::<Endpoint>().ok().map(|endpoint| endpoint.expecting(NodeId(node.id)))
        });
        let mut all: Vec<Endpoint> = listed.collect();
        for endpoint in self.endpoints() {
            if !all.iter().any(|known| known.to_string() == endpoint.to_string()) {
                all.push(endpoint.clone());
            }
        }
        all
    }
}

fn node(dialer: &Dialer, endpoint: Endpoint) -> Result<Node, Failure> {
    let channel = dialer
        .connect_lazy(&endpoint)
        .map_err(|failure| Failure::usage(format!("--endpoint {endpoint}: {failure}")))?;
    Ok(Node { endpoint, channel })
}

/// Waits for one attempt.
async fn within<T>(deadline: Instant, call: impl Future<Output = Result<Response<T>, Status>>) -> Attempt<T> {
    let limit = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT_TIMEOUT);
    match timeout(limit, call).await {
        Ok(result) => Attempt::of(result),
        Err(_) => Attempt::silent(limit),
    }
}

/// Half to all of a pause, so that many clients don't come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the pause is merely the same for everybody.
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 255 };
    pause / 2 + pause / 2 * share / 255
}
