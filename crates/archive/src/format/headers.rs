//! The headers of segments and blocks.

use super::bytes::Cursor;
use super::crc::is_intact;
use super::{ALIGNMENT, BLOCK_HEADER_BYTES, BODY_BYTES_MAX, OFFSET_MAX, SEGMENT_HEADER_BYTES, VERSION};

const SEGMENT_MAGIC: &[u8; 8] = b"TMASEGMT";
const BLOCK_MAGIC: &[u8; 4] = b"TMAB";
const SEGMENT_BYTES: usize = SEGMENT_HEADER_BYTES as usize;
const BLOCK_BYTES: usize = BLOCK_HEADER_BYTES as usize;

/// Why bytes are no header of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// A sound header of a version this build does not know.
    Version(u16),
    /// Not a header, or a damaged one.
    Damaged,
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u64,
    pub(crate) segment_id: u64,
    pub(crate) base_offset: u64,
    pub(crate) created_ns: i64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_BYTES] {
        let mut bytes = [0; SEGMENT_BYTES];
        bytes[0..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.segment_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_ns.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = sealed::<SEGMENT_BYTES>(bytes, SEGMENT_MAGIC)?;
        let fields = || {
            let mut cursor = Cursor(&bytes[8..]);
            let version = cursor.u16()?;
            cursor.take(6)?;
            let header = Self {
                log_id: cursor.u64()?,
                segment_id: cursor.u64()?,
                base_offset: cursor.u64()?,
                created_ns: cursor.i64()?,
            };
            Some((version, header))
        };
        match fields() {
            Some((VERSION, header)) if header.base_offset > OFFSET_MAX => Err(HeaderError::Damaged),
            Some((VERSION, header)) => Ok(header),
            Some((version, _)) => Err(HeaderError::Version(version)),
            None => Err(HeaderError::Damaged),
        }
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BlockKind {
    Frames = 1,
    Positions = 2,
    Attestation = 3,
    Hole = 4,
}

impl BlockKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Frames),
            2 => Some(Self::Positions),
            3 => Some(Self::Attestation),
            4 => Some(Self::Hole),
            _ => None,
        }
    }
}

/// The first bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) kind: BlockKind,
    pub(crate) origin_count: u16,
    pub(crate) body_len: u32,
    pub(crate) frame_count: u32,
    pub(crate) segment_id: u64,
    pub(crate) position: u64,
    pub(crate) first_offset: u64,
    pub(crate) synced_offset: u64,
    pub(crate) received_max_ns: i64,
    pub(crate) body_crc: u32,
}

impl BlockHeader {
    /// Offset behind the block's last frame.
    pub(crate) const fn next_offset(&self) -> u64 {
        self.first_offset + self.frame_count as u64
    }

    /// Position behind the block.
    pub(crate) const fn end(&self) -> u64 {
        self.position + BLOCK_HEADER_BYTES + self.body_len as u64
    }

    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        bytes[0..4].copy_from_slice(BLOCK_MAGIC);
        bytes[4] = VERSION as u8;
        bytes[5] = self.kind as u8;
        bytes[6..8].copy_from_slice(&self.origin_count.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.frame_count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced_offset.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.received_max_ns.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.body_crc.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// Panics unless readers accept a block with this header. Called before each write.
    pub(crate) fn assert_valid(&self) {
        let Self { kind, body_len, frame_count, position, first_offset, synced_offset, .. } = *self;
        assert!(
            position.is_multiple_of(ALIGNMENT),
            "the block begins at {position}, not at a multiple of {ALIGNMENT}"
        );
        assert!(u64::from(body_len).is_multiple_of(ALIGNMENT), "the body of {body_len} bytes is not padded");
        assert!(
            u64::from(body_len) <= BODY_BYTES_MAX,
            "the body of {body_len} bytes is larger than readers accept"
        );
        assert_eq!(
            kind == BlockKind::Frames,
            frame_count > 0,
            "a block of {kind:?} has {frame_count} frames"
        );
        assert!(
            synced_offset <= first_offset,
            "the block at offset {first_offset} attests the later offset {synced_offset}"
        );
        assert!(
            self.next_offset() <= OFFSET_MAX,
            "the block ends at the offset {}, above the limit",
            self.next_offset()
        );
    }

    /// Reads the header at `position`, of the segment `segment_id` if the id is known.
    pub(crate) fn decode(bytes: &[u8], position: u64, segment_id: Option<u64>) -> Result<Self, HeaderError> {
        let bytes = sealed::<BLOCK_BYTES>(bytes, BLOCK_MAGIC)?;
        let header = Self::fields(&bytes).ok_or(HeaderError::Damaged)?;
        let sound = header.position == position
            && segment_id.is_none_or(|id| id == header.segment_id)
            && u64::from(header.body_len).is_multiple_of(ALIGNMENT)
            && u64::from(header.body_len) <= BODY_BYTES_MAX
            && header.synced_offset <= OFFSET_MAX
            && header.first_offset <= OFFSET_MAX - u64::from(header.frame_count);
        sound.then_some(header).ok_or(HeaderError::Damaged)
    }

    fn fields(bytes: &[u8; BLOCK_BYTES]) -> Option<Self> {
        let mut cursor = Cursor(&bytes[4..]);
        if u16::from(cursor.u8()?) != VERSION {
            return None;
        }
        Some(Self {
            kind: BlockKind::from_byte(cursor.u8()?)?,
            origin_count: cursor.u16()?,
            body_len: cursor.u32()?,
            frame_count: cursor.u32()?,
            segment_id: cursor.u64()?,
            position: cursor.u64()?,
            first_offset: cursor.u64()?,
            synced_offset: cursor.u64()?,
            received_max_ns: cursor.i64()?,
            body_crc: cursor.u32()?,
        })
    }

    /// Whether a block can start with `bytes`: a cheap test before [`Self::decode`].
    pub(crate) fn is_magic(bytes: &[u8]) -> bool {
        bytes.starts_with(BLOCK_MAGIC)
    }
}

fn seal<const N: usize>(bytes: &mut [u8; N]) {
    let crc = crc32c::crc32c(&bytes[..N - 4]);
    bytes[N - 4..].copy_from_slice(&crc.to_le_bytes());
}

/// The first `N` bytes, if they start with `magic` and end with their checksum.
fn sealed<const N: usize>(bytes: &[u8], magic: &[u8]) -> Result<[u8; N], HeaderError> {
    let bytes: &[u8; N] = bytes.first_chunk().ok_or(HeaderError::Damaged)?;
    let (content, crc) = bytes.split_last_chunk().ok_or(HeaderError::Damaged)?;
    let is_sound = bytes.starts_with(magic) && is_intact(content, u32::from_le_bytes(*crc));
    if is_sound { Ok(*bytes) } else { Err(HeaderError::Damaged) }
}
