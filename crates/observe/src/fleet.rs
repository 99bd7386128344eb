//! The state of the fleet. It is independent of the state of the daemon.

use api::{Fleet, FleetState};
use ingest::{StreamState, StreamView};

/// Counts the sources of `streams`, which must be sorted by source and kind. The streams of a source and kind from
/// several stations count as one: as connected if one of them is, else with the state of the one that ended last.
pub(super) fn count(streams: &[StreamView]) -> Fleet {
    let mut fleet = Fleet::default();
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
        (0, 0) => FleetState::Idle,
        (0, _) => FleetState::Lost,
        (_, 0) => FleetState::Ok,
        (_, _) => FleetState::Degraded,
    };
    fleet
}

/// What the fleet counts as one.
fn identity(stream: &StreamView) -> (u32, frame::SourceKind) {
    (stream.key.source_id, stream.key.source_kind)
}
