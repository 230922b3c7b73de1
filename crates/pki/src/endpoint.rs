//! Where a node is reached, and which node is meant.

use std::{fmt, net::IpAddr, str::FromStr};

use haltline_core::ids::NodeId;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::error::PkiError;

/// Host, port and, where it matters, the node that must answer. Written `host:port` or `[ipv6]:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: Host,
    port: u16,
    node: Option<NodeId>,
}

/// A DNS name, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Endpoint {
    /// The same place, where this node must answer: its SPIFFE ID is checked, and its host names aren't.
    #[must_use]
    pub fn expecting(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// The node that must answer; without one, any node whose certificate holds the host.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// Host and port for opening a connection.
    pub(crate) fn socket_target(&self) -> (String, u16) {
        match &self.host {
            Host::Name(name) => (name.clone(), self.port),
            Host::Address(address) => (address.to_string(), self.port),
        }
    }

    /// The name for the handshake.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, PkiError> {
        match &self.host {
            Host::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|_| PkiError::Endpoint { got: self.to_string() })
            }
            Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

impl FromStr for Endpoint {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        let bad = || PkiError::Endpoint { got: text.chars().take(80).flat_map(char::escape_debug).collect() };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(inner)) => Host::Address(IpAddr::V6(inner.parse().map_err(|_| bad())?)),
            Some(None) => return Err(bad()),
            None => match ServerName::try_from(host) {
                Ok(ServerName::DnsName(name)) => Host::Name(name.as_ref().to_ascii_lowercase()),
                // An IPv6 address without brackets leaves open where the port begins.
                Ok(ServerName::IpAddress(address)) => match IpAddr::from(address) {
                    address @ IpAddr::V4(_) => Host::Address(address),
                    IpAddr::V6(_) => return Err(bad()),
                },
                _ => return Err(bad()),
            },
        };
        Ok(Self { host, port, node: None })
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { host: Host::Address(address.ip()), port: address.port(), node: None }
    }
}

/// In files: `{"address": "host:port", "node": 1}`, the node being optional.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointFile {
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<u64>,
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EndpointFile { address: self.to_string(), node: self.node.map(|node| node.0) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = EndpointFile::deserialize(deserializer)?;
        let endpoint: Self = file.address.parse().map_err(serde::de::Error::custom)?;
        Ok(Self { node: file.node.map(NodeId), ..endpoint })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn endpoints_round_trip() {
        for text in ["localhost:7001", "10.0.0.1:1", "[::1]:65535", "node-1.example.com:443"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            for endpoint in [endpoint.clone(), endpoint.expecting(NodeId(3))] {
                let json = serde_json::to_string(&endpoint).unwrap();
                assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
            }
        }
    }

    #[test]
    fn bad_endpoints_say_what_was_expected() {
        for text in [
            "",
            "localhost",
            "localhost:",
            "localhost:70000",
            "::1:7001",
            "[::1:7001",
            "a b:1",
            "http://a:1",
            ":1",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains("expected HOST:PORT"), "{text}: {error}");
        }
    }
}
