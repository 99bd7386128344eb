//! `POST /api/v1/sources/epoch`: moves a stream to a lower epoch, after a client has used a wrong, higher one.

use std::sync::Arc;

use axum::extract::{self, Extension};
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use super::answer::{ApiError, body, json};
use super::server::Peer;
use api::{EpochAnswer, EpochReset, StreamStand};
use frame::{ANONYMOUS_EPOCH_MIN, Station, StreamKey};
use ingest::{EditError, Position, ResetRefused};

/// A position as the API shows it.
const fn stand(position: Position) -> StreamStand {
    let Position { epoch, accepted_next, durable_next } = position;
    StreamStand { epoch, accepted_next, durable_next }
}

pub(super) async fn reset(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    request: extract::Request,
) -> Result<Response, ApiError> {
    state.check(peer, request.headers())?;
    let (stream, epoch) = stream(body(request).await?)?;
    let [old, new] = lower(&state, &stream, epoch, peer).await?;
    Ok(json(&EpochAnswer {
        source_id: stream.source_id,
        kind: stream.source_kind.into(),
        station: stream.station.as_str().to_owned(),
        old: stand(old),
        new: stand(new),
    }))
}

fn stream(asked: EpochReset) -> Result<(StreamKey, u64), ApiError> {
    if !(1..ANONYMOUS_EPOCH_MIN).contains(&asked.epoch) {
        let max = ANONYMOUS_EPOCH_MIN - 1;
        let reason = format!("epoch is {}, it may be 1 to {max}", asked.epoch);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
    }
    // No stream has an invalid station name, so it is not found.
    let station = Station::stored(&asked.station).map_err(|error| ApiError::not_found(error.to_string()))?;
    let source_kind = asked.kind.into();
    Ok((StreamKey { source_id: asked.source_id, source_kind, station }, asked.epoch))
}

/// Lowers the epoch. Returns the old and the new position of the stream.
async fn lower(state: &State, stream: &StreamKey, epoch: u64, peer: Peer) -> Result<[Position; 2], ApiError> {
    let unready = state.handles.unready();
    if !unready.is_empty() {
        return Err(ApiError::unavailable(format!("no epoch is reset now: {}", unready.join("; "))));
    }
    state.controls.edits.lower_epoch(stream, epoch, peer.0).await.map_err(|error| match error {
        EditError::Refused(why) => refused(stream, epoch, why),
        EditError::Archive(error) => ApiError::unavailable(error.to_string()),
        EditError::ArchiveFailed => ApiError::unavailable(
            "the archive failed meanwhile; /api/v1/sources shows after the restart whether the epoch was reset",
        ),
    })
}

fn refused(stream: &StreamKey, epoch: u64, why: ResetRefused) -> ApiError {
    let conflict = |reason: String| ApiError::new(StatusCode::CONFLICT, reason);
    match why {
        ResetRefused::Unknown => {
            ApiError::not_found(format!("there is no stream {stream}; /api/v1/sources has those there are"))
        }
        ResetRefused::Connected(session) => conflict(format!(
            "session {session} speaks for {stream}: stop that client, then remove it with DELETE \
             /api/v1/sources/{session}, and ask again"
        )),
        ResetRefused::InFlight(frames) => {
            conflict(format!("{frames} frames of {stream} are on their way to the disk; ask again"))
        }
        ResetRefused::UnderWay => {
            conflict(format!("another reset of {stream} is under way, or it is being forgotten; ask again"))
        }
        ResetRefused::NotAbove(current) => conflict(format!(
            "the epoch of {stream} is {current}, which is not above {epoch}; a client takes a higher one by itself"
        )),
    }
}
