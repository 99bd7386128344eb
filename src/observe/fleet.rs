//! How the fleet is, which is another matter than how the daemon is.

use serde::{Deserialize, Serialize};

use crate::ingest::{StreamState, StreamView};

/// Sources by what became of their connections.
///
/// A source counts once, at however many stations it is known: as connected if any of its streams is, else as the stream
/// that ended last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// `ok`: some are connected and none is lost. `degraded`: some are lost. `lost`: none is connected and some are lost.
    /// `idle`: none is connected and none is lost.
    pub state: String,
    /// A connection speaks for them.
    pub connected: u64,
    /// They said BYE.
    pub ended: u64,
    /// They vanished without BYE.
    pub lost: u64,
    /// An operator ended their connections.
    pub removed: u64,
    /// They have not connected since the daemon started: the archive knows them.
    pub offline: u64,
}

impl Fleet {
    /// Counts `streams`, which are in order of source and kind.
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

    /// Each state with how many sources are in it.
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
