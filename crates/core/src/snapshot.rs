//! The state as bytes and back: canonical, so that two replicas with the same state write the same bytes.
//!
//! Layout: the magic `HLSTATE\0`, the format version as a big-endian u16, then the state in postcard's encoding, in the
//! order of its maps. Checksums are the storage's business. A node of format N reads N and N-1; what a newer one wrote is
//! refused with both numbers.

use std::io::{self, Read, Write};

use crate::state::State;

/// The format that [`encode`] writes.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"HLSTATE\0";

/// Why bytes are no state.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading failed.
    #[error("reading the snapshot failed: {0}")]
    Io(#[from] io::Error),
    /// Not a snapshot at all.
    #[error("this is no Haltline snapshot: it begins with {got:02x?}, expected {MAGIC:02x?}")]
    BadMagic {
        /// The first bytes.
        got: [u8; 8],
    },
    /// Written by a version that this one can't read.
    #[error("the snapshot has format {got}; this version reads {FORMAT_VERSION}{}", oldest())]
    UnknownFormat {
        /// Its format.
        got: u16,
    },
    /// Damaged in spite of its checksums, or written by a defect.
    #[error("the snapshot does not decode: {0}")]
    Malformed(postcard::Error),
    /// More than a snapshot.
    #[error("the snapshot is followed by {got_bytes} bytes that don't belong to it")]
    TrailingBytes {
        /// How many.
        got_bytes: usize,
    },
}

fn oldest() -> String {
    match FORMAT_VERSION.checked_sub(1) {
        Some(oldest @ 1..) => format!(" and {oldest}"),
        _ => String::new(),
    }
}

/// Writes the state.
///
/// # Errors
/// Whatever `output` fails with.
pub fn encode(state: &State, output: &mut impl Write) -> io::Result<()> {
    output.write_all(&MAGIC)?;
    output.write_all(&FORMAT_VERSION.to_be_bytes())?;
    postcard::to_io(state, &mut *output).map_err(io::Error::other)?;
    Ok(())
}

/// Reads a state and rebuilds what isn't encoded.
///
/// # Errors
/// Anything but a whole snapshot of a known format.
pub fn decode(input: &mut impl Read) -> Result<State, SnapshotError> {
    let mut magic = [0; 8];
    input.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(SnapshotError::BadMagic { got: magic });
    }
    let mut version = [0; 2];
    input.read_exact(&mut version)?;
    match u16::from_be_bytes(version) {
        FORMAT_VERSION => {}
        got => return Err(SnapshotError::UnknownFormat { got }),
    }
    let mut body = Vec::new();
    input.read_to_end(&mut body)?;
    let (mut state, rest): (State, &[u8]) =
        postcard::take_from_bytes(&body).map_err(SnapshotError::Malformed)?;
    if !rest.is_empty() {
        return Err(SnapshotError::TrailingBytes { got_bytes: rest.len() });
    }
    state.rebuild_derived();
    Ok(state)
}
