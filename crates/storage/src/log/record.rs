//! One record as bytes: a header of 32 bytes, the payload, zeros up to the next multiple of 8.
//!
//! ```text
//!  0        4         8        12         16       24     25      28        32
//!  │ head   │ payload │ length │ durable  │ index  │ kind │ magic │ segment │ payload …
//!  │ CRC    │ CRC     │        │          │        │      │       │ (low)   │
//! ```
//!
//! Both CRC-32C start from the segment's sequence and the record's offset in it, so bytes of a recycled segment, or of
//! another place in the same one, never validate. The header has a checksum of its own: a header that validates is
//! believed even when its payload is torn, and a scan for headers costs 32 bytes a step however long payloads are.
//!
//! `durable` is the number of bytes of this segment that were known to be synced when the record was written. That is
//! what tells damage from a torn tail: damage below the `durable` of any later record was once whole on disk.

use haltline_core::LogIndex;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 32;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

const MAGIC: [u8; 3] = *b"HLR";

/// What a record does to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Adds an entry.
    Entry = 1,
    /// Drops the entries from the index on.
    Truncate = 2,
    /// Drops the entries through the index; the payload is its mark.
    Purge = 3,
    /// Replaces the vote.
    Vote = 4,
    /// Replaces the committed mark.
    Committed = 5,
    /// Nothing: written by a clean shutdown, so that damage to what lies before it can be told from a torn tail.
    Close = 6,
    /// Nothing: written behind the last record of a full segment once the next one is in use, so that the loss of that
    /// file shows. Its room is kept free.
    Continued = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Truncate,
            3 => Self::Purge,
            4 => Self::Vote,
            5 => Self::Committed,
            6 => Self::Close,
            7 => Self::Continued,
            _ => return None,
        })
    }
}

/// Where a record lies: both feed its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// The segment's sequence.
    pub(super) segment: u64,
    /// The offset of the record's first byte in the segment's file.
    pub(super) offset: u32,
}

impl Spot {
    fn seed(self) -> u32 {
        let mut identity = [0; 12];
        identity[..8].copy_from_slice(&self.segment.to_le_bytes());
        identity[8..].copy_from_slice(&self.offset.to_le_bytes());
        crc32c::crc32c(&identity)
    }
}

/// A record's header whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) index: LogIndex,
    /// Bytes of the segment that were synced when this was written.
    pub(super) durable: u32,
    /// Bytes of payload.
    pub(super) length: u32,
    payload_crc: u32,
}

impl Header {
    /// Bytes from this record's first to the next one's.
    pub(super) fn frame_bytes(&self) -> usize {
        frame_bytes(self.length as usize)
    }

    /// Whether this is the payload that was written.
    pub(super) fn matches(&self, spot: Spot, payload: &[u8]) -> bool {
        payload.len() == self.length as usize
            && crc32c::crc32c_append(spot.seed(), payload) == self.payload_crc
    }
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing was ever written here (or the file ends).
    Blank,
    /// Not a header, or one of another segment or place.
    BadHeader,
    /// The header is right, the payload isn't.
    BadPayload,
}

impl Fault {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Blank => "only zeros",
            Self::BadHeader => "bytes whose header checksum (CRC-32C) is wrong",
            Self::BadPayload => "a record whose payload checksum (CRC-32C) is wrong",
        }
    }
}

/// Bytes that a record with this much payload takes.
pub(super) fn frame_bytes(payload: usize) -> usize {
    HEADER_BYTES + payload.next_multiple_of(ALIGNMENT)
}

/// Adds a record to the buffer.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    spot: Spot,
    durable: u32,
    kind: Kind,
    index: LogIndex,
    payload: &[u8],
) {
    let seed = spot.seed();
    let mut header = [0; HEADER_BYTES];
    header[4..8].copy_from_slice(&crc32c::crc32c_append(seed, payload).to_le_bytes());
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&durable.to_le_bytes());
    header[16..24].copy_from_slice(&index.0.to_le_bytes());
    header[24] = kind as u8;
    header[25..28].copy_from_slice(&MAGIC);
    header[28..32].copy_from_slice(&(spot.segment as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(seed, &header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    let end = buffer.len() + frame_bytes(payload.len());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(payload);
    buffer.resize(end, 0);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Reads the header at the beginning of these bytes.
pub(super) fn decode_header(spot: Spot, bytes: &[u8]) -> Result<Header, Fault> {
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Err(Fault::Blank) };
    let Some(kind) = Kind::from_byte(header[24]) else {
        return Err(if header.iter().all(|byte| *byte == 0) { Fault::Blank } else { Fault::BadHeader });
    };
    let is_ours = header[25..28] == MAGIC && u32_at(header, 28) == spot.segment as u32;
    if !is_ours || crc32c::crc32c_append(spot.seed(), &header[4..]) != u32_at(header, 0) {
        return Err(Fault::BadHeader);
    }
    let mut index = [0; 8];
    index.copy_from_slice(&header[16..24]);
    Ok(Header {
        kind,
        index: LogIndex(u64::from_le_bytes(index)),
        durable: u32_at(header, 12),
        length: u32_at(header, 8),
        payload_crc: u32_at(header, 4),
    })
}

/// Reads the record at the beginning of these bytes: its header and its payload.
pub(super) fn decode(spot: Spot, bytes: &[u8]) -> Result<(Header, &[u8]), Fault> {
    let header = decode_header(spot, bytes)?;
    let end = HEADER_BYTES.saturating_add(header.length as usize);
    match bytes.get(HEADER_BYTES..end) {
        Some(payload) if header.matches(spot, payload) => Ok((header, payload)),
        _ => Err(Fault::BadPayload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOT: Spot = Spot { segment: 7, offset: 4_096 };

    fn sample(payload: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        encode(&mut buffer, SPOT, 4_096, Kind::Entry, LogIndex(12), payload);
        buffer
    }

    #[test]
    fn comes_back_at_its_place_only() {
        let bytes = sample(b"stop them all");
        assert_eq!(bytes.len(), frame_bytes(13));
        let (header, payload) = decode(SPOT, &bytes).expect("just written");
        assert_eq!((header.kind, header.index, header.durable), (Kind::Entry, LogIndex(12), 4_096));
        assert_eq!(payload, b"stop them all");
        assert_eq!(decode(Spot { segment: 8, ..SPOT }, &bytes), Err(Fault::BadHeader));
        assert_eq!(decode(Spot { offset: 4_104, ..SPOT }, &bytes), Err(Fault::BadHeader));
        // The low half of the sequence is in the header; the whole of it is in the checksum.
        assert_eq!(decode(Spot { segment: 7 + (1 << 32), ..SPOT }, &bytes), Err(Fault::BadHeader));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_shows() {
        let bytes = sample(b"stop them");
        for bit in 0..(HEADER_BYTES + 9) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(SPOT, &flipped).is_err(), "bit {bit}");
        }
        for length in 0..HEADER_BYTES + 9 {
            assert!(decode(SPOT, &bytes[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(decode(SPOT, &[0; 64]), Err(Fault::Blank));
    }
}
