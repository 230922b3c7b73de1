//! Parsers of values that people type, each with an error that says what would be right.

use std::time::Duration;

use haltline_core::{
    command::{Role, RoleBinding},
    ids::LogIndex,
    limits::APPROVAL_LIFETIME_MAX,
    path::{FleetPath, PathError},
    text::Labels,
    time::Millis,
};

use super::enforcers::ScopeArg;

/// Roles by the name that people type.
pub(crate) const ROLES: [(&str, Role); 6] = [
    ("viewer", Role::Viewer),
    ("responder", Role::Responder),
    ("operator", Role::Operator),
    ("approver", Role::Approver),
    ("auditor", Role::Auditor),
    ("admin", Role::Admin),
];

/// How alike a name must look to be suggested, of 1.
const SIMILARITY_MIN: f64 = 0.7;

/// The candidate that looks most like what was typed.
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(typed, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}

/// A duration with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with a unit, as in 500ms, 30s, 10min, 2h or 7d".to_owned();
    let duration = humantime::parse_duration(text).map_err(|_| wrong())?;
    if duration.is_zero() { Err("expected more than nothing".to_owned()) } else { Ok(duration) }
}

/// How long a command may wait for a second person.
pub(crate) fn approval_window(text: &str) -> Result<Duration, String> {
    let window = duration(text)?;
    if window <= Duration::from_millis(APPROVAL_LIFETIME_MAX.0) {
        Ok(window)
    } else {
        Err(format!("expected at most {APPROVAL_LIFETIME_MAX}"))
    }
}

/// A duration with a unit, for the cluster.
pub(crate) fn millis(text: &str) -> Result<Millis, String> {
    duration(text).map(|duration| Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

/// A place in the log.
pub(crate) fn log_index(text: &str) -> Result<LogIndex, String> {
    text.parse().map(LogIndex).map_err(|_| "expected the number of a log entry".to_owned())
}

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    Labels::parse_pair(text).map_err(|error| error.to_string())
}

/// A fleet's subtree, or `/` for the whole tree.
pub(crate) fn scope(text: &str) -> Result<ScopeArg, String> {
    match text {
        "/" => Ok(ScopeArg(None)),
        path => path.parse().map(|path| ScopeArg(Some(path))).map_err(|error: PathError| error.to_string()),
    }
}

/// `ROLE` everywhere, or `ROLE@PATH` in a subtree.
pub(crate) fn role_binding(text: &str) -> Result<RoleBinding, String> {
    let (name, path) = match text.split_once('@') {
        Some((name, "/" | "")) => (name, None),
        Some((name, path)) => (name, Some(path.parse::<FleetPath>().map_err(|error| error.to_string())?)),
        None => (text, None),
    };
    let names = ROLES.map(|(name, _)| name);
    match ROLES.iter().find(|(known, _)| *known == name) {
        Some((_, role)) => Ok(RoleBinding { role: *role, path }),
        None => {
            let hint =
                nearest(name, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(format!("no role is called that: expected one of {}, or ROLE@PATH{hint}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        assert_eq!(millis("10min"), Ok(Millis(600_000)));
        assert_eq!(millis("2h"), Ok(Millis(7_200_000)));
        for text in ["", "10", "ten minutes", "-1s"] {
            assert!(millis(text).expect_err(text).contains("with a unit"), "{text}");
        }
        assert!(millis("0s").is_err());
    }

    #[test]
    fn a_subtree_is_a_path_or_all() {
        assert_eq!(scope("/"), Ok(ScopeArg(None)));
        assert_eq!(scope("acme/x"), Ok(ScopeArg(Some("acme/x".parse().expect("a path")))));
        assert!(scope("").is_err() && scope("Acme").is_err());
    }

    #[test]
    fn roles_have_places_and_typos_hints() {
        let admin = role_binding("admin").expect("everywhere");
        assert_eq!((admin.role, admin.path), (Role::Admin, None));
        assert_eq!(role_binding("admin@/").expect("root").path, None);
        let responder = role_binding("responder@acme/finance").expect("a subtree");
        assert_eq!(responder.path, Some("acme/finance".parse().expect("a path")));
        let error = role_binding("aprover").expect_err("a typo");
        assert!(error.ends_with("did you mean `approver`?"), "{error}");
        assert!(role_binding("admin@Acme").is_err());
    }
}
