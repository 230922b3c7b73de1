//! Whether the nodes' clocks run at one rate, by two looks at each.
//!
//! What a node's clock said lies somewhere between the moment it was asked and the moment its answer came, so a rate is
//! known only as far as the network lets one see; what lies within that blur is no finding.

use std::time::Duration;

use haltline_core::limits::MAX_CLOCK_DRIFT_PPM;
use haltline_node::doctor::Finding;

use super::answers::{Answers, NodeAnswer, Seen};

/// How far wall clocks may be apart before certificates, backdated by five minutes, look as if they weren't valid yet.
const WALL_APART_MAX_MS: u64 = 4 * 60 * 1_000;
/// What is worth telling people, whose logs then don't line up.
const WALL_APART_NOTED_MS: u64 = 1_000;

/// Looks at rates, and at how far the wall clocks are apart.
pub(super) fn check(answers: &Answers) -> Vec<Finding> {
    let mut findings: Vec<Finding> = answers.nodes.iter().filter_map(rate).collect();
    findings.extend(wall(answers));
    findings
}

fn rate(node: &NodeAnswer) -> Option<Finding> {
    let (first, second) = (node.first.as_ref().ok()?, node.second.as_ref()?);
    let drift = Drift::between(first, second)?;
    Some(judge(node.name(), drift))
}

/// How a node's clock ran beside this machine's, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Drift {
    /// What was seen.
    ppm: u64,
    /// What the network may have added to it.
    blur_ppm: u64,
}

impl Drift {
    fn between(first: &Seen, second: &Seen) -> Option<Self> {
        let theirs = second.status.boot_clock_us.checked_sub(first.status.boot_clock_us)?;
        let middle = |seen: &Seen| seen.asked + (seen.answered - seen.asked) / 2;
        let ours = micros(middle(second) - middle(first));
        let blur = micros((first.answered - first.asked + (second.answered - second.asked)) / 2);
        // An earlier version doesn't tell; a node that restarted in between has the clock of its machine all the same.
        if first.status.boot_clock_us == 0 || ours == 0 {
            return None;
        }
        Some(Self { ppm: theirs.abs_diff(ours) * 1_000_000 / ours, blur_ppm: blur * 1_000_000 / ours })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 1_000_000)
}

/// Both clocks may be off by the bound, in opposite directions.
fn judge(name: String, drift: Drift) -> Finding {
    let allowed = 2 * u64::from(MAX_CLOCK_DRIFT_PPM);
    if drift.ppm.saturating_sub(drift.blur_ppm) > allowed {
        let told = format!("runs {} ppm (±{}) apart from this machine's", drift.ppm, drift.blur_ppm);
        return Finding::fail("clock-rate", name, told).remedy(format!(
            "every clock within {MAX_CLOCK_DRIFT_PPM} ppm, on which the bound of every kill rests; see what `haltline doctor \
             --config` says on both machines"
        ));
    }
    let seen = if drift.blur_ppm > allowed {
        format!(
            "no difference from this machine's within ±{} ppm; the way there blurs the rest",
            drift.blur_ppm
        )
    } else {
        format!("runs as this machine's does, within {allowed} ppm")
    };
    Finding::ok("clock-rate", name, seen)
}

fn wall(answers: &Answers) -> Option<Finding> {
    // All were asked at about the same time, so each is corrected for when.
    let begin =
        answers.nodes.iter().filter_map(|node| node.first.as_ref().ok()).map(|seen| seen.asked).min()?;
    let offsets = answers.nodes.iter().filter_map(|node| {
        let seen = node.first.as_ref().ok()?;
        let since = u64::try_from((seen.answered - begin).as_millis()).unwrap_or(0);
        (seen.status.wall_time_ms > 0).then(|| seen.status.wall_time_ms.saturating_sub(since))
    });
    let offsets: Vec<u64> = offsets.collect();
    let apart = offsets.iter().max()?.saturating_sub(*offsets.iter().min()?);
    let told = format!("up to {} s apart", apart / 1_000);
    match apart {
        _ if apart > WALL_APART_MAX_MS => Some(
            Finding::warn("wall-clock", "the nodes", told)
                .remedy("set them right: a fresh certificate may look as if it weren't valid yet"),
        ),
        _ if apart > WALL_APART_NOTED_MS => Some(Finding::note(
            "wall-clock",
            "the nodes",
            format!("{told}; only the times that people read depend on it"),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use haltline_node::doctor::Level;
    use haltline_wire::v1;

    use super::*;

    fn drift(theirs_us: u64, round_trip: Duration) -> Drift {
        let begin = Instant::now();
        let seen = |after: Duration, clock| Seen {
            asked: begin + after,
            answered: begin + after + round_trip,
            status: v1::Status { boot_clock_us: clock, ..v1::Status::default() },
        };
        let first = seen(Duration::ZERO, 7_000_000);
        let second = seen(Duration::from_secs(2), 7_000_000 + theirs_us);
        Drift::between(&first, &second).expect("two looks")
    }

    #[test]
    fn a_rate_is_known_as_far_as_the_network_lets_one_see() {
        let level = |theirs_us, round_trip_ms| {
            judge("n".into(), drift(theirs_us, Duration::from_millis(round_trip_ms))).level
        };
        assert_eq!(level(2_000_000, 1), Level::Ok);
        assert_eq!(level(2_010_000, 1), Level::Fail, "5,000 ppm");
        assert_eq!(level(2_010_000, 20), Level::Ok, "may all be the network's");
        assert_eq!(level(4_000_000, 20), Level::Fail);
    }
}
