//! The configuration of the archive, and the limits that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use crate::DirectIo;
use crate::format::{BODY_BYTES_MAX, SEGMENT_HEADER_BYTES, frame_log_bytes_max, position_bytes_max};

/// Largest number of frames in a batch given to [`Appender::append`](crate::Appender::append).
pub const BATCH_FRAMES_MAX: usize = 64;
/// Limit of the payload bytes in a batch. Only the last frame of a batch may bring the sum above it.
pub const BATCH_PAYLOAD_BYTES: usize = 256 << 10;
/// Largest payload of a frame that can be configured, in bytes. A batch that ends with such a frame fits into half of
/// the largest body of a block, which leaves room for the headers of its frames.
pub const PAYLOAD_BYTES_MAX: usize = BODY_BYTES_MAX as usize / 2 - BATCH_PAYLOAD_BYTES;
/// Size in bytes at which a block is full. A single batch may be larger.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Space is allocated in steps of this many bytes.
const GROW_BYTES: u64 = 32 << 20;
/// Bytes kept allocated behind the last block, so that the gate stays open between two allocations.
const AHEAD_BYTES: u64 = 16 << 20;
/// Largest number of holes that one recovery records. It merges further holes into the last one.
pub(super) const HOLES_MAX: usize = 1_024;

/// The configuration of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory of the segments, `<data_dir>/archive`. The archive creates it if it is missing.
    pub dir: PathBuf,
    /// Longest time that the commit thread collects routine frames for one block. After a pause of at least this
    /// time without a routine frame, it collects for only a quarter of the time. Emergencies do not wait.
    pub commit_delay: Duration,
    /// Approximate size in bytes at which a segment is sealed.
    pub segment_bytes: u64,
    /// Bytes kept for emergencies when the disk is full. This space becomes the next segment.
    pub reserve_bytes: u64,
    /// Largest number of streams whose positions are kept (`ingest.max_streams`). Frames of further streams are stored
    /// without a position, and an error is logged.
    pub max_streams: usize,
    /// Largest payload of a frame, in bytes.
    pub payload_bytes_max: usize,
    /// When sealed segments are deleted.
    pub retention: Retention,
    /// Whether blocks are written past the page cache.
    pub direct_io: DirectIo,
}

/// When sealed segments are deleted, oldest first. The default keeps all of them.
///
/// A client can resume even if all its frames have expired, because each segment begins with the positions of all
/// streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Age at which a segment is deleted: the age of its youngest frame, by `received_ns`.
    ///
    /// A segment never counts as older than a segment before it. Frames with an implausible time do not count. Segments expire by age only
    /// while the wall clock can be trusted (see [`AgeHold`](crate::AgeHold)), at most one per minute. `bytes` applies
    /// at any time.
    pub age: Option<Duration>,
    /// Largest total size in bytes. Above it the oldest segment is deleted. The total covers all segments, including
    /// the one being written, and their side files. The reserve and `lost/` do not count.
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
    /// The reserve is too small for the positions and a few blocks.
    #[error(
        "archive reserve is {found} bytes, at least {min} are needed for {max_streams} streams and a few blocks"
    )]
    Reserve {
        /// As configured.
        found: u64,
        /// The smallest that works.
        min: u64,
        /// Number of streams whose positions the reserve must hold.
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
    /// [`ConfigError`] with the configured value and the value needed.
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

    /// Free bytes on the disk that files derived from the log, such as an index, must not use. The log needs them for a
    /// new reserve and the next step of growth.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.reserve_bytes + Limits::new(self).grow_bytes
    }

    /// The smallest reserve in bytes that works.
    ///
    /// It holds the header and the positions of a new segment, two of the largest blocks, and the space that is kept
    /// allocated ahead (`Limits::ahead_bytes`). One of the blocks is for frames that have passed the gate when it
    /// closes, the other for emergencies.
    #[must_use]
    pub fn reserve_bytes_min(&self) -> u64 {
        // A larger reserve has larger blocks, and so needs more. Blocks grow by an eighth of it, so the loop ends.
        let mut min = 0;
        loop {
            let needed = self.reserve_bytes_for(BLOCK_BYTES.min(min / 8));
            if needed <= min {
                return min;
            }
            min = needed;
        }
    }

    /// The smallest reserve in bytes for blocks that are full at `block_bytes`.
    fn reserve_bytes_for(&self, block_bytes: u64) -> u64 {
        let fixed = self.segment_overhead_bytes() + 2 * block_bytes.max(self.batch_log_bytes_max());
        // `Limits::ahead_bytes` is a quarter of the reserve, at most `AHEAD_BYTES` and at least one frame. The condition
        // `reserve >= fixed + ahead_bytes`, solved for the reserve, gives a term for each of the three.
        let (ahead_max, quarter) = (fixed + AHEAD_BYTES, (fixed * 4).div_ceil(3));
        ahead_max.min(quarter).max(fixed + frame_log_bytes_max(self.payload_bytes_max))
    }

    /// Largest [`log_bytes_max`](crate::log_bytes_max) of a batch: the bytes that its frames take on the disk at most.
    fn batch_log_bytes_max(&self) -> u64 {
        let frames = BATCH_FRAMES_MAX as u64;
        let by_payload =
            frames * frame_log_bytes_max(0) + (BATCH_PAYLOAD_BYTES + self.payload_bytes_max) as u64;
        by_payload.min(frames * frame_log_bytes_max(self.payload_bytes_max))
    }

    /// Largest size in bytes of the header and positions of a new segment.
    fn segment_overhead_bytes(&self) -> u64 {
        SEGMENT_HEADER_BYTES + position_bytes_max(self.max_streams)
    }
}

/// Sizes in bytes that follow from a [`Config`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Size at which a block is full.
    pub(super) block_bytes: u64,
    /// Size of the largest possible block: a full block, or a single batch if that is larger.
    pub(super) block_bytes_max: u64,
    /// Space kept allocated behind the last block.
    pub(super) ahead_bytes: u64,
    /// Step of allocation.
    pub(super) grow_bytes: u64,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let block_bytes = BLOCK_BYTES.min(config.reserve_bytes / 8);
        Self {
            block_bytes,
            block_bytes_max: config.batch_log_bytes_max().max(block_bytes),
            ahead_bytes: AHEAD_BYTES
                .min(config.reserve_bytes / 4)
                .max(frame_log_bytes_max(config.payload_bytes_max)),
            grow_bytes: GROW_BYTES.min(config.segment_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_reserve_works_and_a_smaller_one_does_not() {
        for (max_streams, payload_bytes_max) in [(1, 64), (1_024, 128 << 10), (100_000, 1 << 20)] {
            for reserve_bytes in [0, 1 << 20, 64 << 20] {
                let config =
                    Config { reserve_bytes, ..Config::new("a".into(), max_streams, payload_bytes_max) };
                let min = config.reserve_bytes_min();
                let with = |reserve_bytes| Config { reserve_bytes, ..config.clone() }.validate();
                assert_eq!(with(min), Ok(()));
                assert!(matches!(with(min - 1), Err(ConfigError::Reserve { .. })), "{max_streams} streams");
            }
        }
    }
}
