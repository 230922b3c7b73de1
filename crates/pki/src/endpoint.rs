//! Where a node is reached, and which node is meant.

use std::{fmt, net::IpAddr, str::FromStr};

use haltline_core::ids::{EdgeName, NodeId};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::{error::PkiError, verify::Expected};

/// Host, port and, where it matters, the node that must answer. Written `host:port` or `[ipv6]:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: Host,
    port: u16,
    meant: Meant,
}

/// Who must answer at an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Meant {
    /// Any node whose certificate holds the host.
    #[default]
    Host,
    Node(NodeId),
    Relay(EdgeName),
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
        Self { meant: Meant::Node(node), ..self }
    }

    /// The same place, where this relay must answer: its SPIFFE ID is checked. Relays are known by name alone.
    #[must_use]
    pub fn expecting_relay(self, relay: EdgeName) -> Self {
        Self { meant: Meant::Relay(relay), ..self }
    }

    /// The same place, whoever answers.
    pub(crate) fn anyone(&self) -> Self {
        Self { meant: Meant::Host, ..self.clone() }
    }

    /// The node that must answer; without one (and without a relay), any node whose certificate holds the host.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        match self.meant {
            Meant::Node(node) => Some(node),
            Meant::Host | Meant::Relay(_) => None,
        }
    }

    /// The relay that must answer.
    #[must_use]
    pub const fn relay(&self) -> Option<&EdgeName> {
        match &self.meant {
            Meant::Relay(relay) => Some(relay),
            Meant::Host | Meant::Node(_) => None,
        }
    }

    pub(crate) fn expected(&self) -> Expected {
        match &self.meant {
            Meant::Host => Expected::Host,
            Meant::Node(node) => Expected::Node(*node),
            Meant::Relay(relay) => Expected::Relay(relay.clone()),
        }
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
        Ok(Self { host, port, meant: Meant::Host })
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { host: Host::Address(address.ip()), port: address.port(), meant: Meant::Host }
    }
}

/// In files: `{"address": "host:port"}`, with a `"node": 1` or `"relay": "name"` where one is meant.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointFile {
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relay: Option<EdgeName>,
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (node, relay) = (self.node().map(|node| node.0), self.relay().cloned());
        EndpointFile { address: self.to_string(), node, relay }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = EndpointFile::deserialize(deserializer)?;
        let endpoint: Self = file.address.parse().map_err(serde::de::Error::custom)?;
        let meant = match (file.node, file.relay) {
            (None, None) => Meant::Host,
            (Some(node), None) => Meant::Node(NodeId(node)),
            (None, Some(relay)) => Meant::Relay(relay),
            (Some(_), Some(_)) => return Err(serde::de::Error::custom("`node` or `relay`, not both")),
        };
        Ok(Self { meant, ..endpoint })
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
            let relay = endpoint.clone().expecting_relay("relay-1".parse().unwrap());
            for endpoint in [endpoint.clone(), endpoint.expecting(NodeId(3)), relay] {
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
