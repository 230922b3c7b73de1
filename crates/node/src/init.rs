//! The creation of a cluster's directories: what `haltline init` runs.
//!
//! ```text
//! <out>/root/          root.crt, root.key: keep them offline; needed only for new intermediates
//!       admin/         the first person's identity
//!       <node name>/   node.toml, founding.json, identity/; copy it to the node's machine, start the node with it
//! ```

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use haltline_core::{
    ids::{ClusterId, Digest, NodeId, PersonId},
    limits::{
        API_IN_FLIGHT_PER_STREAM, API_STREAMS_PER_CONNECTION, EVENT_WATCHERS_MAX, NODES_MAX,
        TLS_CONNECTIONS_MAX,
    },
    path::FleetPath,
};
use haltline_pki::{ClusterPki, Endpoint, NewNode, NodeIdentity, PersonIdentity, Validity};

use crate::{
    config::{ByteSize, DEFAULT_FILTER, LogFormat, NodeConfig, Profile, Routes},
    error::NodeError,
    founding::{FirstAdmin, Founder, Founding},
};

/// Name of a node's configuration file.
pub const CONFIG_FILE: &str = "node.toml";
/// Name of the founding file.
pub const FOUNDING_FILE: &str = "founding.json";
/// Directory of the first person's identity.
pub const ADMIN_DIRECTORY: &str = "admin";
/// Directory of the exported root key.
pub const ROOT_DIRECTORY: &str = "root";

/// A node to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitNode {
    /// Its name, for people and for its directory: 1 to 63 of `a-z 0-9 . _ -`.
    pub name: String,
    /// `host:port` at which clients reach it.
    pub api_address: String,
    /// `host:port` at which the other nodes reach it.
    pub raft_address: String,
    /// Where it serves health and metrics; plain HTTP, so on loopback.
    pub http_address: SocketAddr,
    /// `host:port` at which edges and relays reach it.
    pub edge_address: String,
    /// `host:port` at which an edge that isn't enrolled yet reaches it.
    pub public_address: String,
    /// Where it stands, so that enforcers find the nearest; may be empty.
    pub region: String,
}

/// A cluster to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitOptions {
    /// The directory to make; it may exist if it is empty.
    pub out: PathBuf,
    /// The founding nodes, numbered from 1 in this order.
    pub nodes: Vec<InitNode>,
    /// The first person.
    pub admin: PersonId,
    /// How far apart the nodes are.
    pub profile: Profile,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReport {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Hash of the trust bundle, to be compared over a channel one trusts.
    pub trust_bundle: Digest,
    /// Where the root key is: move it offline.
    pub root_directory: PathBuf,
    /// Where the first person's identity is.
    pub admin_directory: PathBuf,
    /// The nodes: number, directory, configuration file.
    pub nodes: Vec<InitReportNode>,
}

/// A node that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReportNode {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Its configuration file, for `haltline node --config`.
    pub config_file: PathBuf,
}

/// Makes keys, certificates, identities and configurations of a new cluster. Writes nothing into a directory that holds
/// something already.
///
/// # Errors
/// [`NodeError::BadInit`] for what can't be, [`NodeError::Exists`], [`NodeError::Pki`], [`NodeError::Io`].
pub fn create_cluster(options: &InitOptions) -> Result<InitReport, NodeError> {
    let numbered: Vec<_> = (1..).map(NodeId).zip(&options.nodes).collect();
    let planned = plan(&numbered)?;
    refuse_full_directory(&options.out)?;
    let new_nodes: Vec<_> =
        planned.iter().map(|node| NewNode { id: node.id, hosts: node.hosts.clone() }).collect();
    let pki = ClusterPki::create(&new_nodes)?;
    let endpoints = planned.iter().map(|node| node.api.clone().expecting(node.id)).collect();
    let admin = pki.create_person(&options.admin, endpoints, Validity::leaf())?;
    let founding = founding(&pki, &planned, &admin)?;

    let out = &options.out;
    pki.save_root(&out.join(ROOT_DIRECTORY))?;
    admin.save(&out.join(ADMIN_DIRECTORY))?;
    let mut nodes = Vec::with_capacity(planned.len());
    for (node, identity) in planned.iter().zip(pki.nodes()) {
        let directory = out.join(&node.spec.name);
        identity.save(&directory.join("identity"))?;
        let config_file = directory.join(CONFIG_FILE);
        write(&directory.join(FOUNDING_FILE), &founding.to_json())?;
        write(&config_file, &node.config(options.profile).to_toml())?;
        nodes.push(InitReportNode { id: node.id, name: node.spec.name.clone(), directory, config_file });
    }
    Ok(InitReport {
        cluster: pki.cluster(),
        trust_bundle: pki.bundle().hash(),
        root_directory: out.join(ROOT_DIRECTORY),
        admin_directory: out.join(ADMIN_DIRECTORY),
        nodes,
    })
}

/// A node whose addresses have been understood.
pub(crate) struct Planned<'a> {
    pub(crate) id: NodeId,
    pub(crate) spec: &'a InitNode,
    api: Endpoint,
    pub(crate) hosts: Vec<String>,
    listen_api: SocketAddr,
    listen_raft: SocketAddr,
    listen_edge: SocketAddr,
    listen_public: SocketAddr,
}

impl Planned<'_> {
    /// The configuration of a node in a directory of its own.
    pub(crate) fn config(&self, profile: Profile) -> NodeConfig {
        NodeConfig {
            data_dir: "data".into(),
            identity_dir: "identity".into(),
            founding_file: FOUNDING_FILE.into(),
            listen_api: self.listen_api,
            listen_raft: self.listen_raft,
            listen_http: self.spec.http_address,
            listen_edge: self.listen_edge,
            listen_public: self.listen_public,
            routes: Routes::default(),
            http_beyond_loopback: !self.spec.http_address.ip().is_loopback(),
            profile,
            log_format: LogFormat::Auto,
            log_filter: DEFAULT_FILTER.into(),
            connections_max: TLS_CONNECTIONS_MAX,
            streams_per_connection_max: API_STREAMS_PER_CONNECTION,
            in_flight_per_stream_max: API_IN_FLIGHT_PER_STREAM,
            watchers_max: EVENT_WATCHERS_MAX,
            snapshot_after_entries: 100_000,
            snapshot_after: ByteSize(256 << 20),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Understands the addresses of numbered nodes, and refuses what they can't share.
pub(crate) fn plan<'a>(nodes: &[(NodeId, &'a InitNode)]) -> Result<Vec<Planned<'a>>, NodeError> {
    let bad = NodeError::BadInit;
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return Err(bad(format!("expected 1 to {NODES_MAX} nodes, got {}", nodes.len())));
    }
    let mut taken = BTreeSet::new();
    let mut planned = Vec::new();
    for (id, spec) in nodes.iter().copied() {
        // A fleet of one segment has the form of a directory's name that is safe everywhere.
        let is_name = spec.name.parse::<FleetPath>().is_ok_and(|path| path.depth() == 1);
        if !is_name || [ADMIN_DIRECTORY, ROOT_DIRECTORY].contains(&spec.name.as_str()) {
            return Err(bad(format!(
                "`{}` is no name for a node; expected 1 to 63 of a-z 0-9 . _ -, not `{ADMIN_DIRECTORY}` or \
                 `{ROOT_DIRECTORY}`",
                spec.name
            )));
        }
        for one in unique(spec) {
            if !taken.insert(one.clone()) {
                return Err(bad(format!(
                    "`{one}` is used twice; every node needs its own name and addresses"
                )));
            }
        }
        planned.push(planned_node(id, spec)?);
    }
    Ok(planned)
}

/// What no two nodes may have in common.
fn unique(spec: &InitNode) -> [String; 6] {
    [
        spec.name.clone(),
        spec.api_address.clone(),
        spec.raft_address.clone(),
        spec.http_address.to_string(),
        spec.edge_address.clone(),
        spec.public_address.clone(),
    ]
}

fn planned_node(id: NodeId, spec: &InitNode) -> Result<Planned<'_>, NodeError> {
    let (api, api_host, listen_api) = understood(&spec.api_address)?;
    let (_, raft_host, listen_raft) = understood(&spec.raft_address)?;
    let (_, edge_host, listen_edge) = understood(&spec.edge_address)?;
    let (_, public_host, listen_public) = understood(&spec.public_address)?;
    let hosts = BTreeSet::from([api_host, raft_host, edge_host, public_host]).into_iter().collect();
    Ok(Planned { id, spec, api, hosts, listen_api, listen_raft, listen_edge, listen_public })
}

/// An advertised address, its host, and where to listen for it: the address itself, or every address for a DNS name.
fn understood(address: &str) -> Result<(Endpoint, String, SocketAddr), NodeError> {
    let endpoint: Endpoint = address.parse()?;
    let text = endpoint.to_string();
    if let Ok(socket) = text.parse::<SocketAddr>() {
        if socket.ip().is_unspecified() || socket.port() == 0 {
            return Err(NodeError::BadInit(format!(
                "`{address}` is no address at which others reach a node; name its own address and port"
            )));
        }
        return Ok((endpoint, socket.ip().to_string(), socket));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text.as_str(), ""));
    let port = port.parse().map_err(|_| NodeError::BadInit(format!("`{address}` has no port")))?;
    let everywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    Ok((endpoint, host.to_owned(), everywhere))
}

fn founding(
    pki: &ClusterPki,
    planned: &[Planned<'_>],
    admin: &PersonIdentity,
) -> Result<Founding, NodeError> {
    let (tls_key, signing_key) = admin.keys();
    let first_admin = FirstAdmin { name: admin.person().clone(), tls_key, signing_key };
    Founding::new(pki.cluster(), pki.bundle().hash(), founders(planned, pki.nodes())?, first_admin)
}

/// The nodes with their keys, each with the identity at its place.
pub(crate) fn founders(
    planned: &[Planned<'_>],
    identities: &[NodeIdentity],
) -> Result<Vec<Founder>, NodeError> {
    let mut founders = Vec::with_capacity(planned.len());
    for (node, identity) in planned.iter().zip(identities) {
        let keys = identity.trusted();
        let text = |text: &str| {
            text.parse().map_err(|error| NodeError::BadInit(format!("node {}: {error}", node.id)))
        };
        founders.push(Founder {
            id: node.id.0,
            name: text(&node.spec.name)?,
            api_address: node.spec.api_address.clone(),
            raft_address: node.spec.raft_address.clone(),
            edge_address: node.spec.edge_address.clone(),
            public_address: node.spec.public_address.clone(),
            region: text(&node.spec.region)?,
            tls_key: keys.tls_key,
            signing_key: keys.signing_key,
        });
    }
    Ok(founders)
}

pub(crate) fn refuse_full_directory(path: &Path) -> Result<(), NodeError> {
    match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(NodeError::io("read", path, error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(NodeError::Exists { path: path.into() }),
        },
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), NodeError> {
    std::fs::write(path, text).map_err(|error| NodeError::io("write", path, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(number: u16) -> InitNode {
        InitNode {
            name: format!("node-{number}"),
            api_address: format!("127.0.0.1:{}", 7400 + 10 * number),
            raft_address: format!("127.0.0.1:{}", 7401 + 10 * number),
            http_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7402 + 10 * number)),
            edge_address: format!("127.0.0.1:{}", 7403 + 10 * number),
            public_address: format!("127.0.0.1:{}", 7404 + 10 * number),
            region: "eu-1".into(),
        }
    }

    fn options(out: &Path, nodes: Vec<InitNode>) -> InitOptions {
        InitOptions { out: out.join("cluster"), nodes, admin: "ada".parse().unwrap(), profile: Profile::Lan }
    }

    #[test]
    fn a_cluster_is_made_and_its_parts_fit_together() {
        let home = tempfile::tempdir().unwrap();
        let options = options(home.path(), vec![node(1), node(2), node(3)]);
        let report = create_cluster(&options).unwrap();
        let admin = PersonIdentity::load(&report.admin_directory).unwrap();
        assert_eq!(admin.endpoints().len(), 3);
        for made in &report.nodes {
            let config = NodeConfig::load(Some(&made.config_file)).unwrap();
            assert_eq!(config.data_dir, made.directory.join("data"));
            let identity = NodeIdentity::load(&config.identity_dir).unwrap();
            let founding = Founding::load(&config.founding_file).unwrap();
            let genesis = founding.genesis();
            assert_eq!((identity.id(), genesis.cluster_id), (made.id, report.cluster));
            let record = genesis.nodes.iter().find(|node| node.id == made.id).unwrap();
            assert_eq!(record.key_hash, identity.trusted().tls_key);
            assert_eq!(genesis.first_admin.tls_keys, [admin.keys().0]);
            assert_eq!(genesis.trust_bundle, identity.bundle().hash());
        }
        assert!(report.root_directory.join("root.key").exists());
        assert!(matches!(create_cluster(&options), Err(NodeError::Exists { .. })));
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_written() {
        let home = tempfile::tempdir().unwrap();
        let error =
            |nodes: Vec<InitNode>| create_cluster(&options(home.path(), nodes)).unwrap_err().to_string();
        assert!(error(vec![]).contains("expected 1 to 32 nodes, got 0"));
        assert!(error(vec![node(1), node(1)]).contains("is used twice"));
        assert!(error(vec![InitNode { name: "../x".into(), ..node(1) }]).contains("is no name for a node"));
        assert!(error(vec![InitNode { name: "root".into(), ..node(1) }]).contains("is no name for a node"));
        let open = InitNode { api_address: "0.0.0.0:1".into(), ..node(1) };
        assert!(error(vec![open]).contains("no address at which others reach"));
        assert!(
            error(vec![InitNode { api_address: "nowhere".into(), ..node(1) }]).contains("expected HOST:PORT")
        );
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_founding_that_was_tampered_with_says_what_is_wrong() {
        let home = tempfile::tempdir().unwrap();
        let report = create_cluster(&options(home.path(), vec![node(1)])).unwrap();
        let path = report.nodes[0].directory.join(FOUNDING_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to, what) in [
            ("\"format\": 2", "\"format\": 9", "expected format 2, got 9"),
            ("127.0.0.1:7410", "nowhere", "expected HOST:PORT"),
            ("\"cluster\"", "\"clutter\"", "unknown field `clutter`"),
        ] {
            write(&path, &text.replace(from, to)).unwrap();
            let error = Founding::load(&path).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
