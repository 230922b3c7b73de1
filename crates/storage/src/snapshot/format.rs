//! A snapshot file: a header, chunks, and a footer.
//!
//! ```text
//! header  magic(8) format(4) CRC(4) index(8) sequence(8) meta length(4) meta
//! chunk   length(4) CRC(4) bytes          (length > 0)
//! footer  0(4) CRC(4) chunks(8) bytes(8) SHA-256 of the content(32)
//! ```
//!
//! All CRCs are CRC-32C. A chunk's starts from the file's sequence and the chunk's number, so that no chunk passes for
//! another. The digest is over the content alone, so it is the same on every node that holds the same state.

use bytes::Bytes;
use haltline_core::{
    LogIndex,
    limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_META_BYTES_MAX},
};

use super::SnapshotMeta;

/// The newest format that this version reads and the one it writes.
pub(super) const FORMAT: u32 = 1;
/// Bytes of the header before the metadata.
pub(super) const HEADER_BYTES: usize = 36;
/// Bytes before a chunk's content.
pub(super) const CHUNK_PREFIX_BYTES: usize = 8;
/// Bytes of the footer.
pub(super) const FOOTER_BYTES: usize = 56;

const MAGIC: [u8; 8] = *b"HALTSNAP";

/// The header of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) sequence: u64,
    pub(super) meta: SnapshotMeta,
}

/// The end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) chunks: u64,
    pub(super) content_bytes: u64,
    pub(super) digest: [u8; 32],
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A chunk with this many bytes and this checksum.
    Chunk { length: usize, crc: u32 },
    /// The footer.
    Footer,
}

/// Why bytes aren't what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A whole header of a later format.
    Newer(u32),
    /// In words.
    Bad(&'static str),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The header as bytes.
pub(super) fn encode_header(header: &FileHeader) -> Vec<u8> {
    let meta = &header.meta.meta;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + meta.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&header.meta.index.0.to_le_bytes());
    bytes.extend_from_slice(&header.sequence.to_le_bytes());
    bytes.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    bytes.extend_from_slice(meta);
    let crc = header_crc(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn header_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

/// How many bytes the metadata takes, from the header's fixed part.
pub(super) fn meta_length(fixed: &[u8]) -> Result<usize, Fault> {
    if fixed.len() < HEADER_BYTES {
        return Err(Fault::Bad("the end of the file"));
    }
    if fixed[..8] != MAGIC {
        return Err(Fault::Bad("other bytes than a snapshot's first"));
    }
    let length = u32_at(fixed, 32) as usize;
    if length > SNAPSHOT_META_BYTES_MAX { Err(Fault::Bad("an impossible length")) } else { Ok(length) }
}

/// Reads a whole header, metadata included.
pub(super) fn decode_header(bytes: &[u8]) -> Result<FileHeader, Fault> {
    let length = meta_length(bytes)?;
    let Some(bytes) = bytes.get(..HEADER_BYTES + length) else {
        return Err(Fault::Bad("the end of the file"));
    };
    if header_crc(bytes) != u32_at(bytes, 12) {
        return Err(Fault::Bad("a wrong checksum (CRC-32C)"));
    }
    let format = u32_at(bytes, 8);
    if format > FORMAT {
        return Err(Fault::Newer(format));
    }
    let meta = Bytes::copy_from_slice(&bytes[HEADER_BYTES..]);
    let meta = SnapshotMeta { index: LogIndex(u64_at(bytes, 16)), meta };
    Ok(FileHeader { sequence: u64_at(bytes, 24), meta })
}

/// The checksum of a chunk.
pub(super) fn chunk_crc(sequence: u64, number: u64, content: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &number.to_le_bytes());
    crc32c::crc32c_append(seed, content)
}

/// Adds a chunk to the buffer.
pub(super) fn encode_chunk(buffer: &mut Vec<u8>, sequence: u64, number: u64, content: &[u8]) {
    buffer.extend_from_slice(&(content.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&chunk_crc(sequence, number, content).to_le_bytes());
    buffer.extend_from_slice(content);
}

/// Reads what comes next from the 8 bytes before it.
pub(super) fn decode_prefix(prefix: &[u8]) -> Result<Next, Fault> {
    if prefix.len() < CHUNK_PREFIX_BYTES {
        return Err(Fault::Bad("the end of the file"));
    }
    match u32_at(prefix, 0) as usize {
        0 => Ok(Next::Footer),
        length if length <= SNAPSHOT_CHUNK_BYTES_MAX => Ok(Next::Chunk { length, crc: u32_at(prefix, 4) }),
        _ => Err(Fault::Bad("an impossible length")),
    }
}

/// The footer as bytes.
pub(super) fn encode_footer(sequence: u64, footer: &Footer) -> Vec<u8> {
    let mut bytes = vec![0; CHUNK_PREFIX_BYTES];
    bytes.extend_from_slice(&footer.chunks.to_le_bytes());
    bytes.extend_from_slice(&footer.content_bytes.to_le_bytes());
    bytes.extend_from_slice(&footer.digest);
    let crc = chunk_crc(sequence, u64::MAX, &bytes[CHUNK_PREFIX_BYTES..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the footer.
pub(super) fn decode_footer(sequence: u64, bytes: &[u8]) -> Result<Footer, Fault> {
    if bytes.len() < FOOTER_BYTES {
        return Err(Fault::Bad("the end of the file"));
    }
    let body = &bytes[CHUNK_PREFIX_BYTES..FOOTER_BYTES];
    if u32_at(bytes, 0) != 0 || chunk_crc(sequence, u64::MAX, body) != u32_at(bytes, 4) {
        return Err(Fault::Bad("a wrong checksum (CRC-32C)"));
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(&body[16..]);
    Ok(Footer { chunks: u64_at(body, 0), content_bytes: u64_at(body, 8), digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_footer_come_back_and_flips_show() {
        let meta = SnapshotMeta { index: LogIndex(77), meta: Bytes::from_static(b"members") };
        let header = FileHeader { sequence: 3, meta };
        let bytes = encode_header(&header);
        assert_eq!(decode_header(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode_header(&flipped), Err(Fault::Bad(_))), "bit {bit}");
        }
        let footer = Footer { chunks: 2, content_bytes: 9, digest: [5; 32] };
        let bytes = encode_footer(3, &footer);
        assert_eq!(bytes.len(), FOOTER_BYTES);
        assert_eq!(decode_footer(3, &bytes), Ok(footer));
        assert!(decode_footer(4, &bytes).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_footer(3, &flipped).is_err(), "bit {bit}");
        }
    }
}
