//! Keys as texts and files, and what is sealed for them.
#![allow(clippy::unwrap_used)]
use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

#[test]
fn a_key_comes_back_from_its_file_and_opens_what_was_made_for_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("backup.key");
    let key = BackupKey::generate().unwrap();
    key.save(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(key.save(&path), Err(BackupKeyError::File(PkiError::Exists { .. }))));
    let loaded = BackupKey::load(&path).unwrap();
    assert_eq!(loaded.recipient(), key.recipient());
    let other = BackupKey::generate().unwrap();
    let recipients = [other.recipient(), key.recipient().to_string().parse().unwrap()];
    let (mut sealer, envelope) = BackupSealer::new(&recipients).unwrap();
    let parts = [sealer.seal(b"1", b"first").unwrap(), sealer.seal(b"2", b"second").unwrap()];
    for key in [&loaded, &other] {
        let mut opener = BackupOpener::new(&envelope, key).unwrap();
        assert_eq!(opener.open(b"1", &parts[0]).unwrap(), b"first");
        assert_eq!(opener.open(b"2", &parts[1]).unwrap(), b"second");
    }
}

#[test]
fn parts_keep_their_place_and_what_goes_with_them() {
    let key = BackupKey::generate().unwrap();
    let (mut sealer, envelope) = BackupSealer::new(&[key.recipient()]).unwrap();
    let parts = [sealer.seal(b"", b"first").unwrap(), sealer.seal(b"", b"second").unwrap()];
    let opener = || BackupOpener::new(&envelope, &key).unwrap();
    let refused = |result: Result<Vec<u8>, _>| matches!(result, Err(BackupKeyError::Unsealing));
    assert!(refused(opener().open(b"", &parts[1])), "one was left out");
    assert!(refused(opener().open(b"x", &parts[0])), "another place");
    let mut twice = opener();
    twice.open(b"", &parts[0]).unwrap();
    assert!(refused(twice.open(b"", &parts[0])), "one came twice");
    let mut damaged = parts[0].clone();
    damaged[0] ^= 1;
    assert!(refused(opener().open(b"", &damaged)));
    assert!(refused(opener().open(b"", b"")));
}

#[test]
fn another_key_is_told_whom_the_backup_was_made_for() {
    let (key, other) = (BackupKey::generate().unwrap(), BackupKey::generate().unwrap());
    let (_, envelope) = BackupSealer::new(&[key.recipient()]).unwrap();
    let error = BackupOpener::new(&envelope, &other).unwrap_err();
    assert!(error.to_string().contains(&key.recipient().to_string()), "{error}");
    // Somebody else's sealed key under one's own name doesn't open.
    let mut swapped = envelope;
    swapped.keys[0].recipient = other.recipient().to_string();
    assert!(matches!(BackupOpener::new(&swapped, &other), Err(BackupKeyError::Unsealing)));
}

#[test]
fn texts_that_are_no_keys_say_why_and_repeat_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("key");
    let key = BackupKey::generate().unwrap();
    key.save(&path).unwrap();
    let file = fs::read_to_string(&path).unwrap();
    let secret = file.lines().last().unwrap().to_owned();
    let error = |text: &str| {
        private_file::write(&path, text.as_bytes(), Access::Private).unwrap();
        BackupKey::load(&path).unwrap_err().to_string()
    };
    assert!(error("").contains("expected one line"));
    assert!(error(&key.recipient().to_string()).contains("it holds a recipient"));
    for at in KEY_PREFIX.len()..secret.len() {
        let mut cut = secret.clone();
        cut.remove(at);
        let error = error(&cut);
        assert!(error.contains("cut"), "{error}");
        assert!(!error.contains(&secret[10..20]));
    }
    let text = key.recipient().to_string();
    for wrong in ["", "age1xyz", &text[..text.len() - 1], &text.replace("hlr1", "hlr2")] {
        assert!(wrong.parse::<BackupRecipient>().is_err(), "{wrong}");
    }
    let typed = secret.parse::<BackupRecipient>().unwrap_err().to_string();
    assert!(typed.contains("must stay secret") && !typed.contains(&secret), "{typed}");
    assert!(matches!(BackupSealer::new(&[]), Err(BackupKeyError::RecipientCount { got: 0 })));
    assert!(!format!("{key:?}").contains(&secret[10..20]));
}
