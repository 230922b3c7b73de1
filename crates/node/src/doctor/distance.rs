//! How far the other nodes are, and whether the timing profile fits that.
//!
//! Opening a TCP connection takes one round trip and asks nothing of the other side but that somebody listens.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use haltline_core::{
    ids::NodeId,
    limits::{DOCTOR_ROUND_TRIP_TIMEOUT, DOCTOR_ROUND_TRIPS},
};

use super::{Finding, disk::shown};
use crate::{
    config::{NodeConfig, Profile},
    founding::Founding,
};

/// Another node, and where this one reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Which.
    pub node: NodeId,
    /// `host:port` of its port for other nodes.
    pub address: String,
}

/// A distance at which nobody would choose patience over speed.
const NEAR: Duration = Duration::from_millis(5);

/// The other founding nodes; `None` if the founding or the identity can't be read, which other checks tell.
pub(super) fn of_founding(config: &NodeConfig) -> Option<Vec<Neighbour>> {
    let founding = Founding::load(&config.founding_file).ok()?;
    let own = haltline_pki::NodeIdentity::load(&config.identity_dir).ok()?.id();
    let others = founding.nodes.iter().filter(|founder| founder.id != own.0);
    let neighbour = |founder: &crate::founding::Founder| {
        let node = NodeId(founder.id);
        let route = config.routes.0.get(&node).map(ToString::to_string);
        Neighbour { node, address: route.unwrap_or_else(|| founder.raft_address.clone()) }
    };
    Some(others.map(neighbour).collect())
}

/// What the profile makes of distances.
pub(super) fn profile(profile: Profile) -> Finding {
    let timing = profile.timing();
    let told = format!(
        "a heartbeat every {}, an election after {} to {} of silence; for nodes up to {} apart",
        shown(timing.heartbeat),
        shown(timing.election_min),
        shown(timing.election_max),
        shown(timing.election_min / 3)
    );
    Finding::ok("profile", format!("timing.profile = {profile}"), told)
}

/// Measures the way to each, and judges the profile by the farthest.
pub(super) fn check(neighbours: &[Neighbour], profile: Profile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut farthest = None;
    for neighbour in neighbours {
        let subject = format!("node {} at {}", neighbour.node, neighbour.address);
        match round_trip(&neighbour.address) {
            Ok(took) => {
                farthest = farthest.max(Some(took));
                findings.push(judge(subject, took, profile));
            }
            Err(reason) => findings.push(
                Finding::warn("round-trip", subject, format!("can't be reached: {reason}"))
                    .remedy("it runs, and its `listen.raft` port is open to this machine"),
            ),
        }
    }
    if profile == Profile::Wan && farthest.is_some_and(|farthest| farthest < NEAR) {
        let told = format!("every node that answers is within {}", shown(NEAR));
        findings.push(Finding::note("profile", "timing.profile = wan", told).remedy(
            "`lan` on every node would replace a dead leader in a quarter of a second instead of two or three",
        ));
    }
    findings
}

/// The shortest of a few: the way itself, without who was busy. Blocks.
fn round_trip(address: &str) -> Result<Duration, String> {
    let timeout = Duration::from_millis(DOCTOR_ROUND_TRIP_TIMEOUT.0);
    let target = address.to_socket_addrs().map_err(|error| error.to_string())?.next();
    let target = target.ok_or_else(|| "the name has no address".to_owned())?;
    let mut shortest = None;
    for _ in 0..DOCTOR_ROUND_TRIPS {
        let began = Instant::now();
        TcpStream::connect_timeout(&target, timeout).map_err(|error| error.to_string())?;
        let took = began.elapsed();
        shortest = Some(shortest.map_or(took, |shortest: Duration| shortest.min(took)));
    }
    shortest.ok_or_else(|| "nothing was tried".to_owned())
}

/// Heartbeats and votes have to be there and back well before anybody loses patience.
fn judge(subject: String, took: Duration, profile: Profile) -> Finding {
    let timing = profile.timing();
    let told = format!("{} there and back", shown(took));
    let finding = if took >= timing.election_min {
        Finding::fail("round-trip", subject, told)
    } else if took >= timing.election_min / 3 {
        Finding::warn("round-trip", subject, told)
    } else {
        return Finding::ok("round-trip", subject, told);
    };
    finding.remedy(match profile {
        Profile::Lan => format!(
            "below {}: the profile `lan` waits {} before an election; set `timing.profile = \"wan\"` on every node",
            shown(timing.election_min / 3),
            shown(timing.election_min)
        ),
        Profile::Wan => format!("below {}: no profile is patient enough for more", shown(timing.election_min / 3)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn the_profile_has_to_fit_the_distance() {
        let level = |ms, profile| judge("n".into(), Duration::from_millis(ms), profile).level;
        assert_eq!([1, 25, 70].map(|ms| level(ms, Profile::Lan)), [Level::Ok, Level::Warn, Level::Fail]);
        assert_eq!([150, 300, 900].map(|ms| level(ms, Profile::Wan)), [Level::Ok, Level::Warn, Level::Fail]);
        let far = judge("n".into(), Duration::from_millis(70), Profile::Lan);
        assert!(far.remedy.unwrap().contains("timing.profile = \"wan\""));
    }

    #[test]
    fn neighbours_are_reached_or_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = Neighbour { node: NodeId(2), address: listener.local_addr().unwrap().to_string() };
        let gone = Neighbour { node: NodeId(3), address: "127.0.0.1:1".into() };
        let findings = check(&[there, gone], Profile::Wan);
        let levels: Vec<Level> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Warn, Level::Note], "{findings:?}");
        assert!(findings[1].told.contains("refused"), "{findings:?}");
    }
}
