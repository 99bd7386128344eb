//! What a stream has received, lane by lane, for readers such as the HTTP API.

use std::time::Duration;

use super::books::{LaneCount, Totals};
use connection::SessionId;
use frame::{Lanes, StreamKey, is_anonymous};
use wire::ErrorCode;

/// Whether a connection speaks for a stream, and if not, why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamState {
    /// A connection speaks for the stream.
    Connected,
    /// The last connection of the stream said BYE.
    Ended,
    /// The last connection vanished without BYE, or an error ended it.
    Lost,
    /// An operator ended the last connection.
    Removed,
    /// The stream has had no connection since the daemon started.
    #[default]
    Offline,
}

/// How far a stream's current epoch has come, per lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The sequence space.
    pub epoch: u64,
    /// One above the highest accepted sequence.
    pub accepted_next: Lanes<u64>,
    /// Every accepted frame below this sequence is on stable storage.
    pub durable_next: Lanes<u64>,
}

/// When something last happened in one lane of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneTimes {
    /// When the newest frame was read from the socket, unix nanoseconds; 0 without any.
    pub received_ns: i64,
    /// Time from the socket to stable storage of the frame that waited longest for the newest commit with
    /// this lane.
    pub ack_latency: Duration,
}

/// Name of a stream. The epoch distinguishes connections without an epoch of their own: the daemon gave it to them.
pub type StreamId = (StreamKey, Option<u64>);

/// A snapshot of a stream.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// Which stream.
    pub key: StreamKey,
    /// The connection that speaks for the stream, if there is one.
    pub session_id: Option<SessionId>,
    /// Whether that connection is one of a link.
    pub is_carried: bool,
    /// Whether a connection speaks for the stream, and if not, why.
    pub state: StreamState,
    /// When the last connection ended, unix nanoseconds; 0 when none has ended.
    pub ended_ns: i64,
    /// Since when the stream has no connection, unix nanoseconds: the end of its last connection, or the
    /// start of the daemon. `None` while there is a connection.
    pub offline_since_ns: Option<i64>,
    /// Epoch and sequences.
    pub position: Position,
    /// Its books.
    pub totals: Totals,
    /// Frames and payload bytes that were accepted.
    pub lanes: Lanes<LaneCount>,
    /// Frames refused, by code. Codes that did not occur are left out.
    pub rejected: Vec<(ErrorCode, u64)>,
    /// Sequences of the epoch that have not come since the daemon started. They were lost before they reached
    /// the daemon, or are on their way.
    pub missing: u64,
    /// The peer of a link chose the source id: the configuration does not name it.
    pub is_invented: bool,
    /// The newest client said that both lanes share one sequence counter.
    pub shared_sequence: bool,
    /// The newest client did not say that both lanes share a counter, but its sequences look as if they did.
    pub looks_shared: bool,
    /// When something last happened.
    pub times: Lanes<LaneTimes>,
    /// Frames that wait for the processor.
    pub queued_frames: Lanes<usize>,
    /// The credit that those frames use.
    pub queued_cost: Lanes<u64>,
}

impl StreamView {
    /// The name of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        let epoch = self.position.epoch;
        (self.key.clone(), is_anonymous(epoch).then_some(epoch))
    }
}
