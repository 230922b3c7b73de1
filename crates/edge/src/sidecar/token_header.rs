//! The agent's token in the headers of a request.

use super::{
    action_rules::{HeaderFound, HeaderSource},
    answer::Refusal,
    config::SidecarConfig,
};

/// The one token that a request carries.
pub(crate) fn token<'a>(headers: &'a dyn HeaderSource, config: &SidecarConfig) -> Result<&'a str, Refusal> {
    let name = config.token_header.as_str();
    let value = match headers.header(name) {
        HeaderFound::Missing => return Err(Refusal::no_token(name)),
        HeaderFound::NotOne => return Err(Refusal::bad_token_header(name)),
        HeaderFound::One(value) => value.trim(),
    };
    let scheme = config.token_scheme.as_str();
    let token = if scheme.is_empty() {
        Some(value)
    } else {
        value
            .split_once(' ')
            .filter(|(word, _)| word.eq_ignore_ascii_case(scheme))
            .map(|(_, token)| token.trim())
    };
    // Proxies join headers of one name by commas, which no token contains.
    let is_one = |token: &&str| !token.is_empty() && !token.contains([',', ' ', '\t']);
    token.filter(is_one).ok_or_else(|| Refusal::bad_token_header(name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::EdgeConfig;

    struct One(Option<&'static str>);

    impl HeaderSource for One {
        fn header(&self, name: &str) -> HeaderFound<'_> {
            assert_eq!(name, "authorization");
            self.0.map_or(HeaderFound::Missing, HeaderFound::One)
        }
    }

    fn code(value: Option<&'static str>, scheme: &str) -> Result<String, &'static str> {
        let mut config = EdgeConfig::from_toml("data_dir = \"d\"", Path::new("")).unwrap().sidecar;
        config.token_scheme = scheme.parse().unwrap();
        token(&One(value), &config).map(str::to_owned).map_err(|refusal| refusal.code)
    }

    #[test]
    fn one_token_is_found_behind_its_scheme() {
        assert_eq!(code(Some("Bearer abc.def"), "Bearer"), Ok("abc.def".into()));
        assert_eq!(code(Some("bearer   abc "), "Bearer"), Ok("abc".into()));
        assert_eq!(code(Some("abc"), ""), Ok("abc".into()));
    }

    #[test]
    fn none_or_several_are_refused() {
        assert_eq!(code(None, "Bearer"), Err("NO_TOKEN"));
        for value in ["Basic abc", "Bearer", "Bearer ", "Bearer a,Bearer b", "Bearer a b", "abc", ""] {
            assert_eq!(code(Some(value), "Bearer"), Err("BAD_TOKEN_HEADER"), "{value}");
        }
    }
}
