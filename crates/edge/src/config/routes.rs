//! Values of the configuration that have a form of their own: where this runs, and other ways to particular hubs.

use std::{collections::BTreeMap, fmt, str::FromStr};

use haltline_core::{ids::NodeId, limits::PATH_SEGMENT_BYTES_MAX};
use haltline_pki::Endpoint;

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
