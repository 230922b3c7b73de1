//! Snapshots from nowhere: damaged, cut or made up, they end in a typed error or in a state, never in a panic.

use haltline_core::{
    event::event_from_bytes,
    snapshot::{self, FORMAT_VERSION, SnapshotError},
    state::State,
    view::{View, ViewError},
};
use proptest::{collection::vec, prelude::*};

use super::{
    machine::{encoded, one_schedule},
    schedule::Dice,
};

fn decode(mut bytes: &[u8]) -> Result<State, SnapshotError> {
    snapshot::decode(&mut bytes)
}

/// The bytes of a state with something in every table.
fn rich() -> Vec<u8> {
    encoded(&one_schedule(3).state)
}

/// Magic and version, so that what follows is looked at.
fn header() -> Vec<u8> {
    [b"HLSTATE\0".as_slice(), &FORMAT_VERSION.to_be_bytes()].concat()
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = rich();
    for len in 0..bytes.len() {
        assert!(decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    assert!(decode(&bytes).is_ok());
}

#[test]
fn what_follows_a_snapshot_is_an_error() {
    let mut bytes = rich();
    bytes.push(0);
    assert!(matches!(decode(&bytes), Err(SnapshotError::TrailingBytes { got_bytes: 1 })));
}

#[test]
fn other_files_and_versions_are_named() {
    let mut bytes = rich();
    bytes[9] = 9;
    let error = decode(&bytes).unwrap_err().to_string();
    assert_eq!(error, "the snapshot has format 9; this version reads 1");
    bytes[0] = b'X';
    assert!(matches!(decode(&bytes), Err(SnapshotError::BadMagic { .. })));
    assert!(matches!(decode(&[]), Err(SnapshotError::Io(_))));
}

/// Every byte once at its extremes: lengths become huge, keys fall out of order, tags unknown.
#[test]
fn no_single_byte_ends_the_process() {
    let bytes = rich();
    let mut refused = 0;
    for at in header().len()..bytes.len() {
        for value in [0xff, 0x00, bytes[at] ^ 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            refused += usize::from(decode(&damaged).is_err());
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_length_that_promises_everything_reserves_nothing() {
    // Each table in turn claims to hold 2^63 rows.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let bytes = rich();
    for at in header().len()..bytes.len().min(4_000) {
        let damaged = [&bytes[..at], &huge, &bytes[at..]].concat();
        drop(decode(&damaged));
    }
}

/// A view travels to enforcers as bytes: whatever comes back is a view, or a named error.
#[test]
fn a_cut_or_foreign_view_is_an_error() {
    let bytes = one_schedule(3).state.view().encode();
    let view = View::decode(&bytes).unwrap();
    assert_eq!(view.encode(), bytes);
    for len in 0..bytes.len() {
        assert!(View::decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(View::decode(&longer), Err(ViewError::TrailingBytes { got_bytes: 1 }));
    let mut other = bytes;
    other[9] = 7;
    assert_eq!(View::decode(&other), Err(ViewError::UnknownFormat { got: 7 }));
    assert!(matches!(View::decode(b"HLSTATE\0\0\x01"), Err(ViewError::BadMagic { .. })));
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn garbage_never_panics(garbage in vec(any::<u8>(), 0..2_000)) {
        drop(decode(&garbage));
        drop(event_from_bytes(&garbage));
        drop(View::decode(&[b"HLVIEW\0\0\0\x01".as_slice(), &garbage].concat()));
        drop(decode(&[header(), garbage].concat()));
    }

    #[test]
    fn flipped_bits_never_panic(dice in any::<[u8; 10]>(), flips in 1..6_usize) {
        static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = BYTES.get_or_init(rich).clone();
        let mut dice = Dice::new(dice);
        for _ in 0..flips {
            let at = (dice.below(256) * 256 + dice.below(256)) % bytes.len();
            bytes[at] ^= 1 << dice.below(8);
        }
        if let Ok(state) = decode(&bytes) {
            // Whatever it is now, it is a state: it has bytes, and they are its own.
            prop_assert_eq!(decode(&encoded(&state)).unwrap(), state);
        }
    }
}
