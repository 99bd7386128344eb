//! The state of the fleet. It is independent of the state of the daemon.

use serde::{Deserialize, Serialize};

use crate::ingest::{StreamState, StreamView};

/// Counts of sources by the state of their connections.
///
/// Each source counts once, even if several stations know it. It counts as connected if any of its streams is
/// connected. Otherwise it counts like its stream that ended last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// `ok`: some are connected and none is lost. `degraded`: some are connected and some are lost. `lost`: none is
    /// connected and some are lost. `idle`: none is connected and none is lost.
    pub state: String,
    /// Sources with a connection.
    pub connected: u64,
    /// Sources that said BYE.
    pub ended: u64,
    /// Sources that vanished without BYE.
    pub lost: u64,
    /// Sources whose connections an operator ended.
    pub removed: u64,
    /// Sources that the archive knows and that have not connected since the daemon started.
    pub offline: u64,
}

impl Fleet {
    /// Counts `streams`, which must be sorted by source and kind.
    pub(super) fn of(streams: &[StreamView]) -> Self {
        let mut fleet = Self::default();
        for source in streams.chunk_by(|a, b| identity(a) == identity(b)) {
            let is_connected = source.iter().any(|stream| stream.state == StreamState::Connected);
            let last = source.iter().max_by_key(|stream| stream.ended_ns).map(|stream| stream.state);
            *match if is_connected { StreamState::Connected } else { last.unwrap_or_default() } {
                StreamState::Connected => &mut fleet.connected,
                StreamState::Ended => &mut fleet.ended,
                StreamState::Lost => &mut fleet.lost,
                StreamState::Removed => &mut fleet.removed,
                StreamState::Offline => &mut fleet.offline,
            } += 1;
        }
        fleet.state = match (fleet.connected, fleet.lost) {
            (0, 0) => "idle",
            (0, _) => "lost",
            (_, 0) => "ok",
            (_, _) => "degraded",
        }
        .to_owned();
        fleet
    }

    /// Each state with the number of its sources.
    #[must_use]
    pub fn by_state(&self) -> [(&'static str, u64); 5] {
        [
            (StreamState::Connected.name(), self.connected),
            (StreamState::Ended.name(), self.ended),
            (StreamState::Lost.name(), self.lost),
            (StreamState::Removed.name(), self.removed),
            (StreamState::Offline.name(), self.offline),
        ]
    }
}

fn identity(stream: &StreamView) -> (u32, crate::frame::SourceKind) {
    (stream.key.source_id, stream.key.source_kind)
}
