//! The types that every part of the aggregator shares: frames, lanes, streams (RFC-0047, section "Types").
//!
//! This crate does no I/O and never depends on tokio or on another crate of the workspace.
//!
//! | file | purpose |
//! |---|---|
//! | `lib.rs` | [`Frame`], its lane ([`FramePriority`]), its stream ([`StreamKey`]) and where it came from ([`Origin`]) |
//! | `lanes.rs` | [`Lanes`]: a value for each lane |
//! | `meta.rs` | [`FrameMeta`]: the header of a frame, and where its payload is |
//! | `run.rs` | [`FrameRun`]: frames of one read that share their origin and their memory |
//! | `batch.rs` | [`Batch`]: runs of one lane that go on together |
//! | `read.rs` | [`ReadBuffer`] and [`BufferPool`]: the memory that sockets are read into |
//! | `view.rs` | [`FrameView`]: a frame that borrows its payload |
//! | `cost.rs` | [`frame_cost`]: what a frame counts against credit and memory bounds |
//! | `selection.rs` | [`Selection`]: a choice of frames by source, lane and kind |
//! | `histogram.rs` | [`histogram`]: counts of durations without a lock |
//! | `sample.rs` | frames for tests |
//! | `liveness.rs` | [`liveness`]: whether the loop of a stage still turns |

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

mod batch;
mod cost;
pub mod histogram;
mod lanes;
pub mod liveness;
mod meta;
mod read;
mod run;
#[cfg(any(test, feature = "test-support"))]
pub mod sample;
mod selection;
mod view;

pub use batch::Batch;
#[cfg(any(test, feature = "test-support"))]
pub use batch::{batch_of, batches_of};
pub use cost::{FRAME_COST_MIN, cost_of_weight, frame_cost, weight_max};
pub use lanes::Lanes;
pub use meta::FrameMeta;
pub use read::{BufferPool, ReadBuffer};
pub use run::FrameRun;
#[cfg(any(test, feature = "test-support"))]
pub use run::joined;
pub use selection::Selection;
pub use view::FrameView;

/// The lane a frame travels in. Emergency overtakes routine everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FramePriority {
    /// SAFE_MODE, ABORT: never waits behind routine.
    Emergency = 0,
    /// Ordinary telemetry.
    Routine = 1,
}

impl FramePriority {
    /// Both lanes, in order of precedence. Every `[2]` array has this order.
    pub const ALL: [Self; 2] = [Self::Emergency, Self::Routine];

    /// Position of this lane in a `[Emergency, Routine]` array.
    #[must_use]
    pub const fn lane(self) -> usize {
        self as usize
    }

    /// Reads the wire value. Any value but 0 and 1 is `None`, never silently routine.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Emergency),
            1 => Some(Self::Routine),
            _ => None,
        }
    }

    /// `emergency` or `routine`, as commands and exports write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Routine => "routine",
        }
    }
}

impl fmt::Display for FramePriority {
    /// Writes emergencies in capitals, so that they stand out in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emergency => "EMERGENCY",
            Self::Routine => "routine",
        })
    }
}

/// The origin of a source's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SourceKind {
    /// A satellite that a ground station sees at this moment.
    LiveUplink = 0,
    /// A recording that is played back.
    ArchivedReplay = 1,
}

impl SourceKind {
    /// Reads the wire value; `None` for a reserved one.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::LiveUplink),
            1 => Some(Self::ArchivedReplay),
            _ => None,
        }
    }

    /// `live` or `replay`, as logs, commands and exports write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LiveUplink => "live",
            Self::ArchivedReplay => "replay",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Name of a ground station: at most [`Station::BYTES_MAX`] bytes, no character that [`is_hidden`], may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Station(Box<str>);

/// Why a text is not a station name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StationError {
    /// More bytes than a name may have.
    #[error("station name of {0} bytes, at most {max} are allowed", max = Station::BYTES_MAX)]
    TooLong(usize),
    /// A control character, which could forge log lines, or an invisible one, which could imitate another name.
    #[error("station name {0:?} contains a control character or an invisible one")]
    Hidden(String),
}

impl Station {
    /// Longest name in bytes (protocol.md, HELLO).
    pub const BYTES_MAX: usize = 64;

    /// Takes `name` if it is within the limits.
    ///
    /// # Errors
    /// [`StationError`] with the length or the name.
    pub fn new(name: &str) -> Result<Self, StationError> {
        if name.chars().any(is_hidden) {
            return Err(StationError::Hidden(name.to_owned()));
        }
        Self::stored(name)
    }

    /// Takes a `name` from an archive. Archives of earlier versions may have names with invisible characters, and their
    /// frames and positions must stay readable.
    ///
    /// # Errors
    /// [`StationError`] with the length or the name.
    pub fn stored(name: &str) -> Result<Self, StationError> {
        if name.len() > Self::BYTES_MAX {
            return Err(StationError::TooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(StationError::Hidden(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `c` must not be in a name that people read: a control character, or a format character that is invisible or
/// changes the direction of text. With such a character, a name could forge lines or imitate another name.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{AD}'
                | '\u{61C}'
                | '\u{180E}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{FEFF}'
                | '\u{FFF9}'..='\u{FFFB}'
                | '\u{E0000}'..='\u{E007F}'
        )
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies a stream. Positions, queues and takeover belong to a stream (protocol.md, "Source
/// connections").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The satellite or recording.
    pub source_id: u32,
    /// Live or replayed.
    pub source_kind: SourceKind,
    /// The ground station, may be empty.
    pub station: Station,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source_kind, self.source_id)?;
        if !self.station.as_str().is_empty() {
            write!(f, "@{}", self.station)?;
        }
        Ok(())
    }
}

/// The daemon gives epochs from here on to connections that ask for none (epoch 0).
///
/// Such an epoch belongs to one connection only, and no position is kept for it.
pub const ANONYMOUS_EPOCH_MIN: u64 = 1 << 63;

/// A stream in one of its sequence spaces. All frames of the stream share it, so that a frame stays small.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The stream.
    pub stream: StreamKey,
    /// The sequence space. From [`ANONYMOUS_EPOCH_MIN`] on, it belongs to one connection only.
    pub epoch: u64,
}

impl Origin {
    /// Whether no position is kept for this origin.
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        is_anonymous(self.epoch)
    }
}

/// Whether `epoch` belongs to one connection only, see [`ANONYMOUS_EPOCH_MIN`].
#[must_use]
pub const fn is_anonymous(epoch: u64) -> bool {
    epoch >= ANONYMOUS_EPOCH_MIN
}

/// Marks that the sender sets on a frame. Unknown bits are kept as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameFlags(pub u8);

impl FrameFlags {
    /// Frames were lost before this one.
    pub const DISCONTINUITY: Self = Self(1);
    /// The content is suspect.
    pub const BAD_QUALITY: Self = Self(2);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets all bits of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// One telemetry frame.
///
/// The first five fields come from the RFC. Operators need the others.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The satellite or recording.
    pub source_id: u32,
    /// Live or replayed.
    pub source_kind: SourceKind,
    /// The lane.
    pub priority: FramePriority,
    /// Marks of the sender.
    pub flags: FrameFlags,
    /// Strictly increasing within (epoch, lane); gaps are legal.
    pub sequence: u64,
    /// Earth reception time, unix nanoseconds, 0 = unknown.
    pub ert_ns: i64,
    /// When the daemon read the frame from the socket, unix nanoseconds.
    pub received_ns: i64,
    /// Station and epoch, shared with the stream's other frames.
    pub origin: Arc<Origin>,
    /// The content; a slice of the read buffer.
    pub payload: Bytes,
}

/// Unix time in nanoseconds by the clock of this host; 0 if the clock is set before 1970.
#[must_use]
pub fn unix_now_ns() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_name_keeps_to_its_limits() {
        assert_eq!(Station::new("").unwrap().as_str(), "");
        assert_eq!(Station::new(&"é".repeat(32)).unwrap().as_str().len(), 64);
        assert_eq!(Station::new(&"a".repeat(65)), Err(StationError::TooLong(65)));
        for hidden in [
            '\n', '\u{AD}', '\u{61C}', '\u{200B}', '\u{200F}', '\u{202E}', '\u{2066}', '\u{2069}', '\u{FEFF}',
        ] {
            assert!(
                matches!(Station::new(&format!("a{hidden}b")), Err(StationError::Hidden(_))),
                "{hidden:?}"
            );
        }
        for shown in ["Tromsø", "白石", "Esrange 2", "a\u{2010}b", "\u{1F6F0}"] {
            assert_eq!(Station::new(shown).unwrap().as_str(), shown);
        }
    }

    #[test]
    fn an_archive_may_have_invisible_characters_in_names() {
        assert_eq!(Station::stored("a\u{202E}b").unwrap().as_str(), "a\u{202E}b");
        assert!(matches!(Station::stored("a\nb"), Err(StationError::Hidden(_))));
        assert_eq!(Station::stored(&"a".repeat(65)), Err(StationError::TooLong(65)));
    }

    #[test]
    fn reserved_wire_values_are_refused() {
        assert_eq!(FramePriority::from_wire(2), None);
        assert_eq!(SourceKind::from_wire(2), None);
        for priority in FramePriority::ALL {
            assert_eq!(FramePriority::from_wire(priority as u8), Some(priority));
        }
    }

    #[test]
    fn the_clock_is_past_2020() {
        assert!(unix_now_ns() > 1_577_836_800_000_000_000);
    }
}
