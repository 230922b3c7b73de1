//! The first 4 KiB of a segment: which one it is, and the log's state when it began.
//!
//! The state (vote, purge, committed mark, which records are held) makes every earlier segment dispensable once its
//! records are purged. `previous_end` says where the records of the segment before it end: that one was synced whole
//! before this header was written, so anything less there is damage.
//!
//! A header is synced before the first record behind it is written. A segment whose header doesn't validate was
//! therefore never used, unless some record in it proves otherwise.

use bytes::Bytes;
use haltline_core::LogIndex;

use super::{Purged, replay::Carried};

/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 4_096;
/// The newest format that this version reads and the one it writes.
pub(super) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"HALTSEG\n";
/// Magic, format, checksum, length of the body.
const PREFIX_BYTES: usize = 20;

/// A decoded header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The segment's sequence: one more than the segment's before it.
    pub(super) sequence: u64,
    /// Bytes of the file. It had them all before it came into use.
    pub(super) capacity: u32,
    /// Where the records of the previous segment end; 0 for the first.
    pub(super) previous_end: u32,
    /// The log's state before this segment's first record.
    pub(super) carried: Carried,
}

/// Why bytes are no header of this segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// Torn, damaged, zeros, or another segment's.
    Invalid(&'static str),
    /// Whole, of a format that this version doesn't know.
    Newer(u32),
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => buffer.push(0),
        Some(bytes) => {
            buffer.push(1);
            buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            buffer.extend_from_slice(bytes);
        }
    }
}

fn put_range(buffer: &mut Vec<u8>, held: Option<(LogIndex, LogIndex)>) {
    buffer.push(u8::from(held.is_some()));
    let (first, last) = held.unwrap_or_default();
    buffer.extend_from_slice(&first.0.to_le_bytes());
    buffer.extend_from_slice(&last.0.to_le_bytes());
}

/// The header as bytes, padded with zeros to its full size.
pub(super) fn encode(header: &SegmentHeader) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER_BYTES);
    body.extend_from_slice(&header.sequence.to_le_bytes());
    body.extend_from_slice(&header.capacity.to_le_bytes());
    body.extend_from_slice(&header.previous_end.to_le_bytes());
    put_range(&mut body, header.carried.held);
    let purged = header.carried.purged.as_ref();
    body.extend_from_slice(&purged.map_or(0, |purged| purged.index.0).to_le_bytes());
    put_bytes(&mut body, purged.map(|purged| &*purged.mark));
    put_bytes(&mut body, header.carried.vote.as_deref());
    put_bytes(&mut body, header.carried.committed.as_deref());

    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    let length = (body.len() as u32).to_le_bytes();
    bytes.extend_from_slice(&checksum(FORMAT, length, &body).to_le_bytes());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&body);
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

fn checksum(format: u32, length: [u8; 4], body: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&format.to_le_bytes()), &length);
    crc32c::crc32c_append(head, body)
}

/// Takes values off the front of a header's body.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<Option<Bytes>> {
        if !self.flag()? {
            return Some(None);
        }
        let length = self.u32()? as usize;
        Some(Some(Bytes::copy_from_slice(self.take(length)?)))
    }
}

fn decode_body(body: &[u8]) -> Option<SegmentHeader> {
    let mut cursor = Cursor(body);
    let (sequence, capacity, previous_end) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
    let is_held = cursor.flag()?;
    let held = (LogIndex(cursor.u64()?), LogIndex(cursor.u64()?));
    let purged_index = LogIndex(cursor.u64()?);
    let purged = cursor.bytes()?.map(|mark| Purged { index: purged_index, mark });
    let (vote, committed) = (cursor.bytes()?, cursor.bytes()?);
    let is_sound = cursor.0.is_empty() && (!is_held || held.0 <= held.1);
    let carried = Carried { purged, vote, committed, held: is_held.then_some(held) };
    is_sound.then_some(SegmentHeader { sequence, capacity, previous_end, carried })
}

/// Reads the header of the segment with this sequence from the beginning of its file.
pub(super) fn decode(sequence: u64, bytes: &[u8]) -> Result<SegmentHeader, HeaderFault> {
    let Some(bytes) = bytes.get(..HEADER_BYTES) else {
        return Err(HeaderFault::Invalid("a file that ends in it"));
    };
    let (prefix, rest) = bytes.split_at(PREFIX_BYTES);
    if prefix[..8] != MAGIC {
        return Err(HeaderFault::Invalid("other bytes than a header's first"));
    }
    let mut cursor = Cursor(&prefix[8..]);
    let (Some(format), Some(crc), Some(length)) = (cursor.u32(), cursor.u32(), cursor.u32()) else {
        return Err(HeaderFault::Invalid("too few bytes"));
    };
    let Some(body) = rest.get(..length as usize) else {
        return Err(HeaderFault::Invalid("an impossible length"));
    };
    if checksum(format, length.to_le_bytes(), body) != crc {
        return Err(HeaderFault::Invalid("a wrong checksum (CRC-32C)"));
    }
    if format > FORMAT {
        return Err(HeaderFault::Newer(format));
    }
    match decode_body(body) {
        Some(header) if header.sequence == sequence => Ok(header),
        Some(_) => Err(HeaderFault::Invalid("the header of another segment")),
        None => Err(HeaderFault::Invalid("a body that can't be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            sequence: 9,
            capacity: 16_384,
            previous_end: 12_288,
            carried: Carried {
                purged: Some(Purged { index: LogIndex(40), mark: Bytes::from_static(b"3-1-40") }),
                vote: Some(Bytes::from_static(b"4-2")),
                committed: None,
                held: Some((LogIndex(41), LogIndex(99))),
            },
        }
    }

    #[test]
    fn comes_back() {
        let empty =
            SegmentHeader { sequence: 1, capacity: 8_192, previous_end: 0, carried: Carried::default() };
        for header in [sample(), empty] {
            let bytes = encode(&header);
            assert_eq!(bytes.len(), HEADER_BYTES);
            assert_eq!(decode(header.sequence, &bytes), Ok(header));
        }
        assert!(decode(8, &encode(&sample())).is_err());
    }

    #[test]
    fn the_largest_fits() {
        use haltline_core::limits::LOG_MARK_BYTES_MAX;
        let mark = Bytes::from(vec![7; LOG_MARK_BYTES_MAX]);
        let mut header = sample();
        header.carried.purged = Some(Purged { index: LogIndex(40), mark: mark.clone() });
        header.carried.vote = Some(mark.clone());
        header.carried.committed = Some(mark);
        assert_eq!(decode(9, &encode(&header)), Ok(header));
    }

    #[test]
    fn damage_and_a_newer_format_show() {
        let bytes = encode(&sample());
        let used = PREFIX_BYTES + 61;
        for bit in 0..used * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(9, &flipped), Err(HeaderFault::Invalid(_))), "bit {bit}");
        }
        let mut newer = bytes;
        newer[8..12].copy_from_slice(&2_u32.to_le_bytes());
        let length: [u8; 4] = newer[16..20].try_into().expect("four bytes");
        let body_end = PREFIX_BYTES + u32::from_le_bytes(length) as usize;
        let crc = checksum(2, length, &newer[PREFIX_BYTES..body_end]);
        newer[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(9, &newer), Err(HeaderFault::Newer(2)));
    }
}
