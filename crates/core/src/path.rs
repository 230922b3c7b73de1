//! Paths name everything in the registry: fleets, the agents under them, and the reach of people's roles.
//!
//! A path is one to ten segments of lower-case letters, digits, `.`, `_` and `-`, joined by `/`. The order of paths as
//! texts keeps each subtree together: `/` sorts above `-` and `.`, and directly below `0`, so the subtree of `a/b` is
//! the range from `a/b/` up to, not including, `a/b0`.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    ids::excerpt,
    limits::{PATH_BYTES_MAX, PATH_DEPTH_MAX, PATH_SEGMENT_BYTES_MAX},
    text_encoding::encode_as_text,
};

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing there.
    #[error("the path is empty; expected segments joined by `/`, as in `acme/finance/invoice`")]
    Empty,
    /// Too long as a whole.
    #[error("the path is {got_bytes} bytes long; at most {PATH_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes that came.
        got_bytes: usize,
    },
    /// Too many segments.
    #[error("the path has {got} segments; at most {PATH_DEPTH_MAX} are allowed")]
    TooDeep {
        /// Segments that came.
        got: usize,
    },
    /// A segment out of form.
    #[error(
        "segment {position} of the path is `{got}`; expected 1 to {PATH_SEGMENT_BYTES_MAX} of a-z 0-9 . _ -, beginning with a letter or digit"
    )]
    Segment {
        /// Which segment, from 1.
        position: usize,
        /// What came, shortened.
        got: String,
    },
    /// An agent's path needs a fleet above it.
    #[error("`{got}` names no agent: an agent lives in a fleet, as in `acme/finance/invoice/reconciler`")]
    NoFleet {
        /// What came.
        got: String,
    },
}

fn check(text: &str) -> Result<(), PathError> {
    if text.is_empty() {
        return Err(PathError::Empty);
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong { got_bytes: text.len() });
    }
    let depth = text.split('/').count();
    if depth > PATH_DEPTH_MAX {
        return Err(PathError::TooDeep { got: depth });
    }
    match text.split('/').enumerate().find(|(_, segment)| !is_segment(segment)) {
        Some((position, segment)) => {
            Err(PathError::Segment { position: position + 1, got: excerpt(segment) })
        }
        None => Ok(()),
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let first_fits =
        segment.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    first_fits && segment.len() <= PATH_SEGMENT_BYTES_MAX && segment.bytes().all(allowed)
}

macro_rules! path_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        encode_as_text!($name);

        impl $name {
            /// The path as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// How many segments it has, 1 to [`PATH_DEPTH_MAX`].
            #[must_use]
            pub fn depth(&self) -> usize {
                self.0.split('/').count()
            }
        }

        impl TryFrom<String> for $name {
            type Error = PathError;

            fn try_from(text: String) -> Result<Self, PathError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(path: $name) -> Self {
                path.0.as_ref().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

path_type!(
    /// A fleet, or the subtree of fleets below it.
    FleetPath
);
path_type!(
    /// An agent: what may run. Its parent is a fleet.
    AgentPath
);

impl FromStr for FleetPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        check(text).map(|()| Self(text.into()))
    }
}

impl FromStr for AgentPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        check(text)?;
        if text.contains('/') { Ok(Self(text.into())) } else { Err(PathError::NoFleet { got: text.into() }) }
    }
}

fn is_within(path: &str, subtree: &str) -> bool {
    path.strip_prefix(subtree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl FleetPath {
    /// The fleet above, if this isn't at the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// This fleet and those above it, nearest first.
    pub fn self_and_ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// Whether `other` is this fleet or lies below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        is_within(&other.0, &self.0)
    }

    /// Whether `agent` lives in this fleet or below it.
    #[must_use]
    pub fn contains_agent(&self, agent: &AgentPath) -> bool {
        is_within(&agent.0, &self.0) && agent.0.len() > self.0.len()
    }

    /// The range of texts that holds exactly the paths strictly below this one.
    #[must_use]
    pub fn below(&self) -> (String, String) {
        (format!("{}/", self.0), format!("{}0", self.0))
    }
}

impl AgentPath {
    /// The fleet that the agent lives in.
    #[must_use]
    pub fn fleet(&self) -> FleetPath {
        let (fleet, _) = self.0.rsplit_once('/').expect("checked when the path was made");
        FleetPath(fleet.into())
    }

    /// The same text as a fleet's path: agents and fleets share one space of names.
    #[must_use]
    pub fn as_fleet(&self) -> FleetPath {
        FleetPath(Arc::clone(&self.0))
    }
}

impl FleetPath {
    /// The same text as an agent's path, unless it is at the top.
    #[must_use]
    pub fn as_agent(&self) -> Option<AgentPath> {
        self.0.contains('/').then(|| AgentPath(Arc::clone(&self.0)))
    }
}

// Ordered maps keyed by paths are searched by text, so that a subtree's range needs no path at its ends.
impl std::borrow::Borrow<str> for FleetPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for AgentPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(text: &str) -> FleetPath {
        text.parse().expect(text)
    }

    #[test]
    fn wrong_paths_say_where() {
        assert_eq!("".parse::<FleetPath>(), Err(PathError::Empty));
        assert_eq!(
            "acme//x".parse::<FleetPath>(),
            Err(PathError::Segment { position: 2, got: String::new() })
        );
        for text in ["/acme", "acme/", "Acme", "acme/fin ance", "acme/-x", "acme/\u{1b}", "é"] {
            assert!(matches!(text.parse::<FleetPath>(), Err(PathError::Segment { .. })), "{text}");
        }
        let deep = ["a"; PATH_DEPTH_MAX + 1].join("/");
        assert_eq!(deep.parse::<FleetPath>(), Err(PathError::TooDeep { got: PATH_DEPTH_MAX + 1 }));
        assert!(matches!("acme".parse::<AgentPath>(), Err(PathError::NoFleet { .. })));
    }

    #[test]
    fn containment_is_by_segments() {
        assert!(fleet("a/b").contains(&fleet("a/b")));
        assert!(fleet("a/b").contains(&fleet("a/b/c")));
        assert!(!fleet("a/b").contains(&fleet("a/bc")));
        assert!(!fleet("a/b").contains(&fleet("a")));
        assert!(fleet("a/b").contains_agent(&"a/b/c".parse().expect("agent")));
        assert!(!fleet("a/b").contains_agent(&"a/b".parse().expect("agent")));
    }

    #[test]
    fn a_subtree_is_one_range() {
        let (from, to) = fleet("a/b").below();
        for (path, inside) in [
            ("a/b", false),
            ("a/b-c", false),
            ("a/b.c", false),
            ("a/b/c", true),
            ("a/b/c/d", true),
            ("a/b0", false),
        ] {
            assert_eq!(path >= from.as_str() && path < to.as_str(), inside, "{path}");
        }
    }

    #[test]
    fn ancestors_come_nearest_first() {
        let names: Vec<_> = fleet("a/b/c").self_and_ancestors().map(String::from).collect();
        assert_eq!(names, ["a/b/c", "a/b", "a"]);
    }
}
