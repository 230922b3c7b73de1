//! Selectors, patterns, paths and limits: what is printed is parsed again, what covers contains, children only narrow.

use haltline_core::{
    ids::{GrantId, InstanceId},
    limits::{PATH_BYTES_MAX, PATTERN_BYTES_MAX},
    path::{AgentPath, FleetPath},
    policy::{Intent, Limits},
    selector::{Pattern, Selector, Subject},
    text::Labels,
    time::Millis,
};
use proptest::{collection::vec, option, prelude::*};

/// Few letters, so that things meet; `-`, `.` and `0` sort around the separator.
fn paths(min: usize) -> impl Strategy<Value = String> {
    vec("[ab0](-|\\.|0|a)?", min..5).prop_map(|segments| segments.join("/"))
}

fn fleets() -> impl Strategy<Value = FleetPath> {
    paths(1).prop_map(|path| path.parse().unwrap())
}

fn agents() -> impl Strategy<Value = AgentPath> {
    paths(2).prop_map(|path| path.parse().unwrap())
}

fn labels() -> impl Strategy<Value = Labels> {
    vec(("[kl]", "[vw]"), 0..3).prop_map(|pairs| Labels::from_pairs(pairs).unwrap())
}

fn patterns() -> impl Strategy<Value = Pattern> {
    "[ab*]{1,5}".prop_map(|pattern| pattern.parse().unwrap())
}

/// Any printable pattern, for printing and parsing.
fn wild_patterns() -> impl Strategy<Value = Pattern> {
    "[!-~]{1,12}".prop_map(|pattern| pattern.parse().unwrap())
}

fn selectors_with(patterns: fn() -> BoxedStrategy<Pattern>) -> impl Strategy<Value = Selector> {
    let instances = (0..2_u8).prop_map(|number| InstanceId([number; 16]));
    let grants = (0..2_u8).prop_map(|number| GrantId([number; 16]));
    (
        option::of(fleets()),
        option::weighted(0.3, agents()),
        option::weighted(0.2, instances),
        option::weighted(0.2, grants),
        labels(),
        option::weighted(0.3, patterns()),
        option::weighted(0.2, patterns()),
        option::weighted(0.2, patterns()),
    )
        .prop_map(|(fleet, agent, instance, lineage, labels, tool, model, resource)| Selector {
            fleet,
            agent,
            instance,
            lineage,
            labels,
            tool,
            model,
            resource,
        })
}

fn selectors() -> impl Strategy<Value = Selector> {
    selectors_with(|| patterns().boxed())
}

/// One action of one agent, owned.
#[derive(Debug, Clone)]
struct Action {
    agent: AgentPath,
    instance: Option<InstanceId>,
    lineage: Vec<GrantId>,
    labels: Labels,
    tool: Option<String>,
    model: Option<String>,
    resource: Option<String>,
}

impl Action {
    fn subject(&self) -> Subject<'_> {
        Subject {
            agent: &self.agent,
            instance: self.instance,
            lineage: &self.lineage,
            labels: &self.labels,
            tool: self.tool.as_deref(),
            model: self.model.as_deref(),
            resource: self.resource.as_deref(),
        }
    }
}

fn actions() -> impl Strategy<Value = Action> {
    let names = || option::of("[ab]{0,5}");
    let instances = option::of((0..2_u8).prop_map(|number| InstanceId([number; 16])));
    let lineage = vec((0..2_u8).prop_map(|number| GrantId([number; 16])), 0..3);
    (agents(), instances, lineage, labels(), names(), names(), names()).prop_map(
        |(agent, instance, lineage, labels, tool, model, resource)| Action {
            agent,
            instance,
            lineage,
            labels,
            tool,
            model,
            resource,
        },
    )
}

/// The obvious matcher: tries every way to split.
fn globs(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| globs(rest, &name[skipped..])),
        Some((byte, rest)) => {
            name.split_first().is_some_and(|(first, name)| first == byte && globs(rest, name))
        }
    }
}

/// A selector, spelled out.
fn obviously_matches(selector: &Selector, action: &Action) -> bool {
    let met = |pattern: &Option<Pattern>, name: &Option<String>| match (pattern, name) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(pattern), Some(name)) => globs(pattern.as_str().as_bytes(), name.as_bytes()),
    };
    let home = action.agent.fleet();
    let mut holds = vec![
        selector.fleet.as_ref().is_none_or(|fleet| home.self_and_ancestors().any(|above| above == *fleet)),
        selector.agent.as_ref().is_none_or(|agent| *agent == action.agent),
        selector.instance.is_none() || selector.instance == action.instance,
        selector.lineage.is_none_or(|grant| action.lineage.contains(&grant)),
        met(&selector.tool, &action.tool),
        met(&selector.model, &action.model),
        met(&selector.resource, &action.resource),
    ];
    holds.extend(selector.labels.iter().map(|(key, value)| action.labels.get(key) == Some(value)));
    holds.iter().all(|holds| *holds)
}

fn limits() -> impl Strategy<Value = Limits> {
    let millis = || option::of((200..9_000_u64).prop_map(Millis));
    (millis(), millis(), option::of(0..8_u32), option::of(0..20_u32)).prop_map(
        |(max_staleness, credential_ttl, delegation_depth, instances)| Limits {
            max_staleness,
            credential_ttl,
            delegation_depth,
            instances,
        },
    )
}

fn tools() -> impl Strategy<Value = Option<Vec<Pattern>>> {
    option::of(vec(patterns(), 0..4))
}

proptest! {
    #![proptest_config(super::cases(1_500))]

    #[test]
    fn what_is_printed_is_parsed_again(selector in selectors_with(|| wild_patterns().boxed())) {
        let parsed = selector.to_string().parse::<Selector>();
        if selector.check().is_ok() {
            prop_assert_eq!(parsed.as_ref(), Ok(&selector));
        } else {
            prop_assert!(parsed.is_err(), "a contradiction was parsed");
        }
    }

    #[test]
    fn parsing_anything_never_panics(text in "\\PC{0,60}", words in "(fleet|agent|label|tool|lineage)=\\PC{0,20}") {
        drop(text.parse::<Selector>());
        drop(words.parse::<Selector>());
        drop(text.parse::<FleetPath>());
        drop(text.parse::<Pattern>());
    }

    #[test]
    fn the_matcher_is_the_obvious_one(selector in selectors(), action in actions()) {
        prop_assert_eq!(selector.matches(&action.subject()), obviously_matches(&selector, &action));
        if selector.matches(&action.subject()) {
            prop_assert!(selector.may_touch(&action.agent, &action.labels));
            prop_assert!(selector.reach().is_none_or(|reach| reach.contains_agent(&action.agent)));
        }
    }

    #[test]
    fn a_selector_covers_all_that_it_says(wide in selectors(), narrow in selectors(), action in actions()) {
        prop_assert!(wide.covers(&wide));
        prop_assert!(Selector::default().covers(&wide));
        let narrowed = Selector { labels: wide.labels.clone().overlaid(&narrow.labels), ..narrow.clone() };
        for narrow in [narrow, narrowed] {
            if wide.covers(&narrow) && narrow.matches(&action.subject()) {
                prop_assert!(wide.matches(&action.subject()), "{wide} covers {narrow}");
            }
        }
    }

    #[test]
    fn a_pattern_matches_as_globs_do(pattern in patterns(), name in "[ab]{0,8}") {
        prop_assert_eq!(pattern.matches(&name), globs(pattern.as_str().as_bytes(), name.as_bytes()));
    }

    #[test]
    fn a_pattern_covers_all_that_it_says(wide in patterns(), narrow in patterns(), name in "[ab]{0,8}") {
        prop_assert!(wide.covers(&wide));
        if wide.covers(&narrow) && narrow.matches(&name) {
            prop_assert!(wide.matches(&name), "{wide} covers {narrow}, which {name} fits");
        }
    }

    #[test]
    fn an_intent_that_does_not_widen_allows_no_new_name(
        before in tools(), after in tools(), name in "[ab]{0,6}",
    ) {
        let allows = |intent: &Intent| {
            intent.tools.as_ref().is_none_or(|list| list.iter().any(|pattern| pattern.matches(&name)))
        };
        let (before, after) =
            (Intent { tools: before, ..Intent::default() }, Intent { tools: after, ..Intent::default() });
        prop_assert!(!before.may_allow_more_than(&before));
        if !after.may_allow_more_than(&before) && allows(&after) {
            prop_assert!(allows(&before), "{before:?} -> {after:?}");
        }
    }

    #[test]
    fn a_subtree_is_one_range(root in fleets(), path in fleets()) {
        let (from, to) = root.below();
        let in_range = path.as_str() >= from.as_str() && path.as_str() < to.as_str();
        prop_assert_eq!(in_range || path == root, root.contains(&path));
        prop_assert_eq!(root.contains(&path), path.self_and_ancestors().any(|above| above == root));
        if let Some(agent) = path.as_agent() {
            prop_assert_eq!(in_range, root.contains_agent(&agent));
            prop_assert_eq!(agent.as_fleet(), path);
        }
    }

    #[test]
    fn inherited_limits_only_narrow(chain in vec(limits(), 1..6)) {
        let mut above = Limits::default();
        for own in chain {
            let here = above.narrowed_by(own);
            prop_assert!(!here.is_looser_than(&above));
            prop_assert!(here.first_wider_than(&above).is_none());
            // Setting a limit where none was may exceed the default; that is what `widens` asks people about.
            let may_exceed = above.max_staleness.is_none() || above.credential_ttl.is_none()
                || above.delegation_depth.is_none() || above.instances.is_none();
            prop_assert!(may_exceed || !here.effective().is_wider_than(&above.effective()));
            prop_assert_eq!(here.narrowed_by(above), here);
            above = here;
        }
    }

    #[test]
    fn limits_that_are_not_looser_raise_nothing_below(
        before in limits(), after in limits(), below in limits(),
    ) {
        let (then, now) = (before.narrowed_by(below).effective(), after.narrowed_by(below).effective());
        if !after.is_looser_than(&before) && !after.effective().is_wider_than(&before.effective()) {
            prop_assert!(!now.is_wider_than(&then));
        }
    }
}

#[test]
fn names_at_their_bounds_parse_and_beyond_them_do_not() {
    let path = format!("{}/{}", "a".repeat(63), ["b".repeat(63), "c".repeat(63), "d".repeat(63)].join("/"));
    assert_eq!(path.len(), PATH_BYTES_MAX);
    assert!(path.parse::<FleetPath>().is_ok());
    assert!(format!("{path}d").parse::<FleetPath>().is_err());
    assert!("*".repeat(PATTERN_BYTES_MAX).parse::<Pattern>().is_ok());
    assert!("*".repeat(PATTERN_BYTES_MAX + 1).parse::<Pattern>().is_err());
}
