//! Join tokens as they are made, copied, cut and made up.

#![allow(clippy::unwrap_used)]
use std::os::unix::fs::PermissionsExt;

use haltline_core::limits::{JOIN_TOKEN_ENDPOINTS_MAX, JOIN_TOKEN_TEXT_BYTES_MAX};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::{
    Endpoint, JoinSecret, JoinToken, PkiError, Validity, base64url,
    join_token::{PREFIX, check},
    test_cluster::cluster,
};

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn token() -> JoinToken {
    let endpoints = vec![endpoint("node-1.example.com:7004"), endpoint("[::1]:7004")];
    JoinToken::generate(cluster(Validity::leaf()).bundle(), &endpoints).unwrap()
}

#[test]
fn tokens_round_trip_with_the_space_that_files_and_people_add() {
    let token = token();
    let text = token.to_text();
    assert!(text.starts_with("hlj1.") && text.len() < 256, "one line that can be copied");
    assert_eq!(JoinToken::parse(&text).unwrap(), token);
    assert_eq!(JoinToken::parse(&format!("  {}\r\n", *text)).unwrap(), token);
    assert_eq!(JoinToken::read(text.as_bytes()).unwrap(), token);

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("join");
    token.save(&path).unwrap();
    assert_eq!(JoinToken::load(&path).unwrap(), token);
    assert!(matches!(token.save(&path), Err(PkiError::Exists { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(JoinToken::load(&path).unwrap_err().code(), "pki_key_exposed");
}

#[test]
fn every_token_is_another_and_its_hash_is_of_its_secret() {
    let cluster = cluster(Validity::leaf());
    let make = || JoinToken::generate(cluster.bundle(), &[endpoint("a:1")]).unwrap();
    let (one, other) = (make(), make());
    assert_ne!(one.id(), other.id());
    assert_ne!(one.secret_hash(), other.secret_hash());
    assert_eq!((one.cluster(), one.bundle_hash()), (cluster.cluster(), cluster.bundle().hash()));
    let received = JoinSecret::from_slice(one.secret().expose()).unwrap();
    assert_eq!(received.hash(), one.secret_hash());
    assert_eq!(JoinSecret::from_slice(&[0; 31]), None);
    // Pinned: logs hold these hashes.
    let hash = JoinSecret::from_slice(&[0; 32]).unwrap().hash().to_string();
    assert_eq!(hash, hex_of(&Sha256::digest(Sha256::digest([0; 32]))));
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_longest_token_fits_and_endpoints_are_bounded() {
    let cluster = cluster(Validity::leaf());
    let label = "l".repeat(63);
    let host = format!("{label}.{label}.{label}.{}", "l".repeat(61));
    assert_eq!(host.len(), 253, "the longest DNS name");
    let many = vec![endpoint(&format!("{host}:65535")); JOIN_TOKEN_ENDPOINTS_MAX];
    let token = JoinToken::generate(cluster.bundle(), &many).unwrap();
    assert_eq!(JoinToken::parse(&token.to_text()).unwrap(), token);
    let too_many = [many, vec![endpoint("a:1")]].concat();
    assert_eq!(JoinToken::generate(cluster.bundle(), &too_many).unwrap_err().code(), "pki_too_many");
    assert_eq!(JoinToken::generate(cluster.bundle(), &[]).unwrap_err().code(), "pki_malformed");
}

#[test]
fn what_is_no_token_is_named_so_and_not_repeated() {
    let text = token().to_text();
    let long = format!("hlj1.{}", "A".repeat(JOIN_TOKEN_TEXT_BYTES_MAX));
    for (bad, code) in [
        ("", "JOIN_TOKEN_NONE"),
        ("hunter2", "JOIN_TOKEN_NONE"),
        (&text.replace("hlj1", "hlj2"), "JOIN_TOKEN_NONE"),
        (&long, "JOIN_TOKEN_TOO_LONG"),
        ("hlj1.", "JOIN_TOKEN_DAMAGED"),
        (&format!("{}=", *text), "JOIN_TOKEN_DAMAGED"),
        (&text.replace("hlj1.", "hlj1. "), "JOIN_TOKEN_DAMAGED"),
    ] {
        assert_eq!(JoinToken::parse(bad).unwrap_err().code(), code, "{bad}");
    }
    assert_eq!(JoinToken::read(&[0xff, 0xfe][..]).unwrap_err().code(), "JOIN_TOKEN_NONE");
    assert_eq!(JoinToken::read(long.repeat(3).as_bytes()).unwrap_err().code(), "JOIN_TOKEN_TOO_LONG");
}

#[test]
fn contents_that_no_token_has_are_refused_though_their_check_is_right() {
    let remade = |content: &[u8]| {
        let mut text = PREFIX.to_owned();
        base64url::encode_onto(&mut text, &[content, &check(content)].concat());
        JoinToken::parse(&text)
    };
    let head = [7; 96];
    let with = |tail: &[u8]| remade(&[&head[..], tail].concat());
    assert!(with(b"\x01\x00\x03a:1").is_ok());
    for tail in [
        &b""[..],
        b"\x00",
        b"\x09\x00\x03a:1",
        b"\x01\x00\x04a:1",
        b"\x01\x00\x03a:1\x00",
        b"\x02\x00\x03a:1",
        b"\x01\x00\x03a:x",
        b"\x01\x00\x03\xff:1",
        b"\x01\xff\xff",
    ] {
        assert_eq!(with(tail).unwrap_err().code(), "JOIN_TOKEN_DAMAGED", "{tail:?}");
    }
    assert!(remade(&head[..50]).is_err());
}

#[test]
fn no_secret_shows() {
    let token = token();
    let hex = hex_of(token.secret().expose());
    let list = format!("{:?}", token.secret().expose());
    let text = token.to_text();
    let mut errors = vec![JoinToken::parse(&text[..text.len() - 1]).unwrap_err()];
    errors.push(JoinToken::parse(&text[1..]).unwrap_err());
    errors.push(JoinToken::parse(&text.replacen('.', ".A", 1)).unwrap_err());
    let mut shown = vec![format!("{token:?} {token:#?} {:?}", token.secret())];
    shown.extend(errors.iter().map(|error| format!("{error} {error:?}")));
    for shown in shown {
        assert!(!shown.contains(&hex) && !shown.contains(&list[1..30]), "{shown}");
        assert!(!shown.contains(&text[92..126]), "{shown}");
    }
}

proptest! {
    #[test]
    fn a_changed_character_is_noticed(at in 5..200_usize, to in "[A-Za-z0-9_-]") {
        let text = token().to_text();
        let at = at.min(text.len() - 1);
        prop_assume!(text[at..=at] != to);
        let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
        prop_assert_eq!(JoinToken::parse(&changed).unwrap_err().code(), "JOIN_TOKEN_DAMAGED");
    }

    #[test]
    fn whatever_comes_there_is_an_answer(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(JoinToken::parse(&text).is_err());
        let mut remade = PREFIX.to_owned();
        base64url::encode_onto(&mut remade, &[&bytes[..], &check(&bytes)].concat());
        let _ = JoinToken::parse(&remade);
    }
}
