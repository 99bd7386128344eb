//! `/api/v1/frames`: durable frames with their payloads.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Kind, Priority};

/// Which frames are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FramesQuery {
    /// First offset.
    #[param(nullable = false)]
    pub from: Option<u64>,
    /// Offset behind the last.
    #[param(nullable = false)]
    pub to: Option<u64>,
    /// Received at this unix millisecond or later.
    #[param(nullable = false)]
    pub from_ms: Option<i64>,
    /// Received before this unix millisecond.
    #[param(nullable = false)]
    pub to_ms: Option<i64>,
    /// Only frames of these sources, with commas in between.
    #[param(value_type = Vec<u32>, required = false, style = Form, explode = false, min_items = 1)]
    pub source: Option<String>,
    /// Only frames of this lane.
    #[param(value_type = Priority, required = false, inline)]
    pub priority: Option<String>,
    /// Only frames of this kind.
    #[param(value_type = Kind, required = false, inline)]
    pub kind: Option<String>,
    /// At most this many frames on the page.
    #[param(nullable = false, minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
}

/// A page of durable frames, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Frames {
    /// The frames on this page. A page may be empty and not be the last.
    pub frames: Vec<Frame>,
    /// Offsets that were asked for and have no frames.
    pub gaps: Vec<Gap>,
    /// `from` of the next page. Everything below was read. Frames that become durable later have offsets from here on.
    pub next: u64,
    /// Whether a next page has frames at this moment.
    pub more: bool,
}

/// A frame as it is archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Frame {
    /// Its offset in the archive.
    pub offset: u64,
    /// The satellite or recording.
    pub source_id: u32,
    /// The kind of its stream.
    pub source_kind: Kind,
    /// The ground station, may be empty.
    pub station: String,
    /// Its sequence space.
    pub epoch: u64,
    /// Its lane.
    pub priority: Priority,
    /// Its number within epoch and lane.
    pub sequence: u64,
    /// The flags that the client sent, see docs/protocol.md.
    pub flags: u8,
    /// When the station received it, unix nanoseconds. 0 is unknown.
    pub ert_ns: i64,
    /// When the daemon read it from the socket, unix nanoseconds.
    pub received_ns: i64,
    /// Its content, in base64.
    #[schema(content_encoding = "base64")]
    pub payload: String,
}

/// A range of offsets whose frames are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// Why they are gone.
    pub kind: GapKind,
    /// The first offset.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
}

/// Why frames are gone: retention removed them, or the disk damaged them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GapKind {
    /// Retention removed them.
    Expired,
    /// The disk damaged them.
    Damaged,
}
