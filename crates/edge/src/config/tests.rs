//! What a configuration may say, and what is said where it is wrong.
#![allow(clippy::unwrap_used)]

use super::*;

fn load(text: &str) -> Result<EdgeConfig, ConfigError> {
    EdgeConfig::from_toml(text, Path::new("/etc/haltline"))
}

fn error(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

#[test]
fn only_the_data_directory_has_no_default() {
    let config = load("data_dir = \"data\"").unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/haltline/data"));
    assert_eq!(config.identity_dir, Path::new("/etc/haltline/identity"));
    assert_eq!(config.backoff_max, Duration::from_secs(5));
    assert!(
        error("").ends_with("set it in the configuration file or as HALTLINE_EDGE_DATA_DIR"),
        "{}",
        error("")
    );
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let text = "data_dir = \"/var/lib/haltline\"\nregion = \"eu-central\"\n\
                [hubs]\nroutes = \"2=10.0.0.2:1, 3=[::1]:2\"\nrelays = \"relay-1=r:1\"\nbackoff_min = \"20ms\"\nbackoff_max = \"1s 500ms\"";
    let config = load(text).unwrap();
    assert_eq!(load(&config.to_toml()).unwrap(), config);
    assert_eq!((config.routes.0.len(), config.region.as_str()), (2, "eu-central"));
    assert!(config.to_toml().contains("(HALTLINE_EDGE_HUBS_BACKOFF_MIN)\nbackoff_min = \"20ms\""));
}

#[test]
fn unknown_keys_name_the_nearest() {
    let unknown = |text: &str| error(&format!("data_dir = \"d\"\n{text}"));
    assert_eq!(
        unknown("[hubs]\nroute = \"\""),
        "the configuration sets `hubs.route`, which is no key; did you mean `hubs.routes`?"
    );
    assert!(unknown("[tls]\nversion = 3").contains("`haltline edge run --print-config` lists them all"));
}

#[test]
fn wrong_values_say_what_would_be_right() {
    let wrong = |text: &str| error(&format!("data_dir = \"d\"\n{text}"));
    assert_eq!(
        wrong("[hubs]\nbackoff_max = 5"),
        "the configuration: `hubs.backoff_max` is `5`; expected a duration with its unit, as 5s or 200ms, from 1ms to 5m"
    );
    assert!(wrong("[hubs]\nbackoff_max = \"1s\"\nbackoff_min = \"2s\"").contains("from 1ms to 1s"));
    assert!(wrong("[hubs]\nroutes = \"2:7401\"").contains("expected NODE=HOST:PORT"));
    assert!(wrong("region = \"eu central\"").contains("up to 63 letters"));
    assert!(wrong("identity_dir = \"\"").contains("expected a path"));
    assert!(wrong("x = [").contains("is no TOML"));
}

#[test]
fn variables_win_over_the_file_and_are_checked_too() {
    let with = |name: &str, value: &str| {
        let mut settings = Settings::default();
        settings.add_toml("data_dir = \"d\"", "edge.toml", Path::new("/etc")).unwrap();
        settings.add_environment([(name.to_owned(), value.to_owned())].into_iter())?;
        settings.into_config()
    };
    assert_eq!(with("HALTLINE_EDGE_DATA_DIR", "/elsewhere").unwrap().data_dir, Path::new("/elsewhere"));
    assert!(with("HALTLINE_DATA_DIR", "of a node").is_ok());
    assert_eq!(
        with("HALTLINE_EDGE_REGIO", "x").unwrap_err().to_string(),
        "the environment sets `HALTLINE_EDGE_REGIO`, which is no key; did you mean `HALTLINE_EDGE_REGION`?"
    );
    assert!(
        with("HALTLINE_EDGE_HUBS_CONNECT_TIMEOUT", "soon").unwrap_err().to_string().contains("with its unit")
    );
}

#[test]
fn a_sidecar_is_configured_with_the_rest() {
    let text = "data_dir = \"d\"\n[sidecar]\ngrpc = \"unix:/run/haltline/edge.sock\"\nfail_open = true\nactions = \"\"\"\n\
                POST /tools/{tool} => tool={tool}\n* /x => resource=x\n\"\"\"\n";
    let config = load(text).unwrap();
    assert!(config.sidecar.fail_open);
    assert_eq!(config.sidecar.actions.to_string().lines().count(), 2);
    assert_eq!(load(&config.to_toml()).unwrap(), config);
    assert_eq!(load("data_dir = \"d\"").unwrap().sidecar.actions, crate::sidecar::ActionRules::default());
    let wrong = |text: &str| error(&format!("data_dir = \"d\"\n[sidecar]\n{text}"));
    assert!(wrong("http = \"0.0.0.0:7481\"").contains("which isn't loopback"));
    assert!(
        wrong("actions = \"POST /a => x=y\"").contains("the configuration: `sidecar.actions`: rule 1: `x=y`")
    );
}
