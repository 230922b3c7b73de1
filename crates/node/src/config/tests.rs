//! What a configuration may say, and what is said where it is wrong.
#![allow(clippy::unwrap_used)]

use super::*;

fn load(text: &str) -> Result<NodeConfig, ConfigError> {
    NodeConfig::from_toml(text, Path::new("/etc/haltline"))
}

fn error(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

#[test]
fn only_the_data_directory_has_no_default() {
    let config = load("data_dir = \"data\"").unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/haltline/data"));
    assert_eq!(config.identity_dir, Path::new("/etc/haltline/identity"));
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!(
        error(""),
        "`data_dir` is not set: where the log and the snapshots are kept; no two nodes may share one; set it in the \
         configuration file or as HALTLINE_DATA_DIR"
    );
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let text = "data_dir = \"/var/lib/haltline\"\n[timing]\nprofile = \"wan\"\n[limits]\nwatchers = 3\n\
                [peers]\nroutes = \"2=10.0.0.2:1, 3=[::1]:2\"\n\
                [snapshots]\nafter_bytes = \"1 GiB\"\n[shutdown]\ndrain_timeout = \"1m 30s\"";
    let config = load(text).unwrap();
    assert_eq!(load(&config.to_toml()).unwrap(), config);
    assert_eq!(config.routes.0.len(), 2);
    assert!(
        config.to_toml().contains("(HALTLINE_LIMITS_WATCHERS; reloads)\nwatchers = 3"),
        "{}",
        config.to_toml()
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    let unknown = |text: &str| error(&format!("data_dir = \"d\"\n{text}"));
    assert_eq!(
        unknown("[listen]\nappi = \"127.0.0.1:1\""),
        "the configuration sets `listen.appi`, which is no key; did you mean `listen.api`?"
    );
    assert!(unknown("[tls]\nversion = 3").contains("`haltline node --print-config` lists them all"));
    assert!(unknown("[data_dirs]\nx = 1").contains("did you mean `data_dir`?"));
}

#[test]
fn wrong_values_say_what_would_be_right() {
    let wrong = |text: &str| error(&format!("data_dir = \"d\"\n{text}"));
    assert_eq!(
        wrong("[shutdown]\ndrain_timeout = 5"),
        "the configuration: `shutdown.drain_timeout` is `5`; expected a duration with its unit, as 5s or 200ms"
    );
    assert_eq!(
        wrong("[snapshots]\nafter_bytes = 1000000"),
        "the configuration: `snapshots.after_bytes` is `1000000`; expected a size with its unit, as 256 MiB"
    );
    assert!(wrong("[limits]\nwatchers = -1").contains("expected a number from 0 to"));
    assert!(wrong("[listen]\napi = \"localhost\"").contains("expected IP:PORT"));
    assert!(wrong("[timing]\nprofile = \"moon\"").contains("expected lan or wan"));
    assert!(wrong("[peers]\nroutes = \"2:7401\"").contains("expected NODE=HOST:PORT"));
    assert!(wrong("x = [").contains("is no TOML"));
    assert_eq!(
        wrong("[limits"),
        "the configuration is no TOML: unclosed table, expected `]` at line 2, column 8: `[limits`"
    );
}

#[test]
fn plain_http_stays_on_loopback_unless_told_otherwise() {
    let open = "data_dir = \"d\"\n[listen]\nhttp = \"0.0.0.0:7402\"\n";
    assert!(error(open).contains("served without TLS"));
    assert!(load(&format!("{open}[http]\nbeyond_loopback = true")).is_ok());
}

#[test]
fn variables_win_over_the_file_and_are_checked_too() {
    let with = |name: &str, value: &str| {
        let mut settings = Settings::default();
        settings.add_toml("data_dir = \"d\"", "node.toml", Path::new("/etc")).unwrap();
        settings.add_environment([(name.to_owned(), value.to_owned())].into_iter())?;
        settings.into_config()
    };
    assert_eq!(with("HALTLINE_DATA_DIR", "/elsewhere").unwrap().data_dir, Path::new("/elsewhere"));
    assert_eq!(with("HALTLINE_LISTEN_API", "[::1]:9").unwrap().listen_api.port(), 9);
    assert!(with("HALTLINE_CONFIG", "anything").is_ok());
    assert!(with("HALTLINE_EDGE_DATA_DIR", "of an enforcer").is_ok());
    let unknown = with("HALTLINE_LISTEN_APPI", "[::1]:9").unwrap_err().to_string();
    assert_eq!(
        unknown,
        "the environment sets `HALTLINE_LISTEN_APPI`, which is no key; did you mean `HALTLINE_LISTEN_API`?"
    );
    let wrong = with("HALTLINE_LIMITS_WATCHERS", "many").unwrap_err().to_string();
    assert!(wrong.starts_with("HALTLINE_LIMITS_WATCHERS: `limits.watchers` is `many`"), "{wrong}");
}
