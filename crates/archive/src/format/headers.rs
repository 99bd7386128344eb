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
    /// A sound header of a segment, of a version this build does not know. Nothing else of such a segment is read.
    Version(u16),
    /// Not a header, or a damaged one. A block of another version also counts as damaged: it cannot belong to a segment
    /// of this version.
    Damaged,
}

/// The first bytes of a segment. `format.rs` has the table of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Random, the same in all segments of a log. Tells segments of different archives apart.
    pub(crate) log_id: u64,
    /// Random, of this segment alone. Each block repeats it, see [`BlockHeader::segment_id`].
    pub(crate) segment_id: u64,
    /// Offset of the segment's first frame. The name of the file has the same number.
    pub(crate) base_offset: u64,
    /// When the segment was begun, in unix nanoseconds.
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
    /// Frames: the block of one commit.
    Frames = 1,
    /// Positions of streams, at the start of a segment.
    Positions = 2,
    /// No body. Only the `synced_offset` of the header counts.
    Attestation = 3,
    /// The record of offsets that are lost.
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

/// The first bytes of a block. A *position* is a place in the file, in bytes. An *offset* is the number of a frame in
/// the log. `format.rs` has the table of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// What the body holds.
    pub(crate) kind: BlockKind,
    /// Entries of the origin table in the body. 0 without frames.
    pub(crate) origin_count: u16,
    /// Bytes of the body, padding included: a multiple of [`ALIGNMENT`].
    pub(crate) body_len: u32,
    /// Frames in the body: at least one in a block of [`BlockKind::Frames`], 0 in any other.
    pub(crate) frame_count: u32,
    /// The id of the segment. Bytes of a payload that look like a block have another id, or another position.
    pub(crate) segment_id: u64,
    /// Where this header lies in the file.
    pub(crate) position: u64,
    /// Offset of the first frame. Without frames: of the next frame to come.
    pub(crate) first_offset: u64,
    /// Every frame below this offset was on stable storage before the block was written.
    pub(crate) synced_offset: u64,
    /// Latest `received_ns` of the frames, in unix nanoseconds. 0 without frames.
    pub(crate) received_max_ns: i64,
    /// CRC-32C of the body.
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

    /// Panics unless the header keeps the rules of the format. Called before each write.
    ///
    /// [`Self::decode`] asks for less: it compares neither the kind with the number of frames nor `synced_offset` with
    /// `first_offset`.
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

    /// Reads the header at `position`, of the segment `segment_id` if the id is known. The body is not checked.
    ///
    /// # Errors
    /// [`HeaderError::Damaged`] for everything that is no header of this version at this place.
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

/// Puts the checksum of all other bytes into the last four.
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
