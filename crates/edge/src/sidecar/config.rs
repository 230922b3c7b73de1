//! What a sidecar is configured with: the keys `sidecar.*` of an enforcer's configuration.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use haltline_core::{
    ids::ClusterId,
    limits::{SIDECAR_AUDIENCES_MAX, TEXT_BYTES_MAX},
};
use haltline_wire::token_names;

use super::action_rules::ActionRules;

/// What the sidecar serves, where, and how it reads requests. See [`crate::config::KEYS`] for what each field is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarConfig {
    /// `sidecar.grpc`
    pub grpc: Listen,
    /// `sidecar.http`
    pub http: Listen,
    /// `sidecar.probes`
    pub probes: Listen,
    /// `sidecar.probes_beyond_loopback`
    pub probes_beyond_loopback: bool,
    /// `sidecar.actions`
    pub actions: ActionRules,
    /// `sidecar.token_header`
    pub token_header: HeaderName,
    /// `sidecar.token_scheme`
    pub token_scheme: Scheme,
    /// `sidecar.audiences`
    pub audiences: Audiences,
    /// `sidecar.fail_open`
    pub fail_open: bool,
    /// `sidecar.drain_timeout`
    pub drain_timeout: Duration,
}

/// Why a configuration of a sidecar was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SidecarConfigError {
    /// Callers would be reachable from other machines, and answers readable there.
    #[error(
        "`{key}` is {address}, which isn't loopback, and the sidecar speaks without TLS and takes its callers' word; use \
         127.0.0.1, [::1] or `unix:/PATH`"
    )]
    BeyondLoopback {
        /// Which key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Health and metrics for other machines, without having said so.
    #[error(
        "`sidecar.probes` is {address}, which isn't loopback, and health and metrics are served without TLS; use 127.0.0.1, \
         or set `sidecar.probes_beyond_loopback = true` where the network is yours alone"
    )]
    ProbesBeyondLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Nothing to serve.
    #[error("`sidecar.grpc` and `sidecar.http` are both off, so nobody could ask; set one of them")]
    NothingServed,
}

impl SidecarConfig {
    /// Checks what no single key can.
    ///
    /// # Errors
    /// The first thing that is wrong, with what would be right.
    pub fn check(&self) -> Result<(), SidecarConfigError> {
        for (key, listen) in [("sidecar.grpc", &self.grpc), ("sidecar.http", &self.http)] {
            if let Some(address) = listen.beyond_loopback() {
                return Err(SidecarConfigError::BeyondLoopback { key, address });
            }
        }
        match self.probes.beyond_loopback() {
            Some(address) if !self.probes_beyond_loopback => {
                return Err(SidecarConfigError::ProbesBeyondLoopback { address });
            }
            _ => {}
        }
        if self.grpc == Listen::Off && self.http == Listen::Off {
            return Err(SidecarConfigError::NothingServed);
        }
        Ok(())
    }
}

/// Where a listener listens. Written `IP:PORT`, `unix:/PATH`, or nothing for nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// On an address.
    Tcp(SocketAddr),
    /// On a Unix socket, for processes of the same user.
    Unix(PathBuf),
}

impl Listen {
    /// The address, if others than this machine could reach it.
    fn beyond_loopback(&self) -> Option<SocketAddr> {
        match self {
            // An IPv4 loopback address may come in IPv6's clothes.
            Self::Tcp(address) if !address.ip().to_canonical().is_loopback() => Some(*address),
            _ => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => Ok(()),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(()),
            None if text.is_empty() => Ok(Self::Off),
            None => text.parse().map(Self::Tcp).map_err(drop),
        }
    }
}

/// The name of a header, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HeaderName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(Self(text.to_ascii_lowercase())) } else { Err(()) }
    }
}

/// The word before the token in its header, as `Bearer`; empty if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme(String);

impl Scheme {
    /// The word as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scheme {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fits = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if fits { Ok(Self(text.into())) } else { Err(()) }
    }
}

/// For whom tokens may be, beside this cluster's enforcers. Written with commas between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audiences(Vec<String>);

impl Audiences {
    /// The names, and that of a cluster's own enforcers, to which its tokens are made out unless somebody says otherwise.
    #[must_use]
    pub fn and_of(&self, cluster: &ClusterId) -> Vec<String> {
        let mut names = self.0.clone();
        names.push(token_names::enforcers(cluster));
        names
    }
}

impl fmt::Display for Audiences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl FromStr for Audiences {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let names: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let fits =
            |name: &&str| name.len() <= TEXT_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
        let all_fit = names.len() <= SIDECAR_AUDIENCES_MAX && names.iter().all(fits);
        if all_fit { Ok(Self(names.into_iter().map(str::to_owned).collect())) } else { Err(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(grpc: &str, http: &str, probes: &str) -> SidecarConfig {
        SidecarConfig {
            grpc: grpc.parse().unwrap(),
            http: http.parse().unwrap(),
            probes: probes.parse().unwrap(),
            probes_beyond_loopback: false,
            actions: ActionRules::default(),
            token_header: "Authorization".parse().unwrap(),
            token_scheme: "Bearer".parse().unwrap(),
            audiences: Audiences::default(),
            fail_open: false,
            drain_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn only_this_machine_may_ask() {
        assert_eq!(config("127.0.0.1:1", "unix:/run/h.sock", "").check(), Ok(()));
        assert_eq!(config("[::1]:1", "[::ffff:127.0.0.9]:2", "127.0.0.1:3").check(), Ok(()));
        for (grpc, http) in
            [("0.0.0.0:1", ""), ("", "10.0.0.1:1"), ("[::]:1", ""), ("", "[::ffff:10.0.0.1]:1")]
        {
            let error = config(grpc, http, "").check().unwrap_err();
            assert!(matches!(error, SidecarConfigError::BeyondLoopback { .. }), "{error}");
        }
        assert_eq!(config("", "", "127.0.0.1:1").check(), Err(SidecarConfigError::NothingServed));
    }

    #[test]
    fn probes_go_beyond_loopback_only_where_that_is_said() {
        let mut config = config("127.0.0.1:1", "", "0.0.0.0:3");
        assert!(config.check().unwrap_err().to_string().contains("probes_beyond_loopback = true"));
        config.probes_beyond_loopback = true;
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn this_clusters_enforcers_are_always_an_audience() {
        let cluster = ClusterId([1; 16]);
        let own = token_names::enforcers(&cluster);
        assert_eq!("".parse::<Audiences>().unwrap().and_of(&cluster), [own.as_str()]);
        let more: Audiences = "https://a.example, b".parse().unwrap();
        assert_eq!(more.to_string().parse(), Ok(more.clone()));
        assert_eq!(more.and_of(&cluster), ["https://a.example", "b", own.as_str()]);
        assert_eq!("a b".parse::<Audiences>(), Err(()));
    }

    #[test]
    fn addresses_and_names_have_a_form() {
        for text in ["", "127.0.0.1:1", "[::1]:2", "unix:/run/edge.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["localhost:1", "unix:edge.sock", "unix:", "127.0.0.1", "/run/edge.sock"] {
            assert_eq!(text.parse::<Listen>(), Err(()), "{text}");
        }
        assert_eq!("X-Agent-Token".parse::<HeaderName>().unwrap().as_str(), "x-agent-token");
        for text in ["", "a b", "a:b"] {
            assert_eq!(text.parse::<HeaderName>(), Err(()), "{text}");
        }
        assert_eq!("Bearer ".parse::<Scheme>(), Err(()));
    }
}
