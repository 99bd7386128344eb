//! What the archive is told, and the limits that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use super::DirectIo;
use super::format::{BODY_BYTES_MAX, SEGMENT_HEADER_BYTES, charge_max, position_bytes_max};

/// Frames in a batch given to [`Appender::append`](super::Appender::append) at most.
pub const BATCH_FRAMES_MAX: usize = 64;
/// Payloads in a batch exceed this many bytes by at most one frame.
pub const BATCH_PAYLOAD_BYTES: usize = 256 << 10;
/// Largest payload of a frame that can be configured: a batch that ends with one fits into half a block.
pub const PAYLOAD_BYTES_MAX: usize = BODY_BYTES_MAX as usize / 2 - BATCH_PAYLOAD_BYTES;
/// A block is gathered up to this size; a single larger batch is a block of its own.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Space is allocated in steps of this size.
const GROW_BYTES: u64 = 32 << 20;
/// Space kept allocated ahead of what is written, so that the gate stays open between two steps.
const AHEAD_BYTES: u64 = 16 << 20;
/// Holes one recovery records at most; further ones are merged into the last.
pub(super) const HOLES_MAX: usize = 1_024;

/// How the archive works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory of the segments, `<data_dir>/archive`; created where missing.
    pub dir: PathBuf,
    /// How long routine frames are gathered for one commit at most; after a silence a quarter of it. Emergencies do not
    /// wait.
    pub commit_delay: Duration,
    /// A segment is sealed at about this size.
    pub segment_bytes: u64,
    /// Space kept for emergencies when the disk is full; the next segment in the making.
    pub reserve_bytes: u64,
    /// Streams whose positions are kept (`ingest.max_streams`); frames of a stream beyond are stored, but without a
    /// position, and an error is logged.
    pub max_streams: usize,
    /// Largest payload of a frame.
    pub payload_bytes_max: usize,
    /// What is kept of sealed segments.
    pub retention: Retention,
    /// Whether blocks are written past the page cache.
    pub direct_io: DirectIo,
}

/// When sealed segments are deleted, oldest first. The default keeps all of them.
///
/// Clients resume where they stood whatever has expired: each segment begins with the positions of all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Age of a segment's youngest frame, by its `received_ns`, from which it goes.
    ///
    /// No segment is taken to be younger than one before it, and times that cannot be true do not count. Only while the
    /// wall clock can be trusted (see [`AgeHold`](super::AgeHold)), and one segment a minute at most; `bytes` holds all
    /// the same.
    pub age: Option<Duration>,
    /// Bytes of all segments and their side files, the segment being written included, beyond which the oldest goes. The
    /// reserve and `lost/` do not count.
    pub bytes: Option<u64>,
}

impl Config {
    /// Default of [`Config::commit_delay`].
    pub const COMMIT_DELAY: Duration = Duration::from_millis(8);
    /// Default of [`Config::segment_bytes`].
    pub const SEGMENT_BYTES: u64 = 256 << 20;
    /// Default of [`Config::reserve_bytes`].
    pub const RESERVE_BYTES: u64 = 64 << 20;

    /// The defaults for an archive in `dir` with at most `max_streams` streams and payloads of at most
    /// `payload_bytes_max` bytes.
    #[must_use]
    pub fn new(dir: PathBuf, max_streams: usize, payload_bytes_max: usize) -> Self {
        Self {
            dir,
            commit_delay: Self::COMMIT_DELAY,
            segment_bytes: Self::SEGMENT_BYTES,
            reserve_bytes: Self::RESERVE_BYTES,
            max_streams,
            payload_bytes_max,
            retention: Retention::default(),
            direct_io: DirectIo::default(),
        }
    }
}

/// Why a [`Config`] cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The largest batch would not fit into a block.
    #[error("payload_bytes_max is {found}, at most {max} fits into a block")]
    Payload {
        /// As configured.
        found: usize,
        /// The largest that works.
        max: usize,
    },
    /// The reserve could not hold the positions and a few blocks.
    #[error(
        "archive reserve is {found} bytes, at least {min} are needed for {max_streams} streams and a few blocks"
    )]
    Reserve {
        /// As configured.
        found: u64,
        /// The smallest that works.
        min: u64,
        /// Whose positions it must hold.
        max_streams: usize,
    },
    /// The reserve becomes a segment, so it may not be larger than one.
    #[error("archive reserve is {reserve} bytes, which is more than a segment of {segment}")]
    Segment {
        /// The reserve as configured.
        reserve: u64,
        /// The segment size as configured.
        segment: u64,
    },
    /// Retention must leave a sealed segment beside the one being written, and the reserve.
    #[error("archive retention is {found} bytes, at least {min} are needed for two segments and the reserve")]
    Retention {
        /// As configured.
        found: u64,
        /// The smallest that works.
        min: u64,
    },
}

impl Config {
    /// Checks that the sizes work together.
    ///
    /// # Errors
    /// [`ConfigError`] with what was found and what is needed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.payload_bytes_max > PAYLOAD_BYTES_MAX {
            let found = self.payload_bytes_max;
            return Err(ConfigError::Payload { found, max: PAYLOAD_BYTES_MAX });
        }
        let min = self.reserve_bytes_min();
        if self.reserve_bytes < min {
            return Err(ConfigError::Reserve {
                found: self.reserve_bytes,
                min,
                max_streams: self.max_streams,
            });
        }
        if self.segment_bytes < self.reserve_bytes {
            return Err(ConfigError::Segment { reserve: self.reserve_bytes, segment: self.segment_bytes });
        }
        let min = self.retention_bytes_min();
        match self.retention.bytes {
            Some(found) if found < min => Err(ConfigError::Retention { found, min }),
            _ => Ok(()),
        }
    }

    /// The smallest [`Retention::bytes`]: two segments and the reserve.
    #[must_use]
    pub fn retention_bytes_min(&self) -> u64 {
        self.segment_bytes.saturating_mul(2).saturating_add(self.reserve_bytes)
    }

    /// Space that what is derived from the log leaves free for the log: a new reserve and the next step of growth.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.reserve_bytes + Limits::new(self).grow_bytes
    }

    /// The smallest reserve: positions of all streams, what is past the gate when it closes, and as much again for
    /// emergencies.
    #[must_use]
    pub fn reserve_bytes_min(&self) -> u64 {
        let block_bytes = self.batch_charge_max().max(BLOCK_BYTES.min(self.reserve_bytes / 8));
        let fixed = self.segment_overhead_bytes() + 2 * block_bytes;
        let charge_max = charge_max(self.payload_bytes_max);
        // What is kept allocated ahead is a quarter of the reserve, within limits; solved for the reserve.
        (fixed + AHEAD_BYTES).min((fixed * 4).div_ceil(3)).max(fixed + charge_max)
    }

    fn batch_charge_max(&self) -> u64 {
        let frames = BATCH_FRAMES_MAX as u64;
        let by_payload = frames * charge_max(0) + (BATCH_PAYLOAD_BYTES + self.payload_bytes_max) as u64;
        by_payload.min(frames * charge_max(self.payload_bytes_max))
    }

    /// Header and positions of a new segment.
    fn segment_overhead_bytes(&self) -> u64 {
        SEGMENT_HEADER_BYTES + position_bytes_max(self.max_streams)
    }
}

/// Sizes that follow from a [`Config`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A block is gathered up to this size.
    pub(super) block_bytes: u64,
    /// The largest block there can be: a whole batch of the largest frames.
    pub(super) block_bytes_max: u64,
    /// Space kept allocated ahead of what is written.
    pub(super) ahead_bytes: u64,
    /// Step of allocation.
    pub(super) grow_bytes: u64,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let block_bytes = BLOCK_BYTES.min(config.reserve_bytes / 8);
        Self {
            block_bytes,
            block_bytes_max: config.batch_charge_max().max(block_bytes),
            ahead_bytes: AHEAD_BYTES.min(config.reserve_bytes / 4).max(charge_max(config.payload_bytes_max)),
            grow_bytes: GROW_BYTES.min(config.segment_bytes),
        }
    }
}
