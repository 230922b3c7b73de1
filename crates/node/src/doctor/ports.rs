//! The ports: free, or held by this very node; no two alike; and those that the founding tells others of.

use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

use haltline_core::ids::NodeId;

use super::{Finding, process};
use crate::{config::NodeConfig, founding::Founding};

/// Every port with its key.
fn all(config: &NodeConfig) -> [(&'static str, SocketAddr); 5] {
    [
        ("listen.api", config.listen_api),
        ("listen.raft", config.listen_raft),
        ("listen.http", config.listen_http),
        ("listen.edge", config.listen_edge),
        ("listen.public", config.listen_public),
    ]
}

/// Looks whether each port can be opened.
pub(super) fn check(config: &NodeConfig, running: Option<u32>, findings: &mut Vec<Finding>) {
    let ports = all(config);
    for (position, (key, address)) in ports.iter().enumerate() {
        let subject = format!("{key} = {address}");
        let earlier = ports[..position].iter().find(|(_, other)| clash(*other, *address));
        findings.push(match earlier {
            Some((other, _)) => Finding::fail("port", subject, format!("the same port as `{other}`"))
                .remedy("every port of a node is another one"),
            None => one(subject, *address, running),
        });
    }
}

/// Whether two sockets can't be open at once.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && overlap
}

fn one(subject: String, address: SocketAddr, running: Option<u32>) -> Finding {
    let error = match TcpListener::bind(address) {
        Ok(_) => return Finding::ok("port", subject, "free"),
        Err(error) => error,
    };
    let fail = |told: String, remedy: String| Finding::fail("port", &subject, told).remedy(remedy);
    match error.kind() {
        ErrorKind::AddrInUse => match (owner(address), running) {
            (Some(pid), Some(node)) if pid == node => {
                Finding::ok("port", subject, format!("held by this node itself, process {pid}"))
            }
            (Some(pid), _) => {
                let name = process::name(pid).unwrap_or_else(|| "another program".into());
                fail(
                    format!("taken by process {pid} ({name})"),
                    "end that process, or choose another port".into(),
                )
            }
            (None, Some(node)) => {
                Finding::note("port", subject, format!("taken, it seems by process {node}"))
                    .remedy("run this as the user that the node runs as, to be told")
            }
            (None, None) => fail(
                "taken by another process".into(),
                "`ss -ltnp` shows which; end it, or choose another port".into(),
            ),
        },
        ErrorKind::AddrNotAvailable => fail(
            format!("this machine has no address {}", address.ip()),
            format!("an address of this machine, or 0.0.0.0:{} for all of them", address.port()),
        ),
        ErrorKind::PermissionDenied => fail(
            "this user may not open it".into(),
            "a port from 1024 on, or run this as the user that the node runs as".into(),
        ),
        _ => fail(format!("can't be opened: {error}"), "`ip address` shows this machine's addresses".into()),
    }
}

/// The process that listens on a port, where `/proc` tells.
fn owner(address: SocketAddr) -> Option<u32> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inodes =
        tables.iter().flat_map(|table| table.lines()).filter_map(|line| listener(line, address.port()));
    inodes.into_iter().find_map(process::owners_of_socket)
}

/// The inode in a line of `/proc/net/tcp`, if it is of a socket that listens on this port.
fn listener(line: &str, port: u16) -> Option<u64> {
    const LISTENING: &str = "0A";
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
    let (_, hexadecimal) = local.rsplit_once(':')?;
    let is_it = u16::from_str_radix(hexadecimal, 16) == Ok(port) && *state == LISTENING;
    is_it.then(|| inode.parse().ok())?
}

/// Looks whether others are told of the ports that are opened here.
pub(super) fn check_against_founding(
    config: &NodeConfig,
    node: NodeId,
    founding: &Founding,
    findings: &mut Vec<Finding>,
) {
    let Some(own) = founding.nodes.iter().find(|founder| founder.id == node.0) else { return };
    for (key, listening, told) in [
        ("listen.api", config.listen_api, &own.api_address),
        ("listen.raft", config.listen_raft, &own.raft_address),
        ("listen.edge", config.listen_edge, &own.edge_address),
        ("listen.public", config.listen_public, &own.public_address),
    ] {
        let port = told.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port != Some(listening.port()) {
            let words = format!("others are told {told} by the founding");
            findings.push(
                Finding::warn("port", format!("{key} = {listening}"), words)
                    .remedy("the same port, unless an address translation stands between"),
            );
        }
    }
    for route in config.routes.0.keys() {
        if *route == node || !founding.nodes.iter().any(|founder| founder.id == route.0) {
            let words =
                if *route == node { "it is this node itself" } else { "the founding has no such node" };
            findings.push(
                Finding::warn("route", format!("peers.routes: {route}"), words)
                    .remedy("routes are for other nodes of this cluster"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_port_is_free_ours_or_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let own = std::process::id();
        assert_eq!(owner(address), Some(own));
        assert_eq!(one("x".into(), address, Some(own)).level, Level::Ok);
        let others = one("x".into(), address, None);
        assert_eq!(others.level, Level::Fail);
        assert!(others.told.contains(&format!("process {own}")), "{}", others.told);
        drop(taken);
        assert_eq!(one("x".into(), address, None).told, "free");
        assert!(
            one("x".into(), "192.0.2.1:7400".parse().unwrap(), None)
                .told
                .contains("has no address 192.0.2.1")
        );
    }

    #[test]
    fn all_addresses_clash_with_each() {
        let clashes = |one: &str, other: &str| clash(one.parse().unwrap(), other.parse().unwrap());
        assert!(clashes("0.0.0.0:7400", "127.0.0.1:7400"));
        assert!(clashes("127.0.0.1:7400", "127.0.0.1:7400"));
        assert!(!clashes("127.0.0.1:7400", "127.0.0.2:7400"));
        assert!(!clashes("127.0.0.1:7400", "127.0.0.1:7401"));
        assert!(!clashes("127.0.0.1:0", "127.0.0.1:0"));
    }
}
