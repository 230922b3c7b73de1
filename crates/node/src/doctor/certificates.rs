//! How long certificates hold: the node's own, which renews itself, and those above it, which don't.

use std::{path::Path, time::Duration};

use haltline_pki::{NodeIdentity, UnixSeconds, Validity, validities_in, validity_of};

use super::Finding;

const DAY: Duration = Duration::from_secs(86_400);
/// What is left of an intermediate or root when it is time to plan for the next one.
const AUTHORITY_LEFT_MIN: Duration = DAY.saturating_mul(180);
/// The intermediates beside a node's identity.
const INTERMEDIATES: [&str; 3] = ["ca/node.crt", "ca/edge.crt", "ca/person.crt"];

/// Looks at every certificate of an identity.
pub(super) fn check(
    identity: &NodeIdentity,
    directory: &Path,
    running: Option<u32>,
    now: UnixSeconds,
    findings: &mut Vec<Finding>,
) {
    let file = directory.join("tls.crt");
    findings.push(own(&file.display().to_string(), identity.tls().leaf().validity, running, now));
    for name in INTERMEDIATES {
        let path = directory.join(name);
        let subject = path.display().to_string();
        match validities_in(&path) {
            Ok(validities) => {
                findings.extend(validities.first().map(|validity| authority(&subject, *validity, now)));
            }
            Err(error) => findings.push(Finding::fail("certificate", subject, error.to_string())),
        }
    }
    let roots = identity.bundle().roots().iter().filter_map(|root| validity_of(root).ok());
    // As long as one root holds, what it issued does.
    if let Some(validity) = roots.max_by_key(|validity| validity.not_after) {
        findings.push(authority("the root in the trust bundle", validity, now));
    }
}

/// The node's own: a running node renews it when two thirds have passed, a starting one as well.
fn own(subject: &str, validity: Validity, running: Option<u32>, now: UnixSeconds) -> Finding {
    let end = validity.not_after;
    if now < validity.not_before {
        return Finding::fail("certificate", subject, format!("isn't valid before {}", validity.not_before))
            .remedy("set this machine's wall clock right");
    }
    let left = end.0.saturating_sub(now.0);
    let is_ended = end < now;
    match (is_ended, running) {
        (true, Some(_)) => Finding::fail("certificate", subject, format!("ended on {end}")).remedy(
            "the running node should have renewed it: its log says why it couldn't; a restart tries again",
        ),
        (true, None) => Finding::warn("certificate", subject, format!("ended on {end}"))
            .remedy("nothing: the node issues itself a new one when it starts"),
        // Renewal begins with a third left; half of that is long enough to have seen it fail.
        (false, Some(_)) if left * 6 < end.0.saturating_sub(validity.not_before.0) => {
            Finding::warn("certificate", subject, format!("ends on {end}, in {}", days(left)))
                .remedy("the running node should have renewed it by now: its log says why it couldn't")
        }
        _ => Finding::ok("certificate", subject, format!("ends on {end}, in {}; renews itself", days(left))),
    }
}

fn authority(subject: &str, validity: Validity, now: UnixSeconds) -> Finding {
    let end = validity.not_after;
    if now < validity.not_before {
        return Finding::fail("certificate", subject, format!("isn't valid before {}", validity.not_before))
            .remedy("set this machine's wall clock right");
    }
    if end < now {
        return Finding::fail("certificate", subject, format!("ended on {end}"))
            .remedy("nothing that it issued is believed any more: it has to be replaced with the root key");
    }
    let left = end.0 - now.0;
    let told = format!("ends on {end}, in {}", days(left));
    if left < AUTHORITY_LEFT_MIN.as_secs() {
        Finding::warn("certificate", subject, told).remedy("plan its replacement, which takes the root key")
    } else {
        Finding::ok("certificate", subject, told)
    }
}

fn days(seconds: u64) -> String {
    match seconds / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const BEGIN: UnixSeconds = UnixSeconds(1_700_000_000);

    fn lifetime(days: u64) -> Validity {
        Validity {
            not_before: BEGIN,
            not_after: BEGIN.plus(DAY.saturating_mul(u32::try_from(days).unwrap_or(1))),
        }
    }

    fn after(days: u32) -> UnixSeconds {
        BEGIN.plus(DAY.saturating_mul(days))
    }

    #[test]
    fn the_nodes_own_is_a_matter_of_whether_it_runs() {
        let level = |day, running| own("tls.crt", lifetime(90), running, after(day)).level;
        assert_eq!(level(10, None), Level::Ok);
        assert_eq!(level(70, Some(1)), Level::Ok, "due, and the next look renews it");
        assert_eq!(level(80, Some(1)), Level::Warn);
        assert_eq!(level(80, None), Level::Ok, "the start renews it");
        assert_eq!(level(91, None), Level::Warn);
        assert_eq!(level(91, Some(1)), Level::Fail);
        assert_eq!(own("tls.crt", lifetime(90), None, BEGIN.minus(DAY)).level, Level::Fail);
    }

    #[test]
    fn whoever_issues_is_to_be_replaced_in_time() {
        let level = |day| authority("ca/node.crt", lifetime(1_826), after(day)).level;
        assert_eq!([level(1), level(1_700), level(1_827)], [Level::Ok, Level::Warn, Level::Fail]);
    }
}
