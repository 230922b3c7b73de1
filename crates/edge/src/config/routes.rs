//! Values of the configuration that have a form of their own: where this runs, and other ways to particular hubs.

use std::{collections::BTreeMap, fmt, str::FromStr};

use haltline_core::{
    ids::{EdgeName, NodeId},
    limits::{HUBS_MAX, PATH_SEGMENT_BYTES_MAX},
};
use haltline_pki::{Endpoint, KnownHub};

/// A place that people named, such as `eu-central`; may be empty. Compared by text, shown to operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Region(String);

impl Region {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = text.len() <= PATH_SEGMENT_BYTES_MAX && text.bytes().all(allowed);
        if fits { Ok(Self(text.into())) } else { Err(()) }
    }
}

/// Where this enforcer reaches particular hubs, if not at the addresses that the cluster tells: behind an address
/// translation, or through a proxy. Written `2=host:port, 3=host:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubRoutes(pub BTreeMap<NodeId, Endpoint>);

impl fmt::Display for HubRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.0.iter().try_for_each(|(node, endpoint)| {
            write!(f, "{separator}{node}={endpoint}")?;
            separator = ", ";
            Ok(())
        })
    }
}

impl FromStr for HubRoutes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let route = |part: &str| {
            let (node, endpoint) = part.split_once('=').ok_or(())?;
            Ok((NodeId(node.trim().parse().map_err(drop)?), endpoint.trim().parse().map_err(drop)?))
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(route).collect::<Result<_, ()>>().map(Self)
    }
}

/// Relays that this enforcer goes through instead of turning to nodes. Written `relay-1=host:port, relay-2=host:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relays(pub BTreeMap<EdgeName, Endpoint>);

impl Relays {
    /// The relays as hubs, each of which must prove its name.
    #[must_use]
    pub fn hubs(&self) -> Vec<KnownHub> {
        let hub = |(name, endpoint): (&EdgeName, &Endpoint)| KnownHub {
            endpoint: endpoint.clone().expecting_relay(name.clone()),
            region: String::new(),
        };
        self.0.iter().map(hub).collect()
    }
}

impl fmt::Display for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.0.iter().try_for_each(|(relay, endpoint)| {
            write!(f, "{separator}{relay}={endpoint}")?;
            separator = ", ";
            Ok(())
        })
    }
}

impl FromStr for Relays {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let relay = |part: &str| {
            let (name, endpoint) = part.split_once('=').ok_or(())?;
            Ok((name.trim().parse().map_err(drop)?, endpoint.trim().parse().map_err(drop)?))
        };
        let relays: BTreeMap<_, _> =
            text.split(',').filter(|part| !part.trim().is_empty()).map(relay).collect::<Result<_, ()>>()?;
        if relays.len() > HUBS_MAX { Err(()) } else { Ok(Self(relays)) }
    }
}
