//! `haltline init`: a new cluster as a directory, and what to do with each part of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use haltline_node::{
    ConfigError, NodeError, Profile,
    init::{InitNode, InitOptions, InitReport, create_cluster},
};
use serde_json::{Value, json};

use crate::{
    args::{Distance, InitArgs},
    exit::Exit,
    failure::Failure,
    output::{Render, Screen, page::Page, table::Tone},
};

/// Nodes where none is named: the fewest that survive a loss.
const NODES_DEFAULT: usize = 3;
/// Ports from one node's first to the next one's.
const PORT_STEP: u16 = 10;

/// Creates a cluster.
pub(super) fn run(args: &InitArgs, screen: Screen) -> Result<Exit, Failure> {
    let local = || vec![Ipv4Addr::LOCALHOST.to_string(); NODES_DEFAULT];
    let hosts = if args.nodes.is_empty() { local() } else { args.nodes.clone() };
    let nodes = hosts.iter().zip(1..).map(|(host, number)| node(host, number, args.port));
    let options = InitOptions {
        out: args.dir.clone(),
        nodes: nodes.collect::<Result<_, _>>()?,
        admin: args.admin.clone(),
        profile: match args.profile {
            Distance::Lan => Profile::Lan,
            Distance::Wan => Profile::Wan,
        },
    };
    let report = create_cluster(&options).map_err(|error| failure(&error))?;
    screen.print(&Created { report, admin: args.admin.to_string() })?;
    Ok(Exit::Done)
}

pub(super) fn node(host: &str, number: u16, first_port: u16) -> Result<InitNode, Failure> {
    let (host, region) = host.split_once('@').unwrap_or((host, ""));
    let out_of_ports = || Failure::usage(format!("node {number} would need a port beyond 65535"));
    let port = (number - 1)
        .checked_mul(PORT_STEP)
        .and_then(|offset| first_port.checked_add(offset))
        .filter(|port| *port <= u16::MAX - 4)
        .ok_or_else(out_of_ports)?;
    let address = |port: u16| match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(host)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    Ok(InitNode {
        name: format!("node-{number}"),
        api_address: address(port),
        raft_address: address(port + 1),
        http_address: SocketAddr::from((Ipv4Addr::LOCALHOST, port + 2)),
        edge_address: address(port + 3),
        public_address: address(port + 4),
        region: region.to_owned(),
    })
}

/// Why a node or a cluster didn't come to be.
pub(crate) fn failure(error: &NodeError) -> Failure {
    let exit = match error {
        NodeError::Config(_) | NodeError::BadInit(_) | NodeError::Exists { .. } => Exit::Usage,
        _ => Exit::Refused,
    };
    let failure = Failure::new(exit, error.code().to_ascii_uppercase(), error.to_string());
    match error {
        NodeError::Config(ConfigError::Missing { .. } | ConfigError::Read { .. }) => {
            failure.hint("name the node's file with --config FILE; `haltline init` writes one for each node")
        }
        NodeError::Config(_) => failure
            .hint("`haltline node --config FILE --print-config` shows every key in effect, with its meaning"),
        NodeError::BadInit(_) => failure.hint("`haltline init --help` shows how to name nodes"),
        NodeError::Founding { .. } => failure.hint(
            "`founding_file` must be the founding.json that `haltline init` wrote for this cluster, the same on every node",
        ),
        NodeError::Bind { .. } | NodeError::Io { .. } | NodeError::Pki(_) | NodeError::Storage(_) => {
            failure.hint("`haltline node check-config --config FILE` looks at everything that the configuration names")
        }
        _ => failure,
    }
}

struct Created {
    report: InitReport,
    admin: String,
}

impl Render for Created {
    fn page(&self, page: &mut Page) {
        let report = &self.report;
        page.toned(format!("Created cluster {}.", report.cluster), Tone::Good);
        page.gap();
        page.facts([
            ("root key", Some(report.root_directory.display().to_string())),
            ("identity", Some(report.admin_directory.display().to_string())),
            ("trust bundle", Some(report.trust_bundle.to_string())),
        ]);
        page.gap();
        page.toned(
            "Move the root key offline now: whoever has it can make certificates. Nothing needs it day to day.",
            Tone::Warn,
        );
        page.line("Copy each node's directory to its machine, and start the nodes:");
        for node in &report.nodes {
            page.line(format!("  haltline node --config {}", node.config_file.display()));
        }
        page.line(format!("Then, as {}:", self.admin));
        page.line(format!("  haltline --identity {} status", report.admin_directory.display()));
        page.line("One person may do everything until a second one is enrolled: `haltline operator add`.");
    }

    fn value(&self) -> Value {
        let report = &self.report;
        let node = |node: &haltline_node::init::InitReportNode| {
            json!({
                "id": node.id.0,
                "name": node.name,
                "directory": node.directory.display().to_string(),
                "config_file": node.config_file.display().to_string(),
            })
        };
        json!({
            "cluster_id": report.cluster.to_string(),
            "trust_bundle_hash": report.trust_bundle.to_string(),
            "root_directory": report.root_directory.display().to_string(),
            "admin": self.admin,
            "admin_directory": report.admin_directory.display().to_string(),
            "nodes": report.nodes.iter().map(node).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_one_machine_dont_share_ports() {
        let first = node("127.0.0.1", 1, 7400).expect("ports");
        let second = node("::1", 2, 7400).expect("ports");
        assert_eq!(
            (first.api_address.as_str(), first.raft_address.as_str()),
            ("127.0.0.1:7400", "127.0.0.1:7401")
        );
        assert_eq!((second.api_address.as_str(), second.http_address.port()), ("[::1]:7410", 7412));
        assert_eq!(
            (second.edge_address.as_str(), second.public_address.as_str()),
            ("[::1]:7413", "[::1]:7414")
        );
        assert!(node("a", 40, 65_500).is_err());
        assert!(node("a", 1, u16::MAX - 3).is_err(), "the last of five ports would be beyond 65535");
    }

    #[test]
    fn a_host_may_say_its_region() {
        let there = node("eu1.example.com@eu-west", 1, 7400).expect("ports");
        assert_eq!((there.edge_address.as_str(), there.region.as_str()), ("eu1.example.com:7403", "eu-west"));
        assert_eq!(node("127.0.0.1", 1, 7400).expect("ports").region, "");
    }
}
