//! `POST /api/v1/sources/epoch`: moves a stream to a lower epoch, after a client has used a wrong, higher one.

use std::sync::Arc;

use axum::extract::{self, Extension};
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::State;
use super::answer::{ApiError, body, json};
use super::server::Peer;
use crate::frame::{ANONYMOUS_EPOCH_MIN, Lanes, SourceKind, Station, StreamKey};
use crate::ingest::{EditError, Position, ResetRefused};

/// The smallest number that is too large for a u64.
const U64_BOUND: f64 = 18_446_744_073_709_551_616.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(deserialize_with = "whole")]
    source_id: u32,
    kind: Kind,
    /// Empty if the key is absent.
    #[serde(default)]
    station: String,
    #[serde(deserialize_with = "whole")]
    epoch: u64,
}

/// Reads a whole number. `7.0` counts as 7, because JSON has only one kind of number.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let is_whole = |float: &f64| float.fract() == 0.0 && (0.0..U64_BOUND).contains(float);
    let float = number.as_f64().filter(is_whole);
    let found = number.as_u64().or(float.map(|float| float as u64));
    let found = found.and_then(|found| T::try_from(found).ok());
    found.ok_or_else(|| D::Error::custom(format_args!("{number} is not a whole number in its range")))
}

/// `live` or `replay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A satellite's uplink.
    Live,
    /// A recording.
    Replay,
}

impl From<Kind> for SourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Live => Self::LiveUplink,
            Kind::Replay => Self::ArchivedReplay,
        }
    }
}

/// What a reset did.
#[derive(Debug, Serialize, Deserialize)]
pub struct EpochAnswer {
    /// The satellite or recording.
    pub source_id: u32,
    /// `live` or `replay`.
    pub kind: String,
    /// The ground station, may be empty.
    pub station: String,
    /// The position before the reset.
    pub old: StreamStand,
    /// The position after the reset.
    pub new: StreamStand,
}

/// The position of a stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct StreamStand {
    /// Its sequence space.
    pub epoch: u64,
    /// One past the highest sequence accepted.
    pub accepted_next: Lanes<u64>,
    /// One past the highest sequence on stable storage.
    pub durable_next: Lanes<u64>,
}

impl From<Position> for StreamStand {
    fn from(position: Position) -> Self {
        let Position { epoch, accepted_next, durable_next } = position;
        Self { epoch, accepted_next, durable_next }
    }
}

pub(super) async fn reset(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    request: extract::Request,
) -> Result<Response, ApiError> {
    state.check(peer, request.headers())?;
    let asked: Asked = body(request).await?;
    let (stream, epoch) = asked.stream()?;
    let [old, new] = lower(&state, &stream, epoch, peer).await?;
    Ok(json(&EpochAnswer {
        source_id: stream.source_id,
        kind: stream.source_kind.name().to_owned(),
        station: stream.station.as_str().to_owned(),
        old: old.into(),
        new: new.into(),
    }))
}

impl Asked {
    fn stream(self) -> Result<(StreamKey, u64), ApiError> {
        if !(1..ANONYMOUS_EPOCH_MIN).contains(&self.epoch) {
            let max = ANONYMOUS_EPOCH_MIN - 1;
            let reason = format!("epoch is {}, it may be 1 to {max}", self.epoch);
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
        }
        // No stream has an invalid station name, so it is not found.
        let station = Station::new(&self.station).map_err(|error| ApiError::not_found(error.to_string()))?;
        let source_kind = self.kind.into();
        Ok((StreamKey { source_id: self.source_id, source_kind, station }, self.epoch))
    }
}

/// Lowers the epoch. Returns the old and the new position of the stream.
async fn lower(state: &State, stream: &StreamKey, epoch: u64, peer: Peer) -> Result<[Position; 2], ApiError> {
    let unready = state.view.unready();
    if !unready.is_empty() {
        return Err(ApiError::unavailable(format!("no epoch is reset now: {}", unready.join("; "))));
    }
    state.edits.lower_epoch(stream, epoch, peer.0).await.map_err(|error| match error {
        EditError::Refused(why) => refused(stream, epoch, why),
        EditError::Archive(error) => ApiError::unavailable(error.to_string()),
        EditError::ArchiveFailed => ApiError::unavailable(
            "the archive failed meanwhile; /api/v1/sources tells after the restart whether the epoch was reset",
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
