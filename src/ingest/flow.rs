//! What came in of a stream, lane by lane, for those who look on.

use std::time::Duration;

use super::books::{LaneCount, Totals};
use crate::frame::{Lanes, StreamKey};
use crate::pipeline::SessionId;
use crate::wire::ErrorCode;

/// Whether somebody speaks for a stream, and if not, how that came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamState {
    /// A connection speaks for it.
    Connected,
    /// Its last connection said BYE.
    Ended,
    /// Its last connection vanished without BYE, or was ended for an error.
    Lost,
    /// An operator ended its last connection.
    Removed,
    /// It has not connected since the daemon started.
    #[default]
    Offline,
}

impl StreamState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Connected, Self::Ended, Self::Lost, Self::Removed, Self::Offline];

    /// As the API names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Ended => "ended",
            Self::Lost => "lost",
            Self::Removed => "removed",
            Self::Offline => "offline",
        }
    }
}

/// How far a stream's current epoch has come, per lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The sequence space.
    pub epoch: u64,
    /// Everything below was accepted.
    pub accepted_next: Lanes<u64>,
    /// Everything below that was accepted is on stable storage.
    pub durable_next: Lanes<u64>,
}

/// When something last happened in one lane of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneTimes {
    /// When the newest frame was read from the socket, unix nanoseconds; 0 without any.
    pub received_ns: i64,
    /// From the socket to stable storage: of the frame that waited longest for the newest commit with this lane.
    pub ack_latency: Duration,
}

/// A moment's view of a stream.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// Which stream.
    pub key: StreamKey,
    /// The connection that speaks for it, if there is one.
    pub session_id: Option<SessionId>,
    /// Whether there is one, and if not, how that came about.
    pub state: StreamState,
    /// When the last connection ended, unix nanoseconds; 0 when none has.
    pub ended_ns: i64,
    /// When its last connection ended, unix nanoseconds; since the start at the latest. `None` while there is one.
    pub offline_since_ns: Option<i64>,
    /// Epoch and sequences.
    pub position: Position,
    /// Its books.
    pub totals: Totals,
    /// What was accepted.
    pub lanes: Lanes<LaneCount>,
    /// Frames refused, by code, those codes alone that occurred.
    pub rejected: Vec<(ErrorCode, u64)>,
    /// Sequences of its epoch that have not come, since the daemon started: lost before they came here, or on their way.
    pub missing: u64,
    /// Its newest client said that both lanes share a counter.
    pub shared_sequence: bool,
    /// Its newest client did not say so, and looks as if they did.
    pub looks_shared: bool,
    /// When something last happened.
    pub times: Lanes<LaneTimes>,
    /// Frames that wait for the processor.
    pub queued_frames: Lanes<usize>,
    /// Credit that those frames use.
    pub queued_cost: Lanes<u64>,
}
